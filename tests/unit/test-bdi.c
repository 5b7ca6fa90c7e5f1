/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libbdi's edges: disks that cannot be followed are said to be, by name, and
 * records that are not plain writes do what bdi.h says. Images are made by
 * mke2fs and debugfs.
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
#define BLOCK 1024u
#define IND_AT (40 + 12 * 4) /* in an inode: its indirect block */
#define INDIRECT 86u          /* blocks beneath that, of a file of 100000 bytes */

struct seen {
    enum nf_kind kind;
    uint32_t flags, inode;
    enum nf_fs_state state;
    uint64_t offset, length;
    uint8_t first_byte; /* of a WRITE's data */
    char text[300];     /* reason and type of FS, scope of GAP */
};

struct test {
    struct nf_image img;
    uint8_t *disk;
    char path[64];
    int shadow;
    struct bdi *bdi;
    struct seen seen[64];
    size_t n;
    uint64_t next_seq;
    int refuse;    /* what the callback returns instead of 0 */
    bool fail_read; /* the image cannot be read */
    int reads_left; /* before that happens by itself; negative: never */
};

static int disk_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                     struct nf_error *err)
{
    struct test *t = (struct test *)img;

    assert_true(offset <= img->size && len <= img->size - offset);
    if (t->fail_read || (t->reads_left >= 0 && t->reads_left-- == 0))
        return nf_fail(err, NF_EIO, "the disk is on fire");
    memcpy(buf, t->disk + offset, len);
    return 0;
}

static int on_event(void *opaque, const struct nf_event *ev, struct nf_error *err)
{
    struct test *t = opaque;
    struct seen *s = &t->seen[t->n];

    if (t->refuse)
        return nf_fail(err, t->refuse, "nobody listens");
    assert_int_equal(ev->seq, t->next_seq++);
    assert_int_equal(ev->epoch, 7);
    assert_true(t->n < sizeof(t->seen) / sizeof(t->seen[0]));
    *s = (struct seen){.kind = ev->kind, .flags = ev->flags, .inode = ev->inode};
    if (ev->kind == NF_FS) {
        s->state = ev->fs.state;
        snprintf(s->text, sizeof(s->text), "%s: %s", ev->fs.type ? ev->fs.type : "-",
                 ev->fs.reason ? ev->fs.reason : "-");
    } else if (ev->kind == NF_GAP) {
        s->offset = ev->gap.lost_requests;
        s->length = ev->gap.lost_bytes;
        snprintf(s->text, sizeof(s->text), "%s", ev->gap.scope);
    } else if (ev->kind == NF_WRITE) {
        s->offset = ev->write.offset;
        s->length = ev->write.length;
        s->first_byte = ev->write.data.len ? ev->write.data.data[0] : 0;
    } else if (ev->kind == NF_ZERO) {
        s->offset = ev->range.offset;
        s->length = ev->range.length;
    }
    t->n++;
    return 0;
}

static int setup(void **state)
{
    struct test *t = calloc(1, sizeof(*t));
    int fd;

    assert_non_null(t);
    snprintf(t->path, sizeof(t->path), "/tmp/nf-bdi.XXXXXX");
    fd = mkstemp(t->path);
    t->shadow = memfd_create("shadow", MFD_CLOEXEC);
    assert_true(fd >= 0 && t->shadow >= 0);
    close(fd);
    t->img.read = disk_read;
    t->next_seq = 3;
    t->reads_left = -1;
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
    free(t);
    return 0;
}

/* Run a command with the image's path for each %1$s. */
static void run(struct test *t, const char *format)
{
    char command[800];
    int n;

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    n = snprintf(command, sizeof(command), format, t->path);
#pragma GCC diagnostic pop
    assert_in_range(n, 1, sizeof(command) - 1);
    assert_int_equal(system(command), 0);
}

static void load(struct test *t, uint32_t size)
{
    FILE *f = fopen(t->path, "rb");

    assert_non_null(f);
    t->disk = calloc(1, size);
    assert_non_null(t->disk);
    t->img.size = size;
    assert_true(fread(t->disk, 1, size, f) > 0 || feof(f));
    fclose(f);
}

static int attach(struct test *t, struct nf_error *err)
{
    struct bdi_options opt = {.epoch = 7,
                              .first_seq = 3,
                              .content_limit = BDI_CONTENT_ALL,
                              .event = on_event,
                              .opaque = t};

    t->bdi = bdi_new(&t->img, t->shadow, &opt, err);
    assert_non_null(t->bdi);
    return bdi_attach(t->bdi, err);
}

/* Nothing is attached to, and one FS event says @reason. */
static void expect_unsupported(struct test *t, uint32_t size, const char *reason)
{
    struct nf_error err = {0};
    const struct bdi_place *place;
    struct bdi_status st;
    char text[300];

    load(t, size);
    assert_int_equal(attach(t, &err), 0);
    assert_int_equal(t->n, 1);
    assert_int_equal(t->seen[0].kind, NF_FS);
    assert_int_equal(t->seen[0].state, NF_FS_UNSUPPORTED);
    if (!strstr(t->seen[0].text, reason))
        fail_msg("'%s' does not say '%s'", t->seen[0].text, reason);
    st = *bdi_get_status(t->bdi);
    assert_int_equal(st.filesystems, 0);
    assert_int_equal(bdi_next_seq(t->bdi), 4);
    /* What the event said, the status says too. */
    place = bdi_get_place(t->bdi, 0);
    assert_non_null(place);
    snprintf(text, sizeof(text), "%s: %s", place->type[0] ? place->type : "-", place->reason);
    assert_string_equal(text, t->seen[0].text);
    assert_null(place->features);
    assert_int_equal(place->size, size);
    assert_null(bdi_get_place(t->bdi, 1));
}

/* What nobody has heard of yet is not half-followed. */
static void expect_unknown(struct test *t, const char *offset, const char *name)
{
    char cmd[300];

    snprintf(cmd, sizeof(cmd),
             "mke2fs -q -F -t ext4 -b 1024 -J size=1 -O ^metadata_csum %%1$s 8M && "
             "printf '\\100' | dd of=%%1$s bs=1 seek=%s conv=notrunc 2> /dev/null", offset);
    run(t, cmd);
    expect_unsupported(t, 8 * MIB, name);
}

/* The highest byte of each word of features. */
static void test_unknown_compat(void **state)
{
    expect_unknown(*state, "1119", "FEATURE_C30");
}

static void test_unknown_incompat(void **state)
{
    expect_unknown(*state, "1123", "FEATURE_I30");
}

static void test_unknown_ro_compat(void **state)
{
    expect_unknown(*state, "1127", "FEATURE_R30");
}

static void test_journal_needed(void **state)
{
    run(*state, "mke2fs -q -F -t ext4 -b 1024 -O ^has_journal,inline_data %1$s 8M");
    expect_unsupported(*state, 8 * MIB, "inline_data");
}

static void test_fast_inline(void **state)
{
    run(*state, "mke2fs -q -F -t ext4 -b 1024 -J size=4 -O fast_commit,inline_data %1$s 16M");
    expect_unsupported(*state, 16 * MIB, "inline_data");
}

static void test_external_journal(void **state)
{
    /* debugfs: no second device is needed. */
    run(*state, "mke2fs -q -F -t ext4 -b 1024 -J size=1 %1$s 8M && "
                "debugfs -w -R 'ssv journal_inum 0' %1$s 2> /dev/null");
    expect_unsupported(*state, 8 * MIB, "external journal");
}

static void test_journal_device(void **state)
{
    run(*state, "mke2fs -q -F -O journal_dev -b 1024 %1$s 4M");
    expect_unsupported(*state, 4 * MIB, "jbd");
}

static void test_luks(void **state)
{
    run(*state, "printf 'LUKS\\272\\276\\0\\2' > %1$s");
    expect_unsupported(*state, 8 * MIB, "crypto_LUKS");
}

static void test_xfs(void **state)
{
    /* blkid wants a superblock that makes sense: 4096 byte blocks, 512 byte
     * sectors, 256 byte inodes, one group of 4096 blocks. */
    run(*state, "{ printf 'XFSB\\0\\0\\20\\0\\0\\0\\0\\0\\0\\0\\20\\0'; head -c 64 /dev/zero; "
                "printf '\\0\\0\\0\\1'; "
                "printf '\\0\\0\\20\\0\\0\\0\\0\\1\\0\\0\\0\\0\\0\\0\\5\\0'; "
                "printf '\\264\\245\\2\\0\\1\\0\\0\\20'; head -c 12 /dev/zero; "
                "printf '\\14\\11\\10\\4\\14\\0\\0\\31'; head -c 512 /dev/zero; } > %1$s");
    expect_unsupported(*state, 16 * MIB, "xfs");
}

static void test_nothing(void **state)
{
    expect_unsupported(*state, MIB, "nothing known is there");
}

/* A superblock that is there but lies. */
static void test_broken_geometry(void **state)
{
    struct test *t = *state;

    run(t, "mke2fs -q -F -t ext4 -b 1024 -J size=1 -O ^metadata_csum %1$s 8M && "
           "truncate -s 4M %1$s");
    expect_unsupported(t, 4 * MIB, "do not fit");
}

static void test_unreadable(void **state)
{
    struct test *t = *state;
    struct nf_error err = {0};

    run(t, "mke2fs -q -F -t ext4 -b 1024 -J size=1 %1$s 8M");
    load(t, 8 * MIB);
    t->fail_read = true;
    assert_int_equal(attach(t, &err), NF_EIO);
    assert_non_null(strstr(err.text, "on fire"));
    assert_int_equal(t->n, 0);
}

/* Whichever read fails, the error is the image's, and what was made is released. */
static void test_unreadable_anywhere(void **state)
{
    struct test *t = *state;
    int n, ret = NF_EIO;

    run(t, "mke2fs -q -F -t ext4 -b 1024 -N 64 -J size=1 %1$s 8M");
    load(t, 8 * MIB);
    for (n = 0; ret < 0; n++) {
        struct nf_error err = {0};

        assert_in_range(n, 0, 10000);
        t->n = 0;
        t->next_seq = 3;
        t->reads_left = n;
        bdi_free(t->bdi);
        ret = attach(t, &err);
        if (ret < 0) {
            assert_int_equal(ret, NF_EIO);
            assert_non_null(strstr(err.text, "on fire"));
        }
    }
    assert_true(n > 20);
    assert_int_equal(t->n, 1);
    assert_int_equal(t->seen[0].state, NF_FS_ATTACHED);
}

/* --- records ------------------------------------------------------------------ */

/* A file system with one file of three blocks. */
static void follow(struct test *t)
{
    struct nf_error err = {0};
    struct bdi_status st;

    run(t, "mke2fs -q -F -t ext4 -b 1024 -N 64 -J size=1 -O ^metadata_csum %1$s 8M && "
           "head -c 3000 /dev/zero | tr '\\0' a > %1$s.file && "
           "debugfs -w -R 'write %1$s.file file' %1$s > /dev/null 2>&1 && rm %1$s.file");
    load(t, 8 * MIB);
    assert_int_equal(attach(t, &err), 0);
    assert_int_equal(t->n, 1);
    assert_int_equal(t->seen[0].state, NF_FS_ATTACHED);
    st = *bdi_get_status(t->bdi);
    assert_int_equal(st.filesystems, 1);
    t->n = 0;
}

/* Where the file's first block is: the only block that begins with it. */
static uint64_t file_at(const struct test *t)
{
    for (uint64_t at = 0; at < t->img.size; at += BLOCK) {
        if (t->disk[at] == 'a' && t->disk[at + BLOCK - 1] == 'a')
            return at;
    }
    fail_msg("the file is not on the disk");
    return 0;
}

static int record(struct test *t, enum nf_record_type type, uint32_t flags, uint64_t offset,
                  uint64_t length, const uint8_t *data)
{
    struct nf_record rec = {
        .seq = 1, .type = type, .flags = flags, .offset = offset, .length = length, .data = data};
    struct nf_error err = {0};
    int ret = bdi_record(t->bdi, &rec, &err);

    assert_int_equal(ret, err.code);
    return ret;
}

static void test_gap(void **state)
{
    struct test *t = *state;

    follow(t);
    assert_int_equal(record(t, NF_REC_GAP, 0, 17, 12345, NULL), NF_ELOST);
    assert_int_equal(t->n, 1);
    assert_int_equal(t->seen[0].kind, NF_GAP);
    assert_int_equal(t->seen[0].offset, 17);
    assert_int_equal(t->seen[0].length, 12345);
    assert_true(t->seen[0].text[0]);
    /* Nothing after it can be believed. */
    assert_int_equal(record(t, NF_REC_FLUSH, 0, 0, 0, NULL), NF_ELOST);
    assert_int_equal(t->n, 1);
}

static void test_overwrite(void **state)
{
    struct test *t = *state;
    uint8_t data[BLOCK];
    uint64_t at;

    follow(t);
    at = file_at(t);
    memset(data, 'b', sizeof(data));
    assert_int_equal(record(t, NF_REC_WRITE, 0, at, 512, data), 0);
    assert_int_equal(t->n, 1);
    assert_int_equal(t->seen[0].kind, NF_WRITE);
    assert_int_equal(t->seen[0].offset, 0);
    assert_int_equal(t->seen[0].length, 512);
    assert_int_equal(t->seen[0].first_byte, 'b');
    assert_int_equal(t->seen[0].flags & NF_EV_READBACK, 0);
    /* Only to the end of the file are there bytes that anybody can read. */
    assert_int_equal(record(t, NF_REC_WRITE, 0, at + 2 * BLOCK, BLOCK, data), 0);
    assert_int_equal(t->n, 2);
    assert_int_equal(t->seen[1].offset, 2048);
    assert_int_equal(t->seen[1].length, 3000 - 2048);
    assert_int_equal(record(t, NF_REC_ZERO, 0, at, BLOCK, NULL), 0);
    assert_int_equal(t->n, 3);
    assert_int_equal(t->seen[2].kind, NF_ZERO);
    assert_int_equal(t->seen[2].length, BLOCK);
}

/* Parts of sectors are taken from the disk, whole sectors at a time. */
static void test_unaligned(void **state)
{
    struct test *t = *state;
    uint8_t data[700];
    uint64_t at;

    follow(t);
    at = file_at(t);
    memset(data, 'c', sizeof(data));
    memcpy(t->disk + at + 100, data, sizeof(data));
    assert_int_equal(record(t, NF_REC_WRITE, 0, at + 100, sizeof(data), data), 0);
    assert_int_equal(t->n, 1);
    assert_int_equal(t->seen[0].kind, NF_WRITE);
    assert_int_equal(t->seen[0].offset, 0);
    assert_int_equal(t->seen[0].length, 1024);
    assert_int_equal(t->seen[0].first_byte, 'a'); /* what the disk has there */
    assert_true(t->seen[0].flags & NF_EV_READBACK);
}

/* What a write that failed or overlapped left is what the disk says. */
static void test_ambiguous(void **state)
{
    struct test *t = *state;
    uint8_t data[BLOCK];
    uint64_t at;

    follow(t);
    at = file_at(t);
    memset(t->disk + at, 'd', BLOCK);
    memset(data, 'e', sizeof(data));
    assert_int_equal(record(t, NF_REC_WRITE, NF_REC_AMBIGUOUS, at, BLOCK, data), 0);
    assert_int_equal(record(t, NF_REC_WRITE, NF_REC_FAILED, at, BLOCK, NULL), 0);
    assert_int_equal(t->n, 2);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(t->seen[i].first_byte, 'd');
        assert_true(t->seen[i].flags & NF_EV_READBACK);
    }
    t->fail_read = true;
    assert_int_equal(record(t, NF_REC_WRITE, NF_REC_FAILED, at, BLOCK, NULL), NF_EIO);
}

static void test_beyond(void **state)
{
    struct test *t = *state;
    uint8_t data[2 * BLOCK] = {1};
    struct bdi_status st;

    follow(t);
    assert_int_equal(record(t, NF_REC_WRITE, 0, t->img.size, sizeof(data), data), 0);
    assert_int_equal(record(t, NF_REC_WRITE, 0, t->img.size - BLOCK, sizeof(data), data), 0);
    assert_int_equal(record(t, NF_REC_ZERO, 0, UINT64_MAX - 511, 512, NULL), 0);
    assert_int_equal(record(t, NF_REC_ZERO, 0, 0, 0, NULL), 0);
    assert_int_equal(record(t, NF_REC_DISCARD, 0, t->img.size / 2, UINT64_MAX, NULL), 0);
    assert_int_equal(record(t, NF_REC_DISCARD, 0, t->img.size - 512, UINT64_MAX - 511, NULL), 0);
    assert_int_equal(record(t, NF_REC_RESIZE, 0, 0, UINT64_MAX, NULL), 0);
    assert_int_equal(t->n, 0);
    st = *bdi_get_status(t->bdi);
    assert_int_equal(st.records, 7);
    assert_int_equal(st.events, 1); /* FS(attached) */
}

static void test_no_data(void **state)
{
    struct test *t = *state;

    follow(t);
    assert_int_equal(record(t, NF_REC_WRITE, 0, 0, 512, NULL), NF_EINVAL);
}

/* What the callback returns is what the caller gets, and no seq is lost. */
static void test_refused(void **state)
{
    struct test *t = *state;
    uint8_t data[512] = {1};

    follow(t);
    t->refuse = NF_ECLOSED;
    assert_int_equal(record(t, NF_REC_WRITE, 0, file_at(t), 512, data), NF_ECLOSED);
    assert_int_equal(bdi_next_seq(t->bdi), 4);
}

/* Metadata changed in place becomes a step at the next barrier. */
/* Where the root's inode is the second: a directory with three links. */
static uint64_t inode_table(const struct test *t)
{
    for (uint64_t at = BLOCK; at < t->img.size; at += BLOCK) {
        if (nf_le16(t->disk + at + 256) == 040755 && nf_le16(t->disk + at + 256 + 26) == 3)
            return at;
    }
    fail_msg("no inode table");
    return 0;
}

static void test_in_place(void **state)
{
    struct test *t = *state;
    uint8_t block[BLOCK];
    uint64_t table;

    follow(t);
    table = inode_table(t);
    memcpy(block, t->disk + table, BLOCK);
    nf_put_le16(block + 256, 040700);
    assert_int_equal(record(t, NF_REC_WRITE, 0, table, BLOCK, block), 0);
    assert_int_equal(t->n, 0);
    assert_int_equal(record(t, NF_REC_FLUSH, 0, 0, 0, NULL), 0);
    assert_int_equal(t->n, 2);
    assert_int_equal(t->seen[0].kind, NF_ATTR);
    assert_int_equal(t->seen[0].inode, 2);
    assert_false(t->seen[0].flags & NF_EV_UNORDERED); /* it is consistent */
    assert_int_equal(t->seen[1].kind, NF_COMMIT);
}

/* A superblock that becomes invalid ends its file system, once. */
static void test_gone(void **state)
{
    struct test *t = *state;
    uint8_t zeros[4 * BLOCK] = {0};
    struct bdi_status st;

    follow(t);
    memset(t->disk, 0, sizeof(zeros));
    assert_int_equal(record(t, NF_REC_WRITE, 0, 0, sizeof(zeros), zeros), 0);
    /* From this very write on: nothing that follows is its doing. */
    assert_int_equal(t->n, 1);
    assert_int_equal(t->seen[0].kind, NF_FS);
    assert_int_equal(t->seen[0].state, NF_FS_GONE);
    assert_int_equal(record(t, NF_REC_FLUSH, 0, 0, 0, NULL), 0);
    assert_int_equal(record(t, NF_REC_WRITE, 0, 0, sizeof(zeros), zeros), 0);
    assert_int_equal(record(t, NF_REC_FLUSH, 0, 0, 0, NULL), 0);
    assert_int_equal(t->n, 2);
    assert_int_equal(t->seen[1].kind, NF_FS);
    assert_int_equal(t->seen[1].state, NF_FS_UNSUPPORTED);
    assert_non_null(strstr(t->seen[1].text, "nothing known is there"));
    st = *bdi_get_status(t->bdi);
    assert_int_equal(st.filesystems, 0);
}

/* Encrypted names would all be shown as others: the file system is attached anew. */
static void test_rehashed(void **state)
{
    struct test *t = *state;
    struct nf_error err = {0};

    run(t, "mke2fs -q -F -t ext4 -b 1024 -N 64 -J size=1 -O ^metadata_csum,encrypt %1$s 8M");
    load(t, 8 * MIB);
    assert_int_equal(attach(t, &err), 0);
    t->n = 0;
    assert_int_equal(t->disk[1024 + 0xfc], 1);
    t->disk[1024 + 0xfc] = 2; /* as tune2fs -E hash_alg=tea does */
    assert_int_equal(record(t, NF_REC_WRITE, 0, 1024, BLOCK, t->disk + 1024), 0);
    assert_int_equal(record(t, NF_REC_FLUSH, 0, 0, 0, NULL), 0);
    assert_int_equal(t->n, 2);
    assert_int_equal(t->seen[0].state, NF_FS_GONE);
    assert_non_null(strstr(t->seen[0].text, "hashed"));
    assert_int_equal(t->seen[1].state, NF_FS_ATTACHED);
}

/* --- without a journal -------------------------------------------------------- */

#define INODE_SIZE 256u
#define ITABLE_AT 8 /* in the first group's descriptor */

static uint64_t table_at(const struct test *t)
{
    return (uint64_t)nf_le32(t->disk + 2 * BLOCK + ITABLE_AT) * BLOCK;
}

static int record_at(struct test *t, int64_t time_ns, enum nf_record_type type, uint64_t offset,
                     const uint8_t *data)
{
    struct nf_record rec = {.seq = 1, .time_ns = time_ns, .type = type, .offset = offset,
                            .length = data ? BLOCK : 0, .data = data};
    struct nf_error err = {0};

    return bdi_record(t->bdi, &rec, &err);
}

/* A mounted ext2 with room for @inodes. */
static void follow_ext2(struct test *t, uint32_t inodes, uint32_t size)
{
    struct nf_error err = {0};
    char command[300];

    snprintf(command, sizeof(command),
             "mke2fs -q -F -t ext2 -b 1024 -I 256 -N %u %%1$s %uk && "
             "debugfs -w -R 'ssv state 0' %%1$s 2> /dev/null", inodes, size / 1024);
    run(t, command);
    load(t, size);
    assert_int_equal(attach(t, &err), 0);
    assert_int_equal(t->n, 1);
    assert_int_equal(t->seen[0].state, NF_FS_ATTACHED);
    t->n = 0;
}

/* Give what differs in @after, which is the blocks that have @name or all others. */
static void give_blocks(struct test *t, const uint8_t *after, const char *name, bool named)
{
    for (uint64_t at = 0; at < t->img.size; at += BLOCK) {
        if (memcmp(t->disk + at, after + at, BLOCK) == 0 ||
            (memmem(after + at, BLOCK, name, strlen(name)) != NULL) != named)
            continue;
        memcpy(t->disk + at, after + at, BLOCK);
        assert_int_equal(record(t, NF_REC_WRITE, 0, at, BLOCK, after + at), 0);
    }
}

/* debugfs makes a file; the disk as it is then, to be freed. */
static uint8_t *make_file(struct test *t)
{
    uint8_t *before = t->disk, *after;

    run(t, "head -c 3000 /dev/zero | tr '\\0' a > %1$s.file && "
           "debugfs -w -R 'write %1$s.file the-new-one' %1$s > /dev/null 2>&1 && rm %1$s.file");
    load(t, (uint32_t)t->img.size);
    after = t->disk;
    t->disk = before;
    return after;
}

/* A name that reaches the disk before its inode waits for it. */
static void test_no_journal(void **state)
{
    struct test *t = *state;
    uint8_t *after;

    follow_ext2(t, 64, 4 * MIB);
    after = make_file(t);
    give_blocks(t, after, "the-new-one", true);
    assert_int_equal(record(t, NF_REC_FLUSH, 0, 0, 0, NULL), 0);
    assert_int_equal(t->n, 0);
    assert_int_equal(bdi_get_status(t->bdi)->waiting, 1);
    give_blocks(t, after, "the-new-one", false);
    assert_int_equal(t->n, 0);
    assert_int_equal(record(t, NF_REC_FLUSH, 0, 0, 0, NULL), 0);
    assert_int_equal(bdi_get_status(t->bdi)->waiting, 0);
    /* The inode reached the disk before the bytes: they may be another file's yet. */
    assert_int_equal(t->n, 3);
    assert_int_equal(t->seen[0].kind, NF_CREATE);
    assert_int_equal(t->seen[0].inode, 12);
    assert_int_equal(t->seen[0].flags, 0);
    assert_int_equal(t->seen[1].kind, NF_WRITE);
    assert_int_equal(t->seen[1].flags, NF_EV_UNSETTLED);
    assert_int_equal(t->seen[2].kind, NF_COMMIT);
    assert_int_equal(bdi_get_status(t->bdi)->waiting_content, 1);
    t->n = 0;
    assert_int_equal(record_at(t, INT64_C(61000000000), NF_REC_FLUSH, 0, NULL), 0);
    assert_int_equal(bdi_get_status(t->bdi)->waiting_content, 0);
    assert_int_equal(t->n, 2);
    assert_int_equal(t->seen[0].kind, NF_WRITE);
    assert_int_equal(t->seen[0].length, 3000);
    assert_int_equal(t->seen[0].first_byte, 'a');
    assert_int_equal(t->seen[0].flags, NF_EV_UNORDERED);
    free(after);
}

/* What never gets consistent is told in the end, and flagged. */
static void test_no_journal_forced(void **state)
{
    struct test *t = *state;
    struct nf_error err = {0};
    uint8_t *after;

    follow_ext2(t, 64, 4 * MIB);
    after = make_file(t);
    give_blocks(t, after, "the-new-one", false);
    assert_int_equal(record(t, NF_REC_FLUSH, 0, 0, 0, NULL), 0);
    assert_int_equal(bdi_idle(t->bdi, INT64_C(59000000000), &err), 0);
    assert_int_equal(t->n, 0);
    assert_int_equal(bdi_get_status(t->bdi)->waiting, 1);
    assert_int_equal(bdi_idle(t->bdi, INT64_C(60000000000), &err), 0);
    assert_int_equal(bdi_get_status(t->bdi)->waiting, 0);
    assert_true(t->n > 0);
    assert_int_equal(t->seen[0].kind, NF_CREATE);
    assert_int_equal(t->seen[0].inode, 12);
    assert_true(t->seen[0].flags & NF_EV_UNORDERED);
    free(after);
}

/* A guest that makes thousands of inodes wait and flushes after each write does not
 * make the engine look at them all each time. */
static void test_much_waits(void **state)
{
    enum { INODES = 8192, WRITES = 5000, PER_BLOCK = BLOCK / INODE_SIZE };
    struct test *t = *state;
    struct nf_error err = {0};
    uint64_t table, before;
    uint8_t block[BLOCK] = {0};

    follow_ext2(t, INODES, 16 * MIB);
    table = table_at(t);
    /* In use, says the table, but not the bitmap. */
    for (uint32_t i = 0; i < PER_BLOCK; i++) {
        nf_put_le16(block + i * INODE_SIZE, 0100644);
        nf_put_le16(block + i * INODE_SIZE + 26, 1);
    }
    for (uint32_t b = 8; b < INODES / 2 / PER_BLOCK; b++)
        assert_int_equal(record(t, NF_REC_WRITE, 0, table + b * BLOCK, BLOCK, block), 0);
    assert_int_equal(record(t, NF_REC_FLUSH, 0, 0, 0, NULL), 0);
    assert_in_range(bdi_get_status(t->bdi)->waiting, 4000, 4200);
    before = bdi_get_status(t->bdi)->looked;
    for (uint32_t i = 0; i < WRITES; i++) {
        nf_put_le32(block + 0x10, i + 1); /* mtime */
        assert_int_equal(record(t, NF_REC_WRITE, 0, table + 8 * BLOCK, BLOCK, block), 0);
        assert_int_equal(record(t, NF_REC_FLUSH, 0, 0, 0, NULL), 0);
    }
    assert_true(bdi_get_status(t->bdi)->looked - before < 2u << 20);
    /* When there is time again, nothing is forgotten. */
    assert_int_equal(bdi_idle(t->bdi, 1000000000, &err), 0);
    assert_in_range(bdi_get_status(t->bdi)->waiting, 4000, 4200);
    assert_int_equal(t->n, 0);
}

/* Two files whose maps go through one node: it is the first one's. Were it read for
 * each, a few blocks and a table of inodes could make any amount of work. */
static void test_shared_node(void **state)
{
    struct test *t = *state;
    struct nf_error err = {0};
    uint64_t table;
    uint8_t *node;

    run(t, "mke2fs -q -F -t ext4 -b 1024 -J size=1 -O ^metadata_csum,^extent,^64bit %1$s 8M && "
           "head -c 100000 /dev/zero | tr '\\0' a > %1$s.a && "
           "debugfs -w -R 'write %1$s.a one' %1$s > /dev/null 2>&1 && "
           "debugfs -w -R 'write %1$s.a two' %1$s > /dev/null 2>&1; rm %1$s.a");
    load(t, 8 * MIB);
    table = inode_table(t);
    memcpy(t->disk + table + 12 * 256 + IND_AT, t->disk + table + 11 * 256 + IND_AT, 4);
    /* No two blocks in a row. */
    node = t->disk + (uint64_t)nf_le32(t->disk + table + 11 * 256 + IND_AT) * BLOCK;
    for (uint32_t i = 0; i < INDIRECT / 2; i++) {
        uint8_t *a = node + 4 * i, *b = node + 4 * (INDIRECT - 1 - i);
        uint32_t was = nf_le32(a);

        nf_put_le32(a, nf_le32(b));
        nf_put_le32(b, was);
    }
    assert_int_equal(attach(t, &err), 0);
    /* Each reading of its map, and not each block in it. */
    assert_in_range(bdi_get_status(t->bdi)->oddities, 1, 4);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_unknown_compat), TEST(test_unknown_incompat),
        TEST(test_unknown_ro_compat), TEST(test_journal_needed),
        TEST(test_fast_inline),    TEST(test_external_journal),
        TEST(test_journal_device), TEST(test_luks),            TEST(test_xfs),
        TEST(test_nothing),        TEST(test_broken_geometry), TEST(test_unreadable),
        TEST(test_unreadable_anywhere),
        TEST(test_gap),            TEST(test_overwrite),       TEST(test_unaligned),
        TEST(test_ambiguous),      TEST(test_beyond),          TEST(test_no_data),
        TEST(test_refused),        TEST(test_in_place),        TEST(test_gone),
        TEST(test_shared_node),    TEST(test_rehashed),       TEST(test_no_journal),      TEST(test_no_journal_forced),
        TEST(test_much_waits),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
