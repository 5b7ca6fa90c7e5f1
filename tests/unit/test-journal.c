/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bdi/ext4/journal.h"
#include "tests/models/journal-log.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

static const struct format {
    uint32_t features, block_size;
} formats[] = {
    {0, 1024},
    {JLOG_REVOKE, 4096},
    {JLOG_REVOKE | JLOG_64BIT, 1024},
    {JLOG_REVOKE | JLOG_CSUM_V1, 1024},
    {JLOG_REVOKE | JLOG_CSUM_V1 | JLOG_64BIT | JLOG_ASYNC, 2048},
    {JLOG_REVOKE | JLOG_CSUM_V2, 1024},
    {JLOG_REVOKE | JLOG_CSUM_V2 | JLOG_64BIT, 4096},
    {JLOG_REVOKE | JLOG_CSUM_V3, 1024},
    {JLOG_REVOKE | JLOG_CSUM_V3 | JLOG_64BIT, 1024},
    {JLOG_REVOKE | JLOG_CSUM_V3 | JLOG_64BIT | JLOG_ASYNC, 4096},
};

static const uint8_t *get_block(void *opaque, uint32_t lblk)
{
    struct jlog *l = opaque;

    return lblk < l->blocks ? jlog_block(l, lblk) : NULL;
}

static void open_log(struct journal *j, struct jlog *l)
{
    struct nf_error err = {0};

    if (journal_init(j, l->block_size, l->blocks, get_block, l, &err) < 0)
        fail_msg("%s", err.text);
}

static int next(struct journal *j, struct journal_txn *txn)
{
    struct nf_error err = {0};
    int ret = journal_next(j, txn, &err);

    if (ret < 0)
        fail_msg("%s", err.text);
    return ret;
}

static int reload(struct journal *j)
{
    struct nf_error err = {0};
    int ret = journal_reload(j, &err);

    if (ret < 0)
        fail_msg("%s", err.text);
    return ret;
}

/* Does tag @t lead to version @v of its block? */
static void check_content(const struct jlog *l, const struct journal_tag *t, uint32_t v)
{
    uint8_t *want = malloc(l->block_size), *got = malloc(l->block_size);

    assert_non_null(want);
    assert_non_null(got);
    jlog_content(l, want, t->fsblock, v);
    memcpy(got, jlog_block(l, t->log_block), l->block_size);
    assert_int_equal(t->escaped, v & 1);
    if (t->escaped)
        jlog_put32(got, JLOG_MAGIC);
    assert_memory_equal(got, want, l->block_size);
    free(want);
    free(got);
}

/* Transaction @tid as most tests use it: two descriptors, an escaped copy,
 * block 70 twice (its second copy counts), revokes between. */
static void put_usual(struct jlog *l, uint32_t tid)
{
    uint64_t high = l->features & JLOG_64BIT ? UINT64_C(5) << 32 : 0;
    const uint64_t first[] = {70, 50 + high, 60}, second[] = {70, 20};
    const uint32_t v1[] = {tid * 16, tid * 16 + 1, tid * 16 + 2}, v2[] = {tid * 16 + 4, tid * 16};
    const uint64_t revokes[] = {900, 800 + high, 900};

    jlog_begin(l, tid);
    jlog_descriptor(l, first, v1, 3);
    jlog_revoke(l, revokes, 3);
    jlog_descriptor(l, second, v2, 2);
    jlog_commit(l, UINT64_C(0x123456789a), tid);
}

enum { USUAL_BLOCKS = 9 };

static void check_usual(const struct jlog *l, const struct journal_txn *t, uint32_t tid)
{
    bool wide = l->features & JLOG_64BIT;
    uint64_t high = wide ? UINT64_C(5) << 32 : 0;
    size_t i50 = wide ? 3 : 1, i60 = wide ? 1 : 2, i70 = wide ? 2 : 3;

    assert_int_equal(t->tid, tid);
    assert_int_equal(t->ntags, 4);
    assert_int_equal(t->tags[0].fsblock, 20);
    check_content(l, &t->tags[0], tid * 16);
    assert_true(t->tags[i50].fsblock == 50 + high);
    check_content(l, &t->tags[i50], tid * 16 + 1);
    assert_int_equal(t->tags[i60].fsblock, 60);
    check_content(l, &t->tags[i60], tid * 16 + 2);
    assert_int_equal(t->tags[i70].fsblock, 70);
    check_content(l, &t->tags[i70], tid * 16 + 4);
    assert_int_equal(t->nrevokes, 2);
    assert_true(t->revokes[wide ? 1 : 0] == 800 + high);
    assert_true(t->revokes[wide ? 0 : 1] == 900);
    assert_true(t->commit_sec == INT64_C(0x123456789a));
    assert_int_equal(t->commit_nsec, tid);
}

static void reads_every_format(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(formats); f++) {
        struct jlog l;
        struct journal j;
        struct journal_txn t;

        jlog_init(&l, formats[f].block_size, 64, formats[f].features);
        jlog_super(&l, 7, 1);
        for (uint32_t tid = 7; tid < 10; tid++)
            put_usual(&l, tid);
        open_log(&j, &l);
        for (uint32_t tid = 7; tid < 10; tid++) {
            uint32_t first = 1 + (tid - 7) * USUAL_BLOCKS;

            assert_int_equal(next(&j, &t), 1);
            check_usual(&l, &t, tid);
            assert_int_equal(t.first, first);
            assert_int_equal(t.next, first + USUAL_BLOCKS);
        }
        assert_int_equal(next(&j, &t), 0);
        assert_int_equal(j.next_tid, 10);
        assert_int_equal(j.next_block, l.at);
        journal_release(&j);
        free(l.data);
    }
}

static void goes_round_at_every_place(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(formats); f++) {
        for (uint32_t start = 3; start < 16; start++) {
            struct jlog l;
            struct journal j;
            struct journal_txn t;

            jlog_init(&l, formats[f].block_size, 16, formats[f].features);
            l.first = 3; /* the log area is 13 blocks */
            jlog_super(&l, UINT32_MAX, start);
            l.at = start;
            put_usual(&l, UINT32_MAX);
            open_log(&j, &l);
            assert_int_equal(next(&j, &t), 1);
            check_usual(&l, &t, UINT32_MAX);
            assert_int_equal(t.next, l.at);
            /* Ids go round, too; this one overwrites half of the last. */
            put_usual(&l, 0);
            assert_int_equal(next(&j, &t), 1);
            check_usual(&l, &t, 0);
            assert_int_equal(next(&j, &t), 0);
            journal_release(&j);
            free(l.data);
        }
    }
}

static void full_descriptor_needs_no_last_flag(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(formats); f++) {
        struct jlog l;
        struct journal j;
        struct journal_txn t;
        uint64_t fsblocks[512];
        uint32_t versions[512], n, room, end;

        jlog_init(&l, formats[f].block_size, 600, formats[f].features);
        room = l.block_size - 12 - 16 - (jlog_v2or3(&l) ? 4 : 0);
        n = room / jlog_tag_len(&l);
        assert_true(n <= COUNT(fsblocks));
        for (uint32_t i = 0; i < n; i++) {
            fsblocks[i] = 1000 + i;
            versions[i] = 2 * i;
        }
        jlog_super(&l, 1, 1);
        jlog_begin(&l, 1);
        jlog_descriptor(&l, fsblocks, versions, n);
        /* Take the flag off again, and what depends on it. */
        end = 1 + 1 + n;
        jlog_block(&l, 1)[12 + 16 + (n - 1) * jlog_tag_len(&l) + 7] &= (uint8_t)~8;
        jlog_seal(&l, jlog_block(&l, 1), l.block_size - 4);
        l.v1 = ~0u;
        for (uint32_t b = 1; b < end; b++)
            l.v1 = jlog_crc32_be(l.v1, jlog_block(&l, b), l.block_size);
        jlog_commit(&l, 1, 1);
        open_log(&j, &l);
        assert_int_equal(next(&j, &t), 1);
        assert_int_equal(t.ntags, n);
        for (uint32_t i = 0; i < n; i++) {
            assert_int_equal(t.tags[i].fsblock, 1000 + i);
            check_content(&l, &t.tags[i], 2 * i);
        }
        journal_release(&j);
        free(l.data);
    }
}

static void revoke_cancels_copies_of_its_own_transaction(void **state)
{
    const uint64_t blocks[] = {5, 6, 7}, revoked[] = {6}, later[] = {5, 7};
    const uint32_t v[] = {2, 4, 6};
    struct jlog l;
    struct journal j;
    struct journal_txn t;

    (void)state;
    jlog_init(&l, 1024, 64, JLOG_REVOKE | JLOG_CSUM_V3 | JLOG_64BIT);
    jlog_super(&l, 1, 1);
    jlog_begin(&l, 1);
    jlog_revoke(&l, revoked, 1); /* before the copy: order inside does not matter */
    jlog_descriptor(&l, blocks, v, 3);
    jlog_commit(&l, 0, 0);
    jlog_begin(&l, 2);
    jlog_revoke(&l, later, 2);
    jlog_commit(&l, 0, 0);
    open_log(&j, &l);
    assert_int_equal(next(&j, &t), 1);
    assert_int_equal(t.ntags, 2);
    assert_int_equal(t.tags[0].fsblock, 5);
    assert_int_equal(t.tags[1].fsblock, 7);
    assert_int_equal(t.nrevokes, 1);
    assert_int_equal(next(&j, &t), 1);
    assert_int_equal(t.ntags, 0);
    assert_int_equal(t.nrevokes, 2);
    journal_release(&j);
    free(l.data);
}

static void empty_transaction_is_one(void **state)
{
    struct jlog l;
    struct journal j;
    struct journal_txn t;

    (void)state;
    jlog_init(&l, 1024, 8, JLOG_CSUM_V3);
    jlog_super(&l, 4, 2);
    l.at = 2;
    jlog_begin(&l, 4);
    jlog_commit(&l, 9, 9);
    open_log(&j, &l);
    assert_int_equal(next(&j, &t), 1);
    assert_int_equal(t.ntags + t.nrevokes, 0);
    assert_int_equal(t.next, 3);
    journal_release(&j);
    free(l.data);
}

/* A second log that gets the blocks of the first, one at a time. */
struct stream {
    struct jlog from, to;
    struct journal j;
    unsigned scans; /* calls of journal_next() that journal_written() asked for */
    unsigned found;
};

static void stream_begin(struct stream *s, const struct format *f, uint32_t tids)
{
    memset(s, 0, sizeof(*s));
    jlog_init(&s->from, f->block_size, 64, f->features);
    jlog_super(&s->from, 1, 1);
    for (uint32_t tid = 1; tid <= tids; tid++)
        put_usual(&s->from, tid);
    jlog_init(&s->to, f->block_size, 64, f->features);
    memset(s->to.data, 0x5a, (size_t)s->to.blocks * s->to.block_size);
    jlog_super(&s->to, 1, 1);
    open_log(&s->j, &s->to);
}

static void stream_end(struct stream *s)
{
    journal_release(&s->j);
    free(s->from.data);
    free(s->to.data);
}

static void stream_write(struct stream *s, uint32_t lblk)
{
    struct journal_txn t;
    uint8_t *to = jlog_block(&s->to, lblk);

    memcpy(to, jlog_block(&s->from, lblk), s->to.block_size);
    if (!journal_written(&s->j, lblk, to))
        return;
    s->scans++;
    while (next(&s->j, &t) == 1) {
        s->found++;
        check_usual(&s->to, &t, s->found);
    }
}

static void found_when_the_commit_block_arrives(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(formats); f++) {
        struct stream s;
        struct journal_txn t;

        stream_begin(&s, &formats[f], 3);
        assert_int_equal(next(&s.j, &t), 0);
        for (uint32_t b = 1; b < 1 + 3 * USUAL_BLOCKS; b++) {
            unsigned before = s.found;

            stream_write(&s, b);
            assert_int_equal(s.found - before, b % USUAL_BLOCKS == 0);
        }
        /* Two descriptors, a revoke and a commit block each; never for a copy. */
        assert_int_equal(s.scans, 3 * 4);
        stream_end(&s);
    }
}

/* The blocks of one transaction arrive in random orders; with checksums, the
 * transaction is found at the very last of them. */
static void found_in_any_order(void **state)
{
    unsigned seed = 20260917;

    (void)state;
    for (size_t f = 0; f < COUNT(formats); f++) {
        bool sums = formats[f].features & (JLOG_CSUM_V1 | JLOG_CSUM_V2 | JLOG_CSUM_V3);

        for (unsigned round = 0; round < 300; round++) {
            uint32_t order[USUAL_BLOCKS];
            struct stream s;
            struct journal_txn t;

            stream_begin(&s, &formats[f], 1);
            assert_int_equal(next(&s.j, &t), 0);
            for (uint32_t i = 0; i < USUAL_BLOCKS; i++) {
                uint32_t k = (uint32_t)rand_r(&seed) % (i + 1);

                order[i] = order[k];
                order[k] = 1 + i;
            }
            if (!sums) /* the kernel waits for the rest before it writes this */
                for (uint32_t i = 0; i + 1 < USUAL_BLOCKS; i++)
                    if (order[i] == USUAL_BLOCKS) {
                        order[i] = order[USUAL_BLOCKS - 1];
                        order[USUAL_BLOCKS - 1] = USUAL_BLOCKS;
                    }
            for (uint32_t i = 0; i < USUAL_BLOCKS; i++) {
                stream_write(&s, order[i]);
                assert_int_equal(s.found, i + 1 == USUAL_BLOCKS);
            }
            stream_end(&s);
        }
    }
}

/* journal_async_commit: the commit block may be on the disk before all the others. */
static void commit_block_before_its_transaction(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(formats); f++) {
        struct stream s;
        struct journal_txn t;

        if (!(formats[f].features & JLOG_ASYNC))
            continue;
        stream_begin(&s, &formats[f], 2);
        assert_int_equal(next(&s.j, &t), 0);
        stream_write(&s, USUAL_BLOCKS);
        for (uint32_t lblk = USUAL_BLOCKS - 1; lblk > 0; lblk--) {
            assert_int_equal(s.found, 0);
            stream_write(&s, lblk);
        }
        assert_int_equal(s.found, 1);
        /* All of the next one's commit block before its first: neither. */
        for (uint32_t lblk = 2 * USUAL_BLOCKS; lblk > USUAL_BLOCKS; lblk--) {
            assert_int_equal(s.found, 1);
            stream_write(&s, lblk);
        }
        assert_int_equal(s.found, 2);
        stream_end(&s);
    }
}

static void bad_copy_is_found_when_repaired(void **state)
{
    (void)state;
    for (size_t f = 0; f < COUNT(formats); f++) {
        struct stream s;

        if (!(formats[f].features & (JLOG_CSUM_V1 | JLOG_CSUM_V2 | JLOG_CSUM_V3)))
            continue;
        stream_begin(&s, &formats[f], 1);
        /* Spoil and repair each copy in turn while the transaction is not valid:
         * remembered checksums must not outlive what they were made of. */
        for (uint32_t b = 1; b <= USUAL_BLOCKS; b++) {
            if (b != 3)
                stream_write(&s, b);
        }
        assert_int_equal(s.found, 0);
        memset(jlog_block(&s.to, 4), 1, s.to.block_size);
        if (journal_written(&s.j, 4, jlog_block(&s.to, 4))) {
            struct journal_txn t;

            assert_int_equal(next(&s.j, &t), 0);
        }
        stream_write(&s, 3);
        assert_int_equal(s.found, 0);
        stream_write(&s, 4);
        assert_int_equal(s.found, 1);
        stream_end(&s);
    }
}

static void waiting_costs_no_scan_for_other_blocks(void **state)
{
    struct stream s;
    struct journal_txn t;

    (void)state;
    stream_begin(&s, &formats[8], 1);
    assert_int_equal(next(&s.j, &t), 0);
    for (uint32_t b = 2; b < 64; b++)
        assert_false(journal_written(&s.j, b, jlog_block(&s.to, b)));
    assert_false(journal_written(&s.j, 0, s.to.data));
    assert_false(journal_written(&s.j, 64, s.to.data));
    assert_false(journal_written(&s.j, UINT32_MAX, s.to.data));
    assert_true(journal_written(&s.j, 1, jlog_block(&s.to, 1)));
    stream_end(&s);
}

static void other_sequence_ends_the_log(void **state)
{
    (void)state;
    for (uint32_t wrong = 0; wrong < USUAL_BLOCKS; wrong++) {
        struct jlog l;
        struct journal j;
        struct journal_txn t;
        uint8_t *p;

        if (wrong != 0 && wrong != 4 && wrong != 5 && wrong != 8)
            continue; /* the copies carry no id */
        jlog_init(&l, 1024, 64, JLOG_REVOKE);
        jlog_super(&l, 1, 1);
        put_usual(&l, 1);
        p = jlog_block(&l, 1 + wrong);
        open_log(&j, &l);
        jlog_put32(p + 8, 2);
        assert_int_equal(next(&j, &t), 0);
        jlog_put32(p + 8, 1);
        jlog_put32(p, JLOG_MAGIC ^ 1);
        assert_int_equal(next(&j, &t), 0);
        jlog_put32(p, JLOG_MAGIC);
        assert_int_equal(next(&j, &t), 1);
        journal_release(&j);
        free(l.data);
    }
}

/* With checksums v3 every byte counts: whatever is changed, the answer is the
 * true one or none, and never another. */
static void no_damaged_byte_gives_another_answer(void **state)
{
    static const uint8_t flips[] = {0x01, 0x80, 0xff};
    struct jlog l;
    struct journal j;
    size_t len = (size_t)(1 + USUAL_BLOCKS) * 1024;
    unsigned same = 0, none = 0;

    (void)state;
    jlog_init(&l, 1024, 16, JLOG_REVOKE | JLOG_CSUM_V3 | JLOG_64BIT);
    jlog_super(&l, 1, 1);
    put_usual(&l, 1);
    for (size_t i = 0; i < len; i++) {
        for (size_t k = 0; k < COUNT(flips); k++) {
            struct journal_txn t;
            int ret;

            l.data[i] ^= flips[k];
            ret = journal_init(&j, 1024, 16, get_block, &l, NULL);
            if (ret == 0)
                ret = next(&j, &t);
            if (ret == 1) {
                check_usual(&l, &t, 1);
                same++;
            } else {
                none++;
            }
            /* The commit block's header is all that counts of it. */
            assert_int_equal(ret == 1, i >= USUAL_BLOCKS * 1024 + 64);
            journal_release(&j);
            l.data[i] ^= flips[k];
        }
    }
    assert_int_equal(same, 3 * (1024 - 64));
    assert_int_equal(none + same, 3 * len);
    free(l.data);
}

/* Elsewhere damage may go unnoticed, as for the kernel; it must be harmless. */
static void damage_is_harmless_in_every_format(void **state)
{
    unsigned seed = 7;

    (void)state;
    for (size_t f = 0; f < COUNT(formats); f++) {
        struct jlog l;

        jlog_init(&l, formats[f].block_size, 16, formats[f].features);
        jlog_super(&l, 1, 1);
        put_usual(&l, 1);
        for (unsigned round = 0; round < 3000; round++) {
            struct journal j;
            struct journal_txn t;
            /* mostly where the structure is */
            size_t i = (size_t)(rand_r(&seed) % 10) * l.block_size +
                       (size_t)rand_r(&seed) % (round % 4 ? 128 : l.block_size);
            uint8_t was = l.data[i];

            l.data[i] ^= (uint8_t)(1 + rand_r(&seed) % 255);
            if (journal_init(&j, l.block_size, l.blocks, get_block, &l, NULL) == 0) {
                unsigned n = 0;

                while (journal_next(&j, &t, NULL) == 1 && n < 100) {
                    assert_true(t.ntags < 16);
                    for (size_t k = 0; k < t.ntags; k++)
                        assert_in_range(t.tags[k].log_block, 1, 15);
                    n++;
                }
                assert_true(n <= 1);
            }
            journal_release(&j);
            l.data[i] = was;
        }
        free(l.data);
    }
}

static void v1_commit_without_checksum_counts(void **state)
{
    struct jlog l;
    struct journal j;
    struct journal_txn t;

    (void)state;
    jlog_init(&l, 1024, 32, JLOG_REVOKE | JLOG_CSUM_V1);
    jlog_super(&l, 1, 1);
    put_usual(&l, 1);
    put_usual(&l, 2);
    memset(jlog_block(&l, USUAL_BLOCKS) + 12, 0, 2);
    memset(jlog_block(&l, USUAL_BLOCKS) + 16, 0, 4);
    open_log(&j, &l);
    assert_int_equal(next(&j, &t), 1);
    check_usual(&l, &t, 1);
    assert_int_equal(next(&j, &t), 1);
    check_usual(&l, &t, 2);
    journal_release(&j);
    free(l.data);
}

static void first_sector_of_a_commit_block_is_enough(void **state)
{
    struct jlog l;
    struct journal j;
    struct journal_txn t;

    (void)state;
    jlog_init(&l, 4096, 32, JLOG_REVOKE | JLOG_CSUM_V2);
    jlog_super(&l, 1, 1);
    put_usual(&l, 1);
    memset(jlog_block(&l, USUAL_BLOCKS) + 512, 0xee, 4096 - 512);
    open_log(&j, &l);
    assert_int_equal(next(&j, &t), 1);
    check_usual(&l, &t, 1);
    journal_release(&j);
    free(l.data);
}

static void hostile_chains_end(void **state)
{
    struct jlog l;
    struct journal j;
    struct journal_txn t;
    const uint64_t one[] = {1};
    uint8_t *p;

    (void)state;
    /* A log full of revoke blocks: no commit block, and no second round. */
    jlog_init(&l, 1024, 64, JLOG_REVOKE);
    jlog_super(&l, 1, 5);
    jlog_begin(&l, 1);
    for (uint32_t i = 1; i < 64; i++)
        jlog_revoke(&l, one, 1);
    open_log(&j, &l);
    assert_int_equal(next(&j, &t), 0);
    /* But one that fills the log exactly is a transaction. */
    l.at = 4;
    jlog_commit(&l, 0, 0);
    assert_true(journal_written(&j, 4, jlog_block(&l, 4)));
    assert_int_equal(next(&j, &t), 1);
    assert_int_equal(t.nrevokes, 1);
    assert_int_equal(t.next, 5);
    journal_release(&j);
    free(l.data);

    /* A descriptor whose tags go beyond the log. */
    jlog_init(&l, 1024, 16, JLOG_REVOKE);
    jlog_super(&l, 1, 1);
    jlog_begin(&l, 1);
    p = jlog_take(&l, 1);
    for (uint32_t i = 0; i < 100; i++)
        jlog_put16(p + 12 + 8 * i + 6, 2);
    for (uint32_t i = 2; i < 16; i++)
        jlog_commit(&l, 0, 0);
    open_log(&j, &l);
    assert_int_equal(next(&j, &t), 0);
    journal_release(&j);
    free(l.data);

    /* A revoke block that claims more bytes than it has. */
    jlog_init(&l, 1024, 16, JLOG_REVOKE | JLOG_CSUM_V3);
    jlog_super(&l, 1, 1);
    jlog_begin(&l, 1);
    jlog_revoke(&l, one, 1);
    jlog_commit(&l, 0, 0);
    p = jlog_block(&l, 1);
    open_log(&j, &l);
    jlog_put32(p + 12, 1021);
    jlog_seal(&l, p, 1020);
    assert_int_equal(next(&j, &t), 0);
    jlog_put32(p + 12, UINT32_MAX);
    jlog_seal(&l, p, 1020);
    assert_int_equal(next(&j, &t), 0);
    jlog_put32(p + 12, 1020); /* zeros are blocks, too */
    jlog_seal(&l, p, 1020);
    assert_int_equal(next(&j, &t), 1);
    assert_int_equal(t.nrevokes, 2);
    journal_release(&j);
    free(l.data);
}

static void unreadable_block_ends_the_log(void **state)
{
    struct jlog l;
    struct journal j;
    struct journal_txn t;

    (void)state;
    jlog_init(&l, 1024, 32, JLOG_REVOKE);
    jlog_super(&l, 1, 1);
    put_usual(&l, 1);
    open_log(&j, &l);
    l.blocks = 4; /* copies at 4.. cannot be had */
    assert_int_equal(next(&j, &t), 0);
    l.blocks = 32;
    assert_int_equal(next(&j, &t), 1);
    journal_release(&j);
    free(l.data);
}

static void check_refused(struct jlog *l, int code, const char *word)
{
    struct journal j;
    struct nf_error err = {0};

    if (jlog_v2or3(l)) {
        jlog_put32(l->data + 0xfc, 0);
        jlog_put32(l->data + 0xfc, jlog_crc32c(~0u, l->data, 1024));
    }
    assert_int_equal(journal_init(&j, l->block_size, 16, get_block, l, &err), code);
    if (!strstr(err.text, word))
        fail_msg("\"%s\" does not say \"%s\"", err.text, word);
    journal_release(&j); /* allowed after failure */
    jlog_super(l, 1, 1);
}

static void refuses_what_it_cannot_follow(void **state)
{
    static const struct {
        size_t at;
        uint32_t value;
        int code;
        const char *word;
    } cases[] = {
        {0x00, 0, NF_EFORMAT, "magic"},
        {0x04, 2, NF_EFORMAT, "block type 2"},
        {0x0c, 1024, NF_EFORMAT, "block size"},
        {0x10, 17, NF_EFORMAT, "17 blocks"},
        {0x10, 0, NF_EFORMAT, "log area"},
        {0x14, 0, NF_EFORMAT, "log area"},
        {0x14, 16, NF_EFORMAT, "log area"},
        {0x1c, 16, NF_EFORMAT, "starts at block 16"},
        {0x1c, UINT32_MAX, NF_EFORMAT, "starts at block"},
        {0x28, 0x91, NF_EUNSUPPORTED, "0x80"},
        {0x28, 0x19, NF_EFORMAT, "v2 and v3"},
        {0x24, 1, NF_EFORMAT, "v1"},
        {0x2c, 4, NF_EUNSUPPORTED, "0x4"},
        {0x40, 2, NF_EUNSUPPORTED, "external"},
        {0x50, 0x01000000, NF_EFORMAT, "checksum type 1"},
    };
    struct jlog l;
    struct journal j;
    struct nf_error err = {0};

    (void)state;
    jlog_init(&l, 4096, 16, JLOG_REVOKE | JLOG_CSUM_V3);
    jlog_super(&l, 1, 1);
    for (size_t i = 0; i < COUNT(cases); i++) {
        jlog_put32(l.data + cases[i].at, cases[i].value);
        check_refused(&l, cases[i].code, cases[i].word);
    }
    l.data[0x100] ^= 1;
    assert_int_equal(journal_init(&j, 4096, 16, get_block, &l, &err), NF_EFORMAT);
    assert_non_null(strstr(err.text, "checksum"));

    /* An external journal device begins with an ext4 superblock. */
    memset(l.data, 0, 4096);
    memcpy(l.data + 1024 + 0x38, "\x53\xef", 2);
    l.data[1024 + 0x60] = 8;
    check_refused(&l, NF_EUNSUPPORTED, "external");

    assert_int_equal(journal_init(&j, 512, 16, get_block, &l, &err), NF_EINVAL);
    assert_int_equal(journal_init(&j, 3000, 16, get_block, &l, &err), NF_EINVAL);
    free(l.data);
}

static void version_1_superblock_has_no_features(void **state)
{
    struct jlog l;
    struct journal j;
    struct journal_txn t;

    (void)state;
    jlog_init(&l, 1024, 32, 0);
    jlog_super(&l, 1, 1);
    jlog_put32(l.data + 4, 3);
    memset(l.data + 0x24, 0xff, 1024 - 0x24); /* no field of version 1 */
    put_usual(&l, 1);
    open_log(&j, &l);
    assert_int_equal(j.features_compat | j.features_incompat, 0);
    assert_int_equal(next(&j, &t), 1);
    check_usual(&l, &t, 1);
    journal_release(&j);
    free(l.data);
}

static void reload_tells_what_happened(void **state)
{
    struct jlog l;
    struct journal j;
    struct journal_txn t;

    (void)state;
    jlog_init(&l, 1024, 64, JLOG_REVOKE | JLOG_CSUM_V3 | JLOG_64BIT);
    jlog_super(&l, 5, 0); /* unmounted */
    open_log(&j, &l);
    assert_int_equal(j.next_block, 0);
    assert_int_equal(next(&j, &t), 0);
    assert_false(journal_written(&j, 1, jlog_block(&l, 1)));
    assert_int_equal(reload(&j), JOURNAL_SAME);

    /* Mounted: the first commit is announced. */
    jlog_super(&l, 6, 1);
    assert_int_equal(reload(&j), JOURNAL_RESTART);
    assert_int_equal(j.next_tid, 6);
    assert_int_equal(j.next_block, 1);
    for (uint32_t tid = 6; tid < 10; tid++) {
        put_usual(&l, tid);
        assert_int_equal(next(&j, &t), 1);
        check_usual(&l, &t, tid);
    }
    assert_int_equal(reload(&j), JOURNAL_SAME);

    /* The tail moves, into the middle and up to the head; what comes next does not. */
    jlog_super(&l, 8, 1 + 2 * USUAL_BLOCKS);
    assert_int_equal(reload(&j), JOURNAL_TAIL);
    assert_int_equal(j.tail_tid, 8);
    assert_int_equal(j.next_tid, 10);
    assert_int_equal(j.next_block, 1 + 4 * USUAL_BLOCKS);
    jlog_super(&l, 10, 1 + 4 * USUAL_BLOCKS);
    assert_int_equal(reload(&j), JOURNAL_TAIL);
    put_usual(&l, 10);
    assert_int_equal(next(&j, &t), 1);
    check_usual(&l, &t, 10);

    /* The right id elsewhere: this is not the log that was followed. */
    jlog_super(&l, 11, 40);
    assert_int_equal(reload(&j), JOURNAL_RESTART);
    assert_int_equal(j.next_block, 40);
    jlog_super(&l, 10, 1 + 4 * USUAL_BLOCKS);
    assert_int_equal(reload(&j), JOURNAL_RESTART);
    assert_int_equal(next(&j, &t), 1);

    /* A broken superblock changes nothing. */
    l.data[0xfc] ^= 1;
    assert_int_equal(journal_reload(&j, NULL), NF_EFORMAT);
    assert_int_equal(j.tail_tid, 10);
    assert_int_equal(j.next_tid, 11);
    l.data[0xfc] ^= 1;

    /* Crash and recovery by the kernel: an id is left out, the log begins anew. */
    jlog_super(&l, 12, 1);
    assert_int_equal(reload(&j), JOURNAL_RESTART);
    assert_int_equal(j.next_tid, 12);
    assert_int_equal(j.next_block, 1);
    l.at = 1;
    put_usual(&l, 12);
    assert_int_equal(next(&j, &t), 1);
    check_usual(&l, &t, 12);

    /* Flushed or unmounted. */
    jlog_super(&l, 13, 0);
    assert_int_equal(reload(&j), JOURNAL_EMPTY);
    assert_int_equal(j.next_block, 0);
    assert_int_equal(reload(&j), JOURNAL_SAME);
    jlog_super(&l, 14, 0); /* and recovered by e2fsck */
    assert_int_equal(reload(&j), JOURNAL_EMPTY);

    /* An older image: the tail goes back, by id or only by place. */
    jlog_super(&l, 14, 20);
    assert_int_equal(reload(&j), JOURNAL_RESTART);
    jlog_super(&l, 9, 30);
    assert_int_equal(reload(&j), JOURNAL_RESTART);
    assert_int_equal(j.next_tid, 9);
    jlog_super(&l, 9, 31);
    assert_int_equal(reload(&j), JOURNAL_RESTART);
    assert_int_equal(j.next_block, 31);

    /* The log becomes smaller while it holds something. */
    l.blocks = 60;
    jlog_super(&l, 9, 31);
    assert_int_equal(reload(&j), JOURNAL_RESTART);
    assert_int_equal(j.maxlen, 60);

    l.features |= 0x80;
    jlog_super(&l, 9, 31);
    assert_int_equal(journal_reload(&j, NULL), NF_EUNSUPPORTED);
    journal_release(&j);
    free(l.data);
}

static void tail_ids_go_round(void **state)
{
    struct jlog l;
    struct journal j;
    struct journal_txn t;

    (void)state;
    jlog_init(&l, 1024, 64, JLOG_REVOKE);
    jlog_super(&l, UINT32_MAX - 1, 1);
    for (uint32_t i = 0; i < 4; i++)
        put_usual(&l, UINT32_MAX - 1 + i);
    open_log(&j, &l);
    for (uint32_t i = 0; i < 4; i++)
        assert_int_equal(next(&j, &t), 1);
    assert_int_equal(j.next_tid, 2);
    jlog_super(&l, 1, 1 + 3 * USUAL_BLOCKS);
    assert_int_equal(reload(&j), JOURNAL_TAIL);
    jlog_super(&l, UINT32_MAX, 1 + USUAL_BLOCKS);
    assert_int_equal(reload(&j), JOURNAL_RESTART);
    journal_release(&j);
    free(l.data);
}

static void features_may_change_while_running(void **state)
{
    struct jlog l;
    struct journal j;
    struct journal_txn t;

    (void)state;
    /* A mount turns checksums on: recovery would read the log by the
     * superblock that is on disk, so do we. */
    jlog_init(&l, 1024, 64, 0);
    jlog_super(&l, 1, 1);
    put_usual(&l, 1);
    open_log(&j, &l);
    assert_int_equal(next(&j, &t), 1);
    l.features = JLOG_REVOKE | JLOG_64BIT | JLOG_CSUM_V3;
    put_usual(&l, 2);
    assert_int_equal(next(&j, &t), 0);
    jlog_super(&l, 2, 1 + USUAL_BLOCKS);
    assert_int_equal(reload(&j), JOURNAL_TAIL);
    assert_int_equal(next(&j, &t), 1);
    check_usual(&l, &t, 2);
    journal_release(&j);
    free(l.data);
}

/* test-journal --corpus DIR: seeds for fuzz-journal (see there for the form). */
static int write_corpus(const char *dir)
{
    enum { PART = 128 };
    static const struct {
        uint32_t features;
        uint8_t mode;
    } seeds[] = {
        {0, 0},
        {JLOG_REVOKE | JLOG_64BIT, 1},
        {JLOG_REVOKE | JLOG_CSUM_V1 | JLOG_ASYNC, 2},
        {JLOG_REVOKE | JLOG_CSUM_V2, 3},
        {JLOG_REVOKE | JLOG_CSUM_V3 | JLOG_64BIT, 2},
        {JLOG_REVOKE | JLOG_CSUM_V3 | JLOG_64BIT | JLOG_ASYNC, 3},
        {JLOG_REVOKE | JLOG_CSUM_V1, 0xda},              /* a copy spoilt */
        {JLOG_REVOKE | JLOG_CSUM_V2, 0xea},              /* another */
        {JLOG_REVOKE | JLOG_CSUM_V3 | JLOG_64BIT, 0xca}, /* a descriptor */
        {JLOG_REVOKE, 0xca},
    };

    for (size_t f = 0; f < COUNT(seeds); f++) {
        struct jlog l;
        char path[4096];
        FILE *out;
        int bad;

        jlog_init(&l, 1024, 16, seeds[f].features);
        jlog_super(&l, 1, 12);
        l.at = 12;
        put_usual(&l, 1);
        snprintf(path, sizeof(path), "%s/usual-%zu", dir, f);
        out = fopen(path, "wb");
        if (!out) {
            perror(path);
            return 1;
        }
        bad = putc(seeds[f].mode, out) == EOF;
        for (uint32_t i = 0, b = 0; i <= USUAL_BLOCKS; i++) {
            bad |= putc((int)b, out) == EOF || fwrite(jlog_block(&l, b), PART, 1, out) != 1;
            b = i == 0 ? 12 : b == 15 ? 1 : b + 1;
        }
        free(l.data);
        if (fclose(out) != 0 || bad) {
            perror(path);
            return 1;
        }
    }
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_every_format),
        cmocka_unit_test(goes_round_at_every_place),
        cmocka_unit_test(full_descriptor_needs_no_last_flag),
        cmocka_unit_test(revoke_cancels_copies_of_its_own_transaction),
        cmocka_unit_test(empty_transaction_is_one),
        cmocka_unit_test(found_when_the_commit_block_arrives),
        cmocka_unit_test(found_in_any_order),
        cmocka_unit_test(commit_block_before_its_transaction),
        cmocka_unit_test(bad_copy_is_found_when_repaired),
        cmocka_unit_test(waiting_costs_no_scan_for_other_blocks),
        cmocka_unit_test(other_sequence_ends_the_log),
        cmocka_unit_test(no_damaged_byte_gives_another_answer),
        cmocka_unit_test(damage_is_harmless_in_every_format),
        cmocka_unit_test(v1_commit_without_checksum_counts),
        cmocka_unit_test(first_sector_of_a_commit_block_is_enough),
        cmocka_unit_test(hostile_chains_end),
        cmocka_unit_test(unreadable_block_ends_the_log),
        cmocka_unit_test(refuses_what_it_cannot_follow),
        cmocka_unit_test(version_1_superblock_has_no_features),
        cmocka_unit_test(reload_tells_what_happened),
        cmocka_unit_test(tail_ids_go_round),
        cmocka_unit_test(features_may_change_while_running),
    };

    if (argc == 3 && strcmp(argv[1], "--corpus") == 0)
        return write_corpus(argv[2]);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
