/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nearfield trace import and export: from and to the dm-log-writes format.
 */
#include "consumers/trace_cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/crc32c.h"
#include "common/logwrites.h"
#include "common/trace.h"
#include "consumers/commands.h"

typedef unsigned long long ull;

/* Longer entries become several records; ZERO becomes entries of at most this. */
#define PIECE (1u << 20)
#define ZERO_PIECE (32u << 20)

/* --- import ------------------------------------------------------------- */

#define IMPORT "trace import"

static const char import_usage[] =
    "Usage: nearfield trace import --from LOG --base IMAGE -o FILE\n\n"
    "Make the trace FILE of a write log that the kernel's dm-log-writes or QEMU's\n"
    "blklogwrites wrote. Such logs have no times and say zeroing as writes of zeros.\n\n"
    "  --from LOG      the log, a file or a block device\n"
    "  --base IMAGE    the disk as it was when logging began; only its size is used\n"
    "  -o, --output FILE\n"
    "  --trust-count   take no more entries than the log's header counts: for a log\n"
    "                  device that held another log before. Without it what follows\n"
    "                  the counted entries is taken as long as it makes sense, since\n"
    "                  the count is only written now and then\n"
    "  --help          this text\n";

struct import {
    struct nf_logwrites_reader *log;
    struct nf_trace_writer *out;
    uint8_t *buf; /* PIECE bytes */
    uint64_t seq;
    uint64_t entries, marks;
};

/* A log has no identity; the same log must give the same trace. */
static int derive_uuid(int fd, uint64_t log_size, uint64_t disk_size, uint8_t *uuid,
                       struct nf_error *err)
{
    uint8_t buf[65536], sizes[16];
    ssize_t n = pread(fd, buf, sizeof(buf), 0);

    if (n < 0)
        return nf_fail(err, NF_EIO, "read: %s", strerror(errno));
    nf_put_le64(sizes, log_size);
    nf_put_le64(sizes + 8, disk_size);
    for (uint32_t i = 0; i < 4; i++)
        nf_put_le32(uuid + 4 * i, nf_crc32c(nf_crc32c(i, buf, (size_t)n), sizes, sizeof(sizes)));
    uuid[6] = (uint8_t)((uuid[6] & 0x0f) | 0x80); /* version 8: made by own rules */
    uuid[8] = (uint8_t)((uuid[8] & 0x3f) | 0x80);
    return NF_OK;
}

static int put(struct import *im, struct nf_record rec, struct nf_error *err)
{
    rec.seq = ++im->seq;
    if (rec.type == NF_REC_FLUSH)
        rec.aux = rec.seq; /* all that is logged before it was done */
    return nf_trace_append(im->out, &rec, err);
}

static int import_entry(struct import *im, const struct nf_logwrites_entry *e,
                        struct nf_error *err)
{
    uint32_t flags = e->flags & NF_LOG_FUA ? NF_REC_FUA : 0;
    int ret = NF_OK;

    if (e->flags & NF_LOG_MARK) {
        im->marks++;
        return NF_OK;
    }
    if (e->flags & NF_LOG_FLUSH)
        ret = put(im, (struct nf_record){ .type = NF_REC_FLUSH }, err);
    if (ret == NF_OK && e->flags & NF_LOG_DISCARD && e->length > 0)
        ret = put(im, (struct nf_record){ .type = NF_REC_DISCARD, .offset = e->offset,
                                          .length = e->length }, err);
    for (uint64_t at = 0; ret == NF_OK && e->has_data && at < e->length && !nf_stop;) {
        size_t n = e->length - at < PIECE ? (size_t)(e->length - at) : PIECE;

        ret = nf_logwrites_read(im->log, e, at, im->buf, n, err);
        if (ret == NF_OK)
            ret = put(im, (struct nf_record){ .type = NF_REC_WRITE, .flags = flags,
                                              .offset = e->offset + at, .length = n,
                                              .data = im->buf }, err);
        at += n;
    }
    return ret;
}

static int import_all(struct import *im, bool trust_count, uint64_t disk_size,
                      struct nf_error *err)
{
    struct nf_progress progress = { .what = "importing" };
    struct nf_logwrites_entry e;
    int ret;

    ret = put(im, (struct nf_record){ .type = NF_REC_OPEN, .length = disk_size }, err);
    while (ret == NF_OK && (ret = nf_logwrites_next(im->log, trust_count, &e, err)) == 1) {
        ret = import_entry(im, &e, err);
        im->entries++;
        if (ret == NF_OK && nf_stop)
            ret = nf_fail(err, NF_EIO, "interrupted");
        nf_progress_show(&progress, e.data_pos, nf_logwrites_size(im->log));
    }
    nf_progress_end(&progress);
    return ret;
}

static int import(const char *from, const char *base, const char *output, bool trust_count,
                  struct nf_error *err)
{
    NF_AUTO_CLOSE int log_fd = -1;
    NF_AUTO_CLOSE int base_fd = -1;
    struct import im = { 0 };
    struct nf_trace_info info = { .origin = NF_TRACE_ORIGIN_LOGWRITES };
    uint64_t log_size;
    int ret;

    ret = nf_output_check(output, from, err);
    if (ret == NF_OK)
        ret = nf_output_check(output, base, err);
    if (ret < 0)
        return ret;
    base_fd = open(base, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (base_fd < 0)
        return nf_fail(err, NF_EIO, "open %s: %s", base, strerror(errno));
    ret = nf_disk_size(base_fd, base, &info.disk_size, err);
    if (ret == NF_OK && info.disk_size == 0)
        ret = nf_fail(err, NF_EINVAL, "%s is empty: it is not the log's disk", base);
    if (ret < 0)
        return ret;
    log_fd = open(from, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (log_fd < 0)
        return nf_fail(err, NF_EIO, "open %s: %s", from, strerror(errno));
    ret = nf_disk_size(log_fd, from, &log_size, err);
    if (ret < 0)
        return ret;

    im.log = nf_logwrites_open(log_fd, info.disk_size, err);
    if (!im.log)
        ret = err->code;
    if (ret == NF_OK)
        ret = derive_uuid(log_fd, log_size, info.disk_size, info.epoch_uuid, err);
    if (ret < 0)
        nf_fail_prefix(err, "%s", from);
    if (ret == NF_OK && !(im.buf = malloc(PIECE)))
        ret = nf_fail(err, NF_ENOMEM, "no memory");
    if (ret == NF_OK && !(im.out = nf_trace_create(output, &info, err)))
        ret = err->code;
    if (ret == NF_OK) {
        ret = import_all(&im, trust_count, info.disk_size, err);
        if (ret < 0)
            nf_fail_prefix(err, "%s", from);
    }
    if (ret == NF_OK)
        ret = nf_trace_finish(im.out, err);
    else
        nf_trace_discard(im.out);
    if (ret == NF_OK) {
        printf("%s: %llu entries as %llu records\n", output, (ull)im.entries, (ull)im.seq);
        if (im.marks)
            fprintf(stderr, "nearfield " IMPORT ": %llu marks left out\n", (ull)im.marks);
        if (im.entries > nf_logwrites_counted(im.log))
            fprintf(stderr, "nearfield " IMPORT ": the last %llu entries come after those that "
                            "the log counts (see --trust-count)\n",
                    (ull)(im.entries - nf_logwrites_counted(im.log)));
    }
    free(im.buf);
    nf_logwrites_close(im.log);
    return ret;
}

int nf_trace_cmd_import(int argc, char **argv)
{
    static const struct option options[] = {
        { "from", required_argument, NULL, 'f' },   { "base", required_argument, NULL, 'b' },
        { "output", required_argument, NULL, 'o' }, { "trust-count", no_argument, NULL, 'c' },
        { "help", no_argument, NULL, 'h' },         { 0 },
    };
    const char *from = NULL, *base = NULL, *output = NULL;
    struct nf_error err = { 0 };
    bool trust_count = false;
    int c;

    while ((c = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
        switch (c) {
        case 'f':
            from = optarg;
            break;
        case 'b':
            base = optarg;
            break;
        case 'o':
            output = optarg;
            break;
        case 'c':
            trust_count = true;
            break;
        case 'h':
            fputs(import_usage, stdout);
            return nf_cmd_close_stdout(IMPORT, NF_EXIT_OK);
        default:
            return nf_cmd_usage_error(IMPORT, NULL);
        }
    }
    if (optind != argc)
        return nf_cmd_usage_error(IMPORT, "unexpected argument '%s'", argv[optind]);
    if (!from || !base || !output)
        return nf_cmd_usage_error(IMPORT, "--from, --base and -o are needed");
    nf_catch_signals();
    if (import(from, base, output, trust_count, &err) < 0)
        return nf_cmd_error(IMPORT, "%s", err.text);
    return nf_cmd_close_stdout(IMPORT, NF_EXIT_OK);
}

/* --- export ------------------------------------------------------------- */

#define EXPORT "trace export"

static const char export_usage[] =
    "Usage: nearfield trace export -o LOG FILE\n\n"
    "Make a write log in the dm-log-writes format of the trace FILE, for tools such\n"
    "as replay-log. Times, the size of the disk and writes that failed are left out;\n"
    "zeroing is written out as zeros.\n\n"
    "  -o, --output LOG\n"
    "  --sector-size N  512 (default) or 4096\n"
    "  --allow-gaps     go on where writes were lost; the log is then not the disk's\n"
    "  --help           this text\n";

struct export {
    struct nf_logwrites_writer *out;
    bool allow_gaps;
    uint64_t entries, gaps, failed, resizes;
};

static int export_range(struct export *ex, uint32_t flags, const struct nf_record *rec,
                        struct nf_error *err)
{
    uint64_t at = 0;
    int ret = NF_OK;

    while (ret == NF_OK && at < rec->length) {
        uint64_t n = rec->length - at;

        if (!rec->data && !(flags & NF_LOG_DISCARD) && n > ZERO_PIECE)
            n = ZERO_PIECE;
        ret = nf_logwrites_entry(ex->out, flags, rec->offset + at, n, err);
        if (ret == NF_OK && !(flags & NF_LOG_DISCARD))
            ret = nf_logwrites_data(ex->out, rec->data ? rec->data + at : NULL, n, err);
        at += n;
        ex->entries++;
        if (nf_stop)
            break;
    }
    return ret;
}

static int export_record(struct export *ex, const struct nf_record *rec, struct nf_error *err)
{
    if (rec->flags & NF_REC_FAILED) {
        ex->failed++;
        return NF_OK;
    }
    switch (rec->type) {
    case NF_REC_WRITE:
        return export_range(ex, rec->flags & NF_REC_FUA ? NF_LOG_FUA : 0, rec, err);
    case NF_REC_READBACK: /* what the disk held here */
    case NF_REC_ZERO:
        return export_range(ex, 0, rec, err);
    case NF_REC_DISCARD:
        return export_range(ex, NF_LOG_DISCARD, rec, err);
    case NF_REC_FLUSH:
        ex->entries++;
        return nf_logwrites_entry(ex->out, NF_LOG_FLUSH, 0, 0, err);
    case NF_REC_RESIZE:
        ex->resizes++;
        return NF_OK;
    case NF_REC_GAP:
        ex->gaps++;
        if (ex->allow_gaps)
            return NF_OK;
        return nf_fail(err, NF_ELOST, "writes were lost here; a log cannot say so "
                                      "(--allow-gaps exports the rest)");
    default:
        return NF_OK;
    }
}

static int export(const char *from, const char *output, uint32_t sector, bool allow_gaps,
                  struct nf_error *err)
{
    struct nf_progress progress = { .what = "exporting" };
    struct export ex = { .allow_gaps = allow_gaps };
    struct nf_output file = { .fd = -1 };
    struct nf_trace_reader *r;
    struct nf_record rec;
    uint64_t done = 0;
    int ret;

    ret = nf_output_check(output, from, err);
    if (ret < 0)
        return ret;
    r = nf_trace_open(from, err);
    if (!r)
        return err->code;
    ret = nf_output_open(&file, output, err);
    if (ret == NF_OK && !(ex.out = nf_logwrites_create(file.fd, sector, err)))
        ret = err->code;
    while (ret == NF_OK && (ret = nf_trace_next(r, &rec, err)) == 1) {
        ret = export_record(&ex, &rec, err);
        if (ret < 0)
            nf_fail_prefix(err, "%s: record %llu", from, (ull)rec.seq);
        else if (nf_stop)
            ret = nf_fail(err, NF_EIO, "interrupted");
        nf_progress_show(&progress, ++done, nf_trace_reader_info(r)->records);
    }
    nf_progress_end(&progress);
    if (ret == NF_OK)
        ret = nf_logwrites_finish(ex.out, err);
    else
        nf_logwrites_discard(ex.out);
    if (ret == NF_OK)
        ret = nf_output_commit(&file, err);
    nf_output_abort(&file);
    nf_trace_close(r);
    if (ret == NF_OK) {
        printf("%s: %llu records as %llu entries\n", output, (ull)done, (ull)ex.entries);
        if (ex.gaps || ex.failed || ex.resizes)
            fprintf(stderr, "nearfield " EXPORT ": left out: %llu gaps, %llu failed writes, %llu "
                            "changes of the disk's size\n",
                    (ull)ex.gaps, (ull)ex.failed, (ull)ex.resizes);
    }
    return ret;
}

int nf_trace_cmd_export(int argc, char **argv)
{
    static const struct option options[] = {
        { "output", required_argument, NULL, 'o' }, { "sector-size", required_argument, NULL, 's' },
        { "allow-gaps", no_argument, NULL, 'g' },   { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    const char *output = NULL;
    struct nf_error err = { 0 };
    bool allow_gaps = false;
    uint32_t sector = 512;
    int c;

    while ((c = getopt_long(argc, argv, "o:h", options, NULL)) != -1) {
        switch (c) {
        case 'o':
            output = optarg;
            break;
        case 's':
            if (strcmp(optarg, "512") != 0 && strcmp(optarg, "4096") != 0)
                return nf_cmd_usage_error(EXPORT, "--sector-size is 512 or 4096, not '%s'",
                                          optarg);
            sector = (uint32_t)atoi(optarg);
            break;
        case 'g':
            allow_gaps = true;
            break;
        case 'h':
            fputs(export_usage, stdout);
            return nf_cmd_close_stdout(EXPORT, NF_EXIT_OK);
        default:
            return nf_cmd_usage_error(EXPORT, NULL);
        }
    }
    if (optind + 1 != argc || !output)
        return nf_cmd_usage_error(EXPORT, "-o and exactly one trace are needed");
    nf_catch_signals();
    if (export(argv[optind], output, sector, allow_gaps, &err) < 0)
        return nf_cmd_error(EXPORT, "%s", err.text);
    return nf_cmd_close_stdout(EXPORT, NF_EXIT_OK);
}
