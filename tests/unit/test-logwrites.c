/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dm-log-writes logs: as the format is documented, as our writer makes them,
 * cut off and broken.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/bytes.h"
#include "common/logwrites.h"

#define DISK (1u << 20)

static uint8_t log_bytes[64 * 4096];
static size_t log_len;

static void add_super(uint32_t sector, uint64_t entries)
{
    memset(log_bytes, 0, sizeof(log_bytes));
    nf_put_le64(log_bytes, 0x6a736677736872);
    nf_put_le64(log_bytes + 8, 1);
    nf_put_le64(log_bytes + 16, entries);
    nf_put_le32(log_bytes + 24, sector);
    log_len = sector;
}

/* An entry with @fill as its data, or for a mark its text. */
static void add_entry(uint32_t sector_size, uint64_t sector, uint64_t sectors, uint64_t flags,
                      const char *mark, int fill)
{
    uint8_t *e = log_bytes + log_len;

    nf_put_le64(e, sector);
    nf_put_le64(e + 8, sectors);
    nf_put_le64(e + 16, flags);
    log_len += sector_size;
    if (mark) {
        nf_put_le64(e + 24, strlen(mark));
        memcpy(e + 32, mark, strlen(mark));
    } else if (!(flags & 4)) {
        memset(log_bytes + log_len, fill, sectors * sector_size);
        log_len += sectors * sector_size;
    }
}

static struct nf_logwrites_reader *open_log(int *fd, struct nf_error *err)
{
    *fd = memfd_create("log", MFD_CLOEXEC);
    assert_true(*fd >= 0);
    assert_int_equal(write(*fd, log_bytes, log_len), log_len);
    return nf_logwrites_open(*fd, DISK, err);
}

static void reads_what_is_documented(void **state)
{
    static const uint32_t sizes[] = { 512, 4096 };
    struct nf_logwrites_entry e;
    struct nf_error err = { 0 };
    uint8_t buf[4096];
    int fd;

    (void)state;
    for (int i = 0; i < 2; i++) {
        uint32_t s = sizes[i];
        struct nf_logwrites_reader *r;

        add_super(s, 6);
        add_entry(s, 8, 2, 0, NULL, 'a');
        add_entry(s, 0, 0, 1, NULL, 0);
        add_entry(s, 3, 1, 2 | 16, NULL, 'b');
        add_entry(s, 4, 5, 4, NULL, 0);
        add_entry(s, 0, 0, 8, "a mark", 0);
        add_entry(s, DISK / s - 1, 1, 1 | 2, NULL, 'c');
        r = open_log(&fd, &err);
        assert_non_null(r);
        assert_int_equal(nf_logwrites_sector_size(r), s);
        assert_int_equal(nf_logwrites_counted(r), 6);

        assert_int_equal(nf_logwrites_next(r, false, &e, &err), 1);
        assert_int_equal(e.offset, 8 * s);
        assert_int_equal(e.length, 2 * s);
        assert_true(e.has_data);
        assert_int_equal(nf_logwrites_read(r, &e, s, buf, s, &err), NF_OK);
        assert_int_equal(buf[0], 'a');
        assert_int_equal(buf[s - 1], 'a');
        assert_int_equal(nf_logwrites_read(r, &e, s + 1, buf, s, &err), NF_EINVAL);

        assert_int_equal(nf_logwrites_next(r, false, &e, &err), 1);
        assert_int_equal(e.flags, NF_LOG_FLUSH);
        assert_false(e.has_data);
        assert_int_equal(nf_logwrites_next(r, false, &e, &err), 1);
        assert_int_equal(e.flags, NF_LOG_FUA | NF_LOG_METADATA);
        assert_int_equal(e.offset, 3 * s);
        assert_int_equal(nf_logwrites_next(r, false, &e, &err), 1);
        assert_int_equal(e.flags, NF_LOG_DISCARD);
        assert_int_equal(e.length, 5 * s);
        assert_false(e.has_data);
        assert_int_equal(nf_logwrites_next(r, false, &e, &err), 1);
        assert_int_equal(e.flags, NF_LOG_MARK);
        assert_string_equal(e.mark, "a mark");
        assert_int_equal(nf_logwrites_next(r, false, &e, &err), 1);
        assert_int_equal(e.offset, DISK - s);
        assert_int_equal(nf_logwrites_read(r, &e, 0, buf, s, &err), NF_OK);
        assert_int_equal(buf[0], 'c');
        assert_int_equal(nf_logwrites_next(r, false, &e, &err), 0);
        nf_logwrites_close(r);
        close(fd);
    }
}

/* Number of entries read until the end (@ret 0) or an error. */
static unsigned count(bool trust, int *ret)
{
    struct nf_logwrites_entry e;
    struct nf_error err = { 0 };
    unsigned n = 0;
    int fd;
    struct nf_logwrites_reader *r = open_log(&fd, &err);

    if (r) {
        while ((*ret = nf_logwrites_next(r, trust, &e, &err)) == 1)
            n++;
    } else {
        *ret = err.code;
    }
    if (*ret < 0)
        assert_true(err.text[0] != '\0');
    nf_logwrites_close(r);
    close(fd);
    return n;
}

static void the_count_is_not_the_end(void **state)
{
    int ret;

    (void)state;
    add_super(512, 1);
    add_entry(512, 0, 1, 0, NULL, 1);
    add_entry(512, 1, 1, 0, NULL, 2);
    add_entry(512, 0, 0, 1, NULL, 0);
    assert_int_equal(count(false, &ret), 3);
    assert_int_equal(ret, 0);
    assert_int_equal(count(true, &ret), 1);
    assert_int_equal(ret, 0);
    /* Behind the count what makes no sense is the end: free space, garbage,
     * a write that was cut off. */
    log_len += 4096;
    assert_int_equal(count(false, &ret), 3);
    assert_int_equal(ret, 0);
    memset(log_bytes + log_len - 4096, 0xa5, 4096);
    assert_int_equal(count(false, &ret), 3);
    assert_int_equal(ret, 0);
    log_len -= 4096;
    memset(log_bytes + log_len, 0, 4096);
    add_entry(512, 9, 4, 0, NULL, 3);
    log_len -= 1;
    assert_int_equal(count(false, &ret), 3);
    assert_int_equal(ret, 0);
    /* Within the count it is damage. */
    nf_put_le64(log_bytes + 16, 4);
    assert_int_equal(count(false, &ret), 3);
    assert_int_equal(ret, NF_EFORMAT);
}

static void broken_logs(void **state)
{
    static const struct {
        uint64_t sector, sectors, flags;
    } bad[] = {
        { DISK / 512, 1, 0 },                /* beyond the disk */
        { 1, DISK / 512, 0 },                /* the same */
        { UINT64_MAX, 1, 0 },                /* and with overflow */
        { 1, UINT64_MAX, 4 },
        { UINT64_MAX / 512, UINT64_MAX / 512, 4 },
        { 0, 1, 32 },                        /* unknown flag */
        { 0, 1, (uint64_t)1 << 40 },
    };
    int ret;

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        add_super(512, 1);
        nf_put_le64(log_bytes + 512, bad[i].sector);
        nf_put_le64(log_bytes + 520, bad[i].sectors);
        nf_put_le64(log_bytes + 528, bad[i].flags);
        log_len = 4096;
        assert_int_equal(count(false, &ret), 0);
        assert_int_equal(ret, NF_EFORMAT);
    }
    add_super(512, 1);
    nf_put_le64(log_bytes + 528, 8);
    nf_put_le64(log_bytes + 536, 481); /* a mark longer than its sector */
    log_len = 4096;
    assert_int_equal(count(false, &ret), 0);
    assert_int_equal(ret, NF_EFORMAT);

    add_super(512, 0);
    log_bytes[0] ^= 1;
    count(false, &ret);
    assert_int_equal(ret, NF_EFORMAT);
    add_super(512, 0);
    log_bytes[8] = 2;
    count(false, &ret);
    assert_int_equal(ret, NF_EUNSUPPORTED);
    for (uint64_t s = 0; s < 3; s++) {
        static const uint32_t sizes[] = { 0, 768, 1u << 20 };

        add_super(512, 0);
        nf_put_le32(log_bytes + 24, sizes[s]);
        count(false, &ret);
        assert_int_equal(ret, NF_EFORMAT);
    }
    add_super(512, 0);
    log_len = 27;
    count(false, &ret);
    assert_int_equal(ret, NF_EFORMAT);
}

static void writes_what_is_documented(void **state)
{
    uint8_t data[1024], got[8192];
    struct nf_error err = { 0 };
    struct nf_logwrites_writer *w;
    int fd = memfd_create("log", MFD_CLOEXEC);

    (void)state;
    memset(data, 'x', sizeof(data));
    assert_null(nf_logwrites_create(fd, 1024, &err));
    w = nf_logwrites_create(fd, 512, &err);
    assert_non_null(w);
    assert_int_equal(nf_logwrites_entry(w, NF_LOG_FUA, 1024, 1024, &err), NF_OK);
    assert_int_equal(nf_logwrites_entry(w, 0, 0, 512, &err), NF_EINVAL); /* data first */
    assert_int_equal(nf_logwrites_data(w, data, 1025, &err), NF_EINVAL);
    assert_int_equal(nf_logwrites_data(w, data, 1024, &err), NF_OK);
    assert_int_equal(nf_logwrites_entry(w, 0, 3, 512, &err), NF_EINVAL);
    assert_int_equal(nf_logwrites_entry(w, 0, 0, 100, &err), NF_EINVAL);
    assert_int_equal(nf_logwrites_entry(w, 0, 0, 512, &err), NF_OK);
    assert_int_equal(nf_logwrites_data(w, NULL, 512, &err), NF_OK);
    assert_int_equal(nf_logwrites_entry(w, NF_LOG_DISCARD, 512, 512, &err), NF_OK);
    assert_int_equal(nf_logwrites_entry(w, NF_LOG_FLUSH, 0, 0, &err), NF_OK);
    assert_int_equal(nf_logwrites_finish(w, &err), NF_OK);

    add_super(512, 4);
    add_entry(512, 2, 2, 2, NULL, 'x');
    add_entry(512, 0, 1, 0, NULL, 0);
    add_entry(512, 1, 1, 4, NULL, 0);
    add_entry(512, 0, 0, 1, NULL, 0);
    assert_int_equal(pread(fd, got, sizeof(got), 0), log_len);
    assert_memory_equal(got, log_bytes, log_len);
    close(fd);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reads_what_is_documented),
        cmocka_unit_test(the_count_is_not_the_end),
        cmocka_unit_test(broken_logs),
        cmocka_unit_test(writes_what_is_documented),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
