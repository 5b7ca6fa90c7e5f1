/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "consumers/subscribe.h"

#include <errno.h>
#include <fnmatch.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <hiredis/hiredis.h>
#include <zstd.h>

#include "common/event_pb.h"
#include "common/redis_uri.h"

#define TIMEOUT_MS 5000
#define BATCH_MAX (16u << 20) /* plain bytes of one stream entry */
#define STREAM_COUNT "64"
#define ARENA_LIMIT ((size_t)256 << 20)

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
    uint8_t *plain; /* BATCH_MAX bytes once needed */
    unsigned backoff_ms;
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
    return nf_selection_matches(s->sel, ev) ? s->event(s->opaque, ev, err) : 0;
}

static int query_open(struct nf_subscription *s, struct nf_error *err)
{
    if (s->query && s->query->err) {
        redisFree(s->query);
        s->query = NULL;
    }
    if (!s->query)
        s->query = nf_redis_connect(s->uri, TIMEOUT_MS, err);
    return s->query ? 0 : (err ? err->code : NF_EIO);
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
        if (size > BATCH_MAX)
            return nf_fail(err, NF_EFORMAT, "stream of %s: an entry is not a batch", src->name);
        if (!s->plain && !(s->plain = malloc(BATCH_MAX)))
            return nf_fail(err, NF_ENOMEM, "out of memory");
        got = ZSTD_decompress(s->plain, BATCH_MAX, value->str, value->len);
        if (ZSTD_isError(got))
            return nf_fail(err, NF_EFORMAT, "stream of %s: %s", src->name, ZSTD_getErrorName(got));
        nf_arena_reset(&s->arena);
        ret = nf_batch_decode(&s->arena, s->plain, got, &batch, err);
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
    int ret = query_open(s, err);

    snprintf(key, sizeof(key), "nearfield:{%s}", src->name);
    snprintf(from, sizeof(from), "(%llu-%llu", (unsigned long long)src->epoch,
             (unsigned long long)src->seq);
    while (ret == 0) {
        const char *argv[] = {"XRANGE", key, src->epoch || src->seq ? from : "-", "+", "COUNT",
                              STREAM_COUNT};
        redisReply *r = redisCommandArgv(s->query, 6, argv, NULL);
        size_t n = 0;

        if (!r)
            return nf_fail(err, NF_EIO, "reading stream %s: %s", key, s->query->errstr);
        if (r->type != REDIS_REPLY_ARRAY) {
            ret = nf_fail(err, NF_EIO, "reading stream %s: %s", key,
                          r->type == REDIS_REPLY_ERROR ? r->str : "unexpected reply");
        }
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
    int ret = query_open(s, err);

    do {
        const char *argv[] = {"SCAN", cursor, "MATCH", "nearfield:{*}", "COUNT", "1000",
                              "TYPE", "stream"};
        redisReply *r, *keys;

        if (ret < 0)
            break;
        r = redisCommandArgv(s->query, 8, argv, NULL);
        if (!r)
            return nf_fail(err, NF_EIO, "listing streams: %s", s->query->errstr);
        if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
            r->element[0]->type != REDIS_REPLY_STRING ||
            r->element[0]->len >= sizeof(cursor) || r->element[1]->type != REDIS_REPLY_ARRAY) {
            ret = nf_fail(err, NF_EIO, "listing streams: %s",
                          r->type == REDIS_REPLY_ERROR ? r->str : "unexpected reply");
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
    uint64_t was = src->seq;
    /* The event lives in the arena that reading the stream reuses. */
    uint64_t epoch = ev->epoch, seq = ev->seq;
    struct nf_arena kept = s->arena;
    int ret;

    nf_arena_init(&s->arena, ARENA_LIMIT);
    ret = read_stream(s, src, epoch, seq - 1, err);
    nf_arena_release(&s->arena);
    s->arena = kept;
    if (ret)
        return ret;
    if (src->epoch == epoch && src->seq + 1 < seq)
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
    ret = nf_event_decode(&s->arena, payload->str, payload->len, &ev, err);
    if (ret < 0) {
        /* Anyone may publish there: what is not an event is passed over. */
        notice(s, "a message that is not an event: %s", err ? err->text : "");
        return 0;
    }
    if (!ev.source.host || !ev.source.vm || !ev.source.disk)
        return 0;
    snprintf(name, sizeof(name), "%s/%s/%s", ev.source.host, ev.source.vm, ev.source.disk);
    src = source_get(s, name);
    if (!src)
        return nf_fail(err, NF_ENOMEM, "out of memory");
    if (sees_all(s) && src->epoch == ev.epoch && src->seq && ev.seq > src->seq + 1) {
        ret = fill_hole(s, src, &ev, err);
        if (ret)
            return ret;
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
    nf_arena_init(&s->arena, ARENA_LIMIT);
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
    free(s->plain);
    free(s);
}

static int reconnect(struct nf_subscription *s, const char *why, struct nf_error *err)
{
    struct nf_error again;
    struct timespec pause;
    int ret;

    if (s->pubsub) {
        notice(s, "the connection to Redis is lost (%s); connecting again", why);
        redisFree(s->pubsub);
        s->pubsub = NULL;
    }
    s->backoff_ms = s->backoff_ms ? s->backoff_ms * 2 : 50;
    s->backoff_ms = s->backoff_ms < 2000 ? s->backoff_ms : 2000;
    pause = (struct timespec){s->backoff_ms / 1000, (long)(s->backoff_ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
    if (connect_pubsub(s, &again) < 0) {
        if (s->pubsub)
            redisFree(s->pubsub);
        s->pubsub = NULL;
        return 0; /* the next call tries again */
    }
    s->backoff_ms = 0;
    notice(s, "connected to Redis again");
    if (!sees_all(s))
        return 0;
    /* What was published meanwhile. */
    for (struct source *src = s->sources; src; src = src->next) {
        ret = read_stream(s, src, 0, 0, err);
        if (ret)
            return ret > 0 ? ret : 0;
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

    if (s->sel->since != NF_SINCE_NOW && !s->sources) {
        ret = read_backlog(s, err);
        if (ret)
            return ret;
    }
    if (!s->pubsub)
        return reconnect(s, "", err);
    ret = drain(s, &any, err);
    if (ret == NF_ECLOSED && s->pubsub->err)
        return reconnect(s, s->pubsub->errstr, err);
    if (ret || any)
        return ret;
    p = (struct pollfd){.fd = s->pubsub->fd, .events = POLLIN};
    ret = poll(&p, 1, timeout_ms);
    if (ret < 0 && errno != EINTR)
        return nf_fail(err, NF_EIO, "poll: %s", strerror(errno));
    if (ret <= 0)
        return 0;
    if (redisBufferRead(s->pubsub) != REDIS_OK)
        return reconnect(s, s->pubsub->errstr, err);
    ret = drain(s, &any, err);
    if (ret == NF_ECLOSED && s->pubsub->err)
        return reconnect(s, s->pubsub->errstr, err);
    return ret;
}
