/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/shadow.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

int shadow_init(struct shadow *s, int fd, uint64_t size, struct nf_error *err)
{
    struct stat st;

    memset(s, 0, sizeof(*s));
    s->fd = fd;
    s->map = MAP_FAILED;
    /* Whole pages, so that the last block of an odd-sized disk is mapped too. */
    if (size == 0 || size > (uint64_t)INT64_MAX - 4096)
        return nf_fail(err, NF_EINVAL, "a disk of %llu bytes cannot be shadowed",
                       (unsigned long long)size);
    s->size = (size + 4095) & ~4095ull;
    if (fstat(fd, &st) < 0)
        return nf_fail(err, NF_EIO, "shadow: %s", strerror(errno));
    if ((uint64_t)st.st_size < s->size && ftruncate(fd, (off_t)s->size) < 0)
        return nf_fail(err, NF_EIO, "growing the shadow to %llu bytes: %s",
                       (unsigned long long)s->size, strerror(errno));
    s->map = mmap(NULL, s->size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (s->map == MAP_FAILED)
        return nf_fail(err, NF_ENOMEM, "mapping a shadow of %llu bytes: %s",
                       (unsigned long long)s->size, strerror(errno));
    return 0;
}

int shadow_resize(struct shadow *s, uint64_t size, struct nf_error *err)
{
    uint64_t whole;
    void *map;

    if (size == 0 || size > (uint64_t)INT64_MAX - 4096)
        return nf_fail(err, NF_EINVAL, "a disk of %llu bytes cannot be shadowed",
                       (unsigned long long)size);
    whole = (size + 4095) & ~4095ull;
    /* What was mapped stays so, in case it is still pointed to. */
    if (whole <= s->size)
        return 0;
    if (ftruncate(s->fd, (off_t)whole) < 0)
        return nf_fail(err, NF_EIO, "growing the shadow to %llu bytes: %s",
                       (unsigned long long)whole, strerror(errno));
    map = mremap(s->map, s->size, whole, MREMAP_MAYMOVE);
    if (map == MAP_FAILED)
        return nf_fail(err, NF_ENOMEM, "mapping a shadow of %llu bytes: %s",
                       (unsigned long long)whole, strerror(errno));
    s->map = map;
    s->size = whole;
    return 0;
}

void shadow_release(struct shadow *s)
{
    if (s->map && s->map != MAP_FAILED)
        munmap(s->map, s->size);
    s->map = NULL;
}

void shadow_punch(struct shadow *s, uint64_t offset, uint64_t len)
{
    if (offset >= s->size)
        return;
    if (len > s->size - offset)
        len = s->size - offset;
    /* Where the file cannot be punched, zeroing gives the same content. */
    if (len >= 4096 && fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                                 (off_t)len) == 0)
        return;
    memset(s->map + offset, 0, len);
}
