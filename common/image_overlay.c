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
    struct nf_rangeset covered; /* what the temporary file answers for */
};

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
            ret = read_some(o->tmp_fd, "the overlay's temporary file", p, n, offset, err);
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
    if (o->tmp_fd < 0) {
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
    nf_rangeset_release(&o->covered);
    free(o);
}

/* Make the range zeros in the temporary file. */
static int store_zeros(struct nf_image_overlay *o, uint64_t start, uint64_t end,
                       struct nf_error *err)
{
    static const uint8_t zeros[65536];

    /* Behind what was ever stored there are only zeros, so that the work is
     * bounded by what was written, not by what a record claims. */
    if (end > o->tmp_end)
        end = o->tmp_end;
    if (start >= end)
        return NF_OK;
    if (fallocate(o->tmp_fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)start,
                  (off_t)(end - start)) == 0)
        return NF_OK;
    while (start < end) {
        uint64_t n = end - start < sizeof(zeros) ? end - start : sizeof(zeros);
        int ret = write_all(o->tmp_fd, zeros, n, start, err);

        if (ret < 0)
            return ret;
        start += n;
    }
    return NF_OK;
}

static int set_size(struct nf_image_overlay *o, uint64_t size, struct nf_error *err)
{
    if (size > INT64_MAX)
        return nf_fail(err, NF_EFORMAT, "a disk of %llu bytes is too large", (ull)size);
    if (size < o->base_end)
        o->base_end = size;
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
        ret = store_zeros(o, rec->offset, end, err);
    } else {
        /* Before the write: a part of it may be stored when it fails. */
        if (end > o->tmp_end)
            o->tmp_end = end;
        ret = write_all(o->tmp_fd, rec->data, rec->length, rec->offset, err);
    }
    if (ret == NF_OK && nf_rangeset_add(&o->covered, rec->offset, end) < 0)
        ret = nf_fail(err, NF_ENOMEM, "overlay: no memory for its map");
    return ret;
}

struct nf_image *nf_image_overlay_image(struct nf_image_overlay *o)
{
    return &o->image;
}
