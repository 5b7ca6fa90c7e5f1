/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/shown.h"

#include <string.h>

#include "bdi/ext4/inline.h"
#include "bdi/sha256.h"

#define NOKEY_BYTES 149u  /* of the ciphertext */
#define CIPHER_MIN 16u    /* names are encrypted in blocks of this size */
#define UNSIGNED_HASH 3   /* from a hash version to the one that takes char as unsigned */
#define HTREE_EOF 0x7fffffffu

/* Of what is in the inode's first block, if it is an htree's root. */
static int root_hash(struct ext4_fs *fs, enum view view, uint32_t ino,
                     const struct ext4_inode *inode)
{
    struct ext2_inode copy;
    const uint8_t *root = NULL;
    blk64_t block = 0;
    errcode_t rc;

    memcpy(&copy, inode->raw, sizeof(copy));
    fs->pic.view = view;
    rc = ext2fs_bmap2(fs->fs, ino, &copy, NULL, 0, 0, NULL, &block);
    fs->pic.view = VIEW_OLD;
    if (rc == 0 && block && block < fs->blocks)
        root = picture_block(&fs->pic, view, block, NULL);
    return root ? root[0x1c] : -1;
}

/* The kernel's is_dx_dir(), and the hash that its readdir then computes. */
static int name_hash(struct ext4_fs *fs, enum view view, uint32_t ino,
                     const struct ext4_inode *inode)
{
    int version = fs->hash_version;

    if (!fs->dir_index)
        return -1;
    if (inode->raw_flags & EXT2_INDEX_FL)
        version = root_hash(fs, view, ino, inode);
    else if (inode->attr.size / fs->block_size != 1 && !(inode->raw_flags & EXT4_INLINE_DATA_FL))
        return -1;
    /* A root of another kind is no root: the kernel reads such a directory block
     * by block. */
    if (version < 0 || version > EXT2_HASH_TEA)
        return -1;
    return version + (fs->unsigned_hash ? UNSIGNED_HASH : 0);
}

static struct shown_form plain_form(const struct ext4_fs *fs)
{
    return (struct shown_form){.block = {.filetype = fs->filetype, .csum = fs->csum}, .hash = -1};
}

bool shown_form_of(struct ext4_fs *fs, enum view view, uint32_t ino, struct shown_form *form)
{
    struct ext4_inode inode;
    const uint8_t *raw;

    /* Each part of each path comes through here. */
    if (!fs->encrypt) {
        *form = plain_form(fs);
        return true;
    }
    raw = ext4_inode_raw(fs, view, ino);
    if (!raw)
        return false;
    ext4_inode_decode(&inode, raw, fs->inode_size);
    *form = shown_form(fs, view, ino, &inode);
    return true;
}

struct shown_form shown_form(struct ext4_fs *fs, enum view view, uint32_t ino,
                             const struct ext4_inode *inode)
{
    struct shown_form form = plain_form(fs);

    if (!shown_encrypted(fs, inode))
        return form;
    form.block.encrypted = true;
    form.block.hashed = (inode->raw_flags & EXT4_CASEFOLD_FL) != 0;
    if (!form.block.hashed)
        form.hash = name_hash(fs, view, ino, inode);
    return form;
}

bool shown_form_equal(const struct shown_form *a, const struct shown_form *b)
{
    return a->block.filetype == b->block.filetype && a->block.csum == b->block.csum &&
           a->block.hashed == b->block.hashed && a->block.encrypted == b->block.encrypted &&
           a->hash == b->hash;
}

static size_t base64url(const uint8_t *in, size_t len, uint8_t *out)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    uint32_t acc = 0;
    unsigned bits = 0;
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        acc = acc << 8 | in[i];
        for (bits += 8; bits >= 6; bits -= 6)
            out[n++] = (uint8_t)digits[acc >> (bits - 6) & 63];
    }
    if (bits)
        out[n++] = (uint8_t)digits[acc << (6 - bits) & 63];
    return n;
}

struct nf_bytes shown_nokey(const uint32_t hash[2], struct nf_bytes cipher,
                            uint8_t buf[SHOWN_NAME_MAX])
{
    uint8_t plain[8 + NOKEY_BYTES + 32];
    size_t n = cipher.len < NOKEY_BYTES ? cipher.len : NOKEY_BYTES;

    nf_put_le32(plain, hash[0]);
    nf_put_le32(plain + 4, hash[1]);
    memcpy(plain + 8, cipher.data, n);
    if (cipher.len > n)
        sha256((struct nf_bytes){cipher.data + n, cipher.len - n}, plain + 8 + n);
    return (struct nf_bytes){buf, base64url(plain, 8 + n + (cipher.len > n ? 32 : 0), buf)};
}

bool shown_name(const struct ext4_fs *fs, const struct shown_form *form,
                const struct dirblock_entry *e, uint8_t buf[SHOWN_NAME_MAX],
                struct nf_bytes *name)
{
    uint32_t hash[2] = {e->hash[0], e->hash[1]};

    *name = e->name;
    if (e->bad_name)
        return false;
    if (!form->block.encrypted)
        return true;
    if (form->hash >= 0) {
        ext2_dirhash_t major = 0, minor = 0;

        if (ext2fs_dirhash(form->hash, (const char *)e->name.data, (int)e->name.len,
                           fs->fs->super->s_hash_seed, &major, &minor) != 0)
            return false;
        hash[0] = major & ~1u;
        if (hash[0] == HTREE_EOF << 1)
            hash[0] = (HTREE_EOF - 1) << 1;
        hash[1] = minor;
    }
    *name = shown_nokey(hash, e->name, buf);
    return true;
}

/* @disk: a 16-bit length, and the ciphertext. */
static struct nf_bytes encrypted_target(const uint8_t *disk, size_t room,
                                        uint8_t buf[SHOWN_NAME_MAX])
{
    static const uint32_t none[2];
    struct nf_bytes cipher = {disk + 2, room < 2 ? 0 : nf_le16(disk)};

    if (room < 2 || cipher.len < CIPHER_MIN || cipher.len > room - 2)
        return (struct nf_bytes){0};
    return shown_nokey(none, cipher, buf);
}

struct nf_bytes shown_target(struct ext4_fs *fs, enum view view, const struct ext4_inode *inode,
                             const struct block_map *map, uint8_t buf[SHOWN_NAME_MAX],
                             struct nf_error *err)
{
    const uint8_t *data = inode->raw + 0x28;
    size_t room = 60;

    if (ext4_is_inline(inode)) {
        data = fs->inline_buf;
        room = inline_data_copy(inode, fs->inode_size, fs->inline_buf);
    } else if (ext4_has_map(inode)) {
        room = fs->block_size;
        data = map->n && map->ext[0].lblk == 0
                   ? picture_block(&fs->pic, view, map->ext[0].pblk, err)
                   : NULL;
    }
    if (!data)
        return (struct nf_bytes){0};
    if (shown_encrypted(fs, inode))
        return encrypted_target(data, room, buf);
    return (struct nf_bytes){data, inode->attr.size < room ? (size_t)inode->attr.size : room};
}
