/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The exerciser's calls on names. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "tests/oracle/exerciser.h"

#ifndef RENAME_WHITEOUT
#define RENAME_WHITEOUT (1 << 2)
#endif

static int op_mkdir(void)
{
    char a[64];

    /* The second level of directories, too. */
    if (ex_below(2))
        snprintf(a, sizeof(a), "d%u/e", ex_below(7));
    else
        ex_pick(a);
    return mkdir(a, 0700 + ex_below(0100));
}

static int op_unlink(void)
{
    char a[64];

    return unlink(ex_pick_old(a));
}

static int op_rmdir(void)
{
    char a[64];

    return rmdir(ex_below(2) ? ex_pick_old(a) : ex_pick_dir(a));
}

static int op_rename(void)
{
    char a[64], b[64];

    ex_pick_old(a);
    return rename(a, ex_pick(b));
}

static int rename_flags(unsigned flags)
{
    char a[64], b[64];

    ex_pick_old(a);
    return renameat2(AT_FDCWD, a, AT_FDCWD, flags == RENAME_EXCHANGE ? ex_pick_old(b) : ex_pick(b),
                     flags);
}

static int op_noreplace(void)
{
    return rename_flags(RENAME_NOREPLACE);
}

static int op_exchange(void)
{
    return rename_flags(RENAME_EXCHANGE);
}

static int op_whiteout(void)
{
    return rename_flags(RENAME_WHITEOUT);
}

static int op_rename_dir(void)
{
    char a[64], b[64];

    ex_pick_dir(a);
    return rename(a, ex_below(2) ? ex_pick_dir(b) : ex_pick(b));
}

static int op_exchange_dir(void)
{
    char a[64], b[64];

    ex_pick_dir(a);
    return renameat2(AT_FDCWD, a, AT_FDCWD, ex_below(2) ? ex_pick_dir(b) : ex_pick_old(b),
                     RENAME_EXCHANGE);
}

/* Three names go round by way of a fourth. */
static int op_cycle(void)
{
    char a[64], b[64], c[64], t[64];

    ex_pick_old(a);
    ex_pick_old(b);
    ex_pick_old(c);
    ex_pick(t);
    return rename(a, t) < 0 || rename(b, a) < 0 || rename(c, b) < 0 || rename(t, c) < 0 ? -1 : 0;
}

static int op_link(void)
{
    char a[64], b[64];

    ex_pick_old(a);
    return link(a, ex_pick(b));
}

static int op_symlink(void)
{
    char a[64], target[1100];
    size_t len = ex_below(3) ? 1 + ex_below(59) : ex_below(8) ? 60 + ex_below(200) : ex_below(1023) + 1;

    memset(target, 'T', len);
    target[len] = '\0';
    return symlink(target, ex_pick(a));
}

static int op_mknod(void)
{
    static const mode_t types[] = { S_IFCHR | 0600, S_IFBLK | 0660, S_IFIFO | 0644, S_IFSOCK | 0777,
                                    S_IFREG | 0640 };
    mode_t type = types[ex_below(5)];
    unsigned major = ex_below(400), minor = ex_below(2) ? ex_below(400) : ex_below(1 << 20);
    char a[64];

    return mknod(ex_pick(a), type, makedev(major, minor));
}

/* A file without a name that gets one, in the same transaction or later. */
static int op_tmpfile(void)
{
    char a[64], b[64], proc[64];
    int fd = open(ex_pick_dir(a), O_TMPFILE | O_RDWR | O_CLOEXEC, 0640), rc;

    if (fd < 0)
        return -1;
    if (ex_write_some(fd) < 0)
        return ex_close(fd, -1);
    switch (ex_below(4)) {
    case 0:
        return ex_hold(fd); /* it stays without */
    case 1:
        if (syncfs(fd) < 0)
            return ex_close(fd, -1);
        break;
    }
    snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
    rc = linkat(AT_FDCWD, proc, AT_FDCWD, ex_pick(b), AT_SYMLINK_FOLLOW);
    return ex_below(2) ? ex_close(fd, rc) : (ex_hold(fd), rc);
}

/* As editors do it: written beside, then moved over. */
static int op_save(void)
{
    char a[64], b[80];
    int fd, rc;

    ex_pick(a);
    snprintf(b, sizeof(b), "%s~", a);
    fd = open(b, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0)
        return -1;
    rc = ex_write_some(fd);
    if (rc == 0 && ex_below(2))
        rc = fsync(fd);
    if (ex_close(fd, rc) < 0 || rename(b, a) < 0)
        return -1;
    return 0;
}

struct ex_op ex_name_ops[] = {
    { .name = "mkdir", .weight = 7, .run = op_mkdir },
    { .name = "unlink", .weight = 12, .run = op_unlink },
    { .name = "rmdir", .weight = 5, .run = op_rmdir },
    { .name = "rename", .weight = 16, .run = op_rename },
    { .name = "noreplace", .weight = 6, .run = op_noreplace },
    { .name = "exchange", .weight = 7, .run = op_exchange, .full = 1 },
    { .name = "whiteout", .weight = 4, .run = op_whiteout, .full = 1 },
    { .name = "rename-dir", .weight = 5, .run = op_rename_dir, .full = 1 },
    { .name = "exchange-dir", .weight = 4, .run = op_exchange_dir, .full = 1 },
    { .name = "cycle", .weight = 4, .run = op_cycle, .full = 1 },
    { .name = "link", .weight = 12, .run = op_link },
    { .name = "symlink", .weight = 6, .run = op_symlink, .full = 1 },
    { .name = "mknod", .weight = 7, .run = op_mknod, .full = 1 },
    { .name = "tmpfile", .weight = 6, .run = op_tmpfile },
    { .name = "save", .weight = 6, .run = op_save },
    { .name = NULL },
};
