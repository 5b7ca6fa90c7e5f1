/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Shared between the files of the engine process: engine.c (start, the opener's
 * answers), follow_trace.c and follow_tap.c (the two sources of records).
 */
#ifndef BDI_DAEMON_ENGINE_PRIVATE_H
#define BDI_DAEMON_ENGINE_PRIVATE_H

#include <stdbool.h>
#include <stdint.h>

#include "bdi/bdi.h"
#include "bdi/daemon/engine.h"
#include "bdi/daemon/image_kept.h"
#include "bdi/daemon/image_settled.h"
#include "common/frame.h"
#include "common/image_overlay.h"

enum state_mode {
    STATE_NONE = 0, /* without --state */
    STATE_VOID,     /* what is stored, if anything, is no picture */
    STATE_BEGUN,    /* an epoch's first events are on their way */
    STATE_ARMING,   /* they are delivered */
    STATE_KEPT,     /* stored, and since then nothing leaves unstored */
};

struct engine {
    struct engine_setup *setup;
    int signals; /* signalfd; tap */
    bool stop;   /* asked to end */

    struct output *out;
    bool stream_asked; /* a STREAM answer will come */
    uint64_t epoch;
    uint64_t next_seq; /* of the next event in this epoch */

    /* Events of an attach that may yet turn out to be void go here. */
    struct nf_batch_writer *hold;

    struct nf_image *img; /* trace: the overlay's; tap: kept over settled, owned */
    struct nf_image *settled; /* below img; tap */
    struct nf_image_overlay *overlay;
    struct nf_tap *tap;
    uint64_t position;     /* tap: seq of the first record not consumed */
    uint64_t last_release; /* tap: newest record given back */
    struct bdi *bdi;

    /* state.c */
    enum state_mode state_mode;
    struct outbox *outbox;
    uint64_t begun_seq;                  /* last event of the attach */
    uint64_t saved_seq, saved_position;  /* as stored last */
    uint64_t unsaved_records, unsaved_bytes;
    bool overflowed;   /* the ring did, between two readings of an attach */
    bool any_fs;       /* one was attached, some time */
    char why_none[300]; /* what was said last of one that was not */
};

/* Functions return 0 or a negative status with @err filled, unless said. */

/* Ask the opener for a connection to the streamer if it is lost; does not wait. */
int engine_ask_stream(struct engine *e, struct nf_error *err);
/* A message of the opener is there. */
int engine_take_control(struct engine *e, struct nf_error *err);
/* Replace e->tap by a new connection. NF_ECLOSED: there is none to be had. */
int engine_reconnect_tap(struct engine *e, struct nf_error *err);

/* HELLO is said and the output ready for the first event of @epoch. */
int engine_begin_epoch(struct engine *e, uint64_t epoch, struct nf_error *err);
/* The same for one that goes on: HELLO is said with @next_seq; a file is cut at
 * @offset and has its HELLO. */
int engine_resume_epoch(struct engine *e, uint64_t epoch, uint64_t next_seq, uint64_t offset,
                        struct nf_error *err);
/* An output file ends at @offset: what follows is written there. */
int engine_cut_output(struct engine *e, uint64_t offset, struct nf_error *err);
int engine_emit(struct engine *e, struct nf_event *ev, struct nf_error *err);
int engine_event(void *opaque, const struct nf_event *ev, struct nf_error *err);
/* A fresh e->bdi over an empty shadow, for e->epoch. */
int engine_new_bdi(struct engine *e, struct nf_error *err);
/* e->bdi as it was saved; its next event is e->next_seq. As bdi_resume(). */
int engine_resume_bdi(struct engine *e, uint64_t generation, struct nf_bytes state,
                      struct nf_error *err);

/* status.c: one line of JSON on stderr: what is watched, how far behind, at what cost. */
void engine_say_status(struct engine *e);

/* Run to the end of the input. */
int engine_follow_trace(struct engine *e, struct nf_error *err);
int engine_follow_tap(struct engine *e, struct nf_error *err);

#endif
