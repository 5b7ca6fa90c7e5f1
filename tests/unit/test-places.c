/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is where on a disk, and how it changes: file systems and partition tables
 * that mke2fs and sfdisk make are written over what is followed, record by
 * record.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "bdi/bdi.h"
#include "common/bytes.h"

#define MIB (1u << 20)
#define DISK_MAX (64 * MIB)
#define PIECE 4096u

struct test {
    struct nf_image img;
    uint8_t *disk, *other; /* DISK_MAX bytes */
    char path[64];
    int shadow;
    struct bdi *bdi;
    uint64_t seq, read;
    int moving; /* so many reads from now on may be newer than the stream */
    char said[4000]; /* a line for each FS event */
    unsigned events, entries;
};

static int disk_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                     struct nf_error *err)
{
    struct test *t = (struct test *)img;

    (void)err;
    assert_true(offset <= img->size && len <= img->size - offset);
    t->read += len;
    if (t->moving > 0) {
        /* And they are: nothing of them may be believed. */
        t->moving--;
        memset(buf, 0xa5, len);
        return 1;
    }
    memcpy(buf, t->disk + offset, len);
    return 0;
}

static int on_event(void *opaque, const struct nf_event *ev, struct nf_error *err)
{
    static const char *const states[] = {"?", "attached", "gone", "grown", "unsupported"};
    struct test *t = opaque;
    size_t used = strlen(t->said);

    (void)err;
    t->events++;
    t->entries += ev->kind == NF_ENTRY;
    if (ev->kind == NF_FS)
        snprintf(t->said + used, sizeof(t->said) - used, "%u %s %s\n", ev->source.partition,
                 states[ev->fs.state], ev->fs.reason ? ev->fs.reason : "");
    return 0;
}

static int setup(void **state)
{
    struct test *t = calloc(1, sizeof(*t));

    assert_non_null(t);
    snprintf(t->path, sizeof(t->path), "/tmp/nf-places.XXXXXX");
    close(mkstemp(t->path));
    t->shadow = memfd_create("shadow", MFD_CLOEXEC);
    t->disk = calloc(1, DISK_MAX);
    t->other = calloc(1, DISK_MAX);
    assert_true(t->shadow >= 0 && t->disk && t->other);
    t->img.read = disk_read;
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct test *t = *state;

    bdi_free(t->bdi);
    unlink(t->path);
    close(t->shadow);
    free(t->disk);
    free(t->other);
    free(t);
    return 0;
}

/* Run @command (the image's path is $I) and read what it made of the disk. */
static void make(struct test *t, const char *command)
{
    char line[1000];
    FILE *f;

    snprintf(line, sizeof(line), "I=%s; { %s; } > /dev/null 2>&1", t->path, command);
    assert_int_equal(system(line), 0);
    f = fopen(t->path, "rb");
    assert_non_null(f);
    memset(t->other, 0, DISK_MAX);
    fseek(f, 0, SEEK_END);
    t->img.size = t->bdi ? t->img.size : (uint64_t)ftell(f);
    rewind(f);
    assert_true(fread(t->other, 1, DISK_MAX, f) > 0);
    fclose(f);
}

static void attach(struct test *t, int snapshot)
{
    struct bdi_options opt = {.epoch = 1,
                              .first_seq = 1,
                              .content_limit = BDI_CONTENT_ALL,
                              .snapshot = snapshot,
                              .event = on_event,
                              .opaque = t};
    struct nf_error err = {0};

    memcpy(t->disk, t->other, DISK_MAX);
    t->bdi = bdi_new(&t->img, t->shadow, &opt, &err);
    assert_non_null(t->bdi);
    assert_int_equal(bdi_attach(t->bdi, &err), 0);
}

static void give(struct test *t, enum nf_record_type type, uint64_t offset, uint64_t len,
                 const uint8_t *data)
{
    struct nf_record rec = {
        .seq = ++t->seq, .type = type, .offset = offset, .length = len, .data = data};
    struct nf_error err = {0};

    if (data)
        memcpy(t->disk + offset, data, len);
    if (bdi_record(t->bdi, &rec, &err) < 0)
        fail_msg("record %llu: %s", (unsigned long long)rec.seq, err.text);
}

static void flush(struct test *t)
{
    give(t, NF_REC_FLUSH, 0, 0, NULL);
}

/* Write what make() made, where it differs, without a barrier; backwards, so that
 * tables and superblocks come last. */
static void write_it(struct test *t)
{
    for (uint64_t at = DISK_MAX; at > 0;) {
        at -= PIECE;
        if (memcmp(t->disk + at, t->other + at, PIECE) != 0)
            give(t, NF_REC_WRITE, at, PIECE, t->other + at);
    }
}

static uint32_t followed(struct test *t)
{
    return bdi_get_status(t->bdi)->filesystems;
}

static void expect(struct test *t, const char *said)
{
    assert_string_equal(t->said, said);
    t->said[0] = '\0';
}

#define MKE2FS "mke2fs -q -F -t ext4 -b 1024 -N 64 -J size=1 "

static void test_mkfs(void **state)
{
    struct test *t = *state;

    make(t, MKE2FS "$I 8M");
    attach(t, 1);
    expect(t, "0 attached \n");
    t->entries = 0;
    /* The second is one of the same second: only its UUID tells. */
    make(t, MKE2FS "-E nodiscard,root_owner=7:7 -U random $I");
    write_it(t);
    flush(t);
    assert_non_null(strstr(t->said, "0 gone "));
    assert_non_null(strstr(t->said, "0 attached "));
    assert_int_equal(t->entries, 2); /* the root and lost+found */
    assert_int_equal(followed(t), 1);
}

/* A disk with nothing on it, and what is made there later. */
static void test_first(void **state)
{
    struct test *t = *state;

    make(t, "truncate -s 8M $I");
    attach(t, 0);
    expect(t, "0 unsupported nothing known is there\n");
    make(t, "mkswap $I");
    write_it(t);
    flush(t);
    expect(t, "0 unsupported not a file system that is followed\n");
    flush(t);
    make(t, "wipefs -a $I && " MKE2FS "$I");
    write_it(t);
    expect(t, "");
    flush(t);
    expect(t, "0 attached \n");
}

/* What is read of a disk that moves on is not believed, nor forgotten. */
static void test_moving(void **state)
{
    struct test *t = *state;

    make(t, "truncate -s 8M $I");
    attach(t, 1);
    expect(t, "0 unsupported nothing known is there\n");
    make(t, MKE2FS "$I");
    write_it(t);
    t->moving = 60;
    for (int i = 0; i < 5; i++) {
        flush(t);
        expect(t, "");
        assert_int_equal(t->entries, 0);
        t->moving = i < 4 ? 30 : 0;
    }
    for (int i = 0; i < 200 && !followed(t); i++)
        flush(t);
    expect(t, "0 attached \n");
    assert_int_equal(t->entries, 2);
}

static void test_table(void **state)
{
    struct test *t = *state;

    make(t, "truncate -s 32M $I && printf 'label: gpt\nstart=1MiB, size=8MiB\n' | sfdisk $I && " MKE2FS
            "-E offset=1048576 $I 8M");
    attach(t, 0);
    expect(t, "1 attached \n");
    make(t, "printf 'start=16MiB, size=8MiB\n' | sfdisk -a $I");
    write_it(t);
    expect(t, ""); /* half written, for all that is known */
    flush(t);
    expect(t, "2 unsupported nothing known is there\n");
    make(t, MKE2FS "-E offset=16777216 $I 8M");
    write_it(t);
    flush(t);
    expect(t, "2 attached \n");
    assert_int_equal(followed(t), 2);
    make(t, "sfdisk --delete $I 1");
    write_it(t);
    flush(t);
    expect(t, "1 gone its partition is no longer in the table\n");
    make(t, "printf 'label: dos\nstart=1MiB, size=8MiB\nstart=16MiB, size=8MiB\n' | sfdisk --wipe always $I");
    write_it(t);
    flush(t);
    /* Partition 2 is where it was. */
    expect(t, "1 attached \n");
    assert_int_equal(followed(t), 2);
}

static void test_disk_grows(void **state)
{
    struct test *t = *state;

    make(t, MKE2FS "$I 8M");
    attach(t, 0);
    expect(t, "0 attached \n");
    t->img.size = 32 * MIB;
    give(t, NF_REC_RESIZE, 0, t->img.size, NULL);
    flush(t);
    expect(t, "");
    make(t, "truncate -s 32M $I && e2fsck -fy $I; resize2fs $I");
    write_it(t);
    flush(t);
    expect(t, "0 grown \n");
    t->img.size = 16 * MIB;
    give(t, NF_REC_RESIZE, 0, t->img.size, NULL);
    expect(t, "0 gone its partition became smaller than it is\n");
    flush(t);
    assert_non_null(strstr(t->said, "0 unsupported ext4: 32768 blocks of 1024 bytes do not fit"));
    assert_int_equal(followed(t), 0);
}

/* A guest that changes its superblock for ever does not have its disk read for
 * ever; and what it leaves at the end is followed. */
static void test_flapping(void **state)
{
    struct test *t = *state;
    uint8_t super[1024], zeros[1024] = {0};
    uint64_t before;

    make(t, MKE2FS "$I 8M");
    attach(t, 0);
    memcpy(super, t->disk + 1024, sizeof(super));
    before = t->read;
    for (int i = 0; i < 20000; i++) {
        give(t, NF_REC_WRITE, 1024, 1024, zeros);
        flush(t);
        give(t, NF_REC_WRITE, 1024, 1024, super);
        flush(t);
        t->said[0] = '\0';
    }
    /* 64 MiB in advance, and a KiB for each record; a look may go beyond. */
    assert_true(t->read - before < 64 * MIB + 80000 * 1024 + 8 * MIB);
    for (int i = 0; i < 200000 && !followed(t); i++)
        flush(t);
    assert_int_equal(followed(t), 1);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_mkfs),  TEST(test_first),      TEST(test_moving),
        TEST(test_table), TEST(test_disk_grows), TEST(test_flapping),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
