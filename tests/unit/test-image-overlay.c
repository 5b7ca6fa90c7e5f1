/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The overlay against a flat array that is changed in the plain way.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/image_overlay.h"
#include "common/rangeset.h"

#define MAX_DISK 300000u

static unsigned next_random(unsigned *seed, unsigned below)
{
    *seed = *seed * 1103515245u + 12345u;
    return (*seed >> 8) % below;
}

static int base_file(const uint8_t *data, size_t len)
{
    int fd = memfd_create("base", MFD_CLOEXEC);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), len);
    return fd;
}

static void assert_same(struct nf_image *img, const uint8_t *want, uint64_t size, unsigned *seed)
{
    static uint8_t got[MAX_DISK];
    struct nf_error err = { 0 };
    unsigned from, len;

    assert_int_equal(img->size, size);
    assert_int_equal(img->read(img, 0, got, size, &err), 0);
    assert_memory_equal(got, want, size);
    if (size == 0)
        return;
    from = next_random(seed, (unsigned)size);
    len = next_random(seed, (unsigned)size - from + 1);
    memset(got, 0xee, sizeof(got));
    assert_int_equal(img->read(img, from, got, len, &err), 0);
    assert_memory_equal(got, want + from, len);
    assert_int_equal(got[len], 0xee);
    assert_int_equal(img->read(img, size - 1, got, 2, &err), NF_EINVAL);
}

#define RECORDS 400u

static void make_records(struct nf_record *recs, const uint8_t *data, unsigned size, unsigned *seed)
{
    for (unsigned step = 0; step < RECORDS; step++) {
        struct nf_record rec = { .seq = step };
        unsigned what = next_random(seed, 20);

        rec.offset = size ? next_random(seed, size) : 0;
        rec.length = next_random(seed, (unsigned)(size - rec.offset) + 1);
        if (next_random(seed, 2))
            rec.length %= 3000;
        if (next_random(seed, 2)) { /* as guests write */
            rec.offset -= rec.offset % 512;
            rec.length -= rec.length % 512;
        }
        if (what < 10) {
            rec.type = what ? NF_REC_WRITE : NF_REC_READBACK;
            rec.data = data + next_random(seed, (unsigned)(MAX_DISK - rec.length));
        } else if (what < 15) {
            rec.type = NF_REC_ZERO;
        } else if (what == 15) {
            rec.type = NF_REC_DISCARD; /* discard=unmap */
        } else if (what == 16) {
            rec.type = NF_REC_WRITE; /* its outcome is unknown */
            rec.flags = NF_REC_FAILED;
        } else if (what == 17) {
            rec.type = NF_REC_FLUSH;
        } else if (what == 18) {
            rec.type = NF_REC_RESIZE;
            rec.length = size = next_random(seed, MAX_DISK - 1);
        } else {
            rec.type = NF_REC_GAP;
        }
        recs[step] = rec;
    }
}

static struct nf_trace_reader *as_trace(const struct nf_record *recs, uint64_t size)
{
    const struct nf_trace_info info = { .disk_size = size };
    struct nf_error err = { 0 };
    int fd = memfd_create("trace", MFD_CLOEXEC);
    struct nf_trace_writer *w;
    struct nf_trace_reader *r;

    assert_true(fd >= 0);
    w = nf_trace_create_fd(dup(fd), &info, &err);
    assert_non_null(w);
    for (unsigned i = 0; i < RECORDS; i++)
        assert_int_equal(nf_trace_append(w, &recs[i], &err), NF_OK);
    assert_int_equal(nf_trace_finish(w, &err), NF_OK);
    r = nf_trace_open_fd(fd, &err);
    assert_non_null(r);
    return r;
}

/* @again: the overlay finds again in a trace what the records wrote. */
static void random_records(unsigned seed, bool again)
{
    static uint8_t model[MAX_DISK], base[MAX_DISK], data[MAX_DISK];
    static struct nf_record recs[RECORDS];
    unsigned size = 100000 + next_random(&seed, 100000), base_len = next_random(&seed, 250000);
    struct nf_trace_reader *trace = NULL;
    struct nf_error err = { 0 };
    struct nf_image_overlay *o;
    int fd;

    for (unsigned i = 0; i < MAX_DISK; i++) {
        base[i] = (uint8_t)(i % 251 + 1);
        data[i] = (uint8_t)(next_random(&seed, 256));
    }
    memset(model, 0, sizeof(model));
    memcpy(model, base, base_len < size ? base_len : size);
    fd = base_file(base, base_len);
    o = nf_image_overlay_new(fd, size, &err);
    assert_non_null(o);
    make_records(recs, data, size, &seed);
    if (again) {
        trace = as_trace(recs, size);
        nf_image_overlay_read_again(o, trace);
    }

    for (unsigned step = 0; step < RECORDS; step++) {
        struct nf_record rec = recs[step];

        if (rec.flags & NF_REC_FAILED)
            ;
        else if (rec.type == NF_REC_WRITE || rec.type == NF_REC_READBACK)
            memcpy(model + rec.offset, rec.data, rec.length);
        else if (rec.type == NF_REC_ZERO || rec.type == NF_REC_DISCARD)
            memset(model + rec.offset, 0, rec.length);
        else if (rec.type == NF_REC_RESIZE && rec.length < size)
            memset(model + rec.length, 0, size - rec.length);
        if (rec.type == NF_REC_RESIZE)
            size = (unsigned)rec.length;
        if (again)
            assert_int_equal(nf_trace_next(trace, &rec, &err), 1);
        assert_int_equal(nf_image_overlay_apply(o, &rec, &err), NF_OK);
        if (step % 7 == 0)
            assert_same(nf_image_overlay_image(o), model, size, &seed);
    }
    assert_same(nf_image_overlay_image(o), model, size, &seed);
    nf_image_overlay_free(o);
    nf_trace_close(trace);
    /* The base is as it was. */
    assert_int_equal(lseek(fd, 0, SEEK_END), base_len);
    assert_int_equal(pread(fd, data, base_len, 0), base_len);
    assert_memory_equal(data, base, base_len);
    close(fd);
}

static void like_a_flat_array(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed <= 20; seed++) {
        print_message("seed %u\n", seed);
        random_records(seed, false);
        random_records(seed, true);
    }
}

static void beyond_the_disk_is_refused(void **state)
{
    uint8_t byte = 1;
    struct nf_error err = { 0 };
    int fd = base_file(&byte, 1);
    struct nf_image_overlay *o = nf_image_overlay_new(fd, 4096, &err);
    struct nf_record rec = { .seq = 3, .type = NF_REC_WRITE, .offset = 4096, .length = 1,
                             .data = &byte };

    (void)state;
    assert_int_equal(nf_image_overlay_apply(o, &rec, &err), NF_EFORMAT);
    rec.offset = UINT64_MAX;
    assert_int_equal(nf_image_overlay_apply(o, &rec, &err), NF_EFORMAT);
    rec.offset = 4095;
    assert_int_equal(nf_image_overlay_apply(o, &rec, &err), NF_OK);
    rec = (struct nf_record){ .type = NF_REC_ZERO, .offset = 1, .length = UINT64_MAX };
    assert_int_equal(nf_image_overlay_apply(o, &rec, &err), NF_EFORMAT);
    rec = (struct nf_record){ .type = NF_REC_RESIZE, .length = UINT64_MAX };
    assert_int_equal(nf_image_overlay_apply(o, &rec, &err), NF_EFORMAT);
    assert_int_equal(nf_image_overlay_image(o)->size, 4096);
    nf_image_overlay_free(o);
    close(fd);
}

/* A claim of exabytes costs no more than any other record. */
static void huge_disk_costs_nothing(void **state)
{
    uint8_t byte = 1, got[16];
    struct nf_error err = { 0 };
    int fd = base_file(&byte, 1);
    struct nf_image_overlay *o = nf_image_overlay_new(fd, INT64_MAX, &err);
    struct nf_image *img = nf_image_overlay_image(o);
    struct nf_record zero = { .type = NF_REC_ZERO, .length = INT64_MAX };
    struct nf_record one = { .type = NF_REC_WRITE, .offset = 77, .length = 1, .data = &byte };

    (void)state;
    for (int i = 0; i < 1000; i++) {
        assert_int_equal(nf_image_overlay_apply(o, &zero, &err), NF_OK);
        assert_int_equal(nf_image_overlay_apply(o, &one, &err), NF_OK);
    }
    assert_int_equal(img->read(img, 70, got, 16, &err), 0);
    for (int i = 0; i < 16; i++)
        assert_int_equal(got[i], i == 7);
    assert_int_equal(img->read(img, INT64_MAX - 16, got, 16, &err), 0);
    assert_int_equal(img->read(img, 0, got, 1, &err), 0);
    assert_int_equal(got[0], 0);
    nf_image_overlay_free(o);
    close(fd);
}

static void rangeset_like_a_bitmap(void **state)
{
    enum { N = 2000 };
    unsigned seed = 99;

    (void)state;
    for (int round = 0; round < 30; round++) {
        struct nf_rangeset s = NF_RANGESET_INIT;
        bool model[N + 1] = { false };

        for (int step = 0; step < 300; step++) {
            unsigned start = next_random(&seed, N), len = next_random(&seed, step % 5 ? 8 : 60);
            unsigned end = start + len < N ? start + len : N;
            size_t count = 0;
            struct nf_range r;

            assert_int_equal(nf_rangeset_add(&s, start, end), NF_OK);
            for (unsigned i = start; i < end; i++)
                model[i] = true;
            for (unsigned i = 0; i < N; i++)
                count += model[i] && !model[i + 1];
            assert_int_equal(s.count, count);
            for (unsigned pos = 0; pos < N; pos += 13) {
                unsigned from = pos, to;

                while (from < N && !model[from])
                    from++;
                for (to = from; to < N && model[to];)
                    to++;
                assert_int_equal(nf_rangeset_next(&s, pos, &r), from < N);
                if (from < N) {
                    assert_int_equal(r.end, to);
                    assert_true(from == pos ? r.start <= pos : r.start == from);
                }
            }
        }
        nf_rangeset_release(&s);
        assert_int_equal(s.count, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(rangeset_like_a_bitmap),
        cmocka_unit_test(like_a_flat_array),
        cmocka_unit_test(beyond_the_disk_is_refused),
        cmocka_unit_test(huge_disk_costs_nothing),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
