/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which object of the mirror stands for which inode of the guest: a hash table
 * from guest inode number to its generation and our own st_ino.  It is what
 * tells a divergence (a path that holds something else than the event says)
 * from a change.  At most 48 bytes per inode.  One thread.
 */
#ifndef NF_INODE_MAP_H
#define NF_INODE_MAP_H

#include <stddef.h>
#include <stdint.h>

struct nf_inode_map {
    struct nf_inode_map_slot {
        uint32_t inode; /* 0: free; no guest has an inode 0 */
        uint32_t generation;
        uint64_t ours; /* st_ino; 0: not kept here (a device that was skipped) */
    } *slots;
    size_t size; /* a power of two, or 0 */
    size_t used;
};

/* A zeroed struct is an empty map. */
void nf_inode_map_release(struct nf_inode_map *m);

/* Null if @inode is not known. Valid until the next change of the map. */
struct nf_inode_map_slot *nf_inode_map_find(const struct nf_inode_map *m, uint32_t inode);

/* Add or replace. 0, or NF_ENOMEM; NF_EINVAL for inode 0. */
int nf_inode_map_set(struct nf_inode_map *m, uint32_t inode, uint32_t generation, uint64_t ours);

void nf_inode_map_remove(struct nf_inode_map *m, uint32_t inode);

#endif
