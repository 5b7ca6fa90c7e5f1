/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "consumers/trace_cmd.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <libnbd.h>

#include "common/cleanup.h"
#include "common/pread_full.h"

typedef unsigned long long ull;

volatile sig_atomic_t nf_stop;

static void on_signal(int sig)
{
    (void)sig;
    nf_stop = 1;
}

void nf_catch_signals(void)
{
    struct sigaction sa = { .sa_handler = on_signal };

    sigemptyset(&sa.sa_mask);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    sigaction(SIGHUP, &sa, NULL);
    /* Whoever reads the messages may have gone: no reason to leave half a file. */
    signal(SIGPIPE, SIG_IGN);
}

void nf_progress_show(struct nf_progress *p, uint64_t done, uint64_t total)
{
    struct timespec ts;
    int64_t now;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    now = ts.tv_sec * INT64_C(1000000000) + ts.tv_nsec;
    if (now < p->next_ns)
        return;
    p->next_ns = now + 200 * 1000 * 1000;
    if (!isatty(STDERR_FILENO))
        return;
    fprintf(stderr, "\r%s %3.0f %%", p->what, total ? 100.0 * (double)done / (double)total : 100.0);
    p->drawn = true;
}

void nf_progress_end(struct nf_progress *p)
{
    if (p->drawn)
        fputs("\r\033[K", stderr);
    p->drawn = false;
}

int nf_disk_size(int fd, const char *path, uint64_t *size, struct nf_error *err)
{
    struct stat st;
    off_t end;

    if (fstat(fd, &st) < 0)
        return nf_fail(err, NF_EIO, "stat %s: %s", path, strerror(errno));
    if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
        return nf_fail(err, NF_EINVAL, "%s is neither a file nor a block device", path);
    end = lseek(fd, 0, SEEK_END);
    if (end < 0)
        return nf_fail(err, NF_EIO, "size of %s: %s", path, strerror(errno));
    *size = (uint64_t)end;
    return NF_OK;
}

int nf_output_check(const char *path, const char *input, struct nf_error *err)
{
    struct stat out, in;

    if (stat(path, &out) < 0)
        return NF_OK; /* new, or for creating to complain about */
    if (!S_ISREG(out.st_mode))
        return nf_fail(err, NF_EINVAL, "%s exists and is not a regular file: choose another "
                       "output", path);
    if (input && stat(input, &in) == 0 && in.st_dev == out.st_dev && in.st_ino == out.st_ino)
        return nf_fail(err, NF_EINVAL, "%s is the input: choose another output", path);
    return NF_OK;
}

int nf_output_open(struct nf_output *o, const char *path, struct nf_error *err)
{
    mode_t mask = umask(0);

    umask(mask);
    o->fd = -1;
    o->tmp = NULL;
    o->path = strdup(path);
    if (!o->path || asprintf(&o->tmp, "%s.partial-XXXXXX", path) < 0) {
        o->tmp = NULL;
        nf_output_abort(o);
        return nf_fail(err, NF_ENOMEM, "create %s: no memory", path);
    }
    o->fd = mkostemp(o->tmp, O_CLOEXEC);
    if (o->fd < 0) {
        int e = errno;

        free(o->tmp);
        o->tmp = NULL;
        nf_output_abort(o);
        return nf_fail(err, NF_EIO, "create %s: %s", path, strerror(e));
    }
    fchmod(o->fd, 0666 & ~mask);
    return NF_OK;
}

int nf_output_commit(struct nf_output *o, struct nf_error *err)
{
    if (fdatasync(o->fd) < 0)
        return nf_fail(err, NF_EIO, "fdatasync %s: %s", o->path, strerror(errno));
    if (rename(o->tmp, o->path) < 0)
        return nf_fail(err, NF_EIO, "rename %s to %s: %s", o->tmp, o->path, strerror(errno));
    free(o->tmp);
    o->tmp = NULL;
    return NF_OK;
}

void nf_output_abort(struct nf_output *o)
{
    if (o->tmp)
        unlink(o->tmp);
    if (o->fd >= 0)
        close(o->fd);
    free(o->tmp);
    free(o->path);
    o->fd = -1;
    o->tmp = o->path = NULL;
}

int nf_write_full(int fd, const void *data, uint64_t length, uint64_t offset,
                  struct nf_error *err)
{
    const uint8_t *p = data;

    while (length > 0) {
        ssize_t n = pwrite(fd, p, length < (1u << 30) ? (size_t)length : 1u << 30, (off_t)offset);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return nf_fail(err, NF_EIO, "write at byte %llu: %s", (ull)offset,
                           strerror(n < 0 ? errno : ENOSPC));
        p += n;
        offset += (uint64_t)n;
        length -= (uint64_t)n;
    }
    return NF_OK;
}

int nf_write_zeros(int fd, uint64_t offset, uint64_t length, struct nf_error *err)
{
    static const uint8_t zeros[256 * 1024];

    if (length == 0 || fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (off_t)offset,
                                 (off_t)length) == 0)
        return NF_OK;
    while (length > 0 && !nf_stop) {
        uint64_t n = length < sizeof(zeros) ? length : sizeof(zeros);
        int ret = nf_write_full(fd, zeros, n, offset, err);

        if (ret < 0)
            return ret;
        offset += n;
        length -= n;
    }
    return NF_OK;
}

/* --- images ------------------------------------------------------------- */

struct source {
    struct nf_image image; /* first: the image's functions cast back */
    struct nbd_handle *nbd;
    int fd;
    char *name;
};

static int file_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                     struct nf_error *err)
{
    struct source *s = (struct source *)img;
    ssize_t n = nf_pread_full(s->fd, buf, len, offset);

    if (n < 0 || (size_t)n < len)
        return nf_fail(err, NF_EIO, "read %s at byte %llu: %s", s->name, (ull)offset,
                       n < 0 ? strerror(errno) : "end of file");
    return 1; /* a live disk: newer than the stream, perhaps */
}

static int nbd_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                    struct nf_error *err)
{
    struct source *s = (struct source *)img;
    uint8_t *p = buf;

    while (len > 0) {
        /* Servers accept at least 32 MiB. */
        size_t n = len < (32u << 20) ? len : 32u << 20;

        if (nbd_pread(s->nbd, p, n, offset, 0) < 0)
            return nf_fail(err, NF_EIO, "read %s at byte %llu: %s", s->name, (ull)offset,
                           nbd_get_error());
        p += n;
        offset += n;
        len -= n;
    }
    return 1;
}

static void source_free(struct nf_image *img)
{
    struct source *s = (struct source *)img;

    if (s->nbd)
        nbd_close(s->nbd);
    if (s->fd >= 0)
        close(s->fd);
    free(s->name);
    free(s);
}

struct nf_image *nf_image_source_open(const char *path_or_uri, struct nf_error *err)
{
    struct source *s = calloc(1, sizeof(*s));
    size_t scheme = strspn(path_or_uri, "abcdefghijklmnopqrstuvwxyz+");
    int64_t size;

    if (!s || !(s->name = strdup(path_or_uri))) {
        free(s);
        nf_fail(err, NF_ENOMEM, "open %s: no memory", path_or_uri);
        return NULL;
    }
    s->fd = -1;
    s->image.free = source_free;
    if (strncmp(path_or_uri, "nbd", 3) == 0 && strncmp(path_or_uri + scheme, "://", 3) == 0) {
        s->image.read = nbd_read;
        s->nbd = nbd_create();
        if (!s->nbd || nbd_connect_uri(s->nbd, path_or_uri) < 0 ||
            (size = nbd_get_size(s->nbd)) < 0) {
            nf_fail(err, NF_EIO, "open %s: %s", path_or_uri, nbd_get_error());
            source_free(&s->image);
            return NULL;
        }
        s->image.size = (uint64_t)size;
        return &s->image;
    }
    s->image.read = file_read;
    s->fd = open(path_or_uri, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (s->fd < 0)
        nf_fail(err, NF_EIO, "open %s: %s", path_or_uri, strerror(errno));
    if (s->fd < 0 || nf_disk_size(s->fd, path_or_uri, &s->image.size, err) < 0) {
        source_free(&s->image);
        return NULL;
    }
    return &s->image;
}
