/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extent trees, by the rules of the kernel's own check. libext2fs reads them as
 * well, but copies each node, opens a handle for each inode and knows only one
 * side of a step: an attach looks into every inode, a step may compare trees of
 * a hundred thousand extents that differ in one.
 */
#include "bdi/ext4/extents_private.h"

#include "common/bytes.h"
#include "common/crc32c.h"

enum {
    HEADER = 12, /* magic, entries, max, depth, generation */
    ENTRY = 12,
    MAGIC = 0xf30a,
    LEN_WRITTEN_MAX = 32768, /* beyond: unwritten, and that much longer */
    DEPTH_MAX = 5,
    ROOT_SIZE = 60,
};

/* A place in the tree of one side. */
struct cursor {
    struct ext4_fs *fs;
    enum view view;
    uint32_t ino, generation;
    struct block_map *out;
    int top; /* level[top] is the node that the cursor stands in */
    struct {
        const uint8_t *node;
        uint32_t n, i; /* entries; the one that the cursor stands on */
        uint32_t height; /* 0: a leaf */
        uint64_t start, end; /* file blocks that can be below this node */
    } level[DEPTH_MAX + 1];
    bool over; /* the end, or damage */

    /* The entry; height 0: an extent, else an index entry. */
    uint32_t height;
    uint64_t lblk, len, pblk; /* len of an index entry: of what can be below it */
    bool unwritten; /* of an extent */
};

static void stop_damaged(struct cursor *c)
{
    c->out->damaged = true;
    c->over = true;
}

/* Is @node, @size bytes, a node of height @height with a header that can be? */
static bool header_ok(const uint8_t *node, uint32_t size, uint32_t height)
{
    uint32_t n = nf_le16(node + 2), max = nf_le16(node + 4);

    return nf_le16(node) == MAGIC && nf_le16(node + 6) == height && max > 0 &&
           max <= (size - HEADER) / ENTRY && n <= max && (n > 0 || height == 0);
}

static bool csum_ok(const struct cursor *c, const uint8_t *node)
{
    size_t tail = HEADER + ENTRY * (size_t)nf_le16(node + 4);
    uint32_t sum;
    uint8_t id[8];

    if (!ext2fs_has_feature_metadata_csum(c->fs->fs->super))
        return true;
    nf_put_le32(id, c->ino);
    nf_put_le32(id + 4, c->generation);
    sum = nf_crc32c(~c->fs->fs->csum_seed, id, sizeof(id));
    return tail + 4 <= c->fs->block_size &&
           nf_le32(node + tail) == ~nf_crc32c(sum, node, tail);
}

/* Read the entry that the cursor stands on. */
static void load(struct cursor *c)
{
    const uint8_t *e = c->level[c->top].node + HEADER + ENTRY * (size_t)c->level[c->top].i;
    uint64_t next;

    c->height = c->level[c->top].height;
    c->lblk = nf_le32(e);
    if (c->lblk < c->level[c->top].start) {
        stop_damaged(c);
        return;
    }
    if (c->height == 0) {
        c->len = nf_le16(e + 4);
        c->unwritten = c->len > LEN_WRITTEN_MAX;
        if (c->unwritten)
            c->len -= LEN_WRITTEN_MAX;
        c->pblk = nf_le32(e + 8) | (uint64_t)nf_le16(e + 6) << 32;
        if (c->lblk + c->len > c->level[c->top].end)
            stop_damaged(c);
        return;
    }
    c->pblk = nf_le32(e + 4) | (uint64_t)nf_le16(e + 8) << 32;
    next = c->level[c->top].i + 1 < c->level[c->top].n ? nf_le32(e + ENTRY)
                                                        : c->level[c->top].end;
    if (c->pblk == 0 || c->pblk >= c->fs->blocks || next <= c->lblk) {
        stop_damaged(c);
        return;
    }
    c->len = next - c->lblk;
}

static void enter(struct cursor *c, const uint8_t *node, uint32_t height, uint64_t start,
                  uint64_t end)
{
    c->level[c->top].node = node;
    c->level[c->top].n = nf_le16(node + 2);
    c->level[c->top].i = 0;
    c->level[c->top].height = height;
    c->level[c->top].start = start;
    c->level[c->top].end = end;
}

static void next(struct cursor *c)
{
    while (++c->level[c->top].i >= c->level[c->top].n) {
        if (c->top == 0) {
            c->over = true;
            return;
        }
        c->top--;
    }
    load(c);
}

static void begin(struct cursor *c, struct ext4_fs *fs, enum view view, uint32_t ino,
                  const struct ext4_inode *inode, struct block_map *out)
{
    const uint8_t *root = inode->raw + 0x28;
    uint32_t height = nf_le16(root + 6);

    c->fs = fs;
    c->view = view;
    c->ino = ino;
    c->generation = inode->generation;
    c->out = out;
    c->top = 0;
    c->over = false;
    if (height > DEPTH_MAX || !header_ok(root, ROOT_SIZE, height)) {
        stop_damaged(c);
        return;
    }
    enter(c, root, height, 0, (uint64_t)UINT32_MAX + 1);
    if (c->level[0].n == 0)
        c->over = true;
    else
        load(c);
}

/* From an index entry to the first entry of its node. */
static int descend(struct cursor *c)
{
    const uint8_t *node = picture_block(&c->fs->pic, c->view, c->pblk, NULL);
    uint32_t height = c->height - 1;
    uint64_t start = c->lblk, end = start + c->len;
    int ret;

    if (!node || !header_ok(node, c->fs->block_size, height) || !csum_ok(c, node)) {
        stop_damaged(c);
        return 0;
    }
    ret = map_add_node(c->out, c->pblk, (uint32_t)c->lblk);
    if (ret) {
        c->over = true;
        return ret < 0 ? ret : 0;
    }
    c->top++;
    enter(c, node, height, start, end);
    if (c->level[c->top].n > 0) {
        load(c);
    } else {
        next(c);
    }
    return 0;
}

/* Take the entry in, or go into it. */
static int take(struct cursor *c)
{
    int ret;

    if (c->height)
        return descend(c);
    ret = map_add_extent(c->fs, c->out, c->lblk, c->len, c->pblk, c->unwritten);
    if (ret)
        c->over = true;
    else
        next(c);
    return ret < 0 ? ret : 0;
}

static int take_all(struct cursor *c)
{
    int ret = 0;

    while (ret == 0 && !c->over)
        ret = take(c);
    return ret;
}

int extent_tree_read(struct ext4_fs *fs, enum view view, uint32_t ino,
                     const struct ext4_inode *inode, struct block_map *out)
{
    struct cursor c;

    begin(&c, fs, view, ino, inode, out);
    return take_all(&c);
}

/* Both stand on the same entry: pass over it, if all below it is the same. */
static int skip_same(struct cursor *a, struct cursor *b, const struct map_hint *hint, bool *skipped)
{
    uint64_t len = a->len < b->len ? a->len : b->len;
    int ret[2];

    *skipped = false;
    if (!map_unchanged(a->fs, hint, a->pblk, a->lblk, a->lblk + (a->len > len ? a->len : b->len)))
        return 0;
    *skipped = true;
    ret[0] = map_add_same(a->out, a->lblk, len);
    ret[1] = map_add_same(b->out, b->lblk, len);
    a->over |= ret[0] != 0;
    b->over |= ret[1] != 0;
    if (!a->over)
        next(a);
    if (!b->over)
        next(b);
    return ret[0] < 0 || ret[1] < 0 ? NF_ENOMEM : 0;
}

int extent_tree_diff(struct ext4_fs *fs, uint32_t ino, const struct ext4_inode *old,
                     const struct ext4_inode *new, const struct map_hint *hint,
                     struct block_map *old_out, struct block_map *new_out)
{
    struct cursor a, b;
    int ret = 0;

    begin(&a, fs, VIEW_OLD, ino, old, old_out);
    begin(&b, fs, VIEW_NEW, ino, new, new_out);
    while (ret == 0 && !a.over && !b.over) {
        bool skipped = false;

        /* The one that is behind goes first; of two at the same place the one
         * that stands higher in its tree, until both stand on the same node. */
        if (a.lblk != b.lblk) {
            ret = take(a.lblk < b.lblk ? &a : &b);
        } else if (a.height != b.height) {
            ret = take(a.height > b.height ? &a : &b);
        } else {
            if (a.height && a.pblk == b.pblk)
                ret = skip_same(&a, &b, hint, &skipped);
            if (ret == 0 && !skipped)
                ret = take(&a);
            if (ret == 0 && !skipped)
                ret = take(&b);
        }
    }
    if (ret == 0)
        ret = take_all(&a);
    return ret ? ret : take_all(&b);
}
