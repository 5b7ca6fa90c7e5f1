/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/dirblock.h"

#include "common/error.h"

#define DE_HEADER 8u     /* inode, rec_len, name_len, file_type */
#define DE_MIN 12u       /* the shortest record: header and a one-byte name */
#define FT_MAX 8u        /* EXT2_FT_MAX: types from here on mean "unknown" */
#define BIG_BLOCK 65536u /* from this block size on, rec_len is packed */

/* Length of the record at @pos, or 0 if the kernel would call it corrupt. */
static uint32_t record_length(const uint8_t *data, uint32_t size, uint32_t pos)
{
    const uint8_t *de = data + pos;
    uint32_t left = size - pos, len;

    if (left < DE_MIN)
        return 0;
    len = nf_le16(de + 4);
    if (size >= BIG_BLOCK) {
        /* 16 bits cannot say 65536, so 0 and 65535 stand for the whole block
         * and the two low bits, otherwise always clear, for bits 16 and 17. */
        if (len == 0xffff || len == 0)
            len = size;
        else
            len = (len & 0xfffc) | (len & 3) << 16;
    }
    if (len < DE_MIN || len % 4 != 0 || len > left)
        return 0;
    if (len < ((DE_HEADER + de[6] + 3u) & ~3u))
        return 0;
    if (len != left && left - len < DE_MIN)
        return 0;
    return len;
}

static void fill(const uint8_t *data, uint32_t pos, bool filetype, struct dirblock_entry *out)
{
    const uint8_t *de = data + pos, *name = de + DE_HEADER;
    size_t len = de[6];

    out->ino = nf_le32(de);
    out->offset = (uint16_t)pos;
    /* Without the feature the byte is the high half of name_len; the kernel
     * reads only the low half in either case. */
    out->type = filetype && de[7] < FT_MAX ? de[7] : 0;
    out->name = (struct nf_bytes){name, len};
    out->dot = len == 1 && name[0] == '.';
    out->dotdot = len == 2 && name[0] == '.' && name[1] == '.';
    out->bad_name = len == 0 || memchr(name, '/', len) || memchr(name, '\0', len);
}

void dirblock_begin(struct dirblock *it, const uint8_t *data, uint32_t size, bool filetype)
{
    *it = (struct dirblock){.data = data, .size = size, .filetype = filetype};
}

int dirblock_next(struct dirblock *it, struct dirblock_entry *out)
{
    while (it->pos < it->size) {
        uint32_t pos = it->pos;
        uint32_t len = record_length(it->data, it->size, pos);

        if (len == 0)
            return NF_EFORMAT;
        it->pos += len;
        /* Inode 0: deleted, an htree node's disguise, or the checksum tail. */
        if (nf_le32(it->data + pos) != 0) {
            fill(it->data, pos, it->filetype, out);
            return 1;
        }
    }
    return 0;
}

bool dirblock_at(const uint8_t *data, uint32_t size, bool filetype, uint16_t offset,
                 struct dirblock_entry *out)
{
    uint32_t pos = 0;

    /* Only the chain from the start tells an entry from the remains of one
     * that was swallowed by its predecessor's rec_len. */
    while (pos < size) {
        uint32_t len = record_length(data, size, pos);

        if (len == 0 || pos > offset)
            return false;
        if (pos == offset) {
            if (nf_le32(data + pos) == 0)
                return false;
            fill(data, pos, filetype, out);
            return true;
        }
        pos += len;
    }
    return false;
}
