/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * libbdi: block writes in, file events out.
 *
 * The library knows no transport: it takes the records of a disk's write
 * stream (common/record.h), reads the disk through a struct nf_image when it
 * must, and hands out events through a callback.  It opens nothing: the
 * shadow's descriptor is given to it (a look at a partition table takes a
 * memfd).  One struct bdi belongs to one thread at
 * a time; different ones are independent.
 *
 * Installed as libbdi.so with this header and the four it includes; a program
 * of under 100 lines that uses it is docs/examples/follow-log.c.  The interface
 * has a number (libbdi.so.N).  Under one number, functions stay, events only
 * get new kinds, flags and fields (skip what you do not know), and the structs
 * that a caller fills or provides keep their layout; initialise them by
 * designated initialisers, since zero is the default of whatever is added
 * under the next number.
 *
 * An engine can be killed at any instant and resumed, if its shadow and the two
 * files of struct bdi_state_fds survive it, and what bdi_save() said last.  See
 * there.
 */
#ifndef BDI_H
#define BDI_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/event.h"
#include "common/image.h"
#include "common/record.h"

#pragma GCC visibility push(default) /* this is what libbdi.so shows */

struct bdi;

#define BDI_CONTENT_NONE 0
#define BDI_CONTENT_ALL UINT64_MAX

/* What, beside the shadow, an engine that can be resumed needs: regular files
 * or memfds, borrowed, of mode read-write. */
struct bdi_state_fds {
    int present; /* which parts of the shadow mean anything; grown as it is */
    int undo;    /* the shadow's content of the last save, where it changed since */
};

/* How ext4 with a journal treats content; the disk does not say it. */
enum bdi_data_mode {
    BDI_DATA_AUTO = 0,      /* writeback if that is the file system's default, else ordered */
    BDI_DATA_ORDERED = 1,   /* data=ordered or data=journal: exact at each commit */
    BDI_DATA_WRITEBACK = 2, /* safe with any: content is told two commits later */
};

struct bdi_options {
    uint64_t epoch;         /* stamped on every event */
    uint64_t first_seq;     /* of the first event; 1 in a new epoch */
    uint64_t content_limit; /* WRITE carries at most this many bytes */
    uint64_t held_limit;    /* memory for held blocks, bytes; 0: default */
    int snapshot;           /* non-zero: attach emits an ENTRY for every inode */
    const struct bdi_state_fds *state; /* copied; null: not to be resumed */

    /*
     * Called for every event, in order of seq.  A step (what one journal
     * commit changed) ends with its COMMIT event.  A negative return stops
     * the engine: it is what bdi_attach() or bdi_record() then return.
     */
    int (*event)(void *opaque, const struct nf_event *ev, struct nf_error *err);
    void *opaque;

    enum bdi_data_mode data_mode;
};

/*
 * Make an engine over @img (borrowed, must outlive the engine) with
 * @shadow_fd, an empty regular file or memfd (borrowed; grown to the size of
 * the disk, sparse).  Nothing is read yet.  Returns null with @err filled.
 */
struct bdi *bdi_new(struct nf_image *img, int shadow_fd, const struct bdi_options *opt,
                    struct nf_error *err);
void bdi_free(struct bdi *bdi);

/*
 * Read partition tables and file systems and build the picture.  The disk
 * must not change between the first and the last read; whoever attaches to a
 * live disk checks that and calls it again on a new engine if it did.
 * Emits FS events (and ENTRY rows).  Returns 0, also if there is nothing to
 * follow (each place was said by an FS event, and is attached to when a record
 * brings a file system), or an error.
 */
int bdi_attach(struct bdi *bdi, struct nf_error *err);

/*
 * Consume one record.  The record's data is not kept beyond the call.
 * Damage in the guest's structures is not an error: it is reported in events
 * and status.  File systems that come and go, and partition tables, are
 * followed; what is read for it must have the record applied to it, and before
 * a RESIZE record the image's size is set to what can be read from then on.
 * Errors are those of the image, of memory, or the callback's;
 * NF_ELOST after a GAP record: continuity is broken, attach a new engine.
 */
int bdi_record(struct bdi *bdi, const struct nf_record *rec, struct nf_error *err);

/*
 * There is no further record up to @now_ns (Unix time, ns), INT64_MAX: there
 * will be none at all.  What was written outside a journal can wait for something
 * that makes it consistent; time alone lets it go (a minute).  Call
 * it when the stream is idle, about once a second, and at its end.
 */
int bdi_idle(struct bdi *bdi, int64_t now_ns, struct nf_error *err);

/*
 * Saving and resuming.  Between two records, bdi_save() sets @out (valid until the
 * next call of any of these) to what a later engine needs to go on behind the
 * last one, under @generation, a number that is larger than all before.  The
 * bytes are few: file systems and what waits for a barrier; the rest stays in
 * the shadow.  When they are stored where a kill cannot reach them (with the
 * position in the stream and all events so far), bdi_saved() says so, and from
 * there on every change of the shadow can be undone.  Until the first
 * bdi_saved() nothing can be resumed.
 *
 * bdi_resume() takes the place of bdi_attach() on a new engine over the same
 * files, given the bytes of the last save that was stored: @generation is its
 * number, the records behind it come (again) next.  It changes the shadow back,
 * reads all else from it, and emits nothing.  What is not kept is content of
 * blocks that nobody owned yet: it is read from the image when its file is
 * committed (READBACK).  NF_EFORMAT: @state makes no sense (attach instead, in
 * a new epoch); or an error of the image, the files or memory.
 *
 * A kill is one of processes, not of the host: nothing is synced.
 */
int bdi_save(struct bdi *bdi, uint64_t generation, struct nf_bytes *out, struct nf_error *err);
void bdi_saved(struct bdi *bdi, uint64_t generation);
int bdi_resume(struct bdi *bdi, uint64_t generation, struct nf_bytes state, struct nf_error *err);

/* seq that the next event will get. */
uint64_t bdi_next_seq(const struct bdi *bdi);

struct bdi_status {
    uint32_t filesystems;    /* followed now */
    uint64_t records;        /* consumed */
    uint64_t steps;          /* commits seen */
    uint64_t events;         /* emitted */
    uint64_t held_bytes;     /* written to blocks that nobody owns yet */
    uint64_t unmapped_writes; /* records outside every followed file system */
    uint64_t readbacks;      /* ranges of content read from the image */
    uint64_t fetched;        /* metadata blocks read from the image */
    uint64_t unsettled;      /* of those: may have been newer than the stream */
    uint64_t oddities;       /* broken structures met and reported */
    uint64_t waiting;        /* inodes changed in place that do not fit yet, and blocks
                                not looked at */
    uint64_t waiting_content; /* files with content of which it is not known yet whose it is */
    uint64_t fast_commits;   /* steps that are such */
    uint64_t looked;         /* at blocks, inodes, names and extents, for steps and what waits */
};
/* As of now; borrowed, until the next call with @bdi. */
const struct bdi_status *bdi_get_status(struct bdi *bdi);

/* The whole disk or a partition, as it is seen now. */
struct bdi_place {
    uint32_t partition;    /* 0: the whole disk */
    uint64_t offset, size; /* bytes */
    const char *type;      /* "ext4", "swap", ...; "" if nothing known is there */
    const char *label;     /* the guest's bytes */
    const uint8_t *uuid;   /* 16 bytes; zeros if there is none */
    const char *reason;    /* why it is not followed; null: it is */
    const char *features;  /* of a file system that is followed; else null */
    uint64_t memory;       /* bytes that it takes beside the shadow */
    uint64_t overlay;      /* blocks committed in the log and not home yet */
    uint64_t staged;       /* blocks written in place and not in a step yet */
};
/* The @i-th, from 0, or null if there are no more. Borrowed until the next call
 * with @bdi. */
const struct bdi_place *bdi_get_place(struct bdi *bdi, size_t i);

#pragma GCC visibility pop

#endif
