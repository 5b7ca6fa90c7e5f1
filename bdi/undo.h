/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The undo log of the shadow: what was at places of it when its state was last
 * saved, kept before the first change since. With it a shadow whose owner was
 * killed at any instant goes back to exactly what it was at that save.
 *
 * A process that is killed leaves all that it stored in a shared mapping and
 * wrote to a file; this is not meant to survive the death of the host.
 *
 * The log is a file of entries, written from its start again after each save;
 * an entry's generation says which save it goes back to.
 */
#ifndef BDI_UNDO_H
#define BDI_UNDO_H

#include <stdint.h>

#include "common/error.h"

/* What an entry is of. */
enum undo_area {
    UNDO_HOME = 0,    /* the shadow's bytes */
    UNDO_PRESENT = 1, /* which of them mean anything */
    UNDO_AREAS,
};

#define UNDO_ENTRY_MAX 65536u

struct undo;

/* @fd: a regular file or memfd, borrowed. Keeps nothing yet. Null without memory. */
struct undo *undo_new(int fd, struct nf_error *err);
void undo_free(struct undo *u);

/* The state was saved as @generation (not 0): go back to this one from now on.
 * All generations of a file are different. */
void undo_restart(struct undo *u, uint64_t generation);

/*
 * The @len bytes (at most UNDO_ENTRY_MAX) at @offset of @area, now @data, are
 * about to change. A range that was kept since the save, from the same offset on,
 * is not kept again. 0; NF_EIO or NF_ENOMEM: then nothing may change.
 */
int undo_keep(struct undo *u, enum undo_area area, uint64_t offset, const uint8_t *data,
              uint32_t len, struct nf_error *err);

/*
 * Put back into @areas (of @sizes bytes) what the log @fd kept since the save
 * @generation. An entry that a kill cut short is of something not yet changed.
 * NF_EFORMAT if an entry lies outside, NF_EIO, NF_ENOMEM.
 */
int undo_roll_back(int fd, uint64_t generation, uint8_t *const areas[UNDO_AREAS],
                   const uint64_t sizes[UNDO_AREAS], struct nf_error *err);

#endif
