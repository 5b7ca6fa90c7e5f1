/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a file reads as, and which bytes to publish: the rule of content.
 *
 * When a step makes a range newly readable, its bytes are those seen written
 * to its blocks since they were last freed, else known zeros, else read back
 * from the image. A write to an initialised block inside a file's size is an
 * event at once. Nothing is published under a path unless that inode owned
 * the blocks at that moment.
 */
#ifndef BDI_EXT4_CONTENT_H
#define BDI_EXT4_CONTENT_H

#include "bdi/ext4/step.h"

/* MOVE_RANGE, TRUNCATE, ZERO and WRITE events of one regular file that @si says
 * changed; @ev has inode, generation and paths. */
int content_emit_step(struct ext4_fs *fs, struct step_inode *si, const struct nf_event *ev,
                      struct nf_error *err);

/* Data was written in place to [offset, +len) of the file system, all of it
 * in blocks of @owner, which is an initialised run of a file. */
int content_overwrite(struct ext4_fs *fs, const struct owner_extent *owner, uint64_t offset,
                      uint64_t len, const uint8_t *data, struct nf_error *err);

/* The whole content of @inode, for a snapshot. */
int content_emit_all(struct ext4_fs *fs, const struct ext4_inode *inode,
                     const struct block_map *map, const struct nf_event *ev,
                     struct nf_error *err);

/* What waited (unsettled.h) and can be published now. 1: some of it still waits. */
int content_emit_settled(struct ext4_fs *fs, const struct ext4_inode *inode,
                         const struct block_map *map, const struct nf_event *ev,
                         struct nf_error *err);

/* File data that this transaction carries in the log (data=journal). */
int content_emit_journaled(struct ext4_fs *fs, struct step *step, struct nf_error *err);

#endif
