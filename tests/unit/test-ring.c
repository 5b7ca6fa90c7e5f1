/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The two halves of the ring against each other: the producer is the file that
 * the QEMU driver is made of, the consumer is ours, between them a real memfd.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/tap.h"
#include "write-tap-ring.h"

#define RING (1u << 20)
#define DISK (UINT64_C(64) << 20)

struct both {
    WriteTapRing *ring;
    struct nf_ring_ctrl *ctrl; /* the producer's mapping */
    struct nf_tap *tap;
    int sock; /* the producer's end */
    struct nf_error err;
};

static int memfd_of(size_t size, int seals)
{
    int fd = memfd_create("test", MFD_CLOEXEC | MFD_ALLOW_SEALING);

    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, (off_t)size), 0);
    assert_int_equal(fcntl(fd, F_ADD_SEALS, seals), 0);
    return fd;
}

/* What the tap's server does when a consumer connects. */
static void attach(struct both *b)
{
    struct nf_tap_fds fds;
    int pair[2];

    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
    fds.sock = pair[0];
    b->sock = pair[1];
    fds.data = dup(write_tap_ring_fd(b->ring));
    fds.ctrl = memfd_of(NF_RING_CTRL_SIZE, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
    b->ctrl = mmap(NULL, NF_RING_CTRL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fds.ctrl, 0);
    assert_ptr_not_equal(b->ctrl, MAP_FAILED);
    write_tap_ring_attach(b->ring, b->ctrl);
    b->tap = nf_tap_new(&fds, &b->err);
    if (!b->tap)
        fail_msg("%s", b->err.text);
}

static void detach(struct both *b)
{
    nf_tap_free(b->tap);
    b->tap = NULL;
    write_tap_ring_attach(b->ring, NULL);
    munmap(b->ctrl, NF_RING_CTRL_SIZE);
    close(b->sock);
}

static void new_ring(struct both *b)
{
    static const uint8_t uuid[16] = "epoch-of-a-test";
    const WriteTapRingInfo info = {
        .epoch_uuid = uuid,
        .disk_id = "disk0",
        .disk_size = DISK,
        .payload_size = RING,
    };
    const char *what = "";
    int e = 0;

    memset(b, 0, sizeof(*b));
    b->ring = write_tap_ring_new(&info, &e, &what);
    if (!b->ring)
        fail_msg("%s: %s", what, strerror(e));
}

static int setup(void **state)
{
    struct both *b = calloc(1, sizeof(*b));

    new_ring(b);
    attach(b);
    *state = b;
    return 0;
}

static int teardown(void **state)
{
    struct both *b = *state;

    if (b->tap)
        detach(b);
    write_tap_ring_unref(b->ring);
    free(b);
    return 0;
}

static WriteTapReq *begin(struct both *b, uint32_t type, uint64_t offset, uint64_t length, int fill)
{
    WriteTapReq *req = calloc(1, sizeof(*req));
    void *buf = write_tap_ring_begin(b->ring, req, type, 0, offset, length);

    if (buf)
        memset(buf, fill, length);
    return req;
}

static bool end(struct both *b, WriteTapReq *req, int ret)
{
    bool bell = write_tap_ring_end(b->ring, req, ret, DISK);

    free(req);
    return bell;
}

static void write_one(struct both *b, uint64_t offset, uint64_t length, int fill)
{
    end(b, begin(b, NF_RING_WRITE, offset, length, fill), 0);
}

static struct nf_record take(struct both *b)
{
    struct nf_record rec;
    int ret = nf_tap_next(b->tap, &rec, &b->err);

    if (ret < 0)
        fail_msg("%s", b->err.text);
    assert_int_equal(ret, 1);
    return rec;
}

static void take_nothing(struct both *b)
{
    struct nf_record rec;

    assert_int_equal(nf_tap_next(b->tap, &rec, &b->err), 0);
}

static bool is_filled(const struct nf_record *rec, int fill)
{
    for (uint64_t i = 0; i < rec->length; i++) {
        if (rec->data[i] != (uint8_t)fill)
            return false;
    }
    return true;
}

static void test_info(void **state)
{
    struct both *b = *state;
    const struct nf_tap_info *info = nf_tap_info(b->tap);

    assert_string_equal(info->disk_id, "disk0");
    assert_int_equal(info->disk_size, DISK);
    assert_int_equal(info->payload_size, RING);
    assert_memory_equal(info->epoch_uuid, "epoch-of-a-test", 16);
    assert_int_equal(nf_tap_head(b->tap), 1);
}

static void test_order(void **state)
{
    struct both *b = *state;
    struct nf_record rec;
    WriteTapReq *first, *second;

    write_tap_ring_append(b->ring, NF_RING_OPEN, 0, DISK, 0);
    first = begin(b, NF_RING_WRITE, 4096, 5000, 'a');
    second = begin(b, NF_RING_ZERO, 1 << 20, 65536, 0);
    end(b, second, 0);
    write_tap_ring_append(b->ring, NF_RING_FLUSH, 0, 0, 4);

    rec = take(b);
    assert_int_equal(rec.type, NF_REC_OPEN);
    assert_int_equal(rec.length, DISK);
    take_nothing(b); /* the first write is in flight */
    assert_int_equal(nf_tap_peek(b->tap, 2, &rec, &b->err), 0);
    assert_int_equal(nf_tap_peek(b->tap, 3, &rec, &b->err), 1);
    assert_int_equal(rec.type, NF_REC_ZERO);
    assert_int_equal(nf_tap_peek(b->tap, 5, &rec, &b->err), 0);

    end(b, first, 0);
    rec = take(b);
    assert_int_equal(rec.type, NF_REC_WRITE);
    assert_int_equal(rec.seq, 2);
    assert_int_equal(rec.offset, 4096);
    assert_int_equal(rec.length, 5000);
    assert_int_equal(rec.flags, 0);
    assert_true(rec.time_ns > 0);
    assert_true(is_filled(&rec, 'a'));
    assert_int_equal(take(b).type, NF_REC_ZERO);
    rec = take(b);
    assert_int_equal(rec.type, NF_REC_FLUSH);
    assert_int_equal(rec.aux, 4);
    take_nothing(b);
    nf_tap_release(b->tap, 2);
    assert_int_equal(nf_tap_peek(b->tap, 2, &rec, &b->err), NF_EINVAL);
}

static void test_failed_write(void **state)
{
    struct both *b = *state;
    struct nf_record rec;

    end(b, begin(b, NF_RING_WRITE, 0, 4096, 1), -EIO);
    end(b, begin(b, NF_RING_DISCARD, 8192, 4096, 1), -ENOSPC);
    end(b, begin(b, NF_RING_RESIZE, 0, 2 * DISK, 1), -EPERM);
    for (int i = 0; i < 2; i++) {
        rec = take(b);
        assert_int_equal(rec.type, NF_REC_WRITE);
        assert_int_equal(rec.flags, NF_REC_FAILED);
        assert_int_equal(rec.offset, i * 8192);
        assert_int_equal(rec.length, 4096);
        assert_null(rec.data);
    }
    rec = take(b);
    assert_int_equal(rec.type, NF_REC_RESIZE);
    assert_int_equal(rec.length, DISK); /* what it is, not what was asked for */
    assert_int_equal(rec.flags, 0);
}

static void test_ambiguous(void **state)
{
    struct both *b = *state;
    WriteTapReq *one = begin(b, NF_RING_WRITE, 0, 8192, 1);
    WriteTapReq *two = begin(b, NF_RING_WRITE, 8192, 4096, 2); /* touches, no overlap */
    WriteTapReq *three = begin(b, NF_RING_WRITE, 4096, 512, 3);

    end(b, three, 0);
    end(b, two, 0);
    end(b, one, 0);
    write_one(b, 0, 4096, 4); /* not in flight together with any */
    assert_int_equal(take(b).flags, NF_REC_AMBIGUOUS);
    assert_int_equal(take(b).flags, 0);
    assert_int_equal(take(b).flags, NF_REC_AMBIGUOUS);
    assert_int_equal(take(b).flags, 0);
}

/* Payload runs over the end of its area many times, and stays contiguous. */
static void test_wrap(void **state)
{
    struct both *b = *state;
    struct nf_record held = {0}, rec;

    for (int i = 0; i < 500; i++) {
        uint64_t length = 4096 + (uint64_t)(i % 37) * 5000;

        write_one(b, (uint64_t)i * 512, length, i);
        rec = take(b);
        assert_int_equal(rec.seq, i + 1);
        assert_int_equal(rec.length, length);
        assert_true(is_filled(&rec, i));
        if (held.seq) {
            /* One record is always held: the ring is never empty. */
            assert_true(is_filled(&held, i - 1));
            nf_tap_release(b->tap, held.seq);
        }
        held = rec;
    }
    struct nf_ring_producer p;
    write_tap_ring_stats(b->ring, &p);
    assert_int_equal(p.lost_requests, 0);
}

static void test_restarts_when_empty(void **state)
{
    struct both *b = *state;
    struct nf_tap_status st;
    struct nf_record rec;
    ptrdiff_t furthest = 0;
    const uint8_t *first = NULL;

    for (int i = 0; i < 1000; i++) {
        write_one(b, 0, 4096, i);
        rec = take(b);
        if (!first)
            first = rec.data;
        if (rec.data - first > furthest)
            furthest = rec.data - first;
        nf_tap_release(b->tap, rec.seq);
    }
    nf_tap_status(b->tap, &st);
    assert_int_equal(st.records, 1000);
    assert_int_equal(st.lost_requests, 0);
    /* The payload took turns in the first pages of the megabyte. */
    assert_in_range(furthest, 1, RING / 8);
    assert_true(st.touched_bytes > 0 && st.touched_bytes <= NF_RING_DESC_OFFSET + 256 * 64 + RING);
}

static void test_gap(void **state)
{
    struct both *b = *state;
    struct nf_ring_producer p;
    struct nf_tap_status st;
    struct nf_record rec;
    WriteTapReq *late;
    int recorded;

    for (recorded = 0;; recorded++) {
        write_one(b, (uint64_t)recorded * 65536, 65536, recorded);
        write_tap_ring_stats(b->ring, &p);
        if (p.lost_requests)
            break;
    }
    assert_int_equal(recorded, RING / 65536);
    nf_tap_status(b->tap, &st);
    assert_true(st.in_gap);
    assert_int_equal(st.fill_permille, 1000);
    late = begin(b, NF_RING_WRITE, DISK / 2, 4096, 1);
    write_tap_ring_append(b->ring, NF_RING_FLUSH, 0, 0, 1);
    for (int i = 0; i < recorded; i++) {
        rec = take(b);
        assert_int_equal(rec.type, NF_REC_WRITE);
        assert_true(is_filled(&rec, i));
    }
    take_nothing(b);
    nf_tap_release(b->tap, UINT64_MAX);

    /* There is room: the gap gets its place, but its write is in flight. */
    write_one(b, 0, 4096, 7);
    take_nothing(b);
    nf_tap_status(b->tap, &st);
    assert_false(st.in_gap);
    assert_true(st.connected);
    end(b, late, 0);
    rec = take(b);
    assert_int_equal(rec.type, NF_REC_GAP);
    assert_int_equal(rec.offset, 3);
    assert_int_equal(rec.length, 65536 + 4096);
    rec = take(b);
    assert_int_equal(rec.type, NF_REC_WRITE);
    assert_true(is_filled(&rec, 7));
}

/* The gap is told even if no further request comes. */
static void test_gap_ends_on_request(void **state)
{
    struct both *b = *state;
    char msg = 0;

    for (int i = 0; i < 20; i++)
        write_one(b, 0, 65536, i);
    for (int i = 0; i < 16; i++)
        nf_tap_release(b->tap, take(b).seq);
    assert_int_equal(nf_tap_wait(b->tap, 0, &b->err), 0);
    assert_int_equal(recv(b->sock, &msg, 1, MSG_DONTWAIT), 1);
    assert_int_equal(msg, NF_RING_MSG_ROOM);
    assert_true(write_tap_ring_room(b->ring));
    assert_int_equal(nf_tap_wait(b->tap, 0, &b->err), 1);
    assert_int_equal(take(b).type, NF_REC_GAP);
}

static void test_too_large(void **state)
{
    struct both *b = *state;
    WriteTapReq *large = begin(b, NF_RING_WRITE, 0, RING / 4 + 1, 1);
    WriteTapReq *overlap = begin(b, NF_RING_WRITE, 4096, 4096, 2);
    struct nf_record rec;

    assert_int_equal(large->seq, 0);
    end(b, overlap, 0);
    take_nothing(b);
    end(b, large, 0);
    rec = take(b);
    assert_int_equal(rec.type, NF_REC_GAP);
    assert_int_equal(rec.offset, 1);
    assert_int_equal(rec.length, RING / 4 + 1);
    rec = take(b);
    assert_int_equal(rec.flags, NF_REC_AMBIGUOUS);
    assert_int_equal(rec.type, NF_REC_WRITE);
}

static void test_doorbell(void **state)
{
    struct both *b = *state;
    WriteTapReq *req = begin(b, NF_RING_WRITE, 0, 4096, 1);

    assert_int_equal(nf_tap_wait(b->tap, 0, &b->err), 0);
    assert_true(end(b, req, 0)); /* asked for */
    assert_int_equal(nf_tap_wait(b->tap, 1000, &b->err), 1);
    take(b);
    assert_int_equal(nf_tap_wait(b->tap, 0, &b->err), 0);
    assert_true(write_tap_ring_append(b->ring, NF_RING_FLUSH, 0, 0, 1));
    assert_false(write_tap_ring_append(b->ring, NF_RING_FLUSH, 0, 0, 1)); /* only once */
    assert_int_equal(send(b->sock, "w", 1, 0), 1);
    assert_int_equal(nf_tap_wait(b->tap, 1000, &b->err), 1);
}

static void test_consumer_comes_back(void **state)
{
    struct both *b = *state;

    for (int i = 0; i < 5; i++)
        write_one(b, (uint64_t)i * 4096, 4096, i);
    take(b);
    nf_tap_release(b->tap, take(b).seq);
    take(b); /* taken, but not released: it comes again */
    detach(b);
    write_one(b, 0, 4096, 5);
    attach(b);
    for (int i = 2; i < 6; i++) {
        struct nf_record rec = take(b);

        assert_int_equal(rec.seq, i + 1);
        assert_true(is_filled(&rec, i));
    }
    take_nothing(b);
}

static void test_producer_dies(void **state)
{
    struct both *b = *state;
    struct nf_record rec;
    WriteTapReq *lost[3];

    write_one(b, 0, 4096, 1);
    lost[0] = begin(b, NF_RING_WRITE, 4096, 512, 2);
    lost[1] = begin(b, NF_RING_DISCARD, 1 << 20, 65536, 0);
    lost[2] = begin(b, NF_RING_RESIZE, 0, 2 * DISK, 0);
    write_one(b, 8192, 4096, 3);
    take(b);
    take_nothing(b);
    shutdown(b->sock, SHUT_RDWR);
    assert_int_equal(nf_tap_wait(b->tap, -1, &b->err), 1);
    assert_int_equal(nf_tap_fd(b->tap), -1);
    rec = take(b);
    assert_int_equal(rec.type, NF_REC_WRITE);
    assert_int_equal(rec.flags, NF_REC_FAILED);
    assert_int_equal(rec.offset, 4096);
    assert_int_equal(rec.length, 512);
    assert_null(rec.data);
    rec = take(b);
    assert_int_equal(rec.type, NF_REC_WRITE);
    assert_int_equal(rec.flags, NF_REC_FAILED);
    assert_int_equal(rec.offset, 1 << 20);
    rec = take(b);
    assert_int_equal(rec.type, NF_REC_RESIZE);
    assert_int_equal(rec.flags, NF_REC_FAILED);
    rec = take(b);
    assert_true(is_filled(&rec, 3));
    assert_int_equal(nf_tap_next(b->tap, &rec, &b->err), NF_ECLOSED);
    for (int i = 0; i < 3; i++)
        end(b, lost[i], 0);
}

static void test_hostile_tail(void **state)
{
    const uint64_t bad[] = {0, 3, 4, UINT64_MAX};

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct both own;
        WriteTapReq *busy;

        new_ring(&own);
        attach(&own);
        write_one(&own, 0, 4096, 1);
        busy = begin(&own, NF_RING_WRITE, 4096, 4096, 2); /* seq 2: tail 3 is too far */
        own.ctrl->tail = bad[i];
        for (int n = 0; n < 300; n++)
            write_tap_ring_append(own.ring, NF_RING_FLUSH, 0, 0, 1);
        assert_true(write_tap_ring_take_fault(own.ring));
        assert_false(write_tap_ring_take_fault(own.ring));
        end(&own, busy, 0);
        detach(&own);
        write_tap_ring_unref(own.ring);
    }
    (void)state;
}

static void test_close(void **state)
{
    struct both *b = *state;
    struct nf_record rec;

    write_tap_ring_close(b->ring, 0);
    write_one(b, 0, 4096, 1);
    rec = take(b);
    assert_int_equal(rec.type, NF_REC_CLOSE);
    take_nothing(b);
}

/* ---- what a hostile producer could hand over ---- */

static void refuse(size_t size, int seals, size_t ctrl_size, const struct nf_ring_header *h,
                   int code)
{
    struct nf_tap_fds fds = {.sock = -1};
    struct nf_error err = {0};

    fds.data = memfd_of(size, 0);
    if (h)
        assert_int_equal(pwrite(fds.data, h, sizeof(*h), 0), sizeof(*h));
    assert_int_equal(fcntl(fds.data, F_ADD_SEALS, seals), 0);
    fds.ctrl = memfd_of(ctrl_size, F_SEAL_SHRINK | F_SEAL_GROW);
    assert_null(nf_tap_new(&fds, &err));
    assert_int_equal(err.code, code);
    assert_int_equal(fds.data, -1);
}

static void test_hostile_header(void **state)
{
    struct both *b = *state;
    const int seals = F_SEAL_SHRINK | F_SEAL_GROW;
    struct nf_ring_header good, h;
    size_t size;

    assert_int_equal(pread(write_tap_ring_fd(b->ring), &good, sizeof(good), 0), sizeof(good));
    size = good.data_size;
    refuse(size, 0, 4096, &good, NF_EFORMAT);    /* not sealed */
    refuse(0, seals, 4096, NULL, NF_EFORMAT);    /* empty */
    refuse(size, seals, 4096, NULL, NF_EFORMAT); /* zeros */
    refuse(size, seals, 0, &good, NF_EFORMAT);
    refuse(size - 4096, seals, 4096, &good, NF_EFORMAT);
    /* Tail 0 in the control page that refuse() makes: all else is good. */
    refuse(size, seals, 4096, &good, NF_EFORMAT);
#define BREAK(field, value, code) \
    do { \
        h = good; \
        h.field = (value); \
        refuse(size, seals, 4096, &h, code); \
    } while (0)
    BREAK(magic, 1, NF_EFORMAT);
    BREAK(version, 2, NF_EUNSUPPORTED);
    BREAK(desc_size, 128, NF_EFORMAT);
    BREAK(desc_offset, 0, NF_EFORMAT);
    BREAK(desc_count, 0, NF_EFORMAT);
    BREAK(desc_count, 257, NF_EFORMAT);
    BREAK(desc_count, UINT64_C(1) << 63, NF_EFORMAT);
    BREAK(desc_count, 512 * 4, NF_EFORMAT); /* into the payload */
    BREAK(payload_offset, UINT64_MAX - 4095, NF_EFORMAT);
    BREAK(payload_size, UINT64_MAX - 4095, NF_EFORMAT);
    BREAK(payload_size, 2 * RING, NF_EFORMAT);
    BREAK(disk_size, UINT64_MAX, NF_EFORMAT);
#undef BREAK
    h = good;
    memset(h.disk_id, 'x', sizeof(h.disk_id));
    refuse(size, seals, 4096, &h, NF_EFORMAT);
}

static void test_connect_errors(void **state)
{
    char dir[] = "/tmp/nf-ring.XXXXXX", path[64], longer[200];
    struct nf_tap_fds fds;
    struct nf_error err;
    FILE *f;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/x", dir);
    assert_int_equal(nf_tap_connect(path, &fds, &err), NF_ENOTFOUND);
    assert_int_equal(fds.sock, -1);
    f = fopen(path, "w");
    assert_non_null(f);
    fclose(f);
    assert_int_equal(nf_tap_connect(path, &fds, &err), NF_EINVAL);
    memset(longer, 'x', sizeof(longer) - 1);
    longer[sizeof(longer) - 1] = 0;
    assert_int_equal(nf_tap_connect(longer, &fds, &err), NF_EINVAL);
    unlink(path);
    rmdir(dir);
}

/* ---- many threads ---- */

#define THREADS 4
#define WRITES 4000
#define SECTORS 4096 /* of 512 bytes: the disk of this test */

struct stress {
    struct both *b;
    pthread_mutex_t lock;
    uint8_t disk[SECTORS * 512];
};

struct worker {
    struct stress *s;
    unsigned seed;
    unsigned index;
};

/* Each thread writes its own sectors, so that the disk's order is known. */
static void *stress_writer(void *arg)
{
    struct worker *w = arg;
    struct stress *s = w->s;
    WriteTapRing *ring = s->b->ring;

    for (int i = 0; i < WRITES; i++) {
        unsigned base = w->index * (SECTORS / THREADS);
        unsigned count = 1 + (unsigned)rand_r(&w->seed) % 32;
        unsigned first = base + (unsigned)rand_r(&w->seed) % (SECTORS / THREADS - count);
        uint8_t fill = (uint8_t)rand_r(&w->seed);
        WriteTapReq req;
        uint8_t *buf;
        bool bell;

        pthread_mutex_lock(&s->lock);
        buf = write_tap_ring_begin(ring, &req, NF_RING_WRITE, 0, first * 512, count * 512);
        pthread_mutex_unlock(&s->lock);
        if (buf)
            memset(buf, fill, count * 512);
        memset(s->disk + first * 512, fill, count * 512);
        pthread_mutex_lock(&s->lock);
        bell = write_tap_ring_end(ring, &req, 0, 0);
        if (bell)
            send(s->b->sock, "w", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}

/* The server's main loop, as far as it matters. */
static void *stress_server(void *arg)
{
    struct stress *s = arg;
    char buf[16];

    while (recv(s->b->sock, buf, sizeof(buf), 0) > 0) {
        pthread_mutex_lock(&s->lock);
        if (write_tap_ring_room(s->b->ring))
            send(s->b->sock, "w", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        pthread_mutex_unlock(&s->lock);
    }
    return NULL;
}

static void *stress_reader(void *arg)
{
    struct stress *s = arg;
    uint8_t *image = calloc(SECTORS, 512);
    uint64_t expected = 1, covered = 0, lost = 0;
    struct nf_record rec;
    struct nf_error err;
    bool same = true;
    int ret;

    for (;;) {
        ret = nf_tap_next(s->b->tap, &rec, &err);
        if (ret == 0) {
            if (nf_tap_wait(s->b->tap, -1, &err) != 1)
                break;
            continue;
        }
        if (ret < 0 || rec.seq != expected++)
            break;
        if (rec.type == NF_REC_CLOSE)
            break;
        if (rec.type == NF_REC_WRITE) {
            memcpy(image + rec.offset, rec.data, rec.length);
            covered++;
        } else if (rec.type == NF_REC_GAP) {
            lost += rec.offset;
        }
        if (rec.seq % 3 == 0)
            nf_tap_release(s->b->tap, rec.seq);
    }
    if (ret != 1 || rec.type != NF_REC_CLOSE || covered + lost != THREADS * WRITES)
        same = false;
    else if (lost == 0)
        same = memcmp(image, s->disk, sizeof(s->disk)) == 0;
    if (!same)
        fprintf(stderr, "ret %d seq %llu covered %llu lost %llu\n", ret,
                (unsigned long long)expected, (unsigned long long)covered,
                (unsigned long long)lost);
    free(image);
    return same ? s : NULL;
}

static void test_stress(void **state)
{
    struct stress *s = calloc(1, sizeof(*s));
    struct worker workers[THREADS];
    pthread_t threads[THREADS], reader, server;
    void *result = NULL;

    s->b = *state;
    pthread_mutex_init(&s->lock, NULL);
    assert_int_equal(pthread_create(&reader, NULL, stress_reader, s), 0);
    assert_int_equal(pthread_create(&server, NULL, stress_server, s), 0);
    for (unsigned i = 0; i < THREADS; i++) {
        workers[i] = (struct worker){.s = s, .seed = 4711 + i, .index = i};
        assert_int_equal(pthread_create(&threads[i], NULL, stress_writer, &workers[i]), 0);
    }
    for (unsigned i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    /* CLOSE needs room: the reader makes it. */
    for (bool closed = false; !closed; usleep(1000)) {
        struct nf_ring_producer p;
        bool bell;

        pthread_mutex_lock(&s->lock);
        bell = write_tap_ring_room(s->b->ring);
        write_tap_ring_stats(s->b->ring, &p);
        if (p.state == NF_RING_STATE_STREAMING) {
            closed = true;
            bell |= write_tap_ring_close(s->b->ring, 0);
        }
        if (bell)
            send(s->b->sock, "w", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        pthread_mutex_unlock(&s->lock);
    }
    pthread_join(reader, &result);
    shutdown(s->b->sock, SHUT_RDWR);
    pthread_join(server, NULL);
    assert_ptr_equal(result, s);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        T(test_info),
        T(test_order),
        T(test_failed_write),
        T(test_ambiguous),
        T(test_wrap),
        T(test_restarts_when_empty),
        T(test_gap),
        T(test_gap_ends_on_request),
        T(test_too_large),
        T(test_doorbell),
        T(test_consumer_comes_back),
        T(test_producer_dies),
        T(test_hostile_tail),
        T(test_close),
        T(test_hostile_header),
        T(test_connect_errors),
        T(test_stress),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
