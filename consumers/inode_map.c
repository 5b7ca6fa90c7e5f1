/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "consumers/inode_map.h"

#include <stdlib.h>

#include "common/error.h"

/* Inode numbers come in runs; the multiplier (2^64 / phi) spreads them. */
static size_t home(const struct nf_inode_map *m, uint32_t inode)
{
    return (size_t)((inode * UINT64_C(0x9e3779b97f4a7c15)) >> 32) & (m->size - 1);
}

void nf_inode_map_release(struct nf_inode_map *m)
{
    free(m->slots);
    *m = (struct nf_inode_map){ 0 };
}

/* The slot of @inode, or the free one where it would go. */
static size_t probe(const struct nf_inode_map *m, uint32_t inode)
{
    size_t i = home(m, inode);

    while (m->slots[i].inode != 0 && m->slots[i].inode != inode)
        i = (i + 1) & (m->size - 1);
    return i;
}

struct nf_inode_map_slot *nf_inode_map_find(const struct nf_inode_map *m, uint32_t inode)
{
    size_t i;

    if (m->size == 0 || inode == 0)
        return NULL;
    i = probe(m, inode);
    return m->slots[i].inode == inode ? &m->slots[i] : NULL;
}

static int grow(struct nf_inode_map *m)
{
    struct nf_inode_map bigger = { .size = m->size ? m->size * 2 : 256, .used = m->used };

    bigger.slots = calloc(bigger.size, sizeof(*bigger.slots));
    if (!bigger.slots)
        return NF_ENOMEM;
    for (size_t i = 0; i < m->size; i++)
        if (m->slots[i].inode != 0)
            bigger.slots[probe(&bigger, m->slots[i].inode)] = m->slots[i];
    free(m->slots);
    *m = bigger;
    return 0;
}

int nf_inode_map_set(struct nf_inode_map *m, uint32_t inode, uint32_t generation, uint64_t ours)
{
    size_t i;

    if (inode == 0)
        return NF_EINVAL;
    if (m->used >= m->size / 3 * 2) {
        int rc = grow(m);
        if (rc < 0)
            return rc;
    }
    i = probe(m, inode);
    if (m->slots[i].inode == 0)
        m->used++;
    m->slots[i] = (struct nf_inode_map_slot){ inode, generation, ours };
    return 0;
}

void nf_inode_map_remove(struct nf_inode_map *m, uint32_t inode)
{
    size_t mask = m->size - 1, gap, i;

    if (!nf_inode_map_find(m, inode))
        return;
    /* Close the gap, so that probing never meets a hole that was in use. */
    gap = probe(m, inode);
    for (i = (gap + 1) & mask; m->slots[i].inode != 0; i = (i + 1) & mask) {
        size_t h = home(m, m->slots[i].inode);

        if (((i - h) & mask) >= ((i - gap) & mask)) {
            m->slots[gap] = m->slots[i];
            gap = i;
        }
    }
    m->slots[gap].inode = 0;
    m->used--;
}
