/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extended attributes of an inode, in the inode and in its block, read by
 * libext2fs. Values are as getxattr(2) gives them (ACLs converted).
 */
#ifndef BDI_EXT4_XATTRS_H
#define BDI_EXT4_XATTRS_H

#include <stddef.h>
#include <stdint.h>

#include "bdi/ext4/ext4.h"
#include "bdi/ext4/inode.h"

struct xattr {
    char *name; /* with its prefix */
    uint8_t *value;
    size_t len;
};

struct xattrs {
    struct xattr *list; /* sorted by name */
    size_t n;
};

/* Damage gives an empty list (counted as an oddity). Returns 0 or NF_ENOMEM. */
int xattrs_read(struct ext4_fs *fs, enum view view, uint32_t ino, const struct ext4_inode *inode,
                struct xattrs *out, struct nf_error *err);
void xattrs_release(struct xattrs *x);

/* Can the two versions of an inode differ in attributes? A cheap test on the
 * bytes; @block_changed: the step has a new copy of the attribute block. */
bool xattrs_may_differ(const struct ext4_fs *fs, const struct ext4_inode *a,
                       const struct ext4_inode *b, bool block_changed);

/* Emit XATTR for each difference from @before to @after; @ev has the inode,
 * generation and paths. */
int xattrs_emit_diff(struct ext4_fs *fs, const struct nf_event *ev, const struct xattrs *before,
                     const struct xattrs *after, struct nf_error *err);

#endif
