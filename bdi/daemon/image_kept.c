/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/image_kept.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/pread_full.h"

#include "bdi/u64map.h"

#define PAGE 4096u
#define CHUNK (256u << 10) /* a whole number of pages */
/* What is read beyond it is not kept: metadata rarely is that much, and file
 * content has no need to be of one moment. */
#define KEPT_MAX (UINT64_C(4) << 30)

struct image_kept {
    struct nf_image img;
    struct nf_image *inner;
    int fd; /* the copy, at the disk's offsets, sparse */
    bool on, moved;
    bool ahead; /* something moved: read on from what is read */
    struct u64map pages; /* of the copy that are valid; the values mean nothing */
    uint8_t *buf;        /* CHUNK bytes */
    int (*drain)(void *opaque, struct nf_error *err);
    void *opaque;
};

static int copy_failed(const char *what, struct nf_error *err)
{
    return nf_fail(err, NF_EIO, "copy of what is read: %s: %s", what,
                   errno ? strerror(errno) : "short");
}

static int copy_write(struct image_kept *k, uint64_t offset, const uint8_t *data, size_t len,
                      struct nf_error *err)
{
    while (len > 0) {
        ssize_t n = pwrite(k->fd, data, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return copy_failed("write", err);
        data += n, offset += (uint64_t)n, len -= (size_t)n;
    }
    return 0;
}

static int copy_read(struct image_kept *k, uint64_t offset, uint8_t *data, size_t len,
                     struct nf_error *err)
{
    ssize_t n = nf_pread_full(k->fd, data, len, offset);

    if (n >= 0 && (size_t)n < len)
        errno = 0;
    return n < 0 || (size_t)n < len ? copy_failed("read", err) : 0;
}

/* Bytes from @offset on, at most @len, whose pages are all kept, or all not. */
static size_t run(const struct image_kept *k, uint64_t offset, size_t len, bool *kept)
{
    uint64_t end = (offset / PAGE + 1) * PAGE;

    *kept = u64map_get(&k->pages, offset / PAGE) != NULL;
    while (end < offset + len && (u64map_get(&k->pages, end / PAGE) != NULL) == *kept)
        end += PAGE;
    return end - offset < len ? (size_t)(end - offset) : len;
}

/* Read the pages of [@offset, +@len), at most CHUNK bytes, none of them kept. */
static int fetch(struct image_kept *k, uint64_t offset, uint8_t *out, size_t len,
                 struct nf_error *err)
{
    uint64_t lo = offset / PAGE * PAGE;
    uint64_t hi = (offset + len + PAGE - 1) / PAGE * PAGE;
    int moved, ret;

    hi = hi < k->img.size ? hi : k->img.size;
    moved = k->inner->read(k->inner, lo, k->buf, (size_t)(hi - lo), err);
    if (moved < 0)
        return moved;
    ret = copy_write(k, lo, k->buf, (size_t)(hi - lo), err);
    for (uint64_t page = lo / PAGE; ret == 0 && page * PAGE < hi; page++)
        if (u64map_put(&k->pages, page, k) < 0)
            ret = nf_fail(err, NF_ENOMEM, "copy of what is read: out of memory");
    if (ret < 0)
        return ret;
    memcpy(out, k->buf + (offset - lo), len);
    return moved;
}

/*
 * What follows what had to be read, up to the end of its CHUNK: a guest's log
 * and its new files go on there, and are better read before they are written.
 * Nobody asked for it: if it moved, it is just not kept.
 */
static int fetch_ahead(struct image_kept *k, uint64_t offset, struct nf_error *err)
{
    uint64_t lo = (offset + PAGE - 1) / PAGE * PAGE;
    uint64_t end = (offset + CHUNK - 1) / CHUNK * CHUNK;
    size_t n;
    bool kept;
    int ret;

    end = end < k->img.size ? end : k->img.size;
    if (lo >= end)
        return 0;
    n = run(k, lo, (size_t)(end - lo), &kept);
    if (kept)
        return 0;
    ret = k->inner->read(k->inner, lo, k->buf, n, err);
    if (ret != 0)
        return ret < 0 ? ret : 0;
    ret = copy_write(k, lo, k->buf, n, err);
    for (uint64_t at = lo; ret == 0 && at < lo + n; at += PAGE)
        if (u64map_put(&k->pages, at / PAGE, k) < 0)
            ret = nf_fail(err, NF_ENOMEM, "copy of what is read: out of memory");
    return ret;
}

static int kept_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                     struct nf_error *err)
{
    struct image_kept *k = (struct image_kept *)img;
    uint8_t *out = buf;
    int moved = 0;

    if (!k->on)
        return k->inner->read(k->inner, offset, buf, len, err);
    while (len > 0) {
        bool kept;
        size_t n = run(k, offset, len < CHUNK - PAGE ? len : CHUNK - PAGE, &kept);
        int ret;

        if (!kept && k->drain) {
            ret = k->drain(k->opaque, err);
            if (ret < 0)
                return ret;
        }
        if (kept)
            ret = copy_read(k, offset, out, n, err);
        else if ((uint64_t)k->pages.used * PAGE >= KEPT_MAX)
            ret = k->inner->read(k->inner, offset, out, n, err);
        else
            ret = fetch(k, offset, out, n, err);
        if (ret < 0)
            return ret;
        moved |= ret;
        ret = kept || !k->ahead ? 0 : fetch_ahead(k, offset + n, err);
        if (ret < 0)
            return ret;
        out += n, offset += n, len -= n;
    }
    k->moved |= moved;
    return moved;
}

bool image_kept_take_moved(struct nf_image *img)
{
    struct image_kept *k = (struct image_kept *)img;
    bool moved = k->moved;

    k->moved = false;
    k->ahead |= moved;
    return moved;
}

void image_kept_set_drain(struct nf_image *img, int (*drain)(void *opaque, struct nf_error *err),
                          void *opaque)
{
    struct image_kept *k = (struct image_kept *)img;

    k->drain = drain;
    k->opaque = opaque;
}

static void kept_free(struct nf_image *img)
{
    struct image_kept *k = (struct image_kept *)img;

    nf_image_free(k->inner);
    u64map_release(&k->pages);
    free(k->buf);
    free(k);
}

struct nf_image *image_kept_new(struct nf_image *inner, int fd, struct nf_error *err)
{
    struct image_kept *k = calloc(1, sizeof(*k));

    if (k)
        k->buf = malloc(CHUNK);
    if (!k || !k->buf) {
        free(k);
        nf_image_free(inner);
        nf_fail(err, NF_ENOMEM, "image: out of memory");
        return NULL;
    }
    k->img.size = inner->size;
    k->img.read = kept_read;
    k->img.free = kept_free;
    k->inner = inner;
    k->fd = fd;
    u64map_init(&k->pages);
    return &k->img;
}

static int forget_all(struct image_kept *k, struct nf_error *err)
{
    u64map_release(&k->pages);
    u64map_init(&k->pages);
    return ftruncate(k->fd, 0) < 0 ? copy_failed("truncate", err) : 0;
}

int image_kept_start(struct nf_image *img, struct nf_error *err)
{
    struct image_kept *k = (struct image_kept *)img;

    k->on = true;
    k->moved = k->ahead = false;
    return forget_all(k, err);
}

int image_kept_stop(struct nf_image *img, struct nf_error *err)
{
    struct image_kept *k = (struct image_kept *)img;

    k->on = false;
    return forget_all(k, err);
}

int image_kept_record(struct nf_image *img, const struct nf_record *rec, struct nf_error *err)
{
    struct image_kept *k = (struct image_kept *)img;
    uint64_t pos = rec->offset, end;
    bool known;

    switch (rec->type) {
    case NF_REC_FLUSH:
    case NF_REC_CLOSE:
    case NF_REC_READBACK:
        return 0;
    case NF_REC_RESIZE:
    case NF_REC_GAP:
    case NF_REC_OPEN:
        return k->on ? forget_all(k, err) : 0;
    default:
        break;
    }
    if (!k->on || pos >= k->img.size)
        return 0;
    end = rec->length < k->img.size - pos ? pos + rec->length : k->img.size;
    known = !(rec->flags & (NF_REC_FAILED | NF_REC_AMBIGUOUS)) &&
            (rec->type == NF_REC_ZERO || (rec->type == NF_REC_WRITE && rec->data));
    /* A discard of all the disk is one record: not one step for each page. */
    if (!known && (end - pos) / PAGE > k->pages.used)
        return forget_all(k, err);
    if (known && rec->type == NF_REC_ZERO)
        memset(k->buf, 0, PAGE);
    while (pos < end) {
        uint64_t stop = (pos / PAGE + 1) * PAGE;
        int ret = 0;

        stop = stop < end ? stop : end;
        if (!known)
            u64map_remove(&k->pages, pos / PAGE);
        else if (u64map_get(&k->pages, pos / PAGE))
            ret = copy_write(k, pos,
                             rec->type == NF_REC_ZERO ? k->buf : rec->data + (pos - rec->offset),
                             (size_t)(stop - pos), err);
        if (ret < 0)
            return ret;
        pos = stop;
    }
    return 0;
}
