/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events between their C form (common/event.h) and their wire form
 * (common/events.proto).
 *
 * Thread: an encoder or an arena belongs to one thread at a time.
 */
#ifndef NF_EVENT_PB_H
#define NF_EVENT_PB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/arena.h"
#include "common/buffer.h"
#include "common/error.h"
#include "common/event.h"

/* Bounds of one event: what is over them is refused in both directions. A
 * WRITE with more content must be made as several. */
#define NF_EVENT_MAX (5u << 20)         /* serialized, bytes */
#define NF_EVENT_CONTENT_MAX (4u << 20) /* plain content of one WRITE, bytes */
#define NF_EVENT_PATHS_MAX 64

/* Content of at least this many bytes is compressed if that makes it smaller. */
#define NF_EVENT_ZSTD_THRESHOLD 512

struct nf_event_encoder;

/* Null without memory, with @err filled. */
struct nf_event_encoder *nf_event_encoder_new(struct nf_error *err);
void nf_event_encoder_free(struct nf_event_encoder *enc);

/* Serialize @ev as a nearfield.v1.Event and append it to @out. Content given
 * plain (NF_CODEC_NONE) is compressed where that pays; content given
 * compressed is passed through. NF_EINVAL: over a bound, or not a known kind. */
int nf_event_encode(struct nf_event_encoder *enc, const struct nf_event *ev,
                    struct nf_buffer *out, struct nf_error *err);

/*
 * The reverse. What @ev points to lives in @arena (which must have room: 32
 * times the input and 64 KiB are enough for any event that we made) or is null.
 * Returns 0; 1 for an event of a kind that this version does not know: the
 * common fields are filled, the union is not, and ev->kind has the number;
 * NF_EFORMAT for bytes that are not an event or break its rules; NF_ENOMEM
 * when the arena is used up.
 */
int nf_event_decode(struct nf_arena *arena, const void *data, size_t len, struct nf_event *ev,
                    struct nf_error *err);

/* A batch in C form; everything is in the arena that it was decoded into. */
struct nf_batch {
    uint64_t epoch;
    uint64_t first_seq;
    uint64_t last_seq;
    bool partial;
    const struct nf_event *events; /* those of unknown kinds have kind > NF_KIND_MAX */
    size_t nevents;                /* last_seq - first_seq + 1 */
};

/* Serialized nearfield.v1.Batch to C form. Checks that epoch and seqs of the
 * events are those of the batch. 0, NF_EFORMAT or NF_ENOMEM. */
int nf_batch_decode(struct nf_arena *arena, const void *data, size_t len, struct nf_batch *batch,
                    struct nf_error *err);

/*
 * The plain content of a WRITE event: sets @plain to its first bytes, at most
 * @limit of them. They are the event's own if it holds them plain, else in
 * @scratch (replaced). NF_EFORMAT: they do not decompress to what the event
 * says; NF_EINVAL: not a WRITE.
 */
int nf_event_content(const struct nf_event *ev, size_t limit, struct nf_buffer *scratch,
                     struct nf_bytes *plain, struct nf_error *err);

/* "create", "move_range", ...: lower case, as in JSON; null if unknown. */
const char *nf_kind_name(enum nf_kind kind);

/* The kind named so in either case, or NF_KIND_UNSPECIFIED. */
enum nf_kind nf_kind_from_name(const char *name);

/* True for 1 to @NF_SOURCE_NAME_MAX characters of [A-Za-z0-9._-]: what host,
 * vm and disk must be. */
#define NF_SOURCE_NAME_MAX 128
bool nf_source_name_valid(const char *name);

#endif
