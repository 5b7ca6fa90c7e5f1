/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/nbd_uri.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "bdi/daemon/unix_socket.h"

bool nbd_uri_is(const char *text)
{
    size_t n = strspn(text, "abcdefghijklmnopqrstuvwxyz+");

    return n > 0 && (strncmp(text + n, "://", 3) == 0 ||
                     (strncmp(text, "nbd", 3) == 0 && text[n] == ':'));
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    return -1;
}

/* Undo %XX. False if the result has a NUL, is broken, or does not fit. */
static bool decode(const char *from, size_t len, char *to, size_t room)
{
    size_t n = 0;

    for (size_t i = 0; i < len; i++) {
        char c = from[i];

        if (c == '%') {
            int hi = i + 2 < len ? hex_value(from[i + 1]) : -1;
            int lo = i + 2 < len ? hex_value(from[i + 2]) : -1;

            if (hi < 0 || lo < 0 || (hi == 0 && lo == 0))
                return false;
            c = (char)(hi * 16 + lo);
            i += 2;
        }
        if (n + 1 >= room)
            return false;
        to[n++] = c;
    }
    to[n] = '\0';
    return true;
}

/* host[:port], with brackets around an IPv6 address. */
static bool parse_authority(const char *from, size_t len, struct nbd_uri *uri)
{
    const char *end = from + len, *port = NULL, *host_end = end;

    if (len > 0 && from[0] == '[') {
        const char *close = memchr(from, ']', len);

        if (!close || (close + 1 < end && close[1] != ':'))
            return false;
        host_end = close;
        port = close + 1 < end ? close + 2 : NULL;
        from++;
    } else {
        const char *colon = memchr(from, ':', len);

        if (colon) {
            host_end = colon;
            port = colon + 1;
        }
    }
    if (host_end == from || !decode(from, (size_t)(host_end - from), uri->host, sizeof(uri->host)))
        return false;
    snprintf(uri->port, sizeof(uri->port), "10809");
    if (port && port < end) {
        size_t n = (size_t)(end - port);

        if (n > 5 || strspn(port, "0123456789") < n)
            return false;
        memcpy(uri->port, port, n);
        uri->port[n] = '\0';
    }
    return true;
}

int nbd_uri_parse(const char *text, struct nbd_uri *uri, struct nf_error *err)
{
    const char *rest, *path, *query;
    size_t authority, path_len;
    bool is_unix;

    memset(uri, 0, sizeof(*uri));
    if (strncmp(text, "nbd://", 6) == 0) {
        is_unix = false;
        rest = text + 6;
    } else if (strncmp(text, "nbd+unix://", 11) == 0) {
        is_unix = true;
        rest = text + 11;
    } else {
        return nf_fail(err, NF_EUNSUPPORTED,
                       "image %s: only nbd://HOST[:PORT]/EXPORT and "
                       "nbd+unix:///EXPORT?socket=PATH are understood",
                       text);
    }
    authority = strcspn(rest, "/?");
    path = rest + authority;
    query = strchr(path, '?');
    path_len = query ? (size_t)(query - path) : strlen(path);
    if (path_len > 0) { /* Its first character is the slash. */
        path++;
        path_len--;
    }
    if (!decode(path, path_len, uri->export_name, sizeof(uri->export_name)))
        return nf_fail(err, NF_EINVAL, "image %s: not a usable export name", text);
    if (!is_unix) {
        if (query || !parse_authority(rest, authority, uri))
            return nf_fail(err, NF_EINVAL, "image %s: not of the form nbd://HOST[:PORT]/EXPORT",
                           text);
        return 0;
    }
    if (authority != 0 || !query || strncmp(query, "?socket=", 8) != 0 || strchr(query, '&') ||
        !query[8])
        return nf_fail(err, NF_EINVAL, "image %s: not of the form nbd+unix:///EXPORT?socket=PATH",
                       text);
    if (!decode(query + 8, strlen(query + 8), uri->socket, sizeof(uri->socket)))
        return nf_fail(err, NF_EINVAL, "image %s: socket path is broken or over %zu bytes", text,
                       sizeof(uri->socket) - 1);
    return 0;
}

int nbd_uri_connect(const struct nbd_uri *uri, struct nf_error *err)
{
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *a;
    int fd = -1, e = 0, one = 1, rc;

    if (uri->socket[0])
        return unix_connect(uri->socket, "NBD server", err);
    rc = getaddrinfo(uri->host, uri->port, &hints, &list);
    if (rc != 0)
        return nf_fail(err, NF_ENOTFOUND, "NBD server %s:%s: %s", uri->host, uri->port,
                       gai_strerror(rc));
    for (a = list; a; a = a->ai_next) {
        fd = socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
        if (fd >= 0 && connect(fd, a->ai_addr, a->ai_addrlen) == 0)
            break;
        e = errno;
        if (fd >= 0)
            close(fd);
        fd = -1;
    }
    freeaddrinfo(list);
    if (fd < 0)
        return nf_fail(err, NF_ENOTFOUND, "NBD server %s:%s: %s", uri->host, uri->port,
                       strerror(e));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    return fd;
}
