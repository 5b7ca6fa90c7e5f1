/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The exerciser's calls on the content of files, and on the file system. */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include "tests/oracle/exerciser.h"

/* Not in the headers of Debian 12. */
#define IOC_CHECKPOINT _IOW('f', 43, uint32_t)
#define CHECKPOINT_ZEROOUT 2u

/* A regular file, sometimes a new one. */
static int open_some(int flags)
{
    char a[64];
    unsigned create = ex_below(3) == 0, mode = ex_below(0200);
    int fd = open(create ? ex_pick(a) : ex_pick_old(a), O_RDWR | (create ? O_CREAT : 0) | O_NOFOLLOW | O_NONBLOCK |
                                  O_CLOEXEC | flags, 0600 + mode);
    struct stat st;

    if (fd < 0)
        return -1;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        errno = EISDIR;
        return ex_close(fd, -1);
    }
    return fd;
}

static int op_write(void)
{
    int fd = open_some(0);

    return fd < 0 ? -1 : ex_close(fd, ex_write_some(fd));
}

static int op_write_held(void)
{
    int fd = ex_held();

    if (fd < 0)
        errno = EBADF;
    return fd < 0 ? -1 : ex_write_some(fd);
}

static int op_append(void)
{
    int fd = open_some(O_APPEND | (ex_below(4) ? 0 : O_DSYNC));
    size_t len = ex_pick_length();

    if (fd < 0)
        return -1;
    ex_content(len);
    return ex_close(fd, write(fd, ex_buf, len) < 0 ? -1 : 0);
}

static int op_rewrite(void)
{
    int fd = open_some(O_TRUNC);

    return fd < 0 ? -1 : ex_close(fd, ex_write_some(fd));
}

static int op_truncate(void)
{
    int fd = open_some(0);
    off_t size = ex_pick_offset();

    return fd < 0 ? -1 : ex_close(fd, ftruncate(fd, size));
}

/* Shorter and longer in one transaction: what was between is zeros. */
static int op_truncate_twice(void)
{
    int fd = open_some(0);
    off_t a = ex_pick_offset(), b = ex_pick_offset();

    if (fd < 0)
        return -1;
    return ex_close(fd, ftruncate(fd, a) < 0 || ftruncate(fd, b) < 0 ? -1 : 0);
}

static int op_direct(void)
{
    int fd = open_some(O_DIRECT);
    size_t len = (1 + ex_below(4)) * 4096u;

    if (fd < 0)
        return -1;
    ex_content(len);
    return ex_close(fd, pwrite(fd, ex_buf, len, (off_t)ex_below(20) * 4096) < 0 ? -1 : 0);
}

static int op_vector(void)
{
    size_t len = 3 + ex_below(20000);
    struct iovec v[3] = {
        { ex_buf, len / 3 }, { ex_buf + 40000, len / 3 }, { ex_buf + 80000, len / 3 }
    };
    int fd = open_some(0);

    if (fd < 0)
        return -1;
    ex_content(EX_BUF);
    return ex_close(fd, pwritev2(fd, v, 3, ex_pick_offset(), ex_below(3) ? 0 : RWF_DSYNC) < 0 ? -1
                                                                                              : 0);
}

/* Small stores into a shared mapping, sometimes beyond what is allocated. */
static int op_map(void)
{
    int fd = open_some(0), rc = -1;
    struct stat st;
    char *p;

    if (fd < 0)
        return -1;
    errno = ENODATA;
    if (fstat(fd, &st) < 0 || st.st_size < 100 || st.st_size > 1 << 20)
        return ex_close(fd, -1);
    p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return ex_close(fd, -1);
    ex_content(100);
    for (unsigned n = 1 + ex_below(5); n > 0; n--)
        memcpy(p + ex_below((unsigned)st.st_size - 99), ex_buf, 100);
    rc = ex_below(3) ? 0 : msync(p, (size_t)st.st_size, MS_SYNC);
    munmap(p, (size_t)st.st_size);
    return ex_close(fd, rc);
}

static int allocate(int mode, bool aligned)
{
    off_t at = ex_pick_offset(), len = (off_t)ex_pick_length();
    int fd = open_some(0);

    if (fd < 0)
        return -1;
    if (aligned) {
        at &= ~(off_t)4095;
        len = (len + 4095) & ~(off_t)4095;
    }
    return ex_close(fd, fallocate(fd, mode, at, len));
}

static int op_allocate(void)
{
    return allocate(0, false);
}

static int op_allocate_keep(void)
{
    return allocate(FALLOC_FL_KEEP_SIZE, false);
}

static int op_punch(void)
{
    return allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, false);
}

static int op_zero(void)
{
    return allocate(FALLOC_FL_ZERO_RANGE, false);
}

static int op_zero_keep(void)
{
    return allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, false);
}

static int op_collapse(void)
{
    return allocate(FALLOC_FL_COLLAPSE_RANGE, true);
}

static int op_insert(void)
{
    return allocate(FALLOC_FL_INSERT_RANGE, true);
}

/* From one file to another, by the kernel. */
static int op_copy_range(void)
{
    int a = open_some(0), b = open_some(0), rc = -1;
    loff_t from = 0, to = ex_pick_offset();
    size_t len = ex_pick_length();

    if (a >= 0 && b >= 0)
        rc = copy_file_range(a, &from, b, &to, len, 0) < 0 ? -1 : 0;
    if (a >= 0)
        ex_close(a, 0);
    return b >= 0 ? ex_close(b, rc) : rc;
}

static int op_sendfile(void)
{
    int a = open_some(0), b = open_some(O_TRUNC), rc = -1;

    if (a >= 0 && b >= 0)
        rc = sendfile(b, a, NULL, ex_pick_length()) < 0 ? -1 : 0;
    if (a >= 0)
        ex_close(a, 0);
    return b >= 0 ? ex_close(b, rc) : rc;
}

static int op_hold(void)
{
    int fd = open_some(0);

    return fd < 0 ? -1 : ex_hold(fd);
}

/* Written while it has no name any more. */
static int op_unlink_open(void)
{
    char a[64];
    int fd = open(ex_pick(a), O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, 0644);

    if (fd < 0)
        return -1;
    if (ex_write_some(fd) < 0 || unlink(a) < 0 || ex_write_some(fd) < 0)
        return ex_close(fd, -1);
    return ex_below(2) ? ex_close(fd, 0) : ex_hold(fd);
}

/* --- what makes it durable -------------------------------------------------- */

static int whole(int (*call)(int fd))
{
    int fd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? -1 : ex_close(fd, call(fd));
}

/* A mark for it in the stream of writes, where the oracle asks for one: see replica.h. */
static int mark(void)
{
    const char *disk = getenv("NF_DISK"), *sector = getenv("NF_MARK");
    static _Alignas(4096) char text[512] = "nearfield oracle: synced";
    ssize_t n;
    int fd;

    if (!disk || !sector)
        return 0;
    fd = open(disk, O_WRONLY | O_DIRECT | O_CLOEXEC);
    if (fd < 0)
        return -1;
    n = pwrite(fd, text, sizeof(text), (off_t)strtoull(sector, NULL, 0) * 512);
    return ex_close(fd, n == sizeof(text) ? 0 : -1);
}

static int op_syncfs(void)
{
    int rc = whole(syncfs);

    return rc == 0 ? mark() : rc;
}

static int op_fsync(void)
{
    int fd = open_some(0);

    return fd < 0 ? -1 : ex_close(fd, ex_below(2) ? fsync(fd) : fdatasync(fd));
}

static int op_fsync_dir(void)
{
    char a[64];
    int fd = open(ex_pick_dir(a), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    return fd < 0 ? -1 : ex_close(fd, fsync(fd));
}

static int op_sync_range(void)
{
    int fd = open_some(0);

    if (fd < 0)
        return -1;
    if (ex_write_some(fd) < 0)
        return ex_close(fd, -1);
    return ex_close(fd, sync_file_range(fd, 0, 0, SYNC_FILE_RANGE_WRITE |
                                                      SYNC_FILE_RANGE_WAIT_AFTER));
}

/* The log is emptied into its places. */
static int freeze(int fd)
{
    return ioctl(fd, FIFREEZE, 0) < 0 || ioctl(fd, FITHAW, 0) < 0 ? -1 : 0;
}

static int op_freeze(void)
{
    return whole(freeze);
}

static int checkpoint(int fd)
{
    uint32_t flags = ex_below(2) ? CHECKPOINT_ZEROOUT : 0;

    return ioctl(fd, IOC_CHECKPOINT, &flags);
}

static int op_checkpoint(void)
{
    return whole(checkpoint);
}

static int trim(int fd)
{
    struct fstrim_range range = { .len = UINT64_MAX };

    return ioctl(fd, FITRIM, &range);
}

static int op_trim(void)
{
    return whole(trim);
}

struct ex_op ex_file_ops[] = {
    { .name = "write", .weight = 12, .run = op_write },
    { .name = "write-held", .weight = 6, .run = op_write_held },
    { .name = "append", .weight = 5, .run = op_append },
    { .name = "rewrite", .weight = 4, .run = op_rewrite },
    { .name = "truncate", .weight = 6, .run = op_truncate },
    { .name = "truncate-twice", .weight = 3, .run = op_truncate_twice },
    { .name = "direct", .weight = 5, .run = op_direct },
    { .name = "pwritev2", .weight = 3, .run = op_vector },
    { .name = "mmap", .weight = 6, .run = op_map },
    { .name = "allocate", .weight = 3, .run = op_allocate },
    { .name = "allocate-keep", .weight = 3, .run = op_allocate_keep },
    { .name = "punch", .weight = 3, .run = op_punch },
    { .name = "zero", .weight = 3, .run = op_zero },
    { .name = "zero-keep", .weight = 2, .run = op_zero_keep },
    { .name = "collapse", .weight = 3, .run = op_collapse, .full = 1 },
    { .name = "insert", .weight = 3, .run = op_insert, .full = 1 },
    { .name = "copy_file_range", .weight = 3, .run = op_copy_range },
    { .name = "sendfile", .weight = 2, .run = op_sendfile },
    { .name = "hold", .weight = 4, .run = op_hold, .full = 1 },
    { .name = "unlink-open", .weight = 4, .run = op_unlink_open, .full = 1 },
    { .name = "syncfs", .weight = 8, .run = op_syncfs, .full = 1 },
    { .name = "fsync", .weight = 5, .run = op_fsync },
    { .name = "fsync-dir", .weight = 3, .run = op_fsync_dir },
    { .name = "sync_file_range", .weight = 3, .run = op_sync_range },
    { .name = "freeze", .weight = 1, .run = op_freeze, .full = 1 },
    { .name = "checkpoint", .weight = 1, .run = op_checkpoint, .full = 1 },
    { .name = "trim", .weight = 1, .run = op_trim },
    { .name = NULL },
};
