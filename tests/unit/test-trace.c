/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The native trace format: what is written is read, and every truncation and
 * every changed byte is either harmless or noticed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/crc32c.h"
#include "common/trace.h"

static const uint8_t payload[512] = { 'd', 'a', 't', 'a', [511] = 0xff };

/* One of each type, with every field used. */
static const struct nf_record all[] = {
    { .seq = 1, .type = NF_REC_OPEN, .length = 1 << 20, .time_ns = 5 },
    { .seq = 2, .type = NF_REC_WRITE, .offset = 4096, .length = 512, .time_ns = 1700000000000000000,
      .data = payload, .flags = NF_REC_FUA | NF_REC_AMBIGUOUS },
    { .seq = 3, .type = NF_REC_WRITE, .offset = 3, .length = 1, .time_ns = -7, .data = payload },
    { .seq = 4, .type = NF_REC_ZERO, .offset = 8192, .length = 1 << 16, .flags = NF_REC_UNMAP },
    { .seq = 5, .type = NF_REC_DISCARD, .offset = 0, .length = 1 << 20, .time_ns = 6 },
    { .seq = 6, .type = NF_REC_FLUSH, .time_ns = 7, .aux = 4 },
    { .seq = 7, .type = NF_REC_WRITE, .offset = 0, .length = 4096,
      .flags = NF_REC_FAILED },
    { .seq = 7, .type = NF_REC_READBACK, .offset = 0, .length = 512, .data = payload },
    { .seq = 8, .type = NF_REC_RESIZE, .length = 2 << 20 },
    { .seq = 9, .type = NF_REC_GAP, .offset = 17, .length = UINT64_MAX },
    { .seq = 20, .type = NF_REC_CLOSE, .flags = NF_REC_BYPASSED, .time_ns = INT64_MAX },
};
#define NALL (sizeof(all) / sizeof(all[0]))

static const struct nf_trace_info base_info = {
    .epoch_uuid = "0123456789abcdef",
    .disk_size = 1 << 20,
    .created_ns = 42,
    .origin = NF_TRACE_ORIGIN_TAP,
    .disk_id = "vda",
};

static int memory_file(void)
{
    int fd = memfd_create("trace", MFD_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static void assert_record(const struct nf_record *got, const struct nf_record *want)
{
    assert_int_equal(got->seq, want->seq);
    assert_int_equal(got->type, want->type);
    assert_int_equal(got->flags, want->flags);
    assert_int_equal(got->offset, want->offset);
    assert_int_equal(got->length, want->length);
    assert_int_equal(got->time_ns, want->time_ns);
    assert_int_equal(got->aux, want->aux);
    if (want->data)
        assert_memory_equal(got->data, want->data, want->length);
    else
        assert_null(got->data);
}

/* The bytes of a trace of all[], a block for every @per_block records, with
 * (@finished) or without index. */
static uint8_t *make(size_t per_block, bool finished, size_t *len)
{
    int fd = memory_file(), copy = dup(fd);
    struct nf_error err = { 0 };
    struct nf_trace_writer *w = nf_trace_create_fd(fd, &base_info, &err);
    struct stat st;
    uint8_t *bytes;

    assert_non_null(w);
    for (size_t i = 0; i < NALL; i++) {
        assert_int_equal(nf_trace_append(w, &all[i], &err), NF_OK);
        if ((i + 1) % per_block == 0)
            assert_int_equal(nf_trace_flush(w, &err), NF_OK);
    }
    if (finished) {
        assert_int_equal(nf_trace_finish(w, &err), NF_OK);
    } else {
        assert_int_equal(nf_trace_flush(w, &err), NF_OK);
        nf_trace_discard(w);
    }
    assert_int_equal(fstat(copy, &st), 0);
    *len = (size_t)st.st_size;
    bytes = malloc(*len);
    assert_int_equal(pread(copy, bytes, *len, 0), *len);
    close(copy);
    return bytes;
}

static struct nf_trace_reader *open_bytes(const uint8_t *bytes, size_t len, struct nf_error *err)
{
    int fd = memory_file();

    assert_int_equal(write(fd, bytes, len), len);
    return nf_trace_open_fd(fd, err);
}

static void round_trip(void **state)
{
    struct nf_error err = { 0 };
    struct nf_record rec;

    (void)state;
    for (size_t per_block = 1; per_block <= NALL; per_block++) {
        for (int finished = 0; finished <= 1; finished++) {
            size_t len;
            uint8_t *bytes = make(per_block, finished, &len);
            struct nf_trace_reader *r = open_bytes(bytes, len, &err);
            const struct nf_trace_info *info;

            assert_non_null(r);
            info = nf_trace_reader_info(r);
            assert_memory_equal(info->epoch_uuid, base_info.epoch_uuid, 16);
            assert_int_equal(info->disk_size, 1 << 20);
            assert_int_equal(info->created_ns, 42);
            assert_int_equal(info->origin, NF_TRACE_ORIGIN_TAP);
            assert_string_equal(info->disk_id, "vda");
            assert_int_equal(info->has_index, finished);
            assert_int_equal(info->torn, 0);
            assert_int_equal(info->records, NALL);
            assert_int_equal(info->first_seq, 1);
            assert_int_equal(info->last_seq, 20);
            assert_int_equal(info->first_ns, -7);
            assert_int_equal(info->last_ns, INT64_MAX);
            assert_int_equal(info->totals[NF_REC_WRITE].records, finished ? 3 : 0);
            assert_int_equal(info->totals[NF_REC_WRITE].bytes, finished ? 4609 : 0);
            for (size_t i = 0; i < NALL; i++) {
                assert_int_equal(nf_trace_next(r, &rec, &err), 1);
                assert_record(&rec, &all[i]);
            }
            assert_int_equal(nf_trace_next(r, &rec, &err), 0);
            assert_int_equal(nf_trace_next(r, &rec, &err), 0);
            nf_trace_close(r);
            free(bytes);
        }
    }
}

static void same_records_same_bytes(void **state)
{
    size_t la, lb;
    uint8_t *a = make(3, true, &la), *b = make(3, true, &lb);

    (void)state;
    assert_int_equal(la, lb);
    assert_memory_equal(a, b, la);
    free(a);
    free(b);
}

static void seek_finds_each_seq(void **state)
{
    struct nf_error err = { 0 };
    struct nf_record rec;

    (void)state;
    for (int finished = 0; finished <= 1; finished++) {
        size_t len;
        uint8_t *bytes = make(2, finished, &len);
        struct nf_trace_reader *r = open_bytes(bytes, len, &err);

        assert_non_null(r);
        for (uint64_t seq = 25; seq-- > 0;) {
            size_t want = 0;

            while (want < NALL && all[want].seq < seq)
                want++;
            assert_int_equal(nf_trace_seek(r, seq, &err), NF_OK);
            for (; want < NALL; want++) {
                assert_int_equal(nf_trace_next(r, &rec, &err), 1);
                assert_record(&rec, &all[want]);
            }
            assert_int_equal(nf_trace_next(r, &rec, &err), 0);
        }
        nf_trace_close(r);
        free(bytes);
    }
}

/* Reads everything; returns how it ended and counts records, each of which
 * must be the true one. */
static int read_through(const uint8_t *bytes, size_t len, size_t *records, uint64_t *torn)
{
    struct nf_error err = { 0 };
    struct nf_trace_reader *r = open_bytes(bytes, len, &err);
    struct nf_record rec;
    int ret;

    *records = 0;
    *torn = 0;
    if (!r) {
        assert_true(err.code < 0);
        assert_true(err.text[0] != '\0');
        return err.code;
    }
    *torn = nf_trace_reader_info(r)->torn;
    while ((ret = nf_trace_next(r, &rec, &err)) == 1) {
        assert_true(*records < NALL);
        assert_record(&rec, &all[(*records)++]);
    }
    if (ret < 0)
        assert_int_equal(nf_trace_next(r, &rec, NULL), ret);
    nf_trace_close(r);
    return ret;
}

static void every_truncation(void **state)
{
    size_t len, open_len, records, before = 0;
    uint8_t *bytes = make(2, true, &len);
    uint8_t *open_bytes_ = make(2, false, &open_len);
    uint64_t torn;

    (void)state;
    /* The same blocks, with and without what comes after them. */
    assert_memory_equal(bytes, open_bytes_, open_len);
    for (size_t cut = 0; cut < len; cut++) {
        int ret = read_through(bytes, cut, &records, &torn);

        if (cut < 320) {
            assert_int_equal(ret, NF_EFORMAT);
            continue;
        }
        /* Cut off while recording: everything whole is there, never less
         * than with a byte fewer. */
        assert_int_equal(ret, 0);
        assert_true(records >= before);
        assert_true(records % 2 == 0 || records == NALL);
        before = records;
        if (cut == open_len)
            assert_int_equal(torn, 0);
        if (cut >= open_len) {
            assert_int_equal(records, NALL);
            assert_int_equal(torn, cut - open_len);
        }
    }
    free(bytes);
    free(open_bytes_);
}

static void every_changed_byte_is_noticed(void **state)
{
    size_t len, records;
    uint64_t torn;

    (void)state;
    for (int finished = 0; finished <= 1; finished++) {
        uint8_t *bytes = make(4, finished, &len);

        for (size_t i = 0; i < len; i++) {
            for (unsigned bit = 0; bit < 8; bit++) {
                bytes[i] ^= (uint8_t)(1u << bit);
                assert_true(read_through(bytes, len, &records, &torn) < 0);
                bytes[i] ^= (uint8_t)(1u << bit);
            }
        }
        assert_int_equal(read_through(bytes, len, &records, &torn), 0);
        free(bytes);
    }
}

static void zeroed_tail_is_torn(void **state)
{
    size_t len, records;
    uint8_t *bytes = make(4, false, &len);
    uint64_t torn;

    (void)state;
    bytes = realloc(bytes, len + 5000);
    memset(bytes + len, 0, 5000);
    assert_int_equal(read_through(bytes, len + 5000, &records, &torn), 0);
    assert_int_equal(records, NALL);
    assert_int_equal(torn, 5000);
    bytes[len + 4999] = 1;
    assert_int_equal(read_through(bytes, len + 5000, &records, &torn), NF_EFORMAT);
    assert_int_equal(records, NALL);
    free(bytes);
}

static void other_version_is_named(void **state)
{
    size_t len, records;
    uint8_t *bytes = make(4, true, &len);
    uint64_t torn;

    (void)state;
    bytes[8] = 2;
    assert_int_equal(read_through(bytes, len, &records, &torn), NF_EUNSUPPORTED);
    free(bytes);
}

static void long_payload_is_split(void **state)
{
    const size_t len = NF_TRACE_MAX_PAYLOAD + 1000;
    uint8_t *data = malloc(len);
    struct nf_record rec = { .seq = 5, .type = NF_REC_WRITE, .offset = 4096, .length = len,
                             .data = data };
    struct nf_record small = { .seq = 6, .type = NF_REC_FLUSH };
    struct nf_error err = { 0 };
    int fd = memory_file(), copy = dup(fd);
    struct nf_trace_writer *w = nf_trace_create_fd(fd, &base_info, &err);
    struct nf_trace_reader *r;

    (void)state;
    memset(data, 7, len);
    data[len - 1] = 9;
    assert_int_equal(nf_trace_append(w, &rec, &err), NF_OK);
    assert_int_equal(nf_trace_append(w, &small, &err), NF_OK);
    assert_int_equal(nf_trace_finish(w, &err), NF_OK);
    r = nf_trace_open_fd(copy, &err);
    assert_non_null(r);
    assert_int_equal(nf_trace_next(r, &rec, &err), 1);
    assert_int_equal(rec.length, NF_TRACE_MAX_PAYLOAD);
    assert_int_equal(rec.offset, 4096);
    assert_memory_equal(rec.data, data, rec.length);
    assert_int_equal(nf_trace_next(r, &rec, &err), 1);
    assert_int_equal(rec.seq, 5);
    assert_int_equal(rec.offset, 4096 + NF_TRACE_MAX_PAYLOAD);
    assert_int_equal(rec.length, 1000);
    assert_memory_equal(rec.data, data + NF_TRACE_MAX_PAYLOAD, 1000);
    assert_int_equal(nf_trace_next(r, &rec, &err), 1);
    assert_int_equal(rec.type, NF_REC_FLUSH);
    assert_int_equal(nf_trace_next(r, &rec, &err), 0);
    nf_trace_close(r);
    free(data);
}

static void writer_refuses(void **state)
{
    static const struct nf_record bad[] = {
        { .seq = 10, .type = 0 },
        { .seq = 10, .type = 10 },
        { .seq = 10, .type = NF_REC_WRITE, .length = 1 },
        { .seq = 10, .type = NF_REC_ZERO, .offset = INT64_MAX, .length = 1 },
        { .seq = 10, .type = NF_REC_RESIZE, .length = UINT64_MAX },
        { .seq = 9, .type = NF_REC_FLUSH },
    };
    struct nf_record good = { .seq = 10, .type = NF_REC_FLUSH };
    struct nf_error err = { 0 };
    struct nf_trace_writer *w = nf_trace_create_fd(memory_file(), &base_info, &err);

    (void)state;
    assert_int_equal(nf_trace_append(w, &good, &err), NF_OK);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        assert_int_equal(nf_trace_append(w, &bad[i], &err), NF_EINVAL);
    assert_int_equal(nf_trace_append(w, &good, &err), NF_OK);
    assert_int_equal(nf_trace_finish(w, &err), NF_OK);
}

static void file_appears_only_when_finished(void **state)
{
    char dir[] = "/tmp/nf-test-trace.XXXXXX", path[64];
    struct nf_error err = { 0 };
    struct nf_trace_writer *w;
    struct nf_trace_reader *r;

    (void)state;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/t.nft", dir);
    assert_null(nf_trace_open(path, &err));
    assert_int_equal(err.code, NF_EIO);
    assert_non_null(strstr(err.text, path));

    w = nf_trace_create(path, &base_info, &err);
    assert_non_null(w);
    assert_int_equal(access(path, F_OK), -1);
    nf_trace_discard(w);
    assert_int_equal(rmdir(dir), 0); /* nothing is left */

    assert_null(nf_trace_create(path, &base_info, &err)); /* no such directory */
    assert_int_equal(err.code, NF_EIO);

    assert_int_equal(mkdir(dir, 0700), 0);
    w = nf_trace_create(path, &base_info, &err);
    assert_non_null(w);
    assert_int_equal(nf_trace_finish(w, &err), NF_OK);
    r = nf_trace_open(path, &err);
    assert_non_null(r);
    assert_int_equal(nf_trace_reader_info(r)->records, 0);
    nf_trace_close(r);
    unlink(path);
    assert_null(nf_trace_open(dir, &err)); /* not a regular file */
    assert_int_equal(rmdir(dir), 0);
}

static void crc32c_known_value(void **state)
{
    (void)state;
    assert_int_equal(nf_crc32c(0, "123456789", 9), 0xe3069283);
    assert_int_equal(nf_crc32c(nf_crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(crc32c_known_value),
        cmocka_unit_test(round_trip),
        cmocka_unit_test(same_records_same_bytes),
        cmocka_unit_test(seek_finds_each_seq),
        cmocka_unit_test(every_truncation),
        cmocka_unit_test(every_changed_byte_is_noticed),
        cmocka_unit_test(zeroed_tail_is_torn),
        cmocka_unit_test(other_version_is_named),
        cmocka_unit_test(long_payload_is_split),
        cmocka_unit_test(writer_refuses),
        cmocka_unit_test(file_appears_only_when_finished),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
