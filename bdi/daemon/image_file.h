/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A raw disk in a file or block device, as a struct nf_image.
 */
#ifndef BDI_DAEMON_IMAGE_FILE_H
#define BDI_DAEMON_IMAGE_FILE_H

#include "common/image.h"

/*
 * @fd is readable and seekable, borrowed; @name is for messages, borrowed.
 * Reads answer 0: whether the disk moves on is for image_settled.h.  Null on
 * failure.  To be freed with nf_image_free().
 */
struct nf_image *image_file_new(int fd, const char *name, struct nf_error *err);

#endif
