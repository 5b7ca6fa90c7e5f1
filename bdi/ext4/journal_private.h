/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the journal module share. Nothing else includes this.
 *
 * The log area [first, maxlen) is a ring. Inside this module a block of it is
 * mostly named by its distance from next_block, going round once: distances
 * grow in the order in which the transaction was laid out.
 */
#ifndef BDI_EXT4_JOURNAL_PRIVATE_H
#define BDI_EXT4_JOURNAL_PRIVATE_H

#include "bdi/ext4/journal.h"
#include "common/bytes.h"

/* Layout facts of jbd2; everything is big-endian. */
enum {
    JBD_HEADER_LEN = 12,        /* magic, block type, sequence */
    JBD_REVOKE_HEADER_LEN = 16, /* and the number of bytes used */
    JBD_TAIL_LEN = 4,           /* checksum at the end of descriptors and revokes */
    JBD_SUPER_LEN = 1024,

    JBD_DESCRIPTOR = 1,
    JBD_COMMIT = 2,
    JBD_SUPER_V1 = 3,
    JBD_SUPER_V2 = 4,
    JBD_REVOKE = 5,

    JBD_COMPAT_CHECKSUM = 0x1,
    JBD_INCOMPAT_REVOKE = 0x1,
    JBD_INCOMPAT_64BIT = 0x2,
    JBD_INCOMPAT_ASYNC_COMMIT = 0x4,
    JBD_INCOMPAT_CSUM_V2 = 0x8,
    JBD_INCOMPAT_CSUM_V3 = 0x10,
    JBD_INCOMPAT_FAST_COMMIT = 0x20,

    JBD_FLAG_ESCAPE = 1,
    JBD_FLAG_SAME_UUID = 2,
    JBD_FLAG_LAST_TAG = 8,
};
#define JBD_MAGIC 0xc03b3998u

struct journal_scratch {
    /* The last walk over the expected transaction: the descriptor, revoke and
     * commit blocks it met, as distances, ascending. */
    uint32_t *control;
    size_t ncontrol, control_room;
    uint32_t stop;    /* distance at which that walk could not go on */
    bool stop_is_any; /* the chain is complete, its v1 checksum wrong: any block may be it */
    bool fresh;       /* nothing was walked since next_block was set */

    /* Checksum of log block n, tagged with CACHE_KNOWN; only while a complete
     * transaction has bad checksums, so that a commit block written before its
     * transaction (or a hostile one) costs each block's checksum only once. */
    uint64_t *cache;
    uint32_t be_shift[32]; /* crc32_be state after a block of zeros, by bit */

    struct journal_tag *tags;
    size_t ntags, tags_room;
    uint64_t *revokes;
    size_t nrevokes, revokes_room;

    /* Fast commits, in bytes from fc_first on. */
    uint64_t fc_pos;     /* the next one begins here */
    uint64_t fc_scanned; /* so far it was looked at: the beginning of a block, or fc_pos */
    uint32_t fc_crc;     /* of its tags up to there */
    uint64_t fc_budget;  /* blocks that may still be looked at */
};

/* tid comparison goes round, as the kernel's. */
static inline bool journal_tid_gt(uint32_t a, uint32_t b)
{
    return (int32_t)(a - b) > 0;
}

static inline bool journal_csum_v2or3(const struct journal *j)
{
    return j->features_incompat & (JBD_INCOMPAT_CSUM_V2 | JBD_INCOMPAT_CSUM_V3);
}

/* Forget the walk; the next one starts at next_block with nothing known. */
void journal_scan_reset(struct journal *j);

/* Another transaction is expected: its fast commits begin at the area's start. */
void journal_fc_reset(struct journal *j);

/* crc32c of the first 1024 bytes, their checksum field taken as zero. */
bool journal_super_csum_ok(const uint8_t *super);
uint32_t journal_csum_seed(const uint8_t uuid[16]);

/* Checksums v2 and v3; true if the journal has neither. */
bool journal_tail_csum_ok(const struct journal *j, const uint8_t *block);
bool journal_commit_csum_ok(const struct journal *j, const uint8_t *block);

/* Checksum of a copied block as its v2 or v3 tag must have it (v2: low half). */
uint32_t journal_data_csum(struct journal *j, uint32_t lblk, const uint8_t *block);

/* The v1 checksum: one crc32 (big-endian bit order) over descriptors and copies,
 * from ~0. */
uint32_t journal_v1_csum(struct journal *j, uint32_t sum, uint32_t lblk, const uint8_t *block);
bool journal_v1_commit_ok(const uint8_t *commit, uint32_t sum);

/* An optimisation: without memory there is no cache. */
void journal_cache_start(struct journal *j);
void journal_cache_drop(struct journal *j);
void journal_cache_forget(struct journal *j, uint32_t lblk);

#endif
