/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk at one point of a trace: a base image with the records so far laid
 * over it.  The base is only read; what records wrote is kept in an unlinked
 * sparse temporary file, or found again in the trace.
 *
 * Thread: one at a time, image included.
 */
#ifndef NF_IMAGE_OVERLAY_H
#define NF_IMAGE_OVERLAY_H

#include <stdint.h>

#include "common/error.h"
#include "common/image.h"
#include "common/record.h"
#include "common/trace.h"

struct nf_image_overlay;

/*
 * @base_fd is borrowed, must stay open and its content unchanged; it may be
 * shorter than @disk_size (the rest reads as zeros).  Null on failure.
 * The temporary files are made in $TMPDIR, else /var/tmp.
 */
struct nf_image_overlay *nf_image_overlay_new(int base_fd, uint64_t disk_size,
                                              struct nf_error *err);
void nf_image_overlay_free(struct nf_image_overlay *o); /* null is allowed */

/*
 * Make the disk what it is after @rec.  WRITE and READBACK store bytes, ZERO
 * zeros, RESIZE and OPEN set the size (what is cut off reads as zeros when the
 * disk grows again).  DISCARD stores zeros, as a file with discard=unmap does: what
 * was captured behind a loop device has a guest's zeroing as discards, too.  A FAILED
 * write, whose range is unknown, keeps the old bytes.  FLUSH, GAP and CLOSE
 * change nothing.  NF_EFORMAT if the record reaches beyond the disk.
 */
int nf_image_overlay_apply(struct nf_image_overlay *o, const struct nf_record *rec,
                           struct nf_error *err);

/*
 * From here on each record comes from nf_trace_next(@r) right before: what it writes
 * is not copied, but read from the trace again if anybody asks, which costs a replay
 * little where it asks seldom. @r must stay open until nf_image_overlay_free().
 */
void nf_image_overlay_read_again(struct nf_image_overlay *o, struct nf_trace_reader *r);

/* The disk as it is now; its size follows RESIZE.  Owned by @o: valid until
 * nf_image_overlay_free(), and its own free() does nothing.  Reads return 0:
 * the bytes are exactly those of the current position. */
struct nf_image *nf_image_overlay_image(struct nf_image_overlay *o);

#endif
