/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void nf_buffer_release(struct nf_buffer *b)
{
    free(b->data);
    *b = (struct nf_buffer){ 0 };
}

uint8_t *nf_buffer_reserve(struct nf_buffer *b, size_t n)
{
    size_t want, cap;
    uint8_t *data;

    if (__builtin_add_overflow(b->len, n, &want))
        return NULL;
    if (want > b->cap || !b->data) {
        cap = b->cap ? b->cap : 256;
        while (cap < want)
            cap = cap > SIZE_MAX / 2 ? want : cap * 2;
        data = realloc(b->data, cap);
        if (!data)
            return NULL;
        b->data = data;
        b->cap = cap;
    }
    return b->data + b->len;
}

int nf_buffer_append(struct nf_buffer *b, const void *data, size_t n)
{
    uint8_t *to = nf_buffer_reserve(b, n);

    if (!to)
        return NF_ENOMEM;
    if (n)
        memcpy(to, data, n);
    b->len += n;
    return 0;
}

int nf_buffer_puts(struct nf_buffer *b, const char *s)
{
    return nf_buffer_append(b, s, strlen(s));
}

int nf_buffer_printf(struct nf_buffer *b, const char *fmt, ...)
{
    va_list ap, again;
    uint8_t *to;
    int n;

    va_start(ap, fmt);
    va_copy(again, ap);
    n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    to = n < 0 ? NULL : nf_buffer_reserve(b, (size_t)n + 1);
    if (to) {
        vsnprintf((char *)to, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return to ? 0 : NF_ENOMEM;
}

void nf_buffer_consume(struct nf_buffer *b, size_t n)
{
    if (n >= b->len) {
        b->len = 0;
        return;
    }
    memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}
