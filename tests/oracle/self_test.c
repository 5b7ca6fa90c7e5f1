/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Would the oracle find a difference?  See replica_self_test(). */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "tests/oracle/replica.h"

#define EXTRA "nf-self-test"

struct tampering {
    struct stat root;
    char any[256];  /* a name in the root directory; "" if there is none */
    char file[256]; /* that of a regular file with content */
    struct timespec file_time;
};

static void find_victims(int tree, struct tampering *t)
{
    int fd = openat(tree, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;
    struct stat st;

    while (d && (e = readdir(d))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        snprintf(t->any, sizeof(t->any), "%s", e->d_name);
        if (fstatat(tree, e->d_name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
            st.st_size > 0) {
            snprintf(t->file, sizeof(t->file), "%s", e->d_name);
            t->file_time = st.st_mtim;
        }
    }
    if (d)
        closedir(d);
}

/* Invert the first byte of the file. In a mapping: write(2) would take the file's
 * capabilities away, too. -1 with errno. */
static int flip(struct replica *r, const struct tampering *t)
{
    const struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, t->file_time };
    NF_AUTO_CLOSE int fd = openat(r->tree, t->file, O_RDWR | O_CLOEXEC);
    uint8_t *byte = fd < 0 ? MAP_FAILED
                           : mmap(NULL, 1, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (byte == MAP_FAILED)
        return -1;
    *byte ^= 0xff;
    munmap(byte, 1);
    return futimens(fd, ts);
}

static int set_root_time(struct replica *r, const struct tampering *t, long shift)
{
    struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, t->root.st_mtim };

    ts[1].tv_nsec = (ts[1].tv_nsec + shift) % 1000000000;
    return futimens(r->tree, ts);
}

/* Each: @undo false does it, true takes it back. 1: there is nothing to do it to. */
static int tamper_name(struct replica *r, struct tampering *t, bool undo)
{
    int fd;

    (void)t;
    if (undo)
        return unlinkat(r->tree, EXTRA, 0);
    fd = openat(r->tree, EXTRA, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    return fd < 0 ? -1 : close(fd);
}

static int tamper_missing(struct replica *r, struct tampering *t, bool undo)
{
    if (!t->any[0])
        return 1;
    return undo ? renameat(r->stage, EXTRA, r->tree, t->any)
                : renameat(r->tree, t->any, r->stage, EXTRA);
}

static int tamper_mode(struct replica *r, struct tampering *t, bool undo)
{
    return fchmod(r->tree, (t->root.st_mode & 07777) ^ (undo ? 0 : 02));
}

static int tamper_owner(struct replica *r, struct tampering *t, bool undo)
{
    if (fchown(r->tree, t->root.st_uid + !undo, t->root.st_gid) < 0)
        return -1;
    return fchmod(r->tree, t->root.st_mode & 07777);
}

static int tamper_time(struct replica *r, struct tampering *t, bool undo)
{
    return set_root_time(r, t, !undo);
}

static int tamper_xattr(struct replica *r, struct tampering *t, bool undo)
{
    (void)t;
    return undo ? fremovexattr(r->tree, "user." EXTRA)
                : fsetxattr(r->tree, "user." EXTRA, "x", 1, 0);
}

static int tamper_content(struct replica *r, struct tampering *t, bool undo)
{
    (void)undo;
    return t->file[0] ? flip(r, t) : 1;
}

int replica_self_test(struct replica *r, struct nf_error *err)
{
    static const struct {
        const char *what;
        int (*tamper)(struct replica *r, struct tampering *t, bool undo);
    } ways[] = {
        { "a name too many", tamper_name }, { "a name too few", tamper_missing },
        { "another mode", tamper_mode },    { "another owner", tamper_owner },
        { "a time 1 ns later", tamper_time }, { "an xattr too many", tamper_xattr },
        { "another byte", tamper_content },
    };
    struct tampering t = { .any = "" };

    if (fstat(r->tree, &t.root) < 0)
        return nf_fail(err, NF_EIO, "self-test: %s", strerror(errno));
    find_victims(r->tree, &t);
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        for (int undo = 0; undo < 2; undo++) {
            int rc = ways[i].tamper(r, &t, undo);
            int64_t n;

            if (rc == 1)
                break;
            if (rc < 0)
                return nf_fail(err, NF_EIO, "self-test, %s: %s", ways[i].what, strerror(errno));
            if (ways[i].tamper != tamper_time && set_root_time(r, &t, 0) < 0)
                return nf_fail(err, NF_EIO, "self-test: %s", strerror(errno));
            n = replica_compare(r, NULL, err);
            if (n < 0)
                return (int)n;
            /* Several where the file has several names. */
            if (undo ? n != 0 : n < 1)
                return nf_fail(err, NF_EINVAL,
                               "self-test: %s, %s, shows %" PRId64 " differences",
                               ways[i].what, undo ? "undone" : "done", n);
        }
    }
    return 0;
}
