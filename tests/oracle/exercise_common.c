/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The choices of the exerciser. */
#include "tests/oracle/exerciser.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define NAMES 16
#define DIRS 7
#define HELD 4

bool ex_small;
char ex_buf[EX_BUF] __attribute__((aligned(4096)));

static uint64_t state;
static int held[HELD];

/* splitmix64 */
void ex_seed(uint64_t seed)
{
    state = seed;
}

uint64_t ex_random(void)
{
    uint64_t z = (state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

unsigned ex_below(unsigned n)
{
    return (unsigned)(ex_random() % n);
}

const char *ex_pick(char out[64])
{
    unsigned d = ex_below(DIRS + 1), e = ex_below(3);

    if (d == 0)
        snprintf(out, 64, "n%u", ex_below(ex_small ? NAMES / 2 : NAMES));
    else if (e == 0)
        snprintf(out, 64, "d%u/e/n%u", d - 1, ex_below(ex_small ? NAMES / 2 : NAMES));
    else
        snprintf(out, 64, "d%u/n%u", d - 1, ex_below(ex_small ? NAMES / 2 : NAMES));
    return out;
}

const char *ex_pick_old(char out[64])
{
    struct stat st;

    for (int tries = 0; tries < 8; tries++)
        if (lstat(ex_pick(out), &st) == 0)
            break;
    return out;
}

const char *ex_pick_dir(char out[64])
{
    snprintf(out, 64, ex_below(3) ? "d%u" : "d%u/e", ex_below(DIRS));
    return out;
}

off_t ex_pick_offset(void)
{
    if (ex_small && ex_below(8))
        return ex_below(180);
    switch (ex_below(16)) {
    case 0: /* far out: holes, and deep extent or indirect trees */
        return (off_t)ex_below(2000) * 1000003;
    case 1:
    case 2:
    case 3:
    case 4:
        return ex_below(4096);
    case 5:
    case 6:
    case 7:
    case 8:
        return (off_t)ex_below(40) * 4096;
    case 9:
    case 10:
    case 11:
        return ex_below(200000);
    default:
        return (off_t)ex_below(64) * 1024;
    }
}

size_t ex_pick_length(void)
{
    if (ex_small && ex_below(8))
        return 1 + ex_below(ex_below(2) ? 150 : 30);
    switch (ex_below(4)) {
    case 0:
        return 1 + ex_below(100);
    case 1:
        return (1 + ex_below(8)) * 4096u;
    case 2:
        return 1 + ex_below(60000);
    default:
        return (1 + ex_below(16)) * 1024u;
    }
}

void ex_content(size_t len)
{
    uint64_t r = ex_random();

    for (size_t i = 0; i < len; i++)
        ex_buf[i] = (char)(1 + (r >> (i % 7 * 8)) % 255 + (i >> 10) % 3);
}

int ex_write_some(int fd)
{
    size_t len = ex_pick_length();

    ex_content(len);
    if (pwrite(fd, ex_buf, len, ex_pick_offset()) < 0)
        return -1;
    return ex_below(6) == 0 ? fsync(fd) : 0;
}

int ex_hold(int fd)
{
    unsigned h = ex_below(HELD);

    if (held[h] > 0)
        close(held[h]);
    held[h] = fd;
    return 0;
}

int ex_held(void)
{
    int fd = held[ex_below(HELD)];

    return fd > 0 ? fd : -1;
}

int ex_close(int fd, int rc)
{
    int saved = errno;

    close(fd);
    errno = saved;
    return rc;
}

int ex_make_dirs(void)
{
    char name[16];

    umask(0);
    for (unsigned i = 0; i < DIRS; i++) {
        snprintf(name, sizeof(name), "d%u", i);
        if (mkdir(name, 0755) < 0)
            return -1;
        snprintf(name, sizeof(name), "d%u/e", i);
        if (i % 2 && mkdir(name, 0755) < 0)
            return -1;
    }
    return 0;
}

struct ex_op *ex_choose(struct ex_op *ops)
{
    unsigned total = 0, r;
    struct ex_op *op;

    for (op = ops; op->name; op++)
        total += op->weight;
    r = ex_below(total);
    for (op = ops; r >= op->weight; op++)
        r -= op->weight;
    return op;
}

int ex_run(struct ex_op *op)
{
    int rc = op->run();

    op->tried++;
    if (rc == 0)
        op->done++;
    else
        op->last_errno = errno;
    return rc;
}
