/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one program of ours that runs inside a test guest, linked statically:
 * system calls on files that busybox has no command for. Nothing of it is
 * needed for watching; it is the workload.
 *
 * Exit status: 0, 1 when a call failed (the message names it), 2 usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

static int fail(const char *what, const char *path)
{
    fprintf(stderr, "guest-tool: %s: %s: %s\n", what, path, strerror(errno));
    return 1;
}

static int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return ts.tv_sec * 1000000000LL + ts.tv_nsec;
}

static int write_all(int fd, const char *data, size_t len)
{
    while (len > 0) {
        ssize_t n = write(fd, data, len);

        if (n < 0) {
            return -1;
        }
        data += n;
        len -= (size_t)n;
    }
    return 0;
}

/* append FILE TEXT: adds a line and returns only when it is on disk. */
static int cmd_append(char **argv)
{
    int fd = open(argv[0], O_WRONLY | O_CREAT | O_APPEND, 0644);

    if (fd < 0) {
        return fail("open", argv[0]);
    }
    if (write_all(fd, argv[1], strlen(argv[1])) != 0 || write_all(fd, "\n", 1) != 0) {
        return fail("write", argv[0]);
    }
    if (fsync(fd) != 0) {
        return fail("fsync", argv[0]);
    }
    close(fd);
    return 0;
}

/* fsync PATH: a file or a directory. */
static int cmd_fsync(char **argv)
{
    int fd = open(argv[0], O_RDONLY);

    if (fd < 0) {
        return fail("open", argv[0]);
    }
    if (fsync(fd) != 0) {
        return fail("fsync", argv[0]);
    }
    close(fd);
    return 0;
}

/* save FILE TEXT: what editors do: write a new file, sync it, rename it over the old. */
static int cmd_save(char **argv)
{
    char tmp[4096];
    int fd;

    snprintf(tmp, sizeof(tmp), "%s.new", argv[0]);
    fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC, 0644);
    if (fd < 0) {
        return fail("open", tmp);
    }
    if (write_all(fd, argv[1], strlen(argv[1])) != 0 || write_all(fd, "\n", 1) != 0) {
        return fail("write", tmp);
    }
    if (fsync(fd) != 0) {
        return fail("fsync", tmp);
    }
    close(fd);
    if (rename(tmp, argv[0]) != 0) {
        return fail("rename", argv[0]);
    }
    return 0;
}

static int cmd_setxattr(char **argv)
{
    return lsetxattr(argv[0], argv[1], argv[2], strlen(argv[2]), 0) != 0
               ? fail("setxattr", argv[0]) : 0;
}

static int cmd_delxattr(char **argv)
{
    return lremovexattr(argv[0], argv[1]) != 0 ? fail("removexattr", argv[0]) : 0;
}

static int cmd_exchange(char **argv)
{
    return renameat2(AT_FDCWD, argv[0], AT_FDCWD, argv[1], RENAME_EXCHANGE) != 0
               ? fail("renameat2", argv[0]) : 0;
}

/* mmap FILE OFFSET TEXT: writes through a shared mapping. */
static int cmd_mmap(char **argv)
{
    size_t offset = strtoul(argv[1], NULL, 0);
    size_t len = strlen(argv[2]);
    int fd = open(argv[0], O_RDWR);
    struct stat st;
    char *map;

    if (fd < 0 || fstat(fd, &st) != 0) {
        return fail("open", argv[0]);
    }
    if (offset > (size_t)st.st_size || len > (size_t)st.st_size - offset) {
        errno = EINVAL;
        return fail("mmap", argv[0]);
    }
    map = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) {
        return fail("mmap", argv[0]);
    }
    memcpy(map + offset, argv[2], len);
    if (msync(map, (size_t)st.st_size, MS_SYNC) != 0) {
        return fail("msync", argv[0]);
    }
    munmap(map, (size_t)st.st_size);
    close(fd);
    return 0;
}

/* tmpfile DIR FILE TEXT: a file that gets its name after it has its content. */
static int cmd_tmpfile(char **argv)
{
    char proc[64];
    int fd = open(argv[0], O_TMPFILE | O_RDWR, 0640);

    if (fd < 0) {
        return fail("open O_TMPFILE", argv[0]);
    }
    if (write_all(fd, argv[2], strlen(argv[2])) != 0 || fsync(fd) != 0) {
        return fail("write", argv[0]);
    }
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, proc, AT_FDCWD, argv[1], AT_SYMLINK_FOLLOW) != 0) {
        return fail("linkat", argv[1]);
    }
    close(fd);
    return 0;
}

/* fallocate FILE MODE OFFSET LENGTH: MODE is alloc, punch, zero, collapse or insert. */
static int cmd_fallocate(char **argv)
{
    static const struct {
        const char *name;
        int mode;
    } modes[] = {
        { "alloc", 0 },
        { "punch", FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE },
        { "zero", FALLOC_FL_ZERO_RANGE },
        { "collapse", FALLOC_FL_COLLAPSE_RANGE },
        { "insert", FALLOC_FL_INSERT_RANGE },
    };
    int fd = open(argv[0], O_RDWR | O_CREAT, 0644);

    if (fd < 0) {
        return fail("open", argv[0]);
    }
    for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
        if (strcmp(modes[i].name, argv[1]) == 0) {
            off_t offset = strtol(argv[2], NULL, 0);
            off_t length = strtol(argv[3], NULL, 0);

            if (fallocate(fd, modes[i].mode, offset, length) != 0) {
                return fail("fallocate", argv[0]);
            }
            close(fd);
            return 0;
        }
    }
    errno = EINVAL;
    return fail("fallocate mode", argv[1]);
}

/* chattr FILE FLAGS: sets the inode flags (hexadecimal, FS_*_FL). */
static int cmd_chattr(char **argv)
{
    int flags = (int)strtol(argv[1], NULL, 16);
    int fd = open(argv[0], O_RDONLY);

    if (fd < 0) {
        return fail("open", argv[0]);
    }
    if (ioctl(fd, FS_IOC_SETFLAGS, &flags) != 0) {
        return fail("FS_IOC_SETFLAGS", argv[0]);
    }
    close(fd);
    return 0;
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

    return (x > y) - (x < y);
}

/* fsync-loop FILE COUNT: prints the median and the 99th percentile, in microseconds. */
static int cmd_fsync_loop(char **argv)
{
    long count = strtol(argv[1], NULL, 10);
    int fd = open(argv[0], O_WRONLY | O_CREAT | O_TRUNC, 0644);
    int64_t *took;

    if (fd < 0) {
        return fail("open", argv[0]);
    }
    if (count < 1 || count > 1000000) {
        errno = EINVAL;
        return fail("count", argv[1]);
    }
    took = calloc((size_t)count, sizeof(*took));
    if (took == NULL) {
        return fail("calloc", argv[0]);
    }
    for (long i = 0; i < count; i++) {
        char line[64];
        int len = snprintf(line, sizeof(line), "entry %ld\n", i);
        int64_t start = now_ns();

        if (write_all(fd, line, (size_t)len) != 0 || fsync(fd) != 0) {
            return fail("write", argv[0]);
        }
        took[i] = now_ns() - start;
    }
    qsort(took, (size_t)count, sizeof(*took), compare);
    printf("%lld %lld\n", (long long)(took[count / 2] / 1000),
           (long long)(took[count - 1 - count / 100] / 1000));
    free(took);
    close(fd);
    return 0;
}

/* resize MOUNTPOINT MIB: the mounted ext4 gets that large. */
static int cmd_resize(char **argv)
{
    int fd = open(argv[0], O_RDONLY | O_DIRECTORY);
    struct statfs st;
    uint64_t blocks;

    if (fd < 0 || fstatfs(fd, &st) != 0) {
        return fail("open", argv[0]);
    }
    blocks = (strtoull(argv[1], NULL, 10) << 20) / (uint64_t)st.f_bsize;
    if (ioctl(fd, _IOW('f', 16, uint64_t), &blocks) != 0) { /* EXT4_IOC_RESIZE_FS */
        return fail("resize", argv[0]);
    }
    close(fd);
    return 0;
}

static const struct command {
    const char *name;
    int args;
    int (*run)(char **argv);
} commands[] = {
    { "append", 2, cmd_append },       { "fsync", 1, cmd_fsync },
    { "save", 2, cmd_save },           { "setxattr", 3, cmd_setxattr },
    { "delxattr", 2, cmd_delxattr },   { "exchange", 2, cmd_exchange },
    { "mmap", 3, cmd_mmap },           { "tmpfile", 3, cmd_tmpfile },
    { "fallocate", 4, cmd_fallocate }, { "chattr", 2, cmd_chattr },
    { "fsync-loop", 2, cmd_fsync_loop }, { "resize", 2, cmd_resize },
};

int main(int argc, char **argv)
{
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (argc >= 2 && strcmp(argv[1], commands[i].name) == 0 &&
            argc == 2 + commands[i].args) {
            return commands[i].run(argv + 2);
        }
    }
    fprintf(stderr, "usage: guest-tool COMMAND ARGUMENTS; commands:");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        fprintf(stderr, " %s(%d)", commands[i].name, commands[i].args);
    }
    fprintf(stderr, "\n");
    return 2;
}
