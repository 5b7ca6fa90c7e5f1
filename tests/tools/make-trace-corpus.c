/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * make-trace-corpus DIR: (re)makes the seeds of fuzz-trace and fuzz-logwrites
 * in DIR/fuzz-trace and DIR/fuzz-logwrites.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/logwrites.h"
#include "common/trace.h"
#include "common/trace_format.h"

static const char *top;
static const uint8_t payload[600] = { 1, 2, 3 };

static const struct nf_record records[] = {
    { .seq = 1, .type = NF_REC_OPEN, .length = 1 << 20, .time_ns = 5 },
    { .seq = 2, .type = NF_REC_WRITE, .offset = 4096, .length = 512, .data = payload,
      .flags = NF_REC_FUA },
    { .seq = 3, .type = NF_REC_ZERO, .offset = 4200, .length = 100, .flags = NF_REC_UNMAP },
    { .seq = 4, .type = NF_REC_DISCARD, .length = 4096 },
    { .seq = 5, .type = NF_REC_FLUSH, .aux = 5 },
    { .seq = 6, .type = NF_REC_WRITE, .offset = 7, .length = 600, .flags = NF_REC_FAILED },
    { .seq = 6, .type = NF_REC_READBACK, .offset = 7, .length = 600, .data = payload },
    { .seq = 7, .type = NF_REC_RESIZE, .length = 2 << 20 },
    { .seq = 8, .type = NF_REC_GAP, .offset = 3, .length = 12288 },
    { .seq = 9, .type = NF_REC_CLOSE, .flags = NF_REC_BYPASSED },
};

static int create(const char *dir, const char *name)
{
    char path[4096];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", top, dir);
    mkdir(path, 0777);
    snprintf(path, sizeof(path), "%s/%s/%s", top, dir, name);
    fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (fd < 0) {
        perror(path);
        exit(1);
    }
    return fd;
}

static void check(int ok, const struct nf_error *err)
{
    if (!ok) {
        fprintf(stderr, "make-trace-corpus: %s\n", err->text);
        exit(1);
    }
}

static void trace(const char *name, size_t per_block, int finished)
{
    struct nf_trace_info info = { .disk_size = 1 << 20, .disk_id = "vda" };
    struct nf_error err = { 0 };
    struct nf_trace_writer *w = nf_trace_create_fd(create("fuzz-trace", name), &info, &err);

    check(w != NULL, &err);
    for (size_t i = 0; i < sizeof(records) / sizeof(records[0]); i++) {
        check(nf_trace_append(w, &records[i], &err) == NF_OK, &err);
        if ((i + 1) % per_block == 0)
            check(nf_trace_flush(w, &err) == NF_OK, &err);
    }
    if (finished) {
        check(nf_trace_finish(w, &err) == NF_OK, &err);
    } else {
        check(nf_trace_flush(w, &err) == NF_OK, &err);
        nf_trace_discard(w);
    }
}

/* The plain form that fuzz-trace wraps: a part of a block header, records. */
static void plain(const char *name)
{
    uint8_t head[NF_TB_ZERO - NF_TB_RECORDS] = { 0 }, r[NF_TRACE_RECORD];
    size_t n = sizeof(records) / sizeof(records[0]);
    int fd = create("fuzz-trace", name), ok;

    nf_put_le32(head, (uint32_t)n);
    nf_put_le64(head + NF_TB_FIRST_SEQ - NF_TB_RECORDS, 1);
    nf_put_le64(head + NF_TB_LAST_SEQ - NF_TB_RECORDS, records[n - 1].seq);
    nf_put_le64(head + NF_TB_LAST_NS - NF_TB_RECORDS, 5);
    ok = write(fd, head, sizeof(head)) == sizeof(head);
    for (size_t i = 0; i < n; i++) {
        const struct nf_record *rec = &records[i];

        nf_put_le32(r + NF_TR_TYPE, (uint32_t)rec->type);
        nf_put_le32(r + NF_TR_FLAGS, rec->flags);
        nf_put_le64(r + NF_TR_SEQ, rec->seq);
        nf_put_le64(r + NF_TR_OFFSET, rec->offset);
        nf_put_le64(r + NF_TR_LENGTH, rec->length);
        nf_put_le64(r + NF_TR_TIME, (uint64_t)rec->time_ns);
        nf_put_le64(r + NF_TR_AUX, rec->aux);
        ok = ok && write(fd, r, sizeof(r)) == sizeof(r);
        if (rec->data)
            ok = ok && write(fd, rec->data, rec->length) == (ssize_t)rec->length;
    }
    close(fd);
    if (!ok)
        exit(1);
}

static void logwrites(const char *name, uint32_t sector, int mark)
{
    struct nf_error err = { 0 };
    uint8_t data[4096] = { 'x' };
    int fd = create("fuzz-logwrites", name);
    struct nf_logwrites_writer *w = nf_logwrites_create(fd, sector, &err);

    check(w != NULL, &err);
    check(nf_logwrites_entry(w, NF_LOG_FUA, 3 * sector, sector, &err) == NF_OK, &err);
    check(nf_logwrites_data(w, data, sector, &err) == NF_OK, &err);
    check(nf_logwrites_entry(w, NF_LOG_FLUSH, 0, 0, &err) == NF_OK, &err);
    check(nf_logwrites_entry(w, NF_LOG_DISCARD, 4 * sector, 8 * sector, &err) == NF_OK, &err);
    if (mark)
        check(nf_logwrites_entry(w, NF_LOG_MARK, 0, 0, &err) == NF_OK, &err);
    check(nf_logwrites_finish(w, &err) == NF_OK, &err);
    close(fd);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: make-trace-corpus DIR\n");
        return 2;
    }
    top = argv[1];
    trace("whole", 100, 1);
    trace("blocks", 3, 1);
    trace("no-index", 3, 0);
    plain("plain");
    logwrites("log-512", 512, 0);
    logwrites("log-4096", 4096, 0);
    logwrites("log-mark", 512, 1);
    return 0;
}
