/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Inline data: what stands in the inode itself instead of in blocks. Its first
 * 60 bytes are in i_block, the rest is the value of the attribute system.data
 * behind the inode's fixed fields. A file's content and a link's target simply
 * run on from one part into the other; a directory's i_block begins with the
 * inode of its parent, and then each part holds a chain of entries of its own.
 * The bytes are hostile.
 */
#ifndef BDI_EXT4_INLINE_H
#define BDI_EXT4_INLINE_H

#include <stdbool.h>
#include <stdint.h>

#include <ext2fs/ext2_fs.h>

#include "bdi/ext4/inode.h"
#include "common/bytes.h"

struct inline_data {
    struct nf_bytes part[2]; /* in i_block, in the attribute; they point into the inode */
};

static inline bool ext4_is_inline(const struct ext4_inode *i)
{
    return (i->raw_flags & EXT4_INLINE_DATA_FL) != 0;
}

/* @raw is an inode of @inode_size bytes that has the flag. False if there is
 * no sound attribute: then the second part is empty. */
bool inline_data_find(const uint8_t *raw, uint32_t inode_size, struct inline_data *out);

/* The content of an inline file or link, one piece, copied to @buf, which has
 * room for @inode_size bytes; never more than its size. */
uint32_t inline_data_copy(const struct ext4_inode *inode, uint32_t inode_size, uint8_t *buf);

/* The chains of entries of the inline directory @raw, for dirblock.h; either may
 * be empty. False: some of it is damaged and left out. */
bool inline_dir_chains(const uint8_t *raw, uint32_t inode_size, struct nf_bytes chain[2]);

#endif
