/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An on-disk inode, decoded. Format: struct ext2_inode_large of e2fsprogs,
 * fs/ext4/ext4.h of the kernel.
 */
#ifndef BDI_EXT4_INODE_H
#define BDI_EXT4_INODE_H

#include <stdbool.h>
#include <stdint.h>

#include "bdi/ext4/ownermap.h"
#include "common/event.h"

struct ext4_inode {
    struct nf_attr attr;  /* size and rdev included */
    uint32_t generation;
    uint32_t raw_flags;   /* i_flags, all of them */
    uint64_t file_acl;    /* block of extended attributes, 0: none */
    uint64_t version;     /* i_version */
    const uint8_t *raw;   /* the inode itself, as long as the view lasts */
};

/* @raw has @inode_size bytes (>= 128). */
void ext4_inode_decode(struct ext4_inode *out, const uint8_t *raw, uint32_t inode_size);

static inline bool ext4_is_dir(const struct ext4_inode *i)
{
    return (i->attr.mode & 0170000) == 0040000;
}

static inline bool ext4_is_reg(const struct ext4_inode *i)
{
    return (i->attr.mode & 0170000) == 0100000;
}

static inline bool ext4_is_symlink(const struct ext4_inode *i)
{
    return (i->attr.mode & 0170000) == 0120000;
}

/* Does it map blocks at all (i_block is a map, not a target or device)? */
bool ext4_has_map(const struct ext4_inode *i);

struct ext4_fs;

/* Whose blocks does @inode's map give: enum owner_kind of a mapped run. */
enum owner_kind ext4_data_kind(const struct ext4_fs *fs, uint32_t ino,
                               const struct ext4_inode *inode, bool unwritten);

/* Which attributes differ: enum nf_attr_mask. Size is not among them. */
uint32_t ext4_attr_diff(const struct nf_attr *a, const struct nf_attr *b);

#endif
