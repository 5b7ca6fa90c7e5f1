/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The exerciser's calls on attributes. */
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "common/bytes.h"
#include "tests/oracle/exerciser.h"

static const char *pick_any(char a[64])
{
    return ex_below(4) ? ex_pick_old(a) : ex_pick_dir(a);
}

static int op_chmod(void)
{
    char a[64];

    return fchmodat(AT_FDCWD, pick_any(a), ex_below(010000), 0);
}

static int op_chown(void)
{
    unsigned uid = ex_below(70000), gid = ex_below(8) ? ex_below(70000) : 3000000000u;
    char a[64];

    return lchown(pick_any(a), uid, gid);
}

static int op_times(void)
{
    struct timespec ts[2] = { { ex_below(2000000000), ex_below(1000000000) },
                              { ex_below(2000000000), ex_below(1000000000) } };
    char a[64];

    /* Beyond 2038, and before 1970. */
    if (ex_below(8) == 0)
        ts[1].tv_sec = ex_below(2) ? 5000000000 : -1000000;
    return utimensat(AT_FDCWD, pick_any(a), ts, AT_SYMLINK_NOFOLLOW);
}

static int set_xattr(const char *name, size_t len)
{
    char a[64];

    return lsetxattr(pick_any(a), name, ex_buf, len, 0);
}

static int op_xattr(void)
{
    /* Within the inode, in the block, and near the block's size. */
    size_t len = ex_below(3) ? ex_below(40) : ex_below(3) ? ex_below(2000) : 900 + ex_below(3100);
    char name[40];

    snprintf(name, sizeof(name), "%s.x%u", ex_below(4) ? "user" : "trusted", ex_below(5));
    ex_content(len);
    return set_xattr(name, len);
}

/* One of few values, so that files share the block or the inode it is in. */
static int op_xattr_shared(void)
{
    static const size_t lens[] = { 700, 900, 6000, 60000 };
    size_t len = lens[ex_below(4)];

    memset(ex_buf, (int)('a' + ex_below(2)), len);
    return set_xattr("user.shared", len);
}

static int op_xattr_remove(void)
{
    static const char *const others[] = { "security.selinux", "security.capability",
                                          "system.posix_acl_access", "system.posix_acl_default" };
    char a[64], name[40];

    if (ex_below(3) == 0)
        return lremovexattr(pick_any(a), others[ex_below(4)]);
    if (ex_below(4) == 0)
        return lremovexattr(pick_any(a), "user.shared");
    snprintf(name, sizeof(name), "%s.x%u", ex_below(4) ? "user" : "trusted", ex_below(5));
    return lremovexattr(pick_any(a), name);
}

static int op_selinux(void)
{
    /* Few values, so that the blocks they are in are shared. */
    int n = snprintf(ex_buf, 100, "system_u:object_r:%s_t:s0",
                     ex_below(3) == 0 ? "etc" : ex_below(2) ? "bin" : "var_log");

    return set_xattr("security.selinux", (size_t)n + 1);
}

static int op_capability(void)
{
    /* VFS_CAP_REVISION_2, permitted and inheritable. */
    nf_put_le32((uint8_t *)ex_buf, 0x02000000 | ex_below(2));
    for (unsigned i = 1; i < 5; i++)
        nf_put_le32((uint8_t *)ex_buf + 4 * i, i % 2 ? ex_below(1u << 30) : 0);
    return set_xattr("security.capability", 20);
}

/* An ACL in the form that setxattr() takes: version, then tag, perm, id. */
static size_t make_acl(unsigned extra)
{
    uint8_t *p = (uint8_t *)ex_buf;
    size_t n = 4;

    nf_put_le32(p, 2);
#define ENTRY(tag, perm, id) \
    (nf_put_le16(p + n, (tag)), nf_put_le16(p + n + 2, (perm)), nf_put_le32(p + n + 4, (id)), n += 8)
    ENTRY(0x01, ex_below(8), UINT32_MAX); /* owner */
    for (unsigned i = 0; i < extra; i++)
        ENTRY(0x02, ex_below(8), 1000 + i * 7);
    ENTRY(0x04, ex_below(8), UINT32_MAX); /* group */
    ENTRY(0x08, 5, 2000);                 /* a named group */
    ENTRY(0x10, ex_below(8), UINT32_MAX); /* mask */
    ENTRY(0x20, ex_below(8), UINT32_MAX); /* others */
#undef ENTRY
    return n;
}

static int op_acl(void)
{
    return set_xattr("system.posix_acl_access", make_acl(ex_below(4) ? 1 : 1 + ex_below(30)));
}

static int op_acl_default(void)
{
    size_t len = make_acl(1 + ex_below(3));
    char a[64];

    return setxattr(ex_pick_dir(a), "system.posix_acl_default", ex_buf, len, 0);
}

static int change_flags(int set, int clear)
{
    char a[64];
    int fd = open(pick_any(a), O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC), flags;

    if (fd < 0)
        return -1;
    if (ioctl(fd, FS_IOC_GETFLAGS, &flags) < 0)
        return ex_close(fd, -1);
    flags = (flags | set) & ~clear;
    return ex_close(fd, ioctl(fd, FS_IOC_SETFLAGS, &flags));
}

static int op_flags(void)
{
    static const int some[] = { FS_NODUMP_FL, FS_NOATIME_FL, FS_SYNC_FL, FS_UNRM_FL, FS_SECRM_FL,
                                FS_COMPR_FL,  FS_DIRSYNC_FL };
    int flag = some[ex_below(7)];

    return ex_below(2) ? change_flags(flag, 0) : change_flags(0, flag);
}

/* Its content goes through the journal from now on, or no longer. */
static int op_journal_data(void)
{
    return ex_below(2) ? change_flags(FS_JOURNAL_DATA_FL, 0) : change_flags(0, FS_JOURNAL_DATA_FL);
}

/* Mostly taken back, or soon nothing could be done any more. */
static int op_immutable(void)
{
    int both = FS_IMMUTABLE_FL | FS_APPEND_FL;

    if (ex_below(4))
        return change_flags(0, both);
    return change_flags(ex_below(2) ? FS_IMMUTABLE_FL : FS_APPEND_FL, 0);
}

struct ex_op ex_attr_ops[] = {
    { .name = "chmod", .weight = 8, .run = op_chmod },
    { .name = "chown", .weight = 7, .run = op_chown },
    { .name = "times", .weight = 7, .run = op_times },
    { .name = "xattr", .weight = 14, .run = op_xattr, .full = 1 },
    { .name = "xattr-shared", .weight = 8, .run = op_xattr_shared, .full = 1 },
    { .name = "xattr-remove", .weight = 7, .run = op_xattr_remove, .full = 1 },
    { .name = "selinux", .weight = 5, .run = op_selinux, .full = 1 },
    { .name = "capability", .weight = 4, .run = op_capability, .full = 1 },
    { .name = "acl", .weight = 5, .run = op_acl, .full = 1 },
    { .name = "acl-default", .weight = 3, .run = op_acl_default, .full = 1 },
    { .name = "flags", .weight = 4, .run = op_flags, .full = 1 },
    { .name = "journal-data", .weight = 3, .run = op_journal_data, .full = 1 },
    { .name = "immutable", .weight = 4, .run = op_immutable },
    { .name = NULL },
};
