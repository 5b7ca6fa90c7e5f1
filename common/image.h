/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The disk as something to read from: an NBD export, a raw file, or a trace's
 * base with the records so far laid over it.  Read-only by construction.
 */
#ifndef NF_IMAGE_H
#define NF_IMAGE_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct nf_image {
    uint64_t size; /* bytes */

    /*
     * Read exactly @len bytes at @offset (within @size).
     * Returns 0 if the bytes are what the disk holds at the stream position
     * that the reader has reached; 1 if records the reader has not consumed
     * yet may have touched the range, so that the bytes may be newer than the
     * position; negative enum nf_status on failure.
     */
    int (*read)(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                struct nf_error *err);

    void (*free)(struct nf_image *img);
};

static inline void nf_image_free(struct nf_image *img)
{
    if (img)
        img->free(img);
}

#endif
