/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The daemon's output against a streamer that this file plays: what is not
 * acknowledged is sent again, in the same batches, and nothing is lost or
 * doubled while the streamer is away.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "bdi/daemon/output.h"
#include "common/frame.h"

struct peer {
    struct output *out;
    struct nf_frame_reader *reader;
    int sock, next_sock;
    unsigned reconnects;
};

static int reconnect(void *opaque, struct nf_error *err)
{
    struct peer *p = opaque;
    int fd = p->next_sock;

    p->reconnects++;
    if (fd < 0)
        return nf_fail(err, NF_ECLOSED, "the streamer never came back");
    p->next_sock = -1;
    return output_resume(p->out, fd, err);
}

static void new_connection(struct peer *p, int *theirs)
{
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    assert_int_equal(fcntl(pair[0], F_SETFL, O_NONBLOCK), 0);
    nf_frame_reader_free(p->reader);
    if (p->sock >= 0)
        close(p->sock);
    p->sock = pair[0];
    p->reader = nf_frame_reader_new(p->sock, NULL);
    assert_non_null(p->reader);
    *theirs = pair[1];
}

static int setup(void **state)
{
    struct peer *p = calloc(1, sizeof(*p));
    struct output_options opt = {.kind = OUTPUT_STREAMER, .reconnect = reconnect, .opaque = p};
    struct nf_error err;
    int fd;

    p->sock = -1;
    p->next_sock = -1;
    p->out = output_new(&opt, &err);
    assert_non_null(p->out);
    new_connection(p, &fd);
    assert_int_equal(output_begin(p->out, fd, 5, 1, &err), 0);
    *state = p;
    return 0;
}

static int teardown(void **state)
{
    struct peer *p = *state;

    output_free(p->out);
    nf_frame_reader_free(p->reader);
    close(p->sock);
    free(p);
    return 0;
}

static void add(struct output *out, uint64_t seq, enum nf_kind kind)
{
    struct nf_event ev = {.epoch = 5, .seq = seq, .kind = kind};
    struct nf_error err = {0};

    if (output_event(out, &ev, &err) < 0)
        fail_msg("event %llu: %s", (unsigned long long)seq, err.text);
}

static void expect_batch(struct peer *p, uint64_t first, uint64_t last)
{
    struct nf_frame f;
    struct nf_error err = {0};
    int rc = nf_frame_next(p->reader, &f, &err);

    if (rc != NF_FRAME_READY)
        fail_msg("no batch %llu to %llu: %d %s", (unsigned long long)first,
                 (unsigned long long)last, rc, err.text);
    assert_int_equal(f.type, NF_FRAME_BATCH);
    assert_int_equal(f.batch.epoch, 5);
    assert_int_equal(f.batch.first_seq, first);
    assert_int_equal(f.batch.last_seq, last);
}

static void expect_nothing(struct peer *p)
{
    struct nf_frame f;

    assert_int_equal(nf_frame_next(p->reader, &f, NULL), NF_FRAME_AGAIN);
}

static void ack(struct peer *p, uint64_t seq)
{
    struct nf_ack a = {.epoch = 5, .last_seq = seq};
    struct nf_buffer b = {0};

    assert_int_equal(nf_frame_put_ack(&b, &a, NULL), 0);
    assert_int_equal(send(p->sock, b.data, b.len, 0), b.len);
    nf_buffer_release(&b);
}

static void sends_when_idle(void **state)
{
    struct peer *p = *state;
    struct nf_error err;

    add(p->out, 1, NF_CREATE);
    add(p->out, 2, NF_COMMIT);
    expect_nothing(p);
    assert_int_equal(output_flush(p->out, &err), 0);
    expect_batch(p, 1, 2);
    assert_int_equal(output_acked(p->out), 0);
    assert_true(output_fd(p->out) >= 0);
    ack(p, 2);
    assert_int_equal(output_poll(p->out, &err), 0);
    assert_int_equal(output_acked(p->out), 2);
    assert_int_equal(output_drain(p->out, -1, &err), 0);
}

static void drain_waits_for_the_acknowledgement(void **state)
{
    struct peer *p = *state;
    struct nf_error err;

    add(p->out, 1, NF_COMMIT);
    assert_int_equal(output_drain(p->out, 20, &err), 1);
    expect_batch(p, 1, 1);
    ack(p, 1);
    assert_int_equal(output_drain(p->out, 5000, &err), 0);
}

static void resends_after_a_loss(void **state)
{
    struct peer *p = *state;
    struct nf_error err;
    int fd;

    for (uint64_t seq = 1; seq <= 4; seq++) {
        add(p->out, seq, NF_COMMIT);
        assert_int_equal(output_flush(p->out, &err), 0);
    }
    expect_batch(p, 1, 1);
    ack(p, 1);
    assert_int_equal(output_poll(p->out, &err), 0);
    new_connection(p, &fd); /* closes the first */
    assert_int_equal(output_poll(p->out, &err), 0);
    assert_true(output_lost(p->out));
    assert_int_equal(output_fd(p->out), -1);
    /* Life goes on meanwhile. */
    add(p->out, 5, NF_CREATE);
    add(p->out, 6, NF_COMMIT);
    assert_int_equal(output_flush(p->out, &err), 0);
    assert_int_equal(output_acked(p->out), 1);
    assert_int_equal(output_resume(p->out, fd, &err), 0);
    assert_false(output_lost(p->out));
    expect_batch(p, 2, 2);
    expect_batch(p, 3, 3);
    expect_batch(p, 4, 4);
    expect_batch(p, 5, 6);
    expect_nothing(p);
    assert_int_equal(p->reconnects, 0);
}

static void a_full_backlog_waits_for_the_streamer(void **state)
{
    struct peer *p = *state;
    struct nf_error err;
    uint64_t seq = 1;
    int fd;

    new_connection(p, &fd);
    assert_int_equal(output_poll(p->out, &err), 0);
    assert_true(output_lost(p->out));
    p->next_sock = fd;
    /* The backlog's bound is 64 MiB, an event counts 512 bytes at least. */
    while (p->reconnects == 0 && seq <= 200000)
        add(p->out, seq++, NF_HEARTBEAT);
    assert_int_equal(p->reconnects, 1);
    assert_in_range(seq, 100000, 199999);
    assert_false(output_lost(p->out));
}

static void giving_up_is_an_error(void **state)
{
    struct peer *p = *state;
    struct nf_error err;
    int fd;

    add(p->out, 1, NF_COMMIT);
    new_connection(p, &fd);
    assert_int_equal(output_flush(p->out, &err), 0);
    assert_true(output_lost(p->out));
    assert_int_equal(output_drain(p->out, 100, &err), 1);
    assert_int_equal(output_drain(p->out, -1, &err), NF_ECLOSED);
    close(fd);
}

static void json_lines_carry_the_source(void **state)
{
    struct output_options opt = {.kind = OUTPUT_JSON, .host = "h", .vm = "v", .disk = "d"};
    struct nf_error err;
    struct output *out = output_new(&opt, &err);
    int fd = memfd_create("out", 0);
    char text[2000] = {0};

    (void)state;
    assert_int_equal(output_begin(out, fd, 5, 1, &err), 0);
    add(out, 1, NF_COMMIT);
    add(out, 2, NF_COMMIT);
    assert_int_equal(pread(fd, text, sizeof(text) - 1, 0), 0);
    assert_int_equal(output_flush(out, &err), 0);
    assert_true(pread(fd, text, sizeof(text) - 1, 0) > 0);
    assert_non_null(strstr(text, "\"host\":\"h\",\"vm\":\"v\",\"disk\":\"d\""));
    assert_non_null(strstr(text, "\"seq\":2"));
    assert_int_equal(output_fd(out), -1);
    assert_int_equal(output_drain(out, -1, &err), 0);
    output_free(out);
    close(fd);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sends_when_idle),
        TEST(drain_waits_for_the_acknowledgement),
        TEST(resends_after_a_loss),
        TEST(a_full_backlog_waits_for_the_streamer),
        TEST(giving_up_is_an_error),
        cmocka_unit_test(json_lines_carry_the_source),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
