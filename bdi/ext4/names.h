/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Name index: from inode to the directory entries that name it. The names
 * themselves stay in the directory blocks (the picture); an entry here says
 * where: 12 bytes for each inode in pages of 32, made as they are needed,
 * because a file system fills its inode tables from the start on. An inode with
 * several names has an array of its own, and a large one has a hash index
 * beside it, so that no number of hard links makes anything here quadratic.
 */
#ifndef BDI_EXT4_NAMES_H
#define BDI_EXT4_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct name_ref {
    uint32_t ino;    /* not 0 */
    uint32_t parent; /* inode of the directory, not 0 */
    uint64_t pblk;   /* physical block of the directory entry, < 2^48 */
    uint16_t offset; /* of the entry within the block, bytes, a multiple of 4 */
};

struct names {
    struct names_part **parts; /* private */
    size_t nparts;
    size_t pages;
    size_t used; /* inodes that have a name */
    size_t refs; /* names, of all inodes */
    uint64_t seed;
};

int names_init(struct names *n);
void names_release(struct names *n);

/* Bytes that it takes, the further names of hard links at their least. */
size_t names_memory(const struct names *n);

/* Returns 0, NF_ENOMEM or NF_EINVAL (a ref out of its ranges); on an error
 * nothing was changed. The same ref twice is kept once. */
int names_add(struct names *n, const struct name_ref *ref);

/* Remove exactly @ref; false if it was not there. */
bool names_remove(struct names *n, const struct name_ref *ref);

/* Remove all names of @ino; returns how many there were. */
size_t names_remove_all(struct names *n, uint32_t ino);

/* Iterate over the names of @ino: *cursor starts at 0. Order is a function of
 * the calls made so far and nothing else, and stable as long as nothing is
 * added or removed. */
bool names_next(const struct names *n, uint32_t ino, size_t *cursor, struct name_ref *out);

#endif
