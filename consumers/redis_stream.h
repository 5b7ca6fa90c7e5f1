/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stream of one disk in Redis, batch after batch: the whole truth, with all
 * content, unlike what the channels carry.  Single-threaded.
 */
#ifndef NF_REDIS_STREAM_H
#define NF_REDIS_STREAM_H

#include <stdint.h>

#include "common/error.h"
#include "common/event_pb.h"

struct nf_redis_stream;

/* Which disk; what is null may be anything if only one disk then fits. */
struct nf_redis_disk {
    const char *host, *vm, *disk;
};

/*
 * Connect and find the disk's stream.  Reading begins after @epoch:@seq, or
 * with the newest epoch that the stream has if @epoch is 0.  @uri is the text
 * of a Redis URI.  Null with @err filled.
 */
struct nf_redis_stream *nf_redis_stream_open(const char *uri, const struct nf_redis_disk *disk,
                                             uint64_t epoch, uint64_t seq, struct nf_error *err);
void nf_redis_stream_free(struct nf_redis_stream *s); /* null is allowed */

/*
 * The next batch, valid until the next call: 1; 0 if there was none for a
 * second.  A lost connection is made again for ever, with a notice on stderr.
 */
int nf_redis_stream_next(struct nf_redis_stream *s, struct nf_batch *batch, struct nf_error *err);

#endif
