/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Telling text from bytes. */
#ifndef NF_UTF8_H
#define NF_UTF8_H

#include <stddef.h>
#include <stdint.h>

/* Length of the UTF-8 sequence at @p, of @n > 0 bytes; 0 if there is none (RFC
 * 3629: no surrogates, nothing overlong, nothing beyond U+10FFFF). */
static inline size_t nf_utf8_length(const uint8_t *p, size_t n)
{
    size_t len;
    uint32_t c;

    if (p[0] < 0x80)
        return 1;
    len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;
    if (p[0] < 0xc2 || p[0] > 0xf4 || len > n)
        return 0;
    c = p[0] & (0xffu >> (len + 1));
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3fu);
    }
    if ((len == 3 && (c < 0x800 || (c >= 0xd800 && c <= 0xdfff))) ||
        (len == 4 && (c < 0x10000 || c > 0x10ffff)))
        return 0;
    return len;
}

#endif
