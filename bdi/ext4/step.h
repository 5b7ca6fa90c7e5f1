/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A step: from the staged block changes to the events that they mean.
 *
 * The staged blocks say which inodes were touched. Each touched inode is read
 * on both sides; directory blocks are compared entry by entry; the differences
 * become link operations (links.h) and content changes (content.h), in an
 * order that a plain program can apply one after another.
 */
#ifndef BDI_EXT4_STEP_H
#define BDI_EXT4_STEP_H

#include <stdbool.h>
#include <stdint.h>

#include "bdi/ext4/ext4.h"
#include "bdi/ext4/extents.h"
#include "bdi/ext4/inode.h"
#include "bdi/ext4/moves.h"
#include "bdi/ext4/paths.h"
#include "common/arena.h"

struct step_inode {
    uint32_t ino;
    bool old_used, new_used; /* there is such an inode, */
    bool old_live, new_live; /* and it has events */
    bool same;             /* used on both sides and the same object */
    bool node_changed;     /* a block of its map is staged */
    uint32_t *dirty;       /* map_node.lblk of each of them */
    size_t ndirty;
    bool xattr_changed;    /* its attribute block is staged */
    bool dir_changed;      /* a block of the directory is staged */
    bool reformed;         /* a directory whose names are all read or said in a new way */
    bool maps_read, map_differs;
    struct ext4_inode old, new;
    struct block_map old_map, new_map; /* of the same object what differs; else whole */
    struct moves *moves; /* content.c, owned: what was told as moved, not as written */
    struct node *node[2]; /* links.c: what happens to the names of either object */
};

/* Inodes that are touched together are neighbours. */
#define STEP_PAGE 32u

struct step_page {
    struct step_inode *at[STEP_PAGE];
};

struct step {
    struct step_inode **order; /* the inodes, by number */
    size_t n, cap;
    struct u64map pages; /* number / STEP_PAGE -> struct step_page: see step_inode_of() */
    struct nf_arena arena; /* where all of them are */
    size_t replaced; /* of them: see step_replaced() */
    const struct staged **blocks; /* staged, by block number */
    size_t nblocks;
};

/* Work out the staged changes, emit their events, and make the new side the
 * picture. @commit: end with a COMMIT event even if nothing was emitted. */
int step_run(struct ext4_fs *fs, bool commit, struct nf_error *err);

/* Object key on either side; see paths.h. */
static inline uint64_t step_new_key(const struct step_inode *si)
{
    return si->same ? si->ino : si->ino | OBJECT_NEW;
}

/* Null: not touched. */
static inline struct step_inode *step_inode_of(const struct step *step, uint64_t ino)
{
    const struct step_page *page = u64map_get(&step->pages, ino / STEP_PAGE);

    return page ? page->at[ino % STEP_PAGE] : NULL;
}

/* Is there one object on the old side and another on the new under this number? */
static inline bool step_replaced(const struct step_inode *si)
{
    return si->old_live && si->new_live && !si->same;
}

#endif
