/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/dirblock.h"

#include <stdlib.h>
#include <string.h>

#include "common/error.h"

#define DE_HEADER 8u     /* inode, rec_len, name_len, file_type */
#define DE_MIN 12u       /* the shortest record: header and a one-byte name */
#define DE_HASHES 8u     /* what hashed directories have behind the name */
#define FT_MAX 8u        /* EXT2_FT_MAX: types from here on mean "unknown" */
#define FT_CSUM 0xdeu    /* of the checksum tail */
#define CIPHER_MIN 16u   /* names are encrypted in blocks of this size */
#define BIG_BLOCK 65536u /* from this block size on, rec_len is packed */

static uint32_t padded(uint32_t len)
{
    return (len + 3u) & ~3u;
}

/* The kernel's notion of an entry that has no hashes: ".", ".." and the tail. */
static bool is_fake(const uint8_t *de)
{
    return (de[6] > 0 && de[6] <= 2 && de[8] == '.' && (de[9] == '.' || de[9] == 0)) ||
           de[7] == FT_CSUM;
}

/* Length of the record at @pos, or 0 if the kernel would call it corrupt. */
static uint32_t record_length(const uint8_t *data, uint32_t size, uint32_t pos,
                              struct dirblock_form form)
{
    const uint8_t *de = data + pos;
    uint32_t left = size - pos, len, hashes, last;

    if (left < DE_MIN)
        return 0;
    hashes = form.hashed && !is_fake(de) ? DE_HASHES : 0;
    last = DE_MIN + (form.hashed && !form.csum ? DE_HASHES : 0);
    len = nf_le16(de + 4);
    if (size >= BIG_BLOCK) {
        /* 16 bits cannot say 65536, so 0 and 65535 stand for the whole block
         * and the two low bits, otherwise always clear, for bits 16 and 17. */
        if (len == 0xffff || len == 0)
            len = size;
        else
            len = (len & 0xfffc) | (len & 3) << 16;
    }
    if (len < DE_MIN + hashes || len % 4 != 0 || len > left)
        return 0;
    if (len < padded(DE_HEADER + de[6]) + hashes)
        return 0;
    if (len != left && left - len < last)
        return 0;
    return len;
}

static void fill(const struct dirblock *it, uint32_t pos, struct dirblock_entry *out)
{
    const uint8_t *de = it->data + pos, *name = de + DE_HEADER;
    size_t len = de[6];
    uint32_t behind = pos + padded(DE_HEADER + de[6]);

    out->ino = nf_le32(de);
    out->offset = (uint16_t)pos;
    /* Without the feature the byte is the high half of name_len; the kernel
     * reads only the low half in either case. */
    out->type = it->form.filetype && de[7] < FT_MAX ? de[7] : 0;
    out->name = (struct nf_bytes){name, len};
    out->dot = len == 1 && name[0] == '.';
    out->dotdot = len == 2 && name[0] == '.' && name[1] == '.';
    if (it->form.encrypted)
        out->bad_name = len < CIPHER_MIN && !out->dot && !out->dotdot;
    else
        out->bad_name = len == 0 || memchr(name, '/', len) || memchr(name, '\0', len);
    out->hash[0] = out->hash[1] = 0;
    if (it->form.hashed && behind <= it->size && it->size - behind >= DE_HASHES) {
        out->hash[0] = nf_le32(it->data + behind);
        out->hash[1] = nf_le32(it->data + behind + 4);
    }
}

void dirblock_begin(struct dirblock *it, const uint8_t *data, uint32_t size,
                    struct dirblock_form form)
{
    *it = (struct dirblock){.data = data, .size = size, .form = form};
}

int dirblock_next(struct dirblock *it, struct dirblock_entry *out)
{
    while (it->pos < it->size) {
        uint32_t pos = it->pos;
        uint32_t len = record_length(it->data, it->size, pos, it->form);

        if (len == 0)
            return NF_EFORMAT;
        it->pos += len;
        /* Inode 0: deleted, an htree node's disguise, or the checksum tail. */
        if (nf_le32(it->data + pos) != 0) {
            fill(it, pos, out);
            return 1;
        }
    }
    return 0;
}

bool dirblock_at(const uint8_t *data, uint32_t size, struct dirblock_form form, uint16_t offset,
                 struct dirblock_entry *out)
{
    struct dirblock it;
    uint32_t pos = 0;

    /* Only the chain from the start tells an entry from the remains of one
     * that was swallowed by its predecessor's rec_len. */
    dirblock_begin(&it, data, size, form);
    while (pos < size) {
        uint32_t len = record_length(data, size, pos, form);

        if (len == 0 || pos > offset)
            return false;
        if (pos == offset) {
            if (nf_le32(data + pos) == 0)
                return false;
            fill(&it, pos, out);
            return true;
        }
        pos += len;
    }
    return false;
}

static bool form_equal(struct dirblock_form a, struct dirblock_form b)
{
    return a.filetype == b.filetype && a.csum == b.csum && a.hashed == b.hashed &&
           a.encrypted == b.encrypted;
}

bool dirblock_at_again(struct dirblock_starts *s, const uint8_t *data, uint32_t size,
                       struct dirblock_form form, uint16_t offset, struct dirblock_entry *out)
{
    size_t i = ((uintptr_t)data * 0x9e3779b97f4a7c15ull) >> 61;
    uint64_t *bits = s->block[i].bits;
    struct dirblock it;

    if (offset % 4 || offset >= size || size > BIG_BLOCK)
        return dirblock_at(data, size, form, offset, out);
    if (s->block[i].data != data || s->block[i].size != size ||
        !form_equal(s->block[i].form, form)) {
        s->block[i].data = data;
        s->block[i].size = size;
        s->block[i].form = form;
        memset(bits, 0, (size + 255) / 256 * sizeof(*bits));
        for (uint32_t pos = 0, len; pos < size; pos += len) {
            len = record_length(data, size, pos, form);
            if (len == 0)
                break;
            bits[pos / 256] |= 1ull << (pos / 4 % 64);
        }
    }
    if (!(bits[offset / 256] >> (offset / 4 % 64) & 1) || nf_le32(data + offset) == 0)
        return false;
    dirblock_begin(&it, data, size, form);
    fill(&it, offset, out);
    return true;
}

static uint32_t entry_length(const struct dirblock_entry *e, struct dirblock_form form)
{
    return padded(DE_HEADER + (uint32_t)e->name.len) +
           (form.hashed && !e->dot && !e->dotdot ? DE_HASHES : 0);
}

static bool has_entry(const uint8_t *data, uint32_t size, struct dirblock_form form,
                      const struct dirblock_entry *wanted)
{
    struct dirblock it;
    struct dirblock_entry e;

    dirblock_begin(&it, data, size, form);
    while (data && dirblock_next(&it, &e) > 0) {
        if (e.ino == wanted->ino && nf_bytes_equal(e.name, wanted->name))
            return true;
    }
    return false;
}

static int by_offset(const void *a, const void *b)
{
    const struct dirblock_entry *x = a, *y = b;

    return (x->offset > y->offset) - (x->offset < y->offset);
}

bool dirblock_mix(const uint8_t *old, const uint8_t *new, uint8_t *out, uint32_t size,
                  struct dirblock_form form, bool (*waits)(void *opaque, uint32_t ino), void *opaque)
{
    size_t max = 2 * (size_t)(size / DE_MIN), n = 0;
    struct dirblock_entry *list = size < BIG_BLOCK ? calloc(max, sizeof(*list)) : NULL;
    uint32_t end = 0;
    bool ok = list != NULL;

    for (int side = 0; ok && side < 2; side++) {
        const uint8_t *mine = side ? new : old, *theirs = side ? old : new;
        struct dirblock it;
        struct dirblock_entry e;
        int ret = 0;

        dirblock_begin(&it, mine, size, form);
        while (mine && (ret = dirblock_next(&it, &e)) > 0) {
            bool changed = !e.dot && !e.dotdot && waits(opaque, e.ino) &&
                           !has_entry(theirs, size, form, &e);

            if (changed == !side)
                list[n++] = e;
        }
        ok = ret == 0;
    }
    if (ok && n)
        qsort(list, n, sizeof(*list), by_offset);
    memset(out, 0, size);
    /* An empty entry stands for what is free at the start. */
    if (ok && (n == 0 || list[0].offset > 0)) {
        uint32_t len = n ? list[0].offset : size;

        ok = len >= DE_MIN;
        nf_put_le16(out + 4, (uint16_t)len);
        end = len;
    }
    for (size_t i = 0; ok && i < n; i++) {
        const struct dirblock_entry *e = &list[i];
        uint32_t next = i + 1 < n ? list[i + 1].offset : size;
        uint8_t *de = out + e->offset;

        ok = e->offset >= end && next - e->offset >= entry_length(e, form) && next > e->offset &&
             next - e->offset >= DE_MIN;
        if (!ok)
            break;
        memcpy(de, e->name.data - DE_HEADER, entry_length(e, form));
        nf_put_le16(de + 4, (uint16_t)(next - e->offset));
        end = e->offset + entry_length(e, form);
    }
    free(list);
    return ok;
}
