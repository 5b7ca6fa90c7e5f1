/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random system calls on a directory tree, decided by a seed alone:
 *     exerciser SEED STEPS DIR
 * Calls may fail (a name is taken, a directory is not empty): that is part of
 * it. Only what makes the run itself senseless ends it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define NAMES 24
#define DIRS 7
#define HELD 4

static uint64_t state;

/* splitmix64 */
static uint64_t random64(void)
{
    uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static unsigned below(unsigned n)
{
    return (unsigned)(random64() % n);
}

static int held[HELD];
static char buf[1 << 17] __attribute__((aligned(4096)));

/* A path out of few, so that calls meet; two levels of directories. */
static const char *pick(char out[64])
{
    unsigned d = below(DIRS + 1), e = below(3);

    if (d == 0)
        snprintf(out, 64, "n%u", below(NAMES));
    else if (e == 0)
        snprintf(out, 64, "d%u/e/n%u", d - 1, below(NAMES));
    else
        snprintf(out, 64, "d%u/n%u", d - 1, below(NAMES));
    return out;
}

static const char *pick_dir(char out[64])
{
    snprintf(out, 64, below(3) ? "d%u" : "d%u/e", below(DIRS));
    return out;
}

static uint64_t pick_offset(void)
{
    switch (below(4)) {
    case 0:
        return below(4096);
    case 1:
        return below(40) * 4096u;
    case 2:
        return below(200000);
    default:
        return below(64) * 1024u;
    }
}

static size_t pick_length(void)
{
    switch (below(4)) {
    case 0:
        return 1 + below(100);
    case 1:
        return (1 + below(8)) * 4096u;
    case 2:
        return 1 + below(60000);
    default:
        return (1 + below(16)) * 1024u;
    }
}

static void content(size_t len)
{
    /* Never zeros, and not two pieces alike. */
    uint64_t r = random64();

    for (size_t i = 0; i < len; i++)
        buf[i] = (char)(1 + (r >> (i % 7 * 8)) % 255 + (i >> 10) % 3);
}

static void write_some(int fd)
{
    size_t len = pick_length();

    content(len);
    if (pwrite(fd, buf, len, (off_t)pick_offset()) < 0)
        return;
    if (below(6) == 0)
        fsync(fd);
}

static void map_some(int fd)
{
    struct stat st;
    char *p;

    if (fstat(fd, &st) < 0 || st.st_size < 100)
        return;
    p = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (p == MAP_FAILED)
        return;
    content(100);
    memcpy(p + below((unsigned)st.st_size - 99), buf, 100);
    munmap(p, (size_t)st.st_size);
}

static void allocate_some(int fd)
{
    static const int modes[] = {
        0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE,
        FALLOC_FL_COLLAPSE_RANGE, FALLOC_FL_INSERT_RANGE,
    };
    unsigned m = below(7);
    off_t at = (off_t)pick_offset(), len = (off_t)pick_length();

    if (m >= 5) {
        at &= ~4095;
        len = (len + 4095) & ~4095;
    }
    if (fallocate(fd, modes[m], at, len) < 0)
        return;
}

static void on_file(unsigned op)
{
    char a[64];
    int fd = open(pick(a), O_RDWR | (below(2) ? O_CREAT : 0) | O_NOFOLLOW | O_NONBLOCK |
                               (op == 3 ? O_DIRECT : 0), 0600 + below(0200));
    struct stat st;

    if (fd < 0)
        return;
    if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return;
    }
    switch (op) {
    case 0:
    case 1:
        write_some(fd);
        break;
    case 2:
        if (ftruncate(fd, (off_t)pick_offset()) < 0)
            break;
        break;
    case 3:
        content(16384);
        if (pwrite(fd, buf, (1 + below(4)) * 4096u, below(20) * 4096u) < 0)
            break;
        break;
    case 4:
        map_some(fd);
        break;
    case 5:
        allocate_some(fd);
        break;
    case 6: { /* keep it open beyond its names */
        unsigned h = below(HELD);

        if (held[h] > 0)
            close(held[h]);
        held[h] = fd;
        return;
    }
    }
    close(fd);
}

static void on_name(unsigned op)
{
    char a[64], b[64], target[300];
    int fd, ok = 0;

    pick(a);
    pick(b);
    switch (op) {
    case 0:
        ok = mkdir(a, 0700 + below(0100));
        break;
    case 1:
    case 2:
        ok = unlink(a);
        break;
    case 3:
        ok = rmdir(a);
        break;
    case 4:
    case 5:
    case 6:
        ok = rename(a, b);
        break;
    case 7:
        ok = renameat2(AT_FDCWD, a, AT_FDCWD, b, RENAME_EXCHANGE);
        break;
    case 8:
    case 9:
        ok = link(a, b);
        break;
    case 10:
        memset(target, 'T', sizeof(target));
        target[below(2) ? 1 + below(59) : 60 + below(200)] = '\0';
        ok = symlink(target, a);
        break;
    case 11:
        ok = mknod(a, below(2) ? S_IFCHR | 0600 : S_IFIFO | 0644, makedev(below(400), below(400)));
        break;
    case 12:
        ok = rename(pick_dir(a), pick_dir(b));
        break;
    case 13:
        ok = renameat2(AT_FDCWD, pick_dir(a), AT_FDCWD, b, RENAME_EXCHANGE);
        break;
    case 14:
        fd = open(pick_dir(a), O_TMPFILE | O_RDWR, 0640);
        if (fd < 0)
            break;
        write_some(fd);
        if (below(2))
            sync();
        snprintf(target, sizeof(target), "/proc/self/fd/%d", fd);
        ok = linkat(AT_FDCWD, target, AT_FDCWD, b, AT_SYMLINK_FOLLOW);
        close(fd);
        break;
    }
    (void)ok;
}

static void on_attr(unsigned op)
{
    char a[64], name[40];
    struct timespec ts[2] = { { below(2000000000), below(1000000000) },
                              { below(2000000000), below(1000000000) } };
    size_t len = below(4) ? below(40) : below(2000);
    int ok = 0;

    if (below(4) == 0)
        pick_dir(a);
    else
        pick(a);
    snprintf(name, sizeof(name), "user.x%u", below(5));
    switch (op) {
    case 0:
        ok = fchmodat(AT_FDCWD, a, below(010000), 0);
        break;
    case 1:
        ok = lchown(a, below(70000), below(70000));
        break;
    case 2:
        ok = utimensat(AT_FDCWD, a, ts, AT_SYMLINK_NOFOLLOW);
        break;
    case 3:
    case 4:
        content(len);
        ok = setxattr(a, name, buf, len, 0);
        break;
    case 5:
        ok = removexattr(a, name);
        break;
    }
    (void)ok;
}

int main(int argc, char **argv)
{
    char name[16];

    if (argc != 4 || chdir(argv[3]) < 0) {
        fprintf(stderr, "Usage: exerciser SEED STEPS DIR\n");
        return 2;
    }
    state = strtoull(argv[1], NULL, 0);
    printf("exerciser: seed %s, %s steps\n", argv[1], argv[2]);
    umask(0);
    for (unsigned i = 0; i < DIRS; i++) {
        snprintf(name, sizeof(name), "d%u", i);
        if (mkdir(name, 0755) < 0) {
            fprintf(stderr, "exerciser: mkdir %s: %s\n", name, strerror(errno));
            return 1;
        }
    }
    for (long steps = atol(argv[2]); steps > 0; steps--) {
        unsigned r = below(100);

        if (r < 35)
            on_file(below(7));
        else if (r < 75)
            on_name(below(15));
        else if (r < 90)
            on_attr(below(6));
        else if (r < 94 && held[r % HELD] > 0)
            write_some(held[r % HELD]);
        else if (r >= 96)
            sync();
    }
    return 0;
}
