/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/shadow.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bdi/bdi.h"
#include "bdi/undo.h"
#include "common/bytes.h"

#define PAGE 4096u

static uint64_t whole_pages(uint64_t bytes)
{
    return (bytes + PAGE - 1) / PAGE * PAGE;
}

/* @fd, grown to @size, or memory where there is none. */
static int map_file(int fd, uint64_t size, const char *what, uint8_t **map, struct nf_error *err)
{
    int flags = MAP_SHARED | MAP_NORESERVE | (fd < 0 ? MAP_ANONYMOUS : 0);
    struct stat st;
    void *p;

    *map = NULL;
    if (fd >= 0 && fstat(fd, &st) < 0)
        return nf_fail(err, NF_EIO, "%s: %s", what, strerror(errno));
    if (fd >= 0 && (uint64_t)st.st_size < size && ftruncate(fd, (off_t)size) < 0)
        return nf_fail(err, NF_EIO, "growing the %s to %llu bytes: %s", what,
                       (unsigned long long)size, strerror(errno));
    p = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (p == MAP_FAILED)
        return nf_fail(err, NF_ENOMEM, "mapping a %s of %llu bytes: %s", what,
                       (unsigned long long)size, strerror(errno));
    /* Read-ahead would fill the holes of a sparse file with pages of zeros. */
    madvise(p, size, MADV_RANDOM);
    *map = p;
    return 0;
}

/* Whole pages, so that the last block of an odd-sized disk is mapped too. */
static int set_size(struct shadow *s, uint64_t size, struct nf_error *err)
{
    if (size == 0 || size > (uint64_t)INT64_MAX - PAGE)
        return nf_fail(err, NF_EINVAL, "a disk of %llu bytes cannot be shadowed",
                       (unsigned long long)size);
    s->size = whole_pages(size);
    s->present_size = whole_pages(s->size / SHADOW_UNIT / 8 + 1);
    return 0;
}

int shadow_check_kept(int fd, const struct bdi_state_fds *state, uint64_t size,
                      struct nf_error *err)
{
    struct shadow s = {0};
    struct stat home, present;
    int ret = set_size(&s, size, err);

    if (ret < 0)
        return ret;
    if (fstat(fd, &home) < 0 || fstat(state->present, &present) < 0)
        return nf_fail(err, NF_EIO, "shadow: %s", strerror(errno));
    if ((uint64_t)home.st_size < s.size || (uint64_t)present.st_size < s.present_size)
        return nf_fail(err, NF_EFORMAT, "state: the shadow was cut short");
    return 0;
}

int shadow_init(struct shadow *s, int fd, const struct bdi_state_fds *state, uint64_t size,
                struct nf_error *err)
{
    int ret;

    memset(s, 0, sizeof(*s));
    s->fd = fd;
    s->present_fd = state ? state->present : -1;
    ret = set_size(s, size, err);
    if (ret == 0)
        ret = map_file(fd, s->size, "shadow", &s->map, err);
    if (ret == 0)
        ret = map_file(s->present_fd, s->present_size, "map of the shadow", &s->present, err);
    if (ret == 0 && state) {
        s->undo = undo_new(state->undo, err);
        ret = s->undo ? 0 : NF_ENOMEM;
    }
    return ret;
}

int shadow_resize(struct shadow *s, uint64_t size, struct nf_error *err)
{
    struct shadow now = *s;
    int ret = set_size(&now, size, err);

    /* What was mapped stays so, in case it is still pointed to. */
    if (ret < 0 || now.size <= s->size)
        return ret;
    ret = map_file(s->fd, now.size, "shadow", &now.map, err);
    if (ret < 0)
        return ret;
    munmap(s->map, s->size);
    s->map = now.map;
    s->size = now.size;
    if (s->present_fd >= 0) {
        ret = map_file(s->present_fd, now.present_size, "map of the shadow", &now.present, err);
        if (ret < 0)
            return ret;
        munmap(s->present, s->present_size);
    } else {
        now.present = mremap(s->present, s->present_size, now.present_size, MREMAP_MAYMOVE);
        if (now.present == MAP_FAILED)
            return nf_fail(err, NF_ENOMEM, "growing the map of the shadow: %s", strerror(errno));
    }
    s->present = now.present;
    s->present_size = now.present_size;
    return 0;
}

void shadow_release(struct shadow *s)
{
    if (s->map)
        munmap(s->map, s->size);
    if (s->present)
        munmap(s->present, s->present_size);
    undo_free(s->undo);
    s->map = s->present = NULL;
    s->undo = NULL;
}

bool shadow_present(const struct shadow *s, uint64_t offset)
{
    return s->present[offset / SHADOW_UNIT / 8] >> (offset / SHADOW_UNIT % 8) & 1;
}

/* A store to a file without room for it would be a SIGBUS. */
static int make_room(int fd, uint64_t offset, uint64_t len, struct nf_error *err)
{
    if (fallocate(fd, FALLOC_FL_KEEP_SIZE, (off_t)offset, (off_t)len) == 0 ||
        errno == EOPNOTSUPP)
        return 0;
    return nf_fail(err, NF_EIO, "state: shadow: %s", strerror(errno));
}

int shadow_touch(struct shadow *s, uint64_t offset, uint32_t len, struct nf_error *err)
{
    if (!s->undo)
        return 0;
    if (!shadow_present(s, offset)) {
        int ret = make_room(s->fd, offset, len, err);

        /* One that was not present at the save means nothing. */
        if (ret < 0 || !s->forgot)
            return ret;
    }
    return undo_keep(s->undo, UNDO_HOME, offset, s->map + offset, len, err);
}

static int change_present(struct shadow *s, uint64_t offset, bool present, struct nf_error *err)
{
    uint64_t byte = offset / SHADOW_UNIT / 8;
    uint64_t page = byte / PAGE * PAGE;
    uint8_t bit = (uint8_t)(1u << (offset / SHADOW_UNIT % 8));
    int ret = 0;

    if (shadow_present(s, offset) == present)
        return 0;
    if (s->undo) {
        ret = undo_keep(s->undo, UNDO_PRESENT, page, s->present + page, PAGE, err);
        if (ret == 0 && present && nf_is_zero(s->present + page, PAGE))
            ret = make_room(s->present_fd, page, PAGE, err);
    }
    if (ret == 0 && present)
        s->present[byte] |= bit;
    else if (ret == 0)
        s->present[byte] &= (uint8_t)~bit;
    return ret;
}

int shadow_set_present(struct shadow *s, uint64_t offset, struct nf_error *err)
{
    return change_present(s, offset, true, err);
}

int shadow_fill(struct shadow *s, uint64_t offset, const uint8_t *data, uint64_t len,
                uint32_t block_size, struct nf_error *err)
{
    int ret = 0;

    for (uint64_t at = 0; ret == 0 && s->undo && s->forgot && at < len; at += block_size)
        ret = shadow_touch(s, offset + at, block_size, err);
    /* A write makes its own room, and no page fault. */
    if (ret == 0 && pwrite(s->fd, data, len, (off_t)offset) != (ssize_t)len)
        ret = nf_fail(err, NF_EIO, "shadow: cannot be written");
    for (uint64_t at = 0; ret == 0 && at < len; at += block_size)
        ret = shadow_set_present(s, offset + at, err);
    return ret;
}

int shadow_drop(struct shadow *s, uint64_t offset, uint32_t len, struct nf_error *err)
{
    int ret = shadow_touch(s, offset, len, err);

    if (ret == 0)
        ret = change_present(s, offset, false, err);
    if (ret < 0)
        return ret;
    /* Where the file cannot be punched, zeroing gives the same content. */
    if (len < PAGE || fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                                (off_t)len) < 0)
        memset(s->map + offset, 0, len);
    return 0;
}

/* A whole byte of the map at a time, where there is one. */
void shadow_forget(struct shadow *s, uint64_t offset, uint64_t len)
{
    uint64_t unit = offset / SHADOW_UNIT, end;

    if (offset >= s->size)
        return;
    end = (offset + (len < s->size - offset ? len : s->size - offset)) / SHADOW_UNIT;
    while (unit < end && s->failure.code == 0) {
        uint64_t page = unit / 8 / PAGE * PAGE;
        uint64_t stop = (page + PAGE) * 8 < end ? (page + PAGE) * 8 : end;

        if (nf_is_zero(s->present + page, PAGE)) {
            unit = stop;
            continue;
        }
        if (s->undo && undo_keep(s->undo, UNDO_PRESENT, page, s->present + page, PAGE,
                                 &s->failure) < 0)
            return;
        for (; unit < stop && unit % 8; unit++)
            s->present[unit / 8] &= (uint8_t)~(1u << (unit % 8));
        for (; unit + 8 <= stop; unit += 8)
            s->present[unit / 8] = 0;
        for (; unit < stop; unit++)
            s->present[unit / 8] &= (uint8_t)~(1u << (unit % 8));
    }
    s->forgot = true;
}

void shadow_punch(struct shadow *s, uint64_t offset, uint64_t len)
{
    shadow_forget(s, offset, len);
    if (s->undo || offset >= s->size)
        return;
    if (len > s->size - offset)
        len = s->size - offset;
    /* Where the file cannot be punched, zeroing gives the same content. */
    if (len < PAGE || fallocate(s->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                                (off_t)len) < 0)
        memset(s->map + offset, 0, len);
}

void shadow_saved(struct shadow *s, uint64_t generation)
{
    if (s->undo)
        undo_restart(s->undo, generation);
    s->forgot = false;
}
