/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A treap: a search tree by position and a heap by random priority, which
 * keeps it shallow whatever order the ranges come in.
 */
#include "common/rangeset.h"

#include <stdlib.h>

#include "common/error.h"

struct nf_rangeset_node {
    struct nf_range range;
    uint32_t prio;
    struct nf_rangeset_node *left, *right;
};

static uint32_t next_random(struct nf_rangeset *s)
{
    s->seed ^= s->seed << 13;
    s->seed ^= s->seed >> 17;
    s->seed ^= s->seed << 5;
    return s->seed;
}

void nf_rangeset_release(struct nf_rangeset *s)
{
    struct nf_rangeset_node *n = s->root;

    /* Rotate left children up until there are none: no recursion, no stack. */
    while (n) {
        struct nf_rangeset_node *left = n->left;

        if (left) {
            n->left = left->right;
            left->right = n;
            n = left;
        } else {
            struct nf_rangeset_node *right = n->right;

            free(n);
            n = right;
        }
    }
    s->root = NULL;
    s->count = 0;
}

bool nf_rangeset_next(const struct nf_rangeset *s, uint64_t pos, struct nf_range *range)
{
    const struct nf_rangeset_node *n = s->root, *best = NULL;

    while (n) {
        if (n->range.end > pos) {
            best = n;
            n = n->left;
        } else {
            n = n->right;
        }
    }
    if (best)
        *range = best->range;
    return best != NULL;
}

/* Take the node of the range that starts at @start out of the tree. */
static struct nf_rangeset_node *take(struct nf_rangeset *s, uint64_t start)
{
    struct nf_rangeset_node **at = &s->root, *n, *left, *right;

    while ((*at)->range.start != start)
        at = start < (*at)->range.start ? &(*at)->left : &(*at)->right;
    n = *at;
    left = n->left;
    right = n->right;
    while (left && right) {
        if (left->prio > right->prio) {
            *at = left;
            at = &left->right;
            left = *at;
        } else {
            *at = right;
            at = &right->left;
            right = *at;
        }
    }
    *at = left ? left : right;
    s->count--;
    return n;
}

static void insert(struct nf_rangeset *s, struct nf_rangeset_node *n)
{
    struct nf_rangeset_node **at = &s->root, **left = &n->left, **right = &n->right, *rest;

    while (*at && (*at)->prio >= n->prio)
        at = n->range.start < (*at)->range.start ? &(*at)->left : &(*at)->right;
    rest = *at;
    *at = n;
    /* Split what was below by position into n's two sides. */
    while (rest) {
        if (rest->range.start < n->range.start) {
            *left = rest;
            left = &rest->right;
            rest = rest->right;
        } else {
            *right = rest;
            right = &rest->left;
            rest = rest->left;
        }
    }
    *left = *right = NULL;
    s->count++;
}

int nf_rangeset_add(struct nf_rangeset *s, uint64_t start, uint64_t end)
{
    struct nf_rangeset_node *n = NULL;
    struct nf_range r;

    if (start >= end)
        return NF_OK;
    /* Every range that overlaps or touches becomes part of the new one; the
     * first one's node is used again. */
    while (nf_rangeset_next(s, start > 0 ? start - 1 : 0, &r) && r.start <= end) {
        if (r.start <= start && r.end >= end && !n)
            return NF_OK;
        if (r.start < start)
            start = r.start;
        if (r.end > end)
            end = r.end;
        free(n);
        n = take(s, r.start);
    }
    if (!n)
        n = malloc(sizeof(*n));
    if (!n)
        return NF_ENOMEM;
    n->range.start = start;
    n->range.end = end;
    n->prio = next_random(s);
    insert(s, n);
    return NF_OK;
}
