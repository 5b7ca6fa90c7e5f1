/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "common/event_pb.h"
#include "common/event_pb_priv.h"
#include "tests/unit/event-samples.h"

static struct nf_event_encoder *enc;
static struct nf_buffer out;
static struct nf_arena arena;
static struct nf_error err;
static struct samples samples;

static int setup(void **state)
{
    (void)state;
    enc = nf_event_encoder_new(&err);
    nf_arena_init(&arena, 64u << 20);
    samples.state = 1;
    return enc ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    nf_event_encoder_free(enc);
    nf_buffer_release(&out);
    nf_arena_release(&arena);
    return 0;
}

static void test_round_trip(void **state)
{
    (void)state;
    for (unsigned round = 0; round < 200; round++) {
        for (int kind = 1; kind <= NF_KIND_MAX; kind++) {
            struct nf_event a, b;

            samples_event(&samples, (enum nf_kind)kind, &a);
            nf_buffer_clear(&out);
            nf_arena_reset(&arena);
            assert_int_equal(nf_event_encode(enc, &a, &out, &err), 0);
            assert_int_equal(nf_event_decode(&arena, out.data, out.len, &b, &err), 0);
            assert_true(samples_same(&a, &b));
        }
    }
}

/* The bound that event_pb.h promises, for the events that take most. */
static void test_arena_need(void **state)
{
    (void)state;
    for (int kind = 1; kind <= NF_KIND_MAX; kind++) {
        struct nf_event a, b;

        samples_event(&samples, (enum nf_kind)kind, &a);
        a.npaths = 0;
        nf_buffer_clear(&out);
        nf_arena_reset(&arena);
        assert_int_equal(nf_event_encode(enc, &a, &out, &err), 0);
        assert_int_equal(nf_event_decode(&arena, out.data, out.len, &b, &err), 0);
        assert_true(arena.used <= 32 * out.len + 65536);
    }
}

static void test_content_is_compressed(void **state)
{
    static uint8_t text[200000];
    struct nf_bytes path = { (const uint8_t *)"/log", 4 }, plain;
    struct nf_event a = { .epoch = 1, .seq = 1, .kind = NF_WRITE, .paths = &path, .npaths = 1 }, b;
    struct nf_buffer scratch = { 0 };

    (void)state;
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)"the same line again and again\n"[i % 30];
    a.write.length = sizeof(text);
    a.write.data = (struct nf_bytes){ text, sizeof(text) };
    assert_int_equal(nf_event_encode(enc, &a, &out, &err), 0);
    assert_true(out.len < 2000);
    assert_int_equal(nf_event_decode(&arena, out.data, out.len, &b, &err), 0);
    assert_int_equal(b.write.codec, NF_CODEC_ZSTD);
    assert_int_equal(b.write.plain_length, sizeof(text));

    assert_int_equal(nf_event_content(&b, SIZE_MAX, &scratch, &plain, &err), 0);
    assert_int_equal(plain.len, sizeof(text));
    assert_memory_equal(plain.data, text, sizeof(text));
    assert_int_equal(nf_event_content(&b, 4096, &scratch, &plain, &err), 0);
    assert_int_equal(plain.len, 4096);
    assert_memory_equal(plain.data, text, 4096);
    assert_int_equal(nf_event_content(&b, 0, &scratch, &plain, &err), 0);
    assert_int_equal(plain.len, 0);

    /* It must unpack to what it says, no more and no less. */
    b.write.plain_length--;
    assert_int_equal(nf_event_content(&b, SIZE_MAX, &scratch, &plain, &err), NF_EFORMAT);
    b.write.plain_length += 2;
    assert_int_equal(nf_event_content(&b, SIZE_MAX, &scratch, &plain, &err), NF_EFORMAT);
    b.write.plain_length--;
    b.write.data.len--;
    assert_int_equal(nf_event_content(&b, SIZE_MAX, &scratch, &plain, &err), NF_EFORMAT);
    b.write.plain_length = UINT64_MAX;
    assert_int_equal(nf_event_content(&b, SIZE_MAX, &scratch, &plain, &err), NF_EFORMAT);
    nf_buffer_release(&scratch);

    /* Small content stays plain, for readers without zstd. */
    nf_buffer_clear(&out);
    a.write.data.len = a.write.length = NF_EVENT_ZSTD_THRESHOLD - 1;
    assert_int_equal(nf_event_encode(enc, &a, &out, &err), 0);
    assert_int_equal(nf_event_decode(&arena, out.data, out.len, &b, &err), 0);
    assert_int_equal(b.write.codec, NF_CODEC_NONE);
}

static void test_encode_refuses(void **state)
{
    struct nf_bytes bad[] = { { (const uint8_t *)"etc", 3 },
                              { (const uint8_t *)"", 0 },
                              { (const uint8_t *)"/a\0b", 4 } };
    struct nf_event ev = { .kind = NF_COMMIT };

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        ev.paths = &bad[i];
        ev.npaths = 1;
        assert_int_equal(nf_event_encode(enc, &ev, &out, &err), NF_EINVAL);
    }
    ev.npaths = NF_EVENT_PATHS_MAX + 1;
    assert_int_equal(nf_event_encode(enc, &ev, &out, &err), NF_EINVAL);
    ev.npaths = 0;
    ev.kind = NF_KIND_UNSPECIFIED;
    assert_int_equal(nf_event_encode(enc, &ev, &out, &err), NF_EINVAL);
    ev.kind = (enum nf_kind)(NF_KIND_MAX + 1);
    assert_int_equal(nf_event_encode(enc, &ev, &out, &err), NF_EINVAL);
    ev.kind = NF_WRITE;
    ev.write.offset = UINT64_MAX;
    ev.write.length = 2;
    assert_int_equal(nf_event_encode(enc, &ev, &out, &err), NF_EINVAL);
    assert_int_equal(out.len, 0);
}

static int decode_pb(const Nearfield__V1__Event *m)
{
    struct nf_event ev;
    uint8_t *to;

    nf_buffer_clear(&out);
    nf_arena_reset(&arena);
    to = nf_buffer_reserve(&out, nearfield__v1__event__get_packed_size(m));
    out.len = nearfield__v1__event__pack(m, to);
    return nf_event_decode(&arena, out.data, out.len, &ev, &err);
}

static void test_decode_refuses(void **state)
{
    Nearfield__V1__Event m = NEARFIELD__V1__EVENT__INIT;
    Nearfield__V1__Write w = NEARFIELD__V1__WRITE__INIT;
    Nearfield__V1__Source s = NEARFIELD__V1__SOURCE__INIT;
    ProtobufCBinaryData path = { 4, (uint8_t *)"etc/" };
    struct nf_event ev;

    (void)state;
    assert_int_equal(decode_pb(&m), NF_EFORMAT); /* no kind */
    m.kind = (Nearfield__V1__Kind)-5;
    assert_int_equal(decode_pb(&m), NF_EFORMAT);
    m.kind = NEARFIELD__V1__KIND__KIND_LINK;
    assert_int_equal(decode_pb(&m), 0);
    m.n_path = 1;
    m.path = &path;
    assert_int_equal(decode_pb(&m), NF_EFORMAT);
    m.n_path = 0;
    m.inode = 1ull << 32;
    assert_int_equal(decode_pb(&m), NF_EFORMAT);
    m.inode = 0;
    m.source = &s;
    s.fs_uuid = (ProtobufCBinaryData){ 3, (uint8_t *)"abc" };
    assert_int_equal(decode_pb(&m), NF_EFORMAT);
    m.source = NULL;
    m.kind = NEARFIELD__V1__KIND__KIND_WRITE; /* without its body */
    assert_int_equal(decode_pb(&m), NF_EFORMAT);
    m.body_case = NEARFIELD__V1__EVENT__BODY_WRITE;
    m.write = &w;
    assert_int_equal(decode_pb(&m), 0);
    w.data = (ProtobufCBinaryData){ 3, (uint8_t *)"abc" };
    assert_int_equal(decode_pb(&m), NF_EFORMAT); /* plain_length 0 */
    w.plain_length = w.length = 3;
    assert_int_equal(decode_pb(&m), 0);
    w.offset = UINT64_MAX - 1;
    assert_int_equal(decode_pb(&m), NF_EFORMAT);
    w.offset = 0;
    w.codec = (Nearfield__V1__Codec)7;
    assert_int_equal(decode_pb(&m), NF_EFORMAT);

    assert_int_equal(nf_event_decode(&arena, "\xff\xff\xff", 3, &ev, &err), NF_EFORMAT);
}

static void test_unknown_kind(void **state)
{
    Nearfield__V1__Event m = NEARFIELD__V1__EVENT__INIT;
    struct nf_event ev;

    (void)state;
    m.kind = (Nearfield__V1__Kind)99;
    m.seq = 7;
    assert_int_equal(decode_pb(&m), 1);
    /* And a field from the future: number 40, a varint. */
    nf_buffer_append(&out, "\xc0\x02\x05", 3);
    assert_int_equal(nf_event_decode(&arena, out.data, out.len, &ev, &err), 1);
    assert_int_equal(ev.seq, 7);
    assert_int_equal(ev.kind, 99);
}

static void test_arena_is_a_bound(void **state)
{
    uint8_t empty_events[20000];
    struct nf_batch batch;

    (void)state;
    /* 10,000 events of two bytes each: cheap to send, dear to decode. */
    for (size_t i = 0; i < sizeof(empty_events); i += 2)
        memcpy(empty_events + i, "\x22\x00", 2);
    nf_arena_release(&arena);
    nf_arena_init(&arena, 65536);
    assert_true(nf_batch_decode(&arena, empty_events, sizeof(empty_events), &batch, &err) < 0);
    assert_true(arena.used <= 65536);
}

static void test_names(void **state)
{
    char longest[NF_SOURCE_NAME_MAX + 2];

    (void)state;
    for (int k = 1; k <= NF_KIND_MAX; k++)
        assert_int_equal(nf_kind_from_name(nf_kind_name((enum nf_kind)k)), k);
    assert_int_equal(nf_kind_from_name("WRITE"), NF_WRITE);
    assert_int_equal(nf_kind_from_name("writ"), NF_KIND_UNSPECIFIED);
    assert_null(nf_kind_name((enum nf_kind)99));
    assert_true(nf_source_name_valid("a.B_c-9"));
    assert_false(nf_source_name_valid(""));
    assert_false(nf_source_name_valid("a:b"));
    assert_false(nf_source_name_valid("a/b"));
    assert_false(nf_source_name_valid("a*"));
    memset(longest, 'x', sizeof(longest));
    longest[sizeof(longest) - 1] = '\0';
    assert_false(nf_source_name_valid(longest));
    longest[NF_SOURCE_NAME_MAX] = '\0';
    assert_true(nf_source_name_valid(longest));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown_reset)

static int teardown_reset(void **state)
{
    int ret = teardown(state);

    out = (struct nf_buffer){ 0 };
    return ret;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_round_trip),       TEST(test_arena_need),
        TEST(test_content_is_compressed), TEST(test_encode_refuses),
        TEST(test_decode_refuses),   TEST(test_unknown_kind),
        TEST(test_arena_is_a_bound), TEST(test_names),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
