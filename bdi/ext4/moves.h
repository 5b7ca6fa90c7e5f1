/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Blocks that a step moved within their file: what collapsing and inserting
 * ranges do. The bytes stay where they are on the disk, so nobody needs to be
 * sent them again: MOVE_RANGE says it.
 */
#ifndef BDI_EXT4_MOVES_H
#define BDI_EXT4_MOVES_H

#include <stddef.h>
#include <stdint.h>

#include "bdi/ext4/extents.h"

/* File blocks [from, from + len) of the old map are [to, to + len) of the new. */
struct move {
    uint32_t from, to, len;
};

struct moves {
    struct move *list; /* in an order in which none overwrites what another still reads */
    size_t n;
    struct block_map after; /* the old map as it is once all were carried out */
};

/*
 * Find what moved between two maps of one file. Only runs that kept their
 * order count, which is all that the two calls can do; anything else is left to
 * be told as content. @out->n is 0 if nothing moved, and then there is nothing
 * in @out. Returns 0 or NF_ENOMEM; release with moves_release() in any case.
 */
int moves_find(const struct block_map *old_map, const struct block_map *new_map,
               struct moves *out);
void moves_release(struct moves *m);

#endif
