/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "bdi/ext4/xattr_owners.h"
#include "common/error.h"

struct fixture {
    struct ownermap m;
    struct xattr_owners x;
};

static int setup(void **state)
{
    static struct fixture f;

    *state = &f;
    xattr_owners_init(&f.x);
    return ownermap_init(&f.m, 1000);
}

static int teardown(void **state)
{
    struct fixture *f = *state;

    xattr_owners_release(&f->x);
    ownermap_release(&f->m);
    return 0;
}

static uint32_t owner_of(struct fixture *f, uint64_t block)
{
    struct owner_extent e;

    return ownermap_get(&f->m, block, &e) && e.kind == OWN_XATTR ? e.owner : 0;
}

/* The owner map always names one that is left. */
static void shared_and_left(void **state)
{
    struct fixture *f = *state;
    const struct xattr_sharers *s;

    for (int twice = 0; twice < 2; twice++) {
        assert_int_equal(xattr_owners_add(&f->x, &f->m, 7, 30), 0);
        assert_int_equal(owner_of(f, 7), 30);
    }
    assert_null(xattr_owners_of(&f->x, 7));
    for (int twice = 0; twice < 2; twice++) {
        assert_int_equal(xattr_owners_add(&f->x, &f->m, 7, 20), 0);
        assert_int_equal(xattr_owners_add(&f->x, &f->m, 7, 40), 0);
    }
    s = xattr_owners_of(&f->x, 7);
    assert_non_null(s);
    assert_int_equal(s->n, 3);
    assert_int_equal(s->ino[0], 20);
    assert_int_equal(s->ino[1], 30);
    assert_int_equal(s->ino[2], 40);
    assert_int_equal(xattr_owners_remove(&f->x, &f->m, 7, 99), 0);
    assert_int_equal(xattr_owners_remove(&f->x, &f->m, 7, 30), 0);
    assert_int_equal(xattr_owners_of(&f->x, 7)->n, 2);
    assert_int_equal(xattr_owners_remove(&f->x, &f->m, 7, 20), 0);
    assert_int_equal(owner_of(f, 7), 40);
    assert_null(xattr_owners_of(&f->x, 7));
    assert_int_equal(xattr_owners_remove(&f->x, &f->m, 7, 40), 0);
    assert_int_equal(owner_of(f, 7), 0);
}

/* A block that became something else in between is nobody's any more. */
static void used_again(void **state)
{
    struct fixture *f = *state;
    const struct owner_extent data = {8, 1, 50, 0, OWN_DATA};
    struct owner_extent now;

    assert_int_equal(xattr_owners_add(&f->x, &f->m, 8, 1), 0);
    assert_int_equal(xattr_owners_add(&f->x, &f->m, 8, 2), 0);
    assert_int_equal(ownermap_set(&f->m, &data), 0);
    assert_int_equal(xattr_owners_remove(&f->x, &f->m, 8, 1), 0);
    assert_true(ownermap_get(&f->m, 8, &now));
    assert_int_equal(now.kind, OWN_DATA);
    assert_null(xattr_owners_of(&f->x, 8));
    assert_int_equal(xattr_owners_add(&f->x, &f->m, 8, 3), 0);
    assert_int_equal(owner_of(f, 8), 3);
    assert_null(xattr_owners_of(&f->x, 8));
}

/* As many as ext4 allows; what a guest claims beyond costs nothing. */
static void no_more_than_the_kernel(void **state)
{
    struct fixture *f = *state;

    for (uint32_t i = 0; i < 2000; i++)
        assert_int_equal(xattr_owners_add(&f->x, &f->m, 9, 5000 - i), i >= XATTR_OWNERS_MAX);
    assert_int_equal(xattr_owners_of(&f->x, 9)->n, XATTR_OWNERS_MAX);
    assert_int_equal(xattr_owners_add(&f->x, &f->m, 9, 5000), 0);
    for (uint32_t i = 0; i < 2000; i++)
        assert_int_equal(xattr_owners_remove(&f->x, &f->m, 9, 5000 - i), 0);
    assert_int_equal(owner_of(f, 9), 0);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(shared_and_left),
        TEST(used_again),
        TEST(no_more_than_the_kernel),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
