/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A growing byte buffer, for output that is built piece by piece.  Zero
 * initialised is empty and valid.  Not thread-safe.
 */
#ifndef NF_BUFFER_H
#define NF_BUFFER_H

#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"
#include "common/error.h"

struct nf_buffer {
    uint8_t *data; /* owned; null while cap is 0 */
    size_t len;
    size_t cap;
};

/* Release the memory; the buffer is empty and usable again. */
void nf_buffer_release(struct nf_buffer *b);

/* Make room for @n more bytes and return where they go (len is unchanged), or
 * null without memory. */
uint8_t *nf_buffer_reserve(struct nf_buffer *b, size_t n);

/* Append; 0 or NF_ENOMEM, in which case nothing was appended. */
int nf_buffer_append(struct nf_buffer *b, const void *data, size_t n);
int nf_buffer_puts(struct nf_buffer *b, const char *s);
int nf_buffer_printf(struct nf_buffer *b, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* Forget the first @n bytes. */
void nf_buffer_consume(struct nf_buffer *b, size_t n);

static inline void nf_buffer_clear(struct nf_buffer *b)
{
    b->len = 0;
}

static inline struct nf_bytes nf_buffer_bytes(const struct nf_buffer *b)
{
    return (struct nf_bytes){ b->data, b->len };
}

#endif
