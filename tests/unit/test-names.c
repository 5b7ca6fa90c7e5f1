/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "bdi/ext4/names.h"
#include "common/error.h"

static uint64_t rng;

static uint32_t rnd(uint32_t below)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return (uint32_t)((rng >> 32) % below);
}

/* The naive index: a list, searched from end to end. */
struct list {
    struct name_ref *ref;
    size_t n, cap;
};

static bool same(const struct name_ref *a, const struct name_ref *b)
{
    return a->ino == b->ino && a->parent == b->parent && a->pblk == b->pblk &&
           a->offset == b->offset;
}

static size_t list_find(const struct list *l, const struct name_ref *r)
{
    size_t i = 0;

    while (i < l->n && !same(&l->ref[i], r))
        i++;
    return i;
}

static void list_add(struct list *l, const struct name_ref *r)
{
    if (list_find(l, r) < l->n)
        return;
    if (l->n == l->cap) {
        l->cap = l->cap * 2 + 64;
        l->ref = realloc(l->ref, l->cap * sizeof(*r));
        assert_non_null(l->ref);
    }
    l->ref[l->n++] = *r;
}

static bool list_remove(struct list *l, const struct name_ref *r)
{
    size_t i = list_find(l, r);

    if (i == l->n)
        return false;
    l->ref[i] = l->ref[--l->n];
    return true;
}

static size_t list_remove_all(struct list *l, uint32_t ino)
{
    size_t kept = 0, n = l->n;

    for (size_t i = 0; i < n; i++)
        if (l->ref[i].ino != ino)
            l->ref[kept++] = l->ref[i];
    l->n = kept;
    return n - kept;
}

/* @n gives each name of @ino that @l has, once, and no other. */
static void compare_ino(const struct names *n, const struct list *l, uint32_t ino)
{
    size_t cursor = 0, got = 0, want = 0;
    struct name_ref r;
    char *seen = calloc(1, l->n + 1);

    assert_non_null(seen);
    while (names_next(n, ino, &cursor, &r)) {
        size_t i = list_find(l, &r);

        assert_true(i < l->n);
        assert_false(seen[i]);
        seen[i] = 1;
        got++;
    }
    for (size_t i = 0; i < l->n; i++)
        want += l->ref[i].ino == ino;
    assert_int_equal(got, want);
    free(seen);
}

static void one_name_and_none(void **state)
{
    struct names n;
    struct name_ref r = {12, 2, 0xffffffffffffull, 65532}, got;
    size_t cursor = 0;

    (void)state;
    assert_int_equal(names_init(&n), 0);
    assert_false(names_next(&n, 12, &cursor, &got));
    assert_false(names_next(&n, 0, &cursor, &got));
    assert_false(names_remove(&n, &r));
    assert_int_equal(names_remove_all(&n, 12), 0);
    assert_int_equal(names_add(&n, &r), 0);
    assert_int_equal(names_add(&n, &r), 0);
    assert_int_equal(n.refs, 1);
    assert_true(names_next(&n, 12, &cursor, &got));
    assert_true(same(&r, &got));
    assert_false(names_next(&n, 12, &cursor, &got));
    assert_false(names_remove(&n, &(struct name_ref){12, 3, r.pblk, 65532}));
    assert_false(names_remove(&n, &(struct name_ref){12, 2, r.pblk - 1, 65532}));
    assert_false(names_remove(&n, &(struct name_ref){12, 2, r.pblk, 65528}));
    assert_true(names_remove(&n, &r));
    assert_false(names_remove(&n, &r));
    assert_int_equal(n.used, 0);
    assert_int_equal(n.refs, 0);
    names_release(&n);
}

static void refuses_what_does_not_fit(void **state)
{
    static const struct name_ref bad[] = {
        {0, 2, 5, 0}, {12, 0, 5, 0}, {12, 2, 1ull << 48, 0}, {12, 2, 5, 2}};
    struct names n;

    (void)state;
    assert_int_equal(names_init(&n), 0);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(names_add(&n, &bad[i]), NF_EINVAL);
        assert_false(names_remove(&n, &bad[i]));
    }
    assert_int_equal(n.refs, 0);
    names_release(&n);
}

static struct name_ref nth_link(uint32_t ino, uint32_t i)
{
    return (struct name_ref){ino, 2 + i / 300, 1000 + i / 60, (uint16_t)(i % 60 * 16)};
}

/* Two inodes with as many links as ext4 allows, one amid the other. Anything
 * quadratic takes minutes here under the sanitizers. */
static void many_links(void **state)
{
    enum { LINKS = 65000 };
    struct names n;
    struct name_ref r, last;
    size_t cursor = 0;
    uint32_t count = 0;

    (void)state;
    assert_int_equal(names_init(&n), 0);
    for (uint32_t i = 0; i < LINKS; i++)
        for (uint32_t ino = 50; ino < 52; ino++) {
            r = nth_link(ino, i);
            assert_int_equal(names_add(&n, &r), 0);
            assert_int_equal(names_add(&n, &r), 0);
        }
    assert_int_equal(n.refs, 2 * LINKS);
    assert_int_equal(n.used, 2);
    while (names_next(&n, 50, &cursor, &r))
        count++;
    assert_int_equal(count, LINKS);
    for (uint32_t i = 0; i < LINKS - 1; i++) {
        r = nth_link(50, i * 7919u % LINKS); /* coprime: each once */
        assert_true(names_remove(&n, &r));
        assert_false(names_remove(&n, &r));
    }
    last = nth_link(50, (LINKS - 1) * 7919u % LINKS);
    cursor = 0;
    assert_true(names_next(&n, 50, &cursor, &r));
    assert_true(same(&r, &last));
    assert_false(names_next(&n, 50, &cursor, &r));
    assert_true(names_remove(&n, &last));
    assert_int_equal(names_remove_all(&n, 51), LINKS);
    assert_int_equal(n.refs, 0);
    names_release(&n);
}

static void order_depends_on_the_calls_alone(void **state)
{
    struct names a, b;
    struct name_ref r, q;

    (void)state;
    assert_int_equal(names_init(&a), 0);
    assert_int_equal(names_init(&b), 0);
    b.seed ^= 0x123456789abcdefull;
    for (uint32_t i = 0; i < 5000; i++) {
        r = nth_link(1 + i % 37, i % 1201);
        if (i % 5 == 4) {
            assert_int_equal(names_remove(&a, &r), names_remove(&b, &r));
        } else {
            assert_int_equal(names_add(&a, &r), 0);
            assert_int_equal(names_add(&b, &r), 0);
        }
    }
    assert_true(a.refs > 1000);
    assert_int_equal(a.refs, b.refs);
    for (uint32_t ino = 1; ino <= 37; ino++) {
        size_t ca = 0, cb = 0;

        while (names_next(&a, ino, &ca, &r)) {
            assert_true(names_next(&b, ino, &cb, &q));
            assert_true(same(&r, &q));
        }
        assert_false(names_next(&b, ino, &cb, &q));
    }
    names_release(&a);
    names_release(&b);
}

static void agrees_with_a_list(void **state)
{
    uint64_t seed = (uint64_t)time(NULL);
    struct list l = {0};
    struct names n;

    (void)state;
    if (getenv("NF_TEST_SEED"))
        seed = strtoull(getenv("NF_TEST_SEED"), NULL, 0);
    print_message("NF_TEST_SEED=%llu\n", (unsigned long long)seed);
    rng = seed * 2 + 1;
    assert_int_equal(names_init(&n), 0);
    for (int op = 0; op < 40000; op++) {
        /* Grows, shrinks, grows; some inodes have many names. */
        bool growing = op / 8000 % 2 == 0;
        struct name_ref r = {rnd(4) ? 1 + rnd(400) : 1 + rnd(4), 1 + rnd(3), rnd(20),
                             (uint16_t)(rnd(8) * 4)};
        uint32_t what = rnd(1000);

        if (what < 3) {
            assert_int_equal(names_remove_all(&n, r.ino), list_remove_all(&l, r.ino));
        } else if (what < (growing ? 700 : 300)) {
            assert_int_equal(names_add(&n, &r), 0);
            list_add(&l, &r);
        } else {
            if (rnd(2) && l.n)
                r = l.ref[rnd((uint32_t)l.n)];
            assert_int_equal(names_remove(&n, &r), list_remove(&l, &r));
        }
        assert_int_equal(n.refs, l.n);
        if (op % 100 == 0)
            compare_ino(&n, &l, r.ino);
        if (op % 8000 == 7999)
            for (uint32_t ino = 0; ino <= 401; ino++)
                compare_ino(&n, &l, ino);
    }
    for (uint32_t ino = 0; ino <= 401; ino++)
        compare_ino(&n, &l, ino);
    free(l.ref);
    names_release(&n);
}

static void a_million_inodes(void **state)
{
    enum { INODES = 1000000 };
    struct mallinfo2 before = mallinfo2(), after;
    struct names n;

    (void)state;
    assert_int_equal(names_init(&n), 0);
    for (uint32_t i = 1; i <= INODES; i++) {
        struct name_ref r = {i, i / 100 + 1, i / 50 + 7, (uint16_t)(i % 50 * 20)};

        assert_int_equal(names_add(&n, &r), 0);
    }
    assert_int_equal(n.used, INODES);
    /* (With a sanitizer's malloc nothing is counted.) */
    after = mallinfo2();
    assert_true(after.uordblks + after.hblkhd - before.uordblks - before.hblkhd < 13 * INODES);
    for (uint32_t i = 1; i <= INODES; i++) {
        struct name_ref r;
        size_t cursor = 0;

        assert_true(names_next(&n, i, &cursor, &r));
        assert_true(r.ino == i && r.parent == i / 100 + 1 && r.pblk == i / 50 + 7 &&
                    r.offset == i % 50 * 20);
        assert_false(names_next(&n, i, &cursor, &r));
        if (i % 3 == 0)
            assert_int_equal(names_remove_all(&n, i), 1);
    }
    assert_int_equal(n.used, INODES - INODES / 3);
    names_release(&n);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(one_name_and_none),
        cmocka_unit_test(refuses_what_does_not_fit),
        cmocka_unit_test(many_links),
        cmocka_unit_test(order_depends_on_the_calls_alone),
        cmocka_unit_test(agrees_with_a_list),
        cmocka_unit_test(a_million_inodes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
