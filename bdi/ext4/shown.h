/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names and link targets as the guest's kernel shows them.
 *
 * In an encrypted directory names are ciphertext. Without the key the kernel
 * shows each as the base64url of its hashes, as much of it as fits into a name,
 * and the SHA-256 of the rest (fs/crypto/fname.c: struct fscrypt_nokey_name). The
 * hashes are there if readdir goes by them: those that a casefolded directory
 * keeps behind each name, else the htree hash of the ciphertext.
 */
#ifndef BDI_EXT4_SHOWN_H
#define BDI_EXT4_SHOWN_H

#include <stdbool.h>
#include <stdint.h>

#include "bdi/ext4/dirblock.h"
#include "bdi/ext4/ext4.h"
#include "bdi/ext4/extents.h"
#include "bdi/ext4/inode.h"

#define SHOWN_NAME_MAX 252 /* base64 of 8 + 149 + 32 bytes */

/* How a directory's entries are laid out, and what its names are called. */
struct shown_form {
    struct dirblock_form block;
    int hash; /* version of the htree hash that goes into names; -1: none */
};

/* That of directory @inode as it is in @view. */
struct shown_form shown_form(struct ext4_fs *fs, enum view view, uint32_t ino,
                             const struct ext4_inode *inode);
/* The same of a directory that was not read yet; false if it cannot be. */
bool shown_form_of(struct ext4_fs *fs, enum view view, uint32_t ino, struct shown_form *form);
bool shown_form_equal(const struct shown_form *a, const struct shown_form *b);

/* The name of @e: in its block or, if encrypted, in @buf. False if it is not to
 * be used. */
bool shown_name(const struct ext4_fs *fs, const struct shown_form *form,
                const struct dirblock_entry *e, uint8_t buf[SHOWN_NAME_MAX],
                struct nf_bytes *name);

/* What symbolic link @inode, mapped by @map, points to in @view: in the inode, its
 * block or @buf; empty if that cannot be read. */
struct nf_bytes shown_target(struct ext4_fs *fs, enum view view, const struct ext4_inode *inode,
                             const struct block_map *map, uint8_t buf[SHOWN_NAME_MAX],
                             struct nf_error *err);

/* The form without a key of ciphertext of any length, into @buf. */
struct nf_bytes shown_nokey(const uint32_t hash[2], struct nf_bytes cipher,
                            uint8_t buf[SHOWN_NAME_MAX]);

/* Is what @inode holds (names, a target, contents) ciphertext? */
static inline bool shown_encrypted(const struct ext4_fs *fs, const struct ext4_inode *inode)
{
    return fs->encrypt && (inode->raw_flags & EXT4_ENCRYPT_FL);
}

#endif
