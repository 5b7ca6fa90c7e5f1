/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "streamer/publish.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zstd.h>

#include "common/event_pb_priv.h"

/* See frame.c: messages of ours need some 20 times their size. */
#define ARENA_PER_BYTE 32u
#define ARENA_EXTRA 65536u

struct nf_publisher {
    struct nf_publish_options opt;
    ZSTD_CCtx *zstd;
    struct nf_arena arena;
    struct nf_buffer channel; /* name of a channel */
    struct nf_buffer packed;  /* a serialized event or batch */
    struct nf_buffer z;       /* a compressed batch */
    struct nf_buffer plain;   /* content of an event */
};

struct nf_publisher *nf_publisher_new(const struct nf_publish_options *opt, struct nf_error *err)
{
    struct nf_publisher *p = calloc(1, sizeof(*p));

    if (p)
        p->zstd = ZSTD_createCCtx();
    if (!p || !p->zstd) {
        free(p);
        nf_fail(err, NF_ENOMEM, "publisher: out of memory");
        return NULL;
    }
    p->opt = *opt;
    ZSTD_CCtx_setParameter(p->zstd, ZSTD_c_compressionLevel, 1);
    nf_arena_init(&p->arena, 0);
    return p;
}

void nf_publisher_free(struct nf_publisher *p)
{
    if (!p)
        return;
    ZSTD_freeCCtx(p->zstd);
    nf_arena_release(&p->arena);
    nf_buffer_release(&p->channel);
    nf_buffer_release(&p->packed);
    nf_buffer_release(&p->z);
    nf_buffer_release(&p->plain);
    free(p);
}

static struct nf_bytes text(const char *s)
{
    return (struct nf_bytes){ (const uint8_t *)s, strlen(s) };
}

static int no_memory(struct nf_error *err)
{
    return nf_fail(err, NF_ENOMEM, "publish: out of memory");
}

/* Replace p->packed by the serialized @m. */
static int pack(struct nf_publisher *p, const ProtobufCMessage *m, struct nf_error *err)
{
    size_t size = protobuf_c_message_get_packed_size(m);
    uint8_t *to;

    nf_buffer_clear(&p->packed);
    to = nf_buffer_reserve(&p->packed, size);
    if (!to)
        return no_memory(err);
    p->packed.len = protobuf_c_message_pack(m, to);
    return 0;
}

static int publish_to(struct nf_publisher *p, const struct nf_event *ev, struct nf_bytes path,
                      struct nf_request *req, struct nf_error *err)
{
    char partition[16] = "";

    if (ev->source.partition)
        snprintf(partition, sizeof(partition), ".p%" PRIu32, ev->source.partition);
    nf_buffer_clear(&p->channel);
    if (nf_buffer_printf(&p->channel, "nearfield:%s:%s:%s%s:", ev->source.host, ev->source.vm,
                         ev->source.disk, partition) < 0 ||
        nf_buffer_append(&p->channel, path.data, path.len) < 0 ||
        nf_request_command(req, 3,
                           (struct nf_bytes[]){ text("PUBLISH"), nf_buffer_bytes(&p->channel),
                                                nf_buffer_bytes(&p->packed) }) < 0)
        return no_memory(err);
    return 0;
}

/* On channels content is plain, for stock tools, and short. */
static int pack_for_channel(struct nf_publisher *p, const struct nf_event *ev,
                            Nearfield__V1__Event *m, struct nf_error *err)
{
    Nearfield__V1__Write *w, saved;
    uint32_t flags = m->flags;
    struct nf_bytes plain;
    int ret;

    if (ev->kind != NF_WRITE)
        return pack(p, &m->base, err);
    w = m->write;
    saved = *w;
    ret = nf_event_content(ev, NF_CHANNEL_CONTENT_MAX, &p->plain, &plain, err);
    if (ret < 0)
        return ret;
    if (plain.len < w->plain_length)
        m->flags |= NF_EV_TRUNCATED;
    w->data = (ProtobufCBinaryData){ plain.len, (uint8_t *)plain.data };
    w->plain_length = plain.len;
    w->codec = NEARFIELD__V1__CODEC__CODEC_NONE;
    ret = pack(p, &m->base, err);
    *w = saved;
    m->flags = flags;
    return ret;
}

static int publish_event(struct nf_publisher *p, const struct nf_event *ev,
                         Nearfield__V1__Event *m, struct nf_request *req, struct nf_error *err)
{
    size_t start = req->commands.len;
    int ret = pack_for_channel(p, ev, m, err);

    if (ret == 0 && ev->npaths == 0)
        ret = publish_to(p, ev, text(""), req, err);
    for (size_t i = 0; ret == 0 && i < ev->npaths; i++)
        if (i == 0 || req->commands.len - start < NF_CHANNEL_EVENT_MAX)
            ret = publish_to(p, ev, ev->paths[i], req, err);
    if (ret == 0 && (ev->kind == NF_RENAME || ev->kind == NF_EXCHANGE) && ev->rename.new_path.len)
        ret = publish_to(p, ev, ev->rename.new_path, req, err);
    return ret;
}

static int add_to_stream(struct nf_publisher *p, const Nearfield__V1__Batch *batch,
                         const struct nf_hello *from, struct nf_request *req,
                         struct nf_published *out, struct nf_error *err)
{
    char key[NF_STREAM_KEY_MAX], id[48], length[24];
    size_t n;
    int ret = pack(p, &batch->base, err);

    if (ret < 0)
        return ret;
    nf_buffer_clear(&p->z);
    if (!nf_buffer_reserve(&p->z, ZSTD_compressBound(p->packed.len)))
        return no_memory(err);
    n = ZSTD_compress2(p->zstd, p->z.data, p->z.cap, p->packed.data, p->packed.len);
    if (ZSTD_isError(n))
        return nf_fail(err, NF_ENOMEM, "compress a batch: %s", ZSTD_getErrorName(n));
    p->z.len = n;
    nf_stream_key(key, from->host, from->vm, from->disk);
    snprintf(id, sizeof(id), "%" PRIu64 "-%" PRIu64, batch->epoch, batch->last_seq);
    snprintf(length, sizeof(length), "%lu", p->opt.stream_length);
    if (nf_request_command(req, 10,
                           (struct nf_bytes[]){ text("XADD"), text(key), text("MAXLEN"), text("~"),
                                                text(length), text(id), text("v"), text("1"),
                                                text("z"), nf_buffer_bytes(&p->z) }) < 0)
        return no_memory(err);
    out->z_len = n;
    out->z_at = req->commands.len - 2 - n; /* before the closing CRLF */
    return 0;
}

int nf_publish_batch(struct nf_publisher *p, const struct nf_hello *from, uint64_t next_seq,
                     struct nf_bytes payload, struct nf_request *req, struct nf_published *out,
                     struct nf_error *err)
{
    ProtobufCAllocator alloc = nf_arena_allocator(&p->arena);
    Nearfield__V1__Frame *frame;
    Nearfield__V1__Batch *m;
    struct nf_batch batch;
    int ret;

    nf_arena_reset(&p->arena);
    p->arena.limit = payload.len * ARENA_PER_BYTE + ARENA_EXTRA;
    frame = nearfield__v1__frame__unpack(&alloc, payload.len, payload.data);
    if (!frame)
        return nf_fail(err, NF_EFORMAT, "not a frame, or over the memory bound (%zu bytes)",
                       payload.len);
    if (frame->body_case != NEARFIELD__V1__FRAME__BODY_BATCH)
        return nf_fail(err, NF_EFORMAT, "a frame that is not a batch");
    m = frame->batch;
    if (m->epoch != from->epoch || m->first_seq != next_seq)
        return nf_fail(err, NF_EFORMAT,
                       "batch from %" PRIu64 ":%" PRIu64 " where %" PRIu64 ":%" PRIu64
                       " was expected",
                       m->epoch, m->first_seq, from->epoch, next_seq);

    /* Stamp: whatever the engine, which a guest may own, says about where its
     * events come from is replaced by what its opener said. */
    for (size_t i = 0; i < m->n_events; i++) {
        Nearfield__V1__Source *s = m->events[i]->source;

        if (!s) {
            s = nf_arena_alloc(&p->arena, sizeof(*s));
            if (!s)
                return no_memory(err);
            nearfield__v1__source__init(s);
            m->events[i]->source = s;
        }
        s->host = (char *)from->host;
        s->vm = (char *)from->vm;
        s->disk = (char *)from->disk;
    }
    ret = nf_batch_from_pb(&p->arena, m, &batch, err);
    for (size_t i = 0; ret == 0 && p->opt.channels && i < batch.nevents; i++)
        ret = publish_event(p, &batch.events[i], m->events[i], req, err);
    *out = (struct nf_published){ batch.first_seq, batch.last_seq, 0, 0 };
    if (ret == 0 && p->opt.streams)
        ret = add_to_stream(p, m, from, req, out, err);
    return ret;
}

/* Decompress; false if it is no batch that we could have made. */
static bool unpack(struct nf_bytes z, struct nf_buffer *out)
{
    unsigned long long size = ZSTD_getFrameContentSize(z.data, z.len);
    size_t n;

    /* Stamping adds the names to every event, so a batch may be larger here
     * than it was on the socket. */
    if (size == ZSTD_CONTENTSIZE_ERROR || size == ZSTD_CONTENTSIZE_UNKNOWN ||
        size > 64ull * NF_FRAME_MAX || !nf_buffer_reserve(out, size))
        return false;
    n = ZSTD_decompress(out->data, out->cap, z.data, z.len);
    if (ZSTD_isError(n))
        return false;
    out->len = n;
    return true;
}

bool nf_publish_same(struct nf_bytes a, struct nf_bytes b)
{
    struct nf_buffer pa = { 0 }, pb = { 0 };
    bool same = nf_bytes_equal(a, b) ||
                (unpack(a, &pa) && unpack(b, &pb) &&
                 nf_bytes_equal(nf_buffer_bytes(&pa), nf_buffer_bytes(&pb)));

    nf_buffer_release(&pa);
    nf_buffer_release(&pb);
    return same;
}
