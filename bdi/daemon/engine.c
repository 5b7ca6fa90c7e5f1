/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/engine.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bdi/daemon/engine_private.h"
#include "bdi/daemon/handoff.h"
#include "bdi/daemon/image_file.h"
#include "bdi/daemon/image_nbd.h"
#include "bdi/daemon/outbox.h"
#include "bdi/daemon/sandbox.h"
#include "bdi/daemon/say.h"

#define SECTOR 512u

/* --- the opener's answers ------------------------------------------------ */

/* Take one message in. Its descriptors go where they belong, or are left in
 * @fds if it is the one that the caller waits for. */
static int take_message(struct engine *e, enum handoff_kind wanted, struct handoff_msg *msg,
                        int *fds, int *nfds, struct nf_error *err)
{
    int rc = handoff_recv(e->setup->control, msg, fds, nfds, err);

    if (rc < 0)
        return rc;
    if (msg->kind == (uint32_t)wanted)
        return 1;
    if (msg->kind == HANDOFF_STREAM && e->stream_asked && *nfds == 1) {
        e->stream_asked = false;
        return output_resume(e->out, fds[0], err);
    }
    while (*nfds > 0)
        close(fds[--*nfds]);
    return 0;
}

static int wait_message(struct engine *e, enum handoff_kind wanted, struct handoff_msg *msg,
                        int *fds, int *nfds, struct nf_error *err)
{
    int rc;

    do {
        rc = take_message(e, wanted, msg, fds, nfds, err);
    } while (rc == 0);
    return rc < 0 ? rc : 0;
}

/* Ask for @kind and wait for the answer: @want descriptors, or a failure that
 * the opener has explained on stderr. */
static int ask(struct engine *e, enum handoff_kind kind, uint64_t epoch, uint64_t next_seq,
               int want, int *fds, struct nf_error *err)
{
    struct handoff_msg msg = {.kind = kind, .epoch = epoch, .next_seq = next_seq};
    int nfds = 0;
    int rc = handoff_send(e->setup->control, &msg, NULL, 0, err);

    if (rc == 0)
        rc = wait_message(e, kind, &msg, fds, &nfds, err);
    if (rc == 0 && msg.status == 0 && nfds == want)
        return 0;
    while (nfds > 0)
        close(fds[--nfds]);
    if (rc < 0)
        return rc;
    return nf_fail(err, NF_ECLOSED, "the connection cannot be made again");
}

int engine_ask_stream(struct engine *e, struct nf_error *err)
{
    struct handoff_msg msg = { .kind = HANDOFF_STREAM };

    /* Only an output to a streamer is ever lost; JSON has no acknowledgements to ask for. */
    if (e->stream_asked || !output_lost(e->out))
        return 0;
    msg.epoch = output_epoch(e->out);
    msg.next_seq = output_acked(e->out) + 1;
    e->stream_asked = true;
    say("the streamer is gone, connecting again");
    return handoff_send(e->setup->control, &msg, NULL, 0, err);
}

int engine_take_control(struct engine *e, struct nf_error *err)
{
    struct handoff_msg msg;
    int fds[HANDOFF_FDS_MAX], nfds;
    int rc = take_message(e, 0, &msg, fds, &nfds, err);

    return rc < 0 ? rc : 0;
}

/* output_options.reconnect */
static int reconnect_stream(void *opaque, struct nf_error *err)
{
    struct engine *e = opaque;
    int rc = engine_ask_stream(e, err);

    while (rc == 0 && output_lost(e->out) && e->stream_asked)
        rc = engine_take_control(e, err);
    return rc;
}

/* image_nbd_options.reconnect */
static int reconnect_image(void *opaque, struct nf_error *err)
{
    struct engine *e = opaque;
    int fds[HANDOFF_FDS_MAX];
    int rc = ask(e, HANDOFF_IMAGE, 0, 0, 1, fds, err);

    return rc < 0 ? nf_fail_prefix(err, "image %s", e->setup->opt->image) : fds[0];
}

int engine_reconnect_tap(struct engine *e, struct nf_error *err)
{
    int fds[HANDOFF_FDS_MAX];
    struct nf_tap_fds tap;
    struct nf_tap *fresh;
    int rc = ask(e, HANDOFF_TAP, 0, 0, 3, fds, err);

    if (rc < 0)
        return rc;
    tap.sock = fds[0];
    tap.data = fds[1];
    tap.ctrl = fds[2];
    fresh = nf_tap_new(&tap, err);
    if (!fresh)
        return NF_EFORMAT;
    image_settled_set_tap(e->settled, fresh);
    nf_tap_free(e->tap);
    e->tap = fresh;
    return 0;
}

/* --- epochs and events --------------------------------------------------- */

int engine_begin_epoch(struct engine *e, uint64_t epoch, struct nf_error *err)
{
    int fds[HANDOFF_FDS_MAX] = {-1, -1, -1};
    int rc = 0, fd = e->setup->out_fd;

    output_end(e->out);
    if (e->setup->output == OUTPUT_STREAMER) {
        rc = ask(e, HANDOFF_STREAM, epoch, 1, 1, fds, err);
        fd = fds[0];
    } else {
        rc = ask(e, HANDOFF_HELLO, epoch, 1, 0, fds, err);
    }
    if (rc < 0)
        return rc;
    return output_begin(e->out, fd, epoch, 1, err);
}

int engine_cut_output(struct engine *e, uint64_t offset, struct nf_error *err)
{
    int fd = e->setup->out_fd;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
        return 0;
    /* Somebody may have taken it away meanwhile. */
    offset = offset < (uint64_t)st.st_size ? offset : (uint64_t)st.st_size;
    if (ftruncate(fd, (off_t)offset) < 0 || lseek(fd, (off_t)offset, SEEK_SET) < 0)
        return nf_fail(err, NF_EIO, "output: %s", strerror(errno));
    return 0;
}

int engine_resume_epoch(struct engine *e, uint64_t epoch, uint64_t next_seq, uint64_t offset,
                        struct nf_error *err)
{
    int fds[HANDOFF_FDS_MAX] = {-1, -1, -1};
    int rc, fd = e->setup->out_fd;

    if (e->setup->output == OUTPUT_STREAMER) {
        rc = ask(e, HANDOFF_STREAM, epoch, next_seq, 1, fds, err);
        fd = fds[0];
    } else {
        rc = engine_cut_output(e, offset, err);
        if (rc == 0 && lseek(fd, 0, SEEK_CUR) <= 0) /* a pipe, or an empty file */
            rc = ask(e, HANDOFF_HELLO, epoch, next_seq, 0, fds, err);
    }
    if (rc < 0)
        return rc;
    return output_begin(e->out, fd, epoch, next_seq, err);
}

/* Send @ev as the next one of the epoch. */
int engine_emit(struct engine *e, struct nf_event *ev, struct nf_error *err)
{
    ev->epoch = e->epoch;
    ev->seq = e->next_seq;
    if (e->hold) {
        int rc = nf_batch_writer_add(e->hold, ev, err);

        if (rc < 0)
            return rc;
    } else {
        int rc = output_event(e->out, ev, err);

        if (rc < 0)
            return rc;
    }
    e->next_seq++;
    return 0;
}

/* bdi_options.event: the engine counts without the daemon's own events. */
int engine_event(void *opaque, const struct nf_event *ev, struct nf_error *err)
{
    struct engine *e = opaque;
    struct nf_event mine = *ev;

    if (ev->kind == NF_FS && ev->fs.state == NF_FS_ATTACHED)
        e->any_fs = true;
    if (ev->kind == NF_FS && ev->fs.state == NF_FS_UNSUPPORTED)
        snprintf(e->why_none, sizeof(e->why_none), "%s: %s", ev->fs.type ? ev->fs.type : "disk",
                 ev->fs.reason ? ev->fs.reason : "?");
    if (ev->kind == NF_ENTRY)
        mine.create.valid_seq += e->next_seq - ev->seq;
    return engine_emit(e, &mine, err);
}

static int make_bdi(struct engine *e, uint64_t first_seq, struct nf_error *err)
{
    const struct bdi_state_fds state = {e->setup->present_fd, e->setup->undo_fd};
    struct bdi_options bo = {
        .epoch = e->epoch,
        .first_seq = first_seq,
        .state = e->setup->state ? &state : NULL,
        .content_limit = e->setup->opt->content_limit,
        .snapshot = e->setup->opt->snapshot,
        .event = engine_event,
        .opaque = e,
        .data_mode = e->setup->opt->data_mode,
    };

    bdi_free(e->bdi);
    e->bdi = bdi_new(e->img, e->setup->shadow_fd, &bo, err);
    return e->bdi ? 0 : (err->code < 0 ? err->code : NF_ENOMEM);
}

int engine_new_bdi(struct engine *e, struct nf_error *err)
{
    bdi_free(e->bdi);
    e->bdi = NULL;
    e->next_seq = 1;
    if (ftruncate(e->setup->shadow_fd, 0) < 0 ||
        (e->setup->state &&
         (ftruncate(e->setup->present_fd, 0) < 0 || ftruncate(e->setup->undo_fd, 0) < 0)))
        return nf_fail(err, NF_EIO, "shadow: %s", strerror(errno));
    return make_bdi(e, 1, err);
}

int engine_resume_bdi(struct engine *e, uint64_t generation, struct nf_bytes state,
                      struct nf_error *err)
{
    int rc = make_bdi(e, e->next_seq, err);

    return rc < 0 ? rc : bdi_resume(e->bdi, generation, state, err);
}

/* --- start and end ------------------------------------------------------- */

/* What must be made while files can still be: runs before the sandbox, so it
 * looks at no byte of the guest. */
static int prepare(struct engine *e, struct nf_error *err)
{
    struct engine_setup *s = e->setup;
    const int keep[] = {s->control,  s->image_fd, s->nbd_sock,  s->tap.sock, s->tap.data,
                        s->tap.ctrl, s->trace_fd, s->shadow_fd, s->hold_fd,
                        s->kept_fd,  s->out_fd,    s->present_fd, s->undo_fd,
                        s->outbox_fds[0], s->outbox_fds[1], s->lock_fd};
    struct stat st;
    sigset_t set;

    if (sandbox_close_fds(keep, sizeof(keep) / sizeof(keep[0]), err) < 0)
        return NF_EIO;
    if (s->trace_fd >= 0) {
        if (fstat(s->image_fd, &st) < 0)
            return nf_fail(err, NF_EIO, "image %s: %s", s->opt->image, strerror(errno));
        /* The disk's size is in the trace: see follow_trace(). */
        e->overlay = nf_image_overlay_new(s->image_fd, (uint64_t)st.st_size, err);
        return e->overlay ? 0 : NF_EIO;
    }
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGUSR1);
    e->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (e->signals < 0)
        return nf_fail(err, NF_EIO, "signalfd: %s", strerror(errno));
    return 0;
}

static int open_image(struct engine *e, struct nf_error *err)
{
    struct engine_setup *s = e->setup;
    struct nf_tap_status st;
    struct nf_image *inner;

    if (s->nbd_sock >= 0) {
        struct image_nbd_options io = {
            .name = s->opt->image,
            .export_name = s->export_name,
            .reconnect = reconnect_image,
            .opaque = e,
        };

        inner = image_nbd_new(s->nbd_sock, &io, err);
    } else {
        inner = image_file_new(s->image_fd, s->opt->image, err);
    }
    if (!inner)
        return NF_EIO;
    e->settled = image_settled_new(inner, e->tap, err);
    if (!e->settled)
        return NF_ENOMEM;
    e->img = image_kept_new(e->settled, s->kept_fd, err);
    if (!e->img)
        return NF_ENOMEM;
    /* The likeliest mistake of all, and a silent one. */
    nf_tap_status(e->tap, &st);
    if (e->img->size / SECTOR != (st.disk_size + SECTOR - 1) / SECTOR &&
        e->img->size / SECTOR != st.disk_size / SECTOR)
        return nf_fail(err, NF_EINVAL,
                       "image %s: %llu bytes, but the disk of tap %s has %llu: not the same disk",
                       s->opt->image, (unsigned long long)e->img->size, s->opt->tap,
                       (unsigned long long)st.disk_size);
    return 0;
}

static int run(struct engine *e, struct nf_error *err)
{
    struct engine_setup *s = e->setup;
    struct output_options oo = {
        .kind = s->output,
        .host = s->opt->host,
        .vm = s->opt->vm,
        .disk = s->opt->disk,
        .reconnect = reconnect_stream,
        .opaque = e,
    };
    int rc = prepare(e, err);

    if (rc == 0)
        rc = sandbox_enter(err);
    if (rc < 0)
        return rc;
    e->out = output_new(&oo, err);
    if (!e->out)
        return NF_ENOMEM;
    if (s->trace_fd >= 0)
        return engine_follow_trace(e, err);

    e->tap = nf_tap_new(&s->tap, err);
    if (!e->tap)
        return nf_fail_prefix(err, "tap %s", s->opt->tap);
    rc = open_image(e, err);
    if (rc < 0)
        return rc;
    return engine_follow_tap(e, err);
}

int engine_main(struct engine_setup *setup)
{
    struct engine e = {
        .setup = setup,
        .signals = -1,
        .state_mode = setup->state ? STATE_VOID : STATE_NONE,
    };
    struct nf_error err = {0};
    int rc = run(&e, &err);

    if (rc < 0)
        say("%s", err.text[0] ? err.text : nf_status_name(rc));
    bdi_free(e.bdi);
    nf_batch_writer_free(e.hold);
    output_free(e.out);
    outbox_free(e.outbox);
    if (e.overlay)
        nf_image_overlay_free(e.overlay);
    else
        nf_image_free(e.img);
    nf_tap_free(e.tap);
    return rc < 0 ? 1 : 0;
}
