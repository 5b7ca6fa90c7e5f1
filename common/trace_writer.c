/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zstd.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/crc32c.h"
#include "common/trace_format.h"

/* Level 3 keeps up with a disk on one core; traces are read far more often
 * than they are moved, and higher levels gain little on file-system blocks. */
#define LEVEL 3

struct nf_trace_writer {
    int fd;
    char *path;     /* null: given a descriptor, nothing to rename */
    char *tmp_path; /* beside path */
    uint64_t pos;   /* end of what is written */

    uint8_t *plain; /* records of the block being filled */
    size_t plain_len, plain_cap;
    struct nf_trace_block cur;

    uint8_t *packed;
    size_t packed_cap;
    ZSTD_CCtx *zstd;

    struct nf_trace_block *blocks;
    size_t nblocks, blocks_cap;
    uint64_t total_records[NF_TRACE_TYPES], total_bytes[NF_TRACE_TYPES];
    uint64_t last_seq;
    bool any;
};

static int write_all(struct nf_trace_writer *w, const void *data, size_t len, struct nf_error *err)
{
    const uint8_t *p = data;

    while (len > 0) {
        ssize_t n = pwrite(w->fd, p, len, (off_t)w->pos);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return nf_fail(err, NF_EIO, "write trace %s: %s", w->path ? w->path : "",
                           n < 0 ? strerror(errno) : "nothing written");
        p += n;
        len -= (size_t)n;
        w->pos += (uint64_t)n;
    }
    return NF_OK;
}

/* Room for @need bytes in *@buf; doubles, so that appending stays linear. */
static int reserve(uint8_t **buf, size_t *cap, size_t need, struct nf_error *err)
{
    size_t n = *cap ? *cap : 64 * 1024;
    uint8_t *p;

    if (need <= *cap)
        return NF_OK;
    while (n < need)
        n *= 2;
    p = realloc(*buf, n);
    if (!p)
        return nf_fail(err, NF_ENOMEM, "write trace: no memory for a block of %zu bytes", n);
    *buf = p;
    *cap = n;
    return NF_OK;
}

/* Compress @plain and write it as a block whose header has @magic and @b's
 * values; b->pos and b->packed are set. */
static int write_block(struct nf_trace_writer *w, const char *magic, const uint8_t *plain,
                       size_t len, struct nf_trace_block *b, struct nf_error *err)
{
    uint8_t head[NF_TRACE_BLOCK_HEADER] = { 0 };
    size_t n;
    int ret;

    ret = reserve(&w->packed, &w->packed_cap, ZSTD_compressBound(len), err);
    if (ret < 0)
        return ret;
    n = ZSTD_compress2(w->zstd, w->packed, w->packed_cap, plain, len);
    if (ZSTD_isError(n))
        return nf_fail(err, NF_ENOMEM, "write trace: zstd: %s", ZSTD_getErrorName(n));

    b->pos = w->pos;
    b->packed = (uint32_t)n;
    memcpy(head + NF_TB_MAGIC, magic, 4);
    nf_put_le32(head + NF_TB_PACKED, (uint32_t)n);
    nf_put_le32(head + NF_TB_PLAIN, (uint32_t)len);
    nf_put_le32(head + NF_TB_RECORDS, b->records);
    nf_put_le64(head + NF_TB_FIRST_SEQ, b->first_seq);
    nf_put_le64(head + NF_TB_LAST_SEQ, b->last_seq);
    nf_put_le64(head + NF_TB_FIRST_NS, (uint64_t)b->first_ns);
    nf_put_le64(head + NF_TB_LAST_NS, (uint64_t)b->last_ns);
    nf_put_le32(head + NF_TB_PACKED_CRC, nf_crc32c(0, w->packed, n));
    nf_put_le32(head + NF_TB_CRC, nf_crc32c(0, head, NF_TB_CRC));
    ret = write_all(w, head, sizeof(head), err);
    if (ret == NF_OK)
        ret = write_all(w, w->packed, n, err);
    return ret;
}

static int end_block(struct nf_trace_writer *w, struct nf_error *err)
{
    int ret;

    if (w->plain_len == 0)
        return NF_OK;
    if (w->nblocks == w->blocks_cap) {
        size_t cap = w->blocks_cap ? 2 * w->blocks_cap : 64;
        struct nf_trace_block *p = reallocarray(w->blocks, cap, sizeof(*p));

        if (!p)
            return nf_fail(err, NF_ENOMEM, "write trace: no memory for its index");
        w->blocks = p;
        w->blocks_cap = cap;
    }
    ret = write_block(w, NF_TRACE_DATA_MAGIC, w->plain, w->plain_len, &w->cur, err);
    if (ret < 0)
        return ret;
    w->blocks[w->nblocks++] = w->cur;
    memset(&w->cur, 0, sizeof(w->cur));
    w->plain_len = 0;
    return NF_OK;
}

static int write_header(struct nf_trace_writer *w, const struct nf_trace_info *info,
                        struct nf_error *err)
{
    uint8_t head[NF_TRACE_HEADER] = { 0 };
    size_t n = strnlen(info->disk_id, sizeof(info->disk_id));

    if (n == sizeof(info->disk_id))
        return nf_fail(err, NF_EINVAL, "write trace: the disk's name is longer than %zu bytes",
                       sizeof(info->disk_id) - 1);
    if (info->disk_size > INT64_MAX)
        return nf_fail(err, NF_EINVAL, "write trace: a disk of %llu bytes is too large",
                       (unsigned long long)info->disk_size);
    memcpy(head + NF_TH_MAGIC, NF_TRACE_MAGIC, 8);
    nf_put_le16(head + NF_TH_VERSION, NF_TRACE_VERSION);
    nf_put_le16(head + NF_TH_LENGTH, NF_TRACE_HEADER);
    nf_put_le32(head + NF_TH_ORIGIN, (uint32_t)info->origin);
    memcpy(head + NF_TH_EPOCH, info->epoch_uuid, 16);
    nf_put_le64(head + NF_TH_SIZE, info->disk_size);
    nf_put_le64(head + NF_TH_CREATED, (uint64_t)info->created_ns);
    memcpy(head + NF_TH_DISK, info->disk_id, n);
    nf_put_le32(head + NF_TH_CRC, nf_crc32c(0, head, NF_TH_CRC));
    return write_all(w, head, sizeof(head), err);
}

static void writer_free(struct nf_trace_writer *w)
{
    if (!w)
        return;
    if (w->fd >= 0)
        close(w->fd);
    ZSTD_freeCCtx(w->zstd);
    free(w->plain);
    free(w->packed);
    free(w->blocks);
    free(w->path);
    free(w->tmp_path);
    free(w);
}

struct nf_trace_writer *nf_trace_create_fd(int fd, const struct nf_trace_info *info,
                                           struct nf_error *err)
{
    struct nf_trace_writer *w = calloc(1, sizeof(*w));

    if (!w) {
        nf_fail(err, NF_ENOMEM, "write trace: no memory");
        close(fd);
        return NULL;
    }
    w->fd = fd;
    w->zstd = ZSTD_createCCtx();
    if (!w->zstd) {
        nf_fail(err, NF_ENOMEM, "write trace: no memory for zstd");
        writer_free(w);
        return NULL;
    }
    ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_compressionLevel, LEVEL);
    ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_checksumFlag, 1);
    ZSTD_CCtx_setParameter(w->zstd, ZSTD_c_contentSizeFlag, 1);
    if (write_header(w, info, err) < 0) {
        writer_free(w);
        return NULL;
    }
    return w;
}

struct nf_trace_writer *nf_trace_create(const char *path, const struct nf_trace_info *info,
                                        struct nf_error *err)
{
    NF_AUTO_FREE char *tmp = NULL;
    NF_AUTO_FREE char *copy = strdup(path);
    struct nf_trace_writer *w;
    mode_t mask;
    int fd;

    if (!copy || asprintf(&tmp, "%s.partial-XXXXXX", path) < 0) {
        tmp = NULL;
        nf_fail(err, NF_ENOMEM, "create %s: no memory", path);
        return NULL;
    }
    fd = mkostemp(tmp, O_CLOEXEC);
    if (fd < 0) {
        nf_fail(err, NF_EIO, "create %s: %s", path, strerror(errno));
        return NULL;
    }
    /* mkostemp() makes it private; the result is an ordinary file. */
    mask = umask(0);
    umask(mask);
    fchmod(fd, 0666 & ~mask);
    w = nf_trace_create_fd(fd, info, err);
    if (!w) {
        unlink(tmp);
        return NULL;
    }
    w->path = copy;
    w->tmp_path = tmp;
    copy = tmp = NULL;
    return w;
}

/* One record, its payload at most NF_TRACE_MAX_PAYLOAD. */
static int append_part(struct nf_trace_writer *w, const struct nf_record *rec, uint64_t skip,
                       size_t payload, struct nf_error *err)
{
    uint8_t *p;
    uint64_t length = nf_trace_has_payload(rec->type, rec->flags) ? payload : rec->length;
    int ret;

    if (w->plain_len > 0 && w->plain_len + NF_TRACE_RECORD + payload > NF_TRACE_BLOCK_TARGET) {
        ret = end_block(w, err);
        if (ret < 0)
            return ret;
    }
    ret = reserve(&w->plain, &w->plain_cap, w->plain_len + NF_TRACE_RECORD + payload, err);
    if (ret < 0)
        return ret;
    p = w->plain + w->plain_len;
    nf_put_le32(p + NF_TR_TYPE, (uint32_t)rec->type);
    nf_put_le32(p + NF_TR_FLAGS, rec->flags);
    nf_put_le64(p + NF_TR_SEQ, rec->seq);
    nf_put_le64(p + NF_TR_OFFSET, rec->offset + skip);
    nf_put_le64(p + NF_TR_LENGTH, length);
    nf_put_le64(p + NF_TR_TIME, (uint64_t)rec->time_ns);
    nf_put_le64(p + NF_TR_AUX, rec->aux);
    if (payload > 0)
        memcpy(p + NF_TRACE_RECORD, rec->data + skip, payload);
    w->plain_len += NF_TRACE_RECORD + payload;

    if (w->cur.records == 0) {
        w->cur.first_seq = rec->seq;
        w->cur.first_ns = w->cur.last_ns = rec->time_ns;
    }
    w->cur.records++;
    w->cur.last_seq = rec->seq;
    if (rec->time_ns < w->cur.first_ns)
        w->cur.first_ns = rec->time_ns;
    if (rec->time_ns > w->cur.last_ns)
        w->cur.last_ns = rec->time_ns;
    w->total_records[rec->type]++;
    if (__builtin_add_overflow(w->total_bytes[rec->type], length, &w->total_bytes[rec->type]))
        w->total_bytes[rec->type] = UINT64_MAX;
    return NF_OK;
}

int nf_trace_append(struct nf_trace_writer *w, const struct nf_record *rec, struct nf_error *err)
{
    uint64_t skip = 0, left;
    int ret;

    if (!nf_trace_record_ok((uint32_t)rec->type, rec->offset, rec->length))
        return nf_fail(err, NF_EINVAL, "write trace: record %llu: bad type %d or range",
                       (unsigned long long)rec->seq, (int)rec->type);
    if (w->any && rec->seq < w->last_seq)
        return nf_fail(err, NF_EINVAL, "write trace: record %llu comes after %llu",
                       (unsigned long long)rec->seq, (unsigned long long)w->last_seq);
    if (!nf_trace_has_payload(rec->type, rec->flags)) {
        ret = append_part(w, rec, 0, 0, err);
    } else {
        if (rec->length > 0 && !rec->data)
            return nf_fail(err, NF_EINVAL, "write trace: record %llu has no data",
                           (unsigned long long)rec->seq);
        do {
            left = rec->length - skip;
            if (left > NF_TRACE_MAX_PAYLOAD)
                left = NF_TRACE_MAX_PAYLOAD;
            ret = append_part(w, rec, skip, (size_t)left, err);
            skip += left;
        } while (ret == NF_OK && skip < rec->length);
    }
    if (ret == NF_OK) {
        w->any = true;
        w->last_seq = rec->seq;
    }
    return ret;
}

int nf_trace_flush(struct nf_trace_writer *w, struct nf_error *err)
{
    int ret = end_block(w, err);

    if (ret == NF_OK && fdatasync(w->fd) < 0)
        ret = nf_fail(err, NF_EIO, "write trace: fdatasync: %s", strerror(errno));
    return ret;
}

static int write_index(struct nf_trace_writer *w, struct nf_error *err)
{
    NF_AUTO_FREE uint8_t *plain = NULL;
    uint8_t tail[NF_TRACE_TRAILER] = { 0 };
    struct nf_trace_block index = { 0 };
    size_t len = NF_TRACE_TYPES * NF_TRACE_TOTAL + w->nblocks * NF_TRACE_INDEX_ENTRY;
    uint8_t *p;
    int ret;

    plain = malloc(len);
    if (!plain || len > UINT32_MAX)
        return nf_fail(err, NF_ENOMEM, "write trace: no memory for its index");
    p = plain;
    for (size_t i = 0; i < NF_TRACE_TYPES; i++, p += NF_TRACE_TOTAL) {
        nf_put_le64(p, w->total_records[i]);
        nf_put_le64(p + 8, w->total_bytes[i]);
    }
    for (size_t i = 0; i < w->nblocks; i++, p += NF_TRACE_INDEX_ENTRY) {
        const struct nf_trace_block *b = &w->blocks[i];

        nf_put_le64(p + NF_TI_POS, b->pos);
        nf_put_le32(p + NF_TI_PACKED, b->packed);
        nf_put_le32(p + NF_TI_RECORDS, b->records);
        nf_put_le64(p + NF_TI_FIRST_SEQ, b->first_seq);
        nf_put_le64(p + NF_TI_LAST_SEQ, b->last_seq);
        nf_put_le64(p + NF_TI_FIRST_NS, (uint64_t)b->first_ns);
        nf_put_le64(p + NF_TI_LAST_NS, (uint64_t)b->last_ns);
    }
    index.records = (uint32_t)w->nblocks;
    ret = write_block(w, NF_TRACE_INDEX_MAGIC, plain, len, &index, err);
    if (ret < 0)
        return ret;
    memcpy(tail + NF_TT_MAGIC, NF_TRACE_END_MAGIC, 8);
    nf_put_le64(tail + NF_TT_INDEX, index.pos);
    nf_put_le32(tail + NF_TT_CRC, nf_crc32c(0, tail, NF_TT_CRC));
    return write_all(w, tail, sizeof(tail), err);
}

/* Make the rename itself durable. */
static int sync_parent(const char *path, struct nf_error *err)
{
    NF_AUTO_FREE char *copy = strdup(path);
    NF_AUTO_CLOSE int fd = -1;

    if (!copy)
        return nf_fail(err, NF_ENOMEM, "finish %s: no memory", path);
    fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    /* Not every file system can sync a directory (EINVAL): then there is
     * nothing more to do. */
    if (fd >= 0 && fsync(fd) < 0 && errno == EIO)
        return nf_fail(err, NF_EIO, "sync the directory of %s: %s", path, strerror(errno));
    return NF_OK;
}

int nf_trace_finish(struct nf_trace_writer *w, struct nf_error *err)
{
    int ret = end_block(w, err);

    if (ret == NF_OK)
        ret = write_index(w, err);
    if (ret == NF_OK && fdatasync(w->fd) < 0)
        ret = nf_fail(err, NF_EIO, "write trace: fdatasync: %s", strerror(errno));
    if (ret == NF_OK && w->tmp_path && rename(w->tmp_path, w->path) < 0)
        ret = nf_fail(err, NF_EIO, "rename %s to %s: %s", w->tmp_path, w->path, strerror(errno));
    if (ret < 0) {
        nf_trace_discard(w);
        return ret;
    }
    if (w->path)
        ret = sync_parent(w->path, err);
    writer_free(w);
    return ret;
}

void nf_trace_discard(struct nf_trace_writer *w)
{
    if (w && w->tmp_path)
        unlink(w->tmp_path);
    writer_free(w);
}
