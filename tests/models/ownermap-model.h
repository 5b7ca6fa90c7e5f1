/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The owner map as it would be with unlimited memory: one record per block.
 * The unit test and the fuzz target drive this and the real one alike.
 */
#ifndef TESTS_OWNERMAP_MODEL_H
#define TESTS_OWNERMAP_MODEL_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/ownermap.h"
#include "common/error.h"

#define MODEL_CHECK(cond)                                                                          \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct model_block {
    uint32_t owner, logical;
    enum owner_kind kind;
};

struct ownermap_model {
    struct model_block *block;
    uint64_t blocks;
};

static inline void model_grow(struct ownermap_model *m, uint64_t blocks)
{
    if (blocks <= m->blocks)
        return;
    m->block = realloc(m->block, blocks * sizeof(*m->block));
    MODEL_CHECK(m->block);
    memset(m->block + m->blocks, 0, (blocks - m->blocks) * sizeof(*m->block));
    m->blocks = blocks;
}

static inline int model_set(struct ownermap_model *m, const struct owner_extent *e)
{
    if (e->pblk > m->blocks || e->len > m->blocks - e->pblk || e->kind == OWN_NONE ||
        e->kind > OWN_LAST || e->logical + e->len > (uint64_t)1 << 32)
        return NF_EINVAL;
    for (uint64_t i = 0; i < e->len; i++)
        m->block[e->pblk + i] = (struct model_block){e->owner, e->logical + (uint32_t)i, e->kind};
    return 0;
}

static inline void model_clear(struct ownermap_model *m, const struct owner_extent *e)
{
    for (uint64_t i = 0; i < e->len && e->pblk + i < m->blocks; i++) {
        struct model_block *b = &m->block[e->pblk + i];

        if (b->kind != OWN_NONE && b->kind == e->kind && b->owner == e->owner &&
            b->logical == e->logical + i)
            *b = (struct model_block){0};
    }
}

static inline bool model_joined(const struct model_block *a, const struct model_block *b)
{
    return a->kind == b->kind && a->owner == b->owner &&
           (a->kind == OWN_NONE || (uint64_t)a->logical + 1 == b->logical);
}

/* Everything the map says about [from, to) is what the model says. */
static inline void model_compare(const struct ownermap_model *m, const struct ownermap *real,
                                 uint64_t from, uint64_t to)
{
    uint64_t pos = from, at = from;
    struct owner_extent e;

    MODEL_CHECK(real->blocks == m->blocks);
    if (to > m->blocks)
        to = m->blocks;
    while (ownermap_next(real, &pos, to, &e)) {
        MODEL_CHECK(e.pblk == at && e.len > 0 && e.len <= to - at && pos == at + e.len);
        for (uint64_t i = 0; i < e.len; i++) {
            const struct model_block *b = &m->block[at + i];

            MODEL_CHECK(b->kind == e.kind && b->owner == e.owner);
            MODEL_CHECK(e.kind == OWN_NONE || b->logical == e.logical + i);
        }
        /* Runs are as long as they go. */
        MODEL_CHECK(pos == to || !model_joined(&m->block[pos - 1], &m->block[pos]));
        at = pos;
    }
    MODEL_CHECK(at == (from < to ? to : from));
}

/* ownermap_get() of one block. */
static inline void model_compare_get(const struct ownermap_model *m, const struct ownermap *real,
                                     uint64_t pblk)
{
    struct owner_extent e = {.len = 99};
    bool got = ownermap_get(real, pblk, &e);

    MODEL_CHECK(got == ownermap_get(real, pblk, NULL));
    MODEL_CHECK(e.pblk == pblk && got == (e.kind != OWN_NONE));
    if (pblk >= m->blocks) {
        MODEL_CHECK(!got && e.len == 0);
        return;
    }
    MODEL_CHECK(e.len > 0 && e.len <= m->blocks - pblk);
    for (uint64_t i = 0; i < e.len; i++) {
        const struct model_block *b = &m->block[pblk + i];

        MODEL_CHECK(b->kind == e.kind && b->owner == e.owner);
        MODEL_CHECK(!got || b->logical == e.logical + i);
    }
}

/* Pieces are merged within a chunk, so their number is known. */
static inline void model_compare_pieces(const struct ownermap_model *m,
                                        const struct ownermap *real)
{
    size_t pieces = 0;

    for (uint64_t i = 0; i < m->blocks; i++)
        if (m->block[i].kind != OWN_NONE &&
            (i % OWNERMAP_CHUNK == 0 || !model_joined(&m->block[i - 1], &m->block[i])))
            pieces++;
    MODEL_CHECK(real->pieces == pieces);
}

#endif
