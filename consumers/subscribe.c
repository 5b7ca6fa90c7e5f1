/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "consumers/subscribe.h"

#include <errno.h>
#include <fnmatch.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <hiredis/hiredis.h>
#include <zstd.h>

#include "common/event_pb.h"
#include "common/frame.h"
#include "common/redis_uri.h"

#define TIMEOUT_MS 5000
/* Plain bytes of one stream entry: a frame, and the source in each event. */
#define BATCH_MAX (64ull * NF_FRAME_MAX)
#define STREAM_COUNT "16"
/* Memory to decode one message or entry; see frame.c. */
#define ARENA_FOR(len) ((size_t)(len) * 32 + 65536)

/* Where a disk stands. */
struct source {
    struct source *next;
    char *name; /* host/vm/disk */
    uint64_t epoch, seq; /* last delivered (or passed over) */
};

struct nf_subscription {
    const struct nf_redis_uri *uri;
    const struct nf_selection *sel;
    nf_event_fn *event;
    nf_notice_fn *notice;
    void *opaque;
    redisContext *pubsub;
    redisContext *query; /* for streams; null until needed */
    struct source *sources;
    struct nf_arena arena;
    struct nf_buffer plain; /* the batch at hand */
    unsigned backoff_ms;
    bool catch_up;  /* connected again: the streams are to be read first */
    bool backlog_read;
    bool event_said; /* it was the callback that returned the value at hand */
};

static void notice(struct nf_subscription *s, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

static void notice(struct nf_subscription *s, const char *fmt, ...)
{
    char text[600];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    if (s->notice)
        s->notice(s->opaque, text);
}

static bool glob_matches(const char *glob, const char *text)
{
    return !glob || (text && fnmatch(glob, text, 0) == 0);
}

static bool path_matches(const struct nf_selection *sel, struct nf_bytes path)
{
    char *text = malloc(path.len + 1);
    bool ok = false;

    if (!text)
        return false;
    memcpy(text, path.data, path.len);
    text[path.len] = '\0';
    for (size_t i = 0; !ok && i < sel->npaths; i++)
        ok = fnmatch(sel->paths[i], text, 0) == 0;
    free(text);
    return ok;
}

bool nf_selection_matches(const struct nf_selection *sel, const struct nf_event *ev)
{
    if (!glob_matches(sel->host, ev->source.host) || !glob_matches(sel->vm, ev->source.vm) ||
        !glob_matches(sel->disk, ev->source.disk))
        return false;
    if (sel->kinds && (ev->kind >= 64 || !(sel->kinds >> ev->kind & 1)))
        return false;
    if (!sel->npaths)
        return true;
    for (size_t i = 0; i < ev->npaths; i++) {
        if (path_matches(sel, ev->paths[i]))
            return true;
    }
    return (ev->kind == NF_RENAME || ev->kind == NF_EXCHANGE) &&
           path_matches(sel, ev->rename.new_path);
}

static struct source *source_get(struct nf_subscription *s, const char *name)
{
    struct source *src;

    for (src = s->sources; src; src = src->next) {
        if (strcmp(src->name, name) == 0)
            return src;
    }
    src = calloc(1, sizeof(*src));
    if (!src)
        return NULL;
    src->name = strdup(name);
    if (!src->name) {
        free(src);
        return NULL;
    }
    src->next = s->sources;
    s->sources = src;
    return src;
}

/* Deliver @ev unless it was, or the selection does not want it. */
static int deliver(struct nf_subscription *s, struct source *src, const struct nf_event *ev,
                   struct nf_error *err)
{
    if (ev->epoch < src->epoch || (ev->epoch == src->epoch && ev->seq <= src->seq))
        return 0;
    src->epoch = ev->epoch;
    src->seq = ev->seq;
    if (nf_selection_matches(s->sel, ev)) {
        int ret = s->event(s->opaque, ev, err);

        s->event_said = ret != 0;
        return ret;
    }
    return 0;
}

/* A reply that is not an error, or null with @err filled. A connection that
 * was lost since it was last used is replaced. */
static redisReply *query(struct nf_subscription *s, int argc, const char **argv,
                         struct nf_error *err)
{
    for (int attempt = 0;; attempt++) {
        bool fresh = !s->query;
        redisReply *r;

        if (!s->query)
            s->query = nf_redis_connect(s->uri, TIMEOUT_MS, err);
        if (!s->query)
            return NULL;
        r = redisCommandArgv(s->query, argc, argv, NULL);
        if (r && r->type != REDIS_REPLY_ERROR)
            return r;
        nf_fail(err, NF_EIO, "Redis: %s: %s", argv[0], r ? r->str : s->query->errstr);
        if (r) {
            freeReplyObject(r);
            return NULL;
        }
        redisFree(s->query);
        s->query = NULL;
        if (fresh || attempt)
            return NULL;
    }
}

/* One entry of a stream: the zstd'd batch in field z. */
static int deliver_entry(struct nf_subscription *s, struct source *src, const redisReply *fields,
                         struct nf_error *err)
{
    struct nf_batch batch;
    int ret = 0;

    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        const redisReply *key = fields->element[i], *value = fields->element[i + 1];
        unsigned long long size;
        size_t got;

        if (key->type != REDIS_REPLY_STRING || value->type != REDIS_REPLY_STRING ||
            key->len != 1 || key->str[0] != 'z')
            continue;
        size = ZSTD_getFrameContentSize(value->str, value->len);
        if (size > BATCH_MAX) /* as is what zstd says when it does not know */
            return nf_fail(err, NF_EFORMAT, "stream of %s: an entry is not a batch", src->name);
        nf_buffer_clear(&s->plain);
        if (!nf_buffer_reserve(&s->plain, size))
            return nf_fail(err, NF_ENOMEM, "out of memory");
        got = ZSTD_decompress(s->plain.data, size, value->str, value->len);
        if (ZSTD_isError(got))
            return nf_fail(err, NF_EFORMAT, "stream of %s: %s", src->name, ZSTD_getErrorName(got));
        nf_arena_reset(&s->arena);
        s->arena.limit = ARENA_FOR(got);
        ret = nf_batch_decode(&s->arena, s->plain.data, got, &batch, err);
        for (size_t j = 0; ret == 0 && j < batch.nevents; j++)
            ret = deliver(s, src, &batch.events[j], err);
        return ret;
    }
    return nf_fail(err, NF_EFORMAT, "stream of %s: an entry without a batch", src->name);
}

/* Deliver what the stream of @src has after src->epoch:src->seq; up to and
 * including @epoch:@seq if @epoch is not 0. */
static int read_stream(struct nf_subscription *s, struct source *src, uint64_t epoch, uint64_t seq,
                       struct nf_error *err)
{
    char key[NF_STREAM_KEY_MAX + 16], from[72];
    char id[64];
    int ret = 0;

    snprintf(key, sizeof(key), "nearfield:{%s}", src->name);
    snprintf(from, sizeof(from), "(%llu-%llu", (unsigned long long)src->epoch,
             (unsigned long long)src->seq);
    while (ret == 0) {
        const char *argv[] = {"XRANGE", key, src->epoch || src->seq ? from : "-", "+", "COUNT",
                              STREAM_COUNT};
        redisReply *r = query(s, 6, argv, err);
        size_t n = 0;

        if (!r)
            return NF_EIO;
        if (r->type != REDIS_REPLY_ARRAY)
            ret = nf_fail(err, NF_EIO, "reading stream %s: unexpected reply", key);
        for (; ret == 0 && n < r->elements; n++) {
            const redisReply *e = r->element[n];

            if (e->type != REDIS_REPLY_ARRAY || e->elements != 2 ||
                e->element[0]->type != REDIS_REPLY_STRING || e->element[0]->len >= sizeof(id) ||
                e->element[1]->type != REDIS_REPLY_ARRAY) {
                ret = nf_fail(err, NF_EFORMAT, "reading stream %s: unexpected entry", key);
                break;
            }
            memcpy(id, e->element[0]->str, e->element[0]->len + 1);
            ret = deliver_entry(s, src, e->element[1], err);
        }
        freeReplyObject(r);
        if (ret || n == 0 ||
            (epoch && (src->epoch > epoch || (src->epoch == epoch && src->seq >= seq))))
            break;
        snprintf(from, sizeof(from), "(%s", id);
    }
    return ret;
}

/* Every disk that has a stream, from where the selection says. */
static int read_backlog(struct nf_subscription *s, struct nf_error *err)
{
    char cursor[32] = "0";
    int ret = 0;

    do {
        const char *argv[] = {"SCAN", cursor, "MATCH", "nearfield:{*}", "COUNT", "1000",
                              "TYPE", "stream"};
        redisReply *r, *keys;

        r = query(s, 8, argv, err);
        if (!r)
            return NF_EIO;
        if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
            r->element[0]->type != REDIS_REPLY_STRING ||
            r->element[0]->len >= sizeof(cursor) || r->element[1]->type != REDIS_REPLY_ARRAY) {
            ret = nf_fail(err, NF_EIO, "listing streams: unexpected reply");
            freeReplyObject(r);
            break;
        }
        memcpy(cursor, r->element[0]->str, r->element[0]->len + 1);
        keys = r->element[1];
        for (size_t i = 0; ret == 0 && i < keys->elements; i++) {
            char host[NF_SOURCE_NAME_MAX + 1], vm[NF_SOURCE_NAME_MAX + 1],
                disk[NF_SOURCE_NAME_MAX + 1], name[NF_STREAM_KEY_MAX];
            struct source *src;

            if (keys->element[i]->type != REDIS_REPLY_STRING ||
                sscanf(keys->element[i]->str, "nearfield:{%128[^/]/%128[^/]/%128[^/}]}", host, vm,
                       disk) != 3 ||
                !glob_matches(s->sel->host, host) || !glob_matches(s->sel->vm, vm) ||
                !glob_matches(s->sel->disk, disk))
                continue;
            snprintf(name, sizeof(name), "%s/%s/%s", host, vm, disk);
            src = source_get(s, name);
            if (!src) {
                ret = nf_fail(err, NF_ENOMEM, "out of memory");
                break;
            }
            if (s->sel->since == NF_SINCE_SEQ && src->epoch == 0) {
                src->epoch = s->sel->epoch;
                src->seq = s->sel->seq;
            }
            ret = read_stream(s, src, 0, 0, err);
        }
        freeReplyObject(r);
    } while (ret == 0 && strcmp(cursor, "0") != 0);
    return ret;
}

/* Everything of the wanted disks, or only channels under the wanted paths? */
static bool sees_all(const struct nf_subscription *s)
{
    return s->sel->npaths == 0;
}

static int fill_hole(struct nf_subscription *s, struct source *src, const struct nf_event *ev,
                     struct nf_error *err)
{
    uint64_t was = src->seq, was_epoch = src->epoch;
    /* The event lives in the arena that reading the stream reuses. */
    uint64_t epoch = ev->epoch, seq = ev->seq;
    struct nf_arena kept = s->arena;
    int ret;

    nf_arena_init(&s->arena, 0);
    ret = read_stream(s, src, epoch, seq - 1, err);
    nf_arena_release(&s->arena);
    s->arena = kept;
    if (ret)
        return ret;
    if (was_epoch != epoch)
        notice(s, "%s: epoch %llu began; what was missed of it was taken from the stream",
               src->name, (unsigned long long)epoch);
    else if (src->seq + 1 < seq)
        notice(s, "%s: events %llu to %llu of epoch %llu are lost: the stream has them no more",
               src->name, (unsigned long long)src->seq + 1, (unsigned long long)seq - 1,
               (unsigned long long)epoch);
    else
        notice(s, "%s: %llu events missed on the channel were taken from the stream", src->name,
               (unsigned long long)(seq - 1 - was));
    return 0;
}

static int take_message(struct nf_subscription *s, const redisReply *payload, struct nf_error *err)
{
    char name[NF_STREAM_KEY_MAX];
    struct source *src;
    struct nf_event ev;
    int ret;

    nf_arena_reset(&s->arena);
    s->arena.limit = ARENA_FOR(payload->len);
    ret = nf_event_decode(&s->arena, payload->str, payload->len, &ev, err);
    if (ret < 0) {
        /* Anyone may publish there: what is not an event is passed over. */
        notice(s, "a message that is not an event: %s", err ? err->text : "");
        return 0;
    }
    if (!ev.source.host || !ev.source.vm || !ev.source.disk ||
        !nf_source_name_valid(ev.source.host) || !nf_source_name_valid(ev.source.vm) ||
        !nf_source_name_valid(ev.source.disk))
        return 0;
    snprintf(name, sizeof(name), "%s/%s/%s", ev.source.host, ev.source.vm, ev.source.disk);
    src = source_get(s, name);
    if (!src)
        return nf_fail(err, NF_ENOMEM, "out of memory");
    if (sees_all(s) && src->seq &&
        (src->epoch == ev.epoch ? ev.seq > src->seq + 1 : src->epoch < ev.epoch && ev.seq > 1)) {
        ret = fill_hole(s, src, &ev, err);
        if (ret)
            return ret < 0 && !s->event_said ? NF_ECLOSED : ret;
    }
    return deliver(s, src, &ev, err);
}

static int subscribe_one(redisContext *c, const char *pattern, struct nf_error *err)
{
    const char *argv[] = {"PSUBSCRIBE", pattern};
    redisReply *r = redisCommandArgv(c, 2, argv, NULL);
    int ret = 0;

    if (!r)
        return nf_fail(err, NF_EIO, "Redis: subscribing: %s", c->errstr);
    if (r->type == REDIS_REPLY_ERROR)
        ret = nf_fail(err, NF_EIO, "Redis: subscribing: %s", r->str);
    freeReplyObject(r);
    return ret;
}

static int connect_pubsub(struct nf_subscription *s, struct nf_error *err)
{
    const struct nf_selection *sel = s->sel;
    char prefix[1024];
    int ret = 0;

    s->pubsub = nf_redis_connect(s->uri, TIMEOUT_MS, err);
    if (!s->pubsub)
        return err ? err->code : NF_EIO;
    /* Redis' * crosses colons, so that disk* also covers disk.pN; what matches
     * too much is sorted out after decoding. */
    snprintf(prefix, sizeof(prefix), "nearfield:%s:%s:%s*:", sel->host ? sel->host : "*",
             sel->vm ? sel->vm : "*", sel->disk ? sel->disk : "");
    if (!sel->npaths) {
        char pattern[sizeof(prefix) + 1];

        snprintf(pattern, sizeof(pattern), "%s*", prefix);
        ret = subscribe_one(s->pubsub, pattern, err);
    }
    for (size_t i = 0; ret == 0 && i < sel->npaths; i++) {
        char *pattern = NULL;

        if (asprintf(&pattern, "%s%s", prefix, sel->paths[i]) < 0)
            return nf_fail(err, NF_ENOMEM, "out of memory");
        ret = subscribe_one(s->pubsub, pattern, err);
        free(pattern);
    }
    return ret;
}

struct nf_subscription *nf_subscribe(const struct nf_redis_uri *uri, const struct nf_selection *sel,
                                     nf_event_fn *event, nf_notice_fn *notice_fn, void *opaque,
                                     struct nf_error *err)
{
    struct nf_subscription *s = calloc(1, sizeof(*s));

    if (!s) {
        nf_fail(err, NF_ENOMEM, "out of memory");
        return NULL;
    }
    s->uri = uri;
    s->sel = sel;
    s->event = event;
    s->notice = notice_fn;
    s->opaque = opaque;
    nf_arena_init(&s->arena, 0);
    /* Subscribed first, so that nothing falls between backlog and channel. */
    if (connect_pubsub(s, err) < 0) {
        nf_subscription_free(s);
        return NULL;
    }
    return s;
}

void nf_subscription_free(struct nf_subscription *s)
{
    if (!s)
        return;
    while (s->sources) {
        struct source *src = s->sources;

        s->sources = src->next;
        free(src->name);
        free(src);
    }
    if (s->pubsub)
        redisFree(s->pubsub);
    if (s->query)
        redisFree(s->query);
    nf_arena_release(&s->arena);
    nf_buffer_release(&s->plain);
    free(s);
}

/* The connection is of no more use: the next wait begins a new one. */
static int lost(struct nf_subscription *s, const char *why)
{
    notice(s, "the connection to Redis is lost (%s); connecting again", why);
    redisFree(s->pubsub);
    s->pubsub = NULL;
    return 0;
}

static int reconnect(struct nf_subscription *s, int timeout_ms)
{
    struct nf_error again;
    int pause;

    s->backoff_ms = s->backoff_ms ? s->backoff_ms * 2 : 50;
    s->backoff_ms = s->backoff_ms < 2000 ? s->backoff_ms : 2000;
    pause = (int)s->backoff_ms;
    /* poll(2), so that a signal ends it. */
    if (poll(NULL, 0, timeout_ms >= 0 && timeout_ms < pause ? timeout_ms : pause) < 0)
        return 0;
    if (connect_pubsub(s, &again) < 0) {
        if (s->pubsub)
            redisFree(s->pubsub);
        s->pubsub = NULL;
        return 0; /* the next call tries again */
    }
    s->backoff_ms = 0;
    notice(s, "connected to Redis again");
    s->catch_up = true;
    return 0;
}

/* What was published while there was no connection. With --path, too: what
 * comes after the last event that was seen. */
static int catch_up(struct nf_subscription *s, struct nf_error *err)
{
    for (struct source *src = s->sources; src; src = src->next) {
        int ret = src->epoch ? read_stream(s, src, 0, 0, err) : 0;

        if (ret)
            return ret;
    }
    return 0;
}

/* Take every message that has arrived already. */
static int drain(struct nf_subscription *s, bool *any, struct nf_error *err)
{
    void *reply = NULL;
    int ret = 0;

    while (ret == 0) {
        redisReply *r;

        if (redisGetReplyFromReader(s->pubsub, &reply) != REDIS_OK)
            return NF_ECLOSED;
        if (!reply)
            return 0;
        *any = true;
        r = reply;
        /* "pmessage" pattern channel payload */
        if (r->type == REDIS_REPLY_ARRAY && r->elements == 4 &&
            r->element[3]->type == REDIS_REPLY_STRING)
            ret = take_message(s, r->element[3], err);
        freeReplyObject(r);
    }
    return ret;
}

int nf_subscription_wait(struct nf_subscription *s, int timeout_ms, struct nf_error *err)
{
    bool any = false;
    struct pollfd p;
    int ret;

    s->event_said = false;
    if (s->sel->since != NF_SINCE_NOW && !s->backlog_read) {
        ret = read_backlog(s, err);
        if (ret)
            return ret;
        s->backlog_read = true;
    }
    if (!s->pubsub)
        return reconnect(s, timeout_ms);
    if (s->catch_up) {
        ret = catch_up(s, err);
        if (ret)
            return ret < 0 && !s->event_said ? lost(s, err ? err->text : "") : ret;
        s->catch_up = false;
    }
    ret = drain(s, &any, err);
    if (ret == NF_ECLOSED && !s->event_said)
        return lost(s, s->pubsub->err ? s->pubsub->errstr : err ? err->text : "");
    if (ret || any)
        return ret;
    p = (struct pollfd){.fd = s->pubsub->fd, .events = POLLIN};
    ret = poll(&p, 1, timeout_ms);
    if (ret < 0 && errno != EINTR)
        return nf_fail(err, NF_EIO, "poll: %s", strerror(errno));
    if (ret <= 0)
        return 0;
    if (redisBufferRead(s->pubsub) != REDIS_OK)
        return lost(s, s->pubsub->errstr);
    ret = drain(s, &any, err);
    if (ret == NF_ECLOSED && !s->event_said)
        return lost(s, s->pubsub->err ? s->pubsub->errstr : err ? err->text : "");
    return ret;
}
