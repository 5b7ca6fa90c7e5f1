/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/oracle/checkpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/loop.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/cleanup.h"

extern char **environ;

int checkpoint_init(struct checkpoint *c, const char *dir, struct nf_error *err)
{
    *c = (struct checkpoint){ .root = -1 };
    snprintf(c->copy, sizeof(c->copy), "%s/recovered.img", dir);
    snprintf(c->mount, sizeof(c->mount), "%s/recovered", dir);
    if (mkdir(c->mount, 0700) < 0)
        return nf_fail(err, NF_EIO, "mkdir %s: %s", c->mount, strerror(errno));
    return 0;
}

/* What is from @offset on; e2fsck takes no offset for replaying a journal. */
static int copy_sparse(int from, off_t offset, const char *path, struct nf_error *err)
{
    static uint8_t buf[1 << 20];
    NF_AUTO_CLOSE int to = open(path, O_CREAT | O_TRUNC | O_RDWR | O_CLOEXEC, 0600);
    struct stat st;
    off_t pos = offset;

    if (to < 0 || fstat(from, &st) < 0 || ftruncate(to, st.st_size - offset) < 0)
        return nf_fail(err, NF_EIO, "%s: %s", path, strerror(errno));
    while (pos < st.st_size) {
        off_t data = lseek(from, pos, SEEK_DATA), hole;

        if (data < 0)
            break;
        hole = lseek(from, data, SEEK_HOLE);
        for (pos = data; pos < hole;) {
            size_t want = (size_t)(hole - pos) < sizeof(buf) ? (size_t)(hole - pos) : sizeof(buf);
            ssize_t n = pread(from, buf, want, pos);

            if (n <= 0 || pwrite(to, buf, (size_t)n, pos - offset) != n)
                return nf_fail(err, NF_EIO, "copy to %s: %s", path, strerror(errno));
            pos += n;
        }
    }
    return 0;
}

/* A loop device over @file that goes away with its last user. */
static int loop_open(const char *file, bool writable, char path[40], struct nf_error *err)
{
    int mode = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC;
    NF_AUTO_CLOSE int ctl = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    NF_AUTO_CLOSE int img = open(file, mode);

    if (ctl < 0 || img < 0)
        return nf_fail(err, NF_EIO, "%s: %s", ctl < 0 ? "/dev/loop-control" : file,
                       strerror(errno));
    for (int tries = 0; tries < 100; tries++) {
        struct loop_config config = {
            .fd = (uint32_t)img,
            .info = { .lo_flags = (writable ? 0 : LO_FLAGS_READ_ONLY) | LO_FLAGS_AUTOCLEAR },
        };
        int n = ioctl(ctl, LOOP_CTL_GET_FREE), fd;

        if (n < 0)
            return nf_fail(err, NF_EIO, "no free loop device: %s", strerror(errno));
        snprintf(path, 40, "/dev/loop%d", n);
        fd = open(path, mode);
        if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0) {
            /* Somebody who kept the device open, looking for a free one as we
             * do, has kept its cache too: that of another image. */
            ioctl(fd, BLKFLSBUF, 0);
            return fd;
        }
        if (fd >= 0)
            close(fd);
        /* Somebody else took it first. */
        if (fd >= 0 && errno != EBUSY)
            break;
        usleep(10000);
    }
    return nf_fail(err, NF_EIO, "loop device for %s: %s", file, strerror(errno));
}

static int replay(const char *path, struct nf_error *err)
{
    char log[400];
    char *argv[] = { (char *)"e2fsck", (char *)"-y", (char *)"-E", (char *)"journal_only",
                     (char *)path, NULL };
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status, rc;

    snprintf(log, sizeof(log), "%s.e2fsck", path);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 1, log, O_CREAT | O_TRUNC | O_WRONLY, 0600);
    posix_spawn_file_actions_adddup2(&actions, 1, 2);
    rc = posix_spawnp(&pid, argv[0], &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (rc != 0)
        return nf_fail(err, NF_EIO, "e2fsck: %s", strerror(rc));
    if (waitpid(pid, &status, 0) < 0)
        return nf_fail(err, NF_EIO, "e2fsck: %s", strerror(errno));
    if (!WIFEXITED(status) || (WEXITSTATUS(status) & ~3))
        return nf_fail(err, NF_EFORMAT, "e2fsck -E journal_only failed with %d, see %s",
                       WIFEXITED(status) ? WEXITSTATUS(status) : -1, log);
    unlink(log);
    return 0;
}

static bool has_fast_commits(int disk_fd, uint64_t offset)
{
    uint8_t compat[4] = { 0 };

    return pread(disk_fd, compat, 4, (off_t)offset + 1024 + 0x5c) == 4 &&
           (nf_le32(compat) & 0x400);
}

int checkpoint_recover(struct checkpoint *c, int disk_fd, uint64_t offset, struct nf_error *err)
{
    int rc;

    checkpoint_drop(c);
    c->replayed = has_fast_commits(disk_fd, offset);
    rc = copy_sparse(disk_fd, (off_t)offset, c->copy, err);
    return rc < 0 || c->replayed ? rc : replay(c->copy, err);
}

int checkpoint_take(struct checkpoint *c, int disk_fd, uint64_t offset, struct nf_error *err)
{
    NF_AUTO_CLOSE int loop = -1;
    char device[40];
    int rc = checkpoint_recover(c, disk_fd, offset, err);
    unsigned long flags = MS_NOSUID | MS_NODEV | (c->replayed ? MS_NOATIME : MS_RDONLY);

    if (rc < 0)
        return rc;
    loop = loop_open(c->copy, c->replayed, device, err);
    if (loop < 0)
        return loop;
    /* The clock of file systems, which is a little behind. */
    clock_gettime(CLOCK_REALTIME_COARSE, &c->since);
    rc = mount(device, c->mount, "ext4", flags, c->replayed ? "noinit_itable" : NULL);
    if (rc < 0 && c->replayed && (errno == EUCLEAN || errno == EIO || errno == EINVAL))
        return 1;
    if (rc < 0)
        return nf_fail(err, NF_EIO, "mount the recovered image: %s", strerror(errno));
    c->mounted = true;
    /* A recursive bind of what is above would keep it busy after our umount. */
    mount(NULL, c->mount, NULL, MS_UNBINDABLE, NULL);
    c->root = open(c->mount, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (c->root < 0)
        return nf_fail(err, NF_EIO, "%s: %s", c->mount, strerror(errno));
    return 0;
}

void checkpoint_drop(struct checkpoint *c)
{
    if (c->root >= 0)
        close(c->root);
    c->root = -1;
    if (c->mounted)
        umount2(c->mount, MNT_DETACH);
    c->mounted = false;
}

void checkpoint_release(struct checkpoint *c)
{
    checkpoint_drop(c);
    rmdir(c->mount);
    unlink(c->copy);
}
