/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/frame.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/event_pb_priv.h"

/* The least that is read at once, so that small frames come many per call. */
#define READ_CHUNK 65536u

/* Memory that decoding may take, per byte of input and beyond. Messages of
 * ours need some 20 times their size; hostile ones of empty events 300. */
#define ARENA_PER_BYTE 32u
#define ARENA_EXTRA 65536u

static int put_frame(struct nf_buffer *out, const Nearfield__V1__Frame *m, struct nf_error *err)
{
    size_t size = nearfield__v1__frame__get_packed_size(m);
    uint8_t *to = nf_buffer_reserve(out, 4 + size);

    if (!to)
        return nf_fail(err, NF_ENOMEM, "frame: out of memory");
    nf_put_le32(to, (uint32_t)size);
    nearfield__v1__frame__pack(m, to + 4);
    out->len += 4 + size;
    return 0;
}

static bool name_allowed(const char *name)
{
    return *name == '\0' || nf_source_name_valid(name);
}

int nf_frame_put_hello(struct nf_buffer *out, const struct nf_hello *hello, struct nf_error *err)
{
    Nearfield__V1__Frame frame = NEARFIELD__V1__FRAME__INIT;
    Nearfield__V1__Hello m = NEARFIELD__V1__HELLO__INIT;

    if (!name_allowed(hello->host) || !name_allowed(hello->vm) || !name_allowed(hello->disk))
        return nf_fail(err, NF_EINVAL,
                       "host, vm and disk are 1 to %d characters of A-Z a-z 0-9 . _ -",
                       NF_SOURCE_NAME_MAX);
    m.version = hello->version;
    m.host = (char *)hello->host;
    m.vm = (char *)hello->vm;
    m.disk = (char *)hello->disk;
    m.epoch = hello->epoch;
    m.next_seq = hello->next_seq;
    frame.body_case = NEARFIELD__V1__FRAME__BODY_HELLO;
    frame.hello = &m;
    return put_frame(out, &frame, err);
}

int nf_frame_put_ack(struct nf_buffer *out, const struct nf_ack *ack, struct nf_error *err)
{
    Nearfield__V1__Frame frame = NEARFIELD__V1__FRAME__INIT;
    Nearfield__V1__Ack m = NEARFIELD__V1__ACK__INIT;

    m.epoch = ack->epoch;
    m.last_seq = ack->last_seq;
    frame.body_case = NEARFIELD__V1__FRAME__BODY_ACK;
    frame.ack = &m;
    return put_frame(out, &frame, err);
}

int nf_frame_write_hello(int fd, const struct nf_hello *hello, struct nf_error *err)
{
    struct nf_buffer b = { 0 };
    int ret = nf_frame_put_hello(&b, hello, err);

    for (size_t done = 0; ret == 0 && done < b.len;) {
        ssize_t n = write(fd, b.data + done, b.len - done);

        if (n >= 0)
            done += (size_t)n;
        else if (errno != EINTR)
            ret = nf_fail(err, errno == EPIPE || errno == ECONNRESET ? NF_ECLOSED : NF_EIO,
                          "write HELLO: %s", strerror(errno));
    }
    nf_buffer_release(&b);
    return ret;
}

static int from_hello(const Nearfield__V1__Hello *m, struct nf_hello *hello, struct nf_error *err)
{
    if (!name_allowed(m->host) || !name_allowed(m->vm) || !name_allowed(m->disk))
        return nf_fail(err, NF_EFORMAT, "HELLO with a host, vm or disk that is not allowed");
    *hello = (struct nf_hello){ .version = m->version,
                                .epoch = m->epoch,
                                .next_seq = m->next_seq };
    strcpy(hello->host, m->host); /* checked: at most NF_SOURCE_NAME_MAX */
    strcpy(hello->vm, m->vm);
    strcpy(hello->disk, m->disk);
    return 0;
}

int nf_frame_decode(struct nf_arena *arena, const void *data, size_t len, struct nf_frame *frame,
                    struct nf_error *err)
{
    ProtobufCAllocator alloc = nf_arena_allocator(arena);
    Nearfield__V1__Frame *m;

    memset(frame, 0, sizeof(*frame));
    if (len > NF_FRAME_MAX)
        return nf_fail(err, NF_EFORMAT, "frame of %zu bytes is too large", len);
    m = nearfield__v1__frame__unpack(&alloc, len, data);
    if (!m)
        return nf_fail(err, NF_EFORMAT, "not a frame, or over the memory bound (%zu bytes)", len);
    switch (m->body_case) {
    case NEARFIELD__V1__FRAME__BODY_HELLO:
        frame->type = NF_FRAME_HELLO;
        return from_hello(m->hello, &frame->hello, err);
    case NEARFIELD__V1__FRAME__BODY_BATCH:
        frame->type = NF_FRAME_BATCH;
        return nf_batch_from_pb(arena, m->batch, &frame->batch, err);
    case NEARFIELD__V1__FRAME__BODY_ACK:
        frame->type = NF_FRAME_ACK;
        frame->ack = (struct nf_ack){ m->ack->epoch, m->ack->last_seq };
        return 0;
    default:
        frame->type = NF_FRAME_UNKNOWN;
        return 0;
    }
}

/* Bytes [start, in.len) of @in are read and not yet given out. */
struct nf_frame_reader {
    int fd;
    struct nf_buffer in;
    size_t start;
    struct nf_arena arena;
};

struct nf_frame_reader *nf_frame_reader_new(int fd, struct nf_error *err)
{
    struct nf_frame_reader *r = calloc(1, sizeof(*r));

    if (!r) {
        nf_fail(err, NF_ENOMEM, "frame reader: out of memory");
        return NULL;
    }
    r->fd = fd;
    nf_arena_init(&r->arena, 0);
    return r;
}

void nf_frame_reader_free(struct nf_frame_reader *r)
{
    if (!r)
        return;
    nf_buffer_release(&r->in);
    nf_arena_release(&r->arena);
    free(r);
}

int nf_frame_next_raw(struct nf_frame_reader *r, struct nf_bytes *payload, struct nf_error *err)
{
    for (;;) {
        size_t have = r->in.len - r->start, want = 4;
        uint8_t *to;
        ssize_t n;

        if (have >= 4) {
            uint32_t len = nf_le32(r->in.data + r->start);

            if (len == 0 || len > NF_FRAME_MAX)
                return nf_fail(err, NF_EFORMAT, "frame of %u bytes (allowed: 1 to %u)", len,
                               NF_FRAME_MAX);
            want = 4 + (size_t)len;
            if (have >= want) {
                *payload = (struct nf_bytes){ r->in.data + r->start + 4, len };
                r->start += want;
                return NF_FRAME_READY;
            }
        }
        /* Memory grows with what arrives, not with what a length promises. */
        if (r->start) {
            nf_buffer_consume(&r->in, r->start);
            r->start = 0;
        }
        to = nf_buffer_reserve(&r->in, READ_CHUNK);
        if (!to)
            return nf_fail(err, NF_ENOMEM, "frame reader: out of memory");
        n = read(r->fd, to, r->in.cap - r->in.len);
        if (n > 0) {
            r->in.len += (size_t)n;
        } else if (n == 0) {
            if (r->in.len)
                return nf_fail(err, NF_ECLOSED, "the stream ends inside a frame");
            return NF_FRAME_END;
        } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
            return NF_FRAME_AGAIN;
        } else if (errno == ECONNRESET) {
            return nf_fail(err, NF_ECLOSED, "connection reset by the peer");
        } else if (errno != EINTR) {
            return nf_fail(err, NF_EIO, "read: %s", strerror(errno));
        }
    }
}

int nf_frame_next(struct nf_frame_reader *r, struct nf_frame *frame, struct nf_error *err)
{
    struct nf_bytes payload;
    int ret = nf_frame_next_raw(r, &payload, err);

    if (ret != NF_FRAME_READY)
        return ret;
    nf_arena_reset(&r->arena);
    r->arena.limit = payload.len * ARENA_PER_BYTE + ARENA_EXTRA;
    ret = nf_frame_decode(&r->arena, payload.data, payload.len, frame, err);
    return ret < 0 ? ret : NF_FRAME_READY;
}
