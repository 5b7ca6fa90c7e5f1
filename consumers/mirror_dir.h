/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The directory that a mirror fills, and the one beside it, ".NAME.nearfield"
 * (mode 0700), with what the mirror needs: "stage", for files without a name,
 * and "state", where it stopped.  A state exists only while DIR is whole, so
 * a mirror that was interrupted within a step is known for it.
 */
#ifndef NF_MIRROR_DIR_H
#define NF_MIRROR_DIR_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"

struct nf_mirror_state {
    uint64_t epoch;
    uint64_t seq; /* the last one applied */
    uint32_t partition;
    bool as_root;
};

struct nf_mirror_dir {
    int tree;  /* DIR */
    int side;  /* beside it */
    int stage; /* in side */
    char *path;      /* of DIR */
    char *side_path;
    bool made, made_side; /* they did not exist before */
    bool resumed; /* DIR was made by an earlier run, which left @state */
    struct nf_mirror_state state;
};

/*
 * Open DIR, making it if it is missing.  It must be empty, or what an earlier
 * run left whole; with @adopt anything.  NF_EINVAL: it is not.
 */
int nf_mirror_dir_open(struct nf_mirror_dir *d, const char *path, bool adopt,
                       struct nf_error *err);

/* True if only root can get to DIR: a directory above it is root's and closed
 * to all others. */
bool nf_mirror_dir_private(const struct nf_mirror_dir *d);

/* DIR is about to change: until saved again it has no state. */
int nf_mirror_dir_begin(struct nf_mirror_dir *d, struct nf_error *err);

/* DIR is whole as of @d->state. */
int nf_mirror_dir_save(struct nf_mirror_dir *d, struct nf_error *err);

/* With @undo, what nf_mirror_dir_open() made is removed if it is still empty. */
void nf_mirror_dir_close(struct nf_mirror_dir *d, bool undo);

#endif
