/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to step.c (which inodes, and the events), step_dirs.c (which names)
 * and step_owners.c (which blocks).
 */
#ifndef BDI_EXT4_STEP_PRIVATE_H
#define BDI_EXT4_STEP_PRIVATE_H

#include "bdi/ext4/links.h"
#include "bdi/ext4/step.h"

/* Which inodes the staged blocks concern, read on both sides, unless they end the
 * file system. step_release() in any case. */
int step_begin(struct ext4_fs *fs, struct step *step, struct nf_error *err);
void step_release(struct step *step);

/* Tell @links every entry of the directory blocks that changed hands or content. */
int step_see_dirs(struct ext4_fs *fs, struct step *step, struct links *links,
                  struct nf_error *err);

/* Is file block @lblk of the directory in @block on both sides? Where the map
 * differs, what is not in the difference is. */
bool step_stayed(const struct step_inode *si, uint32_t lblk, uint64_t block);

/* Make the owner map that of the new side. */
int step_update_owners(struct ext4_fs *fs, struct step *step, struct nf_error *err);

/* After the step settled: what was given up is held and shadowed no longer. */
int step_forget_freed(struct ext4_fs *fs, struct step *step, struct nf_error *err);

#endif
