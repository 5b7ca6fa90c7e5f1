/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The applier: a file system is gone, and with it all that is in the tree. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "consumers/apply_state.h"

static DIR *open_dir(int at, const char *name)
{
    int fd = openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);

    if (!d && fd >= 0)
        close(fd);
    return d;
}

/*
 * Remove what is in the directory @name of @at. What is deeper moves into
 * @stage, so that no depth that a guest chose is descended into. Returns how
 * many entries there were, or -1 with errno.
 */
static long flatten(int at, const char *name, int stage, unsigned long *serial)
{
    DIR *d = open_dir(at, name);
    struct dirent *e;
    long n = 0;

    if (!d)
        return -1;
    while ((errno = 0, e = readdir(d))) {
        char aside[40];

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        n++;
        if (unlinkat(dirfd(d), e->d_name, 0) == 0 ||
            unlinkat(dirfd(d), e->d_name, AT_REMOVEDIR) == 0)
            continue;
        snprintf(aside, sizeof(aside), "gone-%lu", (*serial)++);
        if ((errno != ENOTEMPTY && errno != EEXIST) ||
            renameat(dirfd(d), e->d_name, stage, aside) < 0) {
            n = -1;
            break;
        }
    }
    if (n >= 0 && errno != 0)
        n = -1;
    {
        int saved = errno;

        closedir(d);
        errno = saved;
    }
    return n;
}

/* Empty the staging directory: each round takes one level from all there is. */
static int empty_stage(int stage, unsigned long *serial)
{
    for (;;) {
        DIR *d = open_dir(stage, ".");
        struct dirent *e;
        long n = 0;

        if (!d)
            return -1;
        while (n >= 0 && (errno = 0, e = readdir(d))) {
            if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
                continue;
            n++;
            if (unlinkat(stage, e->d_name, 0) == 0 ||
                unlinkat(stage, e->d_name, AT_REMOVEDIR) == 0)
                continue;
            if (flatten(stage, e->d_name, stage, serial) < 0 ||
                unlinkat(stage, e->d_name, AT_REMOVEDIR) < 0)
                n = -1;
        }
        if (n < 0 || errno != 0) {
            int saved = errno;

            closedir(d);
            errno = saved;
            return -1;
        }
        closedir(d);
        if (n == 0)
            return 0;
    }
}

/* The next file system's root has none of these unless an event says so. */
static int drop_xattrs(int fd)
{
    ssize_t len = flistxattr(fd, NULL, 0);
    char *list;
    int rc = 0;

    if (len <= 0)
        return len < 0 && errno != ENOTSUP ? -1 : 0;
    list = malloc((size_t)len);
    if (!list)
        return -1;
    len = flistxattr(fd, list, (size_t)len);
    for (ssize_t at = 0; at < len; at += (ssize_t)strlen(list + at) + 1) {
        /* Those of the host's own doing stay. */
        if (fremovexattr(fd, list + at) < 0 && errno != EPERM && errno != ENODATA &&
            errno != ENOTSUP && errno != EACCES)
            rc = -1;
    }
    free(list);
    return rc;
}

int nf_apply_clear(struct nf_apply *a, struct nf_error *err)
{
    unsigned long serial = 0;
    int rc = nf_apply_file_close(a, err);

    if (rc < 0)
        return rc;
    nf_beneath_forget(&a->tree);
    nf_inode_map_release(&a->inodes);
    if (empty_stage(a->stage, &serial) < 0 ||
        flatten(a->tree.root, ".", a->stage, &serial) < 0 || empty_stage(a->stage, &serial) < 0)
        return nf_fail(err, NF_EIO, "removing what is gone: %s", strerror(errno));
    if (!a->opt.keep_top && drop_xattrs(a->tree.root) < 0)
        return nf_fail(err, NF_EIO, "the top directory's attributes: %s", strerror(errno));
    return 0;
}
