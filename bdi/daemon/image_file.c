/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/image_file.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/pread_full.h"

struct image_file {
    struct nf_image img;
    int fd;
    const char *name;
};

static int file_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                     struct nf_error *err)
{
    struct image_file *f = (struct image_file *)img;
    ssize_t n;

    if (offset > img->size || len > img->size - offset)
        return nf_fail(err, NF_EINVAL, "image %s: read of %zu bytes at %llu is beyond its end",
                       f->name, len, (unsigned long long)offset);
    n = nf_pread_full(f->fd, buf, len, offset);
    if (n < 0)
        return nf_fail(err, NF_EIO, "image %s: read at %llu: %s", f->name,
                       (unsigned long long)offset, strerror(errno));
    if ((size_t)n < len)
        return nf_fail(err, NF_EIO, "image %s: ends at %llu, shorter than it was", f->name,
                       (unsigned long long)offset + (unsigned long long)n);
    return 0;
}

static void file_free(struct nf_image *img)
{
    free(img);
}

struct nf_image *image_file_new(int fd, const char *name, struct nf_error *err)
{
    struct image_file *f;
    off_t size = lseek(fd, 0, SEEK_END);

    if (size < 0) {
        nf_fail(err, NF_EIO, "image %s: size: %s", name, strerror(errno));
        return NULL;
    }
    f = calloc(1, sizeof(*f));
    if (!f) {
        nf_fail(err, NF_ENOMEM, "image %s: out of memory", name);
        return NULL;
    }
    f->img.size = (uint64_t)size;
    f->img.read = file_read;
    f->img.free = file_free;
    f->fd = fd;
    f->name = name;
    return &f->img;
}
