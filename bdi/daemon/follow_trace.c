/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replaying a trace.  Nothing here depends on the clock or on chance: the
 * same trace gives the same bytes.
 */
#include "bdi/daemon/engine_private.h"

#include <stdlib.h>

#include "bdi/daemon/say.h"
#include "common/trace.h"

/* Start an epoch on the disk as it is now. */
static int begin(struct engine *e, uint64_t epoch, struct nf_error *err)
{
    int rc;

    e->epoch = epoch;
    rc = engine_begin_epoch(e, epoch, err);
    if (rc == 0)
        rc = engine_new_bdi(e, err);
    if (rc < 0)
        return rc;
    rc = bdi_attach(e->bdi, err);
    return rc < 0 ? nf_fail_prefix(err, "image %s", e->setup->opt->image) : 0;
}

/* The trace lacks writes here, as a GAP event has said: begin anew behind them. */
static int pass_gap(struct engine *e, const struct nf_record *rec, struct nf_error *err)
{
    int rc;

    say("trace %s: %llu requests (%llu bytes) are missing at record %llu", e->setup->opt->trace,
        (unsigned long long)rec->offset, (unsigned long long)rec->length,
        (unsigned long long)rec->seq);
    rc = output_drain(e->out, -1, err);
    return rc < 0 ? rc : begin(e, e->epoch + 1, err);
}

static uint64_t choose_epoch(const struct options *opt, const struct nf_record *first)
{
    int64_t ms = first ? first->time_ns / 1000000 : 0;

    if (opt->epoch)
        return opt->epoch;
    return ms > 0 ? (uint64_t)ms : 1;
}

static int set_disk_size(struct engine *e, uint64_t size, struct nf_error *err)
{
    const struct nf_record resize = {.type = NF_REC_RESIZE, .length = size};

    if (e->img->size > size)
        return nf_fail(err, NF_EINVAL, "image %s: %llu bytes, but the trace's disk has %llu",
                       e->setup->opt->image, (unsigned long long)e->img->size,
                       (unsigned long long)size);
    return nf_image_overlay_apply(e->overlay, &resize, err);
}

static int replay(struct engine *e, struct nf_trace_reader *r, struct nf_error *err)
{
    struct nf_record rec;
    int rc, got;

    e->img = nf_image_overlay_image(e->overlay);
    nf_image_overlay_read_again(e->overlay, r);
    rc = set_disk_size(e, nf_trace_reader_info(r)->disk_size, err);
    if (rc < 0)
        return rc;
    got = nf_trace_next(r, &rec, err);
    if (got < 0)
        return got;
    rc = begin(e, choose_epoch(e->setup->opt, got == 1 ? &rec : NULL), err);
    while (rc == 0 && got == 1) {
        rc = nf_image_overlay_apply(e->overlay, &rec, err);
        if (rc == 0)
            rc = bdi_record(e->bdi, &rec, err);
        if (rc == NF_ELOST)
            rc = pass_gap(e, &rec, err);
        if (rc < 0)
            return nf_fail_prefix(err, "record %llu", (unsigned long long)rec.seq);
        got = nf_trace_next(r, &rec, err);
    }
    if (rc == 0 && got < 0)
        rc = got;
    return rc < 0 ? rc : bdi_idle(e->bdi, INT64_MAX, err);
}

int engine_follow_trace(struct engine *e, struct nf_error *err)
{
    struct nf_trace_reader *r = nf_trace_open_fd(e->setup->trace_fd, err);
    struct nf_error second;
    int rc;

    if (!r)
        return nf_fail_prefix(err, "trace %s", e->setup->opt->trace);
    rc = replay(e, r, err);
    if (rc == 0 && nf_trace_reader_info(r)->torn > 0)
        say("trace %s: recording was cut off, the last %llu bytes are not used",
            e->setup->opt->trace, (unsigned long long)nf_trace_reader_info(r)->torn);
    /* What is known goes out, however it ended. */
    if (rc < 0 && output_epoch(e->out) != 0)
        output_flush(e->out, &second);
    if (rc == 0)
        rc = output_drain(e->out, -1, err);
    nf_trace_close(r);
    if (rc == 0 && !e->any_fs)
        return nf_fail(err, NF_EUNSUPPORTED, "image %s: no file system to follow (%s)",
                       e->setup->opt->image, e->why_none);
    return rc;
}
