/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the engine's events go: frames or JSON lines to a file or pipe, or
 * acknowledged frames to the streamer.  While the streamer is away events are
 * kept, up to a bound; then the engine waits for it, and so stops taking
 * records: the tap's ring fills and counts what it drops, the guest never waits.
 */
#ifndef BDI_DAEMON_OUTPUT_H
#define BDI_DAEMON_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/event.h"

enum output_kind {
    OUTPUT_PROTO,    /* frames; HELLO is said by the opener */
    OUTPUT_JSON,     /* lines */
    OUTPUT_STREAMER, /* frames over a socket, acknowledged */
};

struct output_options {
    enum output_kind kind;
    const char *host, *vm, *disk; /* JSON; borrowed */

    /* STREAMER: get a new connection, waiting as long as it takes, and give it
     * to output_resume().  0 or negative to give up. */
    int (*reconnect)(void *opaque, struct nf_error *err);
    void *opaque;
};

struct output;
struct nf_batch_writer;

/* Null on failure. */
struct output *output_new(const struct output_options *opt, struct nf_error *err);
void output_free(struct output *out); /* closes a streamer's socket; does not flush */

/* A new epoch begins: events with @epoch follow, from @next_seq.  @fd: borrowed;
 * a streamer's socket is taken over, also on failure. */
int output_begin(struct output *out, int fd, uint64_t epoch, uint64_t next_seq,
                 struct nf_error *err);

/* The epoch is over and delivered: hang up, so that the streamer takes the next
 * connection for the same disk.  output_begin() must follow. */
void output_end(struct output *out);

int output_event(struct output *out, const struct nf_event *ev, struct nf_error *err);

/* The input is idle: everything goes out now. */
int output_flush(struct output *out, struct nf_error *err);

/* Wait until everything is delivered; at most @timeout_ms (-1: for ever).
 * 0, 1 after the timeout, or negative. */
int output_drain(struct output *out, int timeout_ms, struct nf_error *err);

/* For a poll loop: the streamer's socket (POLLIN: call output_poll()), else -1. */
int output_fd(const struct output *out);
int output_poll(struct output *out, struct nf_error *err);

/* The streamer went away; somebody must fetch a connection that says HELLO with
 * next_seq = output_acked() + 1, and hand it to output_resume() (taken over). */
bool output_lost(const struct output *out);
uint64_t output_acked(const struct output *out);
uint64_t output_epoch(const struct output *out);
int output_resume(struct output *out, int fd, struct nf_error *err);

/* For --state: the frames' writer, null before output_begin() and for JSON; and
 * nf_batch_writer_stored() of it. */
struct nf_batch_writer *output_writer(const struct output *out);
int output_stored(struct output *out, struct nf_error *err);

#endif
