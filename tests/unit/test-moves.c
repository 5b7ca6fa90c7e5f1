/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moved blocks, against a model: a file as an array of blocks, random calls
 * that collapse, insert, punch and write, and a reader who knows only the moves.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bdi/ext4/moves.h"

#define BLOCKS 200

/* What is mapped where: 0 is a hole; UNWRITTEN on top of a place. */
#define UNWRITTEN (1u << 31)

static uint64_t state;

static unsigned below(unsigned n)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)(state >> 33) % n;
}

static void to_map(const uint32_t *file, struct block_map *m)
{
    memset(m, 0, sizeof(*m));
    m->ext = calloc(BLOCKS, sizeof(*m->ext));
    assert_non_null(m->ext);
    for (uint32_t i = 0; i < BLOCKS; i++) {
        struct map_extent *last = m->n ? &m->ext[m->n - 1] : NULL;
        uint32_t place = file[i] & ~UNWRITTEN;
        bool unwritten = file[i] & UNWRITTEN;

        if (!file[i])
            continue;
        if (last && last->lblk + last->len == i && last->pblk + last->len == place &&
            last->unwritten == unwritten)
            last->len++;
        else
            m->ext[m->n++] = (struct map_extent){i, 1, place, unwritten};
    }
}

static void from_map(const struct block_map *m, uint32_t *file)
{
    memset(file, 0, BLOCKS * sizeof(*file));
    for (size_t i = 0; i < m->n; i++) {
        for (uint32_t j = 0; j < m->ext[i].len; j++) {
            uint32_t place = (uint32_t)m->ext[i].pblk + j;

            assert_in_range(m->ext[i].lblk + j, 0, BLOCKS - 1);
            file[m->ext[i].lblk + j] = place | (m->ext[i].unwritten ? UNWRITTEN : 0);
        }
    }
}

/* What a reader sees of a block. */
static uint32_t seen(uint32_t block)
{
    return block & UNWRITTEN ? 0 : block;
}

static void change(uint32_t *file, unsigned op, uint32_t *fresh)
{
    uint32_t at = below(BLOCKS - 20), len = 1 + below(12);

    switch (op) {
    case 0: /* collapse */
        memmove(file + at, file + at + len, (BLOCKS - at - len) * sizeof(*file));
        memset(file + BLOCKS - len, 0, len * sizeof(*file));
        break;
    case 1: /* insert; what would be pushed out must not be there */
        for (uint32_t i = BLOCKS - len; i < BLOCKS; i++) {
            if (file[i])
                return;
        }
        memmove(file + at + len, file + at, (BLOCKS - at - len) * sizeof(*file));
        memset(file + at, 0, len * sizeof(*file));
        break;
    case 2: /* punch */
        memset(file + at, 0, len * sizeof(*file));
        break;
    case 3: /* preallocate holes */
        for (uint32_t i = at; i < at + len; i++)
            file[i] = file[i] ? file[i] : (*fresh)++ | UNWRITTEN;
        break;
    case 4: /* write */
        for (uint32_t i = at; i < at + len; i++)
            file[i] = file[i] ? file[i] & ~UNWRITTEN : (*fresh)++;
        break;
    case 5: /* somewhere else on the disk */
        for (uint32_t i = at; i < at + len; i++)
            file[i] = file[i] ? (*fresh)++ : 0;
        break;
    }
}

static void one_round(uint64_t seed)
{
    uint32_t before[BLOCKS] = {0}, now[BLOCKS], reader[BLOCKS], after[BLOCKS], fresh = 1000;
    struct block_map old_map, new_map;
    struct moves moves;

    state = seed;
    for (unsigned i = 0; i < 20; i++)
        change(before, 2 + below(4), &fresh);
    memcpy(now, before, sizeof(now));
    for (unsigned i = 1 + below(6); i > 0; i--)
        change(now, below(6), &fresh);

    to_map(before, &old_map);
    to_map(now, &new_map);
    assert_int_equal(moves_find(&old_map, &new_map, &moves), 0);
    for (unsigned i = 0; i < BLOCKS; i++)
        reader[i] = seen(before[i]);
    for (size_t i = 0; i < moves.n; i++) {
        const struct move *m = &moves.list[i];

        assert_true(m->len > 0 && m->from != m->to);
        memmove(reader + m->to, reader + m->from, m->len * sizeof(*reader));
    }
    from_map(moves.n ? &moves.after : &old_map, after);
    for (unsigned i = 0; i < BLOCKS; i++) {
        if (seen(after[i]) != reader[i])
            fail_msg("seed %llu: block %u reads %u, not %u", (unsigned long long)seed, i,
                     reader[i], seen(after[i]));
        /* All calls keep the order, so whatever is still there was found. */
        for (unsigned j = 0; seen(now[i]) && j < BLOCKS; j++) {
            if (before[j] == now[i] && after[i] != now[i])
                fail_msg("seed %llu: block %u came from %u, unnoticed", (unsigned long long)seed, i,
                         j);
        }
    }
    moves_release(&moves);
    block_map_release(&old_map);
    block_map_release(&new_map);
}

static void against_model(void **unused)
{
    (void)unused;
    for (uint64_t seed = 1; seed <= 2000; seed++)
        one_round(seed);
}

static void find(uint32_t n, const uint32_t *a, const uint32_t *b, struct moves *moves)
{
    uint32_t before[BLOCKS] = {0}, now[BLOCKS] = {0};
    struct block_map old_map, new_map;

    memcpy(before, a, n * sizeof(*a));
    memcpy(now, b, n * sizeof(*b));
    to_map(before, &old_map);
    to_map(now, &new_map);
    assert_int_equal(moves_find(&old_map, &new_map, moves), 0);
    block_map_release(&old_map);
    block_map_release(&new_map);
}

/* Holes between runs that move alike move with them. */
static void one_for_a_sparse_file(void **unused)
{
    const uint32_t a[8] = {9, 9 | UNWRITTEN, 20, 0, 30, 0, 0, 40};
    const uint32_t b[8] = {20, 0, 30, 0, 0, 40};
    struct moves moves;

    (void)unused;
    find(8, a, b, &moves);
    assert_int_equal(moves.n, 1);
    assert_memory_equal(&moves.list[0], (&(struct move){2, 0, 6}), sizeof(struct move));
    moves_release(&moves);
}

static void nothing_moved(void **unused)
{
    const uint32_t a[6] = {5, 6, 0, 8, 9}, appended[] = {5, 6, 7, 8, 9, 10};
    const uint32_t elsewhere[] = {55, 56, 0, 58, 59}, unwritten[5] = {5 | UNWRITTEN, 6};
    struct moves moves;

    (void)unused;
    find(6, a, appended, &moves);
    assert_int_equal(moves.n, 0);
    moves_release(&moves);
    find(5, a, elsewhere, &moves);
    assert_int_equal(moves.n, 0);
    moves_release(&moves);
    find(5, a, unwritten, &moves);
    assert_int_equal(moves.n, 0);
    moves_release(&moves);
}

/* Against the order, only what can be told is told. */
static void swapped(void **unused)
{
    const uint32_t a[] = {5, 6}, b[] = {6, 5};
    struct moves moves;

    (void)unused;
    find(2, a, b, &moves);
    assert_int_equal(moves.n, 1);
    assert_memory_equal(&moves.list[0], (&(struct move){1, 0, 1}), sizeof(struct move));
    moves_release(&moves);
}

/* A damaged map that names one block many times is not worth a look. */
static void claimed_twice(void **unused)
{
    const uint32_t a[6] = {5, 0, 5, 0, 5}, b[] = {0, 5, 0, 5, 0, 5};
    struct moves moves;

    (void)unused;
    find(6, a, b, &moves);
    assert_int_equal(moves.n, 0);
    moves_release(&moves);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(against_model),
        cmocka_unit_test(one_for_a_sparse_file),
        cmocka_unit_test(nothing_moved),
        cmocka_unit_test(swapped),
        cmocka_unit_test(claimed_twice),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
