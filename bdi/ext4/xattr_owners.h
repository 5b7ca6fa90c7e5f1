/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Whose attributes a block holds. ext4 lets up to 1024 inodes share one that
 * says the same of them, and writes it in place once all but one have left: so the
 * owner map has one of them, and further ones are kept here, none for a block
 * that is not shared.
 */
#ifndef BDI_EXT4_XATTR_OWNERS_H
#define BDI_EXT4_XATTR_OWNERS_H

#include <stddef.h>
#include <stdint.h>

#include "bdi/ext4/ownermap.h"
#include "bdi/u64map.h"

#define XATTR_OWNERS_MAX 1024u /* of one block, as in the kernel */

struct xattr_owners {
    struct u64map shared; /* block -> struct xattr_sharers, private */
};

struct xattr_sharers {
    uint32_t n, cap;
    uint32_t ino[]; /* sorted; all that share it */
};

void xattr_owners_init(struct xattr_owners *x);
void xattr_owners_release(struct xattr_owners *x);

/* @ino refers to @block. 0, NF_ENOMEM, NF_EINVAL, or 1: so many do already that it
 * was not noted. */
int xattr_owners_add(struct xattr_owners *x, struct ownermap *m, uint64_t block, uint32_t ino);

/* And no longer. */
int xattr_owners_remove(struct xattr_owners *x, struct ownermap *m, uint64_t block, uint32_t ino);

/* Those of a block that is shared; else null: the owner map knows. Until the next
 * call. */
const struct xattr_sharers *xattr_owners_of(const struct xattr_owners *x, uint64_t block);

#endif
