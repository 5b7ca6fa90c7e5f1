/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An area of 8 fast-commit blocks of 1024 bytes, written by the input while it is
 * followed.
 *
 * Input: a mode byte, then writes: the block's number, how many bytes (times 4), the
 * bytes; the rest of the block is zero. Mode bit 0 gives each TAIL and HEAD of the
 * written block the expected id, bit 1 each TAIL the right checksum of what is before
 * it.
 *
 * Beside memory errors this finds tags that break their promises, and a
 * journal_fc_written() that says no where a scan from scratch finds more or less.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <ext2fs/ext2fs.h>

#include "bdi/ext4/journal.h"
#include "tests/models/fast-commit.h"

enum { BLOCK = 1024, AREA = 8, BLOCKS = 1024 + AREA + 1, TID = 5 };

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

struct fuzz {
    uint8_t super[BLOCK], area[AREA][BLOCK];
    uint8_t coming[AREA][BLOCK]; /* what the area is to become */
    struct journal j;
    unsigned found, calls;
};

static const uint8_t *get_block(void *opaque, uint32_t lblk)
{
    static const uint8_t zeros[BLOCK];
    struct fuzz *f = opaque;

    if (lblk == 0)
        return f->super;
    return lblk >= BLOCKS - AREA ? f->area[lblk - (BLOCKS - AREA)] : zeros;
}

static void open_journal(struct fuzz *f, struct journal *j)
{
    CHECK(journal_init(j, BLOCK, BLOCKS, get_block, f, NULL) == 0);
    CHECK(j->fc_end - j->fc_first == AREA);
    j->fc_inode_size = 256;
}

static void look_at(struct fuzz *f, struct journal_fc fc)
{
    struct journal_fc_tag tag;
    unsigned n = 0, last = 0;

    CHECK(fc.tid == TID && fc.pos < fc.end && fc.end <= AREA * BLOCK);
    while (journal_fc_tag(&f->j, &fc, &tag)) {
        uint8_t value[BLOCK];

        CHECK(tag.type >= JOURNAL_FC_ADD_RANGE && tag.type <= JOURNAL_FC_HEAD);
        CHECK(tag.len <= sizeof(value));
        memcpy(value, tag.value, tag.len); /* all of it can be read */
        last = tag.type;
        CHECK(++n <= AREA * BLOCK / 4);
    }
    CHECK(fc.pos == fc.end && last == JOURNAL_FC_TAIL);
}

static unsigned drain(struct fuzz *f, struct journal *j, bool look)
{
    struct journal_fc fc;
    unsigned n = 0;

    while (journal_fc_next(j, &fc)) {
        if (look)
            look_at(f, fc);
        CHECK(++n <= AREA * BLOCK / 12);
    }
    return n;
}

/* Ids and checksums of what is to be written, as far as there are tags. The checksum
 * is the library's: ours would be most of what an execution does. */
static void put_right(struct fuzz *f, uint8_t mode)
{
    uint32_t crc = 0;

    for (unsigned b = 0; b < AREA; b++) {
        for (uint32_t in = 0; in + 4 <= BLOCK;) {
            uint8_t *p = f->coming[b] + in;
            uint32_t type = p[0] | p[1] << 8, len = p[2] | p[3] << 8;

            if (type < JFC_ADD || type > JFC_HEAD || len > BLOCK - in - 4)
                return;
            if ((mode & 1) && type == JFC_HEAD && len == 8) {
                jfc_le32(p + 4, 0);
                jfc_le32(p + 8, TID);
            }
            if (type == JFC_TAIL && len >= 8) {
                if (mode & 1)
                    jfc_le32(p + 4, TID);
                crc = ext2fs_crc32c_le(crc, p, 8);
                if (mode & 2)
                    jfc_le32(p + 8, crc);
                crc = 0;
            } else {
                crc = ext2fs_crc32c_le(crc, p, 4 + len);
            }
            in += 4 + len;
        }
    }
}

static void written(struct fuzz *f, unsigned b)
{
    struct journal fresh;

    /* Beyond that nobody is listened to: journal_fc_next() looks at so many blocks. */
    if (++f->calls > 20)
        return;
    switch (journal_fc_written(&f->j, f->j.fc_first + b)) {
    case JOURNAL_FC_REWRITTEN:
        f->found = 0;
        /* fall through */
    case JOURNAL_FC_MORE:
        f->found += drain(f, &f->j, true);
        break;
    case JOURNAL_FC_SAME:
        break;
    }
    open_journal(f, &fresh);
    CHECK(drain(f, &fresh, false) == f->found);
    journal_release(&fresh);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct jlog log = {.block_size = BLOCK, .blocks = BLOCKS, .first = 1};
    struct jfc model;
    struct fuzz f;
    uint8_t mode;

    if (size < 1)
        return 0;
    memset(&f, 0, sizeof(f));
    log.data = f.super;
    jfc_init(&model, &log, AREA + 1);
    jfc_super(&model, TID, 1);
    open_journal(&f, &f.j);
    mode = data[0];
    data++;
    size--;
    while (size >= 2 && f.calls < 20) {
        unsigned b = data[0] % AREA;
        size_t len = data[1] * 4u;

        len = len < size - 2 ? len : size - 2;
        memset(f.coming[b], 0, BLOCK);
        memcpy(f.coming[b], data + 2, len);
        if (mode & 3)
            put_right(&f, mode);
        /* What is put right is written, too: one block after another. */
        for (unsigned i = 0; i < AREA; i++) {
            if (memcmp(f.area[i], f.coming[i], BLOCK) == 0)
                continue;
            memcpy(f.area[i], f.coming[i], BLOCK);
            written(&f, i);
        }
        data += 2 + len;
        size -= 2 + len;
    }
    journal_release(&f.j);
    return 0;
}
