/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nearfield trace record: a live tap's stream into a trace.
 *
 * Where the stream alone does not say what the disk holds (overlapping writes,
 * failed ones), the range is read back from the image and put into the trace
 * as a READBACK record, so that a replay needs nothing else.
 */
#include "consumers/trace_cmd.h"

#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/tap.h"
#include "common/trace.h"
#include "consumers/commands.h"

#define NAME "trace record"
#define COPY_CHUNK (1u << 20)
#define MAX_DOUBTS 1024
#define MAX_READBACK (1u << 20)

typedef unsigned long long ull;

static const char usage[] =
    "Usage: nearfield trace record --tap SOCKET --image PATH|NBD-URI -o FILE\n"
    "                              [--base-copy COPY]\n\n"
    "Record the write stream of a live tap until SIGINT or SIGTERM, or until the\n"
    "virtual machine is gone.\n\n"
    "  --tap SOCKET      where the disk's write-tap listens\n"
    "  --image IMAGE     the disk, to read what the stream leaves open\n"
    "  -o, --output FILE the trace; it appears when recording ends\n"
    "  --base-copy COPY  also copy the disk as it is now to COPY, the trace's base.\n"
    "                    While the machine writes, only positions after the end of\n"
    "                    the copying are exact; it is said where that is\n"
    "  --help            this text\n";

struct range {
    uint64_t offset, length;
};

struct recorder {
    struct nf_tap *tap;
    struct nf_image *image; /* null: nothing to read back from */
    struct nf_trace_writer *out;
    uint64_t last_seq;    /* appended, or before the first */
    int64_t flushed_ns;   /* monotonic, when the last block was ended */
    bool unflushed;
    uint64_t records, gaps;

    struct range doubts[MAX_DOUBTS]; /* a queue of ranges to read back */
    size_t ndoubts;
    uint64_t dropped; /* doubts that the queue had no room for */

    /* A readback that waits for the stream to pass @head. */
    struct range reading;
    uint64_t head;
    uint8_t *bytes; /* MAX_READBACK */
    bool waiting, touched;
};

static int64_t monotonic_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
}

static void doubt(struct recorder *c, uint64_t offset, uint64_t length)
{
    if (length == 0)
        return;
    if (c->ndoubts == MAX_DOUBTS)
        c->dropped++;
    else
        c->doubts[c->ndoubts++] = (struct range){ offset, length };
}

static bool changes_range(const struct nf_record *rec)
{
    return rec->type == NF_REC_WRITE || rec->type == NF_REC_ZERO || rec->type == NF_REC_DISCARD;
}

static int append(struct recorder *c, const struct nf_record *rec, struct nf_error *err)
{
    int ret = nf_trace_append(c->out, rec, err);

    if (ret < 0)
        return ret;
    c->records++;
    c->last_seq = rec->seq;
    c->unflushed = true;
    if (rec->type == NF_REC_GAP)
        c->gaps++;
    if (!c->image)
        return NF_OK;
    if (c->waiting && (rec->type == NF_REC_RESIZE ||
                       (changes_range(rec) && rec->offset < c->reading.offset + c->reading.length &&
                        c->reading.offset < rec->offset + rec->length)))
        c->touched = true;
    if (changes_range(rec) && rec->flags & (NF_REC_AMBIGUOUS | NF_REC_FAILED))
        doubt(c, rec->offset, rec->length);
    return NF_OK;
}

/* Read the first doubtful range, or settle the one that was read: it is true
 * at this position if no record up to the head sampled after the read touched
 * it. */
static int read_back(struct recorder *c, struct nf_error *err)
{
    struct nf_record rec = { .type = NF_REC_READBACK, .seq = c->last_seq };
    struct timespec now;
    struct range *d = c->doubts;
    int ret;

    if (c->waiting && c->last_seq + 1 >= c->head) {
        c->waiting = false;
        if (c->touched) {
            doubt(c, c->reading.offset, c->reading.length);
        } else {
            clock_gettime(CLOCK_REALTIME, &now);
            rec.time_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
            rec.offset = c->reading.offset;
            rec.length = c->reading.length;
            rec.data = c->bytes;
            c->unflushed = true;
            ret = nf_trace_append(c->out, &rec, err);
            if (ret < 0)
                return ret;
        }
    }
    if (c->waiting || c->ndoubts == 0)
        return NF_OK;
    c->reading = *d;
    if (c->reading.length > MAX_READBACK)
        c->reading.length = MAX_READBACK;
    d->offset += c->reading.length;
    d->length -= c->reading.length;
    if (d->length == 0)
        memmove(d, d + 1, --c->ndoubts * sizeof(*d));
    /* The disk may have become smaller since. */
    if (c->reading.offset >= c->image->size)
        return NF_OK;
    if (c->reading.length > c->image->size - c->reading.offset)
        c->reading.length = c->image->size - c->reading.offset;
    ret = c->image->read(c->image, c->reading.offset, c->bytes, (size_t)c->reading.length, err);
    if (ret < 0) {
        /* The machine may be going away; its stream is worth more. */
        fprintf(stderr, "nearfield " NAME ": %s; going on without reading back\n",
                err ? err->text : "");
        c->image->free(c->image);
        c->image = NULL;
        return NF_OK;
    }
    c->head = nf_tap_head(c->tap);
    c->touched = false;
    c->waiting = true;
    return NF_OK;
}

/* Take what is there, at most @limit records. The last nf_tap_next() result. */
static int drain(struct recorder *c, unsigned limit, struct nf_error *err)
{
    struct nf_record rec;
    int ret = 0;

    while (limit-- > 0 && (ret = nf_tap_next(c->tap, &rec, err)) == 1) {
        int done = append(c, &rec, err);

        if (done < 0)
            return done;
        nf_tap_release(c->tap, rec.seq);
        if (c->waiting && c->last_seq + 1 >= c->head) {
            done = read_back(c, err);
            if (done < 0)
                return done;
        }
    }
    return ret;
}

static int copy_base(struct recorder *c, const char *path, struct nf_error *err)
{
    struct nf_progress progress = { .what = "copying the base" };
    struct nf_output file;
    NF_AUTO_FREE uint8_t *buf = malloc(COPY_CHUNK);
    uint64_t at = 0, size = c->image->size, head;
    int ret = nf_output_open(&file, path, err);

    if (ret < 0)
        return ret;
    if (!buf)
        ret = nf_fail(err, NF_ENOMEM, "no memory");
    if (ret == NF_OK && ftruncate(file.fd, (off_t)size) < 0)
        ret = nf_fail(err, NF_EIO, "size of %s: %s", path, strerror(errno));
    while (ret >= 0 && at < size && !nf_stop) {
        size_t n = size - at < COPY_CHUNK ? (size_t)(size - at) : COPY_CHUNK;

        ret = c->image->read(c->image, at, buf, n, err);
        if (ret >= 0 && !nf_is_zero(buf, n))
            ret = nf_write_full(file.fd, buf, n, at, err);
        /* The ring must not fill up meanwhile. */
        if (ret >= 0)
            ret = drain(c, 4096, err);
        if (ret == NF_ECLOSED)
            ret = at + n < size ? nf_fail(err, NF_ECLOSED, "the machine ended before its disk "
                                                           "was copied") : NF_OK;
        at += n;
        nf_progress_show(&progress, at, size);
    }
    nf_progress_end(&progress);
    head = nf_tap_head(c->tap);
    if (ret >= 0 && nf_stop && at < size)
        ret = nf_fail(err, NF_EIO, "interrupted before the disk was copied");
    if (ret >= 0)
        ret = nf_output_commit(&file, err);
    nf_output_abort(&file);
    if (ret >= 0 && head > 1)
        fprintf(stderr, "nearfield " NAME ": %s copied; exact from record %llu on\n", path,
                (ull)(head - 1));
    return ret < 0 ? ret : NF_OK;
}

static int record(struct recorder *c, struct nf_error *err)
{
    uint64_t until = UINT64_MAX;
    int64_t stop_by = 0;

    for (;;) {
        int ret = drain(c, 256, err);

        if (ret == NF_ECLOSED)
            return NF_OK;
        if (ret < 0)
            return ret;
        if (nf_stop && until == UINT64_MAX) {
            /* Everything that happened before the signal, but a request that
             * hangs must not keep us. */
            until = nf_tap_head(c->tap);
            stop_by = monotonic_ns() + INT64_C(2000000000);
        }
        if (until != UINT64_MAX && (c->last_seq + 1 >= until || monotonic_ns() > stop_by))
            return NF_OK;
        if (ret == 1)
            continue;
        if (c->image) {
            ret = read_back(c, err);
            if (ret < 0)
                return ret;
        }
        if (c->unflushed && monotonic_ns() - c->flushed_ns > INT64_C(1000000000)) {
            ret = nf_trace_flush(c->out, err);
            if (ret < 0)
                return ret;
            c->flushed_ns = monotonic_ns();
            c->unflushed = false;
        }
        ret = nf_tap_wait(c->tap, c->waiting || c->ndoubts ? 1 : 200, err);
        if (ret < 0 && !nf_stop)
            return ret;
    }
}

static int start(struct recorder *c, const char *socket, const char *output,
                 struct nf_error *err)
{
    struct nf_trace_info info = { .origin = NF_TRACE_ORIGIN_TAP };
    const struct nf_tap_info *tap;
    struct nf_tap_status st;
    struct nf_tap_fds fds;
    struct timespec now;
    int ret = nf_tap_connect(socket, &fds, err);

    if (ret < 0)
        return ret;
    c->tap = nf_tap_new(&fds, err);
    if (!c->tap)
        return err->code;
    tap = nf_tap_info(c->tap);
    nf_tap_status(c->tap, &st);
    clock_gettime(CLOCK_REALTIME, &now);
    memcpy(info.epoch_uuid, tap->epoch_uuid, sizeof(info.epoch_uuid));
    memcpy(info.disk_id, tap->disk_id, strnlen(tap->disk_id, sizeof(info.disk_id) - 1));
    /* The stream begins with OPEN, or where an earlier consumer stopped. */
    c->last_seq = st.tail - 1;
    info.disk_size = st.tail <= 1 ? tap->disk_size : st.disk_size;
    info.created_ns = now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
    c->out = nf_trace_create(output, &info, err);
    return c->out ? NF_OK : err->code;
}

static int run(struct recorder *c, const char *socket, const char *image, const char *output,
               const char *base_copy, struct nf_error *err)
{
    int ret = nf_output_check(output, image, err);

    if (ret == NF_OK && base_copy)
        ret = nf_output_check(base_copy, image, err);
    if (ret < 0)
        return ret;
    c->image = nf_image_source_open(image, err);
    if (!c->image)
        return err->code;
    c->bytes = malloc(MAX_READBACK);
    if (!c->bytes)
        return nf_fail(err, NF_ENOMEM, "no memory");
    ret = start(c, socket, output, err);
    if (ret == NF_OK && base_copy)
        ret = copy_base(c, base_copy, err);
    if (ret == NF_OK)
        ret = record(c, err);
    if (ret == NF_OK) {
        ret = nf_trace_finish(c->out, err);
        c->out = NULL;
    }
    return ret;
}

int nf_trace_cmd_record(int argc, char **argv)
{
    static const struct option options[] = {
        { "tap", required_argument, NULL, 't' },
        { "image", required_argument, NULL, 'i' },
        { "output", required_argument, NULL, 'o' },
        { "base-copy", required_argument, NULL, 'b' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    const char *socket = NULL, *image = NULL, *output = NULL, *base_copy = NULL;
    static struct recorder c; /* zero; too large for the stack */
    struct nf_error err = { 0 };
    int opt, ret;

    while ((opt = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
        switch (opt) {
        case 't':
            socket = optarg;
            break;
        case 'i':
            image = optarg;
            break;
        case 'o':
            output = optarg;
            break;
        case 'b':
            base_copy = optarg;
            break;
        case 'h':
            fputs(usage, stdout);
            return nf_cmd_close_stdout(NAME, NF_EXIT_OK);
        default:
            return nf_cmd_usage_error(NAME, NULL);
        }
    }
    if (optind != argc)
        return nf_cmd_usage_error(NAME, "unexpected argument '%s'", argv[optind]);
    if (!socket || !image || !output)
        return nf_cmd_usage_error(NAME, "--tap, --image and -o are needed");
    nf_catch_signals();
    ret = run(&c, socket, image, output, base_copy, &err);
    nf_trace_discard(c.out);
    nf_tap_free(c.tap);
    nf_image_free(c.image);
    free(c.bytes);
    if (ret < 0)
        return nf_cmd_error(NAME, "%s", err.text);
    if (c.gaps)
        fprintf(stderr, "nearfield " NAME ": %llu gaps: writes were lost\n", (ull)c.gaps);
    if (c.dropped || c.ndoubts || c.waiting)
        fprintf(stderr, "nearfield " NAME ": %llu ranges in doubt were not read back\n",
                (ull)(c.dropped + c.ndoubts + c.waiting));
    printf("%s: %llu records\n", output, (ull)c.records);
    return nf_cmd_close_stdout(NAME, NF_EXIT_OK);
}
