/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where Redis is, as users write it: redis://[user:pass@]host:port[/db] or
 * unix:PATH; and connecting there with hiredis.
 */
#ifndef NF_REDIS_URI_H
#define NF_REDIS_URI_H

#include <stdbool.h>

#include <hiredis/hiredis.h>

#include "common/error.h"
#include "common/event.h"

#define NF_REDIS_DEFAULT_URI "redis://127.0.0.1:6379"

struct nf_redis_uri {
    char *path; /* Unix socket; null: TCP */
    char *host;
    int port;
    char *user; /* null: the default user */
    char *pass; /* null: no AUTH */
    int db;
    char *shown; /* for messages: the URI without user and password */
};

/* Parse @text; user and password may be percent-encoded, host may be [IPv6].
 * 0, or NF_EINVAL with a text that does not show the password. */
int nf_redis_uri_parse(struct nf_redis_uri *uri, const char *text, struct nf_error *err);
void nf_redis_uri_release(struct nf_redis_uri *uri);

/* Begin to connect and return at once; the handshake (AUTH, SELECT) is the
 * caller's, see nf_redis_uri_handshake(). Null with @err filled. */
redisContext *nf_redis_connect_start(const struct nf_redis_uri *uri, struct nf_error *err);

/* Connect, authenticate, select the database and check that the server
 * answers, each step within @timeout_ms. A blocking context, to be freed with
 * redisFree(); commands on it have the same time limit. Null with @err filled. */
redisContext *nf_redis_connect(const struct nf_redis_uri *uri, int timeout_ms,
                               struct nf_error *err);

/* The commands that a new connection begins with: up to three of them, in
 * @argv and @argc; @db_text is room for a number. Returns how many. */
struct nf_redis_command {
    int argc;
    const char *argv[3];
};
int nf_redis_uri_handshake(const struct nf_redis_uri *uri, struct nf_redis_command cmd[3],
                           char db_text[16]);

/* "nearfield:{host/vm/disk}", the stream of a disk, into @key. */
#define NF_STREAM_KEY_MAX 448
void nf_stream_key(char key[NF_STREAM_KEY_MAX], const char *host, const char *vm,
                   const char *disk);

#endif
