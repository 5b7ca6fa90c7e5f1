/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common/buffer.h"
#include "common/event_json.h"
#include "common/frame.h"

#define JSON_FLUSH (64u << 10)
#define WINDOW (64u << 20) /* bytes of frames not acknowledged */

/* An event's share of the backlog beside its content: a generous guess. */
#define EVENT_COST 512u

struct output {
    struct output_options opt;
    int fd;
    bool own_fd;
    bool lost;
    uint64_t epoch;
    uint64_t backlog; /* bytes added while lost */
    struct nf_batch_writer *frames;
    struct nf_buffer json;
};

struct output *output_new(const struct output_options *opt, struct nf_error *err)
{
    struct output *out = calloc(1, sizeof(*out));

    if (!out) {
        nf_fail(err, NF_ENOMEM, "output: out of memory");
        return NULL;
    }
    out->opt = *opt;
    out->fd = -1;
    return out;
}

static void close_fd(struct output *out)
{
    if (out->own_fd && out->fd >= 0)
        close(out->fd);
    out->fd = -1;
}

void output_free(struct output *out)
{
    if (!out)
        return;
    nf_batch_writer_free(out->frames);
    nf_buffer_release(&out->json);
    close_fd(out);
    free(out);
}

void output_end(struct output *out)
{
    nf_batch_writer_free(out->frames);
    out->frames = NULL;
    close_fd(out);
    out->lost = false;
}

int output_begin(struct output *out, int fd, uint64_t epoch, uint64_t next_seq,
                 struct nf_error *err)
{
    struct nf_batch_writer_options bo = {
        .fd = fd,
        .acks = out->opt.kind == OUTPUT_STREAMER,
        .epoch = epoch,
        .next_seq = next_seq,
        .window = WINDOW,
    };

    output_end(out);
    out->fd = fd;
    out->own_fd = out->opt.kind == OUTPUT_STREAMER;
    out->epoch = epoch;
    out->backlog = 0;
    if (out->opt.kind == OUTPUT_JSON)
        return 0;
    out->frames = nf_batch_writer_new(&bo, err);
    return out->frames ? 0 : NF_ENOMEM;
}

/* What the writer said. A streamer that went away is not an error here. */
static int judge(struct output *out, int rc)
{
    if (rc == NF_ECLOSED && out->opt.kind == OUTPUT_STREAMER) {
        /* The dead socket stays open until there is a new one: its number must
         * not come to mean something else while the writer still holds it. */
        if (!out->lost)
            shutdown(out->fd, SHUT_RDWR);
        out->lost = true;
        return 0;
    }
    return rc;
}

static int json_write(struct output *out, struct nf_error *err)
{
    size_t done = 0;

    while (done < out->json.len) {
        ssize_t n = write(out->fd, out->json.data + done, out->json.len - done);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return nf_fail(err, errno == EPIPE ? NF_ECLOSED : NF_EIO, "output: write: %s",
                           strerror(errno));
        done += (size_t)n;
    }
    nf_buffer_clear(&out->json);
    return 0;
}

static int json_event(struct output *out, const struct nf_event *ev, struct nf_error *err)
{
    struct nf_event stamped = *ev;
    int rc;

    stamped.source.host = out->opt.host;
    stamped.source.vm = out->opt.vm;
    stamped.source.disk = out->opt.disk;
    rc = nf_event_json(&stamped, true, &out->json, err);
    if (rc == 0 && out->json.len >= JSON_FLUSH)
        rc = json_write(out, err);
    return rc;
}

int output_event(struct output *out, const struct nf_event *ev, struct nf_error *err)
{
    int rc;

    if (out->opt.kind == OUTPUT_JSON)
        return json_event(out, ev, err);
    if (out->lost && out->backlog > WINDOW) {
        rc = out->opt.reconnect(out->opt.opaque, err);
        if (rc < 0)
            return rc;
    }
    rc = judge(out, nf_batch_writer_add(out->frames, ev, err));
    if (out->lost) {
        out->backlog += EVENT_COST;
        if (ev->kind == NF_WRITE)
            out->backlog += ev->write.data.len;
    }
    return rc;
}

int output_flush(struct output *out, struct nf_error *err)
{
    if (out->opt.kind == OUTPUT_JSON)
        return json_write(out, err);
    return judge(out, nf_batch_writer_flush(out->frames, err));
}

int output_drain(struct output *out, int timeout_ms, struct nf_error *err)
{
    int rc = output_flush(out, err);

    while (rc == 0 && out->opt.kind == OUTPUT_STREAMER) {
        if (out->lost) {
            /* With a deadline, a streamer that is away has missed it. */
            if (timeout_ms >= 0)
                return 1;
            rc = out->opt.reconnect(out->opt.opaque, err);
            continue;
        }
        rc = judge(out, nf_batch_writer_drain(out->frames, timeout_ms, err));
        if (!out->lost)
            break;
    }
    return rc;
}

int output_fd(const struct output *out)
{
    return out->opt.kind == OUTPUT_STREAMER && !out->lost ? out->fd : -1;
}

int output_poll(struct output *out, struct nf_error *err)
{
    if (output_fd(out) < 0)
        return 0;
    return judge(out, nf_batch_writer_poll(out->frames, err));
}

bool output_lost(const struct output *out)
{
    return out->lost;
}

uint64_t output_acked(const struct output *out)
{
    return nf_batch_writer_acked(out->frames);
}

uint64_t output_epoch(const struct output *out)
{
    return out->epoch;
}

int output_resume(struct output *out, int fd, struct nf_error *err)
{
    int old = out->fd, rc;

    out->fd = fd;
    out->lost = false;
    out->backlog = 0;
    rc = judge(out, nf_batch_writer_resume(out->frames, fd, err));
    if (old >= 0)
        close(old);
    return rc;
}

struct nf_batch_writer *output_writer(const struct output *out)
{
    return out->frames;
}

int output_stored(struct output *out, struct nf_error *err)
{
    return judge(out, nf_batch_writer_stored(out->frames, err));
}
