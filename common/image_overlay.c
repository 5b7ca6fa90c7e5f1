/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/image_overlay.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/pread_full.h"
#include "common/rangeset.h"

typedef unsigned long long ull;

struct nf_image_overlay {
    struct nf_image image; /* first: the image's functions cast back */
    int base_fd;
    uint64_t base_end; /* of the base's bytes that still count */
    int tmp_fd;
    uint64_t tmp_end;           /* highest byte ever stored in it */
    struct nf_rangeset covered; /* what is not the base's any more */

    /* Where the trace has a sector: nf_trace_where() of each, in a sparse file, for
     * a disk can be large. 0: the temporary file has it. */
    struct nf_trace_reader *trace;
    int where_fd;
    uint64_t where_end; /* as tmp_end */
};

#define SECTOR 512u
#define WHERES 1024u /* sectors at a time */

static int write_all(int fd, const uint8_t *p, uint64_t len, uint64_t pos, struct nf_error *err)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len < (1u << 30) ? (size_t)len : 1u << 30, (off_t)pos);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return nf_fail(err, NF_EIO, "write to the overlay's temporary file: %s",
                           strerror(n < 0 ? errno : ENOSPC));
        p += n;
        pos += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return NF_OK;
}

/* Bytes at @pos; what lies behind the end of the file reads as zeros. */
static int read_some(int fd, const char *what, uint8_t *p, size_t len, uint64_t pos,
                     struct nf_error *err)
{
    ssize_t n = nf_pread_full(fd, p, len, pos);

    if (n < 0)
        return nf_fail(err, NF_EIO, "read %s at byte %llu: %s", what, (ull)pos, strerror(errno));
    memset(p + n, 0, len - (size_t)n);
    return NF_OK;
}

/* Where @n sectors are, from number @first on. */
static int get_where(struct nf_image_overlay *o, uint64_t first, uint64_t *where, size_t n,
                     struct nf_error *err)
{
    return read_some(o->where_fd, "the overlay's temporary file", (uint8_t *)where,
                     n * sizeof(*where), first * sizeof(*where), err);
}

/* Bytes that are covered. */
static int read_covered(struct nf_image_overlay *o, uint8_t *p, size_t len, uint64_t pos,
                        struct nf_error *err)
{
    uint64_t where[WHERES];
    int ret = 0;

    while (ret == 0 && len > 0) {
        uint64_t first = pos / SECTOR, left = (pos + len + SECTOR - 1) / SECTOR - first;
        size_t n = left < WHERES ? (size_t)left : WHERES;

        if (pos / SECTOR * sizeof(where[0]) >= o->where_end)
            return read_some(o->tmp_fd, "the overlay's temporary file", p, len, pos, err);
        ret = get_where(o, first, where, n, err);
        for (size_t i = 0, run; ret == 0 && i < n; i += run) {
            uint64_t end;
            size_t bytes;

            /* What lies together is read together. */
            for (run = 1; i + run < n &&
                          where[i + run] == (where[i] ? where[i] + run * SECTOR : 0); run++)
                ;
            end = (first + i + run) * SECTOR;
            bytes = end - pos < len ? (size_t)(end - pos) : len;
            if (where[i])
                ret = nf_trace_again(o->trace, where[i] + pos % SECTOR, p, bytes, err);
            else
                ret = read_some(o->tmp_fd, "the overlay's temporary file", p, bytes, pos, err);
            p += bytes;
            pos += bytes;
            len -= bytes;
        }
    }
    return ret;
}

static int overlay_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                        struct nf_error *err)
{
    struct nf_image_overlay *o = (struct nf_image_overlay *)img;
    uint8_t *p = buf;

    if (offset > img->size || len > img->size - offset)
        return nf_fail(err, NF_EINVAL, "read of %zu bytes at %llu is beyond the disk's %llu", len,
                       (ull)offset, (ull)img->size);
    while (len > 0) {
        struct nf_range r;
        uint64_t end = offset + len;
        size_t n;
        int ret;

        if (nf_rangeset_next(&o->covered, offset, &r) && r.start <= offset) {
            n = (size_t)((r.end < end ? r.end : end) - offset);
            ret = read_covered(o, p, n, offset, err);
        } else {
            if (nf_rangeset_next(&o->covered, offset, &r) && r.start < end)
                end = r.start;
            if (offset < o->base_end && o->base_end < end)
                end = o->base_end;
            n = (size_t)(end - offset);
            ret = NF_OK;
            if (offset < o->base_end)
                ret = read_some(o->base_fd, "the base image", p, n, offset, err);
            else
                memset(p, 0, n);
        }
        if (ret < 0)
            return ret;
        p += n;
        offset += n;
        len -= n;
    }
    return 0;
}

static void overlay_image_free(struct nf_image *img)
{
    (void)img; /* part of the overlay */
}

static int make_temporary(struct nf_error *err)
{
    const char *dir = getenv("TMPDIR");
    NF_AUTO_FREE char *path = NULL;
    int fd;

    if (!dir || !*dir)
        dir = "/var/tmp";
    fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd >= 0)
        return fd;
    /* Not every file system has O_TMPFILE. */
    if (asprintf(&path, "%s/nf-overlay.XXXXXX", dir) < 0) {
        path = NULL;
        return nf_fail(err, NF_ENOMEM, "overlay: no memory");
    }
    fd = mkostemp(path, O_CLOEXEC);
    if (fd < 0)
        return nf_fail(err, NF_EIO, "create a temporary file in %s: %s", dir, strerror(errno));
    unlink(path);
    return fd;
}

struct nf_image_overlay *nf_image_overlay_new(int base_fd, uint64_t disk_size,
                                              struct nf_error *err)
{
    struct nf_image_overlay *o;
    off_t end = lseek(base_fd, 0, SEEK_END);

    if (end < 0) {
        nf_fail(err, NF_EIO, "size of the base image: %s", strerror(errno));
        return NULL;
    }
    if (disk_size > INT64_MAX) {
        nf_fail(err, NF_EINVAL, "a disk of %llu bytes is too large", (ull)disk_size);
        return NULL;
    }
    o = calloc(1, sizeof(*o));
    if (!o) {
        nf_fail(err, NF_ENOMEM, "overlay: no memory");
        return NULL;
    }
    o->covered = (struct nf_rangeset)NF_RANGESET_INIT;
    o->image.size = disk_size;
    o->image.read = overlay_read;
    o->image.free = overlay_image_free;
    o->base_fd = base_fd;
    o->base_end = (uint64_t)end < disk_size ? (uint64_t)end : disk_size;
    o->tmp_fd = make_temporary(err);
    o->where_fd = o->tmp_fd < 0 ? -1 : make_temporary(err);
    if (o->where_fd < 0) {
        if (o->tmp_fd >= 0)
            close(o->tmp_fd);
        free(o);
        return NULL;
    }
    return o;
}

void nf_image_overlay_free(struct nf_image_overlay *o)
{
    if (!o)
        return;
    close(o->tmp_fd);
    close(o->where_fd);
    nf_rangeset_release(&o->covered);
    free(o);
}

/* Make the range zeros in a temporary file. */
static int store_zeros(int fd, uint64_t file_end, uint64_t start, uint64_t end,
                       struct nf_error *err)
{
    static const uint8_t zeros[65536];

    /* Behind what was ever stored there are only zeros, so that the work is
     * bounded by what was written, not by what a record claims. */
    if (end > file_end)
        end = file_end;
    if (start >= end)
        return NF_OK;
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start,
                  (off_t)(end - start)) == 0)
        return NF_OK;
    while (start < end) {
        uint64_t n = end - start < sizeof(zeros) ? end - start : sizeof(zeros);
        int ret = write_all(fd, zeros, n, start, err);

        if (ret < 0)
            return ret;
        start += n;
    }
    return NF_OK;
}

static int store(struct nf_image_overlay *o, const uint8_t *data, uint64_t start, uint64_t end,
                 struct nf_error *err)
{
    /* Before the write: a part of it may be stored when it fails. */
    if (end > o->tmp_end)
        o->tmp_end = end;
    return write_all(o->tmp_fd, data, end - start, start, err);
}

/* Of the sector around @pos only a part will change: it must be in the temporary file. */
static int store_sector(struct nf_image_overlay *o, uint64_t pos, struct nf_error *err)
{
    uint64_t where = 0, start = pos / SECTOR * SECTOR;
    uint8_t buf[SECTOR];
    int ret = 0;

    if (start / SECTOR * sizeof(where) < o->where_end)
        ret = get_where(o, start / SECTOR, &where, 1, err);
    if (ret < 0 || !where)
        return ret;
    ret = nf_trace_again(o->trace, where, buf, sizeof(buf), err);
    return ret < 0 ? ret : store(o, buf, start, start + SECTOR, err);
}

/* The trace is not where bytes [@start, @end) are any more. */
static int forget_where(struct nf_image_overlay *o, uint64_t start, uint64_t end,
                        struct nf_error *err)
{
    uint64_t last = end / SECTOR + (end % SECTOR != 0);
    int ret = 0;

    if (start % SECTOR)
        ret = store_sector(o, start, err);
    if (ret == 0 && end % SECTOR && (end / SECTOR != start / SECTOR || start % SECTOR == 0))
        ret = store_sector(o, end, err);
    return ret < 0 ? ret : store_zeros(o->where_fd, o->where_end, start / SECTOR * 8, last * 8, err);
}

static int write_copy(struct nf_image_overlay *o, const uint8_t *data, uint64_t start,
                      uint64_t end, struct nf_error *err)
{
    int ret = start < end ? forget_where(o, start, end, err) : 0;

    return ret == 0 && start < end ? store(o, data, start, end, err) : ret;
}

/* Note where whole sectors are. */
static int write_where(struct nf_image_overlay *o, uint64_t where, uint64_t first, uint64_t last,
                       struct nf_error *err)
{
    uint64_t buf[WHERES];
    int ret = 0;

    if (last * sizeof(buf[0]) > o->where_end)
        o->where_end = last * sizeof(buf[0]);
    while (ret == 0 && first < last) {
        size_t n = last - first < WHERES ? (size_t)(last - first) : WHERES;

        for (size_t i = 0; i < n; i++, where += SECTOR)
            buf[i] = where;
        ret = write_all(o->where_fd, (const uint8_t *)buf, n * sizeof(buf[0]),
                        first * sizeof(buf[0]), err);
        first += n;
    }
    return ret;
}

static int write_record(struct nf_image_overlay *o, const struct nf_record *rec, uint64_t end,
                        struct nf_error *err)
{
    uint64_t where = o->trace ? nf_trace_where(o->trace, rec) : 0;
    uint64_t first = (rec->offset + SECTOR - 1) / SECTOR, last = end / SECTOR;
    int ret;

    if (!where || first >= last)
        return write_copy(o, rec->data, rec->offset, end, err);
    ret = write_copy(o, rec->data, rec->offset, first * SECTOR, err);
    if (ret == 0)
        ret = write_where(o, where + (first * SECTOR - rec->offset), first, last, err);
    if (ret == 0)
        ret = write_copy(o, rec->data + (last * SECTOR - rec->offset), last * SECTOR, end, err);
    return ret;
}

static int set_size(struct nf_image_overlay *o, uint64_t size, struct nf_error *err)
{
    int ret;

    if (size > INT64_MAX)
        return nf_fail(err, NF_EFORMAT, "a disk of %llu bytes is too large", (ull)size);
    if (size < o->base_end)
        o->base_end = size;
    if (size < o->image.size) {
        ret = forget_where(o, size, o->image.size, err);
        if (ret < 0)
            return ret;
    }
    if (size < o->tmp_end) {
        /* What is cut off must not come back; ranges beyond stay covered and
         * read as zeros, like the base's there. */
        if (ftruncate(o->tmp_fd, (off_t)size) < 0)
            return nf_fail(err, NF_EIO, "cut the overlay's temporary file: %s", strerror(errno));
        o->tmp_end = size;
    }
    o->image.size = size;
    return NF_OK;
}

int nf_image_overlay_apply(struct nf_image_overlay *o, const struct nf_record *rec,
                           struct nf_error *err)
{
    uint64_t end;
    int ret;

    if (rec->flags & NF_REC_FAILED)
        return NF_OK;
    switch (rec->type) {
    case NF_REC_RESIZE:
    case NF_REC_OPEN:
        return set_size(o, rec->length, err);
    case NF_REC_WRITE:
    case NF_REC_READBACK:
    case NF_REC_ZERO:
    case NF_REC_DISCARD:
        break;
    default:
        return NF_OK;
    }
    if (rec->offset > o->image.size || rec->length > o->image.size - rec->offset)
        return nf_fail(err, NF_EFORMAT,
                       "record %llu: %llu bytes at %llu reach beyond the disk's %llu",
                       (ull)rec->seq, (ull)rec->length, (ull)rec->offset, (ull)o->image.size);
    if (rec->length == 0)
        return NF_OK;
    end = rec->offset + rec->length;
    if (rec->type == NF_REC_ZERO || rec->type == NF_REC_DISCARD) {
        ret = forget_where(o, rec->offset, end, err);
        if (ret == 0)
            ret = store_zeros(o->tmp_fd, o->tmp_end, rec->offset, end, err);
    } else {
        ret = write_record(o, rec, end, err);
    }
    if (ret == NF_OK && nf_rangeset_add(&o->covered, rec->offset, end) < 0)
        ret = nf_fail(err, NF_ENOMEM, "overlay: no memory for its map");
    return ret;
}

void nf_image_overlay_read_again(struct nf_image_overlay *o, struct nf_trace_reader *r)
{
    o->trace = r;
}

struct nf_image *nf_image_overlay_image(struct nf_image_overlay *o)
{
    return &o->image;
}
