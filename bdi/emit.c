/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/emit.h"

int emit(struct emitter *e, struct nf_event *ev, struct nf_error *err)
{
    int ret;

    ev->epoch = e->opt.epoch;
    ev->seq = e->next_seq;
    if (ev->kind == NF_WRITE)
        ev->flags |= e->extra_flags;
    if (!ev->time_ns)
        ev->time_ns = e->time_ns;
    ret = e->opt.event(e->opt.opaque, ev, err);
    if (ret < 0)
        return ret;
    e->next_seq++;
    e->status.events++;
    return 0;
}
