/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One disk: private to bdi.c, which takes its records, and places.c, which
 * knows what is where on it.
 */
#ifndef BDI_DISK_H
#define BDI_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bdi/bdi.h"
#include "bdi/fs.h"
#include "bdi/partition.h"
#include "bdi/watch.h"
#include "common/buffer.h"

/* Bytes that looks at the disk may cost before the stream has paid for them. */
#define CREDIT_MAX (64ll << 20)

/* The caller's image, and what reading it cost. */
struct counted_image {
    struct nf_image img;
    struct nf_image *inner;
    uint64_t bytes;
    bool moved; /* something read may be newer than the records so far */
};

/* The whole disk or a partition, and what it holds. */
struct place {
    struct bdi_partition part;
    const struct fs_driver *driver;
    struct fs_context ctx;
    void *fs;      /* the driver's; null: none */
    bool followed; /* fs is attached; else it waits for that */
    bool dirty;    /* another look may find something else */
    bool broken;   /* any write to it may mend it */
    bool unresumed; /* it was followed, and is not any more: to be said */
    char said[700]; /* what it is and why it is not followed, as the last event had it */
    const char *reason; /* the second part of that */
    uint64_t pause, look_at; /* records: how patient, and not before */
    uint64_t cost; /* bytes: of the dearest look so far */
};

struct bdi {
    struct counted_image image;
    struct shadow shadow;
    int shadow_fd;
    struct emitter emitter;
    struct held *held;
    struct bdi_state_fds state; /* if it is to be resumed */
    bool keep_state;
    struct nf_buffer saving; /* what bdi_save() returned last */
    bool lost; /* a GAP was met: nothing after it can be followed */

    struct place *places;
    size_t nplaces;
    struct bdi_sectors table; /* what the partition table depends on */
    struct watch watch;
    bool table_dirty;
    bool unsettled;     /* there is something to look into... */
    uint64_t settle_at; /* ...at the next barrier, or at this record */
    int64_t credit;     /* bytes that may still be read for it */
    int64_t paid_ns;    /* the record time up to which that was added to */

    struct bdi_place described; /* lent by bdi_get_place() */
    char features[1024];
};

/* Read the table, and attach to all that can be followed. */
int places_attach(struct bdi *b, struct nf_error *err);
void places_free(struct bdi *b);
int disk_open_shadow(struct bdi *b, struct nf_error *err);
/* The driver for blkid's @type, or null. */
const struct fs_driver *driver_for(const char *type);

/* [@offset, +@len) was written (@data, null: zeros), or is not known any more:
 * each driver concerned gets it. */
int places_write(struct bdi *b, uint64_t offset, uint64_t len, const uint8_t *data, bool known,
                 struct nf_error *err);
/* @end: nothing more will come. */
int places_barrier(struct bdi *b, bool end, struct nf_error *err);
/* Add what the drivers count. */
void places_status(const struct bdi *b, struct bdi_status *st);
/* The disk is of another size: that of b->image. */
int places_resize(struct bdi *b, struct nf_error *err);

/* See bdi_get_place(). */
const struct bdi_place *places_describe(struct bdi *b, size_t i);

/* A record was consumed, @barrier if it was one: look into what changed. */
int places_settle(struct bdi *b, bool barrier, struct nf_error *err);

#endif
