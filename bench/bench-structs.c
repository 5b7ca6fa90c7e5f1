/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The owner map and the name index at the size of a large file system, beside
 * the plainest structures that could do: a sorted array that is never changed,
 * and a chained hash table. Absolute times say little across machines; the
 * ratios to the plain ones do. A ratio below 1 is faster or smaller.
 *
 * usage: bench-structs [FILES]
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "bdi/ext4/names.h"
#include "bdi/ext4/ownermap.h"

static uint32_t files = 1000000;
static uint32_t *order; /* 0..files-1, shuffled */
static uint64_t sink;   /* keeps the compiler from dropping look-ups */

static double now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static size_t memory(void)
{
    struct mallinfo2 m = mallinfo2();

    return m.uordblks + m.hblkhd;
}

static void need(int ok)
{
    if (!ok) {
        fprintf(stderr, "bench-structs: out of memory\n");
        exit(1);
    }
}

static void shuffle(void)
{
    uint64_t rng = 88172645463325252ull; /* the same work every time */

    order = malloc(files * sizeof(*order));
    need(order != NULL);
    for (uint32_t i = 0; i < files; i++) {
        uint32_t j;

        rng ^= rng << 13;
        rng ^= rng >> 7;
        rng ^= rng << 17;
        j = (uint32_t)((rng >> 32) % (i + 1));
        order[i] = order[j];
        order[j] = i;
    }
}

static void report(const char *what, double seconds, double plain)
{
    printf("%-18s %8.0f ns/op %8.2f x plain\n", what, seconds / files * 1e9, seconds / plain);
}

static void report_memory(const char *what, size_t bytes, size_t plain)
{
    printf("%-18s %8.1f B/file %7.2f x plain\n", what, (double)bytes / files,
           (double)bytes / (double)plain);
}

/* A file: three blocks in a row, then a free one. */
static struct owner_extent extent(uint32_t i)
{
    return (struct owner_extent){(uint64_t)i * 4, 3, i + 12, 0, OWN_DATA};
}

static int by_block(const void *a, const void *b)
{
    const struct owner_extent *x = a, *y = b;

    return x->pblk < y->pblk ? -1 : x->pblk > y->pblk;
}

static void bench_owners(void)
{
    struct owner_extent *plain, e;
    struct ownermap m;
    double t[6];
    size_t base = memory(), plain_bytes, bytes;

    t[0] = now();
    plain = malloc(files * sizeof(*plain));
    need(plain != NULL);
    for (uint32_t i = 0; i < files; i++)
        plain[i] = extent(order[i]);
    qsort(plain, files, sizeof(*plain), by_block);
    plain_bytes = memory() - base;
    t[1] = now();
    for (uint32_t i = 0; i < files; i++) {
        e = extent(order[i]);
        sink += ((struct owner_extent *)bsearch(&e, plain, files, sizeof(e), by_block))->owner;
    }
    t[2] = now();
    free(plain);

    base = memory();
    need(ownermap_init(&m, (uint64_t)files * 4) == 0);
    for (uint32_t i = 0; i < files; i++) {
        e = extent(order[i]);
        need(ownermap_set(&m, &e) == 0);
    }
    bytes = memory() - base;
    t[3] = now();
    for (uint32_t i = 0; i < files; i++) {
        ownermap_get(&m, (uint64_t)order[i] * 4, &e);
        sink += e.owner;
    }
    t[4] = now();
    for (uint32_t i = 0; i < files; i++) {
        e = extent(order[i]);
        need(ownermap_clear(&m, &e) == 0);
    }
    t[5] = now();
    report("ownermap set", t[3] - t[2], t[1] - t[0]);
    report("ownermap get", t[4] - t[3], t[2] - t[1]);
    report("ownermap clear", t[5] - t[4], t[1] - t[0]);
    report_memory("ownermap memory", bytes, plain_bytes);
    ownermap_release(&m);
}

struct node {
    struct node *next;
    struct name_ref ref;
};

static struct name_ref name(uint32_t i)
{
    return (struct name_ref){i + 12, i / 100 + 2, i / 50 + 1000, (uint16_t)(i % 50 * 20)};
}

static void bench_names(void)
{
    struct node **plain, *n, **at;
    struct names names;
    struct name_ref r;
    double t[7];
    size_t base = memory(), plain_bytes, bytes;

    t[0] = now();
    plain = calloc(files, sizeof(*plain));
    need(plain != NULL);
    for (uint32_t i = 0; i < files; i++) {
        r = name(order[i]);
        n = malloc(sizeof(*n));
        need(n != NULL);
        *n = (struct node){plain[r.ino % files], r};
        plain[r.ino % files] = n;
    }
    plain_bytes = memory() - base;
    t[1] = now();
    for (uint32_t i = 0; i < files; i++) {
        r = name(order[i]);
        for (n = plain[r.ino % files]; n->ref.ino != r.ino; n = n->next)
            ;
        sink += n->ref.pblk;
    }
    t[2] = now();
    for (uint32_t i = 0; i < files; i++) {
        r = name(order[i]);
        for (at = &plain[r.ino % files]; (*at)->ref.ino != r.ino; at = &(*at)->next)
            ;
        n = *at;
        *at = n->next;
        free(n);
    }
    free(plain);

    t[3] = now();
    base = memory();
    need(names_init(&names) == 0);
    for (uint32_t i = 0; i < files; i++) {
        r = name(order[i]);
        need(names_add(&names, &r) == 0);
    }
    bytes = memory() - base;
    t[4] = now();
    for (uint32_t i = 0; i < files; i++) {
        size_t cursor = 0;

        sink += names_next(&names, order[i] + 12, &cursor, &r) ? r.pblk : 0;
    }
    t[5] = now();
    for (uint32_t i = 0; i < files; i++) {
        r = name(order[i]);
        sink += names_remove(&names, &r);
    }
    t[6] = now();
    report("names add", t[4] - t[3], t[1] - t[0]);
    report("names find", t[5] - t[4], t[2] - t[1]);
    report("names remove", t[6] - t[5], t[3] - t[2]);
    report_memory("names memory", bytes, plain_bytes);
    names_release(&names);
}

int main(int argc, char **argv)
{
    if (argc > 1)
        files = (uint32_t)strtoul(argv[1], NULL, 10);
    if (argc > 2 || files < 1 || files > 100000000) {
        fprintf(stderr, "usage: bench-structs [FILES]\n");
        return 2;
    }
    shuffle();
    printf("%u files, one extent and one name each, in random order\n", files);
    bench_owners();
    bench_names();
    free(order);
    return sink == 0;
}
