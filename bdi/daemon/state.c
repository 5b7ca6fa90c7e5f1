/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/state.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "bdi/daemon/outbox.h"
#include "bdi/daemon/say.h"

/* Records between two saves while there is no idle moment; and of the ring's
 * payload a part of so many. */
#define SAVE_RECORDS 512
#define SAVE_PART 8

static void release(struct engine *e)
{
    if (e->position == 0 || e->position - 1 == e->last_release)
        return;
    e->last_release = e->position - 1;
    nf_tap_release(e->tap, e->last_release);
}

static bool is_file(int fd)
{
    struct stat st;

    return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

static struct outbox_mark mark_now(struct engine *e, bool picture)
{
    struct outbox_mark m = {
        .generation = outbox_last(e->outbox)->generation + 1,
        .epoch = e->epoch,
        .next_seq = e->next_seq,
        .position = e->position,
        .picture = picture,
    };
    struct nf_batch_writer *w = output_writer(e->out);

    m.acked = w && output_epoch(e->out) == e->epoch ? nf_batch_writer_acked(w) : e->next_seq - 1;
    if (is_file(e->setup->out_fd))
        m.out_offset = (uint64_t)lseek(e->setup->out_fd, 0, SEEK_CUR);
    memcpy(m.tap_uuid, nf_tap_info(e->tap)->epoch_uuid, sizeof(m.tap_uuid));
    return m;
}

/* Store, all of it in a fresh file if @rewrite. */
static int store(struct engine *e, bool picture, bool rewrite, struct nf_error *err)
{
    struct nf_batch_writer *w = output_writer(e->out);
    struct outbox_mark mark;
    struct nf_bytes state = {0};
    int rc = w ? nf_batch_writer_end(w, err) : 0;

    if (rc < 0)
        return rc;
    mark = mark_now(e, picture);
    if (picture)
        rc = bdi_save(e->bdi, mark.generation, &state, err);
    if (rc == 0)
        rc = rewrite || outbox_large(e->outbox) ? outbox_rewrite(e->outbox, &mark, state, w, err)
                                                : outbox_append(e->outbox, &mark, state, w, err);
    if (rc == 0 && picture)
        bdi_saved(e->bdi, mark.generation);
    e->saved_seq = e->next_seq;
    e->saved_position = e->position;
    e->unsaved_records = e->unsaved_bytes = 0;
    return rc;
}

int state_save(struct engine *e, struct nf_error *err)
{
    struct nf_batch_writer *w = output_writer(e->out);
    bool first;
    int rc;

    if (e->state_mode == STATE_BEGUN && nf_batch_writer_acked(w) >= e->begun_seq)
        e->state_mode = STATE_ARMING;
    if (e->state_mode != STATE_ARMING && e->state_mode != STATE_KEPT) {
        rc = output_flush(e->out, err);
        release(e);
        return rc;
    }
    if (e->state_mode == STATE_KEPT && e->saved_seq == e->next_seq &&
        e->saved_position == e->position) {
        release(e);
        return 0;
    }
    first = e->state_mode == STATE_ARMING;
    if (first)
        nf_batch_writer_hold(w);
    rc = store(e, true, first, err);
    if (rc < 0)
        return rc;
    if (first)
        say("state %s: kept; a restart goes on from here", e->setup->opt->state);
    e->state_mode = STATE_KEPT;
    rc = output_stored(e->out, err);
    release(e);
    return rc;
}

bool state_due(struct engine *e, const struct nf_record *rec)
{
    if (e->state_mode == STATE_NONE)
        return false;
    e->unsaved_records++;
    if (rec->type == NF_REC_WRITE && !(rec->flags & NF_REC_FAILED))
        e->unsaved_bytes += rec->length;
    return e->unsaved_records >= SAVE_RECORDS ||
           e->unsaved_bytes >= nf_tap_info(e->tap)->payload_size / SAVE_PART;
}

int state_void(struct engine *e, struct nf_error *err)
{
    int rc;

    if (e->state_mode == STATE_NONE)
        return 0;
    if (e->state_mode == STATE_KEPT) {
        rc = store(e, false, false, err);
        if (rc == 0)
            rc = output_stored(e->out, err);
        if (rc < 0)
            return rc;
    }
    e->state_mode = STATE_VOID;
    return 0;
}

int state_begin(struct engine *e, struct nf_error *err)
{
    int rc;

    if (e->state_mode == STATE_NONE)
        return 0;
    /* The number of the epoch is taken before anybody hears of it. */
    output_end(e->out);
    rc = store(e, false, true, err);
    e->begun_seq = e->next_seq - 1;
    e->state_mode = STATE_BEGUN;
    return rc;
}

/* --- going on ------------------------------------------------------------- */

/* Connect the output to the epoch of the mark, the frames left over in it. */
static int load_output(struct engine *e, const struct outbox_mark *m, struct nf_error *err)
{
    struct nf_batch_writer *w;
    struct nf_stored_frame frame;
    size_t pos = 0;
    int rc = engine_resume_epoch(e, m->epoch, m->acked + 1, m->out_offset, err);

    if (rc < 0)
        return rc;
    w = output_writer(e->out);
    while (rc == 0 && outbox_frame(e->outbox, &pos, &frame))
        rc = nf_batch_writer_load(w, &frame, err);
    nf_batch_writer_hold(w);
    return rc == 0 ? output_stored(e->out, err) : rc;
}

/* Why the picture that the mark speaks of cannot be used; null: it can. */
static const char *unusable(struct engine *e, const struct outbox_mark *m, bool boot_same)
{
    struct nf_tap_status st;

    nf_tap_status(e->tap, &st);
    if (!boot_same)
        return "the host was started anew";
    if (memcmp(m->tap_uuid, nf_tap_info(e->tap)->epoch_uuid, sizeof(m->tap_uuid)) != 0)
        return "the tap started anew while nobody followed";
    if (st.tail > m->position || st.head < m->position)
        return "the tap's stream was read by somebody else";
    return NULL;
}

static int resume_bdi(struct engine *e, const struct outbox_mark *m, struct nf_error *err)
{
    image_settled_set_position(e->settled, m->position);
    return engine_resume_bdi(e, m->generation, outbox_state(e->outbox), err);
}

/* The epoch of the mark ends here, and says so. */
static int end_epoch(struct engine *e, const char *why, struct nf_error *err)
{
    struct timespec ts;
    struct nf_event gap = {.kind = NF_GAP, .gap.scope = why};
    int rc;

    clock_gettime(CLOCK_REALTIME, &ts);
    gap.time_ns = (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
    say("state: %s: beginning a new epoch", why);
    rc = engine_emit(e, &gap, err);
    return rc < 0 ? rc : state_void(e, err);
}

static int open_outbox(struct engine *e, bool *boot_same, struct nf_error *err)
{
    const struct engine_setup *s = e->setup;
    struct outbox_owner owner = {.disk_size = nf_tap_info(e->tap)->disk_size};
    struct nf_error why = {0};
    int rc;

    strcpy(owner.host, s->opt->host);
    strcpy(owner.vm, s->opt->vm);
    strcpy(owner.disk, s->opt->disk);
    rc = outbox_open(s->outbox_fds, &owner, s->boot_id, &e->outbox, boot_same, &why);
    if (rc < 0)
        return nf_fail(err, rc, "%s", why.text);
    if (rc == 2)
        say("%s: beginning a new epoch", why.text);
    return rc == 1;
}

int state_resume(struct engine *e, struct nf_error *err)
{
    struct outbox_mark m;
    struct nf_error why = {0};
    const char *reason = NULL;
    struct nf_stored_frame frame;
    size_t pos = 0;
    bool boot_same, left;
    int rc;

    if (e->state_mode == STATE_NONE)
        return 0;
    e->state_mode = STATE_VOID;
    rc = open_outbox(e, &boot_same, err);
    if (rc <= 0)
        return rc < 0 ? rc : engine_cut_output(e, 0, err);
    m = *outbox_last(e->outbox);
    e->epoch = m.epoch;
    e->next_seq = m.next_seq;
    left = outbox_frame(e->outbox, &pos, &frame);
    if (m.picture)
        reason = unusable(e, &m, boot_same);
    if (m.picture && !reason) {
        rc = resume_bdi(e, &m, &why);
        if (rc < 0 && rc != NF_EFORMAT)
            return nf_fail(err, rc, "%s", why.text);
        if (rc == NF_EFORMAT)
            reason = why.text;
    }
    if (!m.picture && !left) /* nothing is owed to anybody */
        return engine_cut_output(e, m.out_offset, err);
    rc = load_output(e, &m, err);
    if (rc < 0)
        return rc;
    e->state_mode = STATE_KEPT;
    if (m.picture && !reason) {
        say("state %s: going on with event %llu:%llu", e->setup->opt->state,
            (unsigned long long)e->epoch, (unsigned long long)e->next_seq);
        /* What comes again before it is passed over. */
        e->position = m.position;
        rc = store(e, true, true, err);
        outbox_forget(e->outbox);
        return rc < 0 ? rc : 1;
    }
    if (m.picture)
        rc = end_epoch(e, reason, err);
    else
        e->state_mode = STATE_VOID;
    if (rc == 0)
        rc = output_drain(e->out, -1, err);
    outbox_forget(e->outbox);
    return rc;
}
