/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file system driver, as bdi.c sees it. ext4 is one; another is added by
 * one more struct in bdi.c's table. All offsets are bytes from the start of
 * the file system (the partition), already clipped to its size.
 */
#ifndef BDI_FS_H
#define BDI_FS_H

#include <stdbool.h>
#include <stdint.h>

#include "bdi/emit.h"
#include "bdi/ext4/held.h"
#include "bdi/shadow.h"
#include "common/buffer.h"
#include "common/image.h"

/* What a driver is given; all borrowed, outliving the instance. */
struct fs_context {
    struct nf_image *img;
    struct shadow *shadow;
    struct emitter *emitter;
    struct held *held; /* shared by the disk: addresses are disk offsets */
    uint64_t offset;   /* of the file system on the disk */
    uint64_t size;
    uint32_t partition; /* 0: the whole disk */
    bool again;         /* records were consumed before: see attach() */
};

enum fs_end {
    FS_LIVES = 0,
    FS_ENDED = 1,   /* something else is, or will be, in its place */
    FS_CHANGED = 2, /* what it has become is there already: attach it */
};

struct fs_driver {
    const char *name;

    /* Does blkid's @type name a file system for this driver? */
    bool (*probe)(const char *type);

    /*
     * Build the picture from the image. *fs is null, or an instance at the
     * same place that has ended. On success *fs is the instance and
     * FS(attached) was emitted. NF_EBUSY: some of what was read may be newer
     * than the records so far; *fs (unless null) is to be given all that
     * come, and attach() called again with it. Otherwise *fs is null:
     * NF_EUNSUPPORTED and NF_EFORMAT have the reason in @err, and nothing was
     * emitted. With @ctx->again events are emitted only if all is of one
     * moment; without, the caller drops them if the disk moved.
     */
    int (*attach)(const struct fs_context *ctx, void **fs, struct nf_error *err);

    /* Append what resume() needs beside the shadow. NF_ENOMEM. */
    int (*save)(const void *fs, struct nf_buffer *out, struct nf_error *err);

    /* The same instance again, from the shadow and what save() said. Nothing is
     * emitted. NF_EFORMAT: @state makes no sense. */
    int (*resume)(const struct fs_context *ctx, struct nf_bytes state, void **out,
                  struct nf_error *err);

    /* Bytes now at [@offset, +@len): @data, or zeros if it is null. */
    int (*write)(void *fs, uint64_t offset, uint64_t len, const uint8_t *data,
                 struct nf_error *err);

    /* The range's content is unknown (discard, failed or ambiguous write). */
    int (*unknown)(void *fs, uint64_t offset, uint64_t len, struct nf_error *err);

    /* A FLUSH: what was written in place is durable; or nothing was written for a
     * while. @end: nothing more will come, what waits goes out as it is. */
    int (*barrier)(void *fs, bool end, struct nf_error *err);

    /* Add its own to counters that start at 0. */
    void (*status)(const void *fs, struct bdi_status *st);

    /* The place is now of @size bytes. */
    int (*resize)(void *fs, uint64_t size, struct nf_error *err);

    /* Has it ended (FS(gone) was emitted)? Then retire() makes it keep only what
     * spares a later attach() a reading; write() and unknown() go on. */
    enum fs_end (*gone)(const void *fs);
    void (*retire)(void *fs);

    /* For status: fill what is known of a followed one; @out->features is to
     * point into @text, of @size bytes. */
    void (*describe)(const void *fs, struct bdi_place *out, char *text, size_t size);

    /* End it for @reason: emits FS(gone). */
    int (*end)(void *fs, const char *reason, struct nf_error *err);

    void (*detach)(void *fs);
};

extern const struct fs_driver ext4_driver;

#endif
