/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes jbd2 logs for tests, from the format's description alone: it shares
 * no code with the reader, not even the checksums' library.
 */
#ifndef TESTS_MODELS_JOURNAL_LOG_H
#define TESTS_MODELS_JOURNAL_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum {
    JLOG_CSUM_V1 = 1 << 16, /* the only compat feature; the others are incompat bits */
    JLOG_REVOKE = 1,
    JLOG_64BIT = 2,
    JLOG_ASYNC = 4,
    JLOG_CSUM_V2 = 8,
    JLOG_CSUM_V3 = 0x10,
    JLOG_FAST_COMMIT = 0x20,
};
#define JLOG_MAGIC 0xc03b3998u

struct jlog {
    uint8_t *data;
    uint32_t block_size, blocks, first;
    uint32_t features;
    uint8_t uuid[16];
    uint32_t tid; /* of the transaction being written */
    uint32_t at;  /* log block to write next */
    uint32_t v1;  /* v1 checksum so far */
};

static inline void jlog_put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static inline void jlog_put32(uint8_t *p, uint32_t v)
{
    jlog_put16(p, v >> 16);
    jlog_put16(p + 2, v);
}

static inline uint32_t jlog_get32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline uint32_t jlog_crc32c(uint32_t crc, const uint8_t *p, size_t n)
{
    static uint32_t table[256];

    if (!table[1]) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i;

            for (int k = 0; k < 8; k++)
                c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;
            table[i] = c;
        }
    }
    while (n--)
        crc = table[(crc ^ *p++) & 0xff] ^ crc >> 8;
    return crc;
}

static inline uint32_t jlog_crc32_be(uint32_t crc, const uint8_t *p, size_t n)
{
    static uint32_t table[256];

    if (!table[1]) {
        for (uint32_t i = 0; i < 256; i++) {
            uint32_t c = i << 24;

            for (int k = 0; k < 8; k++)
                c = c & 0x80000000u ? c << 1 ^ 0x04c11db7u : c << 1;
            table[i] = c;
        }
    }
    while (n--)
        crc = table[(crc >> 24 ^ *p++) & 0xff] ^ crc << 8;
    return crc;
}

static inline uint8_t *jlog_block(const struct jlog *l, uint32_t lblk)
{
    return l->data + (size_t)lblk * l->block_size;
}

static inline bool jlog_v2or3(const struct jlog *l)
{
    return l->features & (JLOG_CSUM_V2 | JLOG_CSUM_V3);
}

static inline uint32_t jlog_seed(const struct jlog *l)
{
    return jlog_crc32c(~0u, l->uuid, 16);
}

/* Write @block's checksum over all of it (that field as zero) at @field. */
static inline void jlog_seal(const struct jlog *l, uint8_t *block, size_t field)
{
    if (!jlog_v2or3(l))
        return;
    jlog_put32(block + field, 0);
    jlog_put32(block + field, jlog_crc32c(jlog_seed(l), block, l->block_size));
}

static inline void jlog_super(struct jlog *l, uint32_t sequence, uint32_t start)
{
    uint8_t *sb = l->data;

    memset(sb, 0, l->block_size);
    jlog_put32(sb, JLOG_MAGIC);
    jlog_put32(sb + 0x04, 4);
    jlog_put32(sb + 0x0c, l->block_size);
    jlog_put32(sb + 0x10, l->blocks);
    jlog_put32(sb + 0x14, l->first);
    jlog_put32(sb + 0x18, sequence);
    jlog_put32(sb + 0x1c, start);
    jlog_put32(sb + 0x24, l->features & JLOG_CSUM_V1 ? 1 : 0);
    jlog_put32(sb + 0x28, l->features & 0xffff);
    memcpy(sb + 0x30, l->uuid, 16);
    jlog_put32(sb + 0x40, 1);
    if (jlog_v2or3(l)) {
        sb[0x50] = 4;
        jlog_put32(sb + 0xfc, jlog_crc32c(~0u, sb, 1024));
    }
}

/* An empty log; l->data is malloc'ed, the caller frees it. */
static inline void jlog_init(struct jlog *l, uint32_t block_size, uint32_t blocks,
                             uint32_t features)
{
    memset(l, 0, sizeof(*l));
    l->block_size = block_size;
    l->blocks = blocks;
    l->first = 1;
    l->at = 1;
    l->features = features;
    for (unsigned i = 0; i < 16; i++)
        l->uuid[i] = (uint8_t)(0xa0 + 7 * i);
    l->data = calloc(blocks, block_size);
    if (!l->data)
        abort();
    jlog_super(l, 1, 0);
}

static inline uint8_t *jlog_take(struct jlog *l, uint32_t type)
{
    uint8_t *p = jlog_block(l, l->at);

    if (++l->at == l->blocks)
        l->at = l->first;
    if (type) {
        memset(p, 0, l->block_size);
        jlog_put32(p, JLOG_MAGIC);
        jlog_put32(p + 4, type);
        jlog_put32(p + 8, l->tid);
    }
    return p;
}

static inline void jlog_begin(struct jlog *l, uint32_t tid)
{
    l->tid = tid;
    l->v1 = ~0u;
}

/* What block @fsblock holds in version @v: distinct for each pair. An odd @v
 * begins with the magic, so its copy must be escaped. */
static inline void jlog_content(const struct jlog *l, uint8_t *out, uint64_t fsblock, uint32_t v)
{
    for (uint32_t i = 0; i < l->block_size; i++)
        out[i] = (uint8_t)(fsblock * 31 + v * 17 + i * (1 + v % 5));
    if (v & 1)
        jlog_put32(out, JLOG_MAGIC);
}

static inline uint32_t jlog_tag_len(const struct jlog *l)
{
    if (l->features & JLOG_CSUM_V3)
        return 16;
    return (l->features & JLOG_64BIT ? 12u : 8u) + (l->features & JLOG_CSUM_V2 ? 2u : 0u);
}

/* One descriptor with its copies; copy i is version @versions[i]. */
static inline void jlog_descriptor(struct jlog *l, const uint64_t *fsblocks,
                                   const uint32_t *versions, uint32_t n)
{
    uint8_t *d = jlog_take(l, 1), *t = d + 12;
    uint32_t mine = l->at;

    for (uint32_t i = 0; i < n; i++) {
        uint8_t *copy = jlog_take(l, 0), seq[4];
        uint32_t flags = 0, crc;

        jlog_content(l, copy, fsblocks[i], versions[i]);
        if (jlog_get32(copy) == JLOG_MAGIC) {
            memset(copy, 0, 4);
            flags |= 1;
        }
        flags |= i > 0 ? 2 : 0;
        flags |= i + 1 == n ? 8 : 0;
        jlog_put32(seq, l->tid);
        crc = jlog_crc32c(jlog_crc32c(jlog_seed(l), seq, 4), copy, l->block_size);
        jlog_put32(t, (uint32_t)fsblocks[i]);
        jlog_put16(t + 6, flags);
        if (l->features & JLOG_CSUM_V2)
            jlog_put16(t + 4, crc);
        if (l->features & JLOG_64BIT)
            jlog_put32(t + 8, (uint32_t)(fsblocks[i] >> 32));
        if (l->features & JLOG_CSUM_V3)
            jlog_put32(t + 12, crc);
        t += jlog_tag_len(l);
        if (i == 0) {
            memcpy(t, l->uuid, 16);
            t += 16;
        }
    }
    jlog_seal(l, d, l->block_size - 4);
    l->v1 = jlog_crc32_be(l->v1, d, l->block_size);
    for (uint32_t i = 0; i < n; i++) {
        l->v1 = jlog_crc32_be(l->v1, jlog_block(l, mine), l->block_size);
        if (++mine == l->blocks)
            mine = l->first;
    }
}

static inline void jlog_revoke(struct jlog *l, const uint64_t *fsblocks, uint32_t n)
{
    uint8_t *r = jlog_take(l, 5), *p = r + 16;

    for (uint32_t i = 0; i < n; i++) {
        if (l->features & JLOG_64BIT) {
            jlog_put32(p, (uint32_t)(fsblocks[i] >> 32));
            p += 4;
        }
        jlog_put32(p, (uint32_t)fsblocks[i]);
        p += 4;
    }
    jlog_put32(r + 12, (uint32_t)(p - r));
    jlog_seal(l, r, l->block_size - 4);
}

static inline void jlog_commit(struct jlog *l, uint64_t sec, uint32_t nsec)
{
    uint8_t *c = jlog_take(l, 2);

    if (l->features & JLOG_CSUM_V1) {
        c[12] = 1;
        c[13] = 4;
        jlog_put32(c + 16, l->v1);
    }
    jlog_put32(c + 0x30, (uint32_t)(sec >> 32));
    jlog_put32(c + 0x34, (uint32_t)sec);
    jlog_put32(c + 0x38, nsec);
    jlog_seal(l, c, 16);
}

#endif
