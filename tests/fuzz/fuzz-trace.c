/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The native trace reader and, behind it, the image overlay.
 *
 * An input that begins like a trace is one. Any other is put into a trace of
 * one block with all checksums right, so that fuzzing gets past them: 36
 * bytes of the block's header, then its records.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <zstd.h>

#include "common/bytes.h"
#include "common/crc32c.h"
#include "common/image_overlay.h"
#include "common/trace.h"
#include "common/trace_format.h"

static int memory_file(const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    return fd;
}

static int wrap(const uint8_t *data, size_t size)
{
    size_t own = NF_TB_ZERO - NF_TB_RECORDS, cap = ZSTD_compressBound(size), n;
    uint8_t *t = calloc(1, NF_TRACE_HEADER + NF_TRACE_BLOCK_HEADER + cap);
    uint8_t *b = t + NF_TRACE_HEADER, *frame = b + NF_TRACE_BLOCK_HEADER;
    int fd;

    if (!t)
        abort();
    memcpy(t, NF_TRACE_MAGIC, 8);
    nf_put_le16(t + NF_TH_VERSION, NF_TRACE_VERSION);
    nf_put_le16(t + NF_TH_LENGTH, NF_TRACE_HEADER);
    nf_put_le64(t + NF_TH_SIZE, 1u << 24);
    nf_put_le32(t + NF_TH_CRC, nf_crc32c(0, t, NF_TH_CRC));
    memcpy(b, NF_TRACE_DATA_MAGIC, 4);
    memcpy(b + NF_TB_RECORDS, data, own);
    n = ZSTD_compress(frame, cap, data + own, size - own, 1);
    if (ZSTD_isError(n))
        abort();
    nf_put_le32(b + NF_TB_PACKED, (uint32_t)n);
    nf_put_le32(b + NF_TB_PLAIN, (uint32_t)(size - own));
    nf_put_le32(b + NF_TB_PACKED_CRC, nf_crc32c(0, frame, n));
    nf_put_le32(b + NF_TB_CRC, nf_crc32c(0, b, NF_TB_CRC));
    fd = memory_file(t, NF_TRACE_HEADER + NF_TRACE_BLOCK_HEADER + n);
    free(t);
    return fd;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t buf[4096];
    struct nf_error err = { 0 };
    struct nf_trace_reader *r;
    struct nf_image_overlay *o;
    struct nf_image *img;
    struct nf_record rec;
    uint64_t records = 0, last = 0, middle = 0;
    bool raw = size < NF_TB_ZERO - NF_TB_RECORDS || data[0] == (uint8_t)NF_TRACE_MAGIC[0];
    int base, ret;

    r = nf_trace_open_fd(raw ? memory_file(data, size) : wrap(data, size), &err);
    if (!r)
        return 0;
    base = memory_file(data, 0);
    o = nf_image_overlay_new(base, nf_trace_reader_info(r)->disk_size, &err);
    if (!o)
        abort();
    img = nf_image_overlay_image(o);
    if (size & 1)
        nf_image_overlay_read_again(o, r);
    while ((ret = nf_trace_next(r, &rec, &err)) == 1) {
        /* What the header promises: order, and data that can be read. */
        if (rec.seq < last || (rec.data && rec.length > NF_TRACE_MAX_PAYLOAD))
            abort();
        last = rec.seq;
        if (rec.data && rec.length > 0)
            buf[0] = rec.data[0] ^ rec.data[rec.length - 1];
        if (++records == 3)
            middle = rec.seq;
        /* Small positions only: sparse files have their own limits. */
        if (rec.offset < 1u << 30 && rec.length < 1u << 20)
            nf_image_overlay_apply(o, &rec, &err);
        if (img->size >= sizeof(buf))
            img->read(img, rec.offset % (img->size - sizeof(buf) + 1), buf, sizeof(buf), &err);
    }
    if (ret == 0) {
        if (nf_trace_reader_info(r)->records != records)
            abort();
        if (nf_trace_seek(r, middle, &err) == NF_OK && records >= 3 &&
            (nf_trace_next(r, &rec, &err) != 1 || rec.seq != middle))
            abort();
    }
    nf_image_overlay_free(o);
    close(base);
    nf_trace_close(r);
    return 0;
}
