/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bdi/siphash.h"

/* The example of the paper's appendix, and the empty message's published value. */
static void test_vectors(void **state)
{
    const struct siphash_key key = {0x0706050403020100, 0x0f0e0d0c0b0a0908};
    uint8_t data[15];

    (void)state;
    for (uint8_t i = 0; i < sizeof(data); i++)
        data[i] = i;
    assert_true(siphash(key, data, sizeof(data)) == 0xa129ca6149be45e5);
    assert_true(siphash(key, data, 0) == 0x726fdb47dd0e0e31);
}

/* Every byte, the length and both halves of the key count. */
static void test_sensitive(void **state)
{
    const struct siphash_key key = {1, 2}, first = {3, 2}, second = {1, 3};
    uint8_t data[255] = {0};

    (void)state;
    for (size_t len = 0; len < sizeof(data); len++) {
        uint64_t h = siphash(key, data, len);

        assert_true(h != siphash(key, data, len + 1));
        assert_true(h != siphash(first, data, len));
        assert_true(h != siphash(second, data, len));
        for (size_t i = 0; i < len; i++) {
            data[i] = 1;
            assert_true(h != siphash(key, data, len));
            data[i] = 0;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vectors),
        cmocka_unit_test(test_sensitive),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
