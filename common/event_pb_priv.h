/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * For code that works on the generated messages themselves: framing and the
 * streamer, which must pass on fields that it does not know.
 */
#ifndef NF_EVENT_PB_PRIV_H
#define NF_EVENT_PB_PRIV_H

#include "common/event_pb.h"
#include "common/events.pb-c.h"

/* An allocator for protobuf-c over @arena; freeing does nothing. */
ProtobufCAllocator nf_arena_allocator(struct nf_arena *arena);

/* Unpacked message to C form; @batch shares the message's memory. The checks
 * and the returned values are those of nf_batch_decode(). */
int nf_batch_from_pb(struct nf_arena *arena, const Nearfield__V1__Batch *m,
                     struct nf_batch *batch, struct nf_error *err);

/* The same for one event; returns as nf_event_decode(). */
int nf_event_from_pb(struct nf_arena *arena, const Nearfield__V1__Event *m, struct nf_event *ev,
                     struct nf_error *err);

#endif
