/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block map of an inode: extent trees through libext2fs, indirect maps
 * (ext2, ext3, and ext4's resize inode) by a small walker of our own, because
 * libext2fs iterates those only for inodes that it reads itself.
 */
#ifndef BDI_EXT4_EXTENTS_H
#define BDI_EXT4_EXTENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bdi/ext4/ext4.h"
#include "bdi/ext4/inode.h"
#include "bdi/u64map.h"

struct map_extent {
    uint32_t lblk, len; /* file blocks */
    uint64_t pblk;
    bool unwritten; /* reads as zeros */
};

struct block_map {
    struct map_extent *ext; /* by lblk, increasing, not overlapping */
    size_t n, cap;
    uint64_t *nodes; /* blocks of the map itself, each once */
    size_t nnodes, nodes_cap;
    uint64_t blocks;    /* in all extents; at most those of the file system */
    struct u64map seen; /* private: the nodes, while reading */
    bool damaged; /* cut short where it stopped making sense */
};

/*
 * Read the map of @inode in @view. Damage is not an error: the map then ends
 * before it and says so. Work is bounded by what the map can legally hold.
 * Returns 0 or NF_ENOMEM. Release with block_map_release() in any case.
 */
int block_map_read(struct ext4_fs *fs, enum view view, uint32_t ino,
                   const struct ext4_inode *inode, struct block_map *out, struct nf_error *err);
void block_map_release(struct block_map *m);

/* The extent that holds @lblk, or null; *@hole_end, if not null, is then the
 * start of the next one (UINT32_MAX if there is none). */
const struct map_extent *block_map_find(const struct block_map *m, uint32_t lblk,
                                        uint32_t *hole_end);

#endif
