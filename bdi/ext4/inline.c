/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/inline.h"

#include <string.h>

#define OLD_SIZE 128u    /* of the fields that every inode has */
#define I_BLOCK 0x28u
#define I_BLOCK_SIZE 60u
#define PARENT_SIZE 4u   /* of the parent's inode, before the first chain */
#define XATTR_MAGIC 0xea020000u
#define ENTRY_HEADER 16u
#define INDEX_SYSTEM 7u

/* The value of system.data; false if the attributes are broken before it. */
static bool find_value(const uint8_t *raw, uint32_t inode_size, struct nf_bytes *value)
{
    uint32_t extra, pos, first;

    if (inode_size < OLD_SIZE + 4)
        return false;
    extra = nf_le16(raw + 0x80);
    if (extra % 4 || extra > inode_size - OLD_SIZE)
        return false;
    pos = OLD_SIZE + extra;
    if (inode_size - pos < 4 || nf_le32(raw + pos) != XATTR_MAGIC)
        return false;
    first = pos += 4;
    /* Four zero bytes end the list. */
    while (inode_size - pos >= ENTRY_HEADER && nf_le32(raw + pos) != 0) {
        const uint8_t *e = raw + pos;
        uint32_t name_len = e[0], at = nf_le16(e + 2), len = nf_le32(e + 8);
        uint32_t next = ENTRY_HEADER + ((name_len + 3) & ~3u);

        if (next > inode_size - pos)
            return false;
        if (e[1] == INDEX_SYSTEM && name_len == 4 && !memcmp(e + ENTRY_HEADER, "data", 4)) {
            if (nf_le32(e + 4) != 0 || at > inode_size - first || len > inode_size - first - at)
                return false;
            *value = (struct nf_bytes){raw + first + at, len};
            return true;
        }
        pos += next;
    }
    return false;
}

bool inline_data_find(const uint8_t *raw, uint32_t inode_size, struct inline_data *out)
{
    out->part[0] = (struct nf_bytes){raw + I_BLOCK, I_BLOCK_SIZE};
    out->part[1] = (struct nf_bytes){raw, 0};
    return find_value(raw, inode_size, &out->part[1]);
}

uint32_t inline_data_copy(const struct ext4_inode *inode, uint32_t inode_size, uint8_t *buf)
{
    struct inline_data d;
    uint64_t left = inode->attr.size;
    uint32_t used = 0;

    inline_data_find(inode->raw, inode_size, &d);
    for (int i = 0; i < 2; i++) {
        uint32_t n = d.part[i].len < left ? (uint32_t)d.part[i].len : (uint32_t)left;

        if (n > inode_size - used)
            n = inode_size - used;
        memcpy(buf + used, d.part[i].data, n);
        used += n;
        left -= n;
    }
    return used;
}

bool inline_dir_chains(const uint8_t *raw, uint32_t inode_size, struct nf_bytes chain[2])
{
    struct inline_data d;
    bool ok = inline_data_find(raw, inode_size, &d);

    chain[0] = (struct nf_bytes){d.part[0].data + PARENT_SIZE, d.part[0].len - PARENT_SIZE};
    chain[1] = d.part[1];
    /* Places of entries are multiples of 4, as the kernel makes them. */
    if ((chain[1].data - raw) % 4) {
        chain[1].len = 0;
        ok = false;
    }
    return ok;
}
