/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A copy of what was read of a disk that moves on, kept up to date by the
 * disk's write stream while a reader tries to see all of it at one moment.
 *
 * Without it a reader of a busy disk would find something moved in every try.
 * With it each try only reads what the ones before did not; the rest is as it
 * was at the reader's position in the stream, whatever was written since.
 */
#ifndef BDI_DAEMON_IMAGE_KEPT_H
#define BDI_DAEMON_IMAGE_KEPT_H

#include <stdbool.h>

#include "common/image.h"
#include "common/record.h"

/* Wrap @inner (ownership is taken); @fd, an empty file for the copy, is
 * borrowed. Keeps nothing yet. Null on failure: then @inner is freed. */
struct nf_image *image_kept_new(struct nf_image *inner, int fd, struct nf_error *err);

/* Keep what is read from here on, from nothing; or no more, and forget it. */
int image_kept_start(struct nf_image *img, struct nf_error *err);
int image_kept_stop(struct nf_image *img, struct nf_error *err);

/* Whether any read since the last call, while keeping, answered 1. */
bool image_kept_take_moved(struct nf_image *img);

/* Before each reading of @inner call @drain (null: nothing), which may pass records
 * to image_kept_record(): what is read is then of no one moment, but nothing has
 * to wait for the reader, and all that it needs is kept afterwards. */
void image_kept_set_drain(struct nf_image *img, int (*drain)(void *opaque, struct nf_error *err),
                          void *opaque);

/* The reader passes @rec, the next record of the stream: the copy follows. */
int image_kept_record(struct nf_image *img, const struct nf_record *rec, struct nf_error *err);

#endif
