/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The oracle of prefix equality.  Feeds a trace to the engine record by
 * record, applies its events to a directory, and at every journal commit
 * compares that directory with what the kernel would recover from the disk at
 * that very record: a copy of the image, its journal replayed by e2fsck,
 * mounted read-only.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "bdi/bdi.h"
#include "common/cleanup.h"
#include "common/trace.h"
#include "consumers/apply.h"
#include "consumers/beneath.h"
#include "tests/oracle/checkpoint.h"
#include "tests/oracle/tree_compare.h"

enum discard {
    DISCARD_ZERO,
    DISCARD_KEEP,
    DISCARD_JUNK,
};

struct options {
    const char *base, *trace, *events;
    uint64_t every, offset;
    uint64_t attach_at; /* percent of the records that only the disk gets */
    enum discard discard;
    bool self_test, keep, verbose;
};

struct oracle {
    struct options opt;
    char dir[200]; /* private scratch directory */
    int disk;      /* the image as of the last record */
    int shadow, tree, stage;
    struct nf_image image;
    struct bdi *bdi;
    struct nf_apply *apply;
    struct checkpoint cp;
    FILE *events;
    uint64_t commits, compared, paths, bytes;
    uint32_t txn;  /* of the COMMIT that the last record brought */
    bool committed;
    bool differs;
};

static int die(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static int die(const char *fmt, ...)
{
    va_list ap;

    fputs("prefix-equality: ", stderr);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    return 1;
}

/* --- the disk --------------------------------------------------------------- */

static int disk_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                     struct nf_error *err)
{
    struct oracle *o = (struct oracle *)((char *)img - offsetof(struct oracle, image));

    while (len > 0) {
        ssize_t n = pread(o->disk, buf, len, (off_t)offset);

        if (n <= 0)
            return nf_fail(err, NF_EIO, "read the disk at %" PRIu64 ": %s", offset,
                           n < 0 ? strerror(errno) : "beyond its end");
        buf = (char *)buf + n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return 0;
}

static void disk_free(struct nf_image *img)
{
    (void)img;
}

static int fill(struct oracle *o, const struct nf_record *rec, int byte)
{
    static uint8_t buf[1 << 20];
    uint64_t done = 0;

    memset(buf, byte, sizeof(buf));
    while (done < rec->length) {
        size_t n = rec->length - done < sizeof(buf) ? (size_t)(rec->length - done) : sizeof(buf);

        if (pwrite(o->disk, buf, n, (off_t)(rec->offset + done)) != (ssize_t)n)
            return -1;
        done += n;
    }
    return 0;
}

static int disk_apply(struct oracle *o, const struct nf_record *rec, struct nf_error *err)
{
    bool punch = rec->type == NF_REC_ZERO;
    int rc = 0;

    switch (rec->type) {
    case NF_REC_WRITE:
    case NF_REC_READBACK:
        if (rec->offset > o->image.size || rec->length > o->image.size - rec->offset)
            return nf_fail(err, NF_EFORMAT, "record %" PRIu64 " is beyond the disk", rec->seq);
        rc = pwrite(o->disk, rec->data, rec->length, (off_t)rec->offset) == (ssize_t)rec->length
                 ? 0 : -1;
        break;
    case NF_REC_DISCARD:
        if (o->opt.discard == DISCARD_JUNK)
            rc = fill(o, rec, 0xdd);
        punch = o->opt.discard == DISCARD_ZERO;
        break;
    case NF_REC_RESIZE:
        rc = ftruncate(o->disk, (off_t)rec->length);
        o->image.size = rec->length;
        break;
    default:
        break;
    }
    if (punch && rec->length > 0)
        rc = fallocate(o->disk, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)rec->offset,
                       (off_t)rec->length);
    return rc < 0 ? nf_fail(err, NF_EIO, "record %" PRIu64 ": %s", rec->seq, strerror(errno)) : 0;
}

/* --- events ------------------------------------------------------------------ */

static void print_event(FILE *out, const struct nf_event *ev)
{
    static const char *const kinds[] = { "?", "create", "link", "unlink", "rename", "exchange",
        "write", "truncate", "zero", "move_range", "attr", "xattr", "commit", "fs", "gap",
        "resync_begin", "resync_end", "entry", "heartbeat" };
    char text[2000];

    fprintf(out, "%" PRIu64 " txn=%u.%u %s ino=%u/%u flags=%x", ev->seq, ev->txn, ev->index,
            ev->kind <= NF_KIND_MAX ? kinds[ev->kind] : "?", ev->inode, ev->generation,
            ev->flags);
    for (size_t i = 0; i < ev->npaths; i++)
        fprintf(out, " %s", nf_beneath_text(ev->paths[i], text, sizeof(text)));
    switch (ev->kind) {
    case NF_CREATE:
    case NF_ENTRY:
        fprintf(out, " mode=%o size=%" PRIu64 " links=%u mtime=%" PRId64 ".%09u",
                ev->create.attr.mode, ev->create.attr.size, ev->create.attr.links,
                ev->create.attr.mtime.sec, ev->create.attr.mtime.nsec);
        break;
    case NF_UNLINK:
        fprintf(out, " last=%d", ev->unlink.last);
        break;
    case NF_RENAME:
    case NF_EXCHANGE:
        fprintf(out, " -> %s other=%u last=%d",
                nf_beneath_text(ev->rename.new_path, text, sizeof(text)), ev->rename.other_inode,
                ev->rename.other_last);
        break;
    case NF_WRITE:
        fprintf(out, " [%" PRIu64 " +%" PRIu64 "] has %zu", ev->write.offset, ev->write.length,
                ev->write.data.len);
        break;
    case NF_TRUNCATE:
        fprintf(out, " %" PRIu64 " -> %" PRIu64, ev->truncate.size_before,
                ev->truncate.size_after);
        break;
    case NF_ZERO:
    case NF_MOVE_RANGE:
        fprintf(out, " [%" PRIu64 " +%" PRIu64 "] to %" PRIu64, ev->range.offset,
                ev->range.length, ev->range.to);
        break;
    case NF_ATTR:
        fprintf(out, " mask=%x mode=%o %u:%u mtime=%" PRId64 ".%09u", ev->attr.mask,
                ev->attr.after.mode, ev->attr.after.uid, ev->attr.after.gid,
                ev->attr.after.mtime.sec, ev->attr.after.mtime.nsec);
        break;
    case NF_XATTR:
        fprintf(out, " %s %s(%zu bytes)", nf_beneath_text(ev->xattr.name, text, sizeof(text)),
                ev->xattr.removed ? "removed " : "", ev->xattr.value.len);
        break;
    case NF_FS:
        fprintf(out, " state=%d %s", ev->fs.state, ev->fs.reason ? ev->fs.reason : "");
        break;
    default:
        break;
    }
    fputc('\n', out);
}

static int on_event(void *opaque, const struct nf_event *ev, struct nf_error *err)
{
    struct oracle *o = opaque;

    if (o->events)
        print_event(o->events, ev);
    if (ev->kind == NF_COMMIT && ev->txn != 0) {
        o->committed = true;
        o->txn = ev->txn;
    }
    return nf_apply_event(o->apply, ev, err);
}

/* --- comparing ---------------------------------------------------------------- */

/* Differences between the recovered image and the tree, or negative. */
static int64_t compare(struct oracle *o, FILE *report, struct nf_error *err)
{
    struct tree_compare_options opt = {
        .report = report, .max = 20, .names = { "image", "mirror" }
    };
    struct tree_compare_result res;
    int rc = nf_apply_settle(o->apply, err);

    if (rc == 0)
        rc = tree_compare(o->cp.root, o->tree, &opt, &res, err);
    if (rc < 0)
        return rc;
    o->paths += res.paths;
    o->bytes += res.bytes;
    if (report && res.differences > opt.max)
        fprintf(report, "  and %" PRIu64 " more\n", res.differences - opt.max);
    return (int64_t)res.differences;
}

/* 0: equal; 1: a difference, reported */
static int check(struct oracle *o, const char *when, struct nf_error *err)
{
    char *text = NULL;
    size_t len;
    FILE *report = open_memstream(&text, &len);
    int64_t n;
    int rc;

    if (!report)
        return nf_fail(err, NF_ENOMEM, "out of memory");
    rc = checkpoint_take(&o->cp, o->disk, o->opt.offset, err);
    n = rc < 0 ? rc : compare(o, report, err);
    fclose(report);
    o->compared++;
    if (n > 0) {
        printf("%s: the mirror differs from what the disk recovers to:\n%s", when, text);
        o->differs = true;
    } else if (n == 0 && o->opt.verbose) {
        printf("%s: equal\n", when);
    }
    free(text);
    return n < 0 ? (int)n : n > 0;
}

/* --- does a difference show? ---------------------------------------------------- */

#define EXTRA "nf-self-test"

struct tampering {
    struct stat root;
    char any[256];  /* a name in the root directory; "" if there is none */
    char file[256]; /* that of a regular file with content */
    struct timespec file_time;
};

static void find_victims(int tree, struct tampering *t)
{
    int fd = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;
    struct stat st;

    while (d && (e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(t->any, sizeof(t->any), "%s", e->d_name);
        if (fstatat(tree, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            st.st_size > 0) {
            snprintf(t->file, sizeof(t->file), "%s", e->d_name);
            t->file_time = st.st_mtim;
        }
    }
    if (d)
        closedir(d);
}

/* Invert the first byte of the file. -1 with errno. */
static int flip(struct oracle *o, const struct tampering *t)
{
    const struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, t->file_time };
    NF_AUTO_CLOSE int fd = openat(o->tree, t->file, O_RDWR | O_CLOEXEC);
    uint8_t byte;

    if (fd < 0 || pread(fd, &byte, 1, 0) != 1)
        return -1;
    byte ^= 0xff;
    return pwrite(fd, &byte, 1, 0) == 1 ? futimens(fd, ts) : -1;
}

static int set_root_time(struct oracle *o, const struct tampering *t, long shift)
{
    struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, t->root.st_mtim };

    ts[1].tv_nsec = (ts[1].tv_nsec + shift) % 1000000000;
    return futimens(o->tree, ts);
}

/* Each: @undo false does it, true takes it back. 1: there is nothing to do it to. */
static int tamper_name(struct oracle *o, struct tampering *t, bool undo)
{
    int fd;

    (void)t;
    if (undo)
        return unlinkat(o->tree, EXTRA, 0);
    fd = openat(o->tree, EXTRA, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    return fd < 0 ? -1 : close(fd);
}

static int tamper_missing(struct oracle *o, struct tampering *t, bool undo)
{
    if (!t->any[0])
        return 1;
    return undo ? renameat(o->stage, EXTRA, o->tree, t->any)
                : renameat(o->tree, t->any, o->stage, EXTRA);
}

static int tamper_mode(struct oracle *o, struct tampering *t, bool undo)
{
    return fchmod(o->tree, (t->root.st_mode & 07777) ^ (undo ? 0 : 02));
}

static int tamper_owner(struct oracle *o, struct tampering *t, bool undo)
{
    if (fchown(o->tree, t->root.st_uid + !undo, t->root.st_gid) < 0)
        return -1;
    return fchmod(o->tree, t->root.st_mode & 07777);
}

static int tamper_time(struct oracle *o, struct tampering *t, bool undo)
{
    return set_root_time(o, t, !undo);
}

static int tamper_xattr(struct oracle *o, struct tampering *t, bool undo)
{
    (void)t;
    return undo ? fremovexattr(o->tree, "user." EXTRA)
                : fsetxattr(o->tree, "user." EXTRA, "x", 1, 0);
}

static int tamper_content(struct oracle *o, struct tampering *t, bool undo)
{
    (void)undo;
    return t->file[0] ? flip(o, t) : 1;
}

/* Change the tree in one way at a time; each must be found, and its undoing. */
static int self_test(struct oracle *o, struct nf_error *err)
{
    static const struct {
        const char *what;
        int (*tamper)(struct oracle *o, struct tampering *t, bool undo);
    } ways[] = {
        { "a name too many", tamper_name }, { "a name too few", tamper_missing },
        { "another mode", tamper_mode },    { "another owner", tamper_owner },
        { "a time 1 ns later", tamper_time }, { "an xattr too many", tamper_xattr },
        { "another byte", tamper_content },
    };
    struct tampering t = { .any = "" };

    if (fstat(o->tree, &t.root) < 0)
        return nf_fail(err, NF_EIO, "self-test: %s", strerror(errno));
    find_victims(o->tree, &t);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        for (int undo = 0; undo < 2; undo++) {
            int rc = ways[i].tamper(o, &t, undo);
            int64_t n;

            if (rc == 1)
                break;
            if (rc < 0)
                return nf_fail(err, NF_EIO, "self-test, %s: %s", ways[i].what, strerror(errno));
            if (ways[i].tamper != tamper_time && set_root_time(o, &t, 0) < 0)
                return nf_fail(err, NF_EIO, "self-test: %s", strerror(errno));
            n = compare(o, NULL, err);
            if (n < 0)
                return (int)n;
            /* Several where the file has several names. */
            if (undo ? n != 0 : n < 1)
                return nf_fail(err, NF_EINVAL,
                               "self-test: %s, %s, shows %" PRId64 " differences",
                               ways[i].what, undo ? "undone" : "done", n);
        }
    }
    return 0;
}

/* --- setting up ------------------------------------------------------------------ */

static int make_dir(const struct oracle *o, const char *name, struct nf_error *err)
{
    char path[300];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", o->dir, name);
    if (mkdir(path, 0700) < 0 || (fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
    return fd;
}

static int copy_base(struct oracle *o, uint64_t size, struct nf_error *err)
{
    static uint8_t buf[1 << 20];
    NF_AUTO_CLOSE int from = open(o->opt.base, O_RDONLY | O_CLOEXEC);
    char path[300];
    ssize_t n;
    off_t pos = 0;

    if (from < 0)
        return nf_fail(err, NF_EIO, "%s: %s", o->opt.base, strerror(errno));
    snprintf(path, sizeof(path), "%s/disk.img", o->dir);
    o->disk = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (o->disk < 0 || ftruncate(o->disk, (off_t)size) < 0)
        return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
    while ((n = pread(from, buf, sizeof(buf), pos)) > 0) {
        if (!nf_is_zero(buf, (size_t)n) && pwrite(o->disk, buf, (size_t)n, pos) != n)
            return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
        pos += n;
    }
    return n < 0 ? nf_fail(err, NF_EIO, "%s: %s", o->opt.base, strerror(errno)) : 0;
}

static int set_up(struct oracle *o, const struct nf_trace_info *info, struct nf_error *err)
{
    const struct nf_apply_options as = { .as_root = true };
    const char *tmp = getenv("TMPDIR");
    struct bdi_options bo = {
        .epoch = 1,
        .first_seq = 1,
        .content_limit = BDI_CONTENT_ALL,
        .snapshot = 1,
        .event = on_event,
        .opaque = o,
    };
    int rc;

    snprintf(o->dir, sizeof(o->dir), "%s/nf-oracle.XXXXXX",
             tmp ? tmp : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(o->dir))
        return nf_fail(err, NF_EIO, "%s: %s", o->dir, strerror(errno));
    rc = copy_base(o, info->disk_size, err);
    if (rc == 0)
        rc = checkpoint_init(&o->cp, o->dir, err);
    if (rc < 0)
        return rc;
    o->tree = make_dir(o, "tree", err);
    o->stage = o->tree < 0 ? o->tree : make_dir(o, "stage", err);
    if (o->stage < 0)
        return o->stage;
    o->shadow = memfd_create("shadow", MFD_CLOEXEC);
    if (o->shadow < 0)
        return nf_fail(err, NF_EIO, "memfd_create: %s", strerror(errno));
    o->image = (struct nf_image){ .size = info->disk_size, .read = disk_read, .free = disk_free };
    o->apply = nf_apply_new(o->tree, o->stage, &as, err);
    o->bdi = o->apply ? bdi_new(&o->image, o->shadow, &bo, err) : NULL;
    return o->bdi ? 0 : NF_ENOMEM;
}

static void remove_tree(const char *path)
{
    char command[400];

    snprintf(command, sizeof(command), "rm -rf --one-file-system '%s'", path);
    if (system(command) != 0)
        die("cannot remove %s", path);
}

static void tear_down(struct oracle *o)
{
    bdi_free(o->bdi);
    nf_apply_free(o->apply);
    checkpoint_drop(&o->cp);
    if (o->dir[0] && o->opt.keep)
        printf("kept: %s (disk.img, recovered.img, tree)\n", o->dir);
    else if (o->dir[0])
        remove_tree(o->dir);
}

static int attach(struct oracle *o, struct nf_error *err)
{
    int rc = bdi_attach(o->bdi, err);

    return rc < 0 ? nf_fail_prefix(err, "attach") : check(o, "attach", err);
}

static int run(struct oracle *o, struct nf_trace_reader *reader, struct nf_error *err)
{
    const struct nf_apply_stats *st;
    struct nf_record rec;
    char when[100];
    bool fresh = true; /* something since the last comparison */
    uint64_t last = 0, before = nf_trace_reader_info(reader)->records * o->opt.attach_at / 100;
    int rc = 0;

    /* A disk in use, as one may be met: its journal is to be replayed. */
    for (; before > 0 && rc == 0; before--) {
        rc = nf_trace_next(reader, &rec, err);
        rc = rc == 1 ? disk_apply(o, &rec, err) : rc;
    }
    if (rc == 0)
        rc = attach(o, err);

    while (rc == 0 && (rc = nf_trace_next(reader, &rec, err)) == 1) {
        last = rec.seq;
        o->committed = false;
        fresh = true;
        rc = disk_apply(o, &rec, err);
        if (rc == 0)
            rc = bdi_record(o->bdi, &rec, err);
        if (rc < 0) {
            nf_fail_prefix(err, "record %" PRIu64, rec.seq);
            break;
        }
        if (!o->committed || o->commits++ % o->opt.every != 0)
            continue;
        snprintf(when, sizeof(when), "commit %u, record %" PRIu64, o->txn, rec.seq);
        rc = check(o, when, err);
        fresh = false;
    }
    if (rc == 0 && fresh) {
        snprintf(when, sizeof(when), "end, record %" PRIu64, last);
        rc = check(o, when, err);
    }
    if (rc != 0)
        return rc;
    st = nf_apply_stats(o->apply);
    if (st->odd || st->incomplete || st->too_large || st->xattrs || st->broken) {
        printf("applied incompletely: odd %" PRIu64 ", incomplete %" PRIu64 ", too large %" PRIu64
               ", xattrs %" PRIu64 ", broken %d\n",
               st->odd, st->incomplete, st->too_large, st->xattrs, st->broken);
        return 1;
    }
    return o->opt.self_test ? self_test(o, err) : 0;
}

static void usage(FILE *out)
{
    fputs("Usage: prefix-equality --base IMAGE --trace FILE [OPTION]...\n\n"
          "  --base IMAGE           the disk when the trace began\n"
          "  --trace FILE           native trace\n"
          "  --partition-offset N   where the file system begins on the disk, bytes\n"
          "  --attach-at PERCENT    let the engine begin only after that part of the trace\n"
          "  --every N              compare at each Nth commit (and at the end)\n"
          "  --discard zero|keep|junk   what discarded ranges read as (zero)\n"
          "  --events FILE          a line per event\n"
          "  --self-test            at the end, see that tampering is found\n"
          "  --keep                 leave the scratch directory\n"
          "  --verbose              a line per comparison\n\n"
          "Needs root and loop devices. Exit status: 0 equal, 1 not, or it failed.\n",
          out);
}

static int parse(int argc, char **argv, struct options *o)
{
    static const struct option longs[] = {
        { "base", required_argument, NULL, 'b' },
        { "trace", required_argument, NULL, 't' },
        { "partition-offset", required_argument, NULL, 'o' },
        { "attach-at", required_argument, NULL, 'a' },
        { "every", required_argument, NULL, 'n' },
        { "discard", required_argument, NULL, 'd' },
        { "events", required_argument, NULL, 'e' },
        { "self-test", no_argument, NULL, 's' },
        { "keep", no_argument, NULL, 'k' },
        { "verbose", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    int c;

    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case 'b': o->base = optarg; break;
        case 't': o->trace = optarg; break;
        case 'o': o->offset = strtoull(optarg, NULL, 0); break;
        case 'a': o->attach_at = strtoull(optarg, NULL, 0); break;
        case 'n': o->every = strtoull(optarg, NULL, 0); break;
        case 'd':
            o->discard = strcmp(optarg, "junk") == 0   ? DISCARD_JUNK
                         : strcmp(optarg, "keep") == 0 ? DISCARD_KEEP
                                                       : DISCARD_ZERO;
            break;
        case 'e': o->events = optarg; break;
        case 's': o->self_test = true; break;
        case 'k': o->keep = true; break;
        case 'v': o->verbose = true; break;
        case 'h': usage(stdout); exit(0);
        default: return -1;
        }
    }
    return o->base && o->trace && o->every && o->attach_at <= 100 && optind == argc ? 0 : -1;
}

int main(int argc, char **argv)
{
    struct oracle o = { .opt = { .every = 1 }, .disk = -1, .shadow = -1, .tree = -1, .stage = -1,
                        .cp = { .root = -1 } };
    struct rlimit files;
    struct nf_trace_reader *reader;
    struct nf_error err = { 0 };
    int rc;

    if (parse(argc, argv, &o.opt) < 0) {
        usage(stderr);
        return 2;
    }
    if (geteuid() != 0)
        return die("needs root (mounts, owners, devices)");
    umask(0);
    signal(SIGXFSZ, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    if (o.opt.events && !(o.events = fopen(o.opt.events, "we")))
        return die("%s: %s", o.opt.events, strerror(errno));
    reader = nf_trace_open(o.opt.trace, &err);
    if (!reader)
        return die("%s", err.text);
    rc = set_up(&o, nf_trace_reader_info(reader), &err);
    if (rc == 0)
        rc = run(&o, reader, &err);
    if (rc < 0)
        die("%s", err.text);
    if (rc == 0)
        printf("equal: %" PRIu64 " commits, %" PRIu64 " comparisons, %" PRIu64 " paths, %" PRIu64
               " bytes\n", o.commits, o.compared, o.paths, o.bytes);
    nf_trace_close(reader);
    tear_down(&o);
    if (o.events)
        fclose(o.events);
    return rc == 0 ? 0 : 1;
}
