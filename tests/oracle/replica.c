/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/oracle/replica.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <linux/falloc.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "tests/oracle/event_text.h"
#include "tests/oracle/manifest.h"
#include "tests/oracle/tree_compare.h"

/* --- the disk --------------------------------------------------------------- */

static int disk_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                     struct nf_error *err)
{
    struct replica *r = (struct replica *)((char *)img - offsetof(struct replica, image));
    bool moved = r->ahead >= 0 && killer_ahead(&r->killer, offset, len);

    while (len > 0) {
        ssize_t n = pread(r->ahead >= 0 ? r->ahead : r->disk, buf, len, (off_t)offset);

        if (n <= 0)
            return nf_fail(err, NF_EIO, "read the disk at %" PRIu64 ": %s", offset,
                           n < 0 ? strerror(errno) : "beyond its end");
        buf = (char *)buf + n;
        offset += (uint64_t)n;
        len -= (size_t)n;
    }
    return moved;
}

static void disk_free(struct nf_image *img)
{
    (void)img;
}

static int fill(int fd, const struct nf_record *rec, int byte)
{
    static uint8_t buf[1 << 20];
    uint64_t done = 0;

    memset(buf, byte, sizeof(buf));
    while (done < rec->length) {
        size_t n = rec->length - done < sizeof(buf) ? (size_t)(rec->length - done) : sizeof(buf);

        if (pwrite(fd, buf, n, (off_t)(rec->offset + done)) != (ssize_t)n)
            return -1;
        done += n;
    }
    return 0;
}

static int disk_apply(struct replica *r, int fd, uint64_t size, const struct nf_record *rec,
                      struct nf_error *err)
{
    bool punch = rec->type == NF_REC_ZERO;
    int rc = 0;

    switch (rec->type) {
    case NF_REC_WRITE:
    case NF_REC_READBACK:
        if (rec->offset > size || rec->length > size - rec->offset)
            return nf_fail(err, NF_EFORMAT, "record %" PRIu64 " is beyond the disk", rec->seq);
        rc = pwrite(fd, rec->data, rec->length, (off_t)rec->offset) == (ssize_t)rec->length
                 ? 0 : -1;
        break;
    case NF_REC_DISCARD:
        if (r->opt.discard == REPLICA_DISCARD_JUNK)
            rc = fill(fd, rec, 0xdd);
        punch = r->opt.discard == REPLICA_DISCARD_ZERO;
        break;
    case NF_REC_RESIZE:
        rc = ftruncate(fd, (off_t)rec->length);
        break;
    default:
        break;
    }
    if (punch && rec->length > 0)
        rc = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)rec->offset,
                       (off_t)rec->length);
    return rc < 0 ? nf_fail(err, NF_EIO, "record %" PRIu64 ": %s", rec->seq, strerror(errno)) : 0;
}

/* killer.early */
static int apply_early(void *opaque, const struct nf_record *rec, struct nf_error *err)
{
    struct replica *r = opaque;
    struct stat st;

    if (r->ahead < 0)
        return 0;
    if (fstat(r->ahead, &st) < 0)
        return nf_fail(err, NF_EIO, "%s", strerror(errno));
    /* What the engine may still read stays. */
    if (rec->type == NF_REC_RESIZE && rec->length < (uint64_t)st.st_size)
        return 0;
    return disk_apply(r, r->ahead, (uint64_t)st.st_size, rec, err);
}

/* --- events ------------------------------------------------------------------ */

/* Is @ev about the file system that is followed, from here on or until now? */
static bool of_interest(struct replica *r, const struct nf_event *ev)
{
    if (ev->kind == NF_FS && ev->fs.state == NF_FS_ATTACHED && !r->following &&
        (r->opt.any || ev->fs.offset == r->opt.offset)) {
        r->following = true;
        r->partition = ev->source.partition;
        r->offset = ev->fs.offset;
        r->attaches++;
    }
    if (ev->kind == NF_GAP || ev->kind == NF_RESYNC_BEGIN || ev->kind == NF_RESYNC_END)
        return true; /* of the disk */
    if (!r->following || ev->source.partition != r->partition)
        return false;
    if (ev->kind == NF_FS && ev->fs.state == NF_FS_GONE)
        r->following = false;
    r->changed |= ev->kind == NF_FS && ev->fs.state != NF_FS_GONE;
    return true;
}

/* Another commit: the last one has met its fate. */
static void commit_begins(struct replica *r)
{
    uint64_t fast = bdi_get_status(r->bdi)->fast_commits;

    r->fast[r->fate] += r->is_fast;
    r->is_fast = fast != r->fast_seen;
    r->fast_seen = fast;
    r->fate = REPLICA_PASSED;
}

static int on_event(void *opaque, const struct nf_event *ev, struct nf_error *err)
{
    struct replica *r = opaque;
    int rc;

    if (r->opt.events && !r->opt.count_only)
        event_text(r->opt.events, ev);
    if (!of_interest(r, ev))
        return 0;
    if (ev->kind == NF_COMMIT && ev->txn != 0) {
        if (r->committed)
            r->fate = r->log_begins ? REPLICA_TOGETHER : REPLICA_PASSED;
        commit_begins(r);
        r->committed = true;
        r->commits++;
        r->txn = ev->txn;
    }
    if (ev->kind == NF_WRITE && (ev->flags & NF_EV_UNSETTLED))
        r->settled_at = killer_image(&r->killer);
    if (r->opt.count_only)
        return 0;
    if (ev->kind != NF_ENTRY && r->recent_events++ < REPLICA_RECENT)
        event_text(r->recent, ev);
    if (ev->kind == r->opt.lose && ev->kind != NF_KIND_UNSPECIFIED)
        return 0;
    rc = projects_event(&r->projects, ev, err);
    return rc < 0 ? rc : nf_apply_event(r->apply, ev, err);
}

void replica_forget_events(struct replica *r)
{
    if (r->recent)
        rewind(r->recent);
    r->recent_events = 0;
}

/* --- comparing ---------------------------------------------------------------- */

/* Differences between the recovered image and the tree, or negative. */
int64_t replica_compare(struct replica *r, FILE *report, struct nf_error *err)
{
    struct tree_compare_options opt = {
        .report = report, .max = 20, .names = { "image", "mirror" },
        .recovered = r->cp.replayed ? &r->cp.since : NULL,
        .no_content = r->killer.taken < r->settled_at,
    };
    struct tree_compare_result res;
    int rc = nf_apply_settle(r->apply, err);

    if (rc == 0)
        rc = tree_compare(r->cp.root, r->tree, &opt, &res, err);
    if (rc < 0)
        return rc;
    r->unsettled += opt.no_content;
    r->paths += res.paths;
    r->bytes += res.bytes;
    r->damaged += res.damaged;
    r->acls += res.acls;
    if (report && res.differences > opt.max)
        fprintf(report, "  and %" PRIu64 " more\n", res.differences - opt.max);
    return (int64_t)res.differences;
}

static int64_t defer(struct replica *r, FILE *report, struct nf_error *err)
{
    char path[500];
    FILE *out;
    int64_t differ;
    int rc = checkpoint_recover(&r->cp, r->disk, r->offset, err);

    if (rc == 0)
        rc = nf_apply_settle(r->apply, err);
    differ = rc < 0 ? rc : projects_compare(&r->projects, r->cp.copy, report, err);
    if (differ < 0)
        return differ;
    snprintf(path, sizeof(path), "%s-%05" PRIu64 ".img", r->opt.defer, r->compared);
    if (rename(r->cp.copy, path) < 0)
        return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
    snprintf(path, sizeof(path), "%s-%05" PRIu64 ".mirror", r->opt.defer, r->compared);
    out = fopen(path, "we");
    rc = out ? manifest_write(r->tree, out) : -1;
    if (out)
        fclose(out);
    r->compared++;
    return rc < 0 ? nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno)) : differ;
}

static int64_t must_be_empty(struct replica *r, FILE *report, struct nf_error *err)
{
    int fd = openat(r->tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;
    int64_t n = 0;

    if (!d)
        return nf_fail(err, NF_EIO, "the tree: %s", strerror(errno));
    while ((e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        n++;
        if (report)
            fprintf(report, "  %s: in the mirror, but there is no file system\n", e->d_name);
    }
    closedir(d);
    return n;
}

int64_t replica_check(struct replica *r, FILE *report, struct nf_error *err)
{
    int rc;

    if (r->killer.taken < r->known_at) {
        r->unknown++;
        return 0;
    }
    if (r->opt.defer && r->following) {
        /* Its manifests are whole. */
        if (r->killer.taken >= r->settled_at)
            return defer(r, report, err);
        r->unsettled++;
        return 0;
    }
    if (!r->following) {
        r->compared++;
        return must_be_empty(r, report, err);
    }
    rc = checkpoint_take(&r->cp, r->disk, r->offset, err);
    if (rc < 0)
        return rc;
    r->fate = rc > 0 ? REPLICA_REFUSED : REPLICA_COMPARED;
    if (rc > 0)
        return 0;
    r->compared++;
    return replica_compare(r, report, err);
}

uint64_t replica_fast(struct replica *r)
{
    uint64_t n = 0;

    r->fast[r->fate] += r->is_fast;
    r->is_fast = false;
    for (unsigned i = 0; i < REPLICA_FATES; i++)
        n += r->fast[i];
    return n;
}

int replica_complete(const struct replica *r, struct nf_error *err)
{
    const struct nf_apply_stats *st = nf_apply_stats(r->apply);

    if (!st->odd && !st->incomplete && !st->too_large && !st->xattrs && !st->broken)
        return 0;
    return nf_fail(err, NF_ELOST,
                   "applied incompletely: odd %" PRIu64 ", incomplete %" PRIu64
                   ", too large %" PRIu64 ", xattrs %" PRIu64 ", broken %d",
                   st->odd, st->incomplete, st->too_large, st->xattrs, st->broken);
}

/* --- setting up ------------------------------------------------------------------ */

static int make_dir(const struct replica *r, const char *name, struct nf_error *err)
{
    char path[300];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", r->dir, name);
    if (mkdir(path, 0700) < 0 || (fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)) < 0)
        return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
    return fd;
}

/* A new file @name in the scratch directory as @from is, @size bytes. Its descriptor. */
static int copy_disk(struct replica *r, int from, const char *name, uint64_t size,
                     struct nf_error *err)
{
    static uint8_t buf[1 << 20];
    NF_AUTO_CLOSE int to = -1;
    char path[300];
    ssize_t n;
    off_t pos = 0;
    int fd;

    snprintf(path, sizeof(path), "%s/%s", r->dir, name);
    to = open(path, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, 0600);
    if (to < 0 || ftruncate(to, (off_t)size) < 0)
        return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
    while ((n = pread(from, buf, sizeof(buf), pos)) > 0) {
        if (!nf_is_zero(buf, (size_t)n) && pwrite(to, buf, (size_t)n, pos) != n)
            return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
        pos += n;
    }
    if (n < 0)
        return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
    fd = to;
    to = -1;
    return fd;
}

static int copy_base(struct replica *r, uint64_t size, struct nf_error *err)
{
    NF_AUTO_CLOSE int from = open(r->opt.base, O_RDONLY | O_CLOEXEC);

    if (from < 0)
        return nf_fail(err, NF_EIO, "%s: %s", r->opt.base, strerror(errno));
    r->disk = copy_disk(r, from, "disk.img", size, err);
    return r->disk < 0 ? r->disk : 0;
}

int replica_open(struct replica *r, const struct replica_options *opt, struct nf_error *err)
{
    const struct nf_apply_options as = { .as_root = true };
    const char *tmp = getenv("TMPDIR");
    const struct bdi_options bo = {
        .epoch = 1,
        .content_limit = opt->count_only ? BDI_CONTENT_NONE : BDI_CONTENT_ALL,
        .snapshot = !opt->count_only,
        .event = on_event,
        .opaque = r,
    };
    int rc;

    *r = (struct replica){ .opt = *opt, .disk = -1, .ahead = -1, .shadow = -1, .tree = -1, .stage = -1,
                           .cp = { .root = -1 } };
    snprintf(r->dir, sizeof(r->dir), "%s/nf-oracle.XXXXXX",
             tmp ? tmp : access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    if (!mkdtemp(r->dir)) {
        rc = nf_fail(err, NF_EIO, "%s: %s", r->dir, strerror(errno));
        r->dir[0] = '\0';
        return rc;
    }
    rc = copy_base(r, opt->disk_size, err);
    if (rc == 0)
        rc = checkpoint_init(&r->cp, r->dir, err);
    if (rc < 0)
        return rc;
    r->tree = make_dir(r, "tree", err);
    r->stage = r->tree < 0 ? r->tree : make_dir(r, "stage", err);
    if (r->stage < 0)
        return r->stage;
    r->shadow = memfd_create("shadow", MFD_CLOEXEC);
    r->recent = open_memstream(&r->recent_text, &r->recent_len);
    if (r->shadow < 0 || !r->recent)
        return nf_fail(err, NF_EIO, "%s", strerror(errno));
    r->image = (struct nf_image){ .size = opt->disk_size, .read = disk_read, .free = disk_free };
    r->apply = nf_apply_new(r->tree, r->stage, &as, err);
    r->killer = (struct killer){ .every = opt->kill_every, .ahead = opt->ahead,
                                 .seed = opt->seed, .image = &r->image, .options = bo,
                                 .early = apply_early, .shadow = r->shadow };
    r->bdi = r->apply ? killer_start(&r->killer, err) : NULL;
    return r->bdi ? 0 : NF_ENOMEM;
}

static void close_fd(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

void replica_close(struct replica *r, bool keep)
{
    char command[300];

    bdi_free(r->bdi);
    killer_release(&r->killer);
    nf_apply_free(r->apply);
    projects_release(&r->projects);
    checkpoint_drop(&r->cp);
    close_fd(&r->disk);
    close_fd(&r->ahead);
    close_fd(&r->shadow);
    close_fd(&r->tree);
    close_fd(&r->stage);
    if (r->recent)
        fclose(r->recent);
    free(r->recent_text);
    r->recent = NULL;
    r->recent_text = NULL;
    if (!r->dir[0])
        return;
    if (keep) {
        printf("kept: %s (disk.img, recovered.img, tree)\n", r->dir);
        return;
    }
    snprintf(command, sizeof(command), "rm -rf --one-file-system '%s'", r->dir);
    if (system(command) != 0)
        fprintf(stderr, "prefix-equality: cannot remove %s\n", r->dir);
}

int replica_attach(struct replica *r, struct nf_error *err)
{
    int rc = bdi_attach(r->bdi, err);

    if (rc < 0)
        return nf_fail_prefix(err, "attach");
    r->attached = true;
    if (r->opt.ahead == 0)
        return 0;
    r->ahead = copy_disk(r, r->disk, "ahead.img", r->image.size, err);
    return r->ahead < 0 ? r->ahead : 0;
}

int replica_next(struct replica *r, struct nf_trace_reader *reader, struct nf_record *rec,
                 struct nf_error *err)
{
    int rc = killer_next(&r->killer, reader, r->attached ? &r->bdi : NULL, rec, err);

    /* After a kill it counts anew. */
    if (r->bdi)
        r->fast_seen = bdi_get_status(r->bdi)->fast_commits;
    return rc;
}

static bool is_journal_super(const struct nf_record *rec)
{
    static const uint8_t magic[] = { 0xc0, 0x3b, 0x39, 0x98, 0, 0, 0, 4 };

    return rec->type == NF_REC_WRITE && rec->length >= sizeof(magic) &&
           memcmp(rec->data, magic, sizeof(magic)) == 0;
}

static bool is_mark(const struct nf_record *rec)
{
    return rec->type == NF_REC_WRITE && rec->length >= sizeof(REPLICA_MARK) &&
           memcmp(rec->data, REPLICA_MARK, sizeof(REPLICA_MARK)) == 0;
}

static int pass_mark(struct replica *r, const struct nf_record *rec, struct nf_error *err)
{
    const struct bdi_status *st;
    int rc = bdi_idle(r->bdi, rec->time_ns + 1000000000, err);

    if (rc < 0)
        return rc;
    st = bdi_get_status(r->bdi);
    r->marks++;
    r->waited += st->waiting > 0 || st->waiting_content > 0;
    commit_begins(r);
    /* A minute for the inode, and one for its content. */
    rc = bdi_idle(r->bdi, rec->time_ns + INT64_C(100000000000), err);
    if (rc == 0)
        rc = bdi_idle(r->bdi, rec->time_ns + INT64_C(200000000000), err);
    r->committed = true;
    r->commits++;
    r->txn = 0;
    return rc;
}

int replica_end(struct replica *r, struct nf_error *err)
{
    return r->attached ? bdi_idle(r->bdi, INT64_MAX, err) : 0;
}

int replica_record(struct replica *r, const struct nf_record *rec, struct nf_error *err)
{
    int rc = disk_apply(r, r->disk, r->image.size, rec, err);
    uint64_t read;

    if (rec->type == NF_REC_RESIZE)
        r->image.size = rec->length;
    r->committed = r->changed = false;
    r->log_begins = is_journal_super(rec);
    read = r->attached ? bdi_get_status(r->bdi)->unsettled : 0;
    if (rc == 0 && r->attached)
        rc = bdi_record(r->bdi, rec, err);
    if (rc == 0 && r->attached && is_mark(rec))
        rc = pass_mark(r, rec, err);
    if (r->attached && bdi_get_status(r->bdi)->unsettled > read)
        r->known_at = killer_image(&r->killer);
    return rc < 0 ? nf_fail_prefix(err, "record %" PRIu64, rec->seq) : 0;
}
