/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A subscription: events of many disks out of Redis.
 *
 * Channels tell of events now; the stream of each disk is the truth. Events of
 * one disk come in order of seq and each once, although one that concerns
 * several paths is published on several channels. Where the subscription sees
 * everything of a disk, a hole in its seqs is noticed and filled from the
 * stream; what the stream no longer has is said. Single-threaded.
 */
#ifndef NF_SUBSCRIBE_H
#define NF_SUBSCRIBE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/event.h"

struct nf_redis_uri;

enum nf_since {
    NF_SINCE_NOW,  /* only what comes */
    NF_SINCE_ALL,  /* all that is retained, then what comes */
    NF_SINCE_SEQ,  /* what came after epoch:seq, then what comes */
};

struct nf_selection {
    const char *host, *vm, *disk; /* globs; null: any */
    const char *const *paths;     /* globs, any of them; npaths 0: any */
    size_t npaths;
    uint64_t kinds; /* bit per enum nf_kind; 0: any */
    enum nf_since since;
    uint64_t epoch, seq; /* NF_SINCE_SEQ */
};

/* @ev is valid during the call. Return > 0 to stop, < 0 for failure. */
typedef int nf_event_fn(void *opaque, const struct nf_event *ev, struct nf_error *err);

/* A sentence about what happened to the subscription itself (hole, loss of the
 * connection). */
typedef void nf_notice_fn(void *opaque, const char *text);

struct nf_subscription;

/* Connect and subscribe. @uri and @sel are borrowed for the subscription's
 * life. Null with @err filled. */
struct nf_subscription *nf_subscribe(const struct nf_redis_uri *uri, const struct nf_selection *sel,
                                     nf_event_fn *event, nf_notice_fn *notice, void *opaque,
                                     struct nf_error *err);
void nf_subscription_free(struct nf_subscription *s);

/* Deliver what there is; wait up to @timeout_ms (-1: for ever) if there is
 * nothing. Connects again by itself when the connection is lost. Returns 0,
 * what the callback returned if that was not 0, or a negative status. */
int nf_subscription_wait(struct nf_subscription *s, int timeout_ms, struct nf_error *err);

/* Does @ev pass @sel (source, kind, path)? */
bool nf_selection_matches(const struct nf_selection *sel, const struct nf_event *ev);

#endif
