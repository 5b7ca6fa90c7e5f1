/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/extents.h"

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"

static int grow_array(void **array, size_t *cap, size_t elem)
{
    size_t want = *cap ? *cap * 2 : 8;
    void *bigger = reallocarray(*array, want, elem);

    if (!bigger)
        return NF_ENOMEM;
    *array = bigger;
    *cap = want;
    return 0;
}

/* 1: stop, the map is damaged from here on. */
static int add_node(struct block_map *m, uint64_t block)
{
    /* A map that leads back to a node that it passed could be made to look
     * endless with a few blocks. */
    if (u64map_get(&m->seen, block)) {
        m->damaged = true;
        return 1;
    }
    if (u64map_put(&m->seen, block, m) < 0)
        return NF_ENOMEM;
    if (m->nnodes == m->nodes_cap && grow_array((void **)&m->nodes, &m->nodes_cap, 8) < 0)
        return NF_ENOMEM;
    m->nodes[m->nnodes++] = block;
    return 0;
}

/* 1: stop, the map is damaged from here on. */
static int add_extent(struct ext4_fs *fs, struct block_map *m, uint64_t lblk, uint64_t len,
                      uint64_t pblk, bool unwritten)
{
    struct map_extent *last = m->n ? &m->ext[m->n - 1] : NULL;

    /* A block has one place in one file: a map of more blocks than there are
     * repeats some, and would make much work of a few nodes. */
    if (len == 0 || lblk + len > UINT32_MAX || pblk == 0 || pblk >= fs->blocks ||
        len > fs->blocks - pblk || (last && lblk < (uint64_t)last->lblk + last->len) ||
        len > fs->blocks - m->blocks) {
        m->damaged = true;
        return 1;
    }
    m->blocks += len;
    if (last && last->unwritten == unwritten && last->lblk + last->len == lblk &&
        last->pblk + last->len == pblk) {
        last->len += (uint32_t)len;
        return 0;
    }
    if (m->n == m->cap && grow_array((void **)&m->ext, &m->cap, sizeof(*m->ext)) < 0)
        return NF_ENOMEM;
    m->ext[m->n++] = (struct map_extent){(uint32_t)lblk, (uint32_t)len, pblk, unwritten};
    return 0;
}

static int read_extents(struct ext4_fs *fs, enum view view, uint32_t ino,
                        const struct ext4_inode *inode, struct block_map *m)
{
    ext2_extent_handle_t handle;
    struct ext2fs_extent extent;
    /* libext2fs wants an inode it may keep a copy of, as large as it is. */
    struct ext2_inode_large copy;
    errcode_t rc;
    int ret = 0;
    int op = EXT2_EXTENT_ROOT;

    memset(&copy, 0, sizeof(copy));
    memcpy(&copy, inode->raw, fs->inode_size < sizeof(copy) ? fs->inode_size : sizeof(copy));
    fs->pic.view = view;
    /* To check a node's sum libext2fs reads the inode's generation by itself,
     * through a cache that would still have the inode of another view. */
    ext2fs_flush_icache(fs->fs);
    rc = ext2fs_extent_open2(fs->fs, ino, (struct ext2_inode *)&copy, &handle);
    if (rc) {
        m->damaged = true;
        return 0;
    }
    /* Logical order must rise, so leaves are bounded; a node needs a leaf
     * below it, so a tree of nodes alone is damage too. */
    while (m->nnodes <= 1024 + 8 * m->n) {
        rc = ext2fs_extent_get(handle, op, &extent);
        op = EXT2_EXTENT_NEXT;
        if (rc)
            break;
        if (extent.e_flags & EXT2_EXTENT_FLAGS_SECOND_VISIT)
            continue;
        if (extent.e_flags & EXT2_EXTENT_FLAGS_LEAF) {
            ret = add_extent(fs, m, extent.e_lblk, extent.e_len, extent.e_pblk,
                             (extent.e_flags & EXT2_EXTENT_FLAGS_UNINIT) != 0);
        } else if (extent.e_pblk == 0 || extent.e_pblk >= fs->blocks) {
            m->damaged = true;
            ret = 1;
        } else {
            ret = add_node(m, extent.e_pblk);
        }
        if (ret)
            break;
    }
    /* An empty tree has no current extent; a finished one has no next. */
    if (ret == 0 && rc != EXT2_ET_EXTENT_NO_NEXT && rc != EXT2_ET_NO_CURRENT_NODE)
        m->damaged = true;
    ext2fs_extent_free(handle);
    fs->pic.view = VIEW_OLD;
    return ret < 0 ? ret : 0;
}

/* One pointer of an indirect map; @level 0 is data. */
static int walk_indirect(struct ext4_fs *fs, enum view view, struct block_map *m, uint32_t block,
                         int level, uint64_t *lblk)
{
    uint32_t per = fs->block_size / 4;
    const uint8_t *table;
    uint64_t covers = 1;
    int ret;

    for (int i = 0; i < level; i++)
        covers *= per;
    if (block == 0 || *lblk > UINT32_MAX) {
        *lblk += covers;
        return 0;
    }
    if (level == 0) {
        ret = add_extent(fs, m, *lblk, 1, block, false);
        *lblk += 1;
        return ret;
    }
    table = block < fs->blocks ? picture_block(&fs->pic, view, block, NULL) : NULL;
    if (!table) {
        m->damaged = true;
        return 1;
    }
    ret = add_node(m, block);
    for (uint32_t i = 0; ret == 0 && i < per; i++)
        ret = walk_indirect(fs, view, m, nf_le32(table + 4 * i), level - 1, lblk);
    return ret;
}

static int read_indirect(struct ext4_fs *fs, enum view view, const struct ext4_inode *inode,
                         struct block_map *m)
{
    const uint8_t *ptr = inode->raw + 0x28;
    uint64_t lblk = 0;
    int ret = 0;

    for (int i = 0; ret == 0 && i < EXT2_NDIR_BLOCKS; i++)
        ret = walk_indirect(fs, view, m, nf_le32(ptr + 4 * i), 0, &lblk);
    for (int level = 1; ret == 0 && level <= 3; level++)
        ret = walk_indirect(fs, view, m, nf_le32(ptr + 4 * (EXT2_NDIR_BLOCKS + level - 1)), level,
                            &lblk);
    return ret < 0 ? ret : 0;
}

int block_map_read(struct ext4_fs *fs, enum view view, uint32_t ino,
                   const struct ext4_inode *inode, struct block_map *out, struct nf_error *err)
{
    int ret;

    memset(out, 0, sizeof(*out));
    if (inode->raw_flags & EXT4_EXTENTS_FL)
        ret = read_extents(fs, view, ino, inode, out);
    else
        ret = read_indirect(fs, view, inode, out);
    u64map_release(&out->seen);
    if (out->damaged)
        ext4_oddity(fs);
    return ret < 0 ? nf_fail(err, ret, "block map of inode %u: out of memory", ino) : 0;
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
