/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bdi/ext4/dirblock.h"
#include "common/error.h"

#define BLOCK 1024u

static const struct dirblock_form typed = {.filetype = true};

static uint32_t put(uint8_t *b, uint32_t pos, uint32_t ino, uint16_t rec_len, uint8_t type,
                    const char *name, uint8_t name_len)
{
    nf_put_le32(b + pos, ino);
    nf_put_le16(b + pos + 4, rec_len);
    b[pos + 6] = name_len;
    b[pos + 7] = type;
    memcpy(b + pos + 8, name, name_len);
    return pos + rec_len;
}

/* ".", "..", a deleted entry, two files, and a checksum tail. */
static void sample(uint8_t *b)
{
    uint32_t pos = 0;

    memset(b, 0, BLOCK);
    pos = put(b, pos, 11, 12, 2, ".", 1);
    pos = put(b, pos, 2, 12, 2, "..", 2);
    pos = put(b, pos, 0, 16, 1, "gone", 4);
    pos = put(b, pos, 20, 16, 1, "file.txt", 8);
    pos = put(b, pos, 21, (uint16_t)(BLOCK - pos - 12), 7, "l", 1);
    put(b, pos, 0, 12, 0xde, "", 0);
}

static void lists_what_is_there(void **state)
{
    uint8_t b[BLOCK];
    struct dirblock it;
    struct dirblock_entry e;

    (void)state;
    sample(b);
    dirblock_begin(&it, b, BLOCK, typed);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_true(e.dot && !e.dotdot && !e.bad_name);
    assert_int_equal(e.ino, 11);
    assert_int_equal(e.offset, 0);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_true(e.dotdot && !e.dot && !e.bad_name);
    assert_int_equal(e.offset, 12);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_int_equal(e.ino, 20);
    assert_int_equal(e.offset, 40);
    assert_int_equal(e.type, 1);
    assert_int_equal(e.name.len, 8);
    assert_memory_equal(e.name.data, "file.txt", 8);
    assert_ptr_equal(e.name.data, b + 48);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_int_equal(e.ino, 21);
    assert_int_equal(e.type, 7);
    assert_false(e.dot || e.dotdot || e.bad_name);
    assert_int_equal(dirblock_next(&it, &e), 0);
    assert_int_equal(dirblock_next(&it, &e), 0);
}

static void finds_an_entry_by_its_offset(void **state)
{
    uint8_t b[BLOCK];
    struct dirblock_entry e;
    unsigned live = 0;

    (void)state;
    sample(b);
    for (uint32_t off = 0; off < BLOCK + 8; off++)
        if (dirblock_at(b, BLOCK, typed, (uint16_t)off, &e)) {
            assert_int_equal(e.offset, off);
            live++;
        }
    assert_int_equal(live, 4);
    assert_true(dirblock_at(b, BLOCK, typed, 40, &e));
    assert_int_equal(e.ino, 20);
    /* Swallowed by its predecessor: its bytes are still there, it is not. */
    nf_put_le16(b + 24 + 4, 32);
    assert_false(dirblock_at(b, BLOCK, typed, 40, &e));
    /* Behind a break nothing counts. */
    sample(b);
    nf_put_le16(b + 12 + 4, 13);
    assert_false(dirblock_at(b, BLOCK, typed, 40, &e));
    assert_true(dirblock_at(b, BLOCK, typed, 0, &e));
}

static void type_needs_the_feature(void **state)
{
    uint8_t b[BLOCK];
    struct dirblock_entry e;

    (void)state;
    sample(b);
    assert_true(dirblock_at(b, BLOCK, (struct dirblock_form){0}, 40, &e));
    assert_int_equal(e.type, 0);
    b[40 + 7] = 8;
    assert_true(dirblock_at(b, BLOCK, typed, 40, &e));
    assert_int_equal(e.type, 0);
}

static void names_that_must_not_be_used(void **state)
{
    uint8_t b[BLOCK] = {0};
    struct dirblock it;
    struct dirblock_entry e;
    uint32_t pos = 0;

    (void)state;
    pos = put(b, pos, 5, 12, 1, "", 0);
    pos = put(b, pos, 6, 12, 1, "a/b", 3);
    pos = put(b, pos, 7, 12, 1, "a\0b", 3);
    pos = put(b, pos, 8, 12, 1, "...", 3);
    put(b, pos, 9, (uint16_t)(BLOCK - pos), 1, "\xff\n*", 3);
    dirblock_begin(&it, b, BLOCK, typed);
    for (int i = 0; i < 5; i++) {
        assert_int_equal(dirblock_next(&it, &e), 1);
        assert_int_equal(e.bad_name, i < 3);
        assert_false(e.dot || e.dotdot);
    }
    assert_int_equal(dirblock_next(&it, &e), 0);
}

static const struct dirblock_form cipher = {.filetype = true, .encrypted = true};

/* Ciphertext may be any bytes, but not fewer than a cipher block's. */
static void encrypted_names(void **state)
{
    uint8_t b[BLOCK] = {0};
    struct dirblock it;
    struct dirblock_entry e;
    uint32_t pos = 0;

    (void)state;
    pos = put(b, pos, 11, 12, 2, ".", 1);
    pos = put(b, pos, 2, 12, 2, "..", 2);
    pos = put(b, pos, 5, 24, 1, "fifteen bytes .", 15);
    put(b, pos, 6, (uint16_t)(BLOCK - pos), 1, "slash / and nul\0", 16);
    dirblock_begin(&it, b, BLOCK, cipher);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(dirblock_next(&it, &e), 1);
        assert_int_equal(e.bad_name, i == 2);
        assert_int_equal(e.dot, i == 0);
        assert_int_equal(e.dotdot, i == 1);
    }
    assert_int_equal(dirblock_next(&it, &e), 0);
}

/* Casefolded and encrypted: eight bytes more for each entry but "." and "..". */
static void hashes_behind_names(void **state)
{
    static const char name[] = "seventeen bytes /";
    struct dirblock_form form = cipher;
    uint8_t b[BLOCK] = {0};
    struct dirblock it;
    struct dirblock_entry e;
    uint32_t pos = 0, first, last;

    (void)state;
    form.hashed = true;
    pos = put(b, pos, 11, 12, 2, ".", 1);
    first = pos = put(b, pos, 2, 12, 2, "..", 2);
    pos = put(b, pos, 5, 36, 1, name, 17);
    nf_put_le32(b + first + 28, 0x11223344);
    nf_put_le32(b + first + 32, 0x55667788);
    last = pos;
    put(b, pos, 6, (uint16_t)(BLOCK - pos), 1, name, 17);
    dirblock_begin(&it, b, BLOCK, form);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_int_equal(e.name.len, 17);
    assert_int_equal(e.hash[0], 0x11223344);
    assert_int_equal(e.hash[1], 0x55667788);
    assert_false(e.bad_name);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_int_equal(e.offset, last);
    assert_int_equal(dirblock_next(&it, &e), 0);
    assert_true(dirblock_at(b, BLOCK, form, (uint16_t)first, &e));
    assert_int_equal(e.hash[1], 0x55667788);
    /* Without room for them the chain is broken; a directory of another kind needs none. */
    nf_put_le16(b + first + 4, 32);
    put(b, first + 32, 6, (uint16_t)(BLOCK - first - 32), 1, name, 17);
    assert_false(dirblock_at(b, BLOCK, form, (uint16_t)first, &e));
    assert_true(dirblock_at(b, BLOCK, cipher, (uint16_t)first, &e));
    assert_int_equal(e.hash[0], 0);
    /* Behind an entry must be room for another one, or, with checksums, the tail. */
    pos = put(b, first, 5, (uint16_t)(BLOCK - first - 12), 1, name, 17);
    put(b, pos, 0, 12, 0xde, "", 0);
    assert_false(dirblock_at(b, BLOCK, form, (uint16_t)first, &e));
    form.csum = true;
    assert_true(dirblock_at(b, BLOCK, form, (uint16_t)first, &e));
}

static void htree_nodes_look_empty(void **state)
{
    uint8_t b[BLOCK];
    struct dirblock it;
    struct dirblock_entry e;

    (void)state;
    /* dx_root: "." and a ".." that covers the index. */
    memset(b, 0xa5, BLOCK);
    put(b, 0, 11, 12, 2, ".\0\0\0", 4);
    b[6] = 1;
    put(b, 12, 2, BLOCK - 12, 2, "..\0\0", 4);
    b[18] = 2;
    dirblock_begin(&it, b, BLOCK, typed);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_true(e.dot);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_true(e.dotdot);
    assert_int_equal(dirblock_next(&it, &e), 0);
    /* dx_node: one empty entry over the whole block. */
    memset(b, 0xa5, BLOCK);
    put(b, 0, 0, BLOCK, 0, "", 0);
    dirblock_begin(&it, b, BLOCK, typed);
    assert_int_equal(dirblock_next(&it, &e), 0);
}

static int count_until_end(const uint8_t *b, uint32_t size, unsigned *n)
{
    struct dirblock it;
    struct dirblock_entry e;
    int rc;

    *n = 0;
    dirblock_begin(&it, b, size, typed);
    while ((rc = dirblock_next(&it, &e)) == 1) {
        assert_true(e.ino != 0);
        assert_true(e.offset + 8u + e.name.len <= size);
        assert_true(++*n <= size / 12);
    }
    if (rc < 0) /* and it stays broken */
        assert_int_equal(dirblock_next(&it, &e), rc);
    return rc;
}

static void broken_chains_stop(void **state)
{
    static const uint16_t bad[] = {0, 4, 8, 11, 13, 14, 15, BLOCK, 0xfffc, 0xffff, BLOCK - 40 - 8,
                                   BLOCK - 40 - 4};
    uint8_t b[BLOCK];
    unsigned n;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        sample(b);
        nf_put_le16(b + 40 + 4, bad[i]);
        assert_int_equal(count_until_end(b, BLOCK, &n), NF_EFORMAT);
        assert_int_equal(n, 2);
    }
    sample(b); /* the record holds 16 bytes: a name of 9 does not fit */
    b[40 + 6] = 9;
    assert_int_equal(count_until_end(b, BLOCK, &n), NF_EFORMAT);
    assert_int_equal(n, 2);
    /* A broken empty entry is as broken as a live one. */
    sample(b);
    nf_put_le16(b + 24 + 4, 6);
    assert_int_equal(count_until_end(b, BLOCK, &n), NF_EFORMAT);
    assert_int_equal(n, 2);
}

static void short_blocks(void **state)
{
    unsigned n;

    (void)state;
    for (uint32_t size = 0; size <= 64; size++) {
        uint8_t *b = calloc(1, size + 1);
        int rc;

        assert_non_null(b);
        if (size >= 6)
            nf_put_le16(b + 4, (uint16_t)size);
        rc = count_until_end(b, size, &n);
        assert_int_equal(n, 0);
        assert_int_equal(rc, size == 0 || (size >= 12 && size % 4 == 0) ? 0 : NF_EFORMAT);
        free(b);
    }
}

static void lengths_of_64k_blocks(void **state)
{
    static const uint16_t whole[] = {0, 0xffff};
    const uint32_t size = 65536;
    uint8_t *b = calloc(1, size);
    struct dirblock it;
    struct dirblock_entry e;
    unsigned n;

    (void)state;
    assert_non_null(b);
    for (int i = 0; i < 2; i++) {
        put(b, 0, 7, whole[i], 1, "x", 1);
        assert_int_equal(count_until_end(b, size, &n), 0);
        assert_int_equal(n, 1);
    }
    put(b, 0, 7, 0xfff4, 1, "x", 1); /* 65524 */
    put(b, 0xfff4, 8, 12, 1, "y", 1);
    dirblock_begin(&it, b, size, typed);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_int_equal(e.offset, 0xfff4);
    assert_int_equal(dirblock_next(&it, &e), 0);
    nf_put_le16(b + 4, 0xfff4 | 1); /* 65524 + 65536 */
    assert_int_equal(count_until_end(b, size, &n), NF_EFORMAT);
    assert_int_equal(n, 0);
    free(b);
}

static bool is_seven(void *opaque, uint32_t ino)
{
    (void)opaque;
    return ino == 7;
}

/* Of the names of inode 7, what went is back and what came is not there yet. */
static void mixes_two_sides(void **state)
{
    uint8_t old[BLOCK] = {0}, new[BLOCK] = {0}, out[BLOCK];
    struct dirblock_entry e;
    struct dirblock it;

    (void)state;
    put(old, 0, 5, 16, 1, "stays", 5);
    put(old, 16, 7, 16, 1, "gone", 4);
    put(old, 32, 8, BLOCK - 32, 1, "left", 4);
    put(new, 0, 5, 48, 1, "stays", 5);
    put(new, 48, 7, 20, 1, "came", 4);
    put(new, 68, 9, BLOCK - 68, 1, "other", 5);
    assert_true(dirblock_mix(old, new, out, BLOCK, typed, is_seven, NULL));
    dirblock_begin(&it, out, BLOCK, typed);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_int_equal(e.ino, 5);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_int_equal(e.ino, 7);
    assert_int_equal(e.offset, 16);
    assert_int_equal(dirblock_next(&it, &e), 1);
    assert_int_equal(e.ino, 9);
    assert_int_equal(e.offset, 68);
    assert_int_equal(dirblock_next(&it, &e), 0);
    /* What went stood where something else stands now. */
    put(new, 0, 5, 20, 1, "stays", 5);
    put(new, 20, 9, BLOCK - 20, 1, "in between", 10);
    assert_false(dirblock_mix(old, new, out, BLOCK, typed, is_seven, NULL));
    /* Nothing is left of a block that is new. */
    put(new, 0, 7, BLOCK, 1, "came", 4);
    assert_true(dirblock_mix(NULL, new, out, BLOCK, typed, is_seven, NULL));
    dirblock_begin(&it, out, BLOCK, typed);
    assert_int_equal(dirblock_next(&it, &e), 0);
    new[4] = 3;
    assert_false(dirblock_mix(NULL, new, out, BLOCK, typed, is_seven, NULL));
}

static void every_byte_corrupted(void **state)
{
    static const uint8_t values[] = {0, 1, 3, 4, 12, 0x7f, 0x80, 0xff};
    uint8_t *b = malloc(BLOCK); /* exact, for ASan */
    unsigned n, damaged = 0;

    (void)state;
    assert_non_null(b);
    for (uint32_t at = 0; at < BLOCK; at++)
        for (size_t v = 0; v < sizeof(values); v++) {
            struct dirblock_entry e;

            sample(b);
            b[at] = values[v];
            damaged += count_until_end(b, BLOCK, &n) == NF_EFORMAT;
            dirblock_at(b, BLOCK, typed, 40, &e);
        }
    assert_true(damaged > 0);
    free(b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lists_what_is_there),
        cmocka_unit_test(finds_an_entry_by_its_offset),
        cmocka_unit_test(type_needs_the_feature),
        cmocka_unit_test(names_that_must_not_be_used),
        cmocka_unit_test(encrypted_names),
        cmocka_unit_test(hashes_behind_names),
        cmocka_unit_test(htree_nodes_look_empty),
        cmocka_unit_test(broken_chains_stop),
        cmocka_unit_test(short_blocks),
        cmocka_unit_test(lengths_of_64k_blocks),
        cmocka_unit_test(mixes_two_sides),
        cmocka_unit_test(every_byte_corrupted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
