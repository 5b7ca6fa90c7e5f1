/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "tests/models/held-model.h"

static uint64_t rng;
static uint8_t data[1 << 16];

static uint32_t rnd(uint32_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)((rng >> 32) % below);
}

static void expect(struct held *h, uint64_t offset, uint64_t length, enum held_state state,
                   uint64_t run, uint8_t byte)
{
    struct held_run r;

    held_lookup(h, offset, length, &r);
    assert_int_equal(r.state, state);
    assert_int_equal(r.offset, offset);
    assert_int_equal(r.length, run);
    if (state == HELD_BYTES)
        for (uint64_t i = 0; i < run; i++)
            assert_int_equal(r.data[i], byte);
    else
        assert_null(r.data);
}

static void knows_what_was_written(void **state)
{
    struct held *h = held_new(1 << 20);

    (void)state;
    assert_non_null(h);
    memset(data, 'a', sizeof(data));
    expect(h, 0, UINT64_MAX, HELD_UNKNOWN, UINT64_MAX, 0);
    held_write(h, 512, 1024, data);
    expect(h, 0, 4096, HELD_UNKNOWN, 512, 0);
    expect(h, 512, 4096, HELD_BYTES, 1024, 'a');
    expect(h, 1024, 4096, HELD_BYTES, 512, 'a');
    expect(h, 1536, 1 << 30, HELD_UNKNOWN, 1 << 30, 0);
    /* Runs of bytes end with their page. */
    held_write(h, 3584, 1024, data);
    expect(h, 3584, 4096, HELD_BYTES, 512, 'a');
    expect(h, 4096, 4096, HELD_BYTES, 512, 'a');
    expect(h, 1536, 512, HELD_UNKNOWN, 512, 0);
    held_forget(h, 0, UINT64_MAX);
    expect(h, 0, 1 << 20, HELD_UNKNOWN, 1 << 20, 0);
    assert_int_equal(held_bytes(h), 0);
    held_free(h);
}

static void zeros_take_no_pages(void **state)
{
    struct held *h = held_new(1 << 20);
    uint64_t one;

    (void)state;
    assert_non_null(h);
    memset(data, 'a', sizeof(data));
    held_write(h, 0, 4096, NULL);
    one = held_bytes(h);
    assert_true(one < 4096);
    memset(data, 0, 8192);
    held_write(h, 4096, 8192, data);
    assert_int_equal(held_bytes(h), one);
    expect(h, 512, 1 << 20, HELD_ZERO, 3 * 4096 - 512, 0);
    /* Bytes amid zeros: the page's other sectors still read as zeros. */
    held_write(h, 4096 + 512, 512, data + 10000);
    assert_true(held_bytes(h) > one);
    expect(h, 0, 1 << 20, HELD_ZERO, 4096, 0);
    expect(h, 4096, 512, HELD_BYTES, 512, 0);
    expect(h, 4096 + 512, 512, HELD_BYTES, 512, 'a');
    expect(h, 8192, 1 << 20, HELD_ZERO, 4096, 0);
    /* Zeros over the only bytes give the page back. */
    held_forget(h, 4096, 512);
    held_forget(h, 4096 + 1024, 3072);
    held_write(h, 4096 + 512, 512, NULL);
    assert_int_equal(held_bytes(h), one);
    expect(h, 4096 + 512, 512, HELD_ZERO, 512, 0);
    held_free(h);
}

static void large_ranges_cost_little(void **state)
{
    struct held *h = held_new(4 << 20);
    const uint64_t tera = (uint64_t)1 << 40;

    (void)state;
    assert_non_null(h);
    memset(data, 'a', sizeof(data));
    held_write(h, tera + 4096, 4096, data);
    held_write(h, 512, 512, data);
    /* A million times across the whole disk. */
    for (int i = 0; i < 1000000; i++) {
        struct held_run r;

        held_lookup(h, 1024, 1ull << 62, &r);
        assert_true(r.state == HELD_UNKNOWN && r.length == tera + 4096 - 1024);
        held_forget(h, 8192, tera - 8192);
    }
    /* Zeroing the whole disk leaves the cache bounded, and nothing stale. */
    for (int i = 0; i < 10; i++)
        held_write(h, 0, 1ull << 62, NULL);
    assert_true(held_bytes(h) <= 4 << 20);
    expect(h, 0, 1024, HELD_UNKNOWN, 1024, 0);
    expect(h, tera, 1 << 20, HELD_UNKNOWN, 1 << 20, 0);
    expect(h, (1ull << 62) - 4096, 4096, HELD_ZERO, 4096, 0);
    held_free(h);
}

static void least_recently_written_goes_first(void **state)
{
    struct held *h = held_new(4 << 20);
    struct held_run r;
    uint64_t kept = 0;

    (void)state;
    assert_non_null(h);
    memset(data, 'a', sizeof(data));
    held_write(h, 1ull << 40, 4096, data);
    for (uint64_t at = 0; at < 16 << 20; at += sizeof(data)) {
        held_write(h, at, sizeof(data), data);
        assert_true(held_bytes(h) <= 4 << 20);
        if (at % (1 << 20) == 0) /* looked at is not enough, written is */
            held_write(h, (1ull << 40) + 512, 512, data);
    }
    expect(h, 1ull << 40, 4096, HELD_BYTES, 4096, 'a');
    expect(h, 0, 1 << 20, HELD_UNKNOWN, 1 << 20, 0);
    expect(h, (16 << 20) - 4096, 8192, HELD_BYTES, 4096, 'a');
    for (uint64_t at = 0; at < 16 << 20; at += r.length) {
        held_lookup(h, at, (16 << 20) - at, &r);
        kept += r.state == HELD_BYTES ? r.length : 0;
    }
    assert_true(kept > 3 << 20);
    held_free(h);
}

static void tiny_limits_forget(void **state)
{
    static const size_t limits[] = {0, 100, 800, 4096, 6000, 20000};

    (void)state;
    memset(data, 'a', sizeof(data));
    for (size_t i = 0; i < sizeof(limits) / sizeof(limits[0]); i++) {
        struct held *h = held_new(limits[i]);
        struct held_model *m = calloc(1, sizeof(*m));

        assert_non_null(h);
        assert_non_null(m);
        for (uint64_t at = 0; at < 300000; at += 30208) {
            held_write(h, at, 8192, NULL);
            model_write(m, at, 8192, NULL);
            held_write(h, at + 1024, sizeof(data), data);
            model_write(m, at + 1024, sizeof(data), data);
            assert_true(held_bytes(h) <= limits[i]);
            model_compare(m, h, 0, MODEL_BYTES, false);
        }
        free(m);
        held_free(h);
    }
}

/* Offsets are multiples of 512; if one is not, the sector is unknown. */
static void parts_of_sectors_are_unknown(void **state)
{
    struct held *h = held_new(1 << 20);

    (void)state;
    assert_non_null(h);
    memset(data, 'a', sizeof(data));
    held_write(h, 0, 4096, data);
    memset(data, 'b', sizeof(data));
    memset(data + 412, 'c', 512);
    held_write(h, 100, 1000, data);
    expect(h, 0, 4096, HELD_UNKNOWN, 512, 0);
    expect(h, 512, 4096, HELD_BYTES, 512, 'c');
    expect(h, 1024, 4096, HELD_UNKNOWN, 512, 0);
    expect(h, 1536, 4096, HELD_BYTES, 4096 - 1536, 'a');
    held_write(h, 2050, 5, NULL);
    expect(h, 2048, 4096, HELD_UNKNOWN, 512, 0);
    held_write(h, UINT64_MAX - 2000, UINT64_MAX, NULL);
    expect(h, UINT64_MAX - 1023, 512, HELD_ZERO, 512, 0);
    held_free(h);
}

static void agrees_with_the_model(void **state)
{
    static const size_t limits[] = {64 << 20, 60000, 300000};
    uint64_t seed = (uint64_t)time(NULL);

    (void)state;
    if (getenv("NF_TEST_SEED"))
        seed = strtoull(getenv("NF_TEST_SEED"), NULL, 0);
    print_message("NF_TEST_SEED=%llu\n", (unsigned long long)seed);
    rng = seed * 2 + 1;
    for (size_t l = 0; l < sizeof(limits) / sizeof(limits[0]); l++) {
        struct held *h = held_new(limits[l]);
        struct held_model *m = calloc(1, sizeof(*m));

        assert_non_null(h);
        assert_non_null(m);
        for (int op = 0; op < 5000; op++) {
            uint64_t at = (uint64_t)rnd(MODEL_BYTES / 512) * 512;
            uint64_t len = (1 + rnd(rnd(10) ? 12 : 128)) * 512;

            if (len > MODEL_BYTES - at)
                len = MODEL_BYTES - at;
            switch (rnd(4)) {
            case 0:
                held_write(h, at, len, NULL);
                model_write(m, at, len, NULL);
                break;
            case 1:
                if (rnd(10) == 0)
                    len = UINT64_MAX;
                held_forget(h, at, len);
                model_forget(m, at, len);
                break;
            default:
                for (uint64_t i = 0; i < len; i += 512)
                    memset(data + i, rnd(3) ? (int)rnd(256) : 0, 512);
                held_write(h, at, len, data);
                model_write(m, at, len, data);
            }
            assert_true(held_bytes(h) <= limits[l]);
            model_compare(m, h, at > 8192 ? at - 8192 : 0, 100000, l == 0);
            if (op % 100 == 0)
                model_compare(m, h, 0, MODEL_BYTES, l == 0);
        }
        model_compare(m, h, 0, MODEL_BYTES, l == 0);
        held_forget(h, 0, MODEL_BYTES);
        assert_int_equal(held_bytes(h), 0);
        free(m);
        held_free(h);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(knows_what_was_written),
        cmocka_unit_test(zeros_take_no_pages),
        cmocka_unit_test(large_ranges_cost_little),
        cmocka_unit_test(least_recently_written_goes_first),
        cmocka_unit_test(tiny_limits_forget),
        cmocka_unit_test(parts_of_sectors_are_unknown),
        cmocka_unit_test(agrees_with_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
