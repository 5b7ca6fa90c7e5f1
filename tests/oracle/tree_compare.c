/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/oracle/tree_compare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/buffer.h"
#include "common/bytes.h"
#include "common/cleanup.h"
#include "consumers/beneath.h"
#include "consumers/inode_map.h"

#define PIECE (1u << 20)
#define XATTR_BYTES (1u << 20)

struct compare {
    const struct tree_compare_options *opt;
    struct tree_compare_result *result;
    struct nf_inode_map links; /* a's inode of a file with several names: b's */
    char *path;                /* where we are, "/a/b" */
    size_t len, room;
    uint8_t *buf[2]; /* PIECE bytes each */
    char *list[2];   /* XATTR_BYTES each */
};

static void difference(struct compare *c, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void difference(struct compare *c, const char *fmt, ...)
{
    char text[1000];
    va_list ap;

    if (c->result->differences++ >= c->opt->max || !c->opt->report)
        return;
    nf_beneath_text((struct nf_bytes){ (uint8_t *)c->path, c->len }, text, sizeof(text));
    fprintf(c->opt->report, "  %s: ", c->len ? text : "/");
    va_start(ap, fmt);
    vfprintf(c->opt->report, fmt, ap);
    va_end(ap);
    fputc('\n', c->opt->report);
}

static int cannot(struct compare *c, const char *what, struct nf_error *err)
{
    char text[300];
    int saved = errno;

    nf_beneath_text((struct nf_bytes){ (uint8_t *)c->path, c->len }, text, sizeof(text));
    return nf_fail(err, NF_EIO, "%s %s: %s", what, text, strerror(saved));
}

/* --- lists of names ------------------------------------------------------- */

struct names {
    char **list;
    size_t n, room;
};

static void names_release(struct names *n)
{
    for (size_t i = 0; i < n->n; i++)
        free(n->list[i]);
    free(n->list);
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int names_read(int dir, struct names *n)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!d) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    errno = 0;
    while ((e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (n->n == n->room) {
            n->room = n->room ? n->room * 2 : 64;
            n->list = reallocarray(n->list, n->room, sizeof(*n->list));
            if (!n->list)
                abort();
        }
        n->list[n->n++] = strdup(e->d_name);
        errno = 0;
    }
    if (errno) {
        int why = errno;

        closedir(d);
        errno = why;
        return -1;
    }
    closedir(d);
    if (n->n)
        qsort(n->list, n->n, sizeof(*n->list), by_bytes);
    return 0;
}

/* --- one object ------------------------------------------------------------ */

struct proc_path {
    char text[40];
};

static struct proc_path proc_path(int fd)
{
    struct proc_path p;

    snprintf(p.text, sizeof(p.text), "/proc/self/fd/%d", fd);
    return p;
}

static int load_xattrs(int fd, char *buf, struct names *n)
{
    ssize_t len = listxattr(proc_path(fd).text, buf, XATTR_BYTES);

    if (len < 0)
        return errno == EOPNOTSUPP ? 0 : -1;
    for (char *p = buf; p < buf + len; p += strlen(p) + 1) {
        n->list = reallocarray(n->list, n->n + 1, sizeof(*n->list));
        if (!n->list)
            abort();
        n->list[n->n++] = strdup(p);
    }
    if (n->n)
        qsort(n->list, n->n, sizeof(*n->list), by_bytes);
    return 0;
}

/* Make the ACL @acl (as getxattr gives it) say @mode, as chmod(2) does. */
static void acl_chmod(uint8_t *acl, size_t len, mode_t mode)
{
    enum { VERSION = 4, ENTRY = 8, USER_OBJ = 1, GROUP_OBJ = 4, MASK = 0x10, OTHER = 0x20 };
    uint8_t *group = NULL;

    for (size_t at = VERSION; at + ENTRY <= len; at += ENTRY) {
        uint8_t *perm = acl + at + 2;

        switch (nf_le16(acl + at)) {
        case USER_OBJ: nf_put_le16(perm, mode >> 6 & 7); break;
        case OTHER: nf_put_le16(perm, mode & 7); break;
        case GROUP_OBJ: group = group ? group : perm; break;
        case MASK: group = perm; break;
        }
    }
    if (group)
        nf_put_le16(group, mode >> 3 & 7);
}

/* Is the difference between the ACL @x of the first tree, whose inode has @mode, and
 * @y only that of a recovery that left it behind? */
static bool is_left_acl(struct compare *c, const char *name, mode_t mode, char *x, char *y,
                        size_t len)
{
    if (!c->opt->recovered || strcmp(name, "system.posix_acl_access") != 0)
        return false;
    acl_chmod((uint8_t *)x, len, mode);
    return memcmp(x, y, len) == 0;
}

static int compare_xattrs(struct compare *c, int a, int b, mode_t mode, struct nf_error *err)
{
    struct names na = { 0 }, nb = { 0 };
    size_t i = 0, j = 0;
    int rc = 0;

    if (load_xattrs(a, c->list[0], &na) < 0 || load_xattrs(b, c->list[1], &nb) < 0) {
        rc = cannot(c, "xattrs of", err);
        goto out;
    }
    while (i < na.n || j < nb.n) {
        int cmp = i == na.n ? 1 : j == nb.n ? -1 : strcmp(na.list[i], nb.list[j]);

        if (cmp < 0) {
            difference(c, "xattr %s only in %s", na.list[i++], c->opt->names[0]);
        } else if (cmp > 0) {
            difference(c, "xattr %s only in %s", nb.list[j++], c->opt->names[1]);
        } else {
            ssize_t la = getxattr(proc_path(a).text, na.list[i], c->list[0], XATTR_BYTES);
            ssize_t lb = getxattr(proc_path(b).text, na.list[i], c->list[1], XATTR_BYTES);

            if (la < 0 || lb < 0) {
                rc = cannot(c, "xattr of", err);
                goto out;
            }
            if (la == lb && memcmp(c->list[0], c->list[1], (size_t)la) == 0)
                ;
            else if (la == lb && is_left_acl(c, na.list[i], mode, c->list[0], c->list[1],
                                             (size_t)la))
                c->result->acls++;
            else
                difference(c, "xattr %s differs (%zd and %zd bytes)", na.list[i], la, lb);
            i++;
            j++;
        }
    }
out:
    names_release(&na);
    names_release(&nb);
    return rc;
}

static int read_at(int fd, uint8_t *buf, size_t len, uint64_t at)
{
    size_t got = 0;

    while (got < len) {
        ssize_t n = pread(fd, buf + got, len - got, (off_t)(at + got));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0) {
            memset(buf + got, 0, len - got);
            return 0;
        }
        got += (size_t)n;
    }
    return 0;
}

/* Where data begins in either, from @pos on; @size if nowhere. */
static uint64_t next_data(int a, int b, uint64_t pos, uint64_t size)
{
    off_t da = lseek(a, (off_t)pos, SEEK_DATA), db = lseek(b, (off_t)pos, SEEK_DATA);
    uint64_t x = da < 0 ? size : (uint64_t)da, y = db < 0 ? size : (uint64_t)db;

    return x < y ? x : y;
}

static int compare_content(struct compare *c, int a, int b, uint64_t size, struct nf_error *err)
{
    uint64_t pos = 0;

    while ((pos = next_data(a, b, pos, size)) < size) {
        size_t n = size - pos < PIECE ? (size_t)(size - pos) : PIECE;

        if (read_at(a, c->buf[0], n, pos) < 0 || read_at(b, c->buf[1], n, pos) < 0)
            return cannot(c, "read", err);
        c->result->bytes += n;
        if (memcmp(c->buf[0], c->buf[1], n) != 0) {
            size_t i = 0, bad = 0;

            while (c->buf[0][i] == c->buf[1][i])
                i++;
            for (size_t j = i; j < n; j++)
                bad += c->buf[0][j] != c->buf[1][j];
            difference(c, "content differs at %" PRIu64 " (0x%02x in %s, 0x%02x in %s; %zu of "
                          "the %zu bytes from there; size %" PRIu64 ")",
                       pos + i, c->buf[0][i], c->opt->names[0], c->buf[1][i], c->opt->names[1],
                       bad, n - i, size);
            return 0;
        }
        pos += n;
    }
    return 0;
}

/* What cannot be read there reads as zeros here. */
static int compare_opaque(struct compare *c, int fd, uint64_t size, struct nf_error *err)
{
    uint64_t pos = 0;

    while ((pos = next_data(fd, fd, pos, size)) < size) {
        size_t n = size - pos < PIECE ? (size_t)(size - pos) : PIECE;

        if (read_at(fd, c->buf[1], n, pos) < 0)
            return cannot(c, "read", err);
        if (!nf_is_zero(c->buf[1], n)) {
            difference(c, "encrypted in %s, content in %s", c->opt->names[0], c->opt->names[1]);
            return 0;
        }
        pos += n;
    }
    return 0;
}

static int compare_tree(struct compare *c, int a, int b, struct nf_error *err);

static int compare_links(struct compare *c, const struct stat *a, const struct stat *b,
                         struct nf_error *err)
{
    struct nf_inode_map_slot *s;

    if (a->st_nlink != b->st_nlink) {
        difference(c, "links: %ju in %s, %ju in %s", (uintmax_t)a->st_nlink, c->opt->names[0],
                   (uintmax_t)b->st_nlink, c->opt->names[1]);
        return 0;
    }
    if (a->st_nlink < 2)
        return 0;
    s = nf_inode_map_find(&c->links, (uint32_t)a->st_ino);
    if (s && s->ours != b->st_ino)
        difference(c, "a link to another file in %s", c->opt->names[1]);
    else if (!s && nf_inode_map_set(&c->links, (uint32_t)a->st_ino, 0, b->st_ino) < 0)
        return nf_fail(err, NF_ENOMEM, "out of memory");
    return 0;
}

/* Open the content of an O_PATH descriptor. */
static int reopen(int fd, int flags)
{
    return open(proc_path(fd).text, flags | O_CLOEXEC | O_NOCTTY);
}

static bool is_recovery_time(const struct compare *c, const struct timespec *t)
{
    const struct timespec *since = c->opt->recovered;

    /* Small inodes have no nanoseconds. */
    return since && (t->tv_sec > since->tv_sec ||
                     (t->tv_sec == since->tv_sec &&
                      (t->tv_nsec >= since->tv_nsec || t->tv_nsec == 0)));
}

/* What both are, of whatever type; @a and @b are O_PATH descriptors. */
static int compare_object(struct compare *c, int a, int b, struct nf_error *err)
{
    struct stat x, y;
    int rc;

    if (fstat(a, &x) < 0 || fstat(b, &y) < 0)
        return cannot(c, "stat", err);
    c->result->paths++;
    if ((x.st_mode & S_IFMT) != (y.st_mode & S_IFMT)) {
        difference(c, "type: 0%o in %s, 0%o in %s", x.st_mode & S_IFMT, c->opt->names[0],
                   y.st_mode & S_IFMT, c->opt->names[1]);
        return 0;
    }
    if (!S_ISLNK(x.st_mode) && x.st_mode != y.st_mode)
        difference(c, "mode: 0%o in %s, 0%o in %s", x.st_mode & 07777, c->opt->names[0],
                   y.st_mode & 07777, c->opt->names[1]);
    if (x.st_uid != y.st_uid || x.st_gid != y.st_gid)
        difference(c, "owner: %u:%u in %s, %u:%u in %s", x.st_uid, x.st_gid, c->opt->names[0],
                   y.st_uid, y.st_gid, c->opt->names[1]);
    if ((x.st_mtim.tv_sec != y.st_mtim.tv_sec || x.st_mtim.tv_nsec != y.st_mtim.tv_nsec) &&
        !is_recovery_time(c, &x.st_mtim))
        difference(c, "mtime: %jd.%09ld in %s, %jd.%09ld in %s", (intmax_t)x.st_mtim.tv_sec,
                   x.st_mtim.tv_nsec, c->opt->names[0], (intmax_t)y.st_mtim.tv_sec,
                   y.st_mtim.tv_nsec, c->opt->names[1]);
    rc = compare_xattrs(c, a, b, x.st_mode, err);
    if (rc < 0)
        return rc;
    if (S_ISDIR(x.st_mode)) {
        NF_AUTO_CLOSE int da = reopen(a, O_RDONLY | O_DIRECTORY);
        NF_AUTO_CLOSE int db = reopen(b, O_RDONLY | O_DIRECTORY);

        if (da < 0 || db < 0)
            return cannot(c, "open", err);
        return compare_tree(c, da, db, err);
    }
    rc = compare_links(c, &x, &y, err);
    if (rc < 0)
        return rc;
    if (S_ISLNK(x.st_mode)) {
        ssize_t la = readlinkat(a, "", (char *)c->buf[0], PIECE);
        ssize_t lb = readlinkat(b, "", (char *)c->buf[1], PIECE);

        if (la < 0 || lb < 0)
            return cannot(c, "readlink", err);
        if (la != lb || memcmp(c->buf[0], c->buf[1], (size_t)la) != 0)
            difference(c, "link target differs");
    } else if (S_ISREG(x.st_mode) && (x.st_size || y.st_size)) {
        NF_AUTO_CLOSE int fa = reopen(a, O_RDONLY);
        /* Encrypted, and the key is not here: all that there is to see was compared. */
        const bool opaque = fa < 0 && errno == ENOKEY;
        NF_AUTO_CLOSE int fb = reopen(b, O_RDONLY);

        if ((fa < 0 && !opaque) || fb < 0)
            return cannot(c, "open", err);
        if (x.st_size != y.st_size)
            difference(c, "size: %jd in %s, %jd in %s", (intmax_t)x.st_size, c->opt->names[0],
                       (intmax_t)y.st_size, c->opt->names[1]);
        else if (opaque)
            return compare_opaque(c, fb, (uint64_t)x.st_size, err);
        else if (!c->opt->no_content)
            return compare_content(c, fa, fb, (uint64_t)x.st_size, err);
    } else if (!S_ISREG(x.st_mode) && x.st_rdev != y.st_rdev) {
        difference(c, "device: %u:%u in %s, %u:%u in %s", major(x.st_rdev), minor(x.st_rdev),
                   c->opt->names[0], major(y.st_rdev), minor(y.st_rdev), c->opt->names[1]);
    }
    return 0;
}

static size_t enter(struct compare *c, const char *name)
{
    size_t before = c->len, n = strlen(name);

    if (c->len + n + 2 > c->room) {
        c->room = (c->len + n + 2) * 2;
        c->path = realloc(c->path, c->room);
        if (!c->path)
            abort();
    }
    c->path[c->len] = '/';
    memcpy(c->path + c->len + 1, name, n);
    c->len += n + 1;
    return before;
}

static bool is_directory(int dir, const char *name)
{
    struct stat st;

    return fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISDIR(st.st_mode);
}

static int compare_tree(struct compare *c, int a, int b, struct nf_error *err)
{
    struct names na = { 0 }, nb = { 0 };
    size_t i = 0, j = 0;
    int rc = 0;

    if (names_read(a, &na) < 0) {
        if (errno == EUCLEAN && c->opt->recovered)
            c->result->damaged++;
        else
            rc = cannot(c, "read directory", err);
        goto out;
    }
    if (names_read(b, &nb) < 0)
        rc = cannot(c, "read directory", err);
    while (rc == 0 && (i < na.n || j < nb.n)) {
        int cmp = i == na.n ? 1 : j == nb.n ? -1 : strcmp(na.list[i], nb.list[j]);
        const char *name = cmp > 0 ? nb.list[j] : na.list[i];
        size_t before = enter(c, name);

        if (cmp > 0 && c->opt->recovered && is_directory(b, name)) {
            c->result->damaged++;
        } else if (cmp != 0) {
            difference(c, "only in %s", c->opt->names[cmp > 0]);
        } else {
            NF_AUTO_CLOSE int fa = openat(a, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);
            NF_AUTO_CLOSE int fb = openat(b, name, O_PATH | O_NOFOLLOW | O_CLOEXEC);

            rc = fa < 0 || fb < 0 ? cannot(c, "open", err) : compare_object(c, fa, fb, err);
        }
        c->len = before;
        i += cmp <= 0;
        j += cmp >= 0;
    }
out:
    names_release(&na);
    names_release(&nb);
    return rc;
}

int tree_compare(int a, int b, const struct tree_compare_options *opt,
                 struct tree_compare_result *result, struct nf_error *err)
{
    struct compare c = { .opt = opt, .result = result };
    int rc = NF_ENOMEM;

    *result = (struct tree_compare_result){ 0 };
    for (int i = 0; i < 2; i++) {
        c.buf[i] = malloc(PIECE);
        c.list[i] = malloc(XATTR_BYTES);
    }
    if (c.buf[0] && c.buf[1] && c.list[0] && c.list[1])
        rc = compare_object(&c, a, b, err);
    else
        nf_fail(err, NF_ENOMEM, "out of memory");
    for (int i = 0; i < 2; i++) {
        free(c.buf[i]);
        free(c.list[i]);
    }
    free(c.path);
    nf_inode_map_release(&c.links);
    return rc;
}
