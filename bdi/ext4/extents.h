/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block map of an inode: extent trees and indirect maps, as a list of
 * extents. Whole, or no more than what differs between the two sides of a step.
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

/* In a difference: a range that both sides map alike, wherever that is. Its
 * pblk is MAP_SAME + lblk on both, so it compares equal and moves nothing. */
#define MAP_SAME ((uint64_t)1 << 62)

static inline bool map_extent_same(const struct map_extent *e)
{
    return e->pblk >= MAP_SAME;
}

/* A block of the map itself, and the first file block that it is there for:
 * the key by which its parent has it. */
struct map_node {
    uint64_t pblk;
    uint32_t lblk;
};

struct block_map {
    struct map_extent *ext; /* by lblk, increasing, not overlapping */
    size_t n, cap;
    struct map_node *nodes; /* each once */
    size_t nnodes, nodes_cap;
    uint64_t blocks;    /* in all extents; at most those of the file system */
    struct u64map seen; /* private: the nodes, while reading */
    struct u64map *users; /* private: null, or those of all maps that are read */
    uint32_t ino;
    bool damaged; /* cut short where it stopped making sense */
};

/*
 * Between these two the maps of many inodes are read, of a picture that fits
 * together: a node that another inode's map (in the same view) went through is
 * damage. Else a few nodes, shared by a million inodes, would be read as often.
 */
void block_maps_begin(struct ext4_fs *fs);
void block_maps_end(struct ext4_fs *fs);

/*
 * Read the map of @inode in @view (what fast commits say of it included). Damage is not an error: the map then ends
 * before it and says so. Work is bounded by what the map can legally hold.
 * Returns 0 or NF_ENOMEM. Release with block_map_release() in any case.
 */
int block_map_read(struct ext4_fs *fs, enum view view, uint32_t ino,
                   const struct ext4_inode *inode, struct block_map *out, struct nf_error *err);

/* Where the sides of a step may differ below nodes that they share, and what is
 * wanted in any case. */
struct map_hint {
    const uint32_t *dirty; /* map_node.lblk of the staged nodes, ascending */
    size_t ndirty;
    uint32_t from, to; /* file blocks to read although they are the same; from == to: none */
};

/*
 * What differs between the maps that one file has before (@old) and after
 * (@new) a step: extents that are in both are there as such or as MAP_SAME,
 * and only the nodes on the way to a difference are in nodes[]. Takes what
 * changed, not what the file has: subtrees under the same unchanged node are
 * passed over.
 */
int block_map_diff(struct ext4_fs *fs, uint32_t ino, const struct ext4_inode *old,
                   const struct ext4_inode *new, const struct map_hint *hint,
                   struct block_map *old_out, struct block_map *new_out, struct nf_error *err);

void block_map_release(struct block_map *m);
/* @to is overwritten. Returns 0 or NF_ENOMEM (then it is empty). */
int block_map_copy(const struct block_map *from, struct block_map *to);

/* The extent that holds @lblk, or null; *@hole_end, if not null, is then the
 * start of the next one (UINT32_MAX if there is none). */
const struct map_extent *block_map_find(const struct block_map *m, uint32_t lblk,
                                        uint32_t *hole_end);

#endif
