/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nearfield trace replay
 */
#include "consumers/trace_cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/trace.h"
#include "consumers/commands.h"

#define NAME "trace replay"

typedef unsigned long long ull;

static const char usage[] =
    "Usage: nearfield trace replay --from FILE --to PATH [OPTION]...\n\n"
    "Apply the records of the trace FILE to PATH, a copy of the trace's base image\n"
    "(or a block device that holds one).\n\n"
    "  --from FILE       the trace (or give it as the argument)\n"
    "  --to PATH         the disk to change; it must exist\n"
    "  --upto SEQ        stop after the record with this sequence number\n"
    "  --discard MODE    what discarded ranges become: 'zero' (default; what a raw\n"
    "                    file with discard=unmap holds then) or 'keep'\n"
    "  --realtime        at the pace of the recording\n"
    "  --speed X         at X times that pace\n"
    "  --help            this text\n";

struct replay {
    int fd;
    bool regular;
    uint64_t size; /* of the disk */
    bool keep_discarded;
    double speed; /* 0: as fast as possible */
    uint64_t upto;

    bool started;
    int64_t first_ns; /* record time of the first timed record */
    struct timespec start;
    uint64_t gaps, failed;
};

static int set_size(struct replay *p, uint64_t size, struct nf_error *err)
{
    if (p->regular) {
        if (ftruncate(p->fd, (off_t)size) < 0)
            return nf_fail(err, NF_EIO, "resize to %llu bytes: %s", (ull)size, strerror(errno));
    } else if (size > p->size) {
        return nf_fail(err, NF_EINVAL, "the block device is smaller than the disk's %llu bytes",
                       (ull)size);
    }
    /* A block device keeps its size; the records stay within theirs. */
    if (p->regular)
        p->size = size;
    return NF_OK;
}

static int apply(struct replay *p, const struct nf_record *rec, struct nf_error *err)
{
    switch (rec->type) {
    case NF_REC_OPEN:
    case NF_REC_RESIZE:
        if (rec->flags & NF_REC_FAILED)
            return NF_OK;
        return set_size(p, rec->length, err);
    case NF_REC_GAP:
        p->gaps++;
        return NF_OK;
    case NF_REC_WRITE:
    case NF_REC_READBACK:
    case NF_REC_ZERO:
    case NF_REC_DISCARD:
        break;
    default:
        return NF_OK;
    }
    if (rec->flags & NF_REC_FAILED) {
        p->failed++;
        return NF_OK;
    }
    if (rec->offset > p->size || rec->length > p->size - rec->offset)
        return nf_fail(err, NF_EFORMAT, "%llu bytes at %llu reach beyond the disk's %llu",
                       (ull)rec->length, (ull)rec->offset, (ull)p->size);
    if (rec->type == NF_REC_DISCARD && p->keep_discarded)
        return NF_OK;
    if (rec->type == NF_REC_ZERO || rec->type == NF_REC_DISCARD)
        return nf_write_zeros(p->fd, rec->offset, rec->length, err);
    return nf_write_full(p->fd, rec->data, rec->length, rec->offset, err);
}

/* Sleep until it is @ns's turn. Records complete out of order and clocks are
 * set: a time that is already past is now. */
static void pace(struct replay *p, int64_t ns)
{
    struct timespec until;
    double delay;

    if (!p->started) {
        p->started = true;
        p->first_ns = ns;
        clock_gettime(CLOCK_MONOTONIC, &p->start);
        return;
    }
    delay = ((double)ns - (double)p->first_ns) / 1e9 / p->speed;
    if (delay <= 0)
        return;
    if (delay > 1e9)
        delay = 1e9;
    until = p->start;
    until.tv_sec += (time_t)delay;
    until.tv_nsec += (long)((delay - (double)(time_t)delay) * 1e9);
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    while (!nf_stop && clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL) == EINTR)
        ;
}

static int replay(struct replay *p, struct nf_trace_reader *r, struct nf_error *err)
{
    const struct nf_trace_info *info = nf_trace_reader_info(r);
    struct nf_progress progress = { .what = "replaying" };
    struct nf_record rec;
    uint64_t done = 0;
    int ret = NF_OK;

    if (info->disk_size > p->size)
        ret = set_size(p, info->disk_size, err);
    while (ret == NF_OK && (ret = nf_trace_next(r, &rec, err)) == 1) {
        ret = NF_OK;
        if (rec.seq > p->upto)
            break;
        if (p->speed > 0 && rec.time_ns != 0)
            pace(p, rec.time_ns);
        if (nf_stop) {
            ret = nf_fail(err, NF_EIO, "interrupted before record %llu", (ull)rec.seq);
            break;
        }
        ret = apply(p, &rec, err);
        if (ret < 0)
            nf_fail_prefix(err, "record %llu", (ull)rec.seq);
        nf_progress_show(&progress, ++done, info->records);
    }
    nf_progress_end(&progress);
    if (ret == NF_OK && fdatasync(p->fd) < 0)
        ret = nf_fail(err, NF_EIO, "fdatasync: %s", strerror(errno));
    return ret;
}

int nf_trace_cmd_replay(int argc, char **argv)
{
    static const struct option options[] = {
        { "from", required_argument, NULL, 'f' },    { "to", required_argument, NULL, 't' },
        { "upto", required_argument, NULL, 'u' },    { "discard", required_argument, NULL, 'd' },
        { "realtime", no_argument, NULL, 'r' },      { "speed", required_argument, NULL, 's' },
        { "help", no_argument, NULL, 'h' },          { 0 },
    };
    struct replay p = { .fd = -1, .upto = UINT64_MAX };
    const char *from = NULL, *to = NULL;
    struct nf_trace_reader *r;
    struct nf_error err = { 0 };
    struct stat st;
    char *end;
    int c, ret;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'f':
            from = optarg;
            break;
        case 't':
            to = optarg;
            break;
        case 'u':
            errno = 0;
            p.upto = strtoull(optarg, &end, 10);
            if (errno || *end || end == optarg || *optarg == '-')
                return nf_cmd_usage_error(NAME, "'%s' is not a sequence number", optarg);
            break;
        case 'd':
            if (strcmp(optarg, "zero") != 0 && strcmp(optarg, "keep") != 0)
                return nf_cmd_usage_error(NAME, "--discard is 'zero' or 'keep', not '%s'", optarg);
            p.keep_discarded = *optarg == 'k';
            break;
        case 'r':
            p.speed = 1;
            break;
        case 's':
            p.speed = strtod(optarg, &end);
            if (*end || end == optarg || !(p.speed > 0) || p.speed > 1e9)
                return nf_cmd_usage_error(NAME, "'%s' is not a speed", optarg);
            break;
        case 'h':
            fputs(usage, stdout);
            return nf_cmd_close_stdout(NAME, NF_EXIT_OK);
        default:
            return nf_cmd_usage_error(NAME, NULL);
        }
    }
    if (!from && optind < argc)
        from = argv[optind++];
    if (optind != argc)
        return nf_cmd_usage_error(NAME, "unexpected argument '%s'", argv[optind]);
    if (!from || !to)
        return nf_cmd_usage_error(NAME, "a trace and --to are needed");

    nf_catch_signals();
    r = nf_trace_open(from, &err);
    if (!r)
        return nf_cmd_error(NAME, "%s", err.text);
    p.fd = open(to, O_RDWR | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
    if (p.fd < 0)
        ret = nf_fail(&err, NF_EIO, "open %s: %s%s", to, strerror(errno),
                      errno == ENOENT ? " (copy the trace's base image there first)" : "");
    else
        ret = nf_disk_size(p.fd, to, &p.size, &err);
    if (ret == NF_OK) {
        p.regular = fstat(p.fd, &st) == 0 && S_ISREG(st.st_mode);
        ret = replay(&p, r, &err);
        if (ret < 0)
            nf_fail_prefix(&err, "%s to %s", from, to);
    }
    nf_trace_close(r);
    if (p.fd >= 0 && close(p.fd) < 0 && ret == NF_OK)
        ret = nf_fail(&err, NF_EIO, "close %s: %s", to, strerror(errno));
    if (ret < 0)
        return nf_cmd_error(NAME, "%s", err.text);
    if (p.gaps || p.failed)
        fprintf(stderr, "nearfield " NAME ": the disk is not exact: %llu gaps, %llu writes whose "
                        "outcome is unknown\n", (ull)p.gaps, (ull)p.failed);
    return NF_EXIT_OK;
}
