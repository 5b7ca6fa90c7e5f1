/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Indirect maps: of ext2, of ext3, and of ext4's resize inode. Both sides of a
 * step have the same geometry, so one walk reads them together.
 */
#include "bdi/ext4/extents_private.h"

#include "common/bytes.h"

struct side {
    struct block_map *map; /* null: not read, or cut short */
    const uint8_t *table;  /* the node being walked; null: all holes */
};

struct walk {
    struct ext4_fs *fs;
    const struct map_hint *hint; /* null: there is one side only */
};

/* What the walk of one side came to: its damage ends that side alone. */
static int after(struct side *s, int ret)
{
    if (ret > 0) {
        s->map = NULL;
        s->table = NULL;
        ret = 0;
    }
    return ret;
}

static uint32_t pointer(const struct side *s, uint32_t i)
{
    return s->table ? nf_le32(s->table + 4 * (size_t)i) : 0;
}

static int enter(struct walk *w, enum view view, struct side *s, uint32_t block, uint64_t lblk,
                 struct side *out)
{
    int ret;

    *out = (struct side){s->map, NULL};
    if (!s->map || block == 0)
        return 0;
    out->table = block < w->fs->blocks ? picture_block(&w->fs->pic, view, block, NULL) : NULL;
    if (!out->table) {
        s->map->damaged = true;
        return after(s, 1);
    }
    ret = map_add_node(s->map, block, (uint32_t)lblk);
    if (ret)
        out->table = NULL;
    return after(s, ret);
}

/* Pointers [0, @n) of the two sides' tables; @level 0: to data. */
static int walk(struct walk *w, struct side side[2], uint32_t n, int level, uint64_t *lblk)
{
    uint64_t covers = 1;
    int ret = 0;

    for (int i = 0; i < level; i++)
        covers *= w->fs->block_size / 4;
    for (uint32_t i = 0; ret == 0 && i < n && *lblk < UINT32_MAX; i++) {
        uint32_t block[2] = {pointer(&side[0], i), pointer(&side[1], i)};
        struct side below[2] = {0};
        uint64_t from = *lblk, to = from + covers;

        if (block[0] == 0 && block[1] == 0) {
            *lblk = to;
            continue;
        }
        if (w->hint && block[0] == block[1] && side[0].map && side[1].map &&
            (level ? map_unchanged(w->fs, w->hint, block[0], from, to)
                   : !map_wanted(w->hint, from, to))) {
            for (int s = 0; ret == 0 && s < 2; s++)
                ret = after(&side[s], map_add_same(side[s].map, from, covers));
            *lblk = to;
            continue;
        }
        for (int s = 0; ret == 0 && s < 2; s++) {
            if (level)
                ret = enter(w, s ? VIEW_NEW : VIEW_OLD, &side[s], block[s], from, &below[s]);
            else if (block[s] && side[s].map)
                ret = after(&side[s],
                            map_add_extent(w->fs, side[s].map, from, 1, block[s], false));
        }
        if (ret == 0 && level) {
            ret = walk(w, below, w->fs->block_size / 4, level - 1, lblk);
            for (int s = 0; s < 2; s++) {
                if (!below[s].map)
                    side[s] = below[s];
            }
        }
        *lblk = to;
    }
    return ret;
}

/* @i_block: of each side, or null. */
static int walk_inode(struct walk *w, const uint8_t *const i_block[2], struct block_map *const out[2])
{
    struct side side[2] = {{out[0], i_block[0]}, {out[1], i_block[1]}};
    uint64_t lblk = 0;
    int ret = walk(w, side, EXT2_NDIR_BLOCKS, 0, &lblk);

    for (uint32_t level = 1; ret == 0 && level <= 3; level++) {
        for (int s = 0; s < 2; s++) {
            if (side[s].map && i_block[s])
                side[s].table = i_block[s] + 4 * (EXT2_NDIR_BLOCKS + level - 1);
        }
        ret = walk(w, side, 1, (int)level, &lblk);
    }
    return ret;
}

int indirect_read(struct ext4_fs *fs, enum view view, const struct ext4_inode *inode,
                  struct block_map *out)
{
    struct walk w = {fs, NULL};
    const uint8_t *i_block[2] = {NULL, NULL};
    struct block_map *map[2] = {NULL, NULL};

    i_block[view == VIEW_NEW] = inode->raw + 0x28;
    map[view == VIEW_NEW] = out;
    return walk_inode(&w, i_block, map);
}

int indirect_diff(struct ext4_fs *fs, const struct ext4_inode *old, const struct ext4_inode *new,
                  const struct map_hint *hint, struct block_map *old_out,
                  struct block_map *new_out)
{
    struct walk w = {fs, hint};
    const uint8_t *const i_block[2] = {old->raw + 0x28, new->raw + 0x28};
    struct block_map *const map[2] = {old_out, new_out};

    return walk_inode(&w, i_block, map);
}
