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
};

struct fs_driver {
    const char *name;

    /* Does blkid's @type name a file system for this driver? */
    bool (*probe)(const char *type);

    /* Build the picture from the image. On success *out is the instance and
     * FS(attached) was emitted. NF_EUNSUPPORTED: @err has the reason and
     * nothing was emitted. */
    int (*attach)(const struct fs_context *ctx, void **out, struct nf_error *err);

    /* Bytes now at [@offset, +@len): @data, or zeros if it is null. */
    int (*write)(void *fs, uint64_t offset, uint64_t len, const uint8_t *data,
                 struct nf_error *err);

    /* The range's content is unknown (discard, failed or ambiguous write). */
    int (*unknown)(void *fs, uint64_t offset, uint64_t len, struct nf_error *err);

    /* A FLUSH: what was written in place is durable. */
    int (*barrier)(void *fs, struct nf_error *err);

    /* Has it ended (FS(gone) was emitted)? Then it is detached. */
    bool (*gone)(const void *fs);

    void (*detach)(void *fs);
};

extern const struct fs_driver ext4_driver;

#endif
