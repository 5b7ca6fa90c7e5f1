/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to extents.c (the list), extent_tree.c and indirect.c (the two forms
 * that a map has on disk).
 */
#ifndef BDI_EXT4_EXTENTS_PRIVATE_H
#define BDI_EXT4_EXTENTS_PRIVATE_H

#include "bdi/ext4/extents.h"

/* All three: 0, 1 if the map is damaged from here on (and says so), or NF_ENOMEM. */
int map_add_node(struct block_map *m, uint64_t pblk, uint32_t lblk);
int map_add_extent(struct ext4_fs *fs, struct block_map *m, uint64_t lblk, uint64_t len,
                   uint64_t pblk, bool unwritten);
int map_add_same(struct block_map *m, uint64_t lblk, uint64_t len);

/* May what lies below the node @pblk, which both sides have for [@from, @to),
 * be passed over? */
bool map_unchanged(const struct ext4_fs *fs, const struct map_hint *hint, uint64_t pblk,
                   uint64_t from, uint64_t to);
/* Is some of [@from, @to) wanted in any case? */
bool map_wanted(const struct map_hint *hint, uint64_t from, uint64_t to);

/* Each: with @old or @new null, all of the other; else the difference. */
int extent_tree_read(struct ext4_fs *fs, enum view view, uint32_t ino,
                     const struct ext4_inode *inode, struct block_map *out);
int extent_tree_diff(struct ext4_fs *fs, uint32_t ino, const struct ext4_inode *old,
                     const struct ext4_inode *new, const struct map_hint *hint,
                     struct block_map *old_out, struct block_map *new_out);
int indirect_read(struct ext4_fs *fs, enum view view, const struct ext4_inode *inode,
                  struct block_map *out);
int indirect_diff(struct ext4_fs *fs, const struct ext4_inode *old, const struct ext4_inode *new,
                  const struct map_hint *hint, struct block_map *old_out,
                  struct block_map *new_out);

#endif
