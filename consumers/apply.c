/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "consumers/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>

#include "common/cleanup.h"
#include "consumers/apply_state.h"

#define SYMLINK_MAX 4095

/* In the staging directory: what is being made, and what an exchange needs. */
#define NEW_NAME "new"
#define SWAP_NAME "swap"

struct stage_name {
    char text[32];
};

static struct stage_name stage_name(uint32_t inode, uint32_t generation)
{
    struct stage_name s;

    snprintf(s.text, sizeof(s.text), "%" PRIu32 "-%" PRIu32, inode, generation);
    return s;
}

static const char *kind_name(enum nf_kind kind)
{
    static const char *const names[] = {
        [NF_CREATE] = "create",     [NF_LINK] = "link",         [NF_UNLINK] = "unlink",
        [NF_RENAME] = "rename",     [NF_EXCHANGE] = "exchange", [NF_WRITE] = "write",
        [NF_TRUNCATE] = "truncate", [NF_ZERO] = "zero",         [NF_MOVE_RANGE] = "move_range",
        [NF_ATTR] = "attr",         [NF_XATTR] = "xattr",       [NF_ENTRY] = "entry",
    };

    return kind < sizeof(names) / sizeof(names[0]) && names[kind] ? names[kind] : "?";
}

struct nf_proc_path nf_proc_path(int fd)
{
    struct nf_proc_path p;

    snprintf(p.text, sizeof(p.text), "/proc/self/fd/%d", fd);
    return p;
}

int nf_apply_fail(struct nf_error *err, int code, const struct nf_event *ev, const char *fmt, ...)
{
    char path[200] = "(no name)", text[200];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (ev->npaths > 0)
        nf_beneath_text(ev->paths[0], path, sizeof(path));
    return nf_fail(err, code, "event %" PRIu64 " (%s) of inode %" PRIu32 ", %s: %s", ev->seq,
                   kind_name(ev->kind), ev->inode, path, text);
}

/* A failure that beneath.c has described, as one of this event. */
static int fail_path(struct nf_error *err, int code, const struct nf_event *ev)
{
    nf_fail_prefix(err, "event %" PRIu64 " (%s) of inode %" PRIu32, ev->seq,
                   kind_name(ev->kind), ev->inode);
    if (err && (code == NF_ENOTFOUND || code == NF_EINVAL))
        err->code = NF_ELOST;
    return code == NF_ENOTFOUND || code == NF_EINVAL ? NF_ELOST : code;
}

struct nf_apply *nf_apply_new(int tree, int stage, const struct nf_apply_options *opt,
                              struct nf_error *err)
{
    struct nf_apply *a = calloc(1, sizeof(*a));

    if (!a) {
        nf_fail(err, NF_ENOMEM, "out of memory");
        return NULL;
    }
    nf_beneath_init(&a->tree, tree);
    a->stage = stage;
    a->opt = *opt;
    a->file.fd = -1;
    return a;
}

void nf_apply_free(struct nf_apply *a)
{
    if (!a)
        return;
    nf_apply_file_close(a, NULL);
    nf_beneath_release(&a->tree);
    nf_inode_map_release(&a->inodes);
    free(a->piece);
    free(a);
}

const struct nf_apply_stats *nf_apply_stats(const struct nf_apply *a)
{
    return &a->stats;
}

/* What is known of @inode in this life of it, or null. */
static const struct nf_inode_map_slot *known(const struct nf_apply *a, uint32_t inode,
                                             uint32_t generation)
{
    const struct nf_inode_map_slot *s = nf_inode_map_find(&a->inodes, inode);

    return s && s->generation == generation ? s : NULL;
}

static bool skipped(const struct nf_apply *a, uint32_t inode, uint32_t generation)
{
    const struct nf_inode_map_slot *s = known(a, inode, generation);

    return s && s->ours == 0;
}

/* Is what @st shows the inode that the event says? */
static int check_identity(const struct nf_apply *a, const struct nf_event *ev, uint32_t inode,
                          uint32_t generation, const struct stat *st, struct nf_error *err)
{
    const struct nf_inode_map_slot *s = nf_inode_map_find(&a->inodes, inode);

    if (!s || (s->generation == generation && s->ours == st->st_ino))
        return 0;
    if (s->generation != generation)
        return nf_apply_fail(err, NF_ELOST, ev,
                             "inode %" PRIu32 " has generation %" PRIu32 " here, not %" PRIu32,
                             inode, s->generation, generation);
    return nf_apply_fail(err, NF_ELOST, ev, "the path holds another file than inode %" PRIu32,
                         inode);
}

int nf_apply_open(struct nf_apply *a, const struct nf_event *ev, int *fd, struct nf_error *err)
{
    struct stat st;
    int rc;

    if (skipped(a, ev->inode, ev->generation))
        return 1;
    if (ev->npaths == 0) {
        *fd = openat(a->stage, stage_name(ev->inode, ev->generation).text,
                     O_PATH | O_NOFOLLOW | O_CLOEXEC);
        if (*fd < 0 && errno == ENOENT)
            return 1;
        return *fd < 0 ? nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno)) : 0;
    }
    rc = nf_beneath_object(&a->tree, ev->paths[0], fd, err);
    if (rc < 0)
        return fail_path(err, rc, ev);
    if (fstat(*fd, &st) < 0)
        rc = nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
    else
        rc = check_identity(a, ev, ev->inode, ev->generation, &st, err);
    if (rc < 0) {
        close(*fd);
        *fd = -1;
    }
    return rc;
}

/* --- names ---------------------------------------------------------------- */

/* One name in the tree: its directory, and that directory's time. */
struct place {
    int dir; /* borrowed from the tree's cache */
    char name[NF_NAME_MAX + 1];
    struct timespec mtime;
};

static int find_place(struct nf_apply *a, const struct nf_event *ev, struct nf_bytes path,
                      bool make, struct place *p, struct nf_error *err)
{
    int rc = make ? nf_beneath_make_parent(&a->tree, path, &p->dir, p->name, err)
                  : nf_beneath_parent(&a->tree, path, &p->dir, p->name, err);

    if (rc < 0)
        return fail_path(err, rc, ev);
    if (nf_beneath_mtime(p->dir, &p->mtime) < 0)
        return nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
    return 0;
}

static int restore_place(const struct place *p, const struct nf_event *ev, struct nf_error *err)
{
    if (nf_beneath_set_mtime(p->dir, &p->mtime) < 0)
        return nf_apply_fail(err, NF_EIO, ev, "setting the directory's time: %s",
                             strerror(errno));
    return 0;
}

/* A system call on a name failed: with what tells of another tree than ours,
 * or by the host's doing. */
static int name_failed(const struct nf_event *ev, struct nf_error *err)
{
    int code = errno == EEXIST || errno == ENOENT || errno == ENOTEMPTY || errno == ENOTDIR ||
                       errno == EISDIR || errno == EINVAL
                   ? NF_ELOST
                   : NF_EIO;

    return nf_apply_fail(err, code, ev, "%s", strerror(errno));
}

/* Make the object of a CREATE or ENTRY as NEW_NAME in the staging directory.
 * 1: not kept here. */
static int make_object(struct nf_apply *a, const struct nf_event *ev, int *fd,
                       struct nf_error *err)
{
    const struct nf_attr *attr = &ev->create.attr;
    const struct nf_bytes t = ev->create.target;
    mode_t type = attr->mode & S_IFMT;
    char target[SYMLINK_MAX + 1];
    int rc;

    if (unlinkat(a->stage, NEW_NAME, 0) < 0 && errno == EISDIR)
        unlinkat(a->stage, NEW_NAME, AT_REMOVEDIR);
    switch (type) {
    case S_IFREG:
        *fd = openat(a->stage, NEW_NAME, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
        rc = *fd < 0 ? -1 : nf_apply_set_size(a, *fd, attr->size);
        break;
    case S_IFDIR:
        rc = mkdirat(a->stage, NEW_NAME, 0700);
        break;
    case S_IFLNK:
        if (t.len == 0 || t.len > SYMLINK_MAX || memchr(t.data, 0, t.len)) {
            a->stats.odd++;
            return 1;
        }
        memcpy(target, t.data, t.len);
        target[t.len] = '\0';
        rc = symlinkat(target, a->stage, NEW_NAME);
        break;
    case S_IFIFO:
    case S_IFSOCK:
        rc = mknodat(a->stage, NEW_NAME, type | 0600, 0);
        break;
    case S_IFCHR:
    case S_IFBLK:
        if (!a->opt.as_root) {
            a->stats.devices++;
            return 1;
        }
        rc = mknodat(a->stage, NEW_NAME, type | 0600, makedev(attr->rdev_major, attr->rdev_minor));
        break;
    default:
        a->stats.odd++;
        return 1;
    }
    if (rc == 0 && *fd < 0)
        *fd = openat(a->stage, NEW_NAME, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (rc < 0 || *fd < 0)
        return nf_apply_fail(err, NF_EIO, ev, "making it: %s", strerror(errno));
    return 0;
}

/* Give the new object its name (or its staging name) and what goes with it. */
static int place_object(struct nf_apply *a, const struct nf_event *ev, int fd,
                        struct nf_error *err)
{
    const uint32_t all = ~0u;
    struct stat st;
    int rc = 0;

    if (nf_apply_set_attr(a, fd, &ev->create.attr, all) < 0 || fstat(fd, &st) < 0)
        return nf_apply_fail(err, NF_EIO, ev, "setting its attributes: %s", strerror(errno));
    if (ev->npaths == 0) {
        struct stage_name s = stage_name(ev->inode, ev->generation);

        if (renameat(a->stage, NEW_NAME, a->stage, s.text) < 0)
            return nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
    } else {
        struct place p;

        rc = find_place(a, ev, ev->paths[0], ev->kind == NF_ENTRY, &p, err);
        if (rc < 0)
            return rc;
        if (renameat2(a->stage, NEW_NAME, p.dir, p.name, RENAME_NOREPLACE) < 0)
            return name_failed(ev, err);
        rc = restore_place(&p, ev, err);
    }
    if (rc == 0 && nf_inode_map_set(&a->inodes, ev->inode, ev->generation, st.st_ino) < 0)
        rc = nf_apply_fail(err, NF_ENOMEM, ev, "cannot note the inode");
    return rc;
}

static int apply_create(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err)
{
    NF_AUTO_CLOSE int fd = -1;
    int rc = make_object(a, ev, &fd, err);

    if (rc == 0)
        return place_object(a, ev, fd, err);
    if (rc == 1 && nf_inode_map_set(&a->inodes, ev->inode, ev->generation, 0) < 0)
        return nf_apply_fail(err, NF_ENOMEM, ev, "cannot note the inode");
    return rc < 0 ? rc : 0;
}

/* Link the object @fd of @ev to a further @path. */
static int link_path(struct nf_apply *a, const struct nf_event *ev, int fd, struct nf_bytes path,
                     struct nf_error *err)
{
    struct place p;
    int rc = find_place(a, ev, path, ev->kind == NF_ENTRY, &p, err);

    if (rc < 0)
        return rc;
    /* Following the /proc link gives the object itself, be it a symbolic link,
     * and needs no capability. */
    if (linkat(AT_FDCWD, nf_proc_path(fd).text, p.dir, p.name, AT_SYMLINK_FOLLOW) < 0)
        return name_failed(ev, err);
    return restore_place(&p, ev, err);
}

/* A row of a snapshot: what it names may be there already, as a directory that
 * an earlier row needed. */
static int apply_entry(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err)
{
    NF_AUTO_CLOSE int fd = -1;
    struct stat st;
    int rc;

    if (ev->flags & NF_EV_TRUNCATED)
        a->stats.incomplete++;
    rc = ev->npaths > 0 ? nf_beneath_object(&a->tree, ev->paths[0], &fd, err) : NF_ENOTFOUND;
    if (rc == NF_ENOTFOUND) {
        rc = apply_create(a, ev, err);
        if (rc < 0 || ev->npaths < 2 || skipped(a, ev->inode, ev->generation))
            return rc;
        rc = nf_beneath_object(&a->tree, ev->paths[0], &fd, err);
    } else if (rc == 0) {
        if (fstat(fd, &st) < 0)
            return nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
        if (!S_ISDIR(st.st_mode) || !S_ISDIR(ev->create.attr.mode) || ev->npaths != 1 ||
            nf_inode_map_find(&a->inodes, ev->inode))
            return nf_apply_fail(err, NF_ELOST, ev, "there is such a file already");
        if (nf_apply_set_attr(a, fd, &ev->create.attr,
                              a->opt.keep_top && nf_apply_is_top(ev) ? ~NF_APPLY_ACCESS : ~0u) < 0)
            return nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
        if (nf_inode_map_set(&a->inodes, ev->inode, ev->generation, st.st_ino) < 0)
            return nf_apply_fail(err, NF_ENOMEM, ev, "cannot note the inode");
        return 0;
    }
    if (rc < 0)
        return fail_path(err, rc, ev);
    for (size_t i = 1; i < ev->npaths && rc == 0; i++)
        rc = link_path(a, ev, fd, ev->paths[i], err);
    return rc;
}

/* LINK: the file is found by its other names, or in the staging directory. */
static int apply_link(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err)
{
    struct stage_name s = stage_name(ev->inode, ev->generation);
    struct place p;
    int rc;

    if (ev->npaths == 0)
        return nf_apply_fail(err, NF_EFORMAT, ev, "it has no path");
    if (skipped(a, ev->inode, ev->generation))
        return 0;
    if (faccessat(a->stage, s.text, F_OK, AT_SYMLINK_NOFOLLOW) == 0) {
        rc = find_place(a, ev, ev->paths[0], false, &p, err);
        if (rc < 0)
            return rc;
        if (renameat2(a->stage, s.text, p.dir, p.name, RENAME_NOREPLACE) < 0)
            return name_failed(ev, err);
        return restore_place(&p, ev, err);
    }
    for (size_t i = 1; i < ev->npaths; i++) {
        NF_AUTO_CLOSE int fd = -1;
        struct stat st;

        /* Not every name it will have need exist yet. */
        if (nf_beneath_object(&a->tree, ev->paths[i], &fd, err) < 0 || fstat(fd, &st) < 0 ||
            check_identity(a, ev, ev->inode, ev->generation, &st, err) < 0)
            continue;
        return link_path(a, ev, fd, ev->paths[0], err);
    }
    return nf_apply_fail(err, NF_ELOST, ev, "none of its %zu other names is here",
                         ev->npaths - 1);
}

static int apply_unlink(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err)
{
    struct stage_name s = stage_name(ev->inode, ev->generation);
    struct place p;
    struct stat st;
    int rc;

    if (ev->npaths == 0) {
        /* A directory, if it was met when it had lost its name already. */
        if (unlinkat(a->stage, s.text, 0) < 0 && errno != ENOENT &&
            (errno != EISDIR || unlinkat(a->stage, s.text, AT_REMOVEDIR) < 0))
            return nf_apply_fail(err, NF_EIO, ev, "%s", strerror(errno));
        if (known(a, ev->inode, ev->generation))
            nf_inode_map_remove(&a->inodes, ev->inode);
        return 0;
    }
    if (skipped(a, ev->inode, ev->generation)) {
        if (ev->unlink.last)
            nf_inode_map_remove(&a->inodes, ev->inode);
        return 0;
    }
    rc = find_place(a, ev, ev->paths[0], false, &p, err);
    if (rc < 0)
        return rc;
    if (fstatat(p.dir, p.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        return name_failed(ev, err);
    rc = check_identity(a, ev, ev->inode, ev->generation, &st, err);
    if (rc < 0)
        return rc;
    if (S_ISDIR(st.st_mode)) {
        nf_beneath_mtime(p.dir, &p.mtime);
        if (unlinkat(p.dir, p.name, AT_REMOVEDIR) < 0)
            return name_failed(ev, err);
        rc = restore_place(&p, ev, err);
        nf_beneath_forget(&a->tree);
    } else {
        /* Its last name here, though not in the guest: a later event gives it
         * another one. */
        bool keep = !ev->unlink.last && st.st_nlink == 1;

        if (keep ? renameat(p.dir, p.name, a->stage, s.text) < 0
                 : unlinkat(p.dir, p.name, 0) < 0)
            return name_failed(ev, err);
        rc = restore_place(&p, ev, err);
    }
    if (ev->unlink.last)
        nf_inode_map_remove(&a->inodes, ev->inode);
    return rc;
}

/* What @ev says was replaced is gone. */
static void forget_other(struct nf_apply *a, const struct nf_event *ev)
{
    if (ev->rename.other_last && known(a, ev->rename.other_inode, ev->rename.other_generation))
        nf_inode_map_remove(&a->inodes, ev->rename.other_inode);
}

/* Two renames where the host's file system cannot swap. */
static int swap_names(struct nf_apply *a, const struct place *from, const struct place *to)
{
    if (renameat2(from->dir, from->name, to->dir, to->name, RENAME_EXCHANGE) == 0)
        return 0;
    if (errno != EINVAL)
        return -1;
    if (renameat(to->dir, to->name, a->stage, SWAP_NAME) < 0 ||
        renameat(from->dir, from->name, to->dir, to->name) < 0)
        return -1;
    return renameat(a->stage, SWAP_NAME, from->dir, from->name);
}

/* RENAME and EXCHANGE. */
static int apply_rename(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err)
{
    const bool swap = ev->kind == NF_EXCHANGE;
    const bool no_source = skipped(a, ev->inode, ev->generation);
    const bool no_other = ev->rename.other_inode == 0 ||
                          skipped(a, ev->rename.other_inode, ev->rename.other_generation);
    struct place from, to;
    struct stat st, other = { 0 };
    int rc, failed;

    if (ev->npaths == 0)
        return nf_apply_fail(err, NF_EFORMAT, ev, "it has no path");
    rc = find_place(a, ev, ev->paths[0], false, &from, err);
    if (rc == 0)
        rc = find_place(a, ev, ev->rename.new_path, false, &to, err);
    if (rc < 0)
        return rc;
    if (!no_source) {
        if (fstatat(from.dir, from.name, &st, AT_SYMLINK_NOFOLLOW) < 0)
            return name_failed(ev, err);
        rc = check_identity(a, ev, ev->inode, ev->generation, &st, err);
    }
    if (rc == 0 && !no_other) {
        if (fstatat(to.dir, to.name, &other, AT_SYMLINK_NOFOLLOW) < 0)
            return nf_apply_fail(err, NF_ELOST, ev, "what it replaces is not there: %s",
                                 strerror(errno));
        rc = check_identity(a, ev, ev->rename.other_inode, ev->rename.other_generation, &other,
                            err);
    }
    if (rc < 0)
        return rc;

    if (no_source && no_other)
        failed = 0;
    else if (no_source && swap)
        failed = renameat2(to.dir, to.name, from.dir, from.name, RENAME_NOREPLACE) < 0;
    else if (no_source)
        failed = unlinkat(to.dir, to.name, S_ISDIR(other.st_mode) ? AT_REMOVEDIR : 0) < 0;
    else if (no_other)
        failed = renameat2(from.dir, from.name, to.dir, to.name, RENAME_NOREPLACE) < 0;
    else if (swap)
        failed = swap_names(a, &from, &to) < 0;
    else
        failed = renameat(from.dir, from.name, to.dir, to.name) < 0;
    if (failed)
        return name_failed(ev, err);
    rc = restore_place(&from, ev, err);
    if (rc == 0)
        rc = restore_place(&to, ev, err);
    /* A directory may have moved; which paths lead where has changed. */
    nf_beneath_forget(&a->tree);
    if (!swap)
        forget_other(a, ev);
    return rc;
}

int nf_apply_settle(struct nf_apply *a, struct nf_error *err)
{
    return nf_apply_file_close(a, err);
}

int nf_apply_event(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err)
{
    int rc = 0;

    a->stats.events++;
    switch (ev->kind) {
    case NF_WRITE:
    case NF_TRUNCATE:
    case NF_ZERO:
    case NF_MOVE_RANGE:
        return nf_apply_content(a, ev, err);
    case NF_HEARTBEAT:
        return 0;
    default:
        rc = nf_apply_file_close(a, err);
    }
    if (rc < 0)
        return rc;
    switch (ev->kind) {
    case NF_CREATE:
        return apply_create(a, ev, err);
    case NF_ENTRY:
        return apply_entry(a, ev, err);
    case NF_LINK:
        return apply_link(a, ev, err);
    case NF_UNLINK:
        return apply_unlink(a, ev, err);
    case NF_RENAME:
    case NF_EXCHANGE:
        return apply_rename(a, ev, err);
    case NF_ATTR:
        return nf_apply_attr(a, ev, err);
    case NF_XATTR:
        return nf_apply_xattr(a, ev, err);
    case NF_COMMIT:
        a->stats.commits++;
        return 0;
    case NF_FS:
        return ev->fs.state == NF_FS_GONE ? nf_apply_clear(a, err) : 0;
    case NF_GAP:
    case NF_RESYNC_BEGIN:
        a->stats.broken = true;
        return 0;
    case NF_RESYNC_END:
        a->stats.broken = false;
        return 0;
    default:
        return 0;
    }
}
