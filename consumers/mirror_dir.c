/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "consumers/mirror_dir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"

#define STATE_NAME "state"
#define STATE_TEMP "state.new"
#define STAGE_NAME "stage"

/* 1: empty, 0: not, negative: error. */
static int is_empty(int dir)
{
    int fd = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;
    int empty = 1;

    if (!d) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    while (empty && (e = readdir(d)))
        empty = strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0;
    closedir(d);
    return empty;
}

/* The directory beside DIR, by a name that says whose it is. */
static int open_side(struct nf_mirror_dir *d, const char *path, struct nf_error *err)
{
    NF_AUTO_FREE char *real = realpath(path, NULL);
    char side[PATH_MAX + 32];
    struct stat st, tree;
    const char *name;

    if (!real)
        return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
    name = strrchr(real, '/') + 1;
    if (*name == '\0')
        return nf_fail(err, NF_EINVAL, "the root directory cannot be a mirror");
    snprintf(side, sizeof(side), "%.*s.%s.nearfield", (int)(name - real), real, name);
    d->side_path = strdup(side);
    d->made_side = d->side_path && mkdir(side, 0700) == 0;
    if (!d->made_side && errno != EEXIST)
        return nf_fail(err, NF_EIO, "%s: %s", side, strerror(errno));
    d->side = open(side, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (d->side < 0 || fstat(d->side, &st) < 0 || fstat(d->tree, &tree) < 0)
        return nf_fail(err, NF_EIO, "%s: %s", side, strerror(errno));
    if (st.st_uid != geteuid() || (st.st_mode & 077))
        return nf_fail(err, NF_EINVAL, "%s is not a directory of ours with mode 0700", side);
    if (st.st_dev != tree.st_dev)
        return nf_fail(err, NF_EINVAL, "%s is a mount point: name a directory in it", path);
    if (mkdirat(d->side, STAGE_NAME, 0700) < 0 && errno != EEXIST)
        return nf_fail(err, NF_EIO, "%s: %s", side, strerror(errno));
    d->stage = openat(d->side, STAGE_NAME, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (d->stage < 0)
        return nf_fail(err, NF_EIO, "%s/%s: %s", side, STAGE_NAME, strerror(errno));
    return 0;
}

/* Forget what an earlier mirror kept for itself. */
static int clear_stage(const struct nf_mirror_dir *d, struct nf_error *err)
{
    int fd = openat(d->stage, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;
    int rc = 0;

    if (!dir) {
        if (fd >= 0)
            close(fd);
        return nf_fail(err, NF_EIO, "staging directory: %s", strerror(errno));
    }
    while (rc == 0 && (e = readdir(dir))) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
            continue;
        if (unlinkat(d->stage, e->d_name, 0) < 0 &&
            unlinkat(d->stage, e->d_name, AT_REMOVEDIR) < 0)
            rc = nf_fail(err, NF_EIO, "staging directory, %s: %s", e->d_name, strerror(errno));
    }
    closedir(dir);
    return rc;
}

/* 1: a state of this DIR was read. */
static int read_state(struct nf_mirror_dir *d)
{
    char text[300];
    NF_AUTO_CLOSE int fd = openat(d->side, STATE_NAME, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    unsigned as_root;
    uint64_t inode;
    struct stat st;

    if (n <= 0 || fstat(d->tree, &st) < 0)
        return 0;
    text[n] = '\0';
    if (sscanf(text,
               "nearfield mirror 1\nepoch %" SCNu64 "\nseq %" SCNu64 "\npartition %" SCNu32
               "\nas-root %u\ninode %" SCNu64 "\n",
               &d->state.epoch, &d->state.seq, &d->state.partition, &as_root, &inode) != 5)
        return 0;
    d->state.as_root = as_root != 0;
    return inode == st.st_ino;
}

int nf_mirror_dir_open(struct nf_mirror_dir *d, const char *path, bool adopt,
                       struct nf_error *err)
{
    int rc, empty;

    *d = (struct nf_mirror_dir){ .tree = -1, .side = -1, .stage = -1 };
    d->path = strdup(path);
    d->made = d->path && mkdir(path, 0700) == 0;
    if (!d->made && errno != EEXIST)
        return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
    d->tree = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (d->tree < 0)
        return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
    empty = is_empty(d->tree);
    if (empty < 0)
        return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
    rc = open_side(d, path, err);
    if (rc < 0)
        return rc;
    d->resumed = !empty && read_state(d);
    if (!empty && !d->resumed && !adopt)
        return nf_fail(err, NF_EINVAL,
                       "%s is not empty, and no mirror left it whole: start with an empty one",
                       path);
    if (d->resumed)
        return 0;
    d->state = (struct nf_mirror_state){ 0 };
    return clear_stage(d, err);
}

bool nf_mirror_dir_private(const struct nf_mirror_dir *d)
{
    NF_AUTO_CLOSE int at = openat(d->tree, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
    struct stat st, last = { 0 };

    while (at >= 0 && fstat(at, &st) == 0) {
        int up;

        if (st.st_uid == 0 && (st.st_mode & 077) == 0)
            return true;
        if (st.st_dev == last.st_dev && st.st_ino == last.st_ino)
            return false;
        last = st;
        up = openat(at, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
        close(at);
        at = up;
    }
    return false;
}

int nf_mirror_dir_begin(struct nf_mirror_dir *d, struct nf_error *err)
{
    if (unlinkat(d->side, STATE_NAME, 0) < 0 && errno != ENOENT)
        return nf_fail(err, NF_EIO, "removing the old state: %s", strerror(errno));
    return 0;
}

int nf_mirror_dir_save(struct nf_mirror_dir *d, struct nf_error *err)
{
    NF_AUTO_CLOSE int fd =
        openat(d->side, STATE_TEMP, O_CREAT | O_TRUNC | O_WRONLY | O_NOFOLLOW | O_CLOEXEC, 0600);
    struct stat st;

    if (fd < 0 || fstat(d->tree, &st) < 0 ||
        dprintf(fd,
                "nearfield mirror 1\nepoch %" PRIu64 "\nseq %" PRIu64 "\npartition %" PRIu32
                "\nas-root %u\ninode %" PRIu64 "\n",
                d->state.epoch, d->state.seq, d->state.partition, (unsigned)d->state.as_root,
                (uint64_t)st.st_ino) < 0 ||
        renameat(d->side, STATE_TEMP, d->side, STATE_NAME) < 0)
        return nf_fail(err, NF_EIO, "saving the state: %s", strerror(errno));
    return 0;
}

void nf_mirror_dir_close(struct nf_mirror_dir *d, bool undo)
{
    if (undo && d->made_side) {
        unlinkat(d->side, STAGE_NAME, AT_REMOVEDIR);
        rmdir(d->side_path);
    }
    if (undo && d->made)
        rmdir(d->path);
    free(d->path);
    free(d->side_path);
    nf_cleanup_close(&d->tree);
    nf_cleanup_close(&d->side);
    nf_cleanup_close(&d->stage);
}
