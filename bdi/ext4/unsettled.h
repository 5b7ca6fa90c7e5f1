/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Content that cannot be told yet.
 *
 * With data=ordered and data=journal, a block that the picture gives to a file is
 * that file's until a commit says otherwise. Without a journal, and with
 * data=writeback, a block that was freed is used again at once: bytes written to a
 * file's block may already be another file's. So they wait until it is known whose
 * they were, and are then published from what was held, or read back:
 *
 * - without a journal: the inode was written to its table after the bytes were, and
 *   still has the block (a file that loses a block changes its inode at once);
 * - data=writeback: two commits later it still has the block. The transaction that
 *   runs while commit N is the last one seen is at most N + 2, which is the last
 *   one that could have taken the block away before the bytes were written.
 *
 * What waits longer than UNSETTLED_WAIT_NS of record time is published all the
 * same, flagged as unordered.
 */
#ifndef BDI_EXT4_UNSETTLED_H
#define BDI_EXT4_UNSETTLED_H

#include "bdi/ext4/step.h"
#include "common/buffer.h"

#define UNSETTLED_WAIT_NS INT64_C(60000000000)

struct unsettled {
    struct ownermap written; /* block -> stamp (as owner) of its last write, if unpublished */
    struct u64map files;     /* ino -> struct unsettled_file, owned */
    uint32_t stamp;          /* tables written, or commits */
    bool publishing_all;     /* whatever the stamps say */
};

int unsettled_init(struct ext4_fs *fs, struct nf_error *err);
void unsettled_release(struct ext4_fs *fs);

/* May a block be used again before its release is known? */
bool unsettled_mode(const struct ext4_fs *fs);

/* Data was written to these blocks. */
int unsettled_wrote(struct ext4_fs *fs, uint64_t pblk, uint64_t len, struct nf_error *err);
/* The inode table's block was written. */
int unsettled_wrote_table(struct ext4_fs *fs, uint64_t pblk, struct nf_error *err);
/* A commit was applied. */
void unsettled_committed(struct ext4_fs *fs);
/* What was written there is published, or is nobody's. */
int unsettled_forget(struct ext4_fs *fs, uint64_t pblk, uint64_t len, struct nf_error *err);

/* @ino has content that waits. */
int unsettled_add_file(struct ext4_fs *fs, uint32_t ino, struct nf_error *err);

/* How the run of @inode's blocks that begins at @pblk stands; *@len, the most that
 * is asked for, is cut to what stands the same. */
enum unsettled_state {
    UNSETTLED_NOT = 0,   /* can be published */
    UNSETTLED_WAITS = 1, /* cannot yet */
    UNSETTLED_NEVER = 2, /* can be, but was never seen being written */
};
enum unsettled_state unsettled_state(struct ext4_fs *fs, uint32_t ino,
                                     const struct ext4_inode *inode, uint64_t pblk, uint64_t *len);

/* Publish what can be; everything if @all. Ends with a COMMIT if anything was. */
int unsettled_publish(struct ext4_fs *fs, bool all, struct nf_error *err);

/* For ext4_save() and ext4_resume(); none at all where content is exact. */
size_t unsettled_save_size(const struct ext4_fs *fs);
int unsettled_save(const struct ext4_fs *fs, struct nf_buffer *out);
int unsettled_load(struct ext4_fs *fs, struct nf_bytes state, struct nf_error *err);

/* Files with content that waits. */
size_t unsettled_files(const struct ext4_fs *fs);

#endif
