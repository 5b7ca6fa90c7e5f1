/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Integers in bytes that came from outside: unaligned, of stated byte order.
 * Disk formats are never read by casting a struct over a buffer.
 */
#ifndef NF_BYTES_H
#define NF_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A borrowed run of bytes; not NUL-terminated, may hold any value. */
struct nf_bytes {
    const uint8_t *data;
    size_t len;
};

static inline uint16_t nf_le16(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] | b[1] << 8);
}

static inline uint32_t nf_le32(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)b[0] | (uint32_t)b[1] << 8 | (uint32_t)b[2] << 16 | (uint32_t)b[3] << 24;
}

static inline uint64_t nf_le64(const void *p)
{
    return nf_le32(p) | (uint64_t)nf_le32((const uint8_t *)p + 4) << 32;
}

static inline uint16_t nf_be16(const void *p)
{
    const uint8_t *b = p;
    return (uint16_t)(b[0] << 8 | b[1]);
}

static inline uint32_t nf_be32(const void *p)
{
    const uint8_t *b = p;
    return (uint32_t)b[0] << 24 | (uint32_t)b[1] << 16 | (uint32_t)b[2] << 8 | (uint32_t)b[3];
}

static inline uint64_t nf_be64(const void *p)
{
    return (uint64_t)nf_be32(p) << 32 | nf_be32((const uint8_t *)p + 4);
}

static inline void nf_put_le16(void *p, uint16_t v)
{
    uint8_t *b = p;
    b[0] = (uint8_t)v;
    b[1] = (uint8_t)(v >> 8);
}

static inline void nf_put_le32(void *p, uint32_t v)
{
    nf_put_le16(p, (uint16_t)v);
    nf_put_le16((uint8_t *)p + 2, (uint16_t)(v >> 16));
}

static inline void nf_put_le64(void *p, uint64_t v)
{
    nf_put_le32(p, (uint32_t)v);
    nf_put_le32((uint8_t *)p + 4, (uint32_t)(v >> 32));
}

static inline bool nf_is_zero(const void *p, size_t n)
{
    const uint8_t *b = p;

    return n == 0 || (b[0] == 0 && memcmp(b, b + 1, n - 1) == 0);
}

static inline bool nf_bytes_equal(struct nf_bytes a, struct nf_bytes b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}

#endif
