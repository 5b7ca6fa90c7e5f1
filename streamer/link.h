/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The streamer's connection to Redis: a queue of requests, sent in order
 * without ever blocking, answered in order.
 *
 * After a loss the link connects again by itself, with backoff and jitter, and
 * sends every request again that has not had all its replies: requests must
 * bear being done twice.  Nothing is dropped while the link exists.
 * Single-threaded; the owner calls it from its epoll loop.
 */
#ifndef NF_LINK_H
#define NF_LINK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <hiredis/hiredis.h>

#include "common/buffer.h"
#include "common/error.h"
#include "common/redis_uri.h"

struct nf_link;

enum nf_reply_verdict {
    NF_REPLY_FINE,  /* go on */
    NF_REPLY_RETRY, /* Redis cannot do it now: connect again, send it again */
};

/* One or more commands that succeed or are repeated together. */
struct nf_request {
    struct nf_request *next;
    struct nf_buffer commands; /* in Redis' protocol; owned */
    unsigned ncommands;
    unsigned replies; /* had on the present connection */
    size_t sent;      /* bytes, on the present connection */

    /* Reply number @i, from 0; the reply is freed afterwards. */
    enum nf_reply_verdict (*reply)(struct nf_request *req, unsigned i, const redisReply *r);
    /* All replies are in: the request is out of the queue, its owner is
     * whoever gave it. */
    void (*done)(struct nf_request *req);
};

/* Append one command to @req. 0 or NF_ENOMEM. */
int nf_request_command(struct nf_request *req, int argc, const struct nf_bytes *argv);

/* @uri is borrowed and must outlive the link. @epoll_fd watches the
 * connection with data.ptr = the link. */
struct nf_link *nf_link_new(const struct nf_redis_uri *uri, int epoll_fd, struct nf_error *err);
/* Requests still queued are not freed. */
void nf_link_free(struct nf_link *l);

/* Queue @req and send what can be sent. */
void nf_link_submit(struct nf_link *l, struct nf_request *req);

/* The connection's descriptor is ready. */
void nf_link_ready(struct nf_link *l, uint32_t events);

/* Milliseconds until nf_link_tick() should be called, -1: no need. */
int nf_link_timeout(const struct nf_link *l);
void nf_link_tick(struct nf_link *l);

/* Bytes of all queued requests. */
size_t nf_link_queued(const struct nf_link *l);
bool nf_link_idle(const struct nf_link *l);

#endif
