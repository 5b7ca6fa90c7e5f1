/* SPDX-License-Identifier: MIT */
/*
 * The write-tap ring: how a block driver hands a disk's write stream to one
 * other process on the same host.  This file is the whole contract between
 * the two sides and depends on nothing but <stdint.h>, so that any program
 * can be a producer or a consumer.
 *
 * Two pieces of shared memory (memfds) and one Unix stream socket:
 *
 *   DATA  written by the producer only.  Sealed with F_SEAL_SHRINK,
 *         F_SEAL_GROW, F_SEAL_FUTURE_WRITE and F_SEAL_SEAL before it is
 *         passed; the consumer maps it read-only and checks the seals.
 *
 *           0                       struct nf_ring_header, constant
 *           NF_RING_PRODUCER_OFFSET struct nf_ring_producer
 *           header.desc_offset      desc_count x struct nf_ring_desc
 *           header.payload_offset   payload_size bytes, up to the end
 *
 *         Both sides map the payload area twice, back to back, so that a
 *         payload that runs over its end is still contiguous.
 *
 *   CTRL  NF_RING_CTRL_SIZE bytes, written by the consumer; sealed with
 *         F_SEAL_SHRINK, F_SEAL_GROW and F_SEAL_SEAL.  A new one for each
 *         consumer.
 *
 * All integers are in host byte order and naturally aligned.  Each side
 * treats what the other side writes as hostile: loads it once, checks it,
 * goes on with its private copy.
 *
 * Records
 *   A record has a sequence number, from 1, +1 for each, never reused within
 *   a tap epoch (header.epoch_uuid).  Record N is described by the slot
 *   N & (desc_count - 1); the slot holds record N only if its seq is N.
 *
 *   The producer fills a slot completely, with state BUSY, stores seq, then
 *   stores producer.head = N + 1 (release).  From then on offset, length and
 *   type are final, so that a dead producer's BUSY slots still say which
 *   ranges are unknown.  (A RESIZE alone gets its length at completion.)  When
 *   the request completes, the producer writes flags, time_ns and result and
 *   then state = DONE or FAILED (release).
 *
 *   Order of sequence numbers is order of submission: a request submitted
 *   after another had completed has the higher one.  The consumer takes
 *   records in order and stops at the first that is BUSY.
 *
 * Room
 *   ctrl.tail is the sequence number of the first record that the consumer
 *   still needs; storing it (release) gives back the slots and payload of all
 *   records before it.  It never goes back and never beyond the first BUSY
 *   record: anything else makes the producer close the connection and ignore
 *   that CTRL for good.
 *   A payload is NF_RING_PAYLOAD_ALIGN aligned.  Where it lies is the
 *   producer's choice (it restarts at 0 when the ring is empty, so that a
 *   consumer that keeps up touches few pages); a consumer relies on
 *   payload_pos alone.
 *   A producer never waits for room.  Requests that it cannot record are
 *   counted, and a GAP record takes their place in the order as soon as there
 *   is room; producer.state is NF_RING_STATE_GAP until then.  A GAP becomes
 *   DONE when the last request that it counts has completed.
 *
 * Wake-up
 *   The consumer stores ctrl.want_wakeup = 1, looks again whether there is a
 *   record to take, and only then sleeps on the socket.  The producer, after
 *   it completed a record, exchanges want_wakeup with 0 and if it was set
 *   sends one byte NF_RING_MSG_DOORBELL without blocking.  The store of
 *   state, the exchange, the store of want_wakeup and the load of state are
 *   sequentially consistent.  Spurious doorbells are allowed.
 *
 * Socket
 *   The producer listens (socket mode 0600; it accepts its own user and
 *   root).  Right after accept it sends one struct nf_ring_hello; with status
 *   NF_RING_HELLO_OK the message carries SCM_RIGHTS with two descriptors, DATA then
 *   CTRL, whose tail is set to where the consumer is to start.  With any other
 *   status there are no descriptors and the producer closes the connection.
 *   After that each message is one byte, enum nf_ring_msg.  End of file means
 *   that the producer is gone (drain what is mapped) or that it gave the
 *   consumer up.  A consumer that leaves may come back and continues at the
 *   tail that it left.
 */
#ifndef NF_RING_H
#define NF_RING_H

#include <stdint.h>

#define NF_RING_MAGIC UINT64_C(0x3130474e4952464e)       /* bytes "NFRING01" on a little-endian host */
#define NF_RING_HELLO_MAGIC UINT64_C(0x314f4c4c4548464e) /* "NFHELLO1" */
#define NF_RING_VERSION 1u

#define NF_RING_PAGE 4096u
#define NF_RING_PRODUCER_OFFSET NF_RING_PAGE
#define NF_RING_DESC_OFFSET (2 * NF_RING_PAGE)
#define NF_RING_CTRL_SIZE NF_RING_PAGE
#define NF_RING_PAYLOAD_ALIGN NF_RING_PAGE

/* Bounds that both sides enforce. */
#define NF_RING_MIN_SIZE (UINT64_C(1) << 20) /* of the payload area, bytes */
#define NF_RING_MAX_SIZE (UINT64_C(1) << 34)
#define NF_RING_MIN_DESCS 256u
#define NF_RING_MAX_DESCS (1u << 24)

#define NF_RING_DISK_ID_MAX 256 /* bytes with the NUL */

/* struct nf_ring_desc.type; values equal enum nf_record_type of Nearfield. */
enum nf_ring_type {
    NF_RING_WRITE = 1,   /* length bytes at payload_pos */
    NF_RING_ZERO = 2,    /* the range reads as zeros from here on */
    NF_RING_DISCARD = 3, /* the range's content is unknown from here on */
    NF_RING_FLUSH = 4,   /* completed; aux: producer.head when it was submitted, so
                            that it is a barrier for the records before aux that
                            were DONE at that time; offset, length 0; never BUSY */
    NF_RING_RESIZE = 5,  /* length: size of the disk after it; offset 0 */
    NF_RING_GAP = 6,     /* offset: requests lost, length: bytes they covered */
    NF_RING_OPEN = 7,    /* first record of an epoch; length: size of the disk */
    NF_RING_CLOSE = 8,   /* last record of an epoch that ends on purpose */
};

/* struct nf_ring_desc.flags; values equal enum nf_record_flags of Nearfield. */
enum nf_ring_flags {
    NF_RING_FUA = 1u << 0,
    NF_RING_UNMAP = 1u << 1,     /* ZERO: blocks may have been deallocated */
    NF_RING_AMBIGUOUS = 1u << 2, /* overlapped another request in flight: which of
                                    them the disk holds is not known */
    NF_RING_BYPASSED = 1u << 4,  /* CLOSE: writes no longer pass the tap */
};

enum nf_ring_desc_state {
    NF_RING_BUSY = 1,
    NF_RING_DONE = 2,
    NF_RING_FAILED = 3, /* WRITE, ZERO, DISCARD: the range is unknown */
};

enum nf_ring_state {
    NF_RING_STATE_STREAMING = 1,
    NF_RING_STATE_GAP = 2,    /* requests are being lost until there is room */
    NF_RING_STATE_CLOSED = 3, /* the CLOSE record was written, or could not be */
};

struct nf_ring_desc {
    uint64_t seq; /* release; 0: never used */
    uint32_t type;
    uint32_t flags;
    uint64_t offset; /* bytes from the start of the disk */
    uint64_t length; /* bytes */
    uint64_t payload_pos; /* within the payload area; a multiple of the alignment */
    int64_t time_ns;      /* CLOCK_REALTIME; of submission while BUSY, then of completion */
    uint64_t aux;
    int32_t result; /* 0 or negative errno of a FAILED request */
    uint32_t state; /* release */
};

struct nf_ring_header {
    uint64_t magic;
    uint32_t version;
    uint32_t desc_size; /* sizeof(struct nf_ring_desc) */
    uint8_t epoch_uuid[16]; /* a new one whenever the stream starts anew */
    uint64_t data_size;     /* of the DATA memfd */
    uint64_t desc_offset;   /* page aligned */
    uint64_t desc_count;    /* a power of two */
    uint64_t payload_offset; /* page aligned, behind the descriptors */
    uint64_t payload_size;   /* a multiple of the page size; data_size - payload_offset */
    uint64_t disk_size;      /* when the epoch began */
    int64_t start_ns;        /* CLOCK_REALTIME when the epoch began */
    char disk_id[NF_RING_DISK_ID_MAX]; /* the producer's name for it, NUL-terminated */
};

/* All are monotonic counters of this epoch unless said. */
struct nf_ring_producer {
    uint64_t head;      /* seq of the next record to be reserved; release */
    uint32_t state;     /* enum nf_ring_state */
    uint32_t reserved;
    uint64_t disk_size; /* now; not a counter */
    uint64_t records;
    uint64_t payload_bytes;
    uint64_t gaps;
    uint64_t lost_requests; /* before they are in a GAP record, too */
    uint64_t lost_bytes;
    uint64_t wakeups;
    uint64_t touched_bytes; /* of DATA: an upper bound of what is resident */
};

struct nf_ring_ctrl {
    uint64_t tail;
    uint32_t want_wakeup;
    uint32_t reserved;
};

enum nf_ring_hello_status {
    NF_RING_HELLO_OK = 0,
    NF_RING_HELLO_IN_USE = 1, /* another consumer is connected */
    NF_RING_HELLO_DENIED = 2, /* wrong user */
    NF_RING_HELLO_ERROR = 3,  /* out of resources */
};

struct nf_ring_hello {
    uint64_t magic;
    uint32_t version;
    uint32_t status; /* enum nf_ring_hello_status */
    uint8_t epoch_uuid[16];
    uint64_t data_size;
    uint64_t ctrl_size;
    uint64_t reserved[2]; /* 0 */
};

enum nf_ring_msg {
    NF_RING_MSG_DOORBELL = 'w', /* producer to consumer: look again */
    NF_RING_MSG_ROOM = 'r',     /* consumer to producer, in state GAP: there is room */
};

#ifdef __cplusplus
#define NF_RING_CHECK static_assert
#else
#define NF_RING_CHECK _Static_assert
#endif
NF_RING_CHECK(sizeof(struct nf_ring_desc) == 64, "a descriptor is 64 bytes");
NF_RING_CHECK(sizeof(struct nf_ring_header) == 344, "layout of the header");
NF_RING_CHECK(sizeof(struct nf_ring_producer) == 80, "layout of the producer page");
NF_RING_CHECK(sizeof(struct nf_ring_ctrl) == 16, "layout of CTRL");
NF_RING_CHECK(sizeof(struct nf_ring_hello) == 64, "layout of the handshake");

#endif
