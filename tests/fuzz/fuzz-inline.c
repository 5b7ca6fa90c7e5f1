/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What stands in an inode. Input: a mode byte, then the inode's first bytes; the
 * rest of it is zero. Mode bits 0 and 1: inodes of 128, 256, 512 or 1024 bytes;
 * bit 2: the fixed fields of a sound inode with an attribute are put in; bit 3:
 * entries have file types.
 *
 * Beside memory errors this finds: parts that do not lie in the inode, content
 * longer than the file, chains that a walk is not bounded by.
 */
#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/dirblock.h"
#include "bdi/ext4/inline.h"
#include "common/error.h"

enum { INODE_MAX = 1024, MODE_SOUND = 4, MODE_FILETYPE = 8 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

static void check_within(const uint8_t *raw, uint32_t size, struct nf_bytes part)
{
    CHECK(part.data >= raw && part.data <= raw + size);
    CHECK(part.len <= size - (size_t)(part.data - raw));
}

static void check_content(const uint8_t *raw, uint32_t size)
{
    /* Exactly as much as was promised to suffice. */
    uint8_t *buf = malloc(size);
    struct ext4_inode inode;
    struct inline_data d;
    uint32_t n, first;
    bool sound;

    CHECK(buf);
    ext4_inode_decode(&inode, raw, size);
    sound = inline_data_find(raw, size, &d);
    check_within(raw, size, d.part[0]);
    check_within(raw, size, d.part[1]);
    CHECK(d.part[0].len == 60 && (sound || d.part[1].len == 0));
    n = inline_data_copy(&inode, size, buf);
    CHECK(n <= size && n <= inode.attr.size && n <= d.part[0].len + d.part[1].len);
    first = n < 60 ? n : 60;
    CHECK(memcmp(buf, d.part[0].data, first) == 0);
    CHECK(n <= 60 || memcmp(buf + 60, d.part[1].data, n - 60) == 0);
    free(buf);
}

static void check_chains(const uint8_t *raw, uint32_t size, bool filetype)
{
    const struct dirblock_form form = { .filetype = filetype };
    struct nf_bytes chain[2];

    inline_dir_chains(raw, size, chain);
    for (int i = 0; i < 2; i++) {
        struct dirblock it;
        struct dirblock_entry e, again;
        uint32_t n = 0;

        check_within(raw, size, chain[i]);
        CHECK(chain[i].len == 0 || (chain[i].data - raw) % 4 == 0);
        dirblock_begin(&it, chain[i].data, (uint32_t)chain[i].len, form);
        while (dirblock_next(&it, &e) == 1) {
            CHECK(++n <= chain[i].len / 12 + 1);
            check_within(raw, size, e.name);
            CHECK(dirblock_at(chain[i].data, (uint32_t)chain[i].len, form, e.offset, &again));
            CHECK(again.ino == e.ino && again.name.data == e.name.data);
        }
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint32_t size;
    uint8_t *raw;

    if (len < 1)
        return 0;
    size = 128u << (data[0] & 3);
    raw = calloc(1, size);
    CHECK(raw);
    memcpy(raw, data + 1, len - 1 < size ? len - 1 : size);
    if ((data[0] & MODE_SOUND) && size > 128) {
        /* system.data, where the input says, as long as it says. */
        nf_put_le16(raw + 0x80, 32);
        nf_put_le32(raw + 160, 0xea020000u);
        raw[164] = 4;
        raw[165] = 7;
        nf_put_le16(raw + 166, nf_le16(raw + 166) % (uint16_t)size);
        nf_put_le32(raw + 168, 0);
        nf_put_le32(raw + 172, nf_le32(raw + 172) % size);
        memcpy(raw + 180, "data", 4);
    }
    check_content(raw, size);
    check_chains(raw, size, data[0] & MODE_FILETYPE);
    free(raw);
    return 0;
}
