/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nearfield mirror: a plain directory that follows the guest's files.
 */
#include "consumers/commands.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/frame.h"
#include "consumers/apply.h"
#include "consumers/beneath.h"
#include "consumers/mirror_dir.h"
#include "consumers/redis_stream.h"

#define NO_NUMBER UINT64_MAX

struct options {
    const char *to, *from;
    const char *host, *vm, *disk;
    uint64_t partition, commits, txn; /* NO_NUMBER: not given */
    uint64_t max_file_size;
    bool as_root, adopt;
};

struct mirror {
    struct options opt;
    struct nf_mirror_dir dir;
    struct nf_apply *apply;
    struct nf_buffer scratch;
    char host[NF_SOURCE_NAME_MAX + 1], vm[NF_SOURCE_NAME_MAX + 1], disk[NF_SOURCE_NAME_MAX + 1];
    bool greeted;   /* there was a HELLO of the source that is followed */
    bool foreign;   /* the batches now are of another source */
    bool positioned; /* epoch and seq below are set */
    bool chosen;    /* partition is set */
    bool in_step;   /* a COMMIT is still to come */
    bool applied;   /* DIR has changed */
    bool snapshot;  /* there was an ENTRY */
    bool done;      /* what --until-commit or --stop-at-txn asked for is reached */
    uint64_t epoch, seq;
    uint32_t partition;
    uint64_t skip_to; /* events up to here were applied by an earlier run */
    uint64_t commits;
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

/* --- events ------------------------------------------------------------------- */

/* Text from the stream, for a message. */
static const char *clean(const char *s, char *buf, size_t size)
{
    return nf_beneath_text((struct nf_bytes){ (const uint8_t *)s, s ? strlen(s) : 0 }, buf, size);
}

static int follow_seq(struct mirror *m, const struct nf_event *ev, struct nf_error *err)
{
    if (!m->positioned) {
        m->positioned = true;
        m->epoch = ev->epoch;
        if (m->dir.resumed) {
            if (ev->epoch != m->dir.state.epoch)
                return nf_fail(err, NF_ELOST,
                               "the stream's epoch %" PRIu64
                               " is not that of the directory, %" PRIu64
                               ": start again with an empty directory",
                               ev->epoch, m->dir.state.epoch);
            if (ev->seq > m->dir.state.seq + 1)
                return nf_fail(err, NF_ELOST,
                               "events lost between %" PRIu64
                               ", where the directory is, and %" PRIu64
                               ", where the stream begins",
                               m->dir.state.seq, ev->seq);
            m->skip_to = m->dir.state.seq;
        } else if (ev->seq != 1 && !m->opt.adopt) {
            return nf_fail(err, NF_ELOST,
                           "the stream begins with event %" PRIu64 " of its epoch, not the first: "
                           "it takes a directory that fits, and --adopt",
                           ev->seq);
        }
    } else if (ev->epoch != m->epoch) {
        return nf_fail(err, NF_ELOST,
                       "a new epoch begins (%" PRIu64 " after %" PRIu64
                       "): start again with an empty directory",
                       ev->epoch, m->epoch);
    } else if (ev->seq <= m->seq) {
        /* Sent again after a reconnection. */
        return 1;
    } else if (ev->seq != m->seq + 1) {
        return nf_fail(err, NF_ELOST, "events lost between %" PRIu64 " and %" PRIu64, m->seq,
                       ev->seq);
    }
    m->seq = ev->seq;
    return ev->seq <= m->skip_to;
}

/* Events of the file system that is mirrored: 0; of others: 1. */
static int choose(struct mirror *m, const struct nf_event *ev, struct nf_error *err)
{
    char a[300], b[100];

    if (ev->kind == NF_HEARTBEAT || ev->kind == NF_GAP || ev->kind == NF_RESYNC_BEGIN ||
        ev->kind == NF_RESYNC_END)
        return 0;
    if (ev->kind == NF_FS && ev->fs.state == NF_FS_UNSUPPORTED) {
        fprintf(stderr, "nearfield mirror: partition %" PRIu32 " (%s) is not followed: %s\n",
                ev->source.partition, clean(ev->fs.type, b, sizeof(b)),
                clean(ev->fs.reason, a, sizeof(a)));
        return 1;
    }
    if (!m->chosen && m->opt.partition == NO_NUMBER) {
        m->partition = ev->source.partition;
        m->chosen = true;
    }
    if (ev->source.partition != m->partition)
        return m->opt.partition != NO_NUMBER
                   ? 1
                   : nf_fail(err, NF_EINVAL,
                             "the disk has several file systems: choose one with --partition "
                             "(%" PRIu32 ", %" PRIu32 ", ...)",
                             m->partition, ev->source.partition);
    if (ev->kind == NF_FS && ev->fs.state == NF_FS_GONE) {
        fprintf(stderr, "nearfield mirror: the file system is gone: %s\n",
                clean(ev->fs.reason, a, sizeof(a)));
        /* What comes next may be in another partition. */
        if (m->opt.partition == NO_NUMBER)
            m->chosen = false;
    }
    return 0;
}

static int apply_one(struct mirror *m, const struct nf_event *ev, struct nf_error *err)
{
    struct nf_event plain = *ev;
    int rc = choose(m, ev, err);

    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (ev->kind == NF_WRITE && ev->write.codec != NF_CODEC_NONE) {
        rc = nf_event_content(ev, NF_EVENT_CONTENT_MAX, &m->scratch, &plain.write.data, err);
        if (rc < 0)
            return rc;
        plain.write.codec = NF_CODEC_NONE;
    }
    if (!m->applied) {
        rc = nf_mirror_dir_begin(&m->dir, err);
        if (rc < 0)
            return rc;
        m->applied = true;
    }
    m->snapshot |= ev->kind == NF_ENTRY;
    rc = nf_apply_event(m->apply, &plain, err);
    if (rc < 0)
        return m->snapshot || m->dir.resumed || m->opt.adopt
                   ? rc
                   : nf_fail_prefix(err, "the stream has no snapshot of what was there (see "
                                         "nearfield-bdi --snapshot)");
    if (ev->kind == NF_COMMIT) {
        m->in_step = false;
        m->commits++;
        if (m->commits == m->opt.commits || ev->txn == m->opt.txn)
            m->done = true;
    } else if (ev->txn != 0) {
        m->in_step = true;
    }
    return 0;
}

static int apply_batch(struct mirror *m, const struct nf_batch *batch, struct nf_error *err)
{
    for (size_t i = 0; i < batch->nevents && !m->done; i++) {
        int rc = follow_seq(m, &batch->events[i], err);

        if (rc == 0)
            rc = apply_one(m, &batch->events[i], err);
        if (rc < 0)
            return rc;
    }
    return nf_apply_settle(m->apply, err);
}

static bool wanted(const char *selector, const char *name)
{
    return !selector || strcmp(selector, name) == 0;
}

static int greet(struct mirror *m, const struct nf_hello *h, struct nf_error *err)
{
    if (h->version != NF_FRAME_VERSION)
        return nf_fail(err, NF_EUNSUPPORTED, "the stream has version %" PRIu32 ", not %d",
                       h->version, NF_FRAME_VERSION);
    m->foreign = !wanted(m->opt.host, h->host) || !wanted(m->opt.vm, h->vm) ||
                 !wanted(m->opt.disk, h->disk);
    if (m->foreign)
        return 0;
    if (m->greeted && (strcmp(m->host, h->host) != 0 || strcmp(m->vm, h->vm) != 0 ||
                       strcmp(m->disk, h->disk) != 0))
        return nf_fail(err, NF_EINVAL,
                       "the stream has several disks (%s/%s/%s and %s/%s/%s): choose one with "
                       "--host, --vm, --disk",
                       m->host, m->vm, m->disk, h->host, h->vm, h->disk);
    m->greeted = true;
    strcpy(m->host, h->host);
    strcpy(m->vm, h->vm);
    strcpy(m->disk, h->disk);
    return 0;
}

/* --- the stream ----------------------------------------------------------------- */

static void progress(const struct mirror *m, bool end)
{
    static time_t last;
    static bool shown;
    time_t now = time(NULL);

    if (!isatty(STDERR_FILENO))
        return;
    if (end && shown)
        fputs("\r\033[K", stderr);
    else if (!end && now != last)
        shown = fprintf(stderr, "\r%" PRIu64 " events, %" PRIu64 " commits", m->seq,
                        m->commits) > 0;
    last = now;
}

static int open_source(const char *from, struct nf_error *err)
{
    char own[40];
    struct stat st;
    int fd;

    if (strcmp(from, "-") == 0) {
        if (isatty(STDIN_FILENO))
            return nf_fail(err, NF_EINVAL,
                           "standard input is a terminal: pipe the output of nearfield-bdi here");
        /* A description of our own, where there can be one, so that reading can
         * be interrupted without making the other end's non-blocking too. */
        snprintf(own, sizeof(own), "/proc/self/fd/%d", STDIN_FILENO);
        if (fstat(STDIN_FILENO, &st) == 0 && S_ISFIFO(st.st_mode) &&
            (fd = open(own, O_RDONLY | O_NONBLOCK | O_CLOEXEC)) >= 0)
            return fd;
        fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    } else {
        fd = open(from, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    }
    return fd < 0 ? nf_fail(err, NF_EIO, "%s: %s", from, strerror(errno)) : fd;
}

static int set_up(struct mirror *m, struct nf_error *err);

static int run(struct mirror *m, int fd, struct nf_error *err)
{
    struct nf_frame_reader *reader = nf_frame_reader_new(fd, err);
    struct nf_frame frame;
    int rc = reader ? 0 : NF_ENOMEM;

    while (rc == 0 && !stop && !m->done) {
        rc = nf_frame_next(reader, &frame, err);
        if (rc == NF_FRAME_END)
            break;
        if (rc == NF_FRAME_AGAIN) {
            struct pollfd p = { .fd = fd, .events = POLLIN };

            poll(&p, 1, 1000);
            rc = 0;
            continue;
        }
        if (rc < 0) {
            if (!m->apply && rc == NF_EFORMAT)
                nf_fail_prefix(err, "not what nearfield-bdi --format proto writes");
            nf_fail_prefix(err, "%s", strcmp(m->opt.from, "-") == 0 ? "stream" : m->opt.from);
            break;
        }
        /* Nothing is made for what turns out not to be a stream. */
        rc = m->apply ? 0 : set_up(m, err);
        if (rc < 0)
            break;
        if (frame.type == NF_FRAME_HELLO)
            rc = greet(m, &frame.hello, err);
        else if (frame.type == NF_FRAME_BATCH && !m->foreign)
            rc = apply_batch(m, &frame.batch, err);
        progress(m, false);
    }
    nf_frame_reader_free(reader);
    progress(m, true);
    return rc;
}

/* The same from Redis, where a stream has no end. */
static int run_redis(struct mirror *m, struct nf_error *err)
{
    const struct nf_redis_disk disk = { m->opt.host, m->opt.vm, m->opt.disk };
    struct nf_redis_stream *s = NULL;
    struct nf_batch batch;
    int rc = set_up(m, err);

    if (rc == 0) {
        s = nf_redis_stream_open(m->opt.from, &disk, m->dir.resumed ? m->dir.state.epoch : 0,
                                 m->dir.state.seq, err);
        rc = s ? 0 : err->code;
    }
    if (rc == 0 && m->dir.resumed) {
        /* It may be that nothing comes: then the directory is what it was. */
        m->positioned = true;
        m->epoch = m->dir.state.epoch;
        m->seq = m->skip_to = m->dir.state.seq;
    }
    while (rc == 0 && !m->done && (!stop || m->in_step)) {
        rc = nf_redis_stream_next(s, &batch, err);
        if (rc == 1)
            rc = apply_batch(m, &batch, err);
        progress(m, false);
    }
    nf_redis_stream_free(s);
    progress(m, true);
    return rc;
}

/* --- the end ---------------------------------------------------------------------- */

static void note(const char *what, uint64_t n)
{
    if (n)
        fprintf(stderr, "nearfield mirror: %s: %" PRIu64 "\n", what, n);
}

/* What is not as in the guest; is it a failure? */
static int report(const struct mirror *m)
{
    const struct nf_apply_stats *s = nf_apply_stats(m->apply);

    note("devices left out (they take --as-root)", s->devices);
    note("immutable and append-only flags not set", s->chattr);
    note("writes to encrypted files, empty here", s->encrypted);
    note("writes or rows that came without all of their content", s->incomplete);
    note("writes and sizes beyond what a file may have here", s->too_large);
    note("extended attributes that the file system here refused", s->xattrs);
    note("things that no file system can hold, left out", s->odd);
    if (s->broken)
        return nf_cmd_error("mirror", "the stream lost events and ended before they were "
                                      "repaired: start again with an empty directory");
    return s->incomplete || s->too_large || s->odd || (m->opt.as_root && s->xattrs)
               ? NF_EXIT_FAILURE
               : NF_EXIT_OK;
}

static int finish(struct mirror *m, struct nf_error *err)
{
    int status;

    if (m->in_step)
        return nf_cmd_error("mirror", "the stream ends within a step, after event %" PRIu64
                                      ": the directory is not whole",
                            m->seq);
    if ((m->opt.commits != NO_NUMBER || m->opt.txn != NO_NUMBER) && !m->done && !stop)
        return nf_cmd_error("mirror", "the stream ends before the commit that was asked for");
    if (!m->positioned)
        return nf_cmd_error("mirror", "the stream has no events%s",
                            m->foreign ? " of the chosen source" : "");
    if (!m->applied && m->chosen && !m->dir.resumed && !stop)
        return nf_cmd_error("mirror", "the stream has no events of partition %" PRIu32,
                            m->partition);
    status = report(m);
    if (m->applied && !m->snapshot && !m->dir.resumed && !m->opt.adopt)
        fprintf(stderr, "nearfield mirror: the stream had no snapshot, so what nothing happened "
                        "to is not here (see nearfield-bdi --snapshot)\n");
    if (m->applied && !nf_apply_stats(m->apply)->broken) {
        m->dir.state = (struct nf_mirror_state){ m->epoch, m->seq, m->partition, m->opt.as_root };
        if (nf_mirror_dir_save(&m->dir, err) < 0)
            return nf_cmd_error("mirror", "%s", err->text);
    }
    return status;
}

/* --- the command line --------------------------------------------------------------- */

static int set_up(struct mirror *m, struct nf_error *err)
{
    struct nf_apply_options ao = { .as_root = m->opt.as_root,
                                   .max_file_size = m->opt.max_file_size };
    int rc = nf_mirror_dir_open(&m->dir, m->opt.to, m->opt.adopt, err);

    if (rc < 0)
        return rc;
    if (m->dir.resumed) {
        if (m->dir.state.as_root != m->opt.as_root)
            return nf_fail(err, NF_EINVAL, "%s was made %s --as-root: go on the same way",
                           m->opt.to, m->dir.state.as_root ? "with" : "without");
        if (m->opt.partition != NO_NUMBER && m->opt.partition != m->dir.state.partition)
            return nf_fail(err, NF_EINVAL, "%s mirrors partition %" PRIu32, m->opt.to,
                           m->dir.state.partition);
        m->opt.partition = m->dir.state.partition;
    }
    if (m->opt.partition != NO_NUMBER) {
        m->partition = (uint32_t)m->opt.partition;
        m->chosen = true;
    }
    if (m->opt.as_root && !nf_mirror_dir_private(&m->dir)) {
        /* Other users must not get at the guest's set-user-ID programs. */
        struct stat st;

        ao.keep_top = true;
        if (fstat(m->dir.tree, &st) < 0 || st.st_uid != 0 || fchmod(m->dir.tree, 0700) < 0)
            return nf_fail(err, NF_EINVAL, "%s is not root's own directory", m->opt.to);
        fprintf(stderr, "nearfield mirror: no directory above %s is root's with mode 0700, so its "
                        "own owner and mode stay so and do not follow the guest's root directory\n",
                m->opt.to);
    }
    m->apply = nf_apply_new(m->dir.tree, m->dir.stage, &ao, err);
    return m->apply ? 0 : NF_ENOMEM;
}

static void help(void)
{
    puts("Usage: nearfield mirror --to DIR [OPTION]...\n\n"
         "Make DIR, a plain directory, follow a guest's files: apply the events of a\n"
         "stream, one after another, beneath it. DIR is empty at first, or was left by\n"
         "an earlier run, which is then gone on with.\n\n"
         "  --to DIR            where to\n"
         "  --from -|FILE|URI   the stream: as nearfield-bdi --out writes it (-), or that\n"
         "                      of a disk in Redis, redis://HOST:PORT or unix:PATH, which\n"
         "                      is followed until SIGINT\n"
         "  --as-root           owners, devices, set-user-ID bits and all extended\n"
         "                      attributes for real; needs root\n"
         "  --host, --vm, --disk NAME   which source, if there are several\n"
         "  --partition N       which file system of the disk; 0: the whole disk\n"
         "  --until-commit N    stop after the Nth commit\n"
         "  --stop-at-txn T     stop after the commit of journal transaction T\n"
         "  --max-file-size N   keep no file longer than N bytes\n"
         "  --adopt             DIR holds what the guest had when the stream begins\n"
         "  --help              this text\n\n"
         "Exit status: 0; 1 if the directory is not what the guest has (said on stderr).");
}

static int number(const char *name, const char *text, uint64_t *out)
{
    char *end;

    errno = 0;
    *out = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || *out == NO_NUMBER)
        return nf_cmd_usage_error("mirror", "--%s takes a number, not '%s'", name, text);
    return 0;
}

/* 0, an exit status, or -1 after --help. */
static int parse(int argc, char **argv, struct options *o)
{
    enum { TO = 1, FROM, AS_ROOT, HOST, VM, DISK, PARTITION, COMMIT, TXN, MAX, ADOPT, HELP };
    static const struct option longs[] = {
        { "to", required_argument, NULL, TO },
        { "from", required_argument, NULL, FROM },
        { "as-root", no_argument, NULL, AS_ROOT },
        { "host", required_argument, NULL, HOST },
        { "vm", required_argument, NULL, VM },
        { "disk", required_argument, NULL, DISK },
        { "partition", required_argument, NULL, PARTITION },
        { "until-commit", required_argument, NULL, COMMIT },
        { "stop-at-txn", required_argument, NULL, TXN },
        { "max-file-size", required_argument, NULL, MAX },
        { "adopt", no_argument, NULL, ADOPT },
        { "help", no_argument, NULL, HELP },
        { 0 },
    };
    int c, bad = 0;

    while (!bad && (c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        switch (c) {
        case TO: o->to = optarg; break;
        case FROM: o->from = optarg; break;
        case AS_ROOT: o->as_root = true; break;
        case HOST: o->host = optarg; break;
        case VM: o->vm = optarg; break;
        case DISK: o->disk = optarg; break;
        case PARTITION: bad = number("partition", optarg, &o->partition); break;
        case COMMIT: bad = number("until-commit", optarg, &o->commits); break;
        case TXN: bad = number("stop-at-txn", optarg, &o->txn); break;
        case MAX: bad = number("max-file-size", optarg, &o->max_file_size); break;
        case ADOPT: o->adopt = true; break;
        case HELP:
        case 'h':
            help();
            return -1;
        default:
            return nf_cmd_usage_error("mirror", NULL);
        }
    }
    if (bad)
        return bad;
    if (optind < argc)
        return nf_cmd_usage_error("mirror", "unexpected argument '%s'", argv[optind]);
    if (!o->to || !*o->to)
        return nf_cmd_usage_error("mirror", "--to DIR is missing");
    if (o->commits == 0)
        return nf_cmd_usage_error("mirror", "commits are counted from 1");
    if (o->partition != NO_NUMBER && o->partition > UINT32_MAX)
        return nf_cmd_usage_error("mirror", "--partition is out of range");
    return 0;
}

int nf_cmd_mirror(int argc, char **argv)
{
    struct mirror m = {
        .opt = { .from = "-", .partition = NO_NUMBER, .commits = NO_NUMBER, .txn = NO_NUMBER },
        .dir = { .tree = -1, .side = -1, .stage = -1 },
    };
    const struct sigaction sa = { .sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND };
    struct nf_error err = { 0 };
    NF_AUTO_CLOSE int fd = -1;
    bool redis;
    int status = parse(argc, argv, &m.opt), rc;

    if (status != 0)
        return status < 0 ? nf_cmd_close_stdout("mirror", NF_EXIT_OK) : status;
    redis = strncmp(m.opt.from, "redis:", 6) == 0 || strncmp(m.opt.from, "unix:", 5) == 0;
    if (m.opt.as_root && geteuid() != 0)
        return nf_cmd_error("mirror", "--as-root needs root");
    umask(0077);
    signal(SIGXFSZ, SIG_IGN);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);

    if (redis) {
        rc = run_redis(&m, &err);
    } else {
        fd = open_source(m.opt.from, &err);
        rc = fd < 0 ? fd : run(&m, fd, &err);
    }
    status = rc < 0 ? nf_cmd_error("mirror", "%s", err.text) : finish(&m, &err);
    nf_apply_free(m.apply);
    nf_mirror_dir_close(&m.dir, !m.applied);
    nf_buffer_release(&m.scratch);
    return status;
}
