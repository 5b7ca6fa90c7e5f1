/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One system call that no shell tool makes: the workloads' helper.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "tests/oracle/syscalls_crypt.h"

static const char usage_text[] =
    "Usage: syscalls exchange A B          renameat2(RENAME_EXCHANGE)\n"
    "       syscalls rename A B            rename(2), without mv's own ideas\n"
    "       syscalls fallocate MODE OFFSET LENGTH FILE\n"
    "                MODE: alloc keep punch zero zerokeep collapse insert\n"
    "       syscalls direct FILE OFFSET LENGTH BYTE   O_DIRECT write\n"
    "       syscalls mmap FILE OFFSET LENGTH BYTE     store through a shared mapping, msync\n"
    "       syscalls write FILE OFFSET LENGTH BYTE    pwrite\n"
    "       syscalls append FILE COUNT LENGTH  COUNT appends, each with fsync\n"
    "       syscalls tmpfile DIR NAME LENGTH   O_TMPFILE, sync, write, linkat\n"
    "       syscalls orphan FILE LENGTH        open, unlink, write, sync, close\n"
    "       syscalls socket PATH               bind a Unix socket\n"
    "       syscalls chattr FILE +FLAG|-FLAG   (i, a, j as a number in hex)\n"
    "       syscalls project PATH ID [inherit]   its project; what is made in it gets the same\n"
    "       syscalls many DIR PREFIX COUNT     COUNT empty files\n"
    "       syscalls links FILE PREFIX COUNT   COUNT names for it\n"
    "       syscalls fsync FILE\n"
    "       syscalls deep COUNT NAME           mkdir and chdir, COUNT times, then a file\n"
    "       syscalls encrypt DIR VERSION BYTE FLAGS   add a key made of BYTE, set a policy\n"
    "       syscalls verity FILE BLOCKSIZE     enable verity\n"
    "       syscalls shutdown DIR              ext4: as if the power went, nothing is written any more\n";

static int fail(const char *what)
{
    fprintf(stderr, "syscalls: %s: %s\n", what, strerror(errno));
    return 1;
}

static char *bytes(size_t len, int byte)
{
    char *p = aligned_alloc(4096, (len + 4095) & ~(size_t)4095);

    if (p)
        memset(p, byte, len);
    return p;
}

static int write_file(const char *path, int flags, off_t at, size_t len, int byte)
{
    int fd = open(path, O_WRONLY | O_CREAT | flags, 0644);
    char *buf = bytes(len, byte);

    if (fd < 0 || !buf || pwrite(fd, buf, len, at) != (ssize_t)len || close(fd) < 0)
        return fail(path);
    free(buf);
    return 0;
}

static int do_fallocate(char **argv)
{
    static const struct {
        const char *name;
        int mode;
    } modes[] = {
        { "alloc", 0 },
        { "keep", FALLOC_FL_KEEP_SIZE },
        { "punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE },
        { "zero", FALLOC_FL_ZERO_RANGE },
        { "zerokeep", FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE },
        { "collapse", FALLOC_FL_COLLAPSE_RANGE },
        { "insert", FALLOC_FL_INSERT_RANGE },
    };
    int fd = open(argv[3], O_RDWR | O_CREAT, 0644);

    for (size_t i = 0; fd >= 0 && i < sizeof(modes) / sizeof(modes[0]); i++)
        if (strcmp(argv[0], modes[i].name) == 0)
            return fallocate(fd, modes[i].mode, atoll(argv[1]), atoll(argv[2])) < 0
                       ? fail(argv[3])
                       : 0;
    return fail(argv[3]);
}

static int do_mmap(const char *path, off_t at, size_t len, int byte)
{
    int fd = open(path, O_RDWR);
    char *p;

    if (fd < 0)
        return fail(path);
    p = mmap(NULL, len + (size_t)at, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return fail(path);
    memset(p + at, byte, len);
    return msync(p, len + (size_t)at, MS_SYNC) < 0 ? fail(path) : 0;
}

static int do_append(const char *path, int count, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_APPEND, 0644);
    char *buf = malloc(len);

    if (fd < 0 || !buf)
        return fail(path);
    for (int i = 0; i < count; i++) {
        memset(buf, 'a' + i % 26, len);
        if (write(fd, buf, len) != (ssize_t)len || fsync(fd) < 0)
            return fail(path);
    }
    free(buf);
    return 0;
}

static int do_tmpfile(const char *dir, const char *name, size_t len)
{
    int fd = open(dir, O_TMPFILE | O_RDWR, 0640);
    char *buf = bytes(len, 't'), proc[40];

    if (fd < 0 || !buf)
        return fail(dir);
    sync();
    if (pwrite(fd, buf, len, 0) != (ssize_t)len)
        return fail(dir);
    sync();
    free(buf);
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    return linkat(AT_FDCWD, proc, AT_FDCWD, name, AT_SYMLINK_FOLLOW) < 0 ? fail(name) : 0;
}

static int do_orphan(const char *path, size_t len)
{
    int fd = open(path, O_RDWR | O_CREAT, 0600);
    char *buf = bytes(len, 'o');

    if (fd < 0 || !buf || pwrite(fd, buf, len / 2, 0) != (ssize_t)(len / 2))
        return fail(path);
    sync();
    if (unlink(path) < 0 || pwrite(fd, buf, len, 0) != (ssize_t)len)
        return fail(path);
    sync();
    free(buf);
    if (ftruncate(fd, 100) < 0 || fchmod(fd, 0777) < 0)
        return fail(path);
    sync();
    return 0;
}

static int do_socket(const char *path)
{
    struct sockaddr_un sa = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM, 0);

    snprintf(sa.sun_path, sizeof(sa.sun_path), "%s", path);
    return fd < 0 || bind(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? fail(path) : 0;
}

static int do_chattr(const char *path, const char *change)
{
    int fd = open(path, O_RDONLY), flags;

    if (fd < 0 || ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
        return fail(path);
    if (change[0] == '+')
        flags |= (int)strtol(change + 1, NULL, 16);
    else
        flags &= ~(int)strtol(change + 1, NULL, 16);
    return ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0 ? fail(path) : 0;
}

static int do_project(const char *path, const char *id, bool inherit)
{
    int fd = open(path, O_RDONLY);
    struct fsxattr x;

    if (fd < 0 || ioctl(fd, FS_IOC_FSGETXATTR, &x) < 0)
        return fail(path);
    x.fsx_projid = (uint32_t)strtoul(id, NULL, 0);
    x.fsx_xflags &= ~(uint32_t)FS_XFLAG_PROJINHERIT;
    x.fsx_xflags |= inherit ? FS_XFLAG_PROJINHERIT : 0;
    return ioctl(fd, FS_IOC_FSSETXATTR, &x) < 0 ? fail(path) : 0;
}

static int do_many(const char *dir, const char *prefix, int count)
{
    char name[300];

    if (chdir(dir) < 0)
        return fail(dir);
    for (int i = 0; i < count; i++) {
        int fd;

        snprintf(name, sizeof(name), "%s%d", prefix, i);
        fd = open(name, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
        if (fd < 0)
            return fail(name);
        close(fd);
    }
    return 0;
}

static int do_links(const char *file, const char *prefix, int count)
{
    char name[300];

    for (int i = 0; i < count; i++) {
        snprintf(name, sizeof(name), "%s%d", prefix, i);
        if (link(file, name) < 0)
            return fail(name);
    }
    return 0;
}

static int do_deep(int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (mkdir(name, 0755) < 0 || chdir(name) < 0)
            return fail(name);
    return write_file("bottom", 0, 0, 5000, 'b');
}

int main(int argc, char **argv)
{
    const char *c = argc > 1 ? argv[1] : "";
    int fd;

#define CALL(name, args) (strcmp(c, name) == 0 && argc == 2 + (args))
    if (CALL("exchange", 2))
        return renameat2(AT_FDCWD, argv[2], AT_FDCWD, argv[3], RENAME_EXCHANGE) < 0 ? fail(argv[2])
                                                                                   : 0;
    if (CALL("rename", 2))
        return rename(argv[2], argv[3]) < 0 ? fail(argv[2]) : 0;
    if (CALL("fallocate", 4))
        return do_fallocate(argv + 2);
    if (CALL("direct", 4))
        return write_file(argv[2], O_DIRECT, atoll(argv[3]), (size_t)atoll(argv[4]), argv[5][0]);
    if (CALL("write", 4))
        return write_file(argv[2], 0, atoll(argv[3]), (size_t)atoll(argv[4]), argv[5][0]);
    if (CALL("mmap", 4))
        return do_mmap(argv[2], atoll(argv[3]), (size_t)atoll(argv[4]), argv[5][0]);
    if (CALL("append", 3))
        return do_append(argv[2], atoi(argv[3]), (size_t)atoll(argv[4]));
    if (CALL("tmpfile", 3))
        return do_tmpfile(argv[2], argv[3], (size_t)atoll(argv[4]));
    if (CALL("orphan", 2))
        return do_orphan(argv[2], (size_t)atoll(argv[3]));
    if (CALL("socket", 1))
        return do_socket(argv[2]);
    if (CALL("chattr", 2))
        return do_chattr(argv[2], argv[3]);
    if (CALL("project", 2))
        return do_project(argv[2], argv[3], false);
    if (CALL("project", 3) && strcmp(argv[4], "inherit") == 0)
        return do_project(argv[2], argv[3], true);
    if (CALL("many", 3))
        return do_many(argv[2], argv[3], atoi(argv[4]));
    if (CALL("links", 3))
        return do_links(argv[2], argv[3], atoi(argv[4]));
    if (CALL("deep", 2))
        return do_deep(atoi(argv[2]), argv[3]);
    if (CALL("encrypt", 4))
        return syscalls_encrypt(argv[2], atoi(argv[3]), argv[4][0],
                                (unsigned)strtoul(argv[5], NULL, 0));
    if (CALL("verity", 2))
        return syscalls_verity(argv[2], (unsigned)atoi(argv[3]));
    if (CALL("shutdown", 1)) {
        uint32_t no_flush = 2; /* EXT4_GOING_FLAGS_NOLOGFLUSH */

        fd = open(argv[2], O_RDONLY);
        return fd < 0 || ioctl(fd, _IOR('X', 125, uint32_t), &no_flush) < 0 ? fail(argv[2]) : 0;
    }
    if (CALL("fsync", 1)) {
        fd = open(argv[2], O_RDONLY);
        return fd < 0 || fsync(fd) < 0 ? fail(argv[2]) : 0;
    }
    fputs(usage_text, stderr);
    return 2;
}
