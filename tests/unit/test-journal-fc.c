/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fast commits, as they arrive behind a log. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "bdi/ext4/journal.h"
#include "tests/models/fast-commit.h"

enum { BLOCK = 1024, BLOCKS = 1100, AREA = 40 };

struct area {
    struct jlog log;  /* what is on the disk */
    struct jlog made; /* what is to be written */
    struct jfc fc;
    struct journal j;
};

static const uint8_t *get_block(void *opaque, uint32_t lblk)
{
    struct area *a = opaque;

    return lblk < BLOCKS ? jlog_block(&a->log, lblk) : NULL;
}

/* A log whose next transaction is 5, and an empty area. */
static void setup(struct area *a)
{
    memset(a, 0, sizeof(*a));
    jlog_init(&a->log, BLOCK, BLOCKS, 0);
    jlog_init(&a->made, BLOCK, BLOCKS, JLOG_REVOKE | JLOG_CSUM_V3 | JLOG_64BIT);
    jfc_init(&a->fc, &a->made, AREA);
    jfc_super(&a->fc, 5, 1);
    memcpy(a->log.data, a->made.data, BLOCK);
    assert_int_equal(journal_init(&a->j, BLOCK, BLOCKS, get_block, a, NULL), 0);
    a->j.fc_inode_size = 256;
    assert_int_equal(a->j.maxlen, BLOCKS - AREA);
    assert_int_equal(a->j.fc_first, BLOCKS - AREA + 1);
    assert_int_equal(a->j.fc_end, BLOCKS);
}

static void teardown(struct area *a)
{
    journal_release(&a->j);
    free(a->log.data);
    free(a->made.data);
}

static enum journal_fc_change write_block(struct area *a, uint32_t lblk)
{
    memcpy(jlog_block(&a->log, lblk), jlog_block(&a->made, lblk), BLOCK);
    assert_false(journal_written(&a->j, lblk, jlog_block(&a->log, lblk)));
    return journal_fc_written(&a->j, lblk);
}

/* How many there are from here on, by one who never saw any of it. */
static unsigned count_anew(struct area *a)
{
    struct journal j;
    struct journal_fc fc;
    unsigned n = 0;

    assert_int_equal(journal_init(&j, BLOCK, BLOCKS, get_block, a, NULL), 0);
    j.fc_inode_size = 256;
    j.next_tid = a->j.next_tid;
    j.next_block = a->j.next_block;
    while (journal_fc_next(&j, &fc))
        n++;
    journal_release(&j);
    return n;
}

/* Fast commit @n ahead of 5, of @blocks blocks. */
static void put(struct area *a, unsigned n, unsigned blocks)
{
    uint32_t until = a->fc.at + blocks - 1;
    uint8_t raw[256];

    memset(raw, 0x40 + (int)n, sizeof(raw));
    if (n == 0)
        jfc_head(&a->fc, 5);
    jfc_name(&a->fc, JFC_CREAT, 2, 100 + n, "a name");
    while (a->fc.at < until)
        jfc_inode(&a->fc, 100 + n, raw, 256);
    jfc_range(&a->fc, 100 + n, 7, 8, UINT64_C(0x100000009));
    jfc_hole(&a->fc, 100 + n, 20, 30);
    jfc_tail(&a->fc, 5);
    assert_int_equal(a->fc.at, until + 1);
}

static void check(struct area *a, struct journal_fc *fc, unsigned n, unsigned blocks)
{
    struct journal_fc_tag tag;
    unsigned count[10] = { 0 };

    assert_int_equal(fc->tid, 5);
    while (journal_fc_tag(&a->j, fc, &tag)) {
        assert_in_range(tag.type, JOURNAL_FC_ADD_RANGE, JOURNAL_FC_HEAD);
        count[tag.type]++;
        if (tag.type == JOURNAL_FC_CREAT) {
            assert_int_equal(tag.len, 8 + 6);
            assert_int_equal(tag.value[0], 2);
            assert_int_equal(tag.value[4], 100 + n);
            assert_memory_equal(tag.value + 8, "a name", 6);
        }
        if (tag.type == JOURNAL_FC_INODE)
            assert_int_equal(tag.value[4 + 200], 0x40 + n);
    }
    assert_int_equal(count[JOURNAL_FC_HEAD], n == 0);
    assert_int_equal(count[JOURNAL_FC_CREAT], 1);
    assert_int_equal(count[JOURNAL_FC_ADD_RANGE], 1);
    assert_int_equal(count[JOURNAL_FC_DEL_RANGE], 1);
    assert_int_equal(count[JOURNAL_FC_PAD], blocks - 1);
    assert_int_equal(count[JOURNAL_FC_TAIL], 1);
}

static void found_one_by_one(void **state)
{
    static const unsigned blocks[] = { 1, 3, 1, 1, 2 };
    struct journal_fc fc;
    struct area a;

    (void)state;
    setup(&a);
    assert_false(journal_fc_next(&a.j, &fc));
    for (unsigned n = 0; n < 5; n++) {
        uint32_t from = a.fc.at;

        put(&a, n, blocks[n]);
        for (uint32_t b = from; b < a.fc.at; b++) {
            assert_false(journal_fc_next(&a.j, &fc));
            assert_int_equal(write_block(&a, b), JOURNAL_FC_MORE);
        }
        assert_true(journal_fc_next(&a.j, &fc));
        check(&a, &fc, n, blocks[n]);
        assert_false(journal_fc_next(&a.j, &fc));
        assert_int_equal(count_anew(&a), n + 1);
    }
    teardown(&a);
}

static void found_in_any_order(void **state)
{
    static const uint8_t orders[6][3] = { { 0, 1, 2 }, { 0, 2, 1 }, { 1, 0, 2 },
                                          { 1, 2, 0 }, { 2, 0, 1 }, { 2, 1, 0 } };
    struct journal_fc fc;

    (void)state;
    for (unsigned o = 0; o < 6; o++) {
        struct area a;
        unsigned found = 0;

        setup(&a);
        put(&a, 0, 3);
        for (unsigned i = 0; i < 3; i++) {
            /* A scan that was not asked for must not be needed. */
            if (write_block(&a, a.fc.first + orders[o][i]) == JOURNAL_FC_MORE)
                found += journal_fc_next(&a.j, &fc);
            assert_int_equal(found, count_anew(&a));
        }
        assert_int_equal(found, 1);
        check(&a, &fc, 0, 3);
        teardown(&a);
    }
}

/* Before the last is written, each other one is followed by what could be its
 * successor: of an older fast commit, or read of a disk that is ahead. */
static void found_over_many_others(void **state)
{
    struct journal_fc fc;
    struct area a;
    uint32_t last;

    (void)state;
    setup(&a);
    put(&a, 0, AREA - 1);
    last = a.fc.at - 1;
    for (uint32_t b = a.fc.first; b < last; b++)
        memcpy(jlog_block(&a.log, b), jlog_block(&a.made, b), BLOCK);
    for (uint32_t b = a.fc.first; b < last; b++) {
        assert_int_equal(write_block(&a, b), JOURNAL_FC_MORE);
        assert_false(journal_fc_next(&a.j, &fc));
    }
    assert_int_equal(write_block(&a, last), JOURNAL_FC_MORE);
    assert_true(journal_fc_next(&a.j, &fc));
    check(&a, &fc, 0, AREA - 1);
    teardown(&a);
}

/* Whatever becomes of the first block, it is not taken for a fast commit. */
static void damage_is_found(void **state)
{
    struct area a;
    uint8_t *p;
    uint32_t end;

    (void)state;
    setup(&a);
    put(&a, 0, 1);
    write_block(&a, a.fc.first);
    assert_int_equal(count_anew(&a), 1);
    p = jlog_block(&a.log, a.fc.first);
    /* Up to the checksum in the TAIL; the rest is filling. */
    for (end = 0; p[end] != JFC_TAIL || p[end + 1] != 0; end += 4 + p[end + 2] + p[end + 3] * 256u)
        ;
    end += 12;
    for (uint32_t i = 0; i < end; i++) {
        p[i] ^= 0x55;
        assert_int_equal(count_anew(&a), 0);
        p[i] ^= 0x55;
    }
    assert_int_equal(count_anew(&a), 1);
    teardown(&a);
}

static void what_follows_damage_does_not_count(void **state)
{
    struct journal_fc fc;
    struct area a;
    uint8_t *p;

    (void)state;
    setup(&a);
    for (unsigned n = 0; n < 4; n++)
        put(&a, n, 1);
    p = jlog_block(&a.made, a.fc.first + 2);
    p[40] ^= 1;
    for (unsigned n = 0; n < 4; n++)
        write_block(&a, a.fc.first + n);
    for (unsigned n = 0; n < 2; n++) {
        assert_true(journal_fc_next(&a.j, &fc));
        check(&a, &fc, n, 1);
    }
    assert_false(journal_fc_next(&a.j, &fc));
    /* Repaired: both of the others. */
    p[40] ^= 1;
    assert_int_equal(write_block(&a, a.fc.first + 2), JOURNAL_FC_MORE);
    for (unsigned n = 2; n < 4; n++) {
        assert_true(journal_fc_next(&a.j, &fc));
        check(&a, &fc, n, 1);
    }
    assert_false(journal_fc_next(&a.j, &fc));
    teardown(&a);
}

static void needs_the_expected_id(void **state)
{
    struct journal_fc fc;

    (void)state;
    for (unsigned wrong = 0; wrong < 3; wrong++) {
        struct area a;

        setup(&a);
        if (wrong != 2)
            jfc_head(&a.fc, wrong == 0 ? 4 : 5);
        jfc_name(&a.fc, JFC_LINK, 2, 12, "x"); /* without a HEAD in the third case */
        jfc_tail(&a.fc, wrong == 1 ? 6 : 5);
        write_block(&a, a.fc.first);
        assert_false(journal_fc_next(&a.j, &fc));
        teardown(&a);
    }
}

static void void_with_its_transaction(void **state)
{
    struct journal_txn txn;
    struct journal_fc fc;
    struct area a;

    (void)state;
    setup(&a);
    put(&a, 0, 1);
    put(&a, 1, 1);
    write_block(&a, a.fc.first);
    assert_true(journal_fc_next(&a.j, &fc));
    /* The transaction itself. */
    jlog_begin(&a.made, 5);
    jlog_commit(&a.made, 1, 1);
    memcpy(jlog_block(&a.log, 1), jlog_block(&a.made, 1), BLOCK);
    assert_true(journal_written(&a.j, 1, jlog_block(&a.log, 1)));
    assert_int_equal(journal_next(&a.j, &txn, NULL), 1);
    write_block(&a, a.fc.first + 1);
    assert_false(journal_fc_next(&a.j, &fc));
    /* One ahead of the next, from the beginning; behind it the remains of the others. */
    jfc_head(&a.fc, 6);
    jfc_name(&a.fc, JFC_UNLINK, 2, 12, "y");
    jfc_tail(&a.fc, 6);
    assert_int_equal(write_block(&a, a.fc.first), JOURNAL_FC_MORE);
    assert_true(journal_fc_next(&a.j, &fc));
    assert_int_equal(fc.tid, 6);
    assert_false(journal_fc_next(&a.j, &fc));
    /* Nothing is recovered from an empty log. */
    jfc_super(&a.fc, 7, 0);
    memcpy(a.log.data, a.made.data, BLOCK);
    assert_int_equal(journal_reload(&a.j, NULL), JOURNAL_EMPTY);
    jfc_head(&a.fc, 7);
    jfc_tail(&a.fc, 7);
    assert_int_equal(write_block(&a, a.fc.first), JOURNAL_FC_SAME);
    assert_false(journal_fc_next(&a.j, &fc));
    /* That it begins again makes them valid. */
    jfc_super(&a.fc, 7, 2);
    memcpy(a.log.data, a.made.data, BLOCK);
    assert_int_equal(journal_reload(&a.j, NULL), JOURNAL_RESTART);
    assert_true(journal_fc_next(&a.j, &fc));
    assert_int_equal(fc.tid, 7);
    teardown(&a);
}

static void rewritten_ones_are_void(void **state)
{
    struct journal_fc fc;
    struct area a;
    unsigned n = 0;

    (void)state;
    setup(&a);
    put(&a, 0, 2);
    put(&a, 1, 1);
    for (uint32_t b = 0; b < 3; b++)
        write_block(&a, a.fc.first + b);
    while (journal_fc_next(&a.j, &fc))
        n++;
    assert_int_equal(n, 2);
    assert_int_equal(write_block(&a, a.fc.first + 1), JOURNAL_FC_REWRITTEN);
    for (n = 0; n < 2; n++) {
        assert_true(journal_fc_next(&a.j, &fc));
        check(&a, &fc, n, n == 0 ? 2 : 1);
    }
    assert_false(journal_fc_next(&a.j, &fc));
    /* Who does nothing else is not listened to for ever. */
    for (n = 0; n < 1000; n++) {
        write_block(&a, a.fc.first);
        if (!journal_fc_next(&a.j, &fc))
            break;
    }
    assert_in_range(n, 10, 999);
    teardown(&a);
}

static void area_as_the_superblock_says(void **state)
{
    static const struct {
        uint32_t blocks, num, maxlen;
    } cases[] = {
        { 1280, 0, 1024 },  { 1279, 0, 1279 }, /* 256 by default; too short a log for them */
        { 1100, 76, 1024 }, { 1100, 77, 1100 }, { 1100, 5000, 1100 }, { 1100, UINT32_MAX, 1100 },
        { 2000, 1, 1999 }, /* an area without a block */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct area a = { 0 };
        struct journal_fc fc;

        jlog_init(&a.log, BLOCK, cases[i].blocks, JLOG_FAST_COMMIT);
        jlog_super(&a.log, 1, 1);
        jlog_put32(a.log.data + 0x54, cases[i].num);
        assert_int_equal(journal_init(&a.j, BLOCK, cases[i].blocks, get_block, &a, NULL), 0);
        assert_int_equal(a.j.maxlen, cases[i].maxlen);
        if (cases[i].maxlen == cases[i].blocks)
            assert_int_equal(a.j.fc_first, a.j.fc_end);
        else
            assert_int_equal(a.j.fc_first, cases[i].maxlen + 1);
        assert_int_equal(a.j.fc_end, cases[i].blocks);
        assert_false(journal_fc_next(&a.j, &fc));
        teardown(&a);
    }
}

/* What the fuzz target begins with: the blocks of a few fast commits, as written. */
static int write_corpus(const char *path)
{
    FILE *out = fopen(path, "wb");
    struct area a;

    if (!out)
        return 1;
    setup(&a);
    for (unsigned n = 0; n < 3; n++)
        put(&a, n, n == 1 ? 2 : 1);
    fputc(3, out);
    for (uint32_t b = a.fc.first; b < a.fc.at; b++) {
        fputc((int)(b - a.fc.first), out);
        fputc(100, out);
        fwrite(jlog_block(&a.made, b), 1, 400, out);
    }
    teardown(&a);
    return fclose(out) != 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(found_one_by_one),
        cmocka_unit_test(found_in_any_order),
        cmocka_unit_test(found_over_many_others),
        cmocka_unit_test(damage_is_found),
        cmocka_unit_test(what_follows_damage_does_not_count),
        cmocka_unit_test(needs_the_expected_id),
        cmocka_unit_test(void_with_its_transaction),
        cmocka_unit_test(rewritten_ones_are_void),
        cmocka_unit_test(area_as_the_superblock_says),
    };

    if (argc == 3 && strcmp(argv[1], "--corpus") == 0)
        return write_corpus(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
