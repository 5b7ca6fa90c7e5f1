/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What was written in place, outside a journal: how much of it is consistent?
 *
 * Without a journal, blocks reach the disk one by one: a name before its inode, an
 * inode before the bitmap that says that it lives, a file's new blocks before the
 * old owner lost them. The judge looks at the staged blocks and decides by inode: it
 * is taken if its bitmap and its table agree, its checksum is good, its names are
 * as many as its link count says and came with a new ctime, and no other inode
 * claims its blocks. What hangs together (a directory and what it newly names, an old
 * and a new holder of one name or one block) is taken together. The rest waits: its
 * parts of the staged blocks keep their old side and the blocks stay staged.
 */
#ifndef BDI_EXT4_JUDGE_H
#define BDI_EXT4_JUDGE_H

#include "bdi/ext4/ext4.h"
#include "bdi/ext4/extents.h"
#include "bdi/ext4/inode.h"

/* Give each staged block the new side that it may have now. What has waited for
 * JUDGE_WAIT_NS of record time is taken as it is, and everything if @all;
 * *@forced says that something was taken that does not fit. */
int judge_run(struct ext4_fs *fs, bool all, bool *forced, struct nf_error *err);

struct step_inode;

/* Does a live inode make sense by itself? @map is null where it did not change. Where
 * it is a change of the same file, @change says from what. */
bool judge_inode_whole(struct ext4_fs *fs, enum view view, uint32_t ino,
                       const struct ext4_inode *inode, const struct block_map *map,
                       const struct step_inode *change);

#define JUDGE_WAIT_NS INT64_C(60000000000)

#endif
