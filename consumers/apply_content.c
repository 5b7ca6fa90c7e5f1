/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "consumers/apply_state.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/cleanup.h"

/* What is copied or zeroed at a time. */
#define PIECE (1u << 20)

/* No file is longer than this, whatever the host's file system. */
#define OFFSET_MAX INT64_MAX

int nf_apply_file_close(struct nf_apply *a, struct nf_error *err)
{
    struct nf_apply_file *f = &a->file;
    int rc = 0;

    if (f->fd < 0)
        return 0;
    nf_apply_cap_restore(f->fd, &f->cap);
    if (futimens(f->fd, (struct timespec[2]){ { .tv_nsec = UTIME_OMIT }, f->mtime }) < 0)
        rc = nf_fail(err, NF_EIO, "setting a file's time: %s", strerror(errno));
    close(f->fd);
    f->fd = -1;
    return rc;
}

static int open_file(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err)
{
    struct nf_apply_file *f = &a->file;
    NF_AUTO_CLOSE int fd = -1;
    struct stat st;
    int rc;

    if (f->fd >= 0 && f->inode == ev->inode && f->generation == ev->generation)
        return 0;
    rc = nf_apply_file_close(a, err);
    if (rc == 0)
        rc = nf_apply_open(a, ev, &fd, err);
    if (rc != 0)
        return rc;
    /* Before it is opened for writing: a device or FIFO must not be touched. */
    if (fstat(fd, &st) < 0)
        return nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
    if (!S_ISREG(st.st_mode))
        return nf_apply_fail(err, NF_ELOST, ev, "not a regular file here");
    f->fd = open(nf_proc_path(fd).text, O_RDWR | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (f->fd < 0)
        return nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
    f->inode = ev->inode;
    f->generation = ev->generation;
    f->mtime = st.st_mtim;
    nf_apply_cap_save(a, f->fd, &f->cap);
    return 0;
}

/* @offset cut to what a file may be long here; counts if it was cut. */
static uint64_t bounded(struct nf_apply *a, uint64_t offset)
{
    uint64_t max = a->opt.max_file_size ? a->opt.max_file_size : OFFSET_MAX;

    if (max > OFFSET_MAX)
        max = OFFSET_MAX;
    if (offset <= max)
        return offset;
    a->stats.too_large++;
    return max;
}

int nf_apply_set_size(struct nf_apply *a, int fd, uint64_t size)
{
    if (ftruncate(fd, (off_t)bounded(a, size)) == 0)
        return 0;
    if (errno != EFBIG && errno != EINVAL)
        return -1;
    a->stats.too_large++;
    return 0;
}

static int file_size(int fd, uint64_t *size)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -1;
    *size = (uint64_t)st.st_size;
    return 0;
}

static int write_at(struct nf_apply *a, int fd, const uint8_t *data, size_t len, uint64_t offset)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EFBIG) {
            a->stats.too_large++;
            return 0;
        }
        if (n < 0)
            return -1;
        data += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int apply_write(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err)
{
    uint64_t offset = ev->write.offset, end, size;
    struct nf_bytes plain = ev->write.data;
    size_t room;

    if (__builtin_add_overflow(offset, ev->write.length, &end))
        return nf_apply_fail(err, NF_EFORMAT, ev, "its range has no end");
    if (ev->write.codec != NF_CODEC_NONE)
        return nf_apply_fail(err, NF_EINVAL, ev, "its content is not plain");
    if (plain.len > ev->write.length)
        plain.len = (size_t)ev->write.length;
    /* Ciphertext says nothing: the file has its size here, and no content. */
    if (plain.len == 0 && (ev->flags & NF_EV_ENCRYPTED))
        a->stats.encrypted++;
    else if (plain.len < ev->write.length && !(plain.len == 0 && (ev->flags & NF_EV_UNSETTLED)))
        a->stats.incomplete++; /* unsettled content without bytes comes later */

    end = bounded(a, end);
    room = offset < end ? (size_t)(end - offset) : 0;
    if (write_at(a, a->file.fd, plain.data, plain.len < room ? plain.len : room, offset) < 0 ||
        file_size(a->file.fd, &size) < 0)
        return nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
    /* The length is right even where the bytes are not to be had. */
    if (size < end && nf_apply_set_size(a, a->file.fd, end) < 0)
        return nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
    return 0;
}

/* Zeros in [@offset, @end), which lies within the file. */
static int zero_range(struct nf_apply *a, int fd, uint64_t offset, uint64_t end)
{
    static const uint8_t zeros[65536];

    if (offset >= end)
        return 0;
    if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                  (off_t)(end - offset)) == 0)
        return 0;
    if (errno != EOPNOTSUPP)
        return -1;
    for (; offset < end; offset += sizeof(zeros)) {
        size_t n = end - offset < sizeof(zeros) ? (size_t)(end - offset) : sizeof(zeros);

        if (write_at(a, fd, zeros, n, offset) < 0)
            return -1;
    }
    return 0;
}

/* A run of bytes that are not a hole. */
struct extent {
    uint64_t start, end;
};

struct extents {
    struct extent *list;
    size_t n, room;
};

/* The data of [@offset, @end) of @fd. -1 with errno. */
static int find_data(int fd, uint64_t offset, uint64_t end, struct extents *x)
{
    while (offset < end) {
        off_t data = lseek(fd, (off_t)offset, SEEK_DATA), hole;

        if (data < 0)
            return errno == ENXIO ? 0 : -1;
        hole = lseek(fd, data, SEEK_HOLE);
        if (hole < 0)
            return -1;
        if ((uint64_t)data >= end)
            return 0;
        if (x->n == x->room) {
            size_t room = x->room ? x->room * 2 : 64;
            struct extent *list = reallocarray(x->list, room, sizeof(*list));
            if (!list)
                return -1;
            x->list = list;
            x->room = room;
        }
        x->list[x->n++] =
            (struct extent){ (uint64_t)data, (uint64_t)hole < end ? (uint64_t)hole : end };
        offset = (uint64_t)hole;
    }
    return 0;
}

static int copy_piece(struct nf_apply *a, int fd, uint64_t from, uint64_t to, size_t n)
{
    size_t got = 0;

    while (got < n) {
        ssize_t r = pread(fd, a->piece + got, n - got, (off_t)(from + got));

        if (r < 0 && errno == EINTR)
            continue;
        if (r <= 0)
            return -1;
        got += (size_t)r;
    }
    return write_at(a, fd, a->piece, n, to);
}

/* Copy one run of data by @shift; backwards if it moves up, as memmove does. */
static int copy_extent(struct nf_apply *a, int fd, struct extent x, uint64_t from, uint64_t to)
{
    uint64_t len = x.end - x.start, done = 0;

    while (done < len) {
        size_t n = len - done < PIECE ? (size_t)(len - done) : PIECE;
        uint64_t at = to > from ? x.end - done - n : x.start + done;

        if (copy_piece(a, fd, at, to + (at - from), n) < 0)
            return -1;
        done += n;
    }
    return 0;
}

static int move_range(struct nf_apply *a, int fd, uint64_t from, uint64_t to, uint64_t len)
{
    struct extents x = { 0 };
    uint64_t edge;
    int rc = -1;

    if (!a->piece && !(a->piece = malloc(PIECE)))
        return -1;
    if (find_data(fd, from, from + len, &x) < 0)
        goto out;
    /* Holes are moved as holes: each gap between two runs is zeroed at its new
     * place right before the run beyond it, in the order that never touches
     * what is still to be read. */
    edge = to > from ? from + len : from;
    for (size_t i = 0; i < x.n; i++) {
        struct extent e = to > from ? x.list[x.n - 1 - i] : x.list[i];
        uint64_t lo = to > from ? e.end : edge, hi = to > from ? edge : e.start;

        if (zero_range(a, fd, to + (lo - from), to + (hi - from)) < 0 ||
            copy_extent(a, fd, e, from, to) < 0)
            goto out;
        edge = to > from ? e.start : e.end;
    }
    if (to > from)
        rc = zero_range(a, fd, to, to + (edge - from));
    else
        rc = zero_range(a, fd, to + (edge - from), to + len);
out:
    free(x.list);
    return rc;
}

static int apply_range(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err)
{
    uint64_t from = ev->range.offset, to = ev->range.to, len = ev->range.length;
    uint64_t end, to_end, size;
    int rc;

    if (__builtin_add_overflow(from, len, &end) || __builtin_add_overflow(to, len, &to_end))
        return nf_apply_fail(err, NF_EFORMAT, ev, "its range has no end");
    if (file_size(a->file.fd, &size) < 0)
        return nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
    if (ev->kind == NF_ZERO) {
        rc = zero_range(a, a->file.fd, from, end < size ? end : size);
    } else {
        /* Only what exists moves, and only to where the file is. */
        if (to_end > size)
            len = to < size ? size - to : 0;
        if (from >= size || len == 0)
            len = 0;
        else if (len > size - from)
            len = size - from;
        rc = from == to || len == 0 ? 0 : move_range(a, a->file.fd, from, to, len);
    }
    return rc < 0 ? nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno)) : 0;
}

int nf_apply_content(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err)
{
    int rc = open_file(a, ev, err);

    if (rc != 0)
        return rc < 0 ? rc : 0;
    switch (ev->kind) {
    case NF_WRITE:
        return apply_write(a, ev, err);
    case NF_TRUNCATE:
        if (nf_apply_set_size(a, a->file.fd, ev->truncate.size_after) < 0)
            return nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
        return 0;
    default:
        return apply_range(a, ev, err);
    }
}
