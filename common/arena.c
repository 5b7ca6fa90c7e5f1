/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/arena.h"

#include <stdalign.h>
#include <stdlib.h>

#define CHUNK_MIN 65536u

struct nf_arena_chunk {
    struct nf_arena_chunk *next;
    size_t size; /* of data */
    size_t used;
    alignas(max_align_t) unsigned char data[];
};

void nf_arena_init(struct nf_arena *a, size_t limit)
{
    *a = (struct nf_arena){ .limit = limit };
}

void *nf_arena_alloc(struct nf_arena *a, size_t size)
{
    struct nf_arena_chunk *c = a->chunks;
    void *p;

    if (size > SIZE_MAX - alignof(max_align_t))
        return NULL;
    size = (size + alignof(max_align_t) - 1) & ~(alignof(max_align_t) - 1);
    if (size > a->limit - a->used)
        return NULL;
    if (!c || size > c->size - c->used) {
        size_t want = size > CHUNK_MIN ? size : CHUNK_MIN;

        /* Twice the last one each time, so that their number stays small. */
        if (c && c->size < SIZE_MAX / 4 && want < c->size * 2)
            want = c->size * 2;
        if (want > a->limit && size <= a->limit)
            want = a->limit > CHUNK_MIN ? a->limit : CHUNK_MIN;
        if (want > SIZE_MAX - sizeof(*c))
            return NULL;
        c = malloc(sizeof(*c) + want);
        if (!c)
            return NULL;
        c->next = a->chunks;
        c->size = want;
        c->used = 0;
        a->chunks = c;
    }
    p = c->data + c->used;
    c->used += size;
    a->used += size;
    return p;
}

void nf_arena_reset(struct nf_arena *a)
{
    struct nf_arena_chunk *keep = a->chunks;

    a->used = 0;
    if (!keep)
        return;
    /* Keep the newest, which is the largest, unless one large input made it
     * much larger than the usual ones need. */
    a->chunks = keep->next;
    nf_arena_release(a);
    if (keep->size > 64 * CHUNK_MIN) {
        free(keep);
        return;
    }
    keep->next = NULL;
    keep->used = 0;
    a->chunks = keep;
}

void nf_arena_release(struct nf_arena *a)
{
    while (a->chunks) {
        struct nf_arena_chunk *c = a->chunks;

        a->chunks = c->next;
        free(c);
    }
    a->used = 0;
}
