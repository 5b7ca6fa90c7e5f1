/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The jbd2 log, read as it is being written.
 *
 * This module follows the log: it knows where the next transaction must begin
 * and which id it must have, and says when that transaction is complete and
 * valid, exactly as the kernel's recovery would decide. It does not touch file
 * system blocks. The log's blocks are read through a callback; all of them are
 * hostile. Format: include/linux/jbd2.h of the kernel (its documentation is
 * wrong about the commit block's checksum fields).
 */
#ifndef BDI_EXT4_JOURNAL_H
#define BDI_EXT4_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* Content of log block @lblk (block size bytes), borrowed until the next
 * change of the log; null if it cannot be had. */
typedef const uint8_t *journal_block_fn(void *opaque, uint32_t lblk);

struct journal_tag {
    uint64_t fsblock;
    uint32_t log_block; /* where the copy is */
    bool escaped;       /* its first four bytes are the jbd2 magic, big-endian */
};

/* A committed transaction; arrays belong to the journal, valid until the next
 * journal_next() or journal_release(). */
struct journal_txn {
    uint32_t tid;
    uint32_t first; /* log block of its first block */
    uint32_t next;  /* log block after its commit block */
    const struct journal_tag *tags; /* by fsblock, one for each: the last copy wins;
                                       none that the same transaction revoked */
    size_t ntags;
    const uint64_t *revokes; /* fsblocks, ascending, each once; they also cancel
                                copies in earlier transactions */
    size_t nrevokes;
    int64_t commit_sec;
    uint32_t commit_nsec;
};

struct journal {
    journal_block_fn *block;
    void *opaque;
    uint32_t block_size;
    uint32_t blocks; /* of the log, as mapped by the journal inode */

    /* From the superblock, refreshed by journal_reload(). */
    uint32_t first, maxlen; /* log area is [first, maxlen) */
    uint32_t fc_first, fc_end; /* that of fast commits behind it; equal: there is none */
    uint32_t features_compat, features_incompat;
    uint8_t uuid[16];
    uint32_t csum_seed;
    uint32_t tail_tid;   /* s_sequence */
    uint32_t tail_block; /* s_start; 0: the log is empty */

    /* Where the next transaction must begin. */
    uint32_t next_tid;
    uint32_t next_block; /* 0: not known until the superblock says so */

    uint32_t fc_inode_size; /* the file system's, for fast commits: to be set by the caller */

    struct journal_scratch *scratch; /* private */
};

/* A fast commit: a position in the area of fast commits, in bytes. */
struct journal_fc {
    uint32_t tid;      /* of the transaction that it is ahead of */
    uint64_t pos, end; /* its tags, those not yet read */
};

enum {
    JOURNAL_FC_ADD_RANGE = 1,
    JOURNAL_FC_DEL_RANGE = 2,
    JOURNAL_FC_CREAT = 3,
    JOURNAL_FC_LINK = 4,
    JOURNAL_FC_UNLINK = 5,
    JOURNAL_FC_INODE = 6,
    JOURNAL_FC_PAD = 7,
    JOURNAL_FC_TAIL = 8,
    JOURNAL_FC_HEAD = 9,
};

struct journal_fc_tag {
    unsigned type;        /* one of those above */
    uint32_t len;         /* right for the type, not more than the block has */
    const uint8_t *value; /* in the log: as long as that does not change */
};

enum journal_fc_change {
    JOURNAL_FC_SAME = 0,
    JOURNAL_FC_MORE = 1,      /* worth calling journal_fc_next() */
    JOURNAL_FC_REWRITTEN = 2, /* something of those given is no longer there: all of
                                 them are void, journal_fc_next() begins anew */
};

enum journal_reload {
    JOURNAL_SAME = 0,    /* nothing that concerns us changed */
    JOURNAL_TAIL = 1,    /* the tail moved: transactions before tail_tid are home */
    JOURNAL_EMPTY = 2,   /* the log was emptied: everything committed is home */
    JOURNAL_RESTART = 3, /* the log begins anew at tail_tid, tail_block */
};

/* Read and check the superblock (log block 0). NF_EUNSUPPORTED names the
 * feature (external device, unknown incompat bits); NF_EFORMAT
 * otherwise. On success next_tid and next_block stand at the tail. */
int journal_init(struct journal *j, uint32_t block_size, uint32_t blocks, journal_block_fn *block,
                 void *opaque, struct nf_error *err);
void journal_release(struct journal *j);

/* The superblock was written: read it again. Returns enum journal_reload, or
 * NF_EFORMAT or NF_EUNSUPPORTED (nothing changed; the caller reports it). In a
 * running journal the tail moves while next_tid goes on; RESTART (mount,
 * recovery, first commit after the log was empty) also sets next_tid and
 * next_block; EMPTY sets next_block to 0 until a RESTART says where the log
 * begins. After RESTART the log may already hold transactions: call
 * journal_next(). */
int journal_reload(struct journal *j, struct nf_error *err);

/* Log block @lblk was written with @data (null: zeros or unknown), and block()
 * returns it already. To be called for every change of the log. True if it is
 * worth calling journal_next(): the block is one that the last scan of the
 * expected transaction depended on (the next descriptor, its commit block, a
 * copy whose checksum was wrong). Takes O(log n), reads nothing. */
bool journal_written(struct journal *j, uint32_t lblk, const uint8_t *data);

/* The transaction at next_block, if it is complete and valid. Returns 1 and
 * advances: call it until it returns 0. 0 if there is none (yet); NF_ENOMEM,
 * also for a transaction that revokes more than 16 Mi blocks. */
int journal_next(struct journal *j, struct journal_txn *out, struct nf_error *err);

/* The same for fast commits; a block of theirs is none for journal_written(). */
enum journal_fc_change journal_fc_written(struct journal *j, uint32_t lblk);

/* The next valid fast commit ahead of transaction next_tid. Each transaction
 * and each new beginning of the log makes the former ones void. True and
 * advances: call it until it returns false, after journal_next() did. */
bool journal_fc_next(struct journal *j, struct journal_fc *out);

/* The next tag of @fc; false at its end. All tags that a valid fast commit has,
 * those without a meaning of their own (HEAD, PAD, TAIL) too. */
bool journal_fc_tag(const struct journal *j, struct journal_fc *fc, struct journal_fc_tag *tag);

/* Give no more fast commits ahead of this transaction. */
void journal_fc_ignore(struct journal *j);

#endif
