/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where every event passes: stamps epoch, seq, source and time, and hands it
 * to the library's user. One per disk, shared by its file systems.
 */
#ifndef BDI_EMIT_H
#define BDI_EMIT_H

#include <stdint.h>

#include "bdi/bdi.h"

struct emitter {
    struct bdi_options opt;
    uint64_t next_seq;
    int64_t time_ns;      /* of the record being consumed */
    uint32_t extra_flags; /* of events made from bytes that were read back */
    struct bdi_status status;
};

/* Stamp @ev (epoch, seq, time) and deliver it. Returns 0 or what the callback
 * returned; the seq is used up only on success. */
int emit(struct emitter *e, struct nf_event *ev, struct nf_error *err);

#endif
