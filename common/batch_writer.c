/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The sending side of frames, see frame.h.
 *
 * A finished frame is put into a list.  Without acknowledgements it leaves the
 * list when written; with them, when acknowledged, so that it can be sent
 * again on a new connection.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/frame.h"

#define DEFAULT_LIMIT (1u << 20)
#define DEFAULT_WINDOW (16u << 20)
/* A step is cut here, so that a frame with the largest event added on top,
 * and its own fields, still fits into NF_FRAME_MAX. */
#define CUT_AT (NF_FRAME_MAX - NF_EVENT_MAX - 65536u)
#define ACK_FRAME_MAX 64u

struct out_frame {
    struct out_frame *next;
    uint64_t last_seq;
    size_t len;
    size_t sent; /* on the present connection */
    bool stored; /* by the caller: may be sent though held back */
    uint8_t data[];
};

struct nf_batch_writer {
    struct nf_batch_writer_options opt;
    struct nf_event_encoder *enc;
    struct nf_buffer one;   /* an encoded event */
    struct nf_buffer batch; /* events of the batch being built, as fields of Batch */
    uint64_t first_seq;     /* of the batch being built */
    uint64_t next_seq;
    uint64_t acked;

    struct out_frame *head, *tail; /* oldest first */
    struct out_frame *unsent;      /* first one not wholly sent, or null */
    size_t queued;                 /* bytes in the list */
    bool hold;                     /* send only what is stored */
    size_t fresh;                  /* bytes in the list that wait for it */

    uint8_t in[ACK_FRAME_MAX + 4]; /* an acknowledgement being received */
    size_t in_len;
};

struct nf_batch_writer *nf_batch_writer_new(const struct nf_batch_writer_options *opt,
                                            struct nf_error *err)
{
    struct nf_batch_writer *w = calloc(1, sizeof(*w));

    if (!w) {
        nf_fail(err, NF_ENOMEM, "batch writer: out of memory");
        return NULL;
    }
    w->opt = *opt;
    if (!w->opt.limit)
        w->opt.limit = DEFAULT_LIMIT;
    if (w->opt.limit > CUT_AT)
        w->opt.limit = CUT_AT;
    if (!w->opt.window)
        w->opt.window = DEFAULT_WINDOW;
    w->next_seq = opt->next_seq;
    w->acked = opt->next_seq - 1;
    w->enc = nf_event_encoder_new(err);
    if (!w->enc) {
        free(w);
        return NULL;
    }
    return w;
}

static void drop_head(struct nf_batch_writer *w)
{
    struct out_frame *f = w->head;

    w->head = f->next;
    if (!w->head)
        w->tail = NULL;
    if (w->unsent == f)
        w->unsent = f->next;
    w->queued -= f->len;
    free(f);
}

void nf_batch_writer_free(struct nf_batch_writer *w)
{
    if (!w)
        return;
    while (w->head)
        drop_head(w);
    nf_event_encoder_free(w->enc);
    nf_buffer_release(&w->one);
    nf_buffer_release(&w->batch);
    free(w);
}

static int put_varint(uint8_t *to, uint64_t v)
{
    int n = 0;

    while (v >= 0x80) {
        to[n++] = (uint8_t)(v | 0x80);
        v >>= 7;
    }
    to[n++] = (uint8_t)v;
    return n;
}

#define TAG(field, wire) ((uint8_t)((field) << 3 | (wire)))
#define VARINT 0
#define LENGTH 2

/* A frame at the list's end, to be filled. */
static struct out_frame *append_frame(struct nf_batch_writer *w, uint64_t last_seq, size_t len,
                                      struct nf_error *err)
{
    struct out_frame *f = malloc(sizeof(*f) + len);

    if (!f) {
        nf_fail(err, NF_ENOMEM, "batch writer: out of memory");
        return NULL;
    }
    *f = (struct out_frame){.last_seq = last_seq, .len = len};
    if (w->tail)
        w->tail->next = f;
    else
        w->head = f;
    w->tail = f;
    if (!w->unsent)
        w->unsent = f;
    w->queued += len;
    w->fresh += w->hold ? len : 0;
    return f;
}

/* The first frame that is to be sent now, or null. */
static struct out_frame *to_send(const struct nf_batch_writer *w)
{
    return w->unsent && (!w->hold || w->unsent->stored) ? w->unsent : NULL;
}

/* Make a frame of the batch being built and append it to the list. The
 * messages around the events are written by hand: the events are packed
 * already, as they came. */
static int end_batch(struct nf_batch_writer *w, bool partial, struct nf_error *err)
{
    uint8_t fields[48], outer[16];
    size_t nfields = 0, nouter = 0, len;
    struct out_frame *f;

    if (w->batch.len == 0)
        return 0;
    fields[nfields++] = TAG(1, VARINT);
    nfields += (size_t)put_varint(fields + nfields, w->opt.epoch);
    fields[nfields++] = TAG(2, VARINT);
    nfields += (size_t)put_varint(fields + nfields, w->first_seq);
    fields[nfields++] = TAG(3, VARINT);
    nfields += (size_t)put_varint(fields + nfields, w->next_seq - 1);
    if (partial) {
        fields[nfields++] = TAG(5, VARINT);
        fields[nfields++] = 1;
    }
    outer[nouter++] = TAG(2, LENGTH);
    nouter += (size_t)put_varint(outer + nouter, nfields + w->batch.len);
    len = nouter + nfields + w->batch.len;

    f = append_frame(w, w->next_seq - 1, 4 + len, err);
    if (!f)
        return NF_ENOMEM;
    nf_put_le32(f->data, (uint32_t)len);
    memcpy(f->data + 4, outer, nouter);
    memcpy(f->data + 4 + nouter, fields, nfields);
    memcpy(f->data + 4 + nouter + nfields, w->batch.data, w->batch.len);
    nf_buffer_clear(&w->batch);
    return 0;
}

static int closed(struct nf_error *err)
{
    return nf_fail(err, NF_ECLOSED, "the streamer closed the connection");
}

/* One acknowledgement: everything up to it leaves the list. */
static int take_ack(struct nf_batch_writer *w, const struct nf_ack *ack, struct nf_error *err)
{
    if (ack->epoch != w->opt.epoch)
        return 0; /* left over from before */
    if (ack->last_seq >= w->next_seq)
        return nf_fail(err, NF_EFORMAT, "event %llu acknowledged that was never sent",
                       (unsigned long long)ack->last_seq);
    while (w->head && w->head != w->unsent && w->head->last_seq <= ack->last_seq)
        drop_head(w);
    if (ack->last_seq > w->acked)
        w->acked = ack->last_seq;
    return 0;
}

/* Read what is there; never blocks. */
static int take_in(struct nf_batch_writer *w, struct nf_error *err)
{
    for (;;) {
        ssize_t n = recv(w->opt.fd, w->in + w->in_len, sizeof(w->in) - w->in_len, MSG_DONTWAIT);
        size_t at = 0;

        if (n == 0)
            return closed(err);
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                return 0;
            if (errno == ECONNRESET)
                return closed(err);
            return nf_fail(err, NF_EIO, "receive from the streamer: %s", strerror(errno));
        }
        w->in_len += (size_t)n;
        while (w->in_len - at >= 4) {
            uint32_t len = nf_le32(w->in + at);
            struct nf_frame frame;
            struct nf_arena arena;
            int ret;

            if (len == 0 || len > ACK_FRAME_MAX)
                return nf_fail(err, NF_EFORMAT, "frame of %u bytes from the streamer", len);
            if (w->in_len - at < 4 + (size_t)len)
                break;
            nf_arena_init(&arena, 65536);
            ret = nf_frame_decode(&arena, w->in + at + 4, len, &frame, err);
            nf_arena_release(&arena);
            if (ret == 0 && frame.type == NF_FRAME_ACK)
                ret = take_ack(w, &frame.ack, err);
            if (ret < 0)
                return ret;
            at += 4 + (size_t)len;
        }
        memmove(w->in, w->in + at, w->in_len - at);
        w->in_len -= at;
    }
}

/* Send what the socket takes without blocking. */
static int send_some(struct nf_batch_writer *w, struct nf_error *err)
{
    struct out_frame *f;

    while ((f = to_send(w))) {
        ssize_t n = send(w->opt.fd, f->data + f->sent, f->len - f->sent,
                         MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                return 0;
            if (errno == EPIPE || errno == ECONNRESET)
                return closed(err);
            return nf_fail(err, NF_EIO, "send to the streamer: %s", strerror(errno));
        }
        f->sent += (size_t)n;
        if (f->sent == f->len)
            w->unsent = f->next;
    }
    return 0;
}

/* Write all of the list to a file or a pipe. */
static int write_all(struct nf_batch_writer *w, struct nf_error *err)
{
    struct out_frame *f;

    while ((f = to_send(w))) {
        ssize_t n = write(w->opt.fd, f->data + f->sent, f->len - f->sent);

        if (n < 0) {
            if (errno == EINTR)
                continue;
            return nf_fail(err, errno == EPIPE ? NF_ECLOSED : NF_EIO, "write events: %s",
                           strerror(errno));
        }
        f->sent += (size_t)n;
        if (f->sent == f->len) {
            w->acked = f->last_seq;
            drop_head(w);
        }
    }
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Move frames and acknowledgements until all is sent and at most @keep bytes
 * are unacknowledged. 1 when @timeout_ms (-1: none) passed first. */
static int pump(struct nf_batch_writer *w, size_t keep, int timeout_ms, struct nf_error *err)
{
    int64_t until = timeout_ms < 0 ? 0 : now_ms() + timeout_ms;

    for (;;) {
        struct pollfd p = { .fd = w->opt.fd, .events = POLLIN };
        int64_t left = -1;
        int ret;

        ret = send_some(w, err);
        if (ret == 0)
            ret = take_in(w, err);
        if (ret < 0)
            return ret;
        if (!to_send(w) && w->queued - w->fresh <= keep)
            return 0;
        if (timeout_ms >= 0) {
            left = until - now_ms();
            if (left <= 0)
                return 1;
        }
        if (to_send(w))
            p.events |= POLLOUT;
        if (poll(&p, 1, (int)left) < 0 && errno != EINTR)
            return nf_fail(err, NF_EIO, "poll: %s", strerror(errno));
    }
}

static int move(struct nf_batch_writer *w, struct nf_error *err)
{
    return w->opt.acks ? pump(w, w->opt.window, -1, err) : write_all(w, err);
}

int nf_batch_writer_add(struct nf_batch_writer *w, const struct nf_event *ev, struct nf_error *err)
{
    uint8_t head[16];
    int n = 0, ret;
    uint64_t seq = w->next_seq;

    if (ev->epoch != w->opt.epoch || ev->seq != seq)
        return nf_fail(err, NF_EINVAL, "event %llu:%llu where %llu:%llu was expected",
                       (unsigned long long)ev->epoch, (unsigned long long)ev->seq,
                       (unsigned long long)w->opt.epoch, (unsigned long long)seq);
    nf_buffer_clear(&w->one);
    ret = nf_event_encode(w->enc, ev, &w->one, err);
    if (ret < 0)
        return ret;
    head[n++] = TAG(4, LENGTH);
    n += put_varint(head + n, w->one.len);
    if (!nf_buffer_reserve(&w->batch, (size_t)n + w->one.len))
        return nf_fail(err, NF_ENOMEM, "batch writer: out of memory");
    if (w->batch.len == 0)
        w->first_seq = seq;
    nf_buffer_append(&w->batch, head, (size_t)n);
    nf_buffer_append(&w->batch, w->one.data, w->one.len);
    w->next_seq++;

    if (ev->kind == NF_COMMIT ? w->batch.len < w->opt.limit : w->batch.len < CUT_AT)
        return 0;
    ret = end_batch(w, ev->kind != NF_COMMIT, err);
    return ret < 0 || w->hold ? ret : move(w, err);
}

int nf_batch_writer_flush(struct nf_batch_writer *w, struct nf_error *err)
{
    int ret = end_batch(w, false, err);

    return ret < 0 ? ret : move(w, err);
}

int nf_batch_writer_poll(struct nf_batch_writer *w, struct nf_error *err)
{
    return w->opt.acks ? take_in(w, err) : 0;
}

int nf_batch_writer_drain(struct nf_batch_writer *w, int timeout_ms, struct nf_error *err)
{
    return w->opt.acks ? pump(w, 0, timeout_ms, err) : write_all(w, err);
}

int nf_batch_writer_resume(struct nf_batch_writer *w, int fd, struct nf_error *err)
{
    w->opt.fd = fd;
    w->in_len = 0;
    for (struct out_frame *f = w->head; f; f = f->next)
        f->sent = 0;
    w->unsent = w->head;
    return move(w, err);
}

void nf_batch_writer_hold(struct nf_batch_writer *w)
{
    w->hold = true;
}

int nf_batch_writer_end(struct nf_batch_writer *w, struct nf_error *err)
{
    return end_batch(w, false, err);
}

bool nf_batch_writer_next(const struct nf_batch_writer *w, const void **pos, bool fresh,
                          struct nf_stored_frame *frame)
{
    const struct out_frame *f = *pos ? ((const struct out_frame *)*pos)->next : w->head;

    while (f && fresh && f->stored)
        f = f->next;
    if (!f)
        return false;
    *frame = (struct nf_stored_frame){f->last_seq, {f->data, f->len}};
    *pos = f;
    return true;
}

int nf_batch_writer_stored(struct nf_batch_writer *w, struct nf_error *err)
{
    for (struct out_frame *f = w->head; f; f = f->next)
        f->stored = true;
    w->fresh = 0;
    return move(w, err);
}

int nf_batch_writer_load(struct nf_batch_writer *w, const struct nf_stored_frame *frame,
                         struct nf_error *err)
{
    struct out_frame *f;

    if (w->batch.len > 0 || frame->last_seq < w->next_seq)
        return nf_fail(err, NF_EINVAL, "batch up to event %llu where %llu was expected",
                       (unsigned long long)frame->last_seq, (unsigned long long)w->next_seq);
    f = append_frame(w, frame->last_seq, frame->bytes.len, err);
    if (!f)
        return NF_ENOMEM;
    memcpy(f->data, frame->bytes.data, frame->bytes.len);
    f->stored = true;
    w->next_seq = frame->last_seq + 1;
    return 0;
}

uint64_t nf_batch_writer_acked(const struct nf_batch_writer *w)
{
    return w->acked;
}

uint64_t nf_batch_writer_pending(const struct nf_batch_writer *w)
{
    return w->batch.len ? w->next_seq - w->first_seq : 0;
}
