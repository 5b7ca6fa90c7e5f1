/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <cmocka.h>

#include "common/frame.h"
#include "tests/unit/event-samples.h"

static struct nf_error err;
static struct samples samples = { .state = 3 };

static const struct nf_hello hello = {
    .version = NF_FRAME_VERSION, .host = "h", .vm = "v", .disk = "d", .epoch = 5, .next_seq = 1
};

static void add(struct nf_batch_writer *w, enum nf_kind kind, uint64_t seq, int want)
{
    struct nf_event ev;

    samples_event(&samples, kind, &ev);
    ev.epoch = 5;
    ev.seq = seq;
    assert_int_equal(nf_batch_writer_add(w, &ev, &err), want);
}

static void test_file(void **state)
{
    int fd = memfd_create("frames", 0);
    struct nf_batch_writer *w;
    struct nf_frame_reader *r;
    struct nf_frame frame;
    uint64_t seq = 1;
    off_t size;

    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(nf_frame_write_hello(fd, &hello, &err), 0);
    w = nf_batch_writer_new(&(struct nf_batch_writer_options){ .fd = fd, .epoch = 5, .next_seq = 1 },
                            &err);
    assert_non_null(w);
    assert_int_equal(nf_batch_writer_flush(w, &err), 0); /* nothing to write */
    while (seq <= 300)
        add(w, seq % 10 ? NF_WRITE : NF_COMMIT, seq, 0), seq++;
    assert_int_equal(nf_batch_writer_flush(w, &err), 0);
    add(w, NF_COMMIT, 1, NF_EINVAL); /* not the next one */
    add(w, NF_COMMIT, 301, 0);
    assert_int_equal(nf_batch_writer_pending(w), 1);
    assert_int_equal(nf_batch_writer_flush(w, &err), 0);
    assert_int_equal(nf_batch_writer_pending(w), 0);
    assert_int_equal(nf_batch_writer_acked(w), 301);
    nf_batch_writer_free(w);

    size = lseek(fd, 0, SEEK_CUR);
    lseek(fd, 0, SEEK_SET);
    r = nf_frame_reader_new(fd, &err);
    assert_int_equal(nf_frame_next(r, &frame, &err), NF_FRAME_READY);
    assert_int_equal(frame.type, NF_FRAME_HELLO);
    assert_memory_equal(&frame.hello, &hello, sizeof(hello));
    seq = 1;
    while (nf_frame_next(r, &frame, &err) == NF_FRAME_READY) {
        assert_int_equal(frame.type, NF_FRAME_BATCH);
        assert_int_equal(frame.batch.first_seq, seq);
        assert_false(frame.batch.partial);
        for (size_t i = 0; i < frame.batch.nevents; i++, seq++)
            assert_int_equal(frame.batch.events[i].kind,
                             seq % 10 && seq != 301 ? NF_WRITE : NF_COMMIT);
    }
    assert_int_equal(seq, 302);
    nf_frame_reader_free(r);

    /* Cut anywhere, it is an error or the end, never more. */
    for (off_t cut = 1; cut <= 200; cut++) {
        int ret;

        assert_int_equal(ftruncate(fd, size - cut), 0);
        lseek(fd, 0, SEEK_SET);
        r = nf_frame_reader_new(fd, &err);
        while ((ret = nf_frame_next(r, &frame, &err)) == NF_FRAME_READY)
            ;
        assert_true(ret == NF_ECLOSED || ret == NF_FRAME_END);
        nf_frame_reader_free(r);
    }
    close(fd);
}

/* Batches end at a COMMIT when they are large, and nowhere else. */
static void test_limit(void **state)
{
    int fd = memfd_create("frames", 0);
    struct nf_batch_writer *w = nf_batch_writer_new(
        &(struct nf_batch_writer_options){ .fd = fd, .epoch = 5, .next_seq = 1, .limit = 20000 },
        &err);
    struct nf_frame_reader *r;
    struct nf_frame frame;
    unsigned batches = 0;

    (void)state;
    for (uint64_t seq = 1; seq <= 500; seq++)
        add(w, seq % 5 ? NF_ATTR : NF_COMMIT, seq, 0);
    nf_batch_writer_free(w);
    lseek(fd, 0, SEEK_SET);
    r = nf_frame_reader_new(fd, &err);
    for (; nf_frame_next(r, &frame, &err) == NF_FRAME_READY; batches++) {
        assert_int_equal(frame.batch.events[frame.batch.nevents - 1].kind, NF_COMMIT);
        assert_false(frame.batch.partial);
    }
    assert_in_range(batches, 2, 499);
    nf_frame_reader_free(r);
    close(fd);
}

static void test_step_too_large_for_a_frame(void **state)
{
    enum { EACH = 3 << 20 };
    int fd = memfd_create("frames", 0);
    uint8_t *noise = malloc(EACH);
    struct nf_event ev = { .epoch = 5, .kind = NF_WRITE };
    struct nf_batch_writer *w = nf_batch_writer_new(
        &(struct nf_batch_writer_options){ .fd = fd, .epoch = 5, .next_seq = 1 }, &err);
    struct nf_frame_reader *r;
    struct nf_frame frame;
    uint64_t seq = 1;

    (void)state;
    for (size_t i = 0; i < EACH; i += 8)
        nf_put_le64(noise + i, samples_next(&samples));
    ev.write.length = EACH;
    ev.write.data = (struct nf_bytes){ noise, EACH };
    for (ev.seq = 1; ev.seq <= 4; ev.seq++)
        assert_int_equal(nf_batch_writer_add(w, &ev, &err), 0);
    add(w, NF_COMMIT, 5, 0);
    assert_int_equal(nf_batch_writer_flush(w, &err), 0);
    nf_batch_writer_free(w);
    lseek(fd, 0, SEEK_SET);
    r = nf_frame_reader_new(fd, &err);
    while (nf_frame_next(r, &frame, &err) == NF_FRAME_READY) {
        assert_int_equal(frame.batch.first_seq, seq);
        assert_int_equal(frame.batch.partial, frame.batch.last_seq != 5);
        seq = frame.batch.last_seq + 1;
    }
    assert_int_equal(seq, 6);
    nf_frame_reader_free(r);
    free(noise);
    close(fd);
}

static void test_hostile_lengths(void **state)
{
    static const char *const inputs[] = { "\0\0\0\0", "\xff\xff\xff\xff", "\x01\0\x80\0" };
    struct nf_frame frame;

    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        int fd = memfd_create("frames", 0);
        struct nf_frame_reader *r = nf_frame_reader_new(fd, &err);

        assert_int_equal(write(fd, inputs[i], 4), 4);
        lseek(fd, 0, SEEK_SET);
        assert_int_equal(nf_frame_next(r, &frame, &err), NF_EFORMAT);
        nf_frame_reader_free(r);
        close(fd);
    }
}

static void test_byte_by_byte(void **state)
{
    int sv[2];
    struct nf_buffer b = { 0 };
    struct nf_frame_reader *r;
    struct nf_frame frame;

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, sv), 0);
    assert_int_equal(nf_frame_put_hello(&b, &hello, &err), 0);
    assert_int_equal(nf_frame_put_ack(&b, &(struct nf_ack){ 5, 77 }, &err), 0);
    r = nf_frame_reader_new(sv[1], &err);
    for (size_t i = 0, seen = 0; i < b.len; i++) {
        int ret;

        assert_int_equal(write(sv[0], b.data + i, 1), 1);
        ret = nf_frame_next(r, &frame, &err);
        if (ret == NF_FRAME_READY)
            assert_int_equal(frame.type, seen++ ? NF_FRAME_ACK : NF_FRAME_HELLO);
        else
            assert_int_equal(ret, NF_FRAME_AGAIN);
        if (i == b.len - 1) {
            assert_int_equal(seen, 2);
            assert_int_equal(frame.ack.last_seq, 77);
        }
    }
    close(sv[0]);
    assert_int_equal(nf_frame_next(r, &frame, &err), NF_FRAME_END);
    nf_frame_reader_free(r);
    nf_buffer_release(&b);
    close(sv[1]);
}

static void test_hello_names(void **state)
{
    struct nf_buffer b = { 0 };
    struct nf_hello h = hello;

    (void)state;
    strcpy(h.vm, "a:b");
    assert_int_equal(nf_frame_put_hello(&b, &h, &err), NF_EINVAL);
    *h.vm = '\0';
    assert_int_equal(nf_frame_put_hello(&b, &h, &err), 0);
    nf_buffer_release(&b);
}

static void ack(int fd, uint64_t seq)
{
    struct nf_buffer b = { 0 };

    assert_int_equal(nf_frame_put_ack(&b, &(struct nf_ack){ 5, seq }, &err), 0);
    assert_int_equal(write(fd, b.data, b.len), (ssize_t)b.len);
    nf_buffer_release(&b);
}

static void next_batch(struct nf_frame_reader *r, uint64_t first, uint64_t last)
{
    struct nf_frame frame;

    assert_int_equal(nf_frame_next(r, &frame, &err), NF_FRAME_READY);
    assert_int_equal(frame.batch.first_seq, first);
    assert_int_equal(frame.batch.last_seq, last);
}

/* What is not acknowledged is sent again, in the same batches. */
static void test_resume(void **state)
{
    struct nf_batch_writer *w;
    struct nf_frame_reader *r;
    int a[2], b[2];

    (void)state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, a), 0);
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, b), 0);
    w = nf_batch_writer_new(&(struct nf_batch_writer_options){
                                .fd = a[0], .acks = true, .epoch = 5, .next_seq = 1 },
                            &err);
    for (uint64_t seq = 1; seq <= 6; seq++) {
        add(w, NF_COMMIT, seq, 0);
        if (seq % 2 == 0)
            assert_int_equal(nf_batch_writer_flush(w, &err), 0);
    }
    r = nf_frame_reader_new(a[1], &err);
    next_batch(r, 1, 2);
    ack(a[1], 2);
    next_batch(r, 3, 4);
    assert_int_equal(nf_batch_writer_poll(w, &err), 0);
    assert_int_equal(nf_batch_writer_acked(w), 2);
    assert_int_equal(nf_batch_writer_drain(w, 10, &err), 1);
    nf_frame_reader_free(r);
    close(a[1]);
    assert_int_equal(nf_batch_writer_poll(w, &err), NF_ECLOSED);
    close(a[0]);
    add(w, NF_COMMIT, 7, 0);

    assert_int_equal(nf_batch_writer_resume(w, b[0], &err), 0);
    assert_int_equal(nf_batch_writer_flush(w, &err), 0);
    r = nf_frame_reader_new(b[1], &err);
    next_batch(r, 3, 4);
    next_batch(r, 5, 6);
    next_batch(r, 7, 7);
    ack(b[1], 7);
    assert_int_equal(nf_batch_writer_drain(w, -1, &err), 0);
    assert_int_equal(nf_batch_writer_acked(w), 7);
    ack(b[1], 8); /* never sent */
    assert_int_equal(nf_batch_writer_poll(w, &err), NF_EFORMAT);
    nf_frame_reader_free(r);
    nf_batch_writer_free(w);
    close(b[0]);
    close(b[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_file),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_step_too_large_for_a_frame),
        cmocka_unit_test(test_hostile_lengths),
        cmocka_unit_test(test_byte_by_byte),
        cmocka_unit_test(test_hello_names),
        cmocka_unit_test(test_resume),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
