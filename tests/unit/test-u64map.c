/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hash map against an array that knows what must be in it.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bdi/u64map.h"
#include "common/error.h"

enum { KEYS = 512, ROUNDS = 200000 };

/* Keys as the engine has them: small, dense, and with high bits; and the ends. */
static uint64_t key_of(uint32_t i)
{
    if (i == 0)
        return 0;
    if (i == 1)
        return UINT64_MAX;
    if (i % 3 == 0)
        return (uint64_t)i << 40;
    return i % 3 == 1 ? i : (uint64_t)i << 32 | i;
}

static uint32_t next(uint64_t *state)
{
    *state = *state * 6364136223846793005ull + 1442695040888963407ull;
    return (uint32_t)(*state >> 33);
}

static void check_all(const struct u64map *m, char *const *model)
{
    bool seen[KEYS] = {0};
    size_t pos = 0, n = 0, wanted = 0;
    uint64_t key;
    void *value;

    while (u64map_next(m, &pos, &key, &value)) {
        uint32_t i = 0;

        while (i < KEYS && key_of(i) != key)
            i++;
        assert_in_range(i, 0, KEYS - 1);
        assert_false(seen[i]); /* each once */
        assert_ptr_equal(value, model[i]);
        seen[i] = true;
        n++;
    }
    for (uint32_t i = 0; i < KEYS; i++) {
        assert_ptr_equal(u64map_get(m, key_of(i)), model[i]);
        wanted += model[i] != NULL;
    }
    assert_int_equal(n, wanted);
    assert_int_equal(m->used, wanted);
}

/* Phases that mostly fill and mostly drain make long runs and close them. */
static void test_model(void **state)
{
    static char values[KEYS][2];
    char *model[KEYS] = {0};
    struct u64map m;
    uint64_t rng = 20240229;

    (void)state;
    u64map_init(&m);
    for (uint32_t round = 0; round < ROUNDS; round++) {
        uint32_t i = next(&rng) % KEYS;
        bool fill = round / 5000 % 2 == 0;

        if (next(&rng) % 8 < (fill ? 6 : 2)) {
            char *v = values[i] + next(&rng) % 2;

            assert_int_equal(u64map_put(&m, key_of(i), v), 0);
            model[i] = v;
        } else {
            assert_ptr_equal(u64map_remove(&m, key_of(i)), model[i]);
            model[i] = NULL;
        }
        if (round % 1000 == 0)
            check_all(&m, model);
    }
    check_all(&m, model);
    for (uint32_t i = 0; i < KEYS; i++) {
        assert_ptr_equal(u64map_remove(&m, key_of(i)), model[i]);
        model[i] = NULL;
    }
    check_all(&m, model);
    u64map_release(&m);
}

static void test_empty(void **state)
{
    struct u64map m;
    size_t pos = 0;
    void *v;

    (void)state;
    u64map_init(&m);
    assert_null(u64map_get(&m, 1));
    assert_null(u64map_remove(&m, 1));
    assert_false(u64map_next(&m, &pos, NULL, &v));
    u64map_clear(&m);
    u64map_release(&m);
}

static void test_clear(void **state)
{
    struct u64map m;
    size_t cap, pos = 0;
    void *v;

    (void)state;
    u64map_init(&m);
    for (uint64_t i = 0; i < 100; i++)
        assert_int_equal(u64map_put(&m, i, &m), 0);
    cap = m.cap;
    u64map_clear(&m);
    assert_int_equal(m.used, 0);
    assert_int_equal(m.cap, cap); /* kept for the next step */
    assert_null(u64map_get(&m, 5));
    assert_false(u64map_next(&m, &pos, NULL, &v));
    assert_int_equal(u64map_put(&m, 5, &cap), 0);
    assert_ptr_equal(u64map_get(&m, 5), &cap);
    u64map_release(&m);
    assert_null(u64map_get(&m, 5));
}

static void test_replace(void **state)
{
    struct u64map m;
    int a, b;

    (void)state;
    u64map_init(&m);
    assert_int_equal(u64map_put(&m, 0, &a), 0);
    assert_int_equal(u64map_put(&m, 0, &b), 0);
    assert_int_equal(m.used, 1);
    assert_ptr_equal(u64map_get(&m, 0), &b);
    u64map_release(&m);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_replace),
        cmocka_unit_test(test_clear),
        cmocka_unit_test(test_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
