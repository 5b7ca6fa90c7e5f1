/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The picture: what the kernel would recover from the disk at this instant.
 *
 * Home is the shadow: metadata blocks and the log as they are in place. The
 * overlay says which blocks have a committed copy in the log that is not (known
 * to be) home yet; the copy itself stays in the log's blocks in the shadow. A
 * block's content in the picture is its overlay copy, else its home copy, else
 * it is fetched from the image once.
 *
 * Fast commits say what the kernel would do to blocks that are nowhere on the
 * disk yet: such blocks are made here, and are in front of all of that until the
 * transaction itself is committed. Those that no place on the disk corresponds
 * to have numbers from PICTURE_VIRTUAL on.
 *
 * While a step is being worked out, both its sides can be read: the staged
 * changes hold the old and the new content of each block that the step
 * touches. Block numbers are file system blocks.
 */
#ifndef BDI_EXT4_PICTURE_H
#define BDI_EXT4_PICTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <ext2fs/ext2fs.h>

#include "bdi/ext4/journal.h"
#include "bdi/fs.h"
#include "bdi/u64map.h"

enum view {
    VIEW_OLD = 0, /* before the step; the picture itself between steps */
    VIEW_NEW = 1, /* after it */
};

#define PICTURE_VIRTUAL (1ull << 47)

/* A run of the log: log blocks [lblk, lblk + len) are at pblk. */
struct log_extent {
    uint32_t lblk, len;
    uint64_t pblk;
};

struct overlay_entry {
    uint64_t fsblock;
    uint32_t tid;
    uint32_t log_block;
    bool home_written; /* home equals this copy: checkpointed */
    uint8_t *plain;    /* owned: unescaped copy; null: read it in the log */
    struct overlay_entry *older, *newer;
};

struct staged {
    uint64_t fsblock;
    const uint8_t *old, *new;      /* one block each; old may be null: unknown before */
    uint8_t *old_copy;             /* owned, if old is not elsewhere */
    uint8_t *mixed;                /* owned: new side, if only a part of home is taken yet */
    struct overlay_entry *entry;   /* owned until it enters the overlay; null: in place */
    bool revoked;                  /* overlay copy cancelled: back to home... */
    bool unread;                   /* ...which cannot be had: new is old */
    bool waits;                    /* stays staged after this step: new is not all of home */
    uint8_t *made;                 /* owned, until it is what the picture has */
    bool unmade;                   /* what was made gives way to what is below */
};

struct picture {
    const struct fs_context *ctx;
    uint32_t block_size;
    uint64_t blocks;
    uint8_t *home; /* start of the file system in the shadow's map */

    struct log_extent *log; /* sorted by lblk, gapless from 0 */
    size_t nlog;
    uint32_t log_blocks;

    struct u64map overlay; /* fsblock -> struct overlay_entry, owned */
    struct overlay_entry *oldest, *newest; /* the same, in the order of their commits */
    bool unordered; /* ...in which transaction numbers did not always rise */
    struct u64map staged;  /* fsblock -> struct staged, owned */
    struct u64map made;    /* fsblock -> its content by fast commits, owned */
    size_t staged_bytes;   /* memory held by copies */
    enum view view;        /* which side libext2fs reads */
    bool attaching;        /* keep nothing that may be newer than the stream... */
    bool moved;            /* ...and note that there was such */
    bool resuming;         /* the shadow has all that was told: what it lacks in the log is none */
    uint8_t *fetch_buf; /* picture_prefetch()'s */
    struct nf_error failure; /* of the image, met where damage was looked for as well */
    bool still; /* nothing is staged, settled or written now, so that... */
    struct picture_found { /* ...what was found may be found again: by side, by block */
        uint64_t block;
        const uint8_t *data; /* null: nothing yet */
    } found[2][64];
};

int picture_init(struct picture *p, const struct fs_context *ctx, uint32_t block_size,
                 uint64_t blocks, struct nf_error *err);
void picture_release(struct picture *p);
int picture_grow(struct picture *p, uint64_t blocks);
/* The shadow's map may have moved. */
void picture_remap(struct picture *p);

/* Content of @block, borrowed until the picture changes; null with @err filled
 * if it is outside the file system or cannot be read. */
const uint8_t *picture_block(struct picture *p, enum view view, uint64_t block,
                             struct nf_error *err);

/* From here on, until it ends, nobody changes what picture_block() says: an inode of
 * a step is some ten blocks, and its neighbour's are the same ones. */
void picture_stand_still(struct picture *p);
void picture_move_on(struct picture *p);

/*
 * Home alone, without overlay. Home is what was told of: where a block was never
 * read, and the image may be newer than the stream's position, that is read which
 * is about to be told, and the records that are to come make it right. It is never
 * the old side of a difference, nor part of the log.
 */
const uint8_t *picture_home(struct picture *p, uint64_t block, struct nf_error *err);
/* The same, but only what the stream's position says. 1: *@home is that; 0: the image
 * may be newer, and the block stays unread; or negative. */
int picture_exact(struct picture *p, uint64_t block, const uint8_t **home, struct nf_error *err);
bool picture_present(const struct picture *p, uint64_t block);

/* Blocks [@block, +@n) are about to be read: fetch in large pieces those that are
 * not here yet. Whatever does not work out is left to picture_home(). */
void picture_prefetch(struct picture *p, uint64_t block, uint64_t n);
/* No more of that for now: give the buffer back. */
void picture_prefetched(struct picture *p);

/* Bytes [@offset, +@len) were written: what home has of them follows. */
int picture_follow(struct picture *p, uint64_t offset, uint64_t len, const uint8_t *data,
                   struct nf_error *err);
/* Home is not to be believed there any more: read it again when asked for. */
void picture_forget(struct picture *p, uint64_t first, uint64_t count);
/* Staged blocks go. */
void picture_drop_staged(struct picture *p);
/* Overlay, staged blocks and the log's map go; home stays. */
void picture_drop_overlay(struct picture *p);

/* Part or all of a block was written in place: change home. It stays unread if the
 * rest of it was not read and may be newer in the image. */
int picture_write_home(struct picture *p, uint64_t block, uint32_t offset, uint32_t len,
                       const uint8_t *data, struct nf_error *err);
/* The block belongs to nobody as metadata any more: give its memory back. */
int picture_drop_home(struct picture *p, uint64_t block, struct nf_error *err);

/* For struct journal: content of a log block; null if it is not to be had as of the
 * stream's position: then it will be written. */
const uint8_t *picture_log_block(void *picture, uint32_t lblk);
/* Where log block @lblk is; false beyond the log. */
bool picture_log_map(const struct picture *p, uint32_t lblk, uint64_t *pblk);

struct overlay_entry *picture_overlay(const struct picture *p, uint64_t block);
/* Is home as the log's copy of @e has it? */
bool picture_is_home(struct picture *p, const struct overlay_entry *e);

/* Has @block a content that fast commits made? */
bool picture_made(const struct picture *p, uint64_t block);
/* Stage @block to have another content: a copy of the new side so far (zeros for
 * a new one beyond PICTURE_VIRTUAL), to be changed. Null with @err filled. */
uint8_t *picture_stage_made(struct picture *p, uint64_t block, struct nf_error *err);
/* Stage the end of all of them. */
int picture_stage_unmade(struct picture *p, struct nf_error *err);

/* Stage a committed transaction: copies and revokes. */
int picture_stage_txn(struct picture *p, const struct journal_txn *txn, struct nf_error *err);
/* Stage one block about to be changed in place; call before changing home. */
int picture_stage_in_place(struct picture *p, uint64_t block, struct nf_error *err);
/* What a block staged in place is to be after this step, where that is not home:
 * @mixed (owned from here on), or the old side if it is null. The block then
 * stays staged: home is not the picture yet. */
void picture_stage_mixed(struct staged *s, uint8_t *mixed);
/* Stage a block that is not changed, to give it a mixed side. Null: no memory. */
struct staged *picture_stage_unchanged(struct picture *p, uint64_t block, struct nf_error *err);
/* Before there is a step: the picture of a block is @behind (owned from here on), of
 * which home is ahead. */
int picture_stage_behind(struct picture *p, uint64_t block, uint8_t *behind,
                         struct nf_error *err);
/* The step is done: the new side becomes the picture. */
int picture_settle(struct picture *p, struct nf_error *err);

/* What becomes of a block whose copy in the log has ended its time. */
enum retiring {
    RETIRE_FORGET, /* nobody's business */
    RETIRE_STAGE,  /* metadata that we follow */
    RETIRE_DATA,   /* content of a file */
};

struct retire_ops {
    enum retiring (*what)(void *opaque, uint64_t block);
    /* Content differs in place from its @copy, which readers had so far. */
    int (*data)(void *opaque, uint64_t block, const uint8_t *copy, const uint8_t *home,
                struct nf_error *err);
    void *opaque;
};

/* Entries of transactions before @tid (all, if @all) leave the overlay. Where home
 * differs, metadata is staged as an in-place change, and data reported, in the
 * order of blocks. */
int picture_retire(struct picture *p, uint32_t tid, bool all, const struct retire_ops *ops,
                   struct nf_error *err);

/* Between two records: append what the shadow does not say, the old sides of blocks
 * changed in place that wait for a barrier. And the other way: into a picture
 * whose overlay was read from the log. NF_EFORMAT: it makes no sense. */
int picture_save(const struct picture *p, struct nf_buffer *out, struct nf_error *err);
int picture_load(struct picture *p, struct nf_bytes state, struct nf_error *err);

/* Open libext2fs on the picture; its reads follow p->view. */
int picture_open_fs(struct picture *p, ext2_filsys *out, struct nf_error *err);

#endif
