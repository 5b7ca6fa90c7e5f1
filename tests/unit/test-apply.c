/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The applier and the resolving of paths, with events made by hand: what each
 * kind does, what it must not touch, and what a hostile guest would try.
 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/cleanup.h"
#include "consumers/apply.h"
#include "consumers/beneath.h"
#include "consumers/inode_map.h"

struct fixture {
    char dir[64];
    int top, tree, stage;
    struct nf_apply *a;
    struct nf_error err;
    uint64_t seq;
};

static void start(struct fixture *f, bool as_root, uint64_t max)
{
    const struct nf_apply_options opt = { .as_root = as_root, .max_file_size = max };

    nf_apply_free(f->a);
    f->a = nf_apply_new(f->tree, f->stage, &opt, &f->err);
    assert_non_null(f->a);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    umask(0);
    strcpy(f->dir, "/tmp/nf-test-apply.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->top = open(f->dir, O_RDONLY | O_DIRECTORY);
    assert_int_equal(mkdirat(f->top, "tree", 0700), 0);
    assert_int_equal(mkdirat(f->top, "stage", 0700), 0);
    assert_int_equal(mkdirat(f->top, "outside", 0700), 0);
    f->tree = openat(f->top, "tree", O_RDONLY | O_DIRECTORY);
    f->stage = openat(f->top, "stage", O_RDONLY | O_DIRECTORY);
    start(f, geteuid() == 0, 0);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[100];

    nf_apply_free(f->a);
    close(f->tree);
    close(f->stage);
    close(f->top);
    snprintf(command, sizeof(command), "rm -rf %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

static struct nf_bytes bytes(const char *s)
{
    return (struct nf_bytes){ (const uint8_t *)s, strlen(s) };
}

static int apply(struct fixture *f, struct nf_event *ev)
{
    ev->seq = ++f->seq;
    ev->txn = 1;
    f->err = (struct nf_error){ 0 };
    return nf_apply_event(f->a, ev, &f->err);
}

#define OK(call) assert_int_equal(call, 0)

static int create(struct fixture *f, uint32_t inode, const char *path, uint32_t mode, uint64_t size,
                  const char *target)
{
    struct nf_bytes p = bytes(path ? path : "");
    struct nf_event ev = {
        .kind = NF_CREATE, .inode = inode, .generation = 1,
        .paths = &p, .npaths = path ? 1 : 0,
        .create = { .attr = { .mode = mode, .size = size, .mtime = { 1000, 5 }, .atime = { 2, 3 },
                              .uid = 7, .gid = 8, .rdev_major = 1, .rdev_minor = 3 },
                    .target = bytes(target ? target : "") },
    };

    return apply(f, &ev);
}

static int simple(struct fixture *f, enum nf_kind kind, uint32_t inode, const char *path,
                  const char *other_path)
{
    struct nf_bytes p[2] = { bytes(path ? path : ""), bytes(other_path ? other_path : "") };
    struct nf_event ev = { .kind = kind, .inode = inode, .generation = 1, .paths = p,
                           .npaths = !path ? 0 : other_path && kind == NF_LINK ? 2 : 1 };

    if (kind == NF_RENAME || kind == NF_EXCHANGE)
        ev.rename.new_path = p[1];
    return apply(f, &ev);
}

static int unlink_event(struct fixture *f, uint32_t inode, const char *path, bool last)
{
    struct nf_bytes p = bytes(path ? path : "");
    struct nf_event ev = { .kind = NF_UNLINK, .inode = inode, .generation = 1, .paths = &p,
                           .npaths = path ? 1 : 0, .unlink = { .last = last } };

    return apply(f, &ev);
}

static int replace(struct fixture *f, enum nf_kind kind, uint32_t inode, const char *from,
                   const char *to, uint32_t other)
{
    struct nf_bytes p = bytes(from);
    struct nf_event ev = { .kind = kind, .inode = inode, .generation = 1, .paths = &p, .npaths = 1,
                           .rename = { .new_path = bytes(to), .other_inode = other,
                                       .other_generation = 1, .other_last = true } };

    return apply(f, &ev);
}

static int write_event(struct fixture *f, uint32_t inode, const char *path, uint64_t offset,
                       const char *data, uint64_t length)
{
    struct nf_bytes p = bytes(path ? path : "");
    struct nf_event ev = { .kind = NF_WRITE, .inode = inode, .generation = 1, .paths = &p,
                           .npaths = path ? 1 : 0,
                           .write = { .offset = offset, .length = length, .data = bytes(data),
                                      .plain_length = strlen(data) } };

    return apply(f, &ev);
}

static int range_event(struct fixture *f, enum nf_kind kind, uint32_t inode, const char *path,
                       uint64_t offset, uint64_t length, uint64_t to)
{
    struct nf_bytes p = bytes(path);
    struct nf_event ev = { .kind = kind, .inode = inode, .generation = 1, .paths = &p, .npaths = 1,
                           .range = { .offset = offset, .length = length, .to = to } };

    if (kind == NF_TRUNCATE)
        ev.truncate.size_after = to;
    return apply(f, &ev);
}

static int attr_event(struct fixture *f, uint32_t inode, const char *path, uint32_t mask,
                      const struct nf_attr *attr)
{
    struct nf_bytes p = bytes(path);
    struct nf_event ev = { .kind = NF_ATTR, .inode = inode, .generation = 1, .paths = &p,
                           .npaths = 1, .attr = { .mask = mask, .after = *attr } };

    return apply(f, &ev);
}

static int xattr_event(struct fixture *f, uint32_t inode, const char *path, struct nf_bytes name,
                       const char *value)
{
    struct nf_bytes p = bytes(path);
    struct nf_event ev = { .kind = NF_XATTR, .inode = inode, .generation = 1, .paths = &p,
                           .npaths = 1,
                           .xattr = { .name = name, .value = bytes(value ? value : ""),
                                      .removed = !value } };

    return apply(f, &ev);
}

static int commit(struct fixture *f)
{
    struct nf_event ev = { .kind = NF_COMMIT };

    return apply(f, &ev);
}

static struct stat stat_of(struct fixture *f, const char *path)
{
    struct stat st;

    if (fstatat(f->tree, path, &st, AT_SYMLINK_NOFOLLOW) < 0)
        fail_msg("%s: %s", path, strerror(errno));
    return st;
}

static bool exists(int dir, const char *path)
{
    struct stat st;

    return fstatat(dir, path, &st, AT_SYMLINK_NOFOLLOW) == 0;
}

static void assert_content(struct fixture *f, const char *path, const char *want, size_t len)
{
    char got[4096];
    NF_AUTO_CLOSE int fd = openat(f->tree, path, O_RDONLY);

    assert_true(len < sizeof(got));
    assert_int_equal(read(fd, got, sizeof(got)), len);
    assert_memory_equal(got, want, len);
}

static void skip_unless_root(void)
{
    if (geteuid() != 0)
        skip();
}

/* --- what the kinds do ---------------------------------------------------------- */

static void test_create(void **state)
{
    struct fixture *f = *state;
    char target[100];
    struct stat st;

    OK(create(f, 12, "/d", S_IFDIR | 0751, 0, NULL));
    OK(create(f, 13, "/d/f", S_IFREG | 0640, 12345, NULL));
    OK(create(f, 14, "/d/l", S_IFLNK | 0777, 7, "/nowhere"));
    OK(create(f, 15, "/d/p", S_IFIFO | 0622, 0, NULL));
    OK(commit(f));
    st = stat_of(f, "d/f");
    assert_true(S_ISREG(st.st_mode));
    assert_int_equal(st.st_size, 12345);
    assert_int_equal(st.st_blocks, 0);
    assert_int_equal(st.st_mtim.tv_sec, 1000);
    assert_int_equal(st.st_mtim.tv_nsec, 5);
    assert_true(S_ISFIFO(stat_of(f, "d/p").st_mode));
    assert_int_equal(readlinkat(f->tree, "d/l", target, sizeof(target)), 8);
    assert_memory_equal(target, "/nowhere", 8);
    /* The directory's own time is the guest's, though names were made in it. */
    st = stat_of(f, "d");
    assert_int_equal(st.st_mtim.tv_sec, 1000);
    assert_int_equal(st.st_mtim.tv_nsec, 5);
    assert_int_equal(nf_apply_stats(f->a)->commits, 1);
    /* What is there cannot be made. */
    assert_int_equal(create(f, 16, "/d/f", S_IFREG | 0600, 0, NULL), NF_ELOST);
    assert_int_equal(create(f, 17, "/no/f", S_IFREG | 0600, 0, NULL), NF_ELOST);
}

static void test_root_attributes(void **state)
{
    struct fixture *f = *state;
    struct stat st;

    skip_unless_root();
    OK(create(f, 12, "/f", S_IFREG | 06755, 0, NULL));
    OK(create(f, 13, "/c", S_IFCHR | 0620, 0, NULL));
    st = stat_of(f, "f");
    assert_int_equal(st.st_mode, S_IFREG | 06755);
    assert_int_equal(st.st_uid, 7);
    assert_int_equal(st.st_gid, 8);
    st = stat_of(f, "c");
    assert_int_equal(st.st_mode, S_IFCHR | 0620);
    assert_int_equal(st.st_rdev, makedev(1, 3));
    /* A write keeps the set-user-ID bit and the capability: their going would
     * be an event. So does a change of owner. */
    {
        static const char cap[20] = { 1, 0, 0, 2, 0, 0x20 };
        struct nf_bytes p = bytes("/f");
        struct nf_event ev = { .kind = NF_XATTR, .inode = 12, .generation = 1, .paths = &p,
                               .npaths = 1,
                               .xattr = { .name = bytes("security.capability"),
                                          .value = { (const uint8_t *)cap, sizeof(cap) } } };
        char got[64];
        char path[100];
        const struct nf_attr attr = { .mode = S_IFREG | 06755, .uid = 70, .gid = 80 };

        OK(apply(f, &ev));
        OK(write_event(f, 12, "/f", 0, "x", 1));
        OK(attr_event(f, 12, "/f", NF_ATTR_UID | NF_ATTR_GID, &attr));
        st = stat_of(f, "f");
        assert_int_equal(st.st_mode, S_IFREG | 06755);
        assert_int_equal(st.st_uid, 70);
        snprintf(path, sizeof(path), "%s/tree/f", f->dir);
        assert_int_equal(getxattr(path, "security.capability", got, sizeof(got)), sizeof(cap));
        assert_memory_equal(got, cap, sizeof(cap));
    }
}

static void test_plain_user(void **state)
{
    struct fixture *f = *state;

    start(f, false, 0);
    OK(create(f, 12, "/f", S_IFREG | 04411, 0, NULL));
    OK(create(f, 13, "/d", S_IFDIR | 01555, 0, NULL));
    assert_int_equal(stat_of(f, "f").st_mode, S_IFREG | 0611);
    assert_int_equal(stat_of(f, "d").st_mode, S_IFDIR | 01755);
    assert_int_equal(stat_of(f, "f").st_uid, geteuid());
    /* A device is not made, and what happens to it later does not matter. */
    OK(create(f, 14, "/dev", S_IFBLK | 0600, 0, NULL));
    assert_int_equal(nf_apply_stats(f->a)->devices, 1);
    assert_false(exists(f->tree, "dev"));
    OK(attr_event(f, 14, "/dev", NF_ATTR_MODE, &(struct nf_attr){ .mode = S_IFBLK | 0666 }));
    OK(simple(f, NF_LINK, 14, "/dev2", "/dev"));
    OK(replace(f, NF_RENAME, 14, "/dev", "/d/dev", 0));
    /* One that replaces a file takes it away; swapped with one, the file moves. */
    OK(replace(f, NF_RENAME, 14, "/d/dev", "/f", 12));
    assert_false(exists(f->tree, "f"));
    OK(create(f, 15, "/g", S_IFREG | 0600, 0, NULL));
    OK(replace(f, NF_EXCHANGE, 14, "/f", "/g", 15));
    assert_true(exists(f->tree, "f"));
    assert_false(exists(f->tree, "g"));
    OK(replace(f, NF_RENAME, 15, "/f", "/g", 14));
    assert_true(exists(f->tree, "g"));
    /* The number lives again as a file. */
    OK(create(f, 14, "/again", S_IFREG | 0600, 3, NULL));
    OK(write_event(f, 14, "/again", 0, "abc", 3));
    assert_content(f, "again", "abc", 3);
    OK(xattr_event(f, 15, "/g", bytes("trusted.x"), "v"));
    assert_int_equal(nf_apply_stats(f->a)->xattrs, 0);
}

static void test_names(void **state)
{
    struct fixture *f = *state;
    struct stat a, b;

    OK(create(f, 12, "/a", S_IFREG | 0600, 0, NULL));
    OK(create(f, 13, "/d", S_IFDIR | 0700, 0, NULL));
    OK(simple(f, NF_LINK, 12, "/d/b", "/a"));
    a = stat_of(f, "a");
    b = stat_of(f, "d/b");
    assert_int_equal(a.st_ino, b.st_ino);
    assert_int_equal(stat_of(f, "d").st_mtim.tv_sec, 1000);
    OK(replace(f, NF_RENAME, 12, "/a", "/d/c", 0));
    assert_false(exists(f->tree, "a"));
    OK(replace(f, NF_RENAME, 13, "/d", "/e", 0));
    OK(unlink_event(f, 12, "/e/c", false));
    OK(unlink_event(f, 12, "/e/b", true));
    OK(unlink_event(f, 13, "/e", true));
    assert_false(exists(f->tree, "e"));
    /* A new life of the number, and names swapped. */
    OK(create(f, 12, "/x", S_IFREG | 0600, 0, NULL));
    OK(create(f, 13, "/y", S_IFDIR | 0700, 0, NULL));
    OK(replace(f, NF_EXCHANGE, 12, "/x", "/y", 13));
    assert_true(S_ISDIR(stat_of(f, "x").st_mode));
    assert_true(S_ISREG(stat_of(f, "y").st_mode));
    OK(create(f, 14, "/z", S_IFREG | 0600, 0, NULL));
    OK(replace(f, NF_RENAME, 12, "/y", "/z", 14));
    assert_int_equal(create(f, 12, "/z", S_IFREG | 0600, 0, NULL), NF_ELOST);
}

static void test_moved_parent(void **state)
{
    struct fixture *f = *state;

    /* The path of a directory that was just used leads elsewhere. */
    OK(create(f, 12, "/a", S_IFDIR | 0700, 0, NULL));
    OK(create(f, 13, "/b", S_IFDIR | 0700, 0, NULL));
    OK(create(f, 14, "/a/f", S_IFREG | 0600, 0, NULL));
    OK(replace(f, NF_EXCHANGE, 12, "/a", "/b", 13));
    OK(create(f, 15, "/a/g", S_IFREG | 0600, 0, NULL));
    assert_true(exists(f->tree, "a/g"));
    assert_true(exists(f->tree, "b/f"));
    OK(unlink_event(f, 15, "/a/g", true));
    OK(unlink_event(f, 13, "/a", true));
    OK(create(f, 16, "/a", S_IFDIR | 0700, 0, NULL));
    OK(create(f, 17, "/a/h", S_IFREG | 0600, 0, NULL));
    assert_true(exists(f->tree, "a/h"));
}

static void test_divergence(void **state)
{
    struct fixture *f = *state;

    OK(create(f, 12, "/a", S_IFREG | 0600, 0, NULL));
    OK(create(f, 13, "/b", S_IFREG | 0600, 0, NULL));
    assert_int_equal(unlink_event(f, 13, "/a", true), NF_ELOST);
    assert_int_equal(replace(f, NF_RENAME, 13, "/a", "/c", 0), NF_ELOST);
    assert_int_equal(replace(f, NF_RENAME, 12, "/a", "/b", 0), NF_ELOST);
    assert_int_equal(replace(f, NF_RENAME, 12, "/a", "/b", 12), NF_ELOST);
    assert_int_equal(replace(f, NF_RENAME, 12, "/a", "/c", 13), NF_ELOST);
    assert_int_equal(simple(f, NF_LINK, 12, "/c", "/b"), NF_ELOST);
    assert_int_equal(write_event(f, 12, "/b", 0, "x", 1), NF_ELOST);
    assert_int_equal(write_event(f, 12, "/none", 0, "x", 1), NF_ELOST);
    assert_true(exists(f->tree, "a"));
    assert_true(exists(f->tree, "b"));
    assert_false(exists(f->tree, "c"));
    assert_non_null(strstr(f->err.text, "/none"));
}

static void test_nameless(void **state)
{
    struct fixture *f = *state;

    OK(create(f, 12, NULL, S_IFREG | 0640, 6, NULL));
    OK(write_event(f, 12, NULL, 0, "hidden", 6));
    OK(commit(f));
    OK(simple(f, NF_LINK, 12, "/named", NULL));
    assert_content(f, "named", "hidden", 6);
    assert_int_equal(stat_of(f, "named").st_mtim.tv_sec, 1000);
    /* One that never gets a name. */
    OK(create(f, 13, NULL, S_IFREG | 0640, 0, NULL));
    assert_true(exists(f->stage, "13-1"));
    OK(unlink_event(f, 13, NULL, true));
    assert_false(exists(f->stage, "13-1"));
    /* A directory that was removed while somebody was in it. */
    OK(create(f, 15, NULL, S_IFDIR | 0700, 0, NULL));
    OK(unlink_event(f, 15, NULL, true));
    assert_false(exists(f->stage, "15-1"));
    /* Unlinked while open: what follows has no path and no effect. */
    OK(unlink_event(f, 12, "/named", true));
    OK(write_event(f, 12, NULL, 0, "gone", 4));
    assert_int_equal(range_event(f, NF_TRUNCATE, 12, "/named", 0, 0, 0), NF_ELOST);
    OK(unlink_event(f, 12, NULL, true));
    /* Between two names within a step. */
    OK(create(f, 14, "/p", S_IFREG | 0600, 1, NULL));
    OK(write_event(f, 14, "/p", 0, "p", 1));
    OK(unlink_event(f, 14, "/p", false));
    OK(simple(f, NF_LINK, 14, "/q", NULL));
    assert_content(f, "q", "p", 1);
}

static void test_entries(void **state)
{
    struct fixture *f = *state;
    struct nf_bytes links[3] = { bytes("/a/b/one"), bytes("/two"), bytes("/a/three") };
    struct nf_bytes dir = bytes("/a"), sub = bytes("/a/b"), top = bytes("/");
    struct nf_event ev = { .kind = NF_ENTRY, .inode = 12, .generation = 1, .paths = links,
                           .npaths = 3,
                           .create = { .attr = { .mode = S_IFREG | 0600, .size = 5,
                                                 .mtime = { 500, 1 } } } };

    /* The child's row comes first. */
    OK(apply(f, &ev));
    assert_int_equal(stat_of(f, "two").st_nlink, 3);
    ev.npaths = 1;
    ev.create.attr.mode = S_IFDIR | 0755;
    ev.paths = &dir;
    ev.inode = 13;
    ev.create.attr.mtime.sec = 600;
    OK(apply(f, &ev));
    ev.paths = &top;
    ev.inode = 2;
    ev.create.attr.mtime.sec = 700;
    OK(apply(f, &ev));
    ev.paths = &sub;
    ev.inode = 14;
    ev.create.attr.mtime.sec = 800;
    OK(apply(f, &ev));
    assert_int_equal(stat_of(f, "a").st_mtim.tv_sec, 600);
    assert_int_equal(stat_of(f, ".").st_mtim.tv_sec, 700);
    assert_int_equal(stat_of(f, "a/b").st_mtim.tv_sec, 800);
    assert_int_equal(stat_of(f, "a/b").st_mode, S_IFDIR | 0755);
    /* A row twice is an error. */
    assert_int_equal(apply(f, &ev), NF_ELOST);
    OK(unlink_event(f, 12, "/two", false));
    assert_int_equal(stat_of(f, ".").st_mtim.tv_sec, 700);
}

static void test_content(void **state)
{
    struct fixture *f = *state;
    const struct nf_attr times = { .mtime = { 2000, 0 } };

    OK(create(f, 12, "/f", S_IFREG | 0600, 0, NULL));
    OK(write_event(f, 12, "/f", 3, "defghij", 7));
    OK(write_event(f, 12, "/f", 0, "abc", 3));
    assert_int_not_equal(stat_of(f, "f").st_mtim.tv_sec, 1000);
    OK(nf_apply_settle(f->a, &f->err));
    assert_content(f, "f", "abcdefghij", 10);
    assert_int_equal(stat_of(f, "f").st_mtim.tv_sec, 1000);
    OK(range_event(f, NF_ZERO, 12, "/f", 2, 3, 0));
    assert_content(f, "f", "ab\0\0\0fghij", 10);
    OK(range_event(f, NF_ZERO, 12, "/f", 8, 1000, 0));
    assert_content(f, "f", "ab\0\0\0fgh\0\0", 10);
    OK(range_event(f, NF_TRUNCATE, 12, "/f", 0, 0, 7));
    assert_content(f, "f", "ab\0\0\0fg", 7);
    OK(range_event(f, NF_TRUNCATE, 12, "/f", 0, 0, 9));
    assert_content(f, "f", "ab\0\0\0fg\0\0", 9);
    OK(attr_event(f, 12, "/f", NF_ATTR_MTIME, &times));
    OK(write_event(f, 12, "/f", 0, "X", 1));
    OK(commit(f));
    assert_int_equal(stat_of(f, "f").st_mtim.tv_sec, 2000);
    /* Less data than length: the size is right, and it is counted. */
    OK(write_event(f, 12, "/f", 8, "Z", 12));
    OK(commit(f));
    assert_int_equal(stat_of(f, "f").st_size, 20);
    assert_int_equal(nf_apply_stats(f->a)->incomplete, 1);
}

/* Ciphertext is not sent: the file has its size, and that is all there is to have. */
static void test_encrypted(void **state)
{
    struct fixture *f = *state;
    struct nf_bytes p = bytes("/f");
    struct nf_event ev = { .kind = NF_WRITE, .flags = NF_EV_ENCRYPTED, .inode = 12,
                           .generation = 1, .paths = &p, .npaths = 1,
                           .write = { .length = 1u << 20 } };
    struct stat st;

    OK(create(f, 12, "/f", S_IFREG | 0600, 0, NULL));
    OK(apply(f, &ev));
    OK(commit(f));
    st = stat_of(f, "f");
    assert_int_equal(st.st_size, 1u << 20);
    assert_int_equal(st.st_blocks, 0);
    assert_int_equal(nf_apply_stats(f->a)->incomplete, 0);
    assert_int_equal(nf_apply_stats(f->a)->encrypted, 1);
}

static void test_move_range(void **state)
{
    struct fixture *f = *state;

    OK(create(f, 12, "/f", S_IFREG | 0600, 0, NULL));
    OK(write_event(f, 12, "/f", 0, "0123456789", 10));
    OK(range_event(f, NF_MOVE_RANGE, 12, "/f", 4, 6, 2)); /* down, overlapping */
    assert_content(f, "f", "0145678989", 10);
    OK(range_event(f, NF_MOVE_RANGE, 12, "/f", 0, 6, 3)); /* up, overlapping */
    assert_content(f, "f", "0140145679", 10);
    OK(range_event(f, NF_MOVE_RANGE, 12, "/f", 8, 100, 0)); /* beyond the end */
    assert_content(f, "f", "7940145679", 10);

    /* Holes move as holes, both ways: 1 MiB of data at 4, 8 and 12 MiB. */
    {
        const uint64_t mib = 1 << 20;
        char byte;
        int fd;

        OK(create(f, 13, "/s", S_IFREG | 0600, 100 * mib, NULL));
        OK(write_event(f, 13, "/s", 4 * mib, "four", 4));
        OK(write_event(f, 13, "/s", 8 * mib, "eight", 5));
        OK(write_event(f, 13, "/s", 12 * mib, "twelve", 6));
        OK(range_event(f, NF_MOVE_RANGE, 13, "/s", 0, 90 * mib, 4 * mib));
        OK(range_event(f, NF_MOVE_RANGE, 13, "/s", 4 * mib, 90 * mib, 0));
        OK(range_event(f, NF_MOVE_RANGE, 13, "/s", 0, 50 * mib, 50 * mib));
        OK(commit(f));
        assert_true(stat_of(f, "s").st_blocks < 1000);
        fd = openat(f->tree, "s", O_RDONLY);
        assert_int_equal(pread(fd, &byte, 1, (off_t)(54 * mib)), 1);
        assert_int_equal(byte, 'f');
        assert_int_equal(pread(fd, &byte, 1, (off_t)(62 * mib)), 1);
        assert_int_equal(byte, 't');
        assert_int_equal(pread(fd, &byte, 1, (off_t)(8 * mib)), 1);
        assert_int_equal(byte, 'e');
        assert_int_equal(pread(fd, &byte, 1, (off_t)(63 * mib)), 1);
        assert_int_equal(byte, 0);
        close(fd);
    }
}

static void test_xattrs(void **state)
{
    struct fixture *f = *state;
    char path[100], got[10];

    OK(create(f, 12, "/f", S_IFREG | 0600, 0, NULL));
    OK(xattr_event(f, 12, "/f", bytes("user.a"), "value"));
    snprintf(path, sizeof(path), "%s/tree/f", f->dir);
    assert_int_equal(getxattr(path, "user.a", got, sizeof(got)), 5);
    OK(xattr_event(f, 12, "/f", bytes("user.a"), NULL));
    assert_int_equal(getxattr(path, "user.a", got, sizeof(got)), -1);
    OK(xattr_event(f, 12, "/f", bytes("user.a"), NULL)); /* gone is gone */
    OK(xattr_event(f, 12, "/f", (struct nf_bytes){ (const uint8_t *)"user.\0x", 7 }, "v"));
    OK(xattr_event(f, 12, "/f", bytes(""), "v"));
    assert_int_equal(nf_apply_stats(f->a)->odd, 2);
    OK(xattr_event(f, 12, "/f", bytes("user."), "v"));
    assert_int_equal(nf_apply_stats(f->a)->xattrs, 1);
}

/* What an ACL says of the mode does not count, whichever comes first. */
static void test_acl_and_mode(void **state)
{
    struct fixture *f = *state;
    /* user::rw- user:1000:r-- group::r-- mask::--- other::--- */
    static const uint8_t acl[] = { 2, 0, 0, 0, 1, 0, 6, 0, 255, 255, 255, 255, 2, 0, 4, 0, 232, 3, 0,
                                   0, 4, 0, 4, 0, 255, 255, 255, 255, 16, 0, 0, 0, 255, 255, 255,
                                   255, 32, 0, 0, 0, 255, 255, 255, 255 };
    struct nf_bytes p = bytes("/f");
    struct nf_event ev = { .kind = NF_XATTR, .inode = 12, .generation = 1, .paths = &p,
                           .npaths = 1,
                           .xattr = { .name = bytes("system.posix_acl_access"),
                                      .value = { acl, sizeof(acl) } } };
    struct nf_event mode = { .kind = NF_ATTR, .inode = 12, .generation = 1, .paths = &p,
                             .npaths = 1,
                             .attr = { .mask = NF_ATTR_MODE,
                                       .after = { .mode = S_IFREG | 0600 } } };
    uint8_t got[100];
    char path[100];

    skip_unless_root();
    OK(create(f, 12, "/f", S_IFREG | 04740, 0, NULL));
    OK(apply(f, &ev));
    if (nf_apply_stats(f->a)->xattrs)
        skip(); /* no ACLs here */
    assert_int_equal(stat_of(f, "f").st_mode, S_IFREG | 04740);
    OK(apply(f, &mode));
    snprintf(path, sizeof(path), "%s/tree/f", f->dir);
    assert_int_equal(getxattr(path, "system.posix_acl_access", got, sizeof(got)), sizeof(acl));
    assert_memory_equal(got, acl, sizeof(acl));
    OK(apply(f, &ev));
    assert_int_equal(stat_of(f, "f").st_mode, S_IFREG | 0600);
    ev.xattr.removed = true;
    OK(apply(f, &ev));
    assert_int_equal(getxattr(path, "system.posix_acl_access", got, sizeof(got)), -1);
    assert_int_equal(stat_of(f, "f").st_mode, S_IFREG | 0600);
}

static void test_inherited_acl(void **state)
{
    struct fixture *f = *state;
    /* user::rwx user:1:rwx group::rwx mask::rwx other::rwx, as the kernel has it */
    static const uint8_t acl[] = { 2, 0, 0, 0, 1, 0, 7, 0, 255, 255, 255, 255, 2, 0, 7, 0, 1, 0, 0,
                                   0, 4, 0, 7, 0, 255, 255, 255, 255, 16, 0, 7, 0, 255, 255, 255,
                                   255, 32, 0, 7, 0, 255, 255, 255, 255 };
    struct nf_bytes p = bytes("/d");
    struct nf_event ev = { .kind = NF_XATTR, .inode = 12, .generation = 1, .paths = &p,
                           .npaths = 1,
                           .xattr = { .name = bytes("system.posix_acl_default"),
                                      .value = { acl, sizeof(acl) } } };
    struct nf_bytes below = bytes("/d/e/f");
    struct nf_event row = { .kind = NF_ENTRY, .inode = 15, .generation = 1, .paths = &below,
                            .npaths = 1, .create = { .attr = { .mode = S_IFREG | 0600 } } };
    char path[100], got[100];

    skip_unless_root();
    OK(create(f, 12, "/d", S_IFDIR | 02755, 0, NULL));
    OK(apply(f, &ev));
    if (nf_apply_stats(f->a)->xattrs)
        skip(); /* no ACLs here */
    OK(create(f, 13, "/d/f", S_IFREG | 0600, 0, NULL));
    OK(create(f, 14, "/d/s", S_IFDIR | 0700, 0, NULL));
    snprintf(path, sizeof(path), "%s/tree/d/f", f->dir);
    assert_int_equal(getxattr(path, "system.posix_acl_access", got, sizeof(got)), -1);
    snprintf(path, sizeof(path), "%s/tree/d/s", f->dir);
    assert_int_equal(getxattr(path, "system.posix_acl_default", got, sizeof(got)), -1);
    assert_int_equal(stat_of(f, "d/s").st_mode, S_IFDIR | 0700);
    /* Nor does a directory that is only made because a row is below it. */
    OK(apply(f, &row));
    snprintf(path, sizeof(path), "%s/tree/d/e", f->dir);
    assert_int_equal(getxattr(path, "system.posix_acl_access", got, sizeof(got)), -1);
    assert_int_equal(getxattr(path, "system.posix_acl_default", got, sizeof(got)), -1);
    assert_int_equal(stat_of(f, "d/f").st_mode, S_IFREG | 0600);
}

static void test_gap(void **state)
{
    struct fixture *f = *state;

    assert_false(nf_apply_stats(f->a)->broken);
    OK(simple(f, NF_GAP, 0, NULL, NULL));
    assert_true(nf_apply_stats(f->a)->broken);
    OK(simple(f, NF_RESYNC_END, 0, NULL, NULL));
    assert_false(nf_apply_stats(f->a)->broken);
    OK(simple(f, NF_KIND_MAX + 1, 0, NULL, NULL));
    OK(simple(f, NF_HEARTBEAT, 0, NULL, NULL));
}

/* --- attacks ---------------------------------------------------------------------- */

static void test_hostile_paths(void **state)
{
    struct fixture *f = *state;
    static const char *const bad[] = { "",      "a",     "/..",     "/../outside/x", "/a/../b",
                                       "/./a",  "//a",   "/a/",     "/a//b",         "/.",
                                       "../x",  "/a/.",  "/a/.." };
    char name[300] = "/";
    struct nf_bytes nul = { (const uint8_t *)"/a\0b", 4 };
    struct nf_event ev = { .kind = NF_CREATE, .inode = 50, .generation = 1, .paths = &nul,
                           .npaths = 1, .create = { .attr = { .mode = S_IFREG | 0600 } } };

    OK(create(f, 12, "/a", S_IFDIR | 0700, 0, NULL));
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(create(f, 50, bad[i], S_IFREG | 0600, 0, NULL), NF_EFORMAT);
        assert_int_equal(replace(f, NF_RENAME, 12, "/a", bad[i], 0), NF_EFORMAT);
        assert_int_equal(simple(f, NF_LINK, 12, bad[i], "/a") < 0, true);
    }
    assert_int_equal(apply(f, &ev), NF_EFORMAT);
    memset(name + 1, 'n', 256);
    assert_int_equal(create(f, 50, name, S_IFREG | 0600, 0, NULL), NF_EFORMAT);
    name[256] = '\0';
    OK(create(f, 50, name, S_IFREG | 0600, 0, NULL));
    assert_int_equal(create(f, 51, "/", S_IFDIR | 0700, 0, NULL) < 0, true);
    assert_int_equal(unlink_event(f, 2, "/", true) < 0, true);
    assert_false(exists(f->top, "outside/x"));
    assert_false(exists(f->top, "x"));
}

static void test_hostile_links(void **state)
{
    struct fixture *f = *state;
    char target[100];

    snprintf(target, sizeof(target), "%s/outside", f->dir);
    OK(create(f, 12, "/abs", S_IFLNK | 0777, 0, target));
    OK(create(f, 13, "/rel", S_IFLNK | 0777, 0, "../outside"));
    OK(create(f, 14, "/proc", S_IFLNK | 0777, 0, "/proc/self/cwd"));
    OK(create(f, 15, "/in", S_IFDIR | 0700, 0, NULL));
    OK(create(f, 16, "/toin", S_IFLNK | 0777, 0, "in"));
    /* No link is followed on the way, not even one that stays inside. */
    assert_int_equal(create(f, 20, "/abs/x", S_IFREG | 0600, 0, NULL), NF_ELOST);
    assert_int_equal(create(f, 20, "/rel/x", S_IFREG | 0600, 0, NULL), NF_ELOST);
    assert_int_equal(create(f, 20, "/proc/x", S_IFREG | 0600, 0, NULL), NF_ELOST);
    assert_int_equal(create(f, 20, "/toin/x", S_IFREG | 0600, 0, NULL), NF_ELOST);
    assert_false(exists(f->top, "outside/x"));
    /* Nor at the end: the link itself is changed, its target is not. */
    OK(create(f, 21, "/file", S_IFLNK | 0777, 0, "../outside/file"));
    close(openat(f->top, "outside/file", O_CREAT | O_WRONLY, 0600));
    assert_int_equal(write_event(f, 21, "/file", 0, "x", 1), NF_ELOST);
    OK(attr_event(f, 21, "/file", NF_ATTR_MODE | NF_ATTR_MTIME | NF_ATTR_UID,
                  &(struct nf_attr){ .mode = S_IFLNK | 04777, .uid = 5, .mtime = { 1, 1 } }));
    {
        struct stat st;
        assert_int_equal(fstatat(f->top, "outside/file", &st, 0), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        assert_int_equal(st.st_uid, geteuid());
        assert_true(st.st_mtim.tv_sec > 1);
        assert_int_equal(st.st_size, 0);
    }
    OK(simple(f, NF_LINK, 21, "/file2", "/file"));
    assert_true(S_ISLNK(stat_of(f, "file2").st_mode));
    /* A FIFO is not opened: this would wait for ever. */
    OK(create(f, 22, "/fifo", S_IFIFO | 0600, 0, NULL));
    assert_int_equal(write_event(f, 22, "/fifo", 0, "x", 1), NF_ELOST);
    /* Targets and types that cannot be. */
    OK(create(f, 23, "/empty", S_IFLNK | 0777, 0, ""));
    OK(create(f, 24, "/odd", 0170000, 0, NULL));
    assert_int_equal(nf_apply_stats(f->a)->odd, 2);
    assert_false(exists(f->tree, "empty"));
    OK(unlink_event(f, 23, "/empty", true));
}

static void test_hostile_numbers(void **state)
{
    struct fixture *f = *state;
    const struct nf_attr odd_times = { .atime = { INT64_MIN, UINT32_MAX },
                                       .mtime = { INT64_MAX, UINT32_MAX } };

    OK(create(f, 12, "/f", S_IFREG | 0600, UINT64_MAX, NULL));
    OK(range_event(f, NF_TRUNCATE, 12, "/f", 0, 0, UINT64_MAX));
    OK(range_event(f, NF_TRUNCATE, 12, "/f", 0, 0, 10));
    assert_true(nf_apply_stats(f->a)->too_large > 0);
    assert_int_equal(write_event(f, 12, "/f", UINT64_MAX, "ab", 2), NF_EFORMAT);
    assert_int_equal(write_event(f, 12, "/f", 1, "ab", UINT64_MAX), NF_EFORMAT);
    assert_int_equal(range_event(f, NF_ZERO, 12, "/f", UINT64_MAX, 2, 0), NF_EFORMAT);
    assert_int_equal(range_event(f, NF_MOVE_RANGE, 12, "/f", 0, 2, UINT64_MAX), NF_EFORMAT);
    OK(range_event(f, NF_ZERO, 12, "/f", 0, UINT64_MAX, 0));
    OK(write_event(f, 12, "/f", UINT64_MAX - 2, "ab", 2));
    OK(attr_event(f, 12, "/f", NF_ATTR_ATIME | NF_ATTR_MTIME, &odd_times));
    OK(commit(f));

    start(f, geteuid() == 0, 1000);
    OK(create(f, 13, "/bounded", S_IFREG | 0600, 5000, NULL));
    OK(write_event(f, 13, "/bounded", 999, "abc", 3));
    OK(write_event(f, 13, "/bounded", 5000, "abc", 3));
    OK(range_event(f, NF_TRUNCATE, 13, "/bounded", 0, 0, 1u << 31));
    OK(commit(f));
    assert_int_equal(stat_of(f, "bounded").st_size, 1000);
    assert_int_equal(nf_apply_stats(f->a)->too_large, 4);
}

static void test_long_paths(void **state)
{
    struct fixture *f = *state;
    size_t len = 0;
    char *path = malloc(100000);
    struct nf_beneath b;
    struct nf_bytes p;
    char name[NF_NAME_MAX + 1];
    int fd;

    /* 60 directories of 200 bytes each: three times PATH_MAX. */
    for (uint32_t i = 0; i < 60; i++) {
        path[len++] = '/';
        memset(path + len, 'p', 200);
        len += 200;
        path[len] = '\0';
        OK(create(f, 100 + i, path, S_IFDIR | 0700, 0, NULL));
    }
    strcpy(path + len, "/file");
    OK(create(f, 300, path, S_IFREG | 0600, 0, NULL));
    OK(write_event(f, 300, path, 0, "deep", 4));
    nf_beneath_init(&b, f->tree);
    p = bytes(path);
    OK(nf_beneath_parent(&b, p, &fd, name, &f->err));
    assert_string_equal(name, "file");
    nf_beneath_release(&b);
    OK(unlink_event(f, 300, path, true));
    for (uint32_t i = 60; i-- > 0;) {
        path[201 * (i + 1)] = '\0';
        OK(unlink_event(f, 100 + i, path, true));
    }
    free(path);
}

static void test_text(void **state)
{
    char buf[40];

    (void)state;
    assert_string_equal(nf_beneath_text(bytes("/a b\\\n\377"), buf, sizeof(buf)),
                        "/a b\\x5c\\x0a\\xff");
    nf_beneath_text(bytes("/aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), buf, 16);
    assert_true(strlen(buf) < 16);
    assert_non_null(strstr(buf, "..."));
}

static void test_inode_map(void **state)
{
    struct nf_inode_map m = { 0 };

    (void)state;
    assert_null(nf_inode_map_find(&m, 1));
    nf_inode_map_remove(&m, 1);
    assert_int_equal(nf_inode_map_set(&m, 0, 0, 0), NF_EINVAL);
    /* Against a plain array, with removals in between. */
    static uint64_t want[5000];
    uint64_t r = 1;
    size_t count = 0;

    for (int i = 0; i < 100000; i++) {
        uint32_t inode;

        r = r * UINT64_C(6364136223846793005) + 1442695040888963407u;
        inode = 1 + (uint32_t)(r >> 33) % 4999;
        if (r >> 63) {
            count += want[inode] == 0;
            want[inode] = r | 1;
            assert_int_equal(nf_inode_map_set(&m, inode, (uint32_t)i, r | 1), 0);
        } else {
            count -= want[inode] != 0;
            want[inode] = 0;
            nf_inode_map_remove(&m, inode);
        }
    }
    assert_int_equal(m.used, count);
    for (uint32_t i = 1; i < 5000; i++) {
        struct nf_inode_map_slot *s = nf_inode_map_find(&m, i);

        assert_int_equal(s ? s->ours : 0, want[i]);
    }
    nf_inode_map_release(&m);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_create),         TEST(test_root_attributes), TEST(test_plain_user),
        TEST(test_names),          TEST(test_moved_parent),    TEST(test_divergence),
        TEST(test_nameless),       TEST(test_entries),         TEST(test_content),
        TEST(test_encrypted),
        TEST(test_move_range),     TEST(test_xattrs),          TEST(test_inherited_acl),
        TEST(test_acl_and_mode),   TEST(test_gap),             TEST(test_hostile_paths),
        TEST(test_hostile_links),  TEST(test_hostile_numbers), TEST(test_long_paths),
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_inode_map),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
