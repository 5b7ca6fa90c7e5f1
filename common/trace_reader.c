/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/trace.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <zstd.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/crc32c.h"
#include "common/pread_full.h"
#include "common/trace_format.h"

typedef unsigned long long ull;

/* A decompressed block. */
struct plain {
    uint8_t *data;
    size_t len, cap;
    size_t block; /* its number */
};

#define AGAIN_BLOCKS 4u
#define AGAIN_LARGE (4u << 20) /* of these, one at a time is kept */

struct nf_trace_reader {
    int fd;
    uint64_t file_size;
    struct nf_trace_info info;

    /* All data blocks in file order: from the index, or found by hopping from
     * header to header. Bounded by file_size / NF_TRACE_BLOCK_HEADER. */
    struct nf_trace_block *blocks;
    size_t nblocks, blocks_cap;

    /* What stands where the scan could not go on: reported when reading gets
     * there, so that everything before it can still be read. */
    struct nf_error scan_error;

    size_t next_block;      /* to load when the current one is used up */
    struct plain plain;     /* the current block */
    size_t pos;             /* in plain */
    uint32_t left;          /* records in plain from pos on */
    uint64_t last_seq;      /* of the record before pos, or the block's least */

    struct plain again[AGAIN_BLOCKS]; /* read again; len 0: none */
    size_t again_next;                /* to be replaced */

    uint8_t *packed;
    size_t packed_cap;
    ZSTD_DCtx *zstd;
    struct nf_error failed; /* final, once its code is not 0 */
};

/* What a block header says, checked only in itself. */
struct block_head {
    uint32_t packed, plain, records, packed_crc;
    uint64_t first_seq, last_seq;
    int64_t first_ns, last_ns;
    bool index;
};

/* Exactly @len bytes at @pos; the caller knows that they are in the file. */
static int read_at(struct nf_trace_reader *r, uint64_t pos, void *buf, size_t len,
                   struct nf_error *err)
{
    ssize_t n = nf_pread_full(r->fd, buf, len, pos);

    if (n < 0)
        return nf_fail(err, NF_EIO, "read trace: %s", strerror(errno));
    if ((size_t)n < len)
        return nf_fail(err, NF_EFORMAT, "trace: became shorter while being read");
    return NF_OK;
}

static int reserve(uint8_t **buf, size_t *cap, size_t need, struct nf_error *err)
{
    uint8_t *p;

    if (need <= *cap)
        return NF_OK;
    p = realloc(*buf, need);
    if (!p)
        return nf_fail(err, NF_ENOMEM, "read trace: no memory for a block of %zu bytes", need);
    *buf = p;
    *cap = need;
    return NF_OK;
}

static int read_header(struct nf_trace_reader *r, struct nf_error *err)
{
    uint8_t head[NF_TRACE_HEADER];
    uint64_t have = r->file_size < sizeof(head) ? r->file_size : sizeof(head);
    int ret = read_at(r, 0, head, (size_t)have, err);

    if (ret < 0)
        return ret;
    if (have < 8 || memcmp(head + NF_TH_MAGIC, NF_TRACE_MAGIC, 8) != 0)
        return nf_fail(err, NF_EFORMAT, "not a Nearfield trace");
    if (have < sizeof(head))
        return nf_fail(err, NF_EFORMAT, "trace: cut off within its header");
    /* The version first: another one may have another header. */
    if (nf_le16(head + NF_TH_VERSION) != NF_TRACE_VERSION)
        return nf_fail(err, NF_EUNSUPPORTED, "trace: version %u, this program reads version %u",
                       nf_le16(head + NF_TH_VERSION), NF_TRACE_VERSION);
    if (nf_le32(head + NF_TH_CRC) != nf_crc32c(0, head, NF_TH_CRC))
        return nf_fail(err, NF_EFORMAT, "trace: damaged header (wrong checksum)");
    if (nf_le16(head + NF_TH_LENGTH) != NF_TRACE_HEADER || head[NF_TH_DISK + 255] != 0 ||
        nf_le64(head + NF_TH_SIZE) > INT64_MAX ||
        !nf_is_zero(head + NF_TH_ZERO, NF_TH_CRC - NF_TH_ZERO))
        return nf_fail(err, NF_EFORMAT, "trace: impossible values in its header");
    memcpy(r->info.epoch_uuid, head + NF_TH_EPOCH, 16);
    r->info.disk_size = nf_le64(head + NF_TH_SIZE);
    r->info.created_ns = (int64_t)nf_le64(head + NF_TH_CREATED);
    r->info.origin = (enum nf_trace_origin)nf_le32(head + NF_TH_ORIGIN);
    memcpy(r->info.disk_id, head + NF_TH_DISK, 256);
    return NF_OK;
}

/* The block header at @pos, if all of the block lies before @end.
 * 1: read; 0: header or block reach beyond @end; negative: broken. */
static int read_block_head(struct nf_trace_reader *r, uint64_t pos, uint64_t end,
                           struct block_head *h, struct nf_error *err)
{
    uint8_t b[NF_TRACE_BLOCK_HEADER];
    uint64_t max_plain = NF_TRACE_MAX_PLAIN;
    int ret;

    if (pos > end || end - pos < sizeof(b))
        return 0;
    ret = read_at(r, pos, b, sizeof(b), err);
    if (ret < 0)
        return ret;
    h->index = memcmp(b + NF_TB_MAGIC, NF_TRACE_INDEX_MAGIC, 4) == 0;
    if (!h->index && memcmp(b + NF_TB_MAGIC, NF_TRACE_DATA_MAGIC, 4) != 0)
        return nf_fail(err, NF_EFORMAT, "trace: no block at byte %llu", (ull)pos);
    if (nf_le32(b + NF_TB_CRC) != nf_crc32c(0, b, NF_TB_CRC))
        return nf_fail(err, NF_EFORMAT, "trace: damaged block header at byte %llu", (ull)pos);
    h->packed = nf_le32(b + NF_TB_PACKED);
    h->plain = nf_le32(b + NF_TB_PLAIN);
    h->records = nf_le32(b + NF_TB_RECORDS);
    h->first_seq = nf_le64(b + NF_TB_FIRST_SEQ);
    h->last_seq = nf_le64(b + NF_TB_LAST_SEQ);
    h->first_ns = (int64_t)nf_le64(b + NF_TB_FIRST_NS);
    h->last_ns = (int64_t)nf_le64(b + NF_TB_LAST_NS);
    h->packed_crc = nf_le32(b + NF_TB_PACKED_CRC);

    /* The writer's own limits, so that nothing below needs more memory than
     * one block of its can have. An index can be as long as its entries. */
    if (h->index)
        max_plain = NF_TRACE_TYPES * NF_TRACE_TOTAL +
                    r->file_size / NF_TRACE_BLOCK_HEADER * NF_TRACE_INDEX_ENTRY;
    if (h->plain > max_plain || h->packed > ZSTD_compressBound(h->plain) ||
        !nf_is_zero(b + NF_TB_ZERO, NF_TB_PACKED_CRC - NF_TB_ZERO) ||
        (h->index && h->plain != NF_TRACE_TYPES * NF_TRACE_TOTAL +
                                     (uint64_t)h->records * NF_TRACE_INDEX_ENTRY) ||
        (!h->index && (h->records == 0 || (uint64_t)h->records * NF_TRACE_RECORD > h->plain ||
                       h->first_seq > h->last_seq || h->first_ns > h->last_ns)))
        return nf_fail(err, NF_EFORMAT, "trace: impossible values in the block at byte %llu",
                       (ull)pos);
    return h->packed <= end - pos - sizeof(b);
}

/* Decompress the block that @h heads at @pos. */
static int load_block(struct nf_trace_reader *r, uint64_t pos, const struct block_head *h,
                      struct plain *to, struct nf_error *err)
{
    size_t n;
    int ret;

    to->len = 0;
    ret = reserve(&r->packed, &r->packed_cap, h->packed, err);
    if (ret == NF_OK)
        ret = read_at(r, pos + NF_TRACE_BLOCK_HEADER, r->packed, h->packed, err);
    if (ret < 0)
        return ret;
    if (nf_crc32c(0, r->packed, h->packed) != h->packed_crc)
        return nf_fail(err, NF_EFORMAT, "trace: damaged block at byte %llu (wrong checksum)",
                       (ull)pos);
    /* The sizes were chosen by whoever wrote the file: believe them only if
     * the frame says the same, before memory is taken for them. */
    if (ZSTD_getFrameContentSize(r->packed, h->packed) != h->plain)
        return nf_fail(err, NF_EFORMAT, "trace: block at byte %llu does not hold what it says",
                       (ull)pos);
    ret = reserve(&to->data, &to->cap, h->plain, err);
    if (ret < 0)
        return ret;
    n = ZSTD_decompressDCtx(r->zstd, to->data, h->plain, r->packed, h->packed);
    if (ZSTD_isError(n) || n != h->plain)
        return nf_fail(err, NF_EFORMAT, "trace: block at byte %llu: zstd: %s", (ull)pos,
                       ZSTD_isError(n) ? ZSTD_getErrorName(n) : "wrong length");
    to->len = n;
    return NF_OK;
}

static int add_block(struct nf_trace_reader *r, const struct nf_trace_block *b,
                     struct nf_error *err)
{
    if (r->nblocks == r->blocks_cap) {
        size_t cap = r->blocks_cap ? 2 * r->blocks_cap : 64;
        struct nf_trace_block *p = reallocarray(r->blocks, cap, sizeof(*p));

        if (!p)
            return nf_fail(err, NF_ENOMEM, "read trace: no memory for its index");
        r->blocks = p;
        r->blocks_cap = cap;
    }
    if (r->nblocks == 0) {
        r->info.first_seq = b->first_seq;
        r->info.first_ns = b->first_ns;
        r->info.last_ns = b->last_ns;
    }
    r->info.last_seq = b->last_seq;
    if (b->first_ns < r->info.first_ns)
        r->info.first_ns = b->first_ns;
    if (b->last_ns > r->info.last_ns)
        r->info.last_ns = b->last_ns;
    r->info.records += b->records;
    r->blocks[r->nblocks++] = *b;
    return NF_OK;
}

/* Where the index is, by the trailer. 1: found; 0: there is no trailer (the
 * recording was cut off, or the trailer is damaged: scan() tells). */
static int find_index(struct nf_trace_reader *r, uint64_t *pos, struct nf_error *err)
{
    uint8_t tail[NF_TRACE_TRAILER];
    int ret;

    if (r->file_size < NF_TRACE_HEADER + NF_TRACE_BLOCK_HEADER + NF_TRACE_TRAILER)
        return 0;
    ret = read_at(r, r->file_size - sizeof(tail), tail, sizeof(tail), err);
    if (ret < 0)
        return ret;
    if (memcmp(tail + NF_TT_MAGIC, NF_TRACE_END_MAGIC, 8) != 0 ||
        nf_le32(tail + NF_TT_CRC) != nf_crc32c(0, tail, NF_TT_CRC) ||
        !nf_is_zero(tail + NF_TT_ZERO, NF_TT_CRC - NF_TT_ZERO))
        return 0;
    *pos = nf_le64(tail + NF_TT_INDEX);
    return 1;
}

static int read_index(struct nf_trace_reader *r, uint64_t pos, struct nf_error *err)
{
    uint64_t end = r->file_size - NF_TRACE_TRAILER;
    uint64_t at = NF_TRACE_HEADER, seq = 0;
    struct block_head h;
    const uint8_t *p;
    int ret;

    ret = read_block_head(r, pos, end, &h, err);
    if (ret < 0)
        return ret;
    if (ret == 0 || !h.index || pos + NF_TRACE_BLOCK_HEADER + h.packed != end)
        return nf_fail(err, NF_EFORMAT, "trace: its trailer points at no index");
    ret = load_block(r, pos, &h, &r->plain, err);
    if (ret < 0)
        return ret;
    p = r->plain.data;
    for (size_t i = 0; i < NF_TRACE_TYPES; i++, p += NF_TRACE_TOTAL) {
        r->info.totals[i].records = nf_le64(p);
        r->info.totals[i].bytes = nf_le64(p + 8);
    }
    for (uint32_t i = 0; i < h.records; i++, p += NF_TRACE_INDEX_ENTRY) {
        struct nf_trace_block b = {
            .pos = nf_le64(p + NF_TI_POS),
            .packed = nf_le32(p + NF_TI_PACKED),
            .records = nf_le32(p + NF_TI_RECORDS),
            .first_seq = nf_le64(p + NF_TI_FIRST_SEQ),
            .last_seq = nf_le64(p + NF_TI_LAST_SEQ),
            .first_ns = (int64_t)nf_le64(p + NF_TI_FIRST_NS),
            .last_ns = (int64_t)nf_le64(p + NF_TI_LAST_NS),
        };

        /* Blocks follow each other without a hole, so that the index and the
         * chain of headers cannot tell two different stories. */
        if (b.pos != at || b.first_seq < seq || b.last_seq < b.first_seq)
            return nf_fail(err, NF_EFORMAT, "trace: entry %u of its index is impossible", i);
        at += NF_TRACE_BLOCK_HEADER + (uint64_t)b.packed;
        if (at > pos)
            return nf_fail(err, NF_EFORMAT, "trace: entry %u of its index is impossible", i);
        seq = b.last_seq;
        ret = add_block(r, &b, err);
        if (ret < 0)
            return ret;
    }
    if (at != pos)
        return nf_fail(err, NF_EFORMAT, "trace: its index does not list all blocks");
    r->info.has_index = true;
    return NF_OK;
}

/* Is everything from @pos on zeros? What a file system shows for a tail that
 * was allocated but not yet written when the machine stopped. */
static int zeros_from(struct nf_trace_reader *r, uint64_t pos, struct nf_error *err)
{
    uint8_t buf[16384];

    while (pos < r->file_size) {
        uint64_t left = r->file_size - pos;
        size_t n = left < sizeof(buf) ? (size_t)left : sizeof(buf);
        int ret = read_at(r, pos, buf, n, err);

        if (ret < 0)
            return ret;
        if (!nf_is_zero(buf, n))
            return 0;
        pos += n;
    }
    return 1;
}

/* Without an index: hop from block header to block header. */
static int scan(struct nf_trace_reader *r, struct nf_error *err)
{
    uint64_t pos = NF_TRACE_HEADER, seq = 0;

    while (pos < r->file_size) {
        struct nf_trace_block b = { .pos = pos };
        struct block_head h;
        int ret = read_block_head(r, pos, r->file_size, &h, &r->scan_error);

        if (ret == NF_EFORMAT) {
            ret = zeros_from(r, pos, err);
            if (ret < 0)
                return ret;
            if (ret == 1)
                r->scan_error.code = NF_OK;
            break;
        }
        if (ret < 0)
            return nf_fail(err, ret, "%s", r->scan_error.text);
        if (ret == 0)
            break;
        if (h.index) {
            /* All of the index and room for a trailer, yet none was found. */
            if (r->file_size - pos - NF_TRACE_BLOCK_HEADER - h.packed >= NF_TRACE_TRAILER)
                nf_fail(&r->scan_error, NF_EFORMAT, "trace: damaged trailer");
            break;
        }
        if (h.first_seq < seq) {
            nf_fail(&r->scan_error, NF_EFORMAT, "trace: block at byte %llu goes back in seq",
                    (ull)pos);
            break;
        }
        seq = h.last_seq;
        b.packed = h.packed;
        b.records = h.records;
        b.first_seq = h.first_seq;
        b.last_seq = h.last_seq;
        b.first_ns = h.first_ns;
        b.last_ns = h.last_ns;
        ret = add_block(r, &b, err);
        if (ret < 0)
            return ret;
        pos += NF_TRACE_BLOCK_HEADER + (uint64_t)h.packed;
    }
    r->info.torn = r->file_size - pos;
    return NF_OK;
}

struct nf_trace_reader *nf_trace_open_fd(int fd, struct nf_error *err)
{
    struct nf_trace_reader *r = calloc(1, sizeof(*r));
    struct stat st;
    uint64_t index = 0;
    int ret;

    if (!r) {
        nf_fail(err, NF_ENOMEM, "read trace: no memory");
        close(fd);
        return NULL;
    }
    r->fd = fd;
    if (fstat(fd, &st) < 0) {
        nf_fail(err, NF_EIO, "stat: %s", strerror(errno));
        goto fail;
    }
    if (!S_ISREG(st.st_mode)) {
        nf_fail(err, NF_EINVAL, "a trace must be a regular file");
        goto fail;
    }
    r->file_size = (uint64_t)st.st_size;
    r->zstd = ZSTD_createDCtx();
    if (!r->zstd) {
        nf_fail(err, NF_ENOMEM, "read trace: no memory for zstd");
        goto fail;
    }
    ret = read_header(r, err);
    if (ret == NF_OK)
        ret = find_index(r, &index, err);
    if (ret == 1)
        ret = read_index(r, index, err);
    else if (ret == 0)
        ret = scan(r, err);
    if (ret < 0)
        goto fail;
    r->plain.len = 0;
    return r;
fail:
    nf_trace_close(r);
    return NULL;
}

struct nf_trace_reader *nf_trace_open(const char *path, struct nf_error *err)
{
    /* O_NONBLOCK: a FIFO is refused, not waited for. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    struct nf_trace_reader *r;

    if (fd < 0) {
        nf_fail(err, NF_EIO, "open %s: %s", path, strerror(errno));
        return NULL;
    }
    r = nf_trace_open_fd(fd, err);
    if (!r)
        nf_fail_prefix(err, "%s", path);
    return r;
}

void nf_trace_close(struct nf_trace_reader *r)
{
    if (!r)
        return;
    close(r->fd);
    ZSTD_freeDCtx(r->zstd);
    free(r->plain.data);
    for (size_t i = 0; i < AGAIN_BLOCKS; i++)
        free(r->again[i].data);
    free(r->packed);
    free(r->blocks);
    free(r);
}

const struct nf_trace_info *nf_trace_reader_info(const struct nf_trace_reader *r)
{
    return &r->info;
}

/* Block number @number, which must be what was said of it. */
static int read_block(struct nf_trace_reader *r, size_t number, struct block_head *h,
                      struct plain *to, struct nf_error *err)
{
    const struct nf_trace_block *b = &r->blocks[number];
    int ret = read_block_head(r, b->pos, r->file_size, h, err);

    if (ret < 0)
        return ret;
    if (ret == 0 || h->index || h->packed != b->packed || h->records != b->records ||
        h->first_seq != b->first_seq || h->last_seq != b->last_seq ||
        h->first_ns != b->first_ns || h->last_ns != b->last_ns)
        return nf_fail(err, NF_EFORMAT, "trace: the block at byte %llu is not the index's",
                       (ull)b->pos);
    ret = load_block(r, b->pos, h, to, err);
    to->block = number;
    return ret;
}

/* Make block number r->next_block the current one. 1, 0 at the end, negative. */
static int next_block(struct nf_trace_reader *r, struct nf_error *err)
{
    struct block_head h;
    int ret;

    if (r->next_block == r->nblocks) {
        if (r->scan_error.code < 0)
            return nf_fail(err, r->scan_error.code, "%s", r->scan_error.text);
        return 0;
    }
    ret = read_block(r, r->next_block, &h, &r->plain, err);
    if (ret < 0)
        return ret;
    r->next_block++;
    r->pos = 0;
    r->left = h.records;
    r->last_seq = h.first_seq;
    return 1;
}

static int decode(struct nf_trace_reader *r, struct nf_record *rec, struct nf_error *err)
{
    const struct nf_trace_block *b = &r->blocks[r->next_block - 1];
    const uint8_t *p = r->plain.data + r->pos;
    size_t avail = r->plain.len - r->pos;
    uint32_t type;

    /* All records' headers fit, by the check of the block header, but their
     * payloads may have used up the space. */
    if (avail < NF_TRACE_RECORD)
        return nf_fail(err, NF_EFORMAT, "trace: block at byte %llu ends within a record",
                       (ull)b->pos);
    type = nf_le32(p + NF_TR_TYPE);
    *rec = (struct nf_record){
        .seq = nf_le64(p + NF_TR_SEQ),
        .flags = nf_le32(p + NF_TR_FLAGS),
        .offset = nf_le64(p + NF_TR_OFFSET),
        .length = nf_le64(p + NF_TR_LENGTH),
        .time_ns = (int64_t)nf_le64(p + NF_TR_TIME),
        .aux = nf_le64(p + NF_TR_AUX),
    };
    if (!nf_trace_record_ok(type, rec->offset, rec->length))
        return nf_fail(err, NF_EFORMAT, "trace: record %llu: bad type %u or range",
                       (ull)rec->seq, type);
    rec->type = (enum nf_record_type)type;
    if (rec->seq < r->last_seq || rec->seq > b->last_seq || rec->time_ns < b->first_ns ||
        rec->time_ns > b->last_ns)
        return nf_fail(err, NF_EFORMAT, "trace: record %llu is not one of its block",
                       (ull)rec->seq);
    r->pos += NF_TRACE_RECORD;
    avail -= NF_TRACE_RECORD;
    if (nf_trace_has_payload(type, rec->flags)) {
        if (rec->length > avail || rec->length > NF_TRACE_MAX_PAYLOAD)
            return nf_fail(err, NF_EFORMAT, "trace: record %llu is longer than its block",
                           (ull)rec->seq);
        rec->data = p + NF_TRACE_RECORD;
        r->pos += (size_t)rec->length;
    }
    r->last_seq = rec->seq;
    r->left--;
    if (r->left == 0 && (r->pos != r->plain.len || rec->seq != b->last_seq))
        return nf_fail(err, NF_EFORMAT, "trace: block at byte %llu holds more than its records",
                       (ull)b->pos);
    return 1;
}

static int next(struct nf_trace_reader *r, struct nf_record *rec, struct nf_error *err)
{
    if (r->left == 0) {
        int ret = next_block(r, err);

        if (ret <= 0)
            return ret;
    }
    return decode(r, rec, err);
}

int nf_trace_next(struct nf_trace_reader *r, struct nf_record *rec, struct nf_error *err)
{
    int ret;

    if (r->failed.code == NF_OK) {
        ret = next(r, rec, &r->failed);
        if (ret >= 0)
            return ret;
    }
    return nf_fail(err, r->failed.code, "%s", r->failed.text);
}

/* Number of the block and place in it; never 0, for a record begins before it. */
uint64_t nf_trace_where(const struct nf_trace_reader *r, const struct nf_record *rec)
{
    uintptr_t at = (uintptr_t)rec->data - (uintptr_t)r->plain.data;

    if (!rec->data || at >= r->plain.len || rec->length > r->plain.len - at ||
        r->plain.block > UINT32_MAX)
        return 0;
    return (uint64_t)r->plain.block << 32 | at;
}

int nf_trace_again(struct nf_trace_reader *r, uint64_t where, void *buf, size_t len,
                   struct nf_error *err)
{
    struct plain *p = &r->plain;
    size_t number = where >> 32, at = (uint32_t)where;

    if (number >= r->nblocks)
        return nf_fail(err, NF_EINVAL, "trace: no block %zu", number);
    for (size_t i = 0; (!p->len || p->block != number) && i < AGAIN_BLOCKS; i++)
        p = &r->again[i];
    if (!p->len || p->block != number) {
        struct block_head h;
        int ret;

        p = &r->again[r->again_next++ % AGAIN_BLOCKS];
        ret = read_block(r, number, &h, p, err);
        if (ret < 0)
            return ret;
        for (size_t i = 0; p->cap > AGAIN_LARGE && i < AGAIN_BLOCKS; i++) {
            if (&r->again[i] != p && r->again[i].cap > AGAIN_LARGE) {
                free(r->again[i].data);
                r->again[i] = (struct plain){0};
            }
        }
    }
    if (at > p->len || len > p->len - at)
        return nf_fail(err, NF_EINVAL, "trace: block %zu ends before byte %zu", number, at + len);
    memcpy(buf, p->data + at, len);
    return NF_OK;
}

int nf_trace_seek(struct nf_trace_reader *r, uint64_t seq, struct nf_error *err)
{
    size_t lo = 0, hi = r->nblocks;

    if (r->failed.code < 0)
        return nf_fail(err, r->failed.code, "%s", r->failed.text);
    /* The first block that holds seq or more. */
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (r->blocks[mid].last_seq < seq)
            lo = mid + 1;
        else
            hi = mid;
    }
    r->next_block = lo;
    r->left = 0;
    r->pos = r->plain.len = 0;
    if (lo == r->nblocks)
        return NF_OK;
    for (;;) {
        struct nf_record rec;
        size_t pos = r->pos;
        uint32_t left = r->left;
        uint64_t last = r->last_seq;
        int ret = nf_trace_next(r, &rec, err);

        if (ret <= 0)
            return ret;
        if (rec.seq >= seq) {
            /* Un-read it: it is in the current block, also when it is the
             * block's first. */
            r->pos = left ? pos : 0;
            r->last_seq = left ? last : rec.seq;
            r->left++;
            return NF_OK;
        }
    }
}
