/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The consumer's side of a tap (common/nf_ring.h): connect to the socket that
 * a write-tap node serves, map its ring, take records.
 *
 * In two halves, for two processes.  nf_tap_connect() needs the file system
 * and the network; nf_tap_new() and what follows need neither, only mmap,
 * munmap, fstat, fcntl(F_GET_SEALS), poll, recv and send, and so can run in a
 * sandbox.
 *
 * Everything in the ring is treated as hostile: a break of the format is
 * NF_EFORMAT and leaves the tap unusable but safe.  The payload lies in shared
 * memory that the producer could still change; whoever parses it must not
 * rely on reading the same byte twice.
 *
 * One thread at a time per struct nf_tap.
 */
#ifndef NF_TAP_H
#define NF_TAP_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/nf_ring.h"
#include "common/record.h"

/* What a connection consists of; -1 where there is none. */
struct nf_tap_fds {
    int sock; /* connected stream socket */
    int data; /* sealed memfd */
    int ctrl; /* sealed memfd */
};

struct nf_tap_info {
    uint8_t epoch_uuid[16];
    char disk_id[NF_RING_DISK_ID_MAX]; /* the producer's text: hostile, NUL-terminated */
    uint64_t disk_size;                /* bytes, when the epoch began */
    uint64_t payload_size;             /* bytes of the payload area */
    uint64_t desc_count;
    int64_t start_ns;                  /* Unix ns when the epoch began */
};

/* The producer's counters; each is plausible only as far as the producer is honest. */
struct nf_tap_status {
    bool connected;         /* false: the producer is gone or gave us up */
    bool in_gap;            /* it is losing requests until there is room */
    uint64_t head;          /* see nf_tap_head() */
    uint64_t tail;          /* first record not yet released */
    uint64_t disk_size;     /* now */
    uint64_t records;
    uint64_t payload_bytes;
    uint64_t gaps;
    uint64_t lost_requests;
    uint64_t lost_bytes;
    uint64_t touched_bytes; /* of the ring: an upper bound of what is resident */
    uint32_t fill_permille; /* of the slots or the payload, whichever is fuller */
};

struct nf_tap;

/*
 * Connect to the tap that listens on @socket_path, shake hands, receive the
 * memfds.  On success the caller owns the three descriptors (close-on-exec).
 * NF_ENOTFOUND: no such socket; NF_EBUSY: it has another consumer;
 * NF_ECLOSED: nobody listens, or it hung up; NF_EFORMAT: not a tap, or one of
 * another version; NF_EINVAL: not a socket, or the path is too long; NF_EIO.
 * Waits at most 10 s for the peer.
 */
int nf_tap_connect(const char *socket_path, struct nf_tap_fds *fds, struct nf_error *err);

/* Close what is open in @fds and set it to -1. */
void nf_tap_fds_close(struct nf_tap_fds *fds);

/*
 * Map and validate a connection.  Takes the descriptors over in every case (and
 * sets them to -1).  Null on failure; err->code is NF_EFORMAT if what the peer
 * sent breaks the contract, NF_EIO or NF_ENOMEM otherwise.
 * Reading starts at the first record that no earlier consumer released.
 */
struct nf_tap *nf_tap_new(struct nf_tap_fds *fds, struct nf_error *err);

/* Unmap and disconnect; null is allowed.  Payloads of records die with it. */
void nf_tap_free(struct nf_tap *tap);

const struct nf_tap_info *nf_tap_info(const struct nf_tap *tap);
void nf_tap_status(const struct nf_tap *tap, struct nf_tap_status *st);

/*
 * Take the next record.  1: @rec is filled, rec->data is valid until the
 * record is released; 0: nothing to take now (nothing new, or the next one is
 * still in flight); NF_ECLOSED: the producer is gone and everything it left is
 * taken; NF_EFORMAT.
 * A write, zero or discard that failed comes as NF_REC_WRITE with
 * NF_REC_FAILED and without data: the content of its range is unknown.  So do
 * requests that were in flight when the producer died; a resize in flight then
 * comes as NF_REC_RESIZE with NF_REC_FAILED (whether it happened is unknown).
 */
int nf_tap_next(struct nf_tap *tap, struct nf_record *rec, struct nf_error *err);

/*
 * Look at record @seq without taking it (@seq not yet released).  1: @rec is
 * filled; 0: still in flight, or not reserved yet; NF_EINVAL: already
 * released; NF_ECLOSED: the producer is gone and it was never reserved;
 * NF_EFORMAT.
 */
int nf_tap_peek(struct nf_tap *tap, uint64_t seq, struct nf_record *rec, struct nf_error *err);

/*
 * Give back the room of all records up to and including @seq.  Only records
 * that were taken can be released: a larger @seq means all taken ones.
 */
void nf_tap_release(struct nf_tap *tap, uint64_t seq);

/*
 * Wait until nf_tap_next() may have something to say.  1: look again;
 * 0: @timeout_ms (-1: for ever) went by, and the wake-up stays armed, so that
 * nf_tap_fd() becomes readable when there is something; call it again then.
 * Negative: NF_EIO.  Does not wait if a record can be taken.
 */
int nf_tap_wait(struct nf_tap *tap, int timeout_ms, struct nf_error *err);

/* For the caller's own poll loop, POLLIN; see nf_tap_wait(). -1 once the producer is gone. */
int nf_tap_fd(const struct nf_tap *tap);

/*
 * The producer's head: the seq one past the newest record that it reserved.
 * Whatever completed on the disk before this call is in a record before it.
 */
uint64_t nf_tap_head(const struct nf_tap *tap);

#endif
