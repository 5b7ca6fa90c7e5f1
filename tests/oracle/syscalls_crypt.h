/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef NF_SYSCALLS_CRYPT_H
#define NF_SYSCALLS_CRYPT_H

/* Give the file system of @dir a key made of @byte, and the empty directory
 * @dir a policy of @version (1 or 2) with it; @flags: FSCRYPT_POLICY_FLAG_*. */
int syscalls_encrypt(const char *dir, int version, int byte, unsigned flags);

/* Enable verity on the file @path. */
int syscalls_verity(const char *path, unsigned block_size);

#endif
