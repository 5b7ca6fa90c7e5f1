/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to content.c (what became readable), content_in_place.c (what is
 * written over) and content_inline.c (what stands in the inode).
 */
#ifndef BDI_EXT4_CONTENT_PRIVATE_H
#define BDI_EXT4_CONTENT_PRIVATE_H

#include "bdi/ext4/content.h"

#define CHUNK (256u << 10) /* bytes in one WRITE event */
#define SECTOR 512u
#define CIPHER_UNIT 16u /* contents are encrypted in no smaller pieces */

/* One event each; @proto has inode, generation and paths. @data null: nobody
 * wants the bytes. */
int content_emit_write(struct ext4_fs *fs, const struct nf_event *proto, uint64_t offset,
                       const uint8_t *data, size_t len, uint32_t flags, struct nf_error *err);
/* The same of @inode's bytes; those that are ciphertext are not shown. */
int content_emit_bytes(struct ext4_fs *fs, const struct nf_event *proto,
                       const struct ext4_inode *inode, uint64_t offset, const uint8_t *data,
                       size_t len, struct nf_error *err);
int content_emit_zero(struct ext4_fs *fs, const struct nf_event *proto, uint64_t offset,
                      uint64_t len, struct nf_error *err);
int content_emit_truncate(struct ext4_fs *fs, const struct nf_event *proto, uint64_t before,
                          uint64_t after, struct nf_error *err);

/* Readers see the log's copy of @block now. What was seen written in place before
 * that is not what they saw: it waits at home until the copy ends its time. */
int content_hide_in_place(struct ext4_fs *fs, uint64_t block, struct nf_error *err);

/* What became of a file whose content now stands in its inode. */
int content_emit_inline(struct ext4_fs *fs, const struct step_inode *si,
                        const struct nf_event *ev, struct nf_error *err);

#endif
