/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/siphash.h"

#include <string.h>
#include <sys/auxv.h>

#include "common/bytes.h"

struct siphash_key siphash_process_key(void)
{
    struct siphash_key key = {0x6e65617266696c64, 0x6e616d65736c6f74};
    const void *random = (const void *)getauxval(AT_RANDOM);

    if (random)
        memcpy(&key, random, sizeof(key));
    return key;
}

static uint64_t rotate(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}

static void rounds(uint64_t v[4], unsigned n)
{
    while (n-- > 0) {
        v[0] += v[1];
        v[2] += v[3];
        v[1] = rotate(v[1], 13) ^ v[0];
        v[3] = rotate(v[3], 16) ^ v[2];
        v[0] = rotate(v[0], 32);
        v[2] += v[1];
        v[0] += v[3];
        v[1] = rotate(v[1], 17) ^ v[2];
        v[3] = rotate(v[3], 21) ^ v[0];
        v[2] = rotate(v[2], 32);
    }
}

static void absorb(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    rounds(v, 2);
    v[0] ^= word;
}

uint64_t siphash(struct siphash_key key, const void *data, size_t len)
{
    uint64_t v[4] = {key.k0 ^ 0x736f6d6570736575, key.k1 ^ 0x646f72616e646f6d,
                     key.k0 ^ 0x6c7967656e657261, key.k1 ^ 0x7465646279746573};
    const uint8_t *p = data;
    uint8_t last[8] = {0};
    size_t left = len;

    for (; left >= 8; left -= 8, p += 8)
        absorb(v, nf_le64(p));
    if (left)
        memcpy(last, p, left);
    last[7] = (uint8_t)len;
    absorb(v, nf_le64(last));
    v[2] ^= 0xff;
    rounds(v, 4);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}
