/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The rule of reading a disk that moves on (READBACK): the image of a live
 * disk is always "now", the reader is somewhere before it in the stream.  Bytes
 * count as those of the reader's position only if no record between that
 * position and the producer's head, sampled after the read, touches the range.
 */
#ifndef BDI_DAEMON_IMAGE_SETTLED_H
#define BDI_DAEMON_IMAGE_SETTLED_H

#include <stdbool.h>
#include <stdint.h>

#include "common/image.h"
#include "common/tap.h"

/* Wrap @inner (ownership is taken) by the rule for @tap (borrowed; see
 * image_settled_set_tap()).  Null on failure: then @inner is freed. */
struct nf_image *image_settled_new(struct nf_image *inner, struct nf_tap *tap,
                                   struct nf_error *err);

/* Another connection to the tap replaces the first. */
void image_settled_set_tap(struct nf_image *img, struct nf_tap *tap);

/* The reader has consumed all records before @seq, which is not released. */
void image_settled_set_position(struct nf_image *img, uint64_t seq);

/* Whether any read since the last call answered 1. */
bool image_settled_take_moved(struct nf_image *img);

#endif
