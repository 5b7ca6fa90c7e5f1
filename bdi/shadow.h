/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The shadow: a sparse file with one disk's metadata blocks at their disk
 * offsets, mapped into memory. One per disk, shared by the file systems on
 * it. `debugfs -R ... 'FILE?offset=N'` can open it.
 */
#ifndef BDI_SHADOW_H
#define BDI_SHADOW_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

struct shadow {
    int fd;        /* borrowed */
    uint64_t size; /* bytes mapped */
    uint8_t *map;
};

/* Grow @fd to @size and map it. */
int shadow_init(struct shadow *s, int fd, uint64_t size, struct nf_error *err);
/* The same for another size; the map may be elsewhere afterwards. */
int shadow_resize(struct shadow *s, uint64_t size, struct nf_error *err);
void shadow_release(struct shadow *s);

/* Give the range's memory back; it reads as zeros afterwards. */
void shadow_punch(struct shadow *s, uint64_t offset, uint64_t len);

#endif
