/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "consumers/redis_stream.h"

#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <zstd.h>

#include "common/frame.h"
#include "common/redis_uri.h"

#define TIMEOUT_MS 5000
/* Plain bytes of one entry: a frame, and the source in each event. */
#define BATCH_MAX (64ull * NF_FRAME_MAX)
/* Memory to decode an entry; see frame.c. */
#define ARENA_FOR(len) ((size_t)(len)*32 + 65536)

struct nf_redis_stream {
    struct nf_redis_uri uri;
    redisContext *redis; /* null: lost */
    char key[NF_STREAM_KEY_MAX];
    char id[64]; /* of the last entry that was read */
    redisReply *reply; /* of XREAD; entries from @next on are still to be given */
    size_t next;
    struct nf_arena arena;
    struct nf_buffer plain;
};

static redisReply *command(struct nf_redis_stream *s, int argc, const char **argv,
                           struct nf_error *err)
{
    redisReply *r = redisCommandArgv(s->redis, argc, argv, NULL);

    if (r && r->type != REDIS_REPLY_ERROR)
        return r;
    nf_fail(err, r ? NF_EINVAL : NF_EIO, "Redis at %s: %s: %s", s->uri.shown, argv[0],
            r ? r->str : s->redis->errstr);
    if (r)
        freeReplyObject(r);
    return NULL;
}

/* Does "nearfield:{HOST/VM/DISK}" fit? */
static bool fits(const char *key, const struct nf_redis_disk *want)
{
    const char *parts[3] = { want->host, want->vm, want->disk };
    const char *p = key + strlen("nearfield:{");

    for (int i = 0; i < 3; i++) {
        const char *end = strchr(p, i < 2 ? '/' : '}');

        if (!end || (i == 2 && end[1] != '\0'))
            return false;
        if (parts[i] && (strlen(parts[i]) != (size_t)(end - p) ||
                         memcmp(parts[i], p, (size_t)(end - p)) != 0))
            return false;
        p = end + 1;
    }
    return true;
}

/* The one stream that fits, into s->key. */
static int find_stream(struct nf_redis_stream *s, const struct nf_redis_disk *want,
                       struct nf_error *err)
{
    char cursor[32] = "0";

    do {
        const char *argv[] = { "SCAN", cursor, "MATCH", "nearfield:{*}", "COUNT", "1000", "TYPE",
                               "stream" };
        redisReply *r = command(s, 8, argv, err), *keys;

        if (!r)
            return NF_EIO;
        if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
            r->element[0]->type != REDIS_REPLY_STRING || r->element[0]->len >= sizeof(cursor) ||
            r->element[1]->type != REDIS_REPLY_ARRAY) {
            freeReplyObject(r);
            return nf_fail(err, NF_EIO, "Redis at %s: listing streams: unexpected reply",
                           s->uri.shown);
        }
        memcpy(cursor, r->element[0]->str, r->element[0]->len + 1);
        keys = r->element[1];
        for (size_t i = 0; i < keys->elements; i++) {
            const redisReply *k = keys->element[i];

            /* SCAN may give a key twice. */
            if (k->type != REDIS_REPLY_STRING || k->len >= sizeof(s->key) ||
                strlen(k->str) != k->len || !fits(k->str, want) || strcmp(k->str, s->key) == 0)
                continue;
            if (s->key[0]) {
                nf_fail(err, NF_EINVAL,
                        "Redis at %s has several disks (%s and %s): choose one with --host, --vm, "
                        "--disk",
                        s->uri.shown, s->key, k->str);
                freeReplyObject(r);
                return NF_EINVAL;
            }
            memcpy(s->key, k->str, k->len + 1);
        }
        freeReplyObject(r);
    } while (strcmp(cursor, "0") != 0);
    if (!s->key[0])
        return nf_fail(err, NF_ENOTFOUND, "Redis at %s has no stream of such a disk",
                       s->uri.shown);
    return 0;
}

/* Begin with the newest epoch: older ones do not go on into it. */
static int find_epoch(struct nf_redis_stream *s, struct nf_error *err)
{
    const char *argv[] = { "XREVRANGE", s->key, "+", "-", "COUNT", "1" };
    redisReply *r = command(s, 6, argv, err);
    uint64_t epoch;

    if (!r)
        return NF_EIO;
    if (r->type == REDIS_REPLY_ARRAY && r->elements == 1 &&
        r->element[0]->type == REDIS_REPLY_ARRAY && r->element[0]->elements == 2 &&
        r->element[0]->element[0]->type == REDIS_REPLY_STRING &&
        sscanf(r->element[0]->element[0]->str, "%" SCNu64 "-", &epoch) == 1)
        snprintf(s->id, sizeof(s->id), "%" PRIu64 "-0", epoch);
    freeReplyObject(r);
    return 0;
}

struct nf_redis_stream *nf_redis_stream_open(const char *uri, const struct nf_redis_disk *disk,
                                             uint64_t epoch, uint64_t seq, struct nf_error *err)
{
    struct nf_redis_stream *s = calloc(1, sizeof(*s));
    int rc;

    if (!s) {
        nf_fail(err, NF_ENOMEM, "out of memory");
        return NULL;
    }
    nf_arena_init(&s->arena, 0);
    strcpy(s->id, "0-0");
    rc = nf_redis_uri_parse(&s->uri, uri, err);
    if (rc == 0) {
        s->redis = nf_redis_connect(&s->uri, TIMEOUT_MS, err);
        rc = s->redis ? find_stream(s, disk, err) : NF_EIO;
    }
    if (rc == 0 && epoch)
        snprintf(s->id, sizeof(s->id), "%" PRIu64 "-%" PRIu64, epoch, seq);
    else if (rc == 0)
        rc = find_epoch(s, err);
    if (rc < 0) {
        nf_redis_stream_free(s);
        return NULL;
    }
    return s;
}

void nf_redis_stream_free(struct nf_redis_stream *s)
{
    if (!s)
        return;
    if (s->reply)
        freeReplyObject(s->reply);
    if (s->redis)
        redisFree(s->redis);
    nf_redis_uri_release(&s->uri);
    nf_arena_release(&s->arena);
    nf_buffer_release(&s->plain);
    free(s);
}

/* XREAD's reply down to its entries; null if there are none or it is not one. */
static const redisReply *entries(const redisReply *r)
{
    if (!r || r->type != REDIS_REPLY_ARRAY || r->elements != 1)
        return NULL;
    r = r->element[0];
    if (r->type != REDIS_REPLY_ARRAY || r->elements != 2 ||
        r->element[1]->type != REDIS_REPLY_ARRAY)
        return NULL;
    return r->element[1];
}

/* The batch in field z of an entry. */
static int decode_entry(struct nf_redis_stream *s, const redisReply *entry,
                        struct nf_batch *batch, struct nf_error *err)
{
    const redisReply *fields;

    if (entry->type != REDIS_REPLY_ARRAY || entry->elements != 2 ||
        entry->element[0]->type != REDIS_REPLY_STRING ||
        entry->element[0]->len >= sizeof(s->id) || entry->element[1]->type != REDIS_REPLY_ARRAY)
        return nf_fail(err, NF_EFORMAT, "%s: unexpected entry", s->key);
    memcpy(s->id, entry->element[0]->str, entry->element[0]->len + 1);
    fields = entry->element[1];
    for (size_t i = 0; i + 1 < fields->elements; i += 2) {
        const redisReply *key = fields->element[i], *value = fields->element[i + 1];
        unsigned long long size;
        size_t got;

        if (key->type != REDIS_REPLY_STRING || value->type != REDIS_REPLY_STRING ||
            strcmp(key->str, "z") != 0)
            continue;
        size = ZSTD_getFrameContentSize(value->str, value->len);
        if (size > BATCH_MAX) /* as is what zstd says when it does not know */
            return nf_fail(err, NF_EFORMAT, "%s: entry %s is not a batch", s->key, s->id);
        nf_buffer_clear(&s->plain);
        if (!nf_buffer_reserve(&s->plain, size))
            return nf_fail(err, NF_ENOMEM, "out of memory");
        got = ZSTD_decompress(s->plain.data, size, value->str, value->len);
        if (ZSTD_isError(got))
            return nf_fail(err, NF_EFORMAT, "%s: entry %s: %s", s->key, s->id,
                           ZSTD_getErrorName(got));
        nf_arena_reset(&s->arena);
        s->arena.limit = ARENA_FOR(got);
        return nf_batch_decode(&s->arena, s->plain.data, got, batch, err);
    }
    return nf_fail(err, NF_EFORMAT, "%s: entry %s has no batch", s->key, s->id);
}

/* The connection is gone; try once to have another. */
static void reconnect(struct nf_redis_stream *s)
{
    const struct timespec pause = { .tv_sec = 1 };

    if (s->redis) {
        fprintf(stderr, "nearfield mirror: Redis at %s: %s: connecting again\n", s->uri.shown,
                s->redis->errstr);
        redisFree(s->redis);
    }
    nanosleep(&pause, NULL);
    s->redis = nf_redis_connect(&s->uri, TIMEOUT_MS, NULL);
}

int nf_redis_stream_next(struct nf_redis_stream *s, struct nf_batch *batch, struct nf_error *err)
{
    const char *argv[] = { "XREAD", "COUNT", "8", "BLOCK", "1000", "STREAMS", s->key, s->id };
    const redisReply *list = entries(s->reply);
    int rc;

    if (!list || s->next >= list->elements) {
        if (s->reply)
            freeReplyObject(s->reply);
        s->reply = NULL;
        s->next = 0;
        if (!s->redis) {
            reconnect(s);
            return 0;
        }
        s->reply = command(s, 8, argv, err);
        if (!s->reply) {
            if (!s->redis->err)
                return NF_EINVAL;
            reconnect(s);
            return 0;
        }
        list = entries(s->reply);
        if (!list || list->elements == 0)
            return 0;
    }
    rc = decode_entry(s, list->element[s->next++], batch, err);
    return rc < 0 ? rc : 1;
}
