/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Encryption and verity, for the workloads' helper. */
#include "tests/oracle/syscalls_crypt.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/fscrypt.h>
#include <linux/fsverity.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define KEY_BYTES 64

static int fail(const char *what, const char *path)
{
    fprintf(stderr, "syscalls: %s: %s: %s\n", what, path, strerror(errno));
    return 1;
}

int syscalls_encrypt(const char *dir, int version, int byte, unsigned flags)
{
    struct fscrypt_add_key_arg *add = calloc(1, sizeof(*add) + KEY_BYTES);
    struct fscrypt_policy_v1 v1 = { .version = FSCRYPT_POLICY_V1 };
    struct fscrypt_policy_v2 v2 = { .version = FSCRYPT_POLICY_V2 };
    int fd = open(dir, O_RDONLY | O_DIRECTORY);

    if (fd < 0 || !add)
        return fail("open", dir);
    add->raw_size = KEY_BYTES;
    /* XTS wants no key with two equal halves. */
    for (int i = 0; i < KEY_BYTES; i++)
        add->raw[i] = (uint8_t)(byte + i);
    if (version == 1) {
        add->key_spec.type = FSCRYPT_KEY_SPEC_TYPE_DESCRIPTOR;
        memset(add->key_spec.u.descriptor, byte, sizeof(add->key_spec.u.descriptor));
    } else {
        add->key_spec.type = FSCRYPT_KEY_SPEC_TYPE_IDENTIFIER;
    }
    if (ioctl(fd, FS_IOC_ADD_ENCRYPTION_KEY, add) < 0)
        return fail("FS_IOC_ADD_ENCRYPTION_KEY", dir);
    v1.contents_encryption_mode = v2.contents_encryption_mode = FSCRYPT_MODE_AES_256_XTS;
    v1.filenames_encryption_mode = v2.filenames_encryption_mode = FSCRYPT_MODE_AES_256_CTS;
    v1.flags = v2.flags = (uint8_t)flags;
    memcpy(v1.master_key_descriptor, add->key_spec.u.descriptor, sizeof(v1.master_key_descriptor));
    memcpy(v2.master_key_identifier, add->key_spec.u.identifier, sizeof(v2.master_key_identifier));
    free(add);
    if (ioctl(fd, FS_IOC_SET_ENCRYPTION_POLICY, version == 1 ? (void *)&v1 : (void *)&v2) < 0)
        return fail("FS_IOC_SET_ENCRYPTION_POLICY", dir);
    return close(fd);
}

int syscalls_verity(const char *path, unsigned block_size)
{
    struct fsverity_enable_arg arg = { .version = 1, .hash_algorithm = FS_VERITY_HASH_ALG_SHA256,
                                       .block_size = block_size };
    int fd = open(path, O_RDONLY);

    if (fd < 0)
        return fail("open", path);
    if (ioctl(fd, FS_IOC_ENABLE_VERITY, &arg) < 0)
        return fail("FS_IOC_ENABLE_VERITY", path);
    return close(fd);
}
