/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/image_nbd.h"

#include <libnbd.h>
#include <stdlib.h>
#include <unistd.h>

/* Servers need not serve more at once. */
#define MAX_REQUEST (1u << 20)
#define MAX_RECONNECTS 3

struct image_nbd {
    struct nf_image img;
    struct nbd_handle *nbd;
    struct image_nbd_options opt;
};

/* Null on failure; @sock is gone either way. */
static struct nbd_handle *handshake(int sock, const struct image_nbd_options *opt,
                                    struct nf_error *err)
{
    struct nbd_handle *nbd = nbd_create();

    if (!nbd) {
        close(sock);
        nf_fail(err, NF_ENOMEM, "image %s: %s", opt->name, nbd_get_error());
        return NULL;
    }
    /* Whoever answers must not make us negotiate TLS or anything else. */
    if (nbd_set_tls(nbd, LIBNBD_TLS_DISABLE) < 0 ||
        nbd_set_export_name(nbd, opt->export_name) < 0 ||
        nbd_set_request_structured_replies(nbd, false) < 0) {
        close(sock);
    } else if (nbd_connect_socket(nbd, sock) == 0) {
        return nbd;
    }
    nf_fail(err, NF_EIO, "image %s: %s", opt->name, nbd_get_error());
    nbd_close(nbd);
    return NULL;
}

static int reconnect(struct image_nbd *n, struct nf_error *err)
{
    int sock;

    nbd_close(n->nbd);
    n->nbd = NULL;
    sock = n->opt.reconnect ? n->opt.reconnect(n->opt.opaque, err)
                            : nf_fail(err, NF_ECLOSED, "image %s: connection lost", n->opt.name);
    if (sock < 0)
        return sock;
    n->nbd = handshake(sock, &n->opt, err);
    if (!n->nbd)
        return NF_EIO;
    if (nbd_get_size(n->nbd) < (int64_t)n->img.size)
        return nf_fail(err, NF_EIO, "image %s: shorter than it was", n->opt.name);
    return 0;
}

static int read_piece(struct image_nbd *n, uint64_t offset, void *buf, size_t len,
                      struct nf_error *err)
{
    for (int attempt = 0;; attempt++) {
        if (n->nbd && nbd_pread(n->nbd, buf, len, offset, 0) == 0)
            return 0;
        if (n->nbd) {
            nf_fail(err, NF_EIO, "image %s: read at %llu: %s", n->opt.name,
                    (unsigned long long)offset, nbd_get_error());
            if (!nbd_aio_is_dead(n->nbd) && !nbd_aio_is_closed(n->nbd))
                return NF_EIO;
        }
        if (attempt == MAX_RECONNECTS)
            return NF_EIO;
        if (reconnect(n, err) < 0)
            return NF_EIO;
    }
}

static int nbd_image_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                          struct nf_error *err)
{
    struct image_nbd *n = (struct image_nbd *)img;
    uint8_t *p = buf;

    if (offset > img->size || len > img->size - offset)
        return nf_fail(err, NF_EINVAL, "image %s: read of %zu bytes at %llu is beyond its end",
                       n->opt.name, len, (unsigned long long)offset);
    while (len > 0) {
        size_t piece = len < MAX_REQUEST ? len : MAX_REQUEST;
        int rc = read_piece(n, offset, p, piece, err);

        if (rc < 0)
            return rc;
        p += piece;
        offset += piece;
        len -= piece;
    }
    return 0;
}

static void nbd_image_free(struct nf_image *img)
{
    struct image_nbd *n = (struct image_nbd *)img;

    if (n->nbd) {
        if (nbd_aio_is_ready(n->nbd))
            nbd_shutdown(n->nbd, 0);
        nbd_close(n->nbd);
    }
    free(n);
}

struct nf_image *image_nbd_new(int sock, const struct image_nbd_options *opt,
                               struct nf_error *err)
{
    struct image_nbd *n = calloc(1, sizeof(*n));
    int64_t size;

    if (!n) {
        close(sock);
        nf_fail(err, NF_ENOMEM, "image %s: out of memory", opt->name);
        return NULL;
    }
    n->opt = *opt;
    n->img.read = nbd_image_read;
    n->img.free = nbd_image_free;
    n->nbd = handshake(sock, opt, err);
    size = n->nbd ? nbd_get_size(n->nbd) : -1;
    if (n->nbd && size < 0)
        nf_fail(err, NF_EIO, "image %s: size: %s", opt->name, nbd_get_error());
    if (size < 0) {
        nbd_image_free(&n->img);
        return NULL;
    }
    n->img.size = (uint64_t)size;
    return &n->img;
}
