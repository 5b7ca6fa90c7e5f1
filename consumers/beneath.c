/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "consumers/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/cleanup.h"

/* What one openat2() call is given at most; longer paths take several. */
#define CHUNK_MAX 4000

static int open_beneath(int dir, const char *path, uint64_t flags)
{
    struct open_how how = {
        .flags = O_PATH | O_NOFOLLOW | O_CLOEXEC | flags,
        .resolve =
            RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV,
    };

    return (int)syscall(SYS_openat2, dir, path, &how, sizeof(how));
}

void nf_beneath_init(struct nf_beneath *b, int root)
{
    memset(b, 0, sizeof(*b));
    b->root = root;
    for (int i = 0; i < NF_BENEATH_SLOTS; i++)
        b->slots[i].fd = -1;
}

void nf_beneath_forget(struct nf_beneath *b)
{
    for (int i = 0; i < NF_BENEATH_SLOTS; i++) {
        nf_cleanup_close(&b->slots[i].fd);
        b->slots[i].fd = -1;
    }
}

void nf_beneath_release(struct nf_beneath *b)
{
    nf_beneath_forget(b);
    for (int i = 0; i < NF_BENEATH_SLOTS; i++) {
        free(b->slots[i].path);
        b->slots[i].path = NULL;
    }
}

const char *nf_beneath_text(struct nf_bytes path, char *buf, size_t size)
{
    static const char hex[] = "0123456789abcdef";
    size_t n = 0;

    for (size_t i = 0; i < path.len; i++) {
        uint8_t c = path.data[i];

        if (n + 4 + 4 > size) {
            memcpy(buf + n, "...", 3);
            n += 3;
            break;
        }
        if (c >= 0x20 && c < 0x7f && c != '\\') {
            buf[n++] = (char)c;
        } else {
            buf[n++] = '\\';
            buf[n++] = 'x';
            buf[n++] = hex[c >> 4];
            buf[n++] = hex[c & 15];
        }
    }
    buf[n] = '\0';
    return buf;
}

int nf_beneath_check(struct nf_bytes path, struct nf_error *err)
{
    char text[200];
    const uint8_t *p = path.data;
    size_t left = path.len;

    if (left == 0 || p[0] != '/')
        return nf_fail(err, NF_EFORMAT, "path \"%s\" is not absolute",
                       nf_beneath_text(path, text, sizeof(text)));
    if (left == 1)
        return 0;
    while (left > 0) {
        const uint8_t *name = p + 1;
        const uint8_t *end = left > 1 ? memchr(name, '/', left - 1) : NULL;
        size_t n = end ? (size_t)(end - name) : left - 1;

        if (n == 0 || n > NF_NAME_MAX || memchr(name, 0, n) || (n == 1 && name[0] == '.') ||
            (n == 2 && name[0] == '.' && name[1] == '.'))
            return nf_fail(err, NF_EFORMAT, "path \"%s\" holds a name that cannot be",
                           nf_beneath_text(path, text, sizeof(text)));
        p = name + n;
        left -= n + 1;
    }
    return 0;
}

static int walk_failed(struct nf_bytes path, struct nf_error *err)
{
    char text[200];
    int saved = errno;

    nf_beneath_text(path, text, sizeof(text));
    switch (saved) {
    case ENOENT:
        return nf_fail(err, NF_ENOTFOUND, "%s: no such file or directory", text);
    case ENOTDIR:
        return nf_fail(err, NF_EINVAL, "%s: something on the way is not a directory", text);
    case ELOOP:
        return nf_fail(err, NF_EINVAL, "%s: a symbolic link is in the way", text);
    case EXDEV:
        return nf_fail(err, NF_EINVAL, "%s: another mount is in the way", text);
    default:
        return nf_fail(err, NF_EIO, "%s: %s", text, strerror(saved));
    }
}

/* Length of the next piece of "/a/b/c" that one call can take; whole components. */
static size_t chunk(const uint8_t *p, size_t len)
{
    size_t n = len;

    if (n <= CHUNK_MAX)
        return n;
    n = CHUNK_MAX;
    while (n > 0 && p[n] != '/')
        n--;
    return n;
}

int nf_beneath_mtime(int fd, struct timespec *mtime)
{
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -1;
    *mtime = st.st_mtim;
    return 0;
}

int nf_beneath_set_mtime(int fd, const struct timespec *mtime)
{
    struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, *mtime };

    return utimensat(fd, "", ts, AT_EMPTY_PATH);
}

/* What the new directory @name inherited is not its own: its ACLs come by
 * events, if it has any. */
static int drop_acls(int dir, const char *name)
{
    static const char *const acls[] = { "system.posix_acl_access", "system.posix_acl_default" };
    NF_AUTO_CLOSE int fd = open_beneath(dir, name, O_DIRECTORY);
    char path[40];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    for (int i = 0; fd >= 0 && i < 2; i++)
        if (removexattr(path, acls[i]) < 0 && errno != ENODATA &&
            errno != EOPNOTSUPP)
            return -1;
    return fd < 0 ? -1 : 0;
}

/* Make @name in @dir unless it is there; the time of @dir stays as it was. */
static int make_dir(int dir, const char *name)
{
    struct timespec mtime;

    if (nf_beneath_mtime(dir, &mtime) < 0)
        return -1;
    if (mkdirat(dir, name, 0700) < 0)
        return errno == EEXIST ? 0 : -1;
    return drop_acls(dir, name) < 0 ? -1 : nf_beneath_set_mtime(dir, &mtime);
}

/* Open directory @path ("" is the root), making what is missing if @make. */
static int walk(int root, struct nf_bytes path, bool make, int *fd, struct nf_error *err)
{
    const uint8_t *p = path.data;
    size_t left = path.len;
    NF_AUTO_CLOSE int at = open_beneath(root, ".", O_DIRECTORY);

    if (at < 0)
        return walk_failed(path, err);
    while (left > 0) {
        char piece[CHUNK_MAX + 1];
        size_t n = chunk(p, left);
        int next;

        if (make) {
            const uint8_t *slash = memchr(p + 1, '/', left - 1);
            n = slash ? (size_t)(slash - p) : left;
        }
        memcpy(piece, p + 1, n - 1);
        piece[n - 1] = '\0';
        if (make && make_dir(at, piece) < 0)
            return walk_failed(path, err);
        next = open_beneath(at, piece, O_DIRECTORY);
        if (next < 0)
            return walk_failed(path, err);
        close(at);
        at = next;
        p += n;
        left -= n;
    }
    *fd = nf_steal_fd(&at);
    return 0;
}

static int find_parent(struct nf_beneath *b, struct nf_bytes path, bool make, int *fd,
                       char name[NF_NAME_MAX + 1], struct nf_error *err)
{
    struct nf_bytes dir = path;
    struct nf_beneath_slot *slot = &b->slots[0];
    uint8_t *copy;
    size_t n;
    int rc = nf_beneath_check(path, err);

    if (rc < 0)
        return rc;
    if (path.len == 1)
        return nf_fail(err, NF_EINVAL, "\"/\" has no name");
    do
        dir.len--;
    while (dir.data[dir.len] != '/');
    n = path.len - dir.len - 1;
    memcpy(name, path.data + dir.len + 1, n);
    name[n] = '\0';

    b->clock++;
    for (int i = 0; i < NF_BENEATH_SLOTS; i++) {
        struct nf_beneath_slot *s = &b->slots[i];

        if (s->fd >= 0 && nf_bytes_equal((struct nf_bytes){ s->path, s->len }, dir)) {
            s->used = b->clock;
            *fd = s->fd;
            return 0;
        }
        if (s->used < slot->used)
            slot = s;
    }

    copy = realloc(slot->path, dir.len + 1);
    if (!copy)
        return nf_fail(err, NF_ENOMEM, "out of memory");
    nf_cleanup_close(&slot->fd);
    slot->fd = -1;
    slot->path = copy;
    slot->len = dir.len;
    memcpy(copy, dir.data, dir.len);
    slot->used = b->clock;
    rc = walk(b->root, dir, make, &slot->fd, err);
    if (rc < 0)
        return rc;
    *fd = slot->fd;
    return 0;
}

int nf_beneath_parent(struct nf_beneath *b, struct nf_bytes path, int *fd,
                      char name[NF_NAME_MAX + 1], struct nf_error *err)
{
    return find_parent(b, path, false, fd, name, err);
}

int nf_beneath_make_parent(struct nf_beneath *b, struct nf_bytes path, int *fd,
                           char name[NF_NAME_MAX + 1], struct nf_error *err)
{
    int rc = find_parent(b, path, false, fd, name, err);

    return rc == NF_ENOTFOUND ? find_parent(b, path, true, fd, name, err) : rc;
}

int nf_beneath_object(struct nf_beneath *b, struct nf_bytes path, int *fd, struct nf_error *err)
{
    char name[NF_NAME_MAX + 1] = ".";
    int dir = b->root;
    int rc = nf_beneath_check(path, err);

    if (rc == 0 && path.len > 1)
        rc = nf_beneath_parent(b, path, &dir, name, err);
    if (rc < 0)
        return rc;
    *fd = open_beneath(dir, name, 0);
    return *fd < 0 ? walk_failed(path, err) : 0;
}
