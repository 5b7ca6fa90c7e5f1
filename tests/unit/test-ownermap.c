/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/models/ownermap-model.h"

static uint64_t rng;

static uint32_t rnd(uint32_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)((rng >> 32) % below);
}

static void expect(const struct ownermap *m, uint64_t pblk, uint64_t len, uint32_t owner,
                   uint32_t logical, enum owner_kind kind)
{
    struct owner_extent e;
    uint64_t pos = pblk;

    assert_true(ownermap_next(m, &pos, m->blocks, &e));
    assert_int_equal(e.pblk, pblk);
    assert_int_equal(e.len, len);
    assert_int_equal(e.owner, owner);
    assert_int_equal(e.logical, logical);
    assert_int_equal(e.kind, kind);
}

static void one_extent_over_chunks(void **state)
{
    struct ownermap m;
    struct owner_extent e = {.pblk = 100, .len = 5000, .owner = 12, .kind = OWN_DATA};

    (void)state;
    assert_int_equal(ownermap_init(&m, 10000), 0);
    expect(&m, 0, 10000, 0, 0, OWN_NONE);
    assert_int_equal(ownermap_set(&m, &e), 0);
    assert_int_equal(m.pieces, 3);
    expect(&m, 0, 100, 0, 0, OWN_NONE);
    expect(&m, 100, 5000, 12, 0, OWN_DATA);
    expect(&m, 2048, 3052, 12, 1948, OWN_DATA);
    expect(&m, 5100, 4900, 0, 0, OWN_NONE);
    /* Once more: nothing changes. A hole: two runs. */
    assert_int_equal(ownermap_set(&m, &e), 0);
    assert_int_equal(m.pieces, 3);
    e = (struct owner_extent){200, 10, 12, 100, OWN_DATA};
    assert_int_equal(ownermap_clear(&m, &e), 0);
    assert_int_equal(m.pieces, 4);
    expect(&m, 100, 100, 12, 0, OWN_DATA);
    expect(&m, 200, 10, 0, 0, OWN_NONE);
    expect(&m, 210, 4890, 12, 110, OWN_DATA);
    /* Filled again: merged again. */
    assert_int_equal(ownermap_set(&m, &e), 0);
    assert_int_equal(m.pieces, 3);
    expect(&m, 100, 5000, 12, 0, OWN_DATA);
    ownermap_release(&m);
}

static void clear_only_what_still_matches(void **state)
{
    struct ownermap m;
    struct owner_extent e = {10, 20, 5, 1000, OWN_DATA};
    struct owner_extent wrong[] = {
        {10, 20, 6, 1000, OWN_DATA},
        {10, 20, 5, 1001, OWN_DATA},
        {10, 20, 5, 1000, OWN_UNWRITTEN},
        {9, 21, 5, 1000, OWN_DATA},
        {10, 20, 5, 1000, OWN_NONE},
        {5000, 20, 5, 1000, OWN_DATA},
        {UINT64_MAX, UINT64_MAX, 5, 1000, OWN_DATA},
    };

    (void)state;
    assert_int_equal(ownermap_init(&m, 100), 0);
    assert_int_equal(ownermap_set(&m, &e), 0);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        assert_int_equal(ownermap_clear(&m, &wrong[i]), 0);
        expect(&m, 10, 20, 5, 1000, OWN_DATA);
    }
    /* Another owner took the middle: it keeps it. */
    e = (struct owner_extent){15, 5, 7, 0, OWN_DIR};
    assert_int_equal(ownermap_set(&m, &e), 0);
    e = (struct owner_extent){0, UINT64_MAX, 5, 990, OWN_DATA};
    assert_int_equal(ownermap_clear(&m, &e), 0);
    expect(&m, 0, 15, 0, 0, OWN_NONE);
    expect(&m, 15, 5, 7, 0, OWN_DIR);
    expect(&m, 20, 80, 0, 0, OWN_NONE);
    assert_int_equal(m.pieces, 1);
    ownermap_release(&m);
}

static void refuses_what_does_not_exist(void **state)
{
    struct ownermap m;
    struct owner_extent bad[] = {
        {101, 1, 5, 0, OWN_DATA},
        {100, 1, 5, 0, OWN_DATA},
        {90, 11, 5, 0, OWN_DATA},
        {1, UINT64_MAX, 5, 0, OWN_DATA},
        {UINT64_MAX, 2, 5, 0, OWN_DATA},
        {0, 10, 5, UINT32_MAX - 8, OWN_DATA},
        {0, 10, 5, 0, OWN_NONE},
        {0, 10, 5, 0, (enum owner_kind)16},
    };
    struct owner_extent e;
    uint64_t pos;

    (void)state;
    assert_int_equal(ownermap_init(&m, 100), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(ownermap_set(&m, &bad[i]), NF_EINVAL);
    expect(&m, 0, 100, 0, 0, OWN_NONE);
    e = (struct owner_extent){90, 10, 5, UINT32_MAX - 9, OWN_DATA};
    assert_int_equal(ownermap_set(&m, &e), 0);
    expect(&m, 90, 10, 5, UINT32_MAX - 9, OWN_DATA);
    assert_false(ownermap_get(&m, 100, &e));
    assert_int_equal(e.len, 0);
    pos = 100;
    assert_false(ownermap_next(&m, &pos, UINT64_MAX, &e));
    assert_int_equal(ownermap_init(&(struct ownermap){0}, UINT64_MAX), NF_ENOMEM);
    ownermap_release(&m);
}

static void growth_keeps_and_extends(void **state)
{
    struct ownermap m;
    struct owner_extent e = {2040, 20, 5, 0, OWN_DATA};

    (void)state;
    assert_int_equal(ownermap_init(&m, 2050), 0);
    assert_int_equal(ownermap_set(&m, &e), NF_EINVAL);
    assert_int_equal(ownermap_grow(&m, 9000), 0);
    assert_int_equal(ownermap_grow(&m, 10), 0);
    assert_int_equal(m.blocks, 9000);
    assert_int_equal(ownermap_set(&m, &e), 0);
    expect(&m, 2040, 20, 5, 0, OWN_DATA);
    ownermap_release(&m);
}

static void one_piece_per_block_is_the_worst(void **state)
{
    struct ownermap m;
    struct owner_extent e;

    (void)state;
    assert_int_equal(ownermap_init(&m, 2 * OWNERMAP_CHUNK), 0);
    for (uint32_t i = 0; i < m.blocks; i++) {
        uint32_t at = (i * 1365) % (uint32_t)m.blocks; /* odd: reaches all */

        e = (struct owner_extent){at, 1, at % 2 + 1, 7, OWN_XATTR};
        assert_int_equal(ownermap_set(&m, &e), 0);
    }
    assert_int_equal(m.pieces, m.blocks);
    for (uint32_t i = 0; i < m.blocks; i++)
        expect(&m, i, 1, i % 2 + 1, 7, OWN_XATTR);
    e = (struct owner_extent){1000, 2000, 9, 0, OWN_DATA};
    assert_int_equal(ownermap_set(&m, &e), 0);
    assert_int_equal(m.pieces, m.blocks - 2000 + 2);
    ownermap_release(&m);
}

static void random_owner_extent(struct owner_extent *e, uint64_t blocks)
{
    /* Few owners and logical positions tied to physical ones, so that
     * neighbours merge and clears match often. */
    *e = (struct owner_extent){
        .pblk = rnd((uint32_t)blocks),
        .len = rnd(8) == 0 ? rnd(6000) : rnd(24),
        .owner = 1 + rnd(3),
        .kind = (enum owner_kind)(1 + rnd(2)),
    };
    e->logical = rnd(4) ? (uint32_t)e->pblk + 50 : rnd(100);
}

static void agrees_with_the_model(void **state)
{
    static const uint64_t sizes[] = {1, 2047, 2048, 2049, 7000, 20000};
    uint64_t seed = (uint64_t)time(NULL);

    (void)state;
    if (getenv("NF_TEST_SEED"))
        seed = strtoull(getenv("NF_TEST_SEED"), NULL, 0);
    print_message("NF_TEST_SEED=%llu\n", (unsigned long long)seed);
    rng = seed * 2 + 1;
    for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++) {
        struct ownermap_model model = {0};
        struct ownermap m;

        assert_int_equal(ownermap_init(&m, sizes[s]), 0);
        model_grow(&model, sizes[s]);
        for (int op = 0; op < 4000; op++) {
            struct owner_extent e;

            random_owner_extent(&e, m.blocks);
            if (rnd(5) < 3) {
                assert_int_equal(ownermap_set(&m, &e), model_set(&model, &e));
            } else {
                assert_int_equal(ownermap_clear(&m, &e), 0);
                model_clear(&model, &e);
            }
            model_compare(&model, &m, e.pblk > 30 ? e.pblk - 30 : 0, e.pblk + e.len + 30);
            model_compare_get(&model, &m, rnd((uint32_t)m.blocks + 2));
            if (op % 200 == 0) {
                uint64_t more = m.blocks + rnd(50);

                assert_int_equal(ownermap_grow(&m, more), 0);
                model_grow(&model, more);
                model_compare(&model, &m, 0, m.blocks);
                model_compare_pieces(&model, &m);
            }
        }
        model_compare(&model, &m, 0, m.blocks);
        model_compare_pieces(&model, &m);
        free(model.block);
        ownermap_release(&m);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_extent_over_chunks),
        cmocka_unit_test(clear_only_what_still_matches),
        cmocka_unit_test(refuses_what_does_not_exist),
        cmocka_unit_test(growth_keeps_and_extends),
        cmocka_unit_test(one_piece_per_block_is_the_worst),
        cmocka_unit_test(agrees_with_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
