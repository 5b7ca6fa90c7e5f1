/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/oracle/manifest.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "bdi/sha256.h"

#define PAGE 4096u

struct seen {
    ino_t ino;
    char *path;
};

struct manifest {
    FILE *out;
    struct seen *seen; /* files with several names */
    size_t nseen;
};

static void put_text(FILE *out, const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        fprintf(out, (uint8_t)s[i] > ' ' && (uint8_t)s[i] < 127 && s[i] != '\\' ? "%c" : "\\%03o",
                (uint8_t)s[i]);
}

static void put_digest(FILE *out, const void *data, size_t len)
{
    uint8_t digest[32];

    sha256((struct nf_bytes){ data, len }, digest);
    for (int i = 0; i < 32; i++)
        fprintf(out, "%02x", digest[i]);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int put_xattrs(struct manifest *m, const char *proc)
{
    static char list[65536], value[65536], *names[4096];
    ssize_t len = listxattr(proc, list, sizeof(list));
    size_t n = 0;

    if (len < 0)
        return errno == EOPNOTSUPP ? 0 : -1;
    for (char *p = list; p < list + len && n < 4096; p += strlen(p) + 1)
        names[n++] = p;
    qsort(names, n, sizeof(names[0]), by_name);
    for (size_t i = 0; i < n; i++) {
        ssize_t got = getxattr(proc, names[i], value, sizeof(value));

        if (got < 0)
            return -1;
        fputc(' ', m->out);
        put_text(m->out, names[i], strlen(names[i]));
        fputc('=', m->out);
        if (got <= 60)
            put_text(m->out, value, (size_t)got);
        else
            put_digest(m->out, value, (size_t)got);
    }
    return 0;
}

/* The digest of all pages that are not zeros, each with its place. */
static int put_content(struct manifest *m, const char *proc, off_t size)
{
    static const char zeros[PAGE];
    int fd = open(proc, O_RDONLY | O_CLOEXEC | O_NOCTTY);
    uint8_t *data = NULL;
    size_t used = 0, room = 0;
    off_t pos = 0;

    if (fd < 0 && errno != ENOKEY)
        return -1;
    while (fd >= 0 && pos < size && (pos = lseek(fd, pos, SEEK_DATA)) >= 0) {
        ssize_t n;

        pos -= pos % PAGE;
        if (room - used < PAGE + sizeof(pos)) {
            room = room ? room * 2 : 1u << 16;
            data = realloc(data, room);
            if (!data)
                return -1;
        }
        memcpy(data + used, &pos, sizeof(pos));
        n = pread(fd, data + used + sizeof(pos), PAGE, pos);
        if (n < 0)
            return -1;
        if (memcmp(data + used + sizeof(pos), zeros, (size_t)n) != 0)
            used += sizeof(pos) + (size_t)n;
        pos += PAGE;
    }
    if (fd >= 0)
        close(fd);
    fputc(' ', m->out);
    if (used)
        put_digest(m->out, data, used);
    else
        fputc('-', m->out);
    free(data);
    return 0;
}

static int put_links(struct manifest *m, const struct stat *st, const char *path)
{
    size_t i = 0;

    fprintf(m->out, " links=%ju", (uintmax_t)st->st_nlink);
    if (st->st_nlink < 2)
        return 0;
    while (i < m->nseen && m->seen[i].ino != st->st_ino)
        i++;
    if (i == m->nseen) {
        m->seen = reallocarray(m->seen, i + 1, sizeof(*m->seen));
        if (!m->seen)
            return -1;
        m->seen[m->nseen++] = (struct seen){ st->st_ino, strdup(path) };
    }
    fputc('=', m->out);
    put_text(m->out, m->seen[i].path, strlen(m->seen[i].path));
    return 0;
}

static int put_tree(struct manifest *m, int dir, const char *path);

static int put_object(struct manifest *m, int fd, const char *path)
{
    char proc[40], target[PATH_MAX];
    struct stat st;
    ssize_t n;
    int rc = 0;

    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    if (fstat(fd, &st) < 0)
        return -1;
    put_text(m->out, path, strlen(path));
    fprintf(m->out, " %o %u:%u %jd.%09ld",
            S_ISLNK(st.st_mode) ? st.st_mode & S_IFMT : st.st_mode, st.st_uid, st.st_gid,
            (intmax_t)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
    if (!S_ISDIR(st.st_mode))
        rc = put_links(m, &st, path);
    if (S_ISREG(st.st_mode)) {
        fprintf(m->out, " %jd", (intmax_t)st.st_size);
        rc = rc < 0 ? rc : put_content(m, proc, st.st_size);
    } else if (S_ISLNK(st.st_mode)) {
        n = readlinkat(fd, "", target, sizeof(target));
        if (n < 0)
            return -1;
        fputs(" -> ", m->out);
        put_text(m->out, target, (size_t)n);
    } else if (S_ISBLK(st.st_mode) || S_ISCHR(st.st_mode)) {
        fprintf(m->out, " %u:%u", major(st.st_rdev), minor(st.st_rdev));
    }
    rc = rc < 0 ? rc : put_xattrs(m, proc);
    fputc('\n', m->out);
    if (rc == 0 && S_ISDIR(st.st_mode)) {
        int inside = open(proc, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

        rc = inside < 0 ? -1 : put_tree(m, inside, path);
    }
    return rc;
}

/* Closes @dir. */
static int put_tree(struct manifest *m, int dir, const char *path)
{
    DIR *d = fdopendir(dir);
    struct dirent *e;
    char **names = NULL;
    size_t n = 0;
    int rc = d ? 0 : -1;

    while (rc == 0 && (errno = 0, e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        names = reallocarray(names, n + 1, sizeof(*names));
        if (!names)
            return -1;
        names[n++] = strdup(e->d_name);
    }
    if (errno)
        rc = -1;
    if (n)
        qsort(names, n, sizeof(*names), by_name);
    for (size_t i = 0; rc == 0 && i < n; i++) {
        int fd = openat(dir, names[i], O_PATH | O_NOFOLLOW | O_CLOEXEC);
        char *inside = NULL;

        rc = fd < 0 || asprintf(&inside, "%s/%s", path, names[i]) < 0 ? -1
                                                                      : put_object(m, fd, inside);
        free(inside);
        if (fd >= 0)
            close(fd);
    }
    for (size_t i = 0; i < n; i++)
        free(names[i]);
    free(names);
    if (d)
        closedir(d);
    return rc;
}

int manifest_write(int dir, FILE *out)
{
    struct manifest m = { .out = out };
    int rc = put_object(&m, dir, "");

    for (size_t i = 0; i < m.nseen; i++)
        free(m.seen[i].path);
    free(m.seen);
    return rc < 0 || fflush(out) != 0 ? -1 : 0;
}
