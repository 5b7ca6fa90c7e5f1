/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk behind an NBD export, as a struct nf_image.  The protocol is spoken
 * here, by libnbd; the socket comes connected from somebody who may connect.
 */
#ifndef BDI_DAEMON_IMAGE_NBD_H
#define BDI_DAEMON_IMAGE_NBD_H

#include "common/image.h"

struct image_nbd_options {
    const char *name;        /* for messages; borrowed, as is export_name */
    const char *export_name;

    /* Called when the connection is lost: a new socket, whose ownership goes
     * to the image, or a negative status to give up. */
    int (*reconnect)(void *opaque, struct nf_error *err);
    void *opaque;
};

/*
 * Shake hands on @sock (ownership is taken, also on failure).  Reads answer 0;
 * see image_settled.h.  Null on failure.  To be freed with nf_image_free().
 */
struct nf_image *image_nbd_new(int sock, const struct image_nbd_options *opt,
                               struct nf_error *err);

#endif
