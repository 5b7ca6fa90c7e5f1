/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * journal-dump IMAGE [OUTPUT]: lists the committed transactions of an ext4
 * image's journal as bdi/ext4/journal.h reads them, one fact a line:
 *
 *   TID tag FSBLOCK LOGBLOCK ESCAPED
 *   TID revoke FSBLOCK
 *   TID commit LOGBLOCK
 *
 * With OUTPUT (an existing copy of the image), also writes there what recovery
 * would: the last copy of each block that no later transaction revoked.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <ext2fs/ext2fs.h>

#include "bdi/ext4/journal.h"

struct log {
    uint8_t *data;
    uint32_t blocks, block_size;
};

struct revoke {
    uint64_t fsblock;
    uint32_t tid;
};

static struct revoke *revokes;
static size_t nrevokes;

static const uint8_t *get_block(void *opaque, uint32_t lblk)
{
    struct log *log = opaque;

    return lblk < log->blocks ? log->data + (size_t)lblk * log->block_size : NULL;
}

static int read_log(ext2_filsys fs, struct log *log)
{
    ext2_ino_t ino = fs->super->s_journal_inum;
    struct ext2_inode inode;
    errcode_t e = ext2fs_read_inode(fs, ino, &inode);

    if (e)
        return fprintf(stderr, "journal inode: %s\n", error_message(e)), -1;
    log->block_size = fs->blocksize;
    log->blocks = (uint32_t)(EXT2_I_SIZE(&inode) / fs->blocksize);
    log->data = malloc((size_t)log->blocks * log->block_size);
    if (!log->data)
        return perror("malloc"), -1;
    for (uint32_t b = 0; b < log->blocks; b++) {
        blk64_t phys;

        e = ext2fs_bmap2(fs, ino, &inode, NULL, 0, b, NULL, &phys);
        if (!e)
            e = io_channel_read_blk64(fs->io, phys, 1,
                                      log->data + (size_t)b * log->block_size);
        if (e)
            return fprintf(stderr, "journal block %u: %s\n", b, error_message(e)), -1;
    }
    return 0;
}

static int list(const struct journal_txn *t, const struct journal *j)
{
    struct revoke *more = realloc(revokes, (nrevokes + t->nrevokes + 1) * sizeof(*revokes));

    if (!more)
        return perror("realloc"), -1;
    revokes = more;
    for (size_t i = 0; i < t->ntags; i++)
        printf("%u tag %" PRIu64 " %u %d\n", t->tid, t->tags[i].fsblock, t->tags[i].log_block,
               t->tags[i].escaped);
    for (size_t i = 0; i < t->nrevokes; i++) {
        printf("%u revoke %" PRIu64 "\n", t->tid, t->revokes[i]);
        revokes[nrevokes++] = (struct revoke){t->revokes[i], t->tid};
    }
    printf("%u commit %u\n", t->tid, t->next == j->first ? j->maxlen - 1 : t->next - 1);
    return 0;
}

static int replay(const struct journal_txn *t, const struct log *log, int fd)
{
    for (size_t i = 0; i < t->ntags; i++) {
        uint8_t *copy = log->data + (size_t)t->tags[i].log_block * log->block_size;
        off_t at = (off_t)(t->tags[i].fsblock * log->block_size);
        bool revoked = false;

        for (size_t k = 0; k < nrevokes; k++)
            revoked |= revokes[k].fsblock == t->tags[i].fsblock &&
                       (int32_t)(revokes[k].tid - t->tid) >= 0;
        if (revoked)
            continue;
        if (pwrite(fd, copy, log->block_size, at) != (ssize_t)log->block_size)
            return perror("write"), -1;
        if (t->tags[i].escaped && pwrite(fd, "\xc0\x3b\x39\x98", 4, at) != 4)
            return perror("write"), -1;
    }
    return 0;
}

/* Go through the journal; @fd < 0 lists it, else it is replayed there. */
static int run(struct log *log, int fd)
{
    struct nf_error err = {0};
    struct journal j;
    struct journal_txn t;
    int ret = journal_init(&j, log->block_size, log->blocks, get_block, log, &err);

    while (ret == 0 && (ret = journal_next(&j, &t, &err)) == 1)
        ret = fd < 0 ? list(&t, &j) : replay(&t, log, fd);
    if (err.code)
        fprintf(stderr, "%s\n", err.text);
    journal_release(&j);
    return ret;
}

int main(int argc, char **argv)
{
    struct log log = {0};
    ext2_filsys fs;
    errcode_t e;
    int ret, fd;

    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: %s IMAGE [OUTPUT]\n", argv[0]);
        return 2;
    }
    e = ext2fs_open(argv[1], EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs);
    if (e) {
        fprintf(stderr, "%s: %s\n", argv[1], error_message(e));
        return 1;
    }
    ret = read_log(fs, &log);
    if (ret == 0)
        ret = run(&log, -1);
    if (ret == 0 && argc == 3) {
        fd = open(argv[2], O_WRONLY | O_CLOEXEC);
        if (fd < 0) {
            perror(argv[2]);
            ret = -1;
        } else {
            ret = run(&log, fd);
            close(fd);
        }
    }
    ext2fs_close(fs);
    free(log.data);
    free(revokes);
    return ret < 0;
}
