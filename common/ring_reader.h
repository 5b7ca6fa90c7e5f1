/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The consumer's half of a write-tap ring (common/nf_ring.h) as pure memory:
 * no descriptors, no system calls.  common/tap.c adds the socket and the
 * mappings.
 *
 * Everything in DATA is hostile and may change at any time: each field is
 * loaded once, checked, and then only the private copy is used.  No call does
 * work that is not bounded by the ring's size.
 *
 * One thread at a time.
 */
#ifndef NF_RING_READER_H
#define NF_RING_READER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/nf_ring.h"
#include "common/record.h"

struct nf_ring_reader {
    struct nf_ring_header header; /* checked private copy */
    const uint8_t *meta;          /* DATA from 0 up to header.payload_offset; borrowed */
    const uint8_t *payload;       /* the payload area, twice in a row; borrowed */
    struct nf_ring_ctrl *ctrl;    /* borrowed */
    uint64_t tail;                /* first seq not released */
    uint64_t next;                /* first seq not taken */
    bool dead;                    /* the producer is gone: BUSY will not change any more */
};

/*
 * Copy a DATA header from @page (at least sizeof(struct nf_ring_header) bytes) into
 * @out and check it against the size of the memfd.  NF_EFORMAT if it breaks a
 * rule, NF_EUNSUPPORTED if it is of another version.
 */
int nf_ring_header_read(const void *page, uint64_t file_size, struct nf_ring_header *out,
                        struct nf_error *err);

/*
 * Start reading at ctrl->tail.  @header is one that nf_ring_header_read()
 * accepted; @meta, @payload, @ctrl must outlive the reader.  NF_EFORMAT.
 */
int nf_ring_reader_init(struct nf_ring_reader *r, const struct nf_ring_header *header,
                        const void *meta, const void *payload, struct nf_ring_ctrl *ctrl,
                        struct nf_error *err);

/* As nf_tap_next(), nf_tap_peek(), nf_tap_release(), nf_tap_head() in common/tap.h. */
int nf_ring_reader_next(struct nf_ring_reader *r, struct nf_record *rec, struct nf_error *err);
int nf_ring_reader_peek(const struct nf_ring_reader *r, uint64_t seq, struct nf_record *rec,
                        struct nf_error *err);
void nf_ring_reader_release(struct nf_ring_reader *r, uint64_t seq);
uint64_t nf_ring_reader_head(const struct nf_ring_reader *r);

/*
 * Ask for a doorbell, then look again.  True if nf_ring_reader_next() has
 * something to say already (the request is then withdrawn).
 */
bool nf_ring_reader_arm(struct nf_ring_reader *r);

/* True if the producer is losing requests until it finds room. */
bool nf_ring_reader_in_gap(const struct nf_ring_reader *r);

/* A snapshot of the producer page; its fields need not fit each other. */
void nf_ring_reader_producer(const struct nf_ring_reader *r, struct nf_ring_producer *out);

/* How full the ring is: slots or payload, whichever is more.  Walks all held records. */
uint32_t nf_ring_reader_fill_permille(const struct nf_ring_reader *r);

#endif
