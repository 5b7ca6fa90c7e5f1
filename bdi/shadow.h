/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The shadow: a sparse file with one disk's metadata blocks at their disk
 * offsets, mapped into memory, and which blocks of it are present. One per
 * disk, shared by the file systems on it. `debugfs -R ... 'FILE?offset=N'` can
 * open it.
 *
 * Where the engine is to be resumed after a kill, every change goes past the
 * undo log (bdi/undo.h): whoever writes to the map says so before.
 */
#ifndef BDI_SHADOW_H
#define BDI_SHADOW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

/* Blocks are this large or larger: each has a bit of its own, by its offset. */
#define SHADOW_UNIT 1024u

struct bdi_state_fds;
struct undo;

struct shadow {
    int fd;        /* borrowed */
    uint64_t size; /* bytes mapped */
    uint8_t *map;
    uint8_t *present; /* bit for each SHADOW_UNIT */
    uint64_t present_size;
    int present_fd;    /* borrowed; -1: in memory alone */
    struct undo *undo; /* owned; null: not to be resumed */
    bool forgot;       /* shadow_forget() was called since the last save */
    struct nf_error failure; /* of shadow_forget() */
};

/* Grow @fd to @size and map it. @state: null, or what makes it outlive a kill. */
int shadow_init(struct shadow *s, int fd, const struct bdi_state_fds *state, uint64_t size,
                struct nf_error *err);
/* Are the files of an earlier engine as long as they were for a disk of @size? One
 * that was cut would be grown with holes, and read as nothing. 0, NF_EFORMAT or
 * NF_EIO. */
int shadow_check_kept(int fd, const struct bdi_state_fds *state, uint64_t size,
                      struct nf_error *err);
/* Map another size; the maps may be elsewhere afterwards. */
int shadow_resize(struct shadow *s, uint64_t size, struct nf_error *err);
void shadow_release(struct shadow *s);

/* Is the block at @offset present? */
bool shadow_present(const struct shadow *s, uint64_t offset);

/*
 * To be called before the @len bytes of the block at @offset change in the map.
 * If the block was not present it has room in the file from here on, and is to
 * be declared present by shadow_set_present() when it is filled. 0, or NF_EIO
 * or NF_ENOMEM: then it must not change.
 */
int shadow_touch(struct shadow *s, uint64_t offset, uint32_t len, struct nf_error *err);
int shadow_set_present(struct shadow *s, uint64_t offset, struct nf_error *err);

/* Blocks of which none is present get their content at once and are present. */
int shadow_fill(struct shadow *s, uint64_t offset, const uint8_t *data, uint64_t len,
                uint32_t block_size, struct nf_error *err);

/* The block is not present any more, its memory given back. */
int shadow_drop(struct shadow *s, uint64_t offset, uint32_t len, struct nf_error *err);

/* None of the blocks that lie in the range is present any more. If that cannot
 * be undone later it is not done, and s->failure says so: to be looked at before
 * the next save. */
void shadow_forget(struct shadow *s, uint64_t offset, uint64_t len);
/* The same; and where nothing has to be undone the range's memory is given back. */
void shadow_punch(struct shadow *s, uint64_t offset, uint64_t len);

/* The state was saved as @generation: see undo_restart(). */
void shadow_saved(struct shadow *s, uint64_t generation);

#endif
