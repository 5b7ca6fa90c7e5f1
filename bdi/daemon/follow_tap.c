/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Following a live disk through its tap.
 */
#include "bdi/daemon/engine_private.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/signalfd.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "bdi/daemon/say.h"
#include "bdi/daemon/state.h"

#define ATTACH_PAUSE_MS 10 /* grows with each try... */
#define ATTACH_PAUSES 50   /* ...up to so many of them */
#define ATTACH_SAY 10      /* tries, then somebody may want to know */
#define HEARTBEAT_MS 5000
/* Blocks written in place are looked at when the guest pauses, and then each second
 * as long as something waits. */
#define QUIET_NS 150000000ll
#define WAITING_NS 1000000000ll
#define GOODBYE_MS 5000 /* for the streamer to take the last events */

/* Ring space is given back after this many records without an idle moment. */
#define RELEASE_EVERY 64

static int64_t clock_ns(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void take_signals(struct engine *e)
{
    struct signalfd_siginfo si;

    while (read(e->signals, &si, sizeof(si)) == sizeof(si)) {
        if (si.ssi_signo == SIGUSR1)
            engine_say_status(e);
        else
            e->stop = true;
    }
}

static void release(struct engine *e)
{
    if (e->position == 0 || e->position - 1 == e->last_release)
        return;
    e->last_release = e->position - 1;
    nf_tap_release(e->tap, e->last_release);
}

/*
 * Sleep until the tap, the streamer, the opener or a signal has something, at
 * most @timeout_ms.  1: the tap has; 0: something else, or time passed.
 */
static int wait_input(struct engine *e, int timeout_ms, struct nf_error *err)
{
    struct pollfd p[4] = {
        {.fd = nf_tap_fd(e->tap), .events = POLLIN},
        {.fd = e->setup->control, .events = POLLIN},
        {.fd = e->signals, .events = POLLIN},
        {.fd = output_fd(e->out), .events = POLLIN},
    };
    int rc = nf_tap_wait(e->tap, 0, err);

    if (rc != 0)
        return rc;
    if (poll(p, 4, timeout_ms) < 0 && errno != EINTR)
        return nf_fail(err, NF_EIO, "poll: %s", strerror(errno));
    if (p[2].revents)
        take_signals(e);
    if (p[3].revents)
        rc = output_poll(e->out, err);
    if (rc == 0 && p[1].revents)
        rc = engine_take_control(e, err);
    if (rc == 0)
        rc = engine_ask_stream(e, err);
    return rc < 0 ? rc : (p[0].revents != 0);
}

/* The next record, as nf_tap_next(); a ring that makes no sense is named. */
static int next_record(struct engine *e, struct nf_record *rec, struct nf_error *err)
{
    int rc = nf_tap_next(e->tap, rec, err);

    if (rc < 0 && rc != NF_ECLOSED)
        nf_fail_prefix(err, "tap %s", e->setup->opt->tap);
    return rc;
}

/* --- attach -------------------------------------------------------------- */

/* Consume, without looking at them, the records that lie before the present. */
static int skip_to_head(struct engine *e, struct nf_error *err)
{
    uint64_t head = nf_tap_head(e->tap);

    while (e->position < head && !e->stop) {
        struct nf_record rec;
        int rc = next_record(e, &rec, err);

        if (rc == 1) {
            e->overflowed |= rec.type == NF_REC_GAP;
            rc = image_kept_record(e->img, &rec, err);
            e->position = rec.seq + 1;
        } else if (rc == 0) {
            rc = wait_input(e, 100, err);
        }
        if (rc < 0)
            return rc;
        release(e);
    }
    return 0;
}

/* image_kept_set_drain(): take what is there, wait for nothing. */
static int drain_ring(void *opaque, struct nf_error *err)
{
    struct engine *e = opaque;
    struct nf_record rec;
    int rc;

    while ((rc = next_record(e, &rec, err)) == 1) {
        rc = image_kept_record(e->img, &rec, err);
        if (rc < 0)
            return rc;
        e->position = rec.seq + 1;
        release(e);
    }
    image_settled_set_position(e->settled, e->position);
    return rc == NF_ECLOSED ? 0 : rc;
}

static int hold_begin(struct engine *e, struct nf_error *err)
{
    struct nf_batch_writer_options bo = {
        .fd = e->setup->hold_fd,
        .epoch = e->epoch,
        .next_seq = 1,
    };

    nf_batch_writer_free(e->hold);
    e->hold = NULL;
    if (ftruncate(e->setup->hold_fd, 0) < 0 || lseek(e->setup->hold_fd, 0, SEEK_SET) < 0)
        return nf_fail(err, NF_EIO, "events on hold: %s", strerror(errno));
    e->hold = nf_batch_writer_new(&bo, err);
    return e->hold ? 0 : NF_ENOMEM;
}

/* The attach stands: what it said goes out. */
static int hold_deliver(struct engine *e, struct nf_error *err)
{
    struct nf_frame_reader *r;
    struct nf_frame frame;
    int rc = nf_batch_writer_flush(e->hold, err);

    nf_batch_writer_free(e->hold);
    e->hold = NULL;
    if (rc < 0)
        return rc;
    if (lseek(e->setup->hold_fd, 0, SEEK_SET) < 0)
        return nf_fail(err, NF_EIO, "events on hold: %s", strerror(errno));
    r = nf_frame_reader_new(e->setup->hold_fd, err);
    if (!r)
        return NF_ENOMEM;
    while ((rc = nf_frame_next(r, &frame, err)) == NF_FRAME_READY) {
        if (frame.type != NF_FRAME_BATCH)
            continue;
        for (size_t i = 0; i < frame.batch.nevents && rc >= 0; i++) {
            struct nf_event ev = frame.batch.events[i];

            /* What was found is of no disk write's time: it is true as of now. */
            if (ev.time_ns == 0)
                ev.time_ns = clock_ns(CLOCK_REALTIME);
            rc = output_event(e->out, &ev, err);
        }
        if (rc < 0)
            break;
    }
    nf_frame_reader_free(r);
    if (rc < 0)
        return rc;
    if (ftruncate(e->setup->hold_fd, 0) < 0)
        return nf_fail(err, NF_EIO, "events on hold: %s", strerror(errno));
    return output_flush(e->out, err);
}

/*
 * One reading of the disk.  0: what was read is of one moment, e->position, and
 * e->bdi is good; 1: something read for the first time had moved since.
 */
static int try_attach(struct engine *e, struct nf_error *err)
{
    bool warm_up;
    int rc;

    e->overflowed = false;
    rc = skip_to_head(e, err);
    if (rc < 0 || e->stop)
        return rc;
    /* The ring does not hold what the guest writes during a whole reading: first
     * let everything be kept that there is, taking records meanwhile. */
    warm_up = e->overflowed;
    image_settled_set_position(e->settled, e->position);
    image_kept_take_moved(e->img);
    rc = hold_begin(e, err);
    if (rc == 0)
        rc = engine_new_bdi(e, err);
    if (rc < 0)
        return rc;
    image_kept_set_drain(e->img, warm_up ? drain_ring : NULL, e);
    rc = bdi_attach(e->bdi, err);
    image_kept_set_drain(e->img, NULL, NULL);
    /* Whatever was found broken in a disk that moved may be whole. */
    if (image_kept_take_moved(e->img) || (warm_up && rc != NF_EIO && rc != NF_ENOMEM))
        return 1;
    return rc < 0 ? nf_fail_prefix(err, "image %s", e->setup->opt->image) : 0;
}

static int attach(struct engine *e, uint64_t epoch, struct nf_error *err)
{
    int rc = image_kept_start(e->img, err);

    e->epoch = epoch;
    /* Each try reads only what none before it did, so there is an end to them. */
    for (int i = 0; rc >= 0 && (i == 0 || rc == 1) && !e->stop; i++) {
        if (i > 0) {
            int ms = (i < ATTACH_PAUSES ? i : ATTACH_PAUSES) * ATTACH_PAUSE_MS;
            struct timespec pause = {.tv_nsec = ms * 1000000l};

            nanosleep(&pause, NULL);
            take_signals(e);
        }
        if (i == ATTACH_SAY)
            say("tap %s: the guest keeps writing where its file systems are read; going on",
                e->setup->opt->tap);
        rc = try_attach(e, err);
    }
    if (e->stop)
        return 0;
    if (rc == 0)
        rc = image_kept_stop(e->img, err);
    if (rc == 0)
        rc = state_begin(e, err);
    if (rc == 0)
        rc = engine_begin_epoch(e, epoch, err);
    if (rc == 0)
        rc = hold_deliver(e, err);
    return rc;
}

static uint64_t next_epoch(const struct engine *e)
{
    uint64_t now = (uint64_t)(clock_ns(CLOCK_REALTIME) / 1000000);

    return now > e->epoch ? now : e->epoch + 1;
}

/* Continuity was lost, and a GAP event has said so: start anew. */
static int attach_again(struct engine *e, struct nf_error *err)
{
    int rc;

    say("tap %s: %s; reading the disk again", e->setup->opt->tap, err->text);
    rc = state_void(e, err);
    if (rc == 0)
        rc = output_drain(e->out, -1, err);
    release(e);
    return rc < 0 ? rc : attach(e, next_epoch(e), err);
}

/* --- the stream ---------------------------------------------------------- */

/* The tap hung up. 0: connected again, and nothing or a GAP between; 1: it is
 * gone for good. */
static int tap_lost(struct engine *e, struct nf_error *err)
{
    struct nf_event gap = {
        .kind = NF_GAP,
        .time_ns = clock_ns(CLOCK_REALTIME),
        .gap.scope = "the tap started anew",
    };
    uint8_t uuid[16];
    struct nf_tap_status st;
    int rc;

    memcpy(uuid, nf_tap_info(e->tap)->epoch_uuid, sizeof(uuid));
    rc = engine_reconnect_tap(e, err);
    if (rc == NF_ECLOSED)
        return 1;
    if (rc < 0)
        return rc;
    nf_tap_status(e->tap, &st);
    if (memcmp(uuid, nf_tap_info(e->tap)->epoch_uuid, sizeof(uuid)) == 0 &&
        st.tail <= e->position)
        return 0; /* Records taken before come again and are passed over. */
    e->position = st.tail;
    e->last_release = st.tail - 1;
    rc = engine_emit(e, &gap, err);
    if (rc < 0)
        return rc;
    nf_fail(err, NF_ELOST, "it started anew");
    return attach_again(e, err);
}

static int consume(struct engine *e, const struct nf_record *rec, struct nf_error *err)
{
    int rc;

    if (rec->seq < e->position)
        return 0;
    e->position = rec->seq + 1;
    image_settled_set_position(e->settled, e->position);
    rc = bdi_record(e->bdi, rec, err);
    if (rc == NF_ELOST)
        rc = attach_again(e, err);
    return rc;
}

static int heartbeat(struct engine *e, struct nf_error *err)
{
    struct nf_tap_status st;
    struct nf_event ev = {.kind = NF_HEARTBEAT, .time_ns = clock_ns(CLOCK_REALTIME)};
    int rc;

    nf_tap_status(e->tap, &st);
    ev.heartbeat.last_seq = e->next_seq - 1;
    ev.heartbeat.ring_fill_permille = st.fill_permille;
    rc = engine_emit(e, &ev, err);
    return rc < 0 ? rc : state_save(e, err);
}

/* Nothing to take: all goes out, then sleep. */
static int idle(struct engine *e, int timeout_ms, struct nf_error *err)
{
    int rc = state_save(e, err);

    if (rc == 0)
        rc = engine_ask_stream(e, err);
    if (rc == 0)
        rc = wait_input(e, timeout_ms, err);
    return rc;
}

/* Let go what only waits for time to pass. @when is when to ask next, monotonic. */
static int let_go(struct engine *e, int64_t now, int64_t *when, struct nf_error *err)
{
    const struct bdi_status *st;
    int rc = bdi_idle(e->bdi, clock_ns(CLOCK_REALTIME), err);

    st = bdi_get_status(e->bdi);
    *when = st->waiting || st->waiting_content ? now + WAITING_NS : INT64_MAX;
    return rc;
}

static int stream(struct engine *e, struct nf_error *err)
{
    int64_t last_event = clock_ns(CLOCK_MONOTONIC), idle_at = INT64_MAX;
    bool took = false;
    uint64_t last_seq = e->next_seq, last_epoch = e->epoch;
    unsigned burst = 0;

    while (!e->stop) {
        struct nf_record rec;
        int rc = next_record(e, &rec, err);

        if (rc == 1) {
            rc = consume(e, &rec, err);
            took = true;
            if (rc == 0 && state_due(e, &rec))
                rc = state_save(e, err);
            if (++burst % RELEASE_EVERY == 0) {
                if (e->state_mode == STATE_NONE)
                    release(e);
                take_signals(e);
                if (rc == 0)
                    rc = output_poll(e->out, err);
            }
        } else if (rc == NF_ECLOSED) {
            rc = state_save(e, err);
            if (rc == 0)
                rc = tap_lost(e, err);
            if (rc == 1) {
                say("tap %s: the disk's stream has ended", e->setup->opt->tap);
                rc = bdi_idle(e->bdi, INT64_MAX, err);
                return rc < 0 ? rc : state_save(e, err);
            }
        } else if (rc == 0) {
            int64_t now = clock_ns(CLOCK_MONOTONIC);

            if (took)
                idle_at = now + QUIET_NS;
            took = false;
            if (now >= idle_at)
                rc = let_go(e, now, &idle_at, err);
            if (rc == 0)
                rc = idle(e, idle_at - now < HEARTBEAT_MS * 1000000ll
                                 ? (int)((idle_at - now) / 1000000 + 1) : HEARTBEAT_MS, err);
            now = clock_ns(CLOCK_MONOTONIC);
            if (e->next_seq != last_seq || e->epoch != last_epoch) {
                last_event = now;
            } else if (rc == 0 && now - last_event >= HEARTBEAT_MS * 1000000ll) {
                rc = heartbeat(e, err);
                last_event = now;
            }
            last_seq = e->next_seq;
            last_epoch = e->epoch;
        }
        if (rc < 0)
            return rc;
    }
    return 0;
}

int engine_follow_tap(struct engine *e, struct nf_error *err)
{
    struct nf_tap_status st;
    int rc;

    nf_tap_status(e->tap, &st);
    e->position = st.tail;
    e->last_release = st.tail - 1;
    e->epoch = 0;
    rc = state_resume(e, err);
    if (rc == 1)
        rc = 0; /* nothing is to be read */
    else if (rc == 0 && !e->stop)
        rc = attach(e, e->setup->opt->epoch ? e->setup->opt->epoch : next_epoch(e), err);
    if (rc == 0 && !e->stop) {
        if (bdi_get_status(e->bdi)->filesystems)
            say("tap %s: following, epoch %llu", e->setup->opt->tap,
                (unsigned long long)e->epoch);
        else
            say("tap %s: no file system to follow yet (%s), epoch %llu", e->setup->opt->tap,
                e->why_none, (unsigned long long)e->epoch);
        rc = stream(e, err);
    }
    if (rc == 0 && e->state_mode != STATE_NONE && output_epoch(e->out) != 0)
        rc = state_save(e, err);
    if (output_epoch(e->out) != 0) {
        struct nf_error second;
        int left = output_drain(e->out, GOODBYE_MS, rc < 0 ? &second : err);

        if (rc == 0 && left == 1 && e->state_mode != STATE_KEPT)
            return nf_fail(err, NF_ELOST, "the streamer did not take the last events");
        if (rc == 0 && left < 0)
            rc = left;
    }
    if (e->state_mode != STATE_KEPT)
        release(e);
    return rc;
}
