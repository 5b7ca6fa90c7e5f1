/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A batch as it came from an engine, made into commands for Redis: one PUBLISH
 * per event and path, one XADD for all of it.
 */
#ifndef NF_PUBLISH_H
#define NF_PUBLISH_H

#include <stdbool.h>

#include "common/frame.h"
#include "common/redis_uri.h"
#include "streamer/link.h"

/* Content that a message on a channel carries at most. */
#define NF_CHANNEL_CONTENT_MAX 4096u
/* Messages of one event on channels, all paths together; a file with many
 * long names must not multiply without bound. */
#define NF_CHANNEL_EVENT_MAX (1u << 20)

struct nf_publish_options {
    bool channels;
    bool streams;
    unsigned long stream_length; /* batches that a stream keeps, about */
};

struct nf_published {
    uint64_t first_seq, last_seq;
    size_t z_at, z_len; /* the compressed batch within the commands; 0: no XADD */
};

struct nf_publisher;

/* Null without memory. */
struct nf_publisher *nf_publisher_new(const struct nf_publish_options *opt, struct nf_error *err);
void nf_publisher_free(struct nf_publisher *p);

/*
 * Decode @payload, a BATCH frame; check that it continues at @next_seq in the
 * sender's epoch; stamp the sender's names on every event; append the commands
 * to @req, XADD last. NF_EFORMAT if the sender broke the rules, NF_ENOMEM.
 */
int nf_publish_batch(struct nf_publisher *p, const struct nf_hello *from, uint64_t next_seq,
                     struct nf_bytes payload, struct nf_request *req, struct nf_published *out,
                     struct nf_error *err);

/* True if two compressed batches hold the same bytes. */
bool nf_publish_same(struct nf_bytes a, struct nf_bytes b);

#endif
