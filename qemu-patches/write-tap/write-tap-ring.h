/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The producer's half of the write-tap ring (nf_ring.h): memory only, no
 * socket and nothing of QEMU, so that tests outside QEMU compile the same
 * file.
 *
 * Every function but write_tap_ring_new() is called with the caller's lock
 * held, and none of them sleeps. Payload is copied, and requests are carried
 * out, without the lock.
 */
#ifndef BLOCK_WRITE_TAP_RING_H
#define BLOCK_WRITE_TAP_RING_H

#include "nf_ring.h"

typedef struct WriteTapRing WriteTapRing;
typedef struct WriteTapGap WriteTapGap;

/* A request in flight; the caller's memory until write_tap_ring_end(). */
typedef struct WriteTapReq WriteTapReq;
struct WriteTapReq {
    WriteTapReq *prev, *next;
    uint32_t type;
    uint64_t offset, end; /* [offset, end) of the disk */
    uint64_t seq;         /* of its record; 0: it has none */
    WriteTapGap *gap;     /* that counts it, if it has no record */
    bool ambiguous;       /* overlaps another one in flight */
};

typedef struct WriteTapRingInfo {
    const uint8_t *epoch_uuid; /* 16 bytes */
    const char *disk_id;
    uint64_t disk_size;
    uint64_t payload_size; /* a multiple of the page size, in the bounds of nf_ring.h */
} WriteTapRingInfo;

/*
 * Make, seal and map a ring with one reference. Returns NULL and sets @err
 * (positive errno) and @what (what failed) otherwise.
 */
WriteTapRing *write_tap_ring_new(const WriteTapRingInfo *info, int *err,
                                 const char **what);
/* Each request in flight holds a reference of its own. */
void write_tap_ring_unref(WriteTapRing *r);

/* The sealed DATA memfd; owned by the ring. */
int write_tap_ring_fd(const WriteTapRing *r);
uint64_t write_tap_ring_data_size(const WriteTapRing *r);
const uint8_t *write_tap_ring_uuid(const WriteTapRing *r);
/* A snapshot of the counters. */
void write_tap_ring_stats(const WriteTapRing *r, struct nf_ring_producer *out);

/*
 * A request of @type WRITE, ZERO, DISCARD or RESIZE is about to be submitted.
 * For a WRITE that is recorded, returns the memory that the caller copies the
 * data to and submits from; NULL for all others. Always followed by
 * write_tap_ring_end(), with or without a record.
 */
void *write_tap_ring_begin(WriteTapRing *r, WriteTapReq *req, uint32_t type,
                           uint32_t flags, uint64_t offset, uint64_t length);

/*
 * The request completed with @ret (0 or negative errno). For a RESIZE,
 * @disk_size is the size of the disk now, whatever @ret says. Returns whether the
 * consumer asked for a doorbell. Drops the request's reference to the ring.
 */
bool write_tap_ring_end(WriteTapRing *r, WriteTapReq *req, int ret,
                        uint64_t disk_size);

/* The head, for the aux of a FLUSH that is about to be submitted. */
uint64_t write_tap_ring_head(const WriteTapRing *r);

/* Append a record that is complete: FLUSH (aux), OPEN, CLOSE. True: doorbell. */
bool write_tap_ring_append(WriteTapRing *r, uint32_t type, uint32_t flags,
                           uint64_t length, uint64_t aux);

/* Append CLOSE, record nothing from now on. True: doorbell. */
bool write_tap_ring_close(WriteTapRing *r, uint32_t flags);
bool write_tap_ring_closed(const WriteTapRing *r);

/* The consumer may have made room: end a gap if so. True: doorbell. */
bool write_tap_ring_room(WriteTapRing *r);

/*
 * Start (or with NULL stop) looking at a consumer's page, which must stay
 * mapped until then. Sets its tail to where the consumer is to start.
 */
void write_tap_ring_attach(WriteTapRing *r, struct nf_ring_ctrl *ctrl);

/* True once after a consumer stored nonsense: its page is not used any more. */
bool write_tap_ring_take_fault(WriteTapRing *r);

#endif
