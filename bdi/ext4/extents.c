/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/extents_private.h"

#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/fastcommit.h"

static int grow_array(void **array, size_t *cap, size_t elem)
{
    size_t want = *cap ? *cap * 2 : 2; /* most files have one extent */
    void *bigger = reallocarray(*array, want, elem);

    if (!bigger)
        return NF_ENOMEM;
    *array = bigger;
    *cap = want;
    return 0;
}

static int damaged(struct block_map *m)
{
    m->damaged = true;
    return 1;
}

void block_maps_begin(struct ext4_fs *fs)
{
    fs->one_user = true;
}

void block_maps_end(struct ext4_fs *fs)
{
    fs->one_user = false;
    for (int view = 0; view < 2; view++)
        u64map_release(&fs->node_users[view]);
}

/* A map of which nothing is known yet. */
static void begin(struct ext4_fs *fs, enum view view, uint32_t ino, struct block_map *m)
{
    memset(m, 0, sizeof(*m));
    m->ino = ino;
    m->users = fs->one_user ? &fs->node_users[view] : NULL;
}

int map_add_node(struct block_map *m, uint64_t pblk, uint32_t lblk)
{
    uintptr_t user = m->users ? (uintptr_t)u64map_get(m->users, pblk) : 0;

    if (user && user != m->ino)
        return damaged(m);
    if (m->users && !user && u64map_put(m->users, pblk, (void *)(uintptr_t)m->ino) < 0)
        return NF_ENOMEM;
    /* A map that leads back to a node that it passed could be made to look
     * endless with a few blocks. */
    if (u64map_get(&m->seen, pblk))
        return damaged(m);
    if (u64map_put(&m->seen, pblk, m) < 0)
        return NF_ENOMEM;
    if (m->nnodes == m->nodes_cap &&
        grow_array((void **)&m->nodes, &m->nodes_cap, sizeof(*m->nodes)) < 0)
        return NF_ENOMEM;
    m->nodes[m->nnodes++] = (struct map_node){pblk, lblk};
    return 0;
}

static int append(struct block_map *m, struct map_extent e)
{
    struct map_extent *last = m->n ? &m->ext[m->n - 1] : NULL;

    if (last && last->unwritten == e.unwritten && last->lblk + last->len == e.lblk &&
        last->pblk + last->len == e.pblk) {
        last->len += e.len;
        return 0;
    }
    if (m->n == m->cap && grow_array((void **)&m->ext, &m->cap, sizeof(*m->ext)) < 0)
        return NF_ENOMEM;
    m->ext[m->n++] = e;
    return 0;
}

/* May [lblk, +len) come next? */
static bool in_order(const struct block_map *m, uint64_t lblk, uint64_t len)
{
    const struct map_extent *last = m->n ? &m->ext[m->n - 1] : NULL;

    return len && lblk + len <= UINT32_MAX &&
           (!last || lblk >= (uint64_t)last->lblk + last->len);
}

int map_add_extent(struct ext4_fs *fs, struct block_map *m, uint64_t lblk, uint64_t len,
                   uint64_t pblk, bool unwritten)
{
    /* A block has one place in one file: a map of more blocks than there are
     * repeats some, and would make much work of a few nodes. */
    if (!in_order(m, lblk, len) || pblk == 0 || pblk >= fs->blocks || len > fs->blocks - pblk ||
        len > fs->blocks - m->blocks)
        return damaged(m);
    m->blocks += len;
    return append(m, (struct map_extent){(uint32_t)lblk, (uint32_t)len, pblk, unwritten});
}

int map_add_same(struct block_map *m, uint64_t lblk, uint64_t len)
{
    if (lblk + len > UINT32_MAX)
        len = lblk < UINT32_MAX ? UINT32_MAX - lblk : 0;
    if (!in_order(m, lblk, len))
        return damaged(m);
    return append(m, (struct map_extent){(uint32_t)lblk, (uint32_t)len, MAP_SAME + lblk, false});
}

bool map_wanted(const struct map_hint *hint, uint64_t from, uint64_t to)
{
    return hint->from < hint->to && from < hint->to && hint->from < to;
}

bool map_unchanged(const struct ext4_fs *fs, const struct map_hint *hint, uint64_t pblk,
                   uint64_t from, uint64_t to)
{
    size_t lo = 0, hi = hint->ndirty;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (hint->dirty[mid] < from)
            lo = mid + 1;
        else
            hi = mid;
    }
    return (lo == hint->ndirty || hint->dirty[lo] >= to) && !map_wanted(hint, from, to) &&
           !u64map_get(&fs->pic.staged, pblk);
}

static int done(struct ext4_fs *fs, uint32_t ino, struct block_map *m, int ret,
                struct nf_error *err)
{
    u64map_release(&m->seen);
    m->users = NULL;
    if (m->damaged)
        ext4_oddity(fs);
    return ret < 0 ? nf_fail(err, ret, "block map of inode %u: out of memory", ino) : 0;
}

int block_map_read(struct ext4_fs *fs, enum view view, uint32_t ino,
                   const struct ext4_inode *inode, struct block_map *out, struct nf_error *err)
{
    const struct fast_side *fast = fastcommit_inode(fs, view, ino);
    int ret;

    begin(fs, view, ino, out);
    if (fast)
        ret = block_map_copy(&fast->map, out);
    else if (inode->raw_flags & EXT4_EXTENTS_FL)
        ret = extent_tree_read(fs, view, ino, inode, out);
    else
        ret = indirect_read(fs, view, inode, out);
    return done(fs, ino, out, ret, err);
}

int block_map_diff(struct ext4_fs *fs, uint32_t ino, const struct ext4_inode *old,
                   const struct ext4_inode *new, const struct map_hint *hint,
                   struct block_map *old_out, struct block_map *new_out, struct nf_error *err)
{
    int ret;

    begin(fs, VIEW_OLD, ino, old_out);
    begin(fs, VIEW_NEW, ino, new_out);
    if (((old->raw_flags ^ new->raw_flags) & EXT4_EXTENTS_FL) ||
        fastcommit_inode(fs, VIEW_OLD, ino) || fastcommit_inode(fs, VIEW_NEW, ino)) {
        /* Nothing in common, or lists. */
        ret = block_map_read(fs, VIEW_OLD, ino, old, old_out, err);
        return ret < 0 ? ret : block_map_read(fs, VIEW_NEW, ino, new, new_out, err);
    }
    if (new->raw_flags & EXT4_EXTENTS_FL)
        ret = extent_tree_diff(fs, ino, old, new, hint, old_out, new_out);
    else
        ret = indirect_diff(fs, old, new, hint, old_out, new_out);
    ret = done(fs, ino, old_out, ret, err);
    return done(fs, ino, new_out, ret, err);
}

int block_map_copy(const struct block_map *from, struct block_map *to)
{
    *to = (struct block_map){.n = from->n, .cap = from->n, .nnodes = from->nnodes,
                             .nodes_cap = from->nnodes, .blocks = from->blocks};
    to->ext = from->n ? malloc(from->n * sizeof(*to->ext)) : NULL;
    to->nodes = from->nnodes ? malloc(from->nnodes * sizeof(*to->nodes)) : NULL;
    if ((from->n && !to->ext) || (from->nnodes && !to->nodes)) {
        block_map_release(to);
        return NF_ENOMEM;
    }
    if (from->n)
        memcpy(to->ext, from->ext, from->n * sizeof(*to->ext));
    if (from->nnodes)
        memcpy(to->nodes, from->nodes, from->nnodes * sizeof(*to->nodes));
    return 0;
}

void block_map_release(struct block_map *m)
{
    free(m->ext);
    free(m->nodes);
    memset(m, 0, sizeof(*m));
}

const struct map_extent *block_map_find(const struct block_map *m, uint32_t lblk,
                                        uint32_t *hole_end)
{
    size_t lo = 0, hi = m->n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;
        const struct map_extent *e = &m->ext[mid];

        if (lblk < e->lblk)
            hi = mid;
        else if (lblk - e->lblk >= e->len)
            lo = mid + 1;
        else
            return e;
    }
    if (hole_end)
        *hole_end = lo < m->n ? m->ext[lo].lblk : UINT32_MAX;
    return NULL;
}
