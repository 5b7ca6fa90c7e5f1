/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An arena: memory handed out in pieces and taken back all at once, with a
 * bound, so that decoding hostile input cannot take more than was granted.
 * Not thread-safe.
 */
#ifndef NF_ARENA_H
#define NF_ARENA_H

#include <stddef.h>
#include <stdint.h>

struct nf_arena_chunk;

struct nf_arena {
    size_t limit; /* bytes that may be handed out between two resets */
    size_t used;  /* bytes handed out since the last reset */
    struct nf_arena_chunk *chunks; /* newest first */
};

/* Ready @a to hand out at most @limit bytes. Takes no memory yet. */
void nf_arena_init(struct nf_arena *a, size_t limit);

/* Memory aligned for any type, valid until reset; null beyond the limit or
 * without memory. Not zeroed. */
void *nf_arena_alloc(struct nf_arena *a, size_t size);

/* Take everything back; keeps one chunk for reuse. */
void nf_arena_reset(struct nf_arena *a);

/* Give all memory back to the system. */
void nf_arena_release(struct nf_arena *a);

#endif
