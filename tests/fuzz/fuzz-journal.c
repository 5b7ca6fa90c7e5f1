/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A log of 16 blocks of 1024 bytes, written by the input while it is followed.
 *
 * Input: a mode byte, then writes of 129 bytes: the log block's number and its
 * first 128 bytes; the rest of the block is zero. Number 0 is the superblock.
 * Mode bit 0 makes any block whose type is that of a control block one of the
 * expected transaction; bit 1 puts right all checksums of that transaction
 * when a commit block is written; bit 2 has one block that cannot be read;
 * bit 3, with bit 1, spoils the block that the upper four bits name before the
 * transaction is complete, and repairs it afterwards.
 * The superblock's checksum is always put right.
 *
 * Beside memory errors this finds: lists that break their promises, and a
 * journal_written() that says no where a scan from scratch finds a transaction.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/journal.h"
#include "tests/models/journal-log.h"

enum { BLOCK = 1024, BLOCKS = 16, PART = 128, UNREADABLE = 5 };
enum { MODE_HEADERS = 1, MODE_CHECKSUMS = 2, MODE_UNREADABLE = 4, MODE_SPOIL = 8 };

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x))                                                                                  \
            abort();                                                                               \
    } while (0)

struct fuzz {
    uint8_t mode;
    struct jlog log;
    struct journal j;
};

static const uint8_t *get_block(void *opaque, uint32_t lblk)
{
    struct fuzz *f = opaque;

    if (lblk >= BLOCKS || ((f->mode & MODE_UNREADABLE) && lblk == UNREADABLE))
        return NULL;
    return jlog_block(&f->log, lblk);
}

static void check_txn(const struct journal *j, const struct journal_txn *t)
{
    size_t r = 0;

    CHECK(t->first >= j->first && t->first < j->maxlen);
    CHECK(t->next >= j->first && t->next < j->maxlen && t->next == j->next_block);
    CHECK(t->tid + 1 == j->next_tid);
    for (size_t i = 1; i < t->nrevokes; i++)
        CHECK(t->revokes[i - 1] < t->revokes[i]);
    for (size_t i = 0; i < t->ntags; i++) {
        CHECK(t->tags[i].log_block >= j->first && t->tags[i].log_block < j->maxlen);
        CHECK(i == 0 || t->tags[i - 1].fsblock < t->tags[i].fsblock);
        while (r < t->nrevokes && t->revokes[r] < t->tags[i].fsblock)
            r++;
        CHECK(r == t->nrevokes || t->revokes[r] != t->tags[i].fsblock);
    }
}

static void drain(struct fuzz *f)
{
    struct journal_txn t;
    unsigned n = 0;

    /* Each transaction needs a commit block with its own id. */
    while (journal_next(&f->j, &t, NULL) == 1) {
        check_txn(&f->j, &t);
        CHECK(++n <= BLOCKS);
    }
}

/* A scan that remembers nothing must agree that there is no transaction. */
static void check_nothing_there(struct fuzz *f)
{
    struct journal fresh;
    struct journal_txn t;

    if (journal_init(&fresh, BLOCK, BLOCKS, get_block, f, NULL) < 0)
        return;
    if (fresh.first == f->j.first && fresh.maxlen == f->j.maxlen &&
        fresh.features_compat == f->j.features_compat &&
        fresh.features_incompat == f->j.features_incompat && fresh.csum_seed == f->j.csum_seed) {
        fresh.next_tid = f->j.next_tid;
        fresh.next_block = f->j.next_block;
        CHECK(journal_next(&fresh, &t, NULL) == 0);
    }
    journal_release(&fresh);
}

static void written(struct fuzz *f, uint32_t lblk)
{
    if (journal_written(&f->j, lblk, jlog_block(&f->log, lblk)))
        drain(f);
    else
        check_nothing_there(f);
}

static uint32_t after(const struct fuzz *f, uint32_t lblk)
{
    return lblk + 1 < f->j.maxlen ? lblk + 1 : f->j.first;
}

/* The checksums in and over the descriptor at @lblk; returns the block after
 * its copies, which *left keeps from going round for ever. */
static uint32_t seal_descriptor(struct fuzz *f, uint32_t lblk, unsigned *left)
{
    struct jlog *l = &f->log;
    uint8_t *d = jlog_block(l, lblk), *tag = d + 12, seq[4];
    uint8_t *end = d + BLOCK - (jlog_v2or3(l) ? 4 : 0);
    uint32_t first = lblk, n = 0;

    jlog_put32(seq, f->j.next_tid);
    while (tag + jlog_tag_len(l) <= end && *left > 0) {
        uint8_t flags = tag[7];
        uint32_t crc;

        lblk = after(f, lblk);
        n++;
        (*left)--;
        crc = jlog_crc32c(jlog_crc32c(jlog_seed(l), seq, 4), jlog_block(l, lblk), BLOCK);
        if (l->features & JLOG_CSUM_V3)
            jlog_put32(tag + 12, crc);
        else if (l->features & JLOG_CSUM_V2)
            jlog_put16(tag + 4, crc);
        tag += jlog_tag_len(l) + (flags & 2 ? 0 : 16);
        if (flags & 8)
            break;
    }
    jlog_seal(l, d, BLOCK - 4);
    l->v1 = jlog_crc32_be(l->v1, d, BLOCK);
    for (uint32_t i = 0, b = first; i < n; i++) {
        b = after(f, b);
        l->v1 = jlog_crc32_be(l->v1, jlog_block(l, b), BLOCK);
    }
    return after(f, lblk);
}

static void seal_transaction(struct fuzz *f)
{
    struct jlog *l = &f->log;
    uint32_t lblk = f->j.next_block, tid = f->j.next_tid, chain[BLOCKS], n = 0;
    unsigned left = BLOCKS;
    uint8_t *spoilt = jlog_block(l, f->mode >> 4);

    l->v1 = ~0u;
    while (lblk != 0 && n < BLOCKS && left > 0) {
        uint8_t *b = jlog_block(l, lblk);
        uint32_t type = jlog_get32(b + 4);

        if (jlog_get32(b) != JLOG_MAGIC || jlog_get32(b + 8) != tid)
            break;
        chain[n++] = lblk;
        left--;
        if (type == 1) {
            lblk = seal_descriptor(f, lblk, &left);
        } else if (type == 5) {
            jlog_seal(l, b, BLOCK - 4);
            lblk = after(f, lblk);
        } else {
            if (type == 2 && (l->features & JLOG_CSUM_V1)) {
                b[12] = 1;
                b[13] = 4;
                jlog_put32(b + 16, l->v1);
            } else if (type == 2) {
                jlog_seal(l, b, 16);
            }
            break;
        }
    }
    /* All of these are writes; forget nothing of what was changed above. */
    if (f->mode & MODE_SPOIL) {
        spoilt[19] ^= 8; /* in a descriptor: the flag of a last tag */
        (void)journal_written(&f->j, f->mode >> 4, spoilt);
    }
    for (uint32_t i = 0; i < n; i++)
        (void)journal_written(&f->j, chain[i], jlog_block(l, chain[i]));
    drain(f);
    if (f->mode & MODE_SPOIL) {
        spoilt[19] ^= 8;
        written(f, f->mode >> 4);
    }
}

static void write_super(struct fuzz *f, const uint8_t *part)
{
    struct jlog *l = &f->log;

    memset(l->data, 0, BLOCK);
    memcpy(l->data, part, PART);
    jlog_put32(l->data + 0xfc, jlog_crc32c(~0u, l->data, BLOCK));
}

/* What the checksums here must know about the superblock in use. */
static void follow_super(struct fuzz *f)
{
    f->log.features = f->j.features_incompat | (f->j.features_compat & 1 ? JLOG_CSUM_V1 : 0);
    memcpy(f->log.uuid, f->j.uuid, 16);
}

static void write_block(struct fuzz *f, uint32_t lblk, const uint8_t *part)
{
    uint8_t *b = jlog_block(&f->log, lblk);
    uint32_t type = jlog_get32(part + 4);

    memset(b, 0, BLOCK);
    memcpy(b, part, PART);
    if ((f->mode & MODE_HEADERS) && (type == 1 || type == 2 || type == 5)) {
        jlog_put32(b, JLOG_MAGIC);
        jlog_put32(b + 8, f->j.next_tid);
    }
    written(f, lblk);
    if ((f->mode & MODE_CHECKSUMS) && type == 2)
        seal_transaction(f);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz f;

    if (size < 1 + 1 + PART)
        return 0;
    memset(&f, 0, sizeof(f));
    f.mode = data[0];
    jlog_init(&f.log, BLOCK, BLOCKS, 0);
    write_super(&f, data + 2);
    data += 2 + PART;
    size -= 2 + PART;
    if (journal_init(&f.j, BLOCK, BLOCKS, get_block, &f, NULL) == 0) {
        follow_super(&f);
        for (; size >= 1 + PART; data += 1 + PART, size -= 1 + PART) {
            uint32_t lblk = data[0] % BLOCKS;

            if (lblk != 0) {
                write_block(&f, lblk, data + 1);
                continue;
            }
            write_super(&f, data + 1);
            if (journal_reload(&f.j, NULL) >= 0) {
                follow_super(&f);
                drain(&f);
            }
        }
    }
    journal_release(&f.j);
    free(f.log.data);
    return 0;
}
