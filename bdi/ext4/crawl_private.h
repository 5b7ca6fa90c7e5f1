/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to crawl.c and crawl_middle.c.
 *
 * A file system without a journal that is mounted when it is read is in the middle
 * of something: its blocks are written one by one. What does not fit together then is
 * taken for changed later than the rest: the picture is without it, home is ahead
 * of the picture, and the judge (judge.h) says when it may follow.
 */
#ifndef BDI_EXT4_CRAWL_PRIVATE_H
#define BDI_EXT4_CRAWL_PRIVATE_H

#include "bdi/ext4/dirblock.h"
#include "bdi/ext4/ext4.h"
#include "bdi/ext4/extents.h"
#include "bdi/ext4/inode.h"

typedef int crawl_fn(struct ext4_fs *fs, uint32_t ino, struct nf_error *err);

/* Call @fn for each live inode. */
int crawl_each(struct ext4_fs *fs, crawl_fn *fn, struct nf_error *err);

/* Put the names in a directory's blocks into the index. */
int crawl_dir(struct ext4_fs *fs, uint32_t ino, const struct ext4_inode *inode,
              const struct block_map *map, struct nf_error *err);

/* Does nobody own these blocks? */
bool crawl_is_free(struct ext4_fs *fs, uint64_t pblk, uint64_t len);

bool crawl_in_the_middle(const struct ext4_fs *fs);

/* Does the inode make sense by itself, with blocks that nobody else has? */
bool crawl_whole(struct ext4_fs *fs, uint32_t ino, const struct ext4_inode *inode,
                 const struct block_map *map);

/* The picture is to be without the inode. */
int crawl_put_off(struct ext4_fs *fs, uint32_t ino, struct nf_error *err);

/* Is @ino not in the picture? For dirblock_mix(). */
bool crawl_names_nothing(void *fs, uint32_t ino);

/* The picture of a directory's block is to be without names of what is not in it. */
int crawl_put_off_names(struct ext4_fs *fs, uint64_t block, const uint8_t *data,
                        struct dirblock_form form, struct nf_error *err);

/* All owners are known: now the names, of what has as many as it should. */
int crawl_middle(struct ext4_fs *fs, struct nf_error *err);

#endif
