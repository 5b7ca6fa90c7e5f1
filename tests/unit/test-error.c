/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "common/error.h"

static void fills_text_and_returns_code(void **state)
{
    struct nf_error err;

    (void)state;
    assert_int_equal(nf_fail(&err, NF_EIO, "open %s", "x"), NF_EIO);
    assert_int_equal(err.code, NF_EIO);
    assert_string_equal(err.text, "open x");
    assert_int_equal(nf_fail_prefix(&err, "disk %d", 3), NF_EIO);
    assert_string_equal(err.text, "disk 3: open x");
}

static void text_may_be_its_own_argument(void **state)
{
    struct nf_error err;

    (void)state;
    nf_fail(&err, NF_EIO, "inner");
    nf_fail(&err, NF_EFORMAT, "outer (%s)", err.text);
    assert_string_equal(err.text, "outer (inner)");
}

static void long_text_is_cut(void **state)
{
    struct nf_error err;
    char big[2000];

    (void)state;
    memset(big, 'a', sizeof(big) - 1);
    big[sizeof(big) - 1] = '\0';
    nf_fail(&err, NF_EIO, "%s", big);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
    nf_fail_prefix(&err, "%s", big);
    assert_int_equal(strlen(err.text), sizeof(err.text) - 1);
}

static void null_is_allowed(void **state)
{
    (void)state;
    assert_int_equal(nf_fail(NULL, NF_EBUSY, "x"), NF_EBUSY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(fills_text_and_returns_code),
        cmocka_unit_test(text_may_be_its_own_argument),
        cmocka_unit_test(long_text_is_cut),
        cmocka_unit_test(null_is_allowed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
