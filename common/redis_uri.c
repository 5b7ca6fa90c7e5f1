/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/redis_uri.h"

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <sys/un.h>

static const char expected[] = "expected redis://[user:pass@]host:port[/db] or unix:PATH";

void nf_redis_uri_release(struct nf_redis_uri *uri)
{
    free(uri->path);
    free(uri->host);
    free(uri->user);
    free(uri->pass);
    free(uri->shown);
    *uri = (struct nf_redis_uri){ 0 };
}

static int hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* A copy of @len bytes with %XX decoded; null for bad escapes or %00. */
static char *decoded(const char *s, size_t len)
{
    char *out = malloc(len + 1);
    size_t n = 0;

    for (size_t i = 0; out && i < len; i++) {
        if (s[i] != '%') {
            out[n++] = s[i];
            continue;
        }
        if (i + 2 >= len || hex_digit(s[i + 1]) < 0 || hex_digit(s[i + 2]) < 0 ||
            hex_digit(s[i + 1]) + hex_digit(s[i + 2]) == 0) {
            free(out);
            return NULL;
        }
        out[n++] = (char)(hex_digit(s[i + 1]) << 4 | hex_digit(s[i + 2]));
        i += 2;
    }
    if (out)
        out[n] = '\0';
    return out;
}

/* All of [@s, @end) as a number of at most @max, or -1. */
static int parse_number(const char *s, const char *end, int max)
{
    int v = 0;

    if (s == end)
        return -1;
    for (; s < end; s++) {
        if (*s < '0' || *s > '9')
            return -1;
        v = v * 10 + (*s - '0');
        if (v > max)
            return -1;
    }
    return v;
}

static int parse_tcp(struct nf_redis_uri *uri, const char *text, struct nf_error *err)
{
    const char *at = strrchr(text, '@'), *host, *end, *port, *slash;

    if (at) {
        const char *colon = memchr(text, ':', (size_t)(at - text));

        if (!colon)
            return nf_fail(err, NF_EINVAL, "bad Redis URI: no password before '@'; %s", expected);
        if (colon > text)
            uri->user = decoded(text, (size_t)(colon - text));
        uri->pass = decoded(colon + 1, (size_t)(at - colon - 1));
        if ((colon > text && !uri->user) || !uri->pass)
            return nf_fail(err, NF_EINVAL, "bad Redis URI: broken %%-escape before '@'");
    }
    host = at ? at + 1 : text;
    if (*host == '[') {
        host++;
        end = strchr(host, ']');
        port = end ? end + 1 : NULL;
    } else {
        end = strchr(host, ':');
        port = end;
    }
    slash = strchr(host, '/');
    if (!end || end == host || *port != ':' || (slash && slash < port))
        return nf_fail(err, NF_EINVAL, "bad Redis URI: no host:port; %s", expected);
    uri->host = strndup(host, (size_t)(end - host));
    uri->port = parse_number(port + 1, slash ? slash : port + strlen(port), 65535);
    uri->db = slash && slash[1] ? parse_number(slash + 1, slash + strlen(slash), 1000000) : 0;
    if (!uri->host)
        return nf_fail(err, NF_ENOMEM, "Redis URI: out of memory");
    if (uri->port <= 0 || uri->db < 0)
        return nf_fail(err, NF_EINVAL, "bad Redis URI: %s is not a number allowed there; %s",
                       uri->port <= 0 ? "the port" : "the database", expected);
    if (asprintf(&uri->shown, strchr(uri->host, ':') ? "redis://[%s]:%d/%d" : "redis://%s:%d/%d",
                 uri->host, uri->port, uri->db) < 0) {
        uri->shown = NULL;
        return nf_fail(err, NF_ENOMEM, "Redis URI: out of memory");
    }
    return 0;
}

int nf_redis_uri_parse(struct nf_redis_uri *uri, const char *text, struct nf_error *err)
{
    int ret;

    *uri = (struct nf_redis_uri){ 0 };
    if (strncmp(text, "unix:", 5) == 0 && text[5]) {
        if (strlen(text + 5) >= sizeof(((struct sockaddr_un *)0)->sun_path))
            return nf_fail(err, NF_EINVAL, "bad Redis URI: the socket's path is too long");
        uri->path = strdup(text + 5);
        uri->shown = strdup(text);
        ret = uri->path && uri->shown ? 0 : nf_fail(err, NF_ENOMEM, "Redis URI: out of memory");
    } else if (strncmp(text, "redis://", 8) == 0) {
        ret = parse_tcp(uri, text + 8, err);
    } else {
        ret = nf_fail(err, NF_EINVAL, "bad Redis URI: %s", expected);
    }
    if (ret < 0)
        nf_redis_uri_release(uri);
    return ret;
}

int nf_redis_uri_handshake(const struct nf_redis_uri *uri, struct nf_redis_command cmd[3],
                           char db_text[16])
{
    int n = 0;

    if (uri->pass && uri->user)
        cmd[n++] = (struct nf_redis_command){ 3, { "AUTH", uri->user, uri->pass } };
    else if (uri->pass)
        cmd[n++] = (struct nf_redis_command){ 2, { "AUTH", uri->pass } };
    if (uri->db) {
        snprintf(db_text, 16, "%d", uri->db);
        cmd[n++] = (struct nf_redis_command){ 2, { "SELECT", db_text } };
    }
    /* Without a password, the first command is what tells that one is needed. */
    cmd[n++] = (struct nf_redis_command){ 1, { "PING" } };
    return n;
}

static int check_context(const struct nf_redis_uri *uri, redisContext *c, struct nf_error *err)
{
    if (!c)
        return nf_fail(err, NF_ENOMEM, "Redis at %s: out of memory", uri->shown);
    if (c->err)
        return nf_fail(err, NF_EIO, "Redis at %s: %s", uri->shown, c->errstr);
    return 0;
}

redisContext *nf_redis_connect_start(const struct nf_redis_uri *uri, struct nf_error *err)
{
    redisContext *c = uri->path ? redisConnectUnixNonBlock(uri->path)
                                : redisConnectNonBlock(uri->host, uri->port);

    if (check_context(uri, c, err) < 0) {
        if (c)
            redisFree(c);
        return NULL;
    }
    return c;
}

redisContext *nf_redis_connect(const struct nf_redis_uri *uri, int timeout_ms,
                               struct nf_error *err)
{
    struct timeval tv = { timeout_ms / 1000, timeout_ms % 1000 * 1000 };
    redisContext *c = uri->path ? redisConnectUnixWithTimeout(uri->path, tv)
                                : redisConnectWithTimeout(uri->host, uri->port, tv);
    struct nf_redis_command cmd[3];
    char db_text[16];
    int n;

    if (check_context(uri, c, err) < 0)
        goto fail;
    redisSetTimeout(c, tv);
    n = nf_redis_uri_handshake(uri, cmd, db_text);
    for (int i = 0; i < n; i++) {
        redisReply *r = redisCommandArgv(c, cmd[i].argc, cmd[i].argv, NULL);

        if (!r) {
            nf_fail(err, NF_EIO, "Redis at %s: %s", uri->shown, c->errstr);
            goto fail;
        }
        if (r->type == REDIS_REPLY_ERROR) {
            nf_fail(err, NF_EIO, "Redis at %s: %s: %s", uri->shown, cmd[i].argv[0], r->str);
            freeReplyObject(r);
            goto fail;
        }
        freeReplyObject(r);
    }
    return c;
fail:
    if (c)
        redisFree(c);
    return NULL;
}

void nf_stream_key(char key[NF_STREAM_KEY_MAX], const char *host, const char *vm,
                   const char *disk)
{
    snprintf(key, NF_STREAM_KEY_MAX, "nearfield:{%s/%s/%s}", host, vm, disk);
}
