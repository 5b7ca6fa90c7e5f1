/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine with --state: what it stores so that it can be killed at any
 * instant, and how it goes on afterwards.  Without --state, nothing of this is
 * done: each function then does what it says there.
 */
#ifndef BDI_DAEMON_STATE_H
#define BDI_DAEMON_STATE_H

#include "bdi/daemon/engine_private.h"

/*
 * Read what an earlier engine stored.  1: it goes on, e->bdi, e->epoch,
 * e->next_seq and e->position are as they were, and what it had said without
 * being heard is being said again.  0: it begins anew, in an epoch above
 * e->epoch; the old epoch, if there was one, has its end (GAP) and is delivered.
 */
int state_resume(struct engine *e, struct nf_error *err);

/*
 * All records so far were consumed, their events added to the output: store it
 * all, then send it and give the ring's room back.  Without --state, or while
 * the snapshot of an attach is not yet delivered: send and give back.
 */
int state_save(struct engine *e, struct nf_error *err);

/* Whether so much was consumed since that it is time. */
bool state_due(struct engine *e, const struct nf_record *rec);

/* The picture is void from here on; the epoch's last events are stored and sent.
 * Without --state: nothing. */
int state_void(struct engine *e, struct nf_error *err);

/* An epoch's first events, up to now, are on their way: once they are delivered,
 * state_save() stores.  Without --state: nothing. */
int state_begin(struct engine *e, struct nf_error *err);

#endif
