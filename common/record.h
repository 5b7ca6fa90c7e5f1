/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One record of a disk's write stream: what the tap puts into the ring, what
 * a trace stores, and what the engine consumes.  Units are bytes; offsets are
 * from the start of the disk.
 */
#ifndef NF_RECORD_H
#define NF_RECORD_H

#include <stdint.h>

/* The values are those of the ring's descriptors (common/nf_ring.h) and of the
 * trace format: append only. */
enum nf_record_type {
    NF_REC_WRITE = 1,   /* payload: @length bytes */
    NF_REC_ZERO = 2,    /* the range reads as zeros from here on */
    NF_REC_DISCARD = 3, /* the range's content is unknown from here on */
    NF_REC_FLUSH = 4,   /* barrier for what was done when it was submitted */
    NF_REC_RESIZE = 5,  /* @length is the new size of the disk */
    NF_REC_GAP = 6,     /* writes were lost here: @offset requests, @length bytes */
    NF_REC_OPEN = 7,    /* stream begins; @length is the size of the disk */
    NF_REC_CLOSE = 8,   /* stream ends on purpose */
    NF_REC_READBACK = 9, /* traces only: bytes read from the image, not written */
};

enum nf_record_flags {
    NF_REC_FUA = 1u << 0,
    NF_REC_UNMAP = 1u << 1,
    NF_REC_AMBIGUOUS = 1u << 2, /* overlapped another request in flight */
    NF_REC_FAILED = 1u << 3,    /* the write failed: the range is unknown */
    NF_REC_BYPASSED = 1u << 4,  /* CLOSE: the tap lost its last writing parent */
};

struct nf_record {
    uint64_t seq; /* +1 per record within a tap epoch */
    enum nf_record_type type;
    uint32_t flags;
    uint64_t offset;
    uint64_t length;
    int64_t time_ns;     /* host CLOCK_REALTIME at completion, Unix ns */
    uint64_t aux;        /* FLUSH: seq at submission; else 0 */
    const uint8_t *data; /* WRITE, READBACK: @length bytes, borrowed; null for all
                            others and for a WRITE with NF_REC_FAILED */
};

#endif
