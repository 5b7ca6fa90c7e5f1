/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rule of reading a disk that moves on, with a tap played by this file:
 * image_settled.c uses no more of one than the three functions below.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "bdi/daemon/image_settled.h"

#define TAP ((struct nf_tap *)&tap)

static struct {
    uint64_t head;
    struct nf_record rec[8]; /* by seq - 1 */
    unsigned busy[8];        /* how often a look at it finds it in flight */
    bool in_gap, closed;
    unsigned looks;
} tap;

uint64_t nf_tap_head(const struct nf_tap *t)
{
    (void)t;
    return tap.head;
}

void nf_tap_status(const struct nf_tap *t, struct nf_tap_status *st)
{
    (void)t;
    memset(st, 0, sizeof(*st));
    st->in_gap = tap.in_gap;
}

int nf_tap_peek(struct nf_tap *t, uint64_t seq, struct nf_record *rec, struct nf_error *err)
{
    (void)t;
    tap.looks++;
    if (seq < 1 || seq > 8)
        return nf_fail(err, NF_EFORMAT, "no such record");
    if (tap.closed)
        return nf_fail(err, NF_ECLOSED, "gone");
    if (tap.busy[seq - 1] > 0) {
        tap.busy[seq - 1]--;
        return 0;
    }
    *rec = tap.rec[seq - 1];
    return 1;
}

static int inner_result;

static int inner_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                      struct nf_error *err)
{
    (void)img;
    (void)offset;
    if (inner_result < 0)
        return nf_fail(err, inner_result, "broken disk");
    memset(buf, 'i', len);
    return 0;
}

static void inner_free(struct nf_image *img)
{
    free(img);
}

static int setup(void **state)
{
    struct nf_image *inner = calloc(1, sizeof(*inner));
    struct nf_error err;

    memset(&tap, 0, sizeof(tap));
    tap.head = 1;
    inner_result = 0;
    inner->size = 1 << 20;
    inner->read = inner_read;
    inner->free = inner_free;
    *state = image_settled_new(inner, TAP, &err);
    image_settled_set_position(*state, 1);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    nf_image_free(*state);
    return 0;
}

static void append(enum nf_record_type type, uint64_t offset, uint64_t length)
{
    tap.rec[tap.head - 1] = (struct nf_record){
        .seq = tap.head, .type = type, .offset = offset, .length = length};
    tap.head++;
}

static int read_at(struct nf_image *img, uint64_t offset, size_t len)
{
    struct nf_error err;
    char buf[8192];

    return img->read(img, offset, buf, len, &err);
}

static void still_disk(void **state)
{
    assert_int_equal(((struct nf_image *)*state)->size, 1 << 20);
    assert_int_equal(read_at(*state, 4096, 4096), 0);
    assert_false(image_settled_take_moved(*state));
}

static void only_overlaps_count(void **state)
{
    append(NF_REC_WRITE, 8192, 4096);
    assert_int_equal(read_at(*state, 4096, 4096), 0);
    assert_int_equal(read_at(*state, 12288, 4096), 0);
    assert_false(image_settled_take_moved(*state));
    assert_int_equal(read_at(*state, 4096, 4097), 1);
    assert_int_equal(read_at(*state, 12287, 1), 1);
    assert_int_equal(read_at(*state, 9000, 1), 1);
    assert_true(image_settled_take_moved(*state));
    assert_false(image_settled_take_moved(*state));
}

static void consumed_records_do_not_count(void **state)
{
    append(NF_REC_WRITE, 0, 4096);
    assert_int_equal(read_at(*state, 0, 512), 1);
    image_settled_set_position(*state, 2);
    assert_int_equal(read_at(*state, 0, 512), 0);
}

static void kinds(void **state)
{
    static const struct {
        enum nf_record_type type;
        int expected;
    } cases[] = {
        {NF_REC_WRITE, 1},  {NF_REC_ZERO, 1},  {NF_REC_DISCARD, 1}, {NF_REC_FLUSH, 0},
        {NF_REC_RESIZE, 1}, {NF_REC_GAP, 1},   {NF_REC_CLOSE, 0},   {NF_REC_OPEN, 1},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        tap.head = 1;
        append(cases[i].type, 0, 512);
        assert_int_equal(read_at(*state, 0, 512), cases[i].expected);
    }
}

static void huge_lengths_do_not_wrap(void **state)
{
    append(NF_REC_WRITE, 4096, UINT64_MAX);
    assert_int_equal(read_at(*state, 0, 4096), 0);
    assert_int_equal(read_at(*state, 65536, 512), 1);
}

static void requests_in_flight_are_waited_for(void **state)
{
    append(NF_REC_WRITE, 0, 512);
    tap.busy[0] = 5;
    assert_int_equal(read_at(*state, 65536, 512), 0);
    assert_int_equal(tap.looks, 6);
}

static void losing_requests_counts(void **state)
{
    tap.in_gap = true;
    assert_int_equal(read_at(*state, 0, 512), 1);
}

static void a_dead_producer_writes_no_more(void **state)
{
    append(NF_REC_WRITE, 0, 512);
    tap.closed = true;
    assert_int_equal(read_at(*state, 0, 512), 0);
}

static void errors_come_through(void **state)
{
    inner_result = NF_EIO;
    assert_int_equal(read_at(*state, 0, 512), NF_EIO);
    inner_result = 0;
    tap.head = 20; /* a ring that lies */
    tap.rec[0].type = NF_REC_FLUSH;
    for (int i = 1; i < 8; i++)
        tap.rec[i].type = NF_REC_FLUSH;
    assert_int_equal(read_at(*state, 0, 512), NF_EFORMAT);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(still_disk),
        TEST(only_overlaps_count),
        TEST(consumed_records_do_not_count),
        TEST(kinds),
        TEST(huge_lengths_do_not_wrap),
        TEST(requests_in_flight_are_waited_for),
        TEST(losing_requests_counts),
        TEST(a_dead_producer_writes_no_more),
        TEST(errors_come_through),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
