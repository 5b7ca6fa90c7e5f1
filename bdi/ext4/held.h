/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Held blocks: bytes seen written to places that are not readable through any
 * file yet (free blocks, unwritten extents, beyond the size), kept until a
 * commit makes them so. A cache: what it forgets is read back from the image.
 * Addresses are byte offsets on the disk, multiples of 512; they are
 * kept in pages of 4 KiB with a bit per sector that is known, and forgotten in
 * rows of 64 pages.
 */
#ifndef BDI_EXT4_HELD_H
#define BDI_EXT4_HELD_H

#include <stddef.h>
#include <stdint.h>

enum held_state {
    HELD_UNKNOWN = 0, /* nothing known: read it back */
    HELD_BYTES = 1,   /* data points to the bytes */
    HELD_ZERO = 2,    /* known to read as zeros */
};

struct held_run {
    enum held_state state;
    uint64_t offset, length; /* clipped to the range asked for */
    const uint8_t *data;     /* HELD_BYTES: borrowed until the next change */
};

struct held;

/* @limit: bytes of memory, all in all; least recently written goes first. */
struct held *held_new(size_t limit);
void held_free(struct held *h);

/* The range now holds @data, or zeros if @data is null. A range larger than
 * the cache keeps what fits. Never fails: without memory it forgets. Zeros
 * without data get a fourth of the memory at most: that bounds the work. */
void held_write(struct held *h, uint64_t offset, uint64_t length, const uint8_t *data);

/* The range is unknown from here on (freed, discarded, failed, published).
 * Costs what is cached within the range, not its length. */
void held_forget(struct held *h, uint64_t offset, uint64_t length);

/* First run at or after @offset within [offset, offset + length): all of one
 * state. HELD_BYTES runs never cross a page, the others are as long as they
 * go. @length must be > 0. */
void held_lookup(struct held *h, uint64_t offset, uint64_t length, struct held_run *out);

uint64_t held_bytes(const struct held *h);

#endif
