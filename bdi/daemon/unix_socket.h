/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef BDI_DAEMON_UNIX_SOCKET_H
#define BDI_DAEMON_UNIX_SOCKET_H

#include "common/error.h"

/* Connect to the Unix stream socket @path; @what names the peer in messages.
 * Returns a blocking, close-on-exec descriptor; NF_ENOTFOUND if nobody listens
 * there, NF_EINVAL, NF_EIO. */
int unix_connect(const char *path, const char *what, struct nf_error *err);

#endif
