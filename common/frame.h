/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Frames: how events travel over a descriptor (file, pipe or Unix socket).
 *
 * A frame is a 32-bit little-endian length, 1 to NF_FRAME_MAX, and that many
 * bytes of a serialized nearfield.v1.Frame: HELLO first, then BATCH after
 * BATCH; ACK the other way, on sockets.  One thread per reader or writer.
 */
#ifndef NF_FRAME_H
#define NF_FRAME_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/event.h"
#include "common/event_pb.h"

#define NF_FRAME_MAX (8u << 20)
#define NF_FRAME_VERSION 1

struct nf_hello {
    uint32_t version;
    char host[NF_SOURCE_NAME_MAX + 1]; /* all three empty where unknown */
    char vm[NF_SOURCE_NAME_MAX + 1];
    char disk[NF_SOURCE_NAME_MAX + 1];
    uint64_t epoch;
    uint64_t next_seq;
};

struct nf_ack {
    uint64_t epoch;
    uint64_t last_seq;
};

enum nf_frame_type {
    NF_FRAME_UNKNOWN = 0, /* from a later version: skip it */
    NF_FRAME_HELLO = 1,
    NF_FRAME_BATCH = 2,
    NF_FRAME_ACK = 3,
};

struct nf_frame {
    enum nf_frame_type type;
    union {
        struct nf_hello hello;
        struct nf_batch batch;
        struct nf_ack ack;
    };
};

/* Append a whole frame, length included. 0, NF_ENOMEM, NF_EINVAL. */
int nf_frame_put_hello(struct nf_buffer *out, const struct nf_hello *hello, struct nf_error *err);
int nf_frame_put_ack(struct nf_buffer *out, const struct nf_ack *ack, struct nf_error *err);

/* Write a HELLO to a blocking descriptor. For the process that opened it;
 * the batches may then come from another one (nf_batch_writer). */
int nf_frame_write_hello(int fd, const struct nf_hello *hello, struct nf_error *err);

/* Decode what follows the length. A HELLO's names are checked (or empty), its
 * version is not. 0, NF_EFORMAT, NF_ENOMEM. */
int nf_frame_decode(struct nf_arena *arena, const void *data, size_t len, struct nf_frame *frame,
                    struct nf_error *err);

struct nf_frame_reader;

/* Read frames from @fd (borrowed; blocking or not). Null without memory. */
struct nf_frame_reader *nf_frame_reader_new(int fd, struct nf_error *err);
void nf_frame_reader_free(struct nf_frame_reader *r);

enum nf_frame_read {
    NF_FRAME_END = 0,   /* the peer closed, between two frames */
    NF_FRAME_READY = 1, /* a frame was read */
    NF_FRAME_AGAIN = 2, /* non-blocking descriptor: no whole frame yet */
};

/* Next frame, or a negative status: NF_EFORMAT (bad length or bytes),
 * NF_ECLOSED (ends inside a frame), NF_EIO. After an error the reader cannot
 * go on. What the frame points to is valid until the next call. */
int nf_frame_next(struct nf_frame_reader *r, struct nf_frame *frame, struct nf_error *err);

/* The same without decoding: @payload is what follows the length. */
int nf_frame_next_raw(struct nf_frame_reader *r, struct nf_bytes *payload, struct nf_error *err);

/*
 * The sending side: collects events into batches and writes them.
 *
 * A batch ends at a COMMIT once it has @limit bytes, or when asked to.  A step
 * that is too large for a frame is cut (Batch.partial).  With acknowledgements
 * (a socket to the streamer) every batch is kept until acknowledged, and
 * adding blocks while more than @window bytes are not: that is the back
 * pressure.  After NF_ECLOSED connect again, say HELLO with next_seq =
 * nf_batch_writer_acked() + 1, and call nf_batch_writer_resume().
 *
 * System calls used: write(2) without acknowledgements; sendto, recvfrom
 * (MSG_DONTWAIT, MSG_NOSIGNAL) and poll with them; and those of malloc.
 */
struct nf_batch_writer;

struct nf_batch_writer_options {
    int fd;            /* borrowed; HELLO has been said */
    bool acks;         /* fd is a Unix stream socket whose peer acknowledges */
    uint64_t epoch;    /* of all events */
    uint64_t next_seq; /* of the first one */
    size_t limit;      /* bytes; 0: 1 MiB */
    size_t window;     /* bytes; 0: 16 MiB */
};

struct nf_batch_writer *nf_batch_writer_new(const struct nf_batch_writer_options *opt,
                                            struct nf_error *err);
/* Does not flush. */
void nf_batch_writer_free(struct nf_batch_writer *w);

/* Add one event; its epoch and seq must be the expected ones (else NF_EINVAL).
 * May write, and with acknowledgements block. NF_EIO, NF_ECLOSED (the event
 * was added: do not add it again), NF_ENOMEM. */
int nf_batch_writer_add(struct nf_batch_writer *w, const struct nf_event *ev,
                        struct nf_error *err);

/* End the batch here, if it has events, and write it. Call it whenever the
 * input is idle, between two records of the disk: latency is decided here.
 * Same errors as add. */
int nf_batch_writer_flush(struct nf_batch_writer *w, struct nf_error *err);

/* Take in acknowledgements without blocking (call it when fd is readable). */
int nf_batch_writer_poll(struct nf_batch_writer *w, struct nf_error *err);

/* Wait until all that was flushed is acknowledged, at most @timeout_ms (-1:
 * for ever). 0, or 1 after the timeout. Without acknowledgements: 0. */
int nf_batch_writer_drain(struct nf_batch_writer *w, int timeout_ms, struct nf_error *err);

/* Go on with a new connection: sends what is not acknowledged again. */
int nf_batch_writer_resume(struct nf_batch_writer *w, int fd, struct nf_error *err);

/*
 * For a sender that must store what it sends before it does.  While held back
 * (from nf_batch_writer_hold() on), batches that end are kept and not sent, and
 * adding neither blocks nor sends; nf_batch_writer_end() ends the batch that is
 * being built; nf_batch_writer_next() lists, oldest first, what is kept and not
 * acknowledged, from *@pos (null at first) on, and of that only what was not
 * listed as stored if @fresh; nf_batch_writer_stored() says that all of it is
 * stored, and sends it as nf_batch_writer_flush() would.  nf_batch_writer_load()
 * takes over a frame (length included) that was stored in an earlier life, to
 * be sent; all of them come before the first event, whose seq is then the one
 * behind the last of them.
 */
struct nf_stored_frame {
    uint64_t last_seq;
    struct nf_bytes bytes; /* borrowed; with its length */
};
void nf_batch_writer_hold(struct nf_batch_writer *w);
int nf_batch_writer_end(struct nf_batch_writer *w, struct nf_error *err);
bool nf_batch_writer_next(const struct nf_batch_writer *w, const void **pos, bool fresh,
                          struct nf_stored_frame *frame);
int nf_batch_writer_stored(struct nf_batch_writer *w, struct nf_error *err);
int nf_batch_writer_load(struct nf_batch_writer *w, const struct nf_stored_frame *frame,
                         struct nf_error *err);

/* Last seq acknowledged (without acknowledgements: written); next_seq - 1 at first. */
uint64_t nf_batch_writer_acked(const struct nf_batch_writer *w);

/* Events added that are in no written batch yet. */
uint64_t nf_batch_writer_pending(const struct nf_batch_writer *w);

#endif
