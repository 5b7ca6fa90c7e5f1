/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Name index: from inode to the directory entries that name it. The names
 * themselves stay in the directory blocks (the picture); an entry here says
 * where: 20 bytes or fewer in an open-addressing multimap keyed by inode.
 */
#ifndef BDI_EXT4_NAMES_H
#define BDI_EXT4_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct name_ref {
    uint32_t ino;
    uint32_t parent; /* inode of the directory */
    uint64_t pblk;   /* physical block of the directory entry, < 2^48 */
    uint16_t offset; /* of the entry within the block, bytes */
};

struct names {
    struct names_slot *slots; /* private */
    size_t used;
    size_t deleted;
    size_t cap;
};

int names_init(struct names *n);
void names_release(struct names *n);

/* Returns 0 or NF_ENOMEM. The same ref twice is kept once. */
int names_add(struct names *n, const struct name_ref *ref);

/* Remove exactly @ref; false if it was not there. */
bool names_remove(struct names *n, const struct name_ref *ref);

/* Remove all names of @ino; returns how many there were. */
size_t names_remove_all(struct names *n, uint32_t ino);

/* Iterate over the names of @ino: *cursor starts at 0. Order is unspecified
 * but stable as long as nothing is added or removed. */
bool names_next(const struct names *n, uint32_t ino, size_t *cursor, struct name_ref *out);

#endif
