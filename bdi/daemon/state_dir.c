/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/state_dir.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"

#define LOCK_TRIES 100
#define LOCK_PAUSE_MS 20

static int fail(const char *path, const char *what, struct nf_error *err)
{
    return nf_fail(err, NF_EIO, "state %s: %s%s%s", path, what ? what : "", what ? ": " : "",
                   strerror(errno));
}

static int open_dir(const char *path, struct nf_error *err)
{
    struct stat st;
    int fd;

    if (mkdir(path, 0700) < 0 && errno != EEXIST)
        return fail(path, NULL, err);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return fail(path, NULL, err);
    if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && (st.st_mode & 077) == 0)
        return fd;
    close(fd);
    return nf_fail(err, NF_EINVAL, "state %s: it must belong to user %u alone (mode 0700)", path,
                   (unsigned)geteuid());
}

static int open_file(int dir, const char *path, const char *name, int *fd, struct nf_error *err)
{
    struct stat st;

    *fd = openat(dir, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    if (*fd < 0)
        return fail(path, name, err);
    if (fstat(*fd, &st) < 0 || !S_ISREG(st.st_mode))
        return nf_fail(err, NF_EINVAL, "state %s: %s: not a regular file", path, name);
    return 0;
}

static int lock(int fd, const char *path, struct nf_error *err)
{
    const struct timespec pause = {.tv_nsec = LOCK_PAUSE_MS * 1000000l};

    for (int i = 0; i < LOCK_TRIES; i++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0)
            return 0;
        if (errno != EWOULDBLOCK && errno != EINTR)
            return fail(path, "lock", err);
        nanosleep(&pause, NULL);
    }
    return nf_fail(err, NF_EBUSY, "state %s: another nearfield-bdi uses it", path);
}

static int read_boot_id(char id[37], struct nf_error *err)
{
    NF_AUTO_CLOSE int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, id, 36);

    if (n != 36)
        return nf_fail(err, NF_EIO, "boot id: %s", n < 0 ? strerror(errno) : "too short");
    id[36] = '\0';
    return 0;
}

int state_dir_open(const char *path, struct engine_setup *s, struct nf_error *err)
{
    NF_AUTO_CLOSE int dir = open_dir(path, err);
    int rc = dir < 0 ? dir : open_file(dir, path, "lock", &s->lock_fd, err);

    if (rc == 0)
        rc = lock(s->lock_fd, path, err);
    if (rc == 0)
        rc = open_file(dir, path, "shadow", &s->shadow_fd, err);
    if (rc == 0)
        rc = open_file(dir, path, "present", &s->present_fd, err);
    if (rc == 0)
        rc = open_file(dir, path, "undo", &s->undo_fd, err);
    if (rc == 0)
        rc = open_file(dir, path, "outbox.0", &s->outbox_fds[0], err);
    if (rc == 0)
        rc = open_file(dir, path, "outbox.1", &s->outbox_fds[1], err);
    if (rc == 0)
        rc = read_boot_id(s->boot_id, err);
    s->state = rc == 0;
    return rc;
}
