/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fast commits: what the kernel's recovery would make of their tags.
 *
 * A tag is a delta to the last full commit: this inode now looks like that, it
 * maps these blocks, this name came or went. Recovery carries them out on the
 * disk; here they are carried out on blocks that only the picture has
 * (picture_stage_made), and what would need an allocation is kept beside it:
 * an added name goes into a virtual block of its directory, and the maps of
 * inodes whose ranges changed are lists. The ordinary step over all of that
 * finds the events. When the transaction itself is committed, its blocks say the
 * same and more, and everything here is dropped, in that transaction's step.
 *
 * One of these belongs to each file system (fs->fast), made when it is needed.
 */
#ifndef BDI_EXT4_FASTCOMMIT_H
#define BDI_EXT4_FASTCOMMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bdi/ext4/ext4.h"
#include "bdi/ext4/extents.h"

struct fastcommit;

/* An inode as fast commits have it; its fields are in the picture's inode table. */
struct fast_side {
    bool known; /* they say something of it */
    bool live;
    struct block_map map;
};

void fastcommit_free(struct fastcommit *f);

/* Has any taken effect? Then the picture is ahead of what is committed, and what
 * is written in place may be their replay: it waits until that is over. */
bool fastcommit_active(const struct ext4_fs *fs);

/* Stage what @fc does. 1: not all of it could be staged (a limit on memory or work
 * was hit): fastcommit_stage_end() is to be called. */
int fastcommit_stage(struct ext4_fs *fs, const struct journal_fc *fc, struct nf_error *err);

/* Stage the end of all fast commits: the picture is what is committed (after
 * picture_stage_txn(): including that transaction). */
int fastcommit_stage_end(struct ext4_fs *fs, struct nf_error *err);

/* The step is done. */
void fastcommit_settle(struct ext4_fs *fs);

/* What they say of @ino in @view; null if nothing. */
const struct fast_side *fastcommit_inode(const struct ext4_fs *fs, enum view view, uint32_t ino);

/* How many inodes of @group, from its first on, they may say something of. */
uint32_t fastcommit_inodes_used(const struct ext4_fs *fs, uint32_t group);

/* Whose names are in virtual block @block; 0 if it is none. */
uint32_t fastcommit_directory(const struct ext4_fs *fs, uint64_t block);

/* The inodes of which the staged step changes more than the picture's blocks do:
 * *pos starts at 0; 0 at the end. */
uint32_t fastcommit_next_changed(const struct ext4_fs *fs, size_t *pos);

#endif
