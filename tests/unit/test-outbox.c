/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The outbox: what a record says comes back, whatever byte a kill cut the last
 * one at and wherever the file is damaged; another disk's is refused; a full
 * disk loses nothing; and it does not grow without bound.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "bdi/daemon/outbox.h"

#define BOOT "01234567-89ab-cdef-0123-456789abcdef"

struct test {
    int fds[2], sink;
    struct outbox *box;
    struct outbox_owner owner;
    struct nf_batch_writer *w;
    uint64_t seq;
};

static int reopen(struct test *t, const char *boot, bool *same)
{
    struct nf_error why = {0};
    int rc;

    outbox_free(t->box);
    rc = outbox_open(t->fds, &t->owner, boot, &t->box, same, &why);
    /* Whatever is wrong is said. */
    assert_int_equal(rc < 0 || rc == 2, why.text[0] != '\0');
    return rc;
}

static int setup(void **state)
{
    struct test *t = calloc(1, sizeof(*t));
    struct nf_batch_writer_options bo = {.epoch = 9, .next_seq = 1};
    bool same;

    assert_non_null(t);
    t->fds[0] = memfd_create("0", MFD_CLOEXEC);
    t->fds[1] = memfd_create("1", MFD_CLOEXEC);
    t->sink = memfd_create("sink", MFD_CLOEXEC);
    assert_true(t->fds[0] >= 0 && t->fds[1] >= 0 && t->sink >= 0);
    t->owner = (struct outbox_owner){.host = "h", .vm = "v", .disk = "d", .disk_size = 1 << 20};
    bo.fd = t->sink;
    t->w = nf_batch_writer_new(&bo, NULL);
    assert_non_null(t->w);
    nf_batch_writer_hold(t->w);
    t->seq = 1;
    assert_int_equal(reopen(t, BOOT, &same), 0);
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct test *t = *state;

    outbox_free(t->box);
    nf_batch_writer_free(t->w);
    close(t->fds[0]);
    close(t->fds[1]);
    close(t->sink);
    free(t);
    return 0;
}

static void add(struct test *t, int events)
{
    for (int i = 0; i < events; i++) {
        struct nf_event ev = {.epoch = 9, .seq = t->seq++, .kind = NF_COMMIT};

        assert_int_equal(nf_batch_writer_add(t->w, &ev, NULL), 0);
    }
    assert_int_equal(nf_batch_writer_end(t->w, NULL), 0);
}

static struct outbox_mark mark(const struct test *t, uint64_t acked)
{
    return (struct outbox_mark){.generation = t->seq, .epoch = 9, .next_seq = t->seq,
                                .acked = acked, .position = 100 + t->seq,
                                .tap_uuid = "0123456789abcde", .out_offset = 5, .picture = true};
}

static struct nf_bytes text(const char *s)
{
    return (struct nf_bytes){(const uint8_t *)s, strlen(s)};
}

static uint64_t size_of(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    return (uint64_t)st.st_size;
}

static void expect_last(const struct test *t, const struct outbox_mark *m)
{
    const struct outbox_mark *last = outbox_last(t->box);

    assert_int_equal(last->generation, m->generation);
    assert_int_equal(last->epoch, m->epoch);
    assert_int_equal(last->next_seq, m->next_seq);
    assert_int_equal(last->acked, m->acked);
    assert_int_equal(last->position, m->position);
    assert_memory_equal(last->tap_uuid, m->tap_uuid, sizeof(m->tap_uuid));
    assert_int_equal(last->out_offset, m->out_offset);
    assert_int_equal(last->picture, m->picture);
}

static size_t frames(const struct test *t, uint64_t *last)
{
    struct nf_stored_frame f;
    size_t pos = 0, n = 0;

    for (*last = 0; outbox_frame(t->box, &pos, &f); n++) {
        assert_true(f.last_seq > *last);
        *last = f.last_seq;
    }
    return n;
}

static void test_comes_back(void **state)
{
    struct test *t = *state;
    struct outbox_mark m;
    uint64_t last;
    bool same;

    add(t, 3);
    m = mark(t, 0);
    assert_int_equal(outbox_append(t->box, &m, text("first"), t->w, NULL), 0);
    assert_int_equal(nf_batch_writer_stored(t->w, NULL), 0);
    /* That was sent, and so acknowledged as far as a file can. */
    add(t, 2);
    m = mark(t, 3);
    assert_int_equal(outbox_append(t->box, &m, text("second"), t->w, NULL), 0);

    assert_int_equal(reopen(t, BOOT, &same), 1);
    assert_true(same);
    expect_last(t, &m);
    assert_int_equal(outbox_state(t->box).len, 6);
    assert_memory_equal(outbox_state(t->box).data, "second", 6);
    assert_int_equal(frames(t, &last), 1);
    assert_int_equal(last, 5);

    assert_int_equal(reopen(t, "another0-89ab-cdef-0123-456789abcdef", &same), 1);
    assert_false(same);
    t->owner.disk_size++;
    assert_int_equal(reopen(t, BOOT, &same), NF_EINVAL);
    t->owner.disk_size--;
    strcpy(t->owner.vm, "w");
    assert_int_equal(reopen(t, BOOT, &same), NF_EINVAL);
    strcpy(t->owner.vm, "v");
    assert_int_equal(reopen(t, BOOT, &same), 1);
}

/* What is sent again is what was sent, to the byte. */
static void test_frames_verbatim(void **state)
{
    struct test *t = *state;
    struct nf_batch_writer_options bo = {.epoch = 9, .next_seq = 1};
    struct nf_stored_frame f;
    struct nf_batch_writer *again;
    uint8_t *sent, *resent;
    uint64_t size;
    size_t pos = 0;
    bool same;

    for (int i = 1; i < 20; i++) {
        struct outbox_mark m;

        add(t, i);
        m = mark(t, 0);
        assert_int_equal(outbox_append(t->box, &m, text("s"), t->w, NULL), 0);
        assert_int_equal(nf_batch_writer_stored(t->w, NULL), 0);
    }
    size = size_of(t->sink);
    sent = malloc(size);
    resent = malloc(size);
    assert_true(sent && resent);
    assert_int_equal(pread(t->sink, sent, size, 0), size);
    assert_int_equal(ftruncate(t->sink, 0), 0);
    assert_int_equal(lseek(t->sink, 0, SEEK_SET), 0);

    assert_int_equal(reopen(t, BOOT, &same), 1);
    bo.fd = t->sink;
    again = nf_batch_writer_new(&bo, NULL);
    assert_non_null(again);
    while (outbox_frame(t->box, &pos, &f))
        assert_int_equal(nf_batch_writer_load(again, &f, NULL), 0);
    nf_batch_writer_hold(again);
    assert_int_equal(nf_batch_writer_stored(again, NULL), 0);
    assert_int_equal(size_of(t->sink), size);
    assert_int_equal(pread(t->sink, resent, size, 0), size);
    assert_memory_equal(sent, resent, size);
    nf_batch_writer_free(again);
    free(sent);
    free(resent);
}

/* Two records; then the second cut at each byte, then each of its bytes wrong. */
static void test_torn(void **state)
{
    struct test *t = *state;
    struct outbox_mark first, second;
    uint64_t one, two, last;
    uint8_t *all;
    bool same;

    add(t, 2);
    first = mark(t, 0);
    assert_int_equal(outbox_append(t->box, &first, text("first"), t->w, NULL), 0);
    one = size_of(t->fds[0]);
    assert_int_equal(nf_batch_writer_stored(t->w, NULL), 0);
    add(t, 1);
    second = mark(t, 0);
    assert_int_equal(outbox_append(t->box, &second, text("second"), t->w, NULL), 0);
    two = size_of(t->fds[0]);
    all = malloc(two);
    assert_non_null(all);
    assert_int_equal(pread(t->fds[0], all, two, 0), two);
    for (uint64_t cut = one; cut < two; cut++) {
        assert_int_equal(ftruncate(t->fds[0], (off_t)cut), 0);
        assert_int_equal(reopen(t, BOOT, &same), 1);
        expect_last(t, &first);
        assert_int_equal(frames(t, &last), 1);
        assert_int_equal(last, 2);
        all[cut] ^= 0x10;
        assert_int_equal(pwrite(t->fds[0], all, two, 0), two);
        all[cut] ^= 0x10;
        assert_int_equal(reopen(t, BOOT, &same), 1);
        expect_last(t, &first);
    }
    assert_int_equal(pwrite(t->fds[0], all, two, 0), two);
    assert_int_equal(reopen(t, BOOT, &same), 1);
    expect_last(t, &second);
    /* The first record's bytes: nothing of it is believed, and it is said. */
    for (uint64_t at = 0; at < one; at += 7) {
        all[at] ^= 0x10;
        assert_int_equal(pwrite(t->fds[0], all, two, 0), two);
        all[at] ^= 0x10;
        /* 8 to 11: a version that a later program may understand. */
        assert_int_equal(reopen(t, BOOT, &same), at >= 8 && at < 12 ? NF_EINVAL : 2);
    }
    free(all);
}

/* Killed at any byte of beginning the other file: one of the two counts. */
static void test_torn_rewrite(void **state)
{
    struct test *t = *state;
    struct outbox_mark first, second;
    uint8_t *old, *new;
    uint64_t nold, nnew, last;
    bool same;

    add(t, 2);
    first = mark(t, 0);
    assert_int_equal(outbox_append(t->box, &first, text("first"), t->w, NULL), 0);
    nold = size_of(t->fds[0]);
    old = malloc(nold);
    assert_true(old && pread(t->fds[0], old, nold, 0) == (ssize_t)nold);
    assert_int_equal(nf_batch_writer_stored(t->w, NULL), 0);
    add(t, 1);
    second = mark(t, 2);
    assert_int_equal(outbox_rewrite(t->box, &second, text("second"), t->w, NULL), 0);
    assert_int_equal(size_of(t->fds[0]), 0);
    nnew = size_of(t->fds[1]);
    new = malloc(nnew);
    assert_true(new && pread(t->fds[1], new, nnew, 0) == (ssize_t)nnew);

    assert_int_equal(pwrite(t->fds[0], old, nold, 0), nold);
    for (uint64_t cut = 0; cut < nnew; cut++) {
        /* The record comes first, then the header. */
        uint64_t body = cut < nnew - 512 ? cut : nnew - 512, head = cut - body;

        assert_int_equal(ftruncate(t->fds[1], 0), 0);
        assert_int_equal(pwrite(t->fds[1], new + 512, body, 512), body);
        if (head && head < 512)
            continue; /* a header is one write into a page */
        assert_int_equal(reopen(t, BOOT, &same), 1);
        expect_last(t, &first);
        assert_int_equal(frames(t, &last), 1);
    }
    assert_int_equal(pwrite(t->fds[1], new, nnew, 0), nnew);
    assert_int_equal(reopen(t, BOOT, &same), 1); /* the old one is still there */
    expect_last(t, &second);
    assert_int_equal(frames(t, &last), 1);
    assert_int_equal(last, 3);
    free(old);
    free(new);
}

static void test_full_disk(void **state)
{
    struct test *t = *state;
    struct outbox_mark first, second;
    struct rlimit old, small;
    struct nf_error err = {0};
    uint64_t last;
    bool same;

    signal(SIGXFSZ, SIG_IGN);
    add(t, 2);
    first = mark(t, 0);
    assert_int_equal(outbox_append(t->box, &first, text("first"), t->w, NULL), 0);
    assert_int_equal(nf_batch_writer_stored(t->w, NULL), 0);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = size_of(t->fds[0]) + 50;
    add(t, 1);
    second = mark(t, 2);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(outbox_append(t->box, &second, text("second"), t->w, &err), NF_EIO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_non_null(strstr(err.text, "outbox"));
    /* An engine that ended there goes on from the first... */
    assert_int_equal(reopen(t, BOOT, &same), 1);
    expect_last(t, &first);
    assert_int_equal(frames(t, &last), 1);
    /* ...and with room again, nothing stands in the way. */
    assert_int_equal(outbox_rewrite(t->box, &second, text("second"), t->w, NULL), 0);
    assert_int_equal(reopen(t, BOOT, &same), 1);
    expect_last(t, &second);
}

static void test_stays_small(void **state)
{
    struct test *t = *state;
    uint8_t *big = calloc(1, 1 << 20);
    uint64_t most = 0, rewrites = 0;

    assert_non_null(big);
    for (int i = 0; i < 100; i++) {
        struct outbox_mark m;
        struct nf_bytes s = {big, 1 << 20};

        add(t, 1);
        m = mark(t, t->seq - 2);
        if (outbox_large(t->box)) {
            rewrites++;
            assert_int_equal(outbox_rewrite(t->box, &m, s, t->w, NULL), 0);
        } else {
            assert_int_equal(outbox_append(t->box, &m, s, t->w, NULL), 0);
        }
        assert_int_equal(nf_batch_writer_stored(t->w, NULL), 0);
        if (size_of(t->fds[0]) + size_of(t->fds[1]) > most)
            most = size_of(t->fds[0]) + size_of(t->fds[1]);
    }
    assert_true(rewrites >= 4 && most < 24u << 20);
    free(big);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_comes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_frames_verbatim, setup, teardown),
        cmocka_unit_test_setup_teardown(test_torn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_torn_rewrite, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(test_stays_small, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
