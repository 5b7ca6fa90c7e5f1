/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * reorder BASE TRACE SEED OUTPUT: the same trace with its journal written in
 * another order, as a disk with a cache may: writes to the log that follow one
 * another with nothing between them (no flush, no other write, not the
 * journal's superblock) are cut into blocks, and these shuffled. For a file
 * system that begins at the disk's first byte. Prints how many blocks changed
 * places.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ext2fs/ext2fs.h>

#include "common/trace.h"

struct log {
    uint32_t block_size;
    uint64_t blocks; /* of the file system */
    uint8_t *in_log; /* a byte per block; the superblock's is 0 */
};

struct run {
    struct nf_record *blocks; /* their data is ours */
    size_t n, room;
    uint64_t random, moved, next_seq;
    struct nf_trace_writer *out;
};

static int note_block(ext2_filsys fs, blk64_t *block, e2_blkcnt_t lblk, blk64_t ref, int offset,
                      void *priv)
{
    struct log *log = priv;

    (void)fs, (void)ref, (void)offset;
    if (lblk > 0 && *block < log->blocks)
        log->in_log[*block] = 1;
    return 0;
}

static int find_log(const char *base, struct log *log, struct nf_error *err)
{
    ext2_filsys fs;

    if (ext2fs_open(base, 0, 0, 0, unix_io_manager, &fs))
        return nf_fail(err, NF_EFORMAT, "%s: not a file system", base);
    log->block_size = fs->blocksize;
    log->blocks = ext2fs_blocks_count(fs->super);
    log->in_log = calloc(log->blocks, 1);
    if (!log->in_log ||
        ext2fs_block_iterate3(fs, EXT2_JOURNAL_INO, BLOCK_FLAG_DATA_ONLY | BLOCK_FLAG_READ_ONLY,
                              NULL, note_block, log)) {
        ext2fs_close(fs);
        return nf_fail(err, NF_EFORMAT, "%s: the journal cannot be read", base);
    }
    ext2fs_close(fs);
    return 0;
}

static bool is_log_write(const struct log *log, const struct nf_record *rec)
{
    if (rec->type != NF_REC_WRITE || !rec->data || rec->length == 0 ||
        rec->offset % log->block_size || rec->length % log->block_size)
        return false;
    for (uint64_t at = rec->offset; at < rec->offset + rec->length; at += log->block_size) {
        if (at / log->block_size >= log->blocks || !log->in_log[at / log->block_size])
            return false;
    }
    return true;
}

static uint64_t random64(uint64_t *state)
{
    uint64_t z = (*state += UINT64_C(0x9e3779b97f4a7c15));

    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static int put(struct run *run, struct nf_record rec, struct nf_error *err)
{
    rec.seq = run->next_seq++;
    if (rec.type == NF_REC_FLUSH && rec.aux)
        rec.aux = rec.seq - 1;
    return nf_trace_append(run->out, &rec, err);
}

static int end_run(struct run *run, struct nf_error *err)
{
    int rc = 0;

    for (size_t i = run->n; i > 1; i--) {
        size_t k = random64(&run->random) % i;
        struct nf_record t = run->blocks[i - 1];

        run->moved += k != i - 1;
        run->blocks[i - 1] = run->blocks[k];
        run->blocks[k] = t;
    }
    for (size_t i = 0; i < run->n; i++) {
        if (rc == 0)
            rc = put(run, run->blocks[i], err);
        free((void *)(uintptr_t)run->blocks[i].data);
    }
    run->n = 0;
    return rc;
}

/* A block that is written twice keeps its order: the run ends there. */
static bool in_run(const struct run *run, uint64_t offset)
{
    for (size_t i = 0; i < run->n; i++) {
        if (run->blocks[i].offset == offset)
            return true;
    }
    return false;
}

static int cut(struct run *run, const struct log *log, const struct nf_record *rec,
               struct nf_error *err)
{
    for (uint64_t at = 0; at < rec->length; at += log->block_size) {
        struct nf_record p = *rec;
        uint8_t *copy;

        if (in_run(run, rec->offset + at)) {
            int rc = end_run(run, err);

            if (rc < 0)
                return rc;
        }
        if (run->n == run->room) {
            size_t room = run->room ? run->room * 2 : 64;
            struct nf_record *more = reallocarray(run->blocks, room, sizeof(*more));

            if (!more)
                return nf_fail(err, NF_ENOMEM, "out of memory");
            run->blocks = more;
            run->room = room;
        }
        copy = malloc(log->block_size);
        if (!copy)
            return nf_fail(err, NF_ENOMEM, "out of memory");
        memcpy(copy, rec->data + at, log->block_size);
        p.offset = rec->offset + at;
        p.length = log->block_size;
        p.data = copy;
        run->blocks[run->n++] = p;
    }
    return 0;
}

static int reorder(const char *base, const char *trace, uint64_t seed, const char *output,
                   struct nf_error *err)
{
    struct run run = { .random = seed, .next_seq = 1 };
    struct nf_trace_reader *reader;
    struct nf_trace_info info;
    struct nf_record rec;
    struct log log = { 0 };
    int rc = find_log(base, &log, err);

    reader = rc == 0 ? nf_trace_open(trace, err) : NULL;
    if (reader) {
        info = *nf_trace_reader_info(reader);
        info.origin = NF_TRACE_ORIGIN_DERIVED;
        run.out = nf_trace_create(output, &info, err);
    }
    if (!run.out)
        rc = rc < 0 ? rc : NF_EIO;
    while (rc == 0 && (rc = nf_trace_next(reader, &rec, err)) == 1) {
        if (is_log_write(&log, &rec)) {
            rc = cut(&run, &log, &rec, err);
        } else {
            rc = end_run(&run, err);
            if (rc == 0)
                rc = put(&run, rec, err);
        }
    }
    if (rc == 0)
        rc = end_run(&run, err);
    if (rc == 0) {
        rc = nf_trace_finish(run.out, err);
        printf("; %" PRIu64 " blocks of the log moved\n", run.moved);
    } else {
        nf_trace_discard(run.out);
    }
    for (size_t i = 0; i < run.n; i++)
        free((void *)(uintptr_t)run.blocks[i].data);
    nf_trace_close(reader);
    free(run.blocks);
    free(log.in_log);
    return rc;
}

int main(int argc, char **argv)
{
    struct nf_error err = { 0 };

    if (argc != 5) {
        fputs("Usage: reorder BASE TRACE SEED OUTPUT\n", stderr);
        return 2;
    }
    if (reorder(argv[1], argv[2], strtoull(argv[3], NULL, 0), argv[4], &err) < 0) {
        fprintf(stderr, "reorder: %s\n", err.text);
        return 1;
    }
    return 0;
}
