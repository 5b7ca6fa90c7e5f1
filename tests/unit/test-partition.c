/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The partition scan over disks made by sfdisk, mke2fs and mkswap, and over
 * tables that are broken on purpose.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <fcntl.h>

#include <cmocka.h>

#include "bdi/partition.h"
#include "common/bytes.h"

#define MIB (1024u * 1024)

struct disk {
    struct nf_image img;
    int fd;
    char path[64];
    uint64_t bytes_read;
};

static int disk_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                     struct nf_error *err)
{
    struct disk *d = (struct disk *)img;

    (void)err;
    assert_true(offset <= img->size && len <= img->size - offset);
    assert_int_equal(pread(d->fd, buf, len, (off_t)offset), len);
    d->bytes_read += len;
    return 0;
}

static int setup(void **state)
{
    struct disk *d = calloc(1, sizeof(*d));

    snprintf(d->path, sizeof(d->path), "/tmp/nf-partition.XXXXXX");
    d->fd = mkstemp(d->path);
    assert_true(d->fd >= 0);
    d->img.read = disk_read;
    *state = d;
    return 0;
}

static int teardown(void **state)
{
    struct disk *d = *state;

    close(d->fd);
    unlink(d->path);
    free(d);
    return 0;
}

static void set_size(struct disk *d, uint64_t size)
{
    assert_int_equal(ftruncate(d->fd, (off_t)size), 0);
    d->img.size = size;
}

static void __attribute__((format(printf, 1, 2))) run(const char *fmt, ...)
{
    char cmd[400];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(cmd, sizeof(cmd), fmt, ap);
    va_end(ap);
    assert_int_equal(system(cmd), 0);
}

static size_t scan(struct disk *d, struct bdi_partition **list)
{
    struct nf_error err = {0};
    size_t n = 0;

    d->bytes_read = 0;
    if (bdi_partitions_scan(&d->img, list, &n, &err) != 0)
        fail_msg("scan: %s", err.text);
    for (size_t i = 0; i < n; i++) {
        assert_true((*list)[i].offset <= d->img.size);
        assert_true((*list)[i].size <= d->img.size - (*list)[i].offset);
    }
    return n;
}

static void whole_disk(void **state)
{
    struct disk *d = *state;
    struct bdi_partition *list;

    set_size(d, 8 * MIB);
    run("mke2fs -q -F -t ext4 -L 'a label' -U 01234567-89ab-cdef-0123-456789abcdef %s", d->path);
    assert_int_equal(scan(d, &list), 1);
    assert_int_equal(list[0].number, 0);
    assert_int_equal(list[0].offset, 0);
    assert_int_equal(list[0].size, 8 * MIB);
    assert_string_equal(list[0].type, "ext4");
    assert_string_equal(list[0].label, "a label");
    assert_int_equal(list[0].uuid[0], 0x01);
    assert_int_equal(list[0].uuid[15], 0xef);
    assert_true(bdi_partition_is_ext(&list[0]));
    free(list);
}

static void mbr_with_logical(void **state)
{
    struct disk *d = *state;
    struct bdi_partition *list;
    static const uint32_t number[] = {1, 5, 6, 7};
    static const uint64_t start[] = {1, 11, 21, 31}, size[] = {8, 8, 8, 16};

    set_size(d, 48 * MIB);
    run("printf '%%s\\n' 'label: dos' '1MiB 8MiB L' '10MiB 38MiB E' '11MiB 8MiB L' '21MiB 8MiB L' "
        "'31MiB 16MiB S' | sfdisk -q %s >/dev/null",
        d->path);
    /* sfdisk numbers the lines; the extended one is number 2. */
    run("mke2fs -q -F -t ext4 -E offset=%u %s 8M", 1 * MIB, d->path);
    run("mke2fs -q -F -t ext2 -E offset=%u %s 8M", 21 * MIB, d->path);
    assert_int_equal(scan(d, &list), 4);
    for (size_t i = 0; i < 4; i++) {
        assert_int_equal(list[i].number, number[i]);
        assert_int_equal(list[i].offset, start[i] * MIB);
        assert_int_equal(list[i].size, size[i] * MIB);
    }
    assert_string_equal(list[0].type, "ext4");
    assert_string_equal(list[1].type, "");
    assert_string_equal(list[2].type, "ext2");
    assert_string_equal(list[3].type, "");
    assert_false(bdi_partition_is_ext(&list[1]));
    free(list);
}

static void gpt(void **state)
{
    struct disk *d = *state;
    struct bdi_partition *list;

    /* Sparse and large: the scan must read the ends, not the middle. */
    set_size(d, 4096ull * MIB);
    run("printf '%%s\\n' 'label: gpt' '3 : start=1MiB size=8MiB' '14 : start=2048MiB size=64MiB' "
        "'15 : start=3072MiB' | sfdisk -q %s >/dev/null",
        d->path);
    run("mke2fs -q -F -t ext4 -O ^has_journal -E offset=%llu %s 64M", 2048ull * MIB, d->path);
    run("dd if=/dev/zero of=%s.sw bs=1M count=1 status=none && mkswap -q %s.sw 2>/dev/null && "
        "dd if=%s.sw of=%s bs=1M seek=1 conv=notrunc status=none; rm -f %s.sw",
        d->path, d->path, d->path, d->path, d->path);
    assert_int_equal(scan(d, &list), 3);
    assert_int_equal(list[0].number, 3);
    assert_string_equal(list[0].type, "swap");
    assert_int_equal(list[1].number, 14);
    assert_int_equal(list[1].offset, 2048ull * MIB);
    assert_int_equal(list[1].size, 64 * MIB);
    assert_string_equal(list[1].type, "ext4");
    assert_int_equal(list[2].number, 15);
    assert_string_equal(list[2].type, "");
    assert_true(d->bytes_read < 8 * MIB);
    free(list);

    /* The primary header destroyed: the backup at the end still counts. */
    {
        static const uint8_t zero[512];

        assert_int_equal(pwrite(d->fd, zero, sizeof(zero), 512), sizeof(zero));
    }
    assert_int_equal(scan(d, &list), 3);
    assert_int_equal(list[1].number, 14);
    assert_string_equal(list[1].type, "ext4");
    free(list);
}

static void nothing_known(void **state)
{
    struct disk *d = *state;
    struct bdi_partition *list;
    static const uint64_t sizes[] = {0, 100, 512, 4096, 70000, 3 * MIB};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        set_size(d, sizes[i]);
        assert_int_equal(scan(d, &list), 1);
        assert_int_equal(list[0].number, 0);
        assert_int_equal(list[0].size, sizes[i]);
        assert_string_equal(list[0].type, "");
        free(list);
    }
}

static void put_entry(uint8_t *sector, unsigned slot, uint8_t type, uint32_t start, uint32_t len)
{
    uint8_t *p = sector + 446 + 16 * slot;

    p[4] = type;
    nf_put_le32(p + 8, start);
    nf_put_le32(p + 12, len);
    sector[510] = 0x55;
    sector[511] = 0xaa;
}

static void ebr_circle_ends(void **state)
{
    struct disk *d = *state;
    struct bdi_partition *list;
    uint8_t s[512] = {0};
    size_t n;

    set_size(d, 4 * MIB);
    put_entry(s, 0, 0x05, 2048, 4096);
    assert_int_equal(pwrite(d->fd, s, 512, 0), 512);
    memset(s, 0, sizeof(s));
    put_entry(s, 0, 0x83, 16, 16);
    put_entry(s, 1, 0x05, 100, 100);
    assert_int_equal(pwrite(d->fd, s, 512, 2048 * 512), 512);
    memset(s, 0, sizeof(s));
    put_entry(s, 0, 0x83, 16, 16);
    put_entry(s, 1, 0x05, 100, 100); /* itself */
    assert_int_equal(pwrite(d->fd, s, 512, 2148 * 512), 512);
    n = scan(d, &list);
    assert_true(n >= 1 && n <= BDI_PARTITIONS_MAX);
    assert_true(d->bytes_read < 64 * MIB);
    free(list);
}

static void long_ebr_chain_is_bounded(void **state)
{
    struct disk *d = *state;
    struct bdi_partition *list;
    uint8_t s[512] = {0};

    set_size(d, 16 * MIB);
    put_entry(s, 0, 0x0f, 2048, 20000);
    assert_int_equal(pwrite(d->fd, s, 512, 0), 512);
    for (uint32_t i = 0; i < 2000; i++) {
        memset(s, 0, sizeof(s));
        put_entry(s, 0, 0x83, 1, 1);
        put_entry(s, 1, 0x05, 2 * (i + 1), 2);
        assert_int_equal(pwrite(d->fd, s, 512, (2048 + 2 * i) * 512), 512);
    }
    assert_in_range(scan(d, &list), 1, BDI_PARTITIONS_MAX);
    assert_true(d->bytes_read < 64 * MIB);
    free(list);
}

static void ranges_beyond_the_disk(void **state)
{
    struct disk *d = *state;
    struct bdi_partition *list;
    uint8_t s[512] = {0};

    set_size(d, 2 * MIB);
    put_entry(s, 0, 0x83, 2048, 0xffffffff); /* cut at the end of the disk */
    put_entry(s, 1, 0x83, 0xfffffff0, 16);   /* not on it at all */
    put_entry(s, 2, 0x05, 0xfffffff0, 16);
    put_entry(s, 3, 0x83, 3072, 0);
    assert_int_equal(pwrite(d->fd, s, 512, 0), 512);
    assert_int_equal(scan(d, &list), 1);
    assert_int_equal(list[0].number, 1);
    assert_int_equal(list[0].offset, MIB);
    assert_int_equal(list[0].size, MIB);
    free(list);
}

static int refuse(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                  struct nf_error *err)
{
    (void)img;
    (void)offset;
    (void)buf;
    (void)len;
    return nf_fail(err, NF_EIO, "no disk");
}

static void image_errors_come_through(void **state)
{
    struct disk *d = *state;
    struct bdi_partition *list;
    struct nf_error err;
    size_t n;

    set_size(d, MIB);
    d->img.read = refuse;
    assert_int_equal(bdi_partitions_scan(&d->img, &list, &n, &err), NF_EIO);
    assert_string_equal(err.text, "no disk");
    assert_null(list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(whole_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(mbr_with_logical, setup, teardown),
        cmocka_unit_test_setup_teardown(gpt, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_known, setup, teardown),
        cmocka_unit_test_setup_teardown(ebr_circle_ends, setup, teardown),
        cmocka_unit_test_setup_teardown(long_ebr_chain_is_bounded, setup, teardown),
        cmocka_unit_test_setup_teardown(ranges_beyond_the_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(image_errors_come_through, setup, teardown),
    };

    /* mke2fs and sfdisk live in sbin, which a user's PATH may lack. */
    setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
