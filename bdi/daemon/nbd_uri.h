/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * NBD URIs: nbd://HOST[:PORT]/[EXPORT] and nbd+unix:///[EXPORT]?socket=PATH.
 *
 * The opener connects and only then hands the socket to the engine, which
 * speaks the protocol; so the address must be known apart from libnbd.
 */
#ifndef BDI_DAEMON_NBD_URI_H
#define BDI_DAEMON_NBD_URI_H

#include <stdbool.h>

#include "common/error.h"

#define NBD_EXPORT_MAX 4096 /* by the protocol, bytes */

struct nbd_uri {
    char socket[108]; /* Unix socket; empty for TCP */
    char host[256];
    char port[16]; /* decimal */
    char export_name[NBD_EXPORT_MAX + 1];
};

/* Whether @text is meant as a URI (has a scheme) rather than a path. */
bool nbd_uri_is(const char *text);

/* 0; NF_EINVAL for what is not an NBD URI; NF_EUNSUPPORTED for TLS and others. */
int nbd_uri_parse(const char *text, struct nbd_uri *uri, struct nf_error *err);

/* Connect. Returns a blocking, close-on-exec socket or a negative status. */
int nbd_uri_connect(const struct nbd_uri *uri, struct nf_error *err);

#endif
