/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One directory block. Input: a mode byte, then the block. Mode bit 0: the
 * file system has file types; bit 1: the block is 64 KiB, the input its first
 * bytes and the rest zeros; otherwise the input is all of it, of any length.
 * Bits 2, 3 and 4: checksums, hashes behind the names, encrypted names.
 *
 * Beside memory errors this finds: work or entries without bound, and a
 * dirblock_at() that disagrees with the walk.
 */
#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/dirblock.h"
#include "common/error.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static uint8_t big[65536];
    const uint8_t *block = data + 1;
    uint32_t size, next = 0, n = 0;
    struct dirblock it;
    struct dirblock_entry e, again;
    struct dirblock_form form;
    int rc;

    if (len < 1 || len - 1 > sizeof(big))
        return 0;
    form = (struct dirblock_form){.filetype = data[0] & 1, .csum = data[0] & 4,
                                  .hashed = data[0] & 8, .encrypted = data[0] & 16};
    size = (uint32_t)len - 1;
    if (data[0] & 2) {
        memset(big, 0, sizeof(big));
        memcpy(big, block, size);
        block = big;
        size = sizeof(big);
    }
    dirblock_begin(&it, block, size, form);
    while ((rc = dirblock_next(&it, &e)) == 1) {
        CHECK(++n <= size / 12);
        CHECK(e.ino != 0 && e.offset % 4 == 0 && e.offset >= next);
        CHECK(e.name.data == block + e.offset + 8 && e.offset + 8u + e.name.len <= size);
        CHECK(form.filetype || e.type == 0);
        CHECK(!(e.dot && e.dotdot) && !(e.dot && e.bad_name) && !(e.dotdot && e.bad_name));
        CHECK(e.bad_name || e.name.len > 0);
        CHECK(form.hashed || (e.hash[0] == 0 && e.hash[1] == 0));
        CHECK(e.bad_name || !form.encrypted || e.dot || e.dotdot || e.name.len >= 16);
        /* Between two entries of the walk there is no other. */
        if (n <= 64)
            for (; next < e.offset; next++)
                CHECK(!dirblock_at(block, size, form, (uint16_t)next, &again));
        next = e.offset + 1u;
        CHECK(dirblock_at(block, size, form, e.offset, &again));
        CHECK(again.ino == e.ino && again.name.data == e.name.data && again.type == e.type);
    }
    CHECK(rc == 0 || rc == NF_EFORMAT);
    CHECK(dirblock_next(&it, &e) == rc);
    return 0;
}
