/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/journal_private.h"

#include <stdlib.h>

#include <ext2fs/ext2fs.h>

enum {
    SUPER_CHECKSUM = 0xfc,
    COMMIT_TYPE = 12,     /* u8 */
    COMMIT_SIZE = 13,     /* u8 */
    COMMIT_CHECKSUM = 16, /* the first of eight words; the others are unused */
    COMMIT_HEADER_LEN = 64,

    V1_TYPE_CRC32 = 1,
    V1_SIZE_CRC32 = 4,
};

#define CACHE_KNOWN (UINT64_C(1) << 32)

static const uint8_t zeros[1024];

static uint32_t crc_zeros(uint32_t crc, size_t len)
{
    while (len > 0) {
        size_t n = len < sizeof(zeros) ? len : sizeof(zeros);

        crc = ext2fs_crc32c_le(crc, zeros, n);
        len -= n;
    }
    return crc;
}

/* crc32c of @len bytes with the four at @hole taken as zero. */
static uint32_t crc_with_hole(uint32_t crc, const uint8_t *p, size_t len, size_t hole)
{
    crc = ext2fs_crc32c_le(crc, p, hole);
    crc = crc_zeros(crc, 4);
    return ext2fs_crc32c_le(crc, p + hole + 4, len - hole - 4);
}

bool journal_super_csum_ok(const uint8_t *super)
{
    return nf_be32(super + SUPER_CHECKSUM) ==
           crc_with_hole(~0u, super, JBD_SUPER_LEN, SUPER_CHECKSUM);
}

uint32_t journal_csum_seed(const uint8_t uuid[16])
{
    return ext2fs_crc32c_le(~0u, uuid, 16);
}

bool journal_tail_csum_ok(const struct journal *j, const uint8_t *block)
{
    size_t tail = j->block_size - JBD_TAIL_LEN;

    return !journal_csum_v2or3(j) ||
           nf_be32(block + tail) == crc_with_hole(j->csum_seed, block, j->block_size, tail);
}

bool journal_commit_csum_ok(const struct journal *j, const uint8_t *block)
{
    uint32_t found = nf_be32(block + COMMIT_CHECKSUM);
    uint32_t crc;

    if (!journal_csum_v2or3(j))
        return true;
    if (found == crc_with_hole(j->csum_seed, block, j->block_size, COMMIT_CHECKSUM))
        return true;
    /* A device may have written only the first sector of the block, and recent
     * kernels accept that: the header is all there is to a commit block. */
    crc = crc_with_hole(j->csum_seed, block, COMMIT_HEADER_LEN, COMMIT_CHECKSUM);
    return found == crc_zeros(crc, j->block_size - COMMIT_HEADER_LEN);
}

uint32_t journal_data_csum(struct journal *j, uint32_t lblk, const uint8_t *block)
{
    uint64_t *cached = j->scratch->cache ? &j->scratch->cache[lblk] : NULL;
    uint8_t seq[4];
    uint32_t crc;

    if (cached && *cached)
        return (uint32_t)*cached;
    seq[0] = (uint8_t)(j->next_tid >> 24);
    seq[1] = (uint8_t)(j->next_tid >> 16);
    seq[2] = (uint8_t)(j->next_tid >> 8);
    seq[3] = (uint8_t)j->next_tid;
    crc = ext2fs_crc32c_le(j->csum_seed, seq, sizeof(seq));
    crc = ext2fs_crc32c_le(crc, block, j->block_size);
    if (cached)
        *cached = crc | CACHE_KNOWN;
    return crc;
}

uint32_t journal_v1_csum(struct journal *j, uint32_t sum, uint32_t lblk, const uint8_t *block)
{
    struct journal_scratch *s = j->scratch;
    uint32_t shifted = 0;

    if (!s->cache)
        return ext2fs_crc32_be(sum, block, j->block_size);
    /* crc(sum, block) = crc(sum, zeros) ^ crc(0, block), and the first is
     * linear in sum. */
    if (!s->cache[lblk])
        s->cache[lblk] = ext2fs_crc32_be(0, block, j->block_size) | CACHE_KNOWN;
    for (unsigned i = 0; i < 32; i++) {
        if (sum & (1u << i))
            shifted ^= s->be_shift[i];
    }
    return shifted ^ (uint32_t)s->cache[lblk];
}

bool journal_v1_commit_ok(const uint8_t *commit, uint32_t sum)
{
    uint8_t type = commit[COMMIT_TYPE], size = commit[COMMIT_SIZE];
    uint32_t found = nf_be32(commit + COMMIT_CHECKSUM);

    /* A commit block without any checksum is valid, too: the feature may have
     * been turned on while the log held older transactions. */
    return (type == V1_TYPE_CRC32 && size == V1_SIZE_CRC32 && found == sum) ||
           (type == 0 && size == 0 && found == 0);
}

void journal_cache_start(struct journal *j)
{
    struct journal_scratch *s = j->scratch;

    if (s->cache || (!journal_csum_v2or3(j) && !(j->features_compat & JBD_COMPAT_CHECKSUM)))
        return;
    s->cache = calloc(j->maxlen, sizeof(*s->cache));
    if (!s->cache)
        return;
    for (unsigned i = 0; i < 32; i++) {
        uint32_t crc = 1u << i;

        for (uint32_t done = 0; done < j->block_size; done += sizeof(zeros))
            crc = ext2fs_crc32_be(crc, zeros, sizeof(zeros));
        s->be_shift[i] = crc;
    }
}

void journal_cache_drop(struct journal *j)
{
    free(j->scratch->cache);
    j->scratch->cache = NULL;
}

void journal_cache_forget(struct journal *j, uint32_t lblk)
{
    if (j->scratch->cache)
        j->scratch->cache[lblk] = 0;
}
