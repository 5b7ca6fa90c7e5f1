/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "consumers/apply_state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "common/cleanup.h"

#define XATTR_NAME_BYTES 255
#define XATTR_VALUE_BYTES 65536

/* ext4's immutable and append-only flags. */
#define EXT4_IMMUTABLE 0x10u
#define EXT4_APPEND 0x20u

void nf_apply_cap_save(struct nf_apply *a, int fd, struct nf_apply_cap *cap)
{
    cap->len = a->opt.as_root ? getxattr(nf_proc_path(fd).text, "security.capability", cap->value,
                                         sizeof(cap->value))
                              : -1;
}

void nf_apply_cap_restore(int fd, const struct nf_apply_cap *cap)
{
    if (cap->len > 0)
        setxattr(nf_proc_path(fd).text, "security.capability", cap->value, (size_t)cap->len, 0);
}

static struct timespec timespec_of(const struct nf_time *t, bool wanted)
{
    struct timespec ts = { .tv_sec = t->sec, .tv_nsec = t->nsec };

    if (!wanted)
        return (struct timespec){ .tv_nsec = UTIME_OMIT };
    if (ts.tv_nsec > 999999999)
        ts.tv_nsec = 999999999;
    return ts;
}

/* What of the guest's permission bits is set here. */
static mode_t permissions(const struct nf_apply *a, const struct stat *st, uint32_t mode)
{
    if (a->opt.as_root)
        return mode & 07777;
    mode &= 01777;
    if (S_ISDIR(st->st_mode))
        return mode | 0700;
    return S_ISREG(st->st_mode) ? mode | 0600 : mode;
}

int nf_apply_set_attr(struct nf_apply *a, int fd, const struct nf_attr *attr, uint32_t mask)
{
    const uint32_t owner = NF_ATTR_UID | NF_ATTR_GID;
    const uint32_t times = NF_ATTR_ATIME | NF_ATTR_MTIME;
    struct stat st;

    if (fstat(fd, &st) < 0)
        return -1;
    if ((mask & owner) && a->opt.as_root) {
        struct nf_apply_cap cap;

        nf_apply_cap_save(a, fd, &cap);
        if (fchownat(fd, "", mask & NF_ATTR_UID ? attr->uid : (uid_t)-1,
                     mask & NF_ATTR_GID ? attr->gid : (gid_t)-1, AT_EMPTY_PATH) < 0)
            return -1;
        nf_apply_cap_restore(fd, &cap);
    }
    if ((mask & (NF_ATTR_MODE | owner)) && !S_ISLNK(st.st_mode)) {
        /* A new owner takes the set-user-ID bit away. */
        uint32_t mode = mask & NF_ATTR_MODE ? attr->mode : st.st_mode;

        if (chmod(nf_proc_path(fd).text, permissions(a, &st, mode)) < 0)
            return -1;
    }
    if (mask & times) {
        struct timespec ts[2] = { timespec_of(&attr->atime, mask & NF_ATTR_ATIME),
                                  timespec_of(&attr->mtime, mask & NF_ATTR_MTIME) };

        if (utimensat(fd, "", ts, AT_EMPTY_PATH) < 0)
            return -1;
    }
    if ((mask & NF_ATTR_FLAGS) && (attr->flags & (EXT4_IMMUTABLE | EXT4_APPEND)))
        a->stats.chattr++;
    return 0;
}

bool nf_apply_is_top(const struct nf_event *ev)
{
    return ev->npaths > 0 && ev->paths[0].len == 1;
}

int nf_apply_attr(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err)
{
    NF_AUTO_CLOSE int fd = -1;
    uint32_t mask = ev->attr.mask;
    struct stat st;
    int rc = nf_apply_open(a, ev, &fd, err);

    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (fstat(fd, &st) < 0)
        return nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
    if ((ev->attr.mask & NF_ATTR_MODE) && (ev->attr.after.mode & S_IFMT) != (st.st_mode & S_IFMT))
        return nf_apply_fail(err, NF_ELOST, ev, "the type does not fit what is there");
    if (a->opt.keep_top && nf_apply_is_top(ev))
        mask &= ~NF_APPLY_ACCESS;
    if (nf_apply_set_attr(a, fd, &ev->attr.after, mask) < 0)
        return nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
    return 0;
}

int nf_apply_xattr(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err)
{
    const struct nf_bytes n = ev->xattr.name, v = ev->xattr.value;
    char name[XATTR_NAME_BYTES + 1];
    NF_AUTO_CLOSE int fd = -1;
    int rc = nf_apply_open(a, ev, &fd, err), failed;
    struct stat before;
    bool access;

    if (rc != 0)
        return rc < 0 ? rc : 0;
    if (n.len == 0 || n.len > XATTR_NAME_BYTES || memchr(n.data, 0, n.len) ||
        v.len > XATTR_VALUE_BYTES) {
        a->stats.odd++;
        return 0;
    }
    memcpy(name, n.data, n.len);
    name[n.len] = '\0';
    if (!a->opt.as_root && strncmp(name, "user.", 5) != 0)
        return 0;
    access = strcmp(name, "system.posix_acl_access") == 0;
    if (a->opt.keep_top && nf_apply_is_top(ev) && access)
        return 0;
    if (access && fstat(fd, &before) < 0)
        return nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
    if (ev->xattr.removed)
        failed = removexattr(nf_proc_path(fd).text, name) < 0 && errno != ENODATA;
    else
        failed = setxattr(nf_proc_path(fd).text, name, v.len ? (const char *)v.data : "", v.len,
                          0) < 0;
    /* The kernel takes the mode from it. That one comes by an event of its own, and may
     * be another: a disk can say anything, and a replay of fast commits does. */
    if (access && !failed && !S_ISLNK(before.st_mode))
        failed = chmod(nf_proc_path(fd).text, before.st_mode & 07777) < 0;
    if (failed && (errno == EIO || errno == EROFS || errno == EDQUOT))
        return nf_apply_fail(err, NF_EIO, ev, "xattr: %s", strerror(errno));
    if (failed)
        a->stats.xattrs++;
    return 0;
}
