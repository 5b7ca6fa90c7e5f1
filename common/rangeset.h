/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A set of byte ranges, kept disjoint and as few as possible.  Adding costs
 * the logarithm of how many there are, whatever their lengths.
 */
#ifndef NF_RANGESET_H
#define NF_RANGESET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct nf_range {
    uint64_t start, end; /* end is the first byte after */
};

struct nf_rangeset {
    struct nf_rangeset_node *root;
    size_t count;  /* ranges in it */
    uint32_t seed; /* of the tree's balance; not of what it holds */
};

#define NF_RANGESET_INIT { .root = NULL, .count = 0, .seed = 0x9e3779b9u }

void nf_rangeset_release(struct nf_rangeset *s); /* leaves it empty and usable */

/* Add @start..@end (nothing if empty). 0 or NF_ENOMEM, then nothing changed. */
int nf_rangeset_add(struct nf_rangeset *s, uint64_t start, uint64_t end);

/* The first range that ends after @pos, that is, contains it or comes next. */
bool nf_rangeset_next(const struct nf_rangeset *s, uint64_t pos, struct nf_range *range);

#endif
