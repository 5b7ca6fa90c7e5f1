/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names that a step changes: removed and added directory entries, paired into
 * creations, links, renames, exchanges and unlinks, and put in an order in
 * which each is valid when its turn comes.
 *
 * The order is found by depth-first search over what must come first: a name's
 * old holder leaves before the new one arrives, a directory is made before it
 * is filled and emptied before it is removed, nothing moves beneath itself. A
 * ring of renames is cut by an exchange; the rare knot that even that cannot
 * cut (the guest must have used a name that it then gave up) by a temporary
 * name, flagged as unordered.
 */
#ifndef BDI_EXT4_LINKS_H
#define BDI_EXT4_LINKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bdi/ext4/step.h"

struct links;
struct slot;

struct links *links_new(struct ext4_fs *fs, struct step *step);
void links_free(struct links *l);

/* A directory entry seen on the old or the new side of a changed block. Entries
 * seen on both sides cancel out. @name is copied if @copy, else it must stay
 * valid until links_free(). */
int links_saw(struct links *l, bool new_side, uint64_t dir, struct nf_bytes name, bool copy,
              const struct name_ref *ref);

/* Was an entry of that name seen, on any side? */
bool links_knows(struct links *l, uint64_t dir, struct nf_bytes name);

/* All entries are in: pair them and take the removed names from the index. */
int links_pair(struct links *l, struct nf_error *err);

/* Emit everything. fs->links must be @l. */
int links_emit(struct links *l, struct nf_error *err);

/* Put the added names into the index. */
int links_finish(struct links *l, struct nf_error *err);

/* The names that object @key has at this moment through this step's operations
 * (its others are in the index): from *@at null on, one after another. */
bool links_next_name(const struct links *l, uint64_t key, const struct slot **at, uint64_t *dir,
                     struct nf_bytes *name);

/* Are the names in directory object @key, of this step, ciphertext? False if the
 * step does not touch it. */
bool links_encrypted(const struct links *l, uint64_t key, bool *encrypted);

/* What paths.c keeps while @l is emitted. */
struct paths_cache *links_cache(struct links *l);

/* Did CREATE go out for new object @key? */
bool links_created(const struct links *l, uint64_t key);

#endif
