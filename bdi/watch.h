/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sectors that say what is on a disk: partition tables, and the heads of what
 * is not followed. Writes are held against what they held last, so that only
 * a change costs another look.
 */
#ifndef BDI_WATCH_H
#define BDI_WATCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct watched {
    uint64_t sector;
    uint32_t crc; /* nf_crc32c() of what it holds */
    bool known;   /* crc is; else any write is a change */
    uint32_t who; /* the caller's */
};

struct watch {
    struct watched *list; /* owned; sorted by sector after watch_sort() */
    size_t n, room;
};

void watch_release(struct watch *w);
/* 0 or NF_ENOMEM. */
int watch_add(struct watch *w, const struct watched *one);
void watch_sort(struct watch *w);

/* @data: the sector's 512 bytes; null: zeros, or not known. */
typedef void watch_fn(void *opaque, const struct watched *one, const uint8_t *data);

/* [@offset, +@len), whole sectors, now holds @data, or zeros if it is null;
 * unless @known it may hold anything. @fn is called for each that changed. */
void watch_write(struct watch *w, uint64_t offset, uint64_t len, const uint8_t *data, bool known,
                 watch_fn *fn, void *opaque);

#endif
