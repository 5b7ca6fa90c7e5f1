/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to fastcommit.c (what is kept) and fastcommit_apply.c (what tags do).
 */
#ifndef BDI_EXT4_FASTCOMMIT_PRIVATE_H
#define BDI_EXT4_FASTCOMMIT_PRIVATE_H

#include "bdi/ext4/fastcommit.h"
#include "bdi/siphash.h"

struct fast_inode {
    uint32_t ino;
    bool changed; /* by the staged step: fresh is its new side */
    bool removed; /* its last name went; recovery would have freed it */
    struct fast_side now, fresh;
};

struct fast_block {
    uint32_t dir;
    uint32_t used; /* bytes, from its start */
    uint32_t last; /* offset of its last entry */
};

/* A name that the staged step added. */
struct fast_name {
    uint32_t dir, ino;
    uint64_t block;
    uint16_t offset;
};

struct fastcommit {
    struct u64map inodes; /* ino -> struct fast_inode, owned */
    struct fast_inode **changed;
    size_t nchanged, changed_room;

    struct fast_block *blocks; /* virtual: PICTURE_VIRTUAL + index */
    size_t nblocks, blocks_room;
    struct u64map dirs;  /* ino -> index + 1 of the block that takes its next name */
    struct u64map names; /* hash of directory and name -> struct fast_name, owned */
    struct siphash_key key;

    bool ending;     /* the staged step is the end of all */
    bool over;       /* a limit was hit: the staged step lacks something */
    uint64_t bytes;  /* held by blocks made */
    uint64_t work;   /* done for the staged step */
};

/* Carry out the tags of @fc on the new side, until the end or a limit. */
int fastcommit_apply(struct ext4_fs *fs, const struct journal_fc *fc, struct nf_error *err);

/* So much more was done for the staged step. */
void fast_worked(struct fastcommit *f, uint64_t work);

/* @ino's new side, to be changed. Null: with @err filled. */
struct fast_inode *fast_touch(struct ext4_fs *fs, uint32_t ino, struct nf_error *err);

/* *@out: raw inode of @ino on the new side, to be changed; null if there is none. */
int fast_raw(struct ext4_fs *fs, uint32_t ino, uint8_t **out, struct nf_error *err);

/* Make [lblk, +len) of @m be at @pblk (0: a hole). Returns 0 or NF_ENOMEM. */
int fast_map_set(struct fastcommit *f, struct block_map *m, uint32_t lblk, uint32_t len,
                 uint64_t pblk, bool unwritten);

/* Names in directory @dir, on the new side. Each returns 1 if done, 0 if there was
 * nothing to do (no such name, there is one already), or an error. */
int fast_add_name(struct ext4_fs *fs, uint32_t dir, uint32_t ino, struct nf_bytes name,
                  struct nf_error *err);
int fast_remove_name(struct ext4_fs *fs, uint32_t dir, uint32_t ino, struct nf_bytes name,
                     struct nf_error *err);

#endif
