/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Shared by the parts of the picture. */
#ifndef BDI_EXT4_PICTURE_PRIVATE_H
#define BDI_EXT4_PICTURE_PRIVATE_H

#include "bdi/ext4/picture.h"

/* The log's copy; null if it cannot be read. */
const uint8_t *picture_entry_content(struct picture *p, const struct overlay_entry *e);
/* What is committed: the log's copy, or home. */
const uint8_t *picture_committed(struct picture *p, uint64_t block, struct nf_error *err);
/* What a block had before the first step that we see of it. The image may have that
 * step already, and more. What was never read has nothing in it that was in use. */
const uint8_t *picture_before_first(struct picture *p, uint64_t block, struct nf_error *err);

/* @e (owned from here on, unless this fails), whose block has no entry, becomes the
 * newest one. */
int picture_overlay_add(struct picture *p, struct overlay_entry *e);
void picture_overlay_drop(struct picture *p, uint64_t block);

void picture_staged_free(struct staged *s);

#endif
