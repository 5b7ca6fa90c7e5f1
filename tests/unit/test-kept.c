/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A copy of a disk that moves on: it must be what the disk was at the reader's
 * position, and read each page once.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "bdi/daemon/image_kept.h"

enum { SIZE = 1024 * 1024 + 1536 }; /* the last page is a part of one */

static uint8_t disk[SIZE]; /* now */
static uint8_t then[SIZE]; /* at the reader's position */
static uint64_t reads;
static int answer;

static int disk_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                     struct nf_error *err)
{
    (void)err;
    assert_true(offset <= img->size && len <= img->size - offset);
    memcpy(buf, disk + offset, len);
    reads++;
    return answer;
}

static void disk_free(struct nf_image *img)
{
    free(img);
}

static int fd;

static int setup(void **state)
{
    struct nf_image *inner = calloc(1, sizeof(*inner));
    struct nf_error err;

    fd = memfd_create("kept", 0);
    for (size_t i = 0; i < SIZE; i++)
        disk[i] = then[i] = (uint8_t)(i * 7 + i / 4096);
    inner->size = SIZE;
    inner->read = disk_read;
    inner->free = disk_free;
    reads = 0;
    answer = 0;
    *state = image_kept_new(inner, fd, &err);
    return *state ? image_kept_start(*state, &err) : -1;
}

static int teardown(void **state)
{
    nf_image_free(*state);
    close(fd);
    return 0;
}

static int look(struct nf_image *img, uint64_t offset, size_t len, const uint8_t *expected)
{
    static uint8_t buf[SIZE];
    struct nf_error err;
    int ret = img->read(img, offset, buf, len, &err);

    assert_memory_equal(buf, expected + offset, len);
    return ret;
}

/* The guest writes; the reader does not know it yet. */
static struct nf_record guest(enum nf_record_type type, uint64_t offset, size_t len, uint8_t byte)
{
    memset(disk + offset, byte, len);
    return (struct nf_record){
        .type = type, .offset = offset, .length = len, .data = disk + offset};
}

static void pass(struct nf_image *img, struct nf_record rec)
{
    struct nf_error err;

    assert_int_equal(image_kept_record(img, &rec, &err), 0);
    memcpy(then + rec.offset, disk + rec.offset, rec.length);
}

static void reads_each_page_once(void **state)
{
    assert_int_equal(look(*state, 5000, 100, then), 0);
    assert_int_equal(look(*state, 4096, 4096, then), 0);
    assert_int_equal(look(*state, 200000, 4096, then), 0);
    assert_int_equal(reads, 2);
    assert_int_equal(look(*state, 0, SIZE, then), 0);
    reads = 0;
    assert_int_equal(look(*state, 0, SIZE, then), 0);
    assert_int_equal(look(*state, SIZE - 100, 100, then), 0);
    assert_int_equal(reads, 0);
}

static void follows_the_stream_not_the_disk(void **state)
{
    struct nf_record write, zero;

    look(*state, 0, 65536, then);
    write = guest(NF_REC_WRITE, 4096 + 512, 8192, 'w');
    zero = guest(NF_REC_ZERO, 20480, 1024, 0);
    look(*state, 0, 65536, then); /* as before */
    pass(*state, write);
    look(*state, 0, 65536, then);
    pass(*state, zero);
    look(*state, 0, 65536, disk);
    assert_int_equal(reads, 1);
}

static void what_moved_is_right_after_its_record(void **state)
{
    struct nf_record write = guest(NF_REC_WRITE, 8192, 4096, 'n');

    answer = 1; /* newer than the position: the wrapped image says so */
    assert_int_equal(look(*state, 8192, 4096, disk), 1);
    answer = 0;
    pass(*state, write);
    reads = 0;
    assert_int_equal(look(*state, 8192, 4096, then), 0);
    assert_int_equal(reads, 0);
    assert_true(image_kept_take_moved(*state));
    assert_false(image_kept_take_moved(*state));
    /* From now on what follows is read as well, before it moves, too. */
    assert_int_equal(look(*state, 500000, 4096, then), 0);
    assert_int_equal(reads, 2);
    assert_int_equal(look(*state, 510000, 4096, then), 0);
    assert_int_equal(reads, 2);
}

static void what_is_unknown_is_read_again(void **state)
{
    struct nf_record rec;

    look(*state, 0, SIZE, then);
    reads = 0;
    rec = guest(NF_REC_DISCARD, 4096, 4096, 'd');
    pass(*state, rec);
    rec = guest(NF_REC_WRITE, 12288, 512, 'a');
    rec.flags = NF_REC_AMBIGUOUS;
    pass(*state, rec);
    rec = guest(NF_REC_WRITE, 20480, 512, 'f');
    rec.flags = NF_REC_FAILED;
    rec.data = NULL;
    pass(*state, rec);
    look(*state, 0, SIZE, disk);
    assert_int_equal(reads, 3);
}

static void a_gap_or_another_size_forgets_all(void **state)
{
    static const enum nf_record_type types[] = {NF_REC_GAP, NF_REC_RESIZE, NF_REC_OPEN};
    struct nf_error err;

    for (size_t i = 0; i < 3; i++) {
        struct nf_record rec = {.type = types[i], .offset = 1, .length = UINT64_MAX};

        look(*state, 0, 4096, disk);
        guest(NF_REC_WRITE, 0, 4096, (uint8_t)i); /* lost */
        assert_int_equal(image_kept_record(*state, &rec, &err), 0);
        look(*state, 0, 4096, disk);
    }
}

static void records_beyond_the_disk_are_harmless(void **state)
{
    struct nf_record rec = {.type = NF_REC_DISCARD, .offset = 4096, .length = UINT64_MAX};
    struct nf_error err;

    look(*state, 0, SIZE, then);
    assert_int_equal(image_kept_record(*state, &rec, &err), 0);
    rec.offset = UINT64_MAX;
    rec.type = NF_REC_ZERO;
    assert_int_equal(image_kept_record(*state, &rec, &err), 0);
    look(*state, 0, SIZE, then);
}

static void keeps_nothing_when_stopped(void **state)
{
    struct nf_error err;

    look(*state, 0, SIZE, then);
    assert_int_equal(image_kept_stop(*state, &err), 0);
    assert_int_equal(lseek(fd, 0, SEEK_END), 0);
    guest(NF_REC_WRITE, 0, SIZE, 'x');
    look(*state, 0, SIZE, disk);
    assert_int_equal(lseek(fd, 0, SEEK_END), 0);
}

static int drain(void *opaque, struct nf_error *err)
{
    struct nf_image *img = opaque;

    (void)err;
    pass(img, guest(NF_REC_WRITE, 40960, 4096, 'd'));
    return 0;
}

/* A reading that takes records meanwhile: all that it read is right afterwards. */
static void follows_while_it_reads(void **state)
{
    uint8_t before[4096];

    look(*state, 40960, 4096, then);
    memcpy(before, then + 40960, sizeof(before));
    image_kept_set_drain(*state, drain, *state);
    look(*state, 40960, 4096, then); /* it is kept: nothing to read, nothing drained */
    assert_memory_equal(then + 40960, before, sizeof(before));
    look(*state, 81920, 4096, disk);
    assert_int_equal(then[40960], 'd');
    image_kept_set_drain(*state, NULL, NULL);
    reads = 0;
    look(*state, 40960, 4096, then);
    look(*state, 81920, 4096, then);
    assert_int_equal(reads, 0);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(reads_each_page_once),
        TEST(follows_the_stream_not_the_disk),
        TEST(what_moved_is_right_after_its_record),
        TEST(what_is_unknown_is_read_again),
        TEST(a_gap_or_another_size_forgets_all),
        TEST(records_beyond_the_disk_are_harmless),
        TEST(follows_while_it_reads),
        TEST(keeps_nothing_when_stopped),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
