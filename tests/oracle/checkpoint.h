/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the kernel would recover from a disk: a copy of the image gets its
 * journal replayed by e2fsck and is mounted read-only over a read-only loop
 * device, so that nothing else is changed.  Needs root and loop devices.
 *
 * Fast commits are replayed by the kernel itself, in a writable mount: e2fsck 1.47
 * does not manage to. The kernel sets some times to that of its replay (those of
 * directories with changed names), and there are fast commits that it cannot
 * replay either.
 */
#ifndef NF_CHECKPOINT_H
#define NF_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>
#include <time.h>

#include "common/error.h"

struct checkpoint {
    char copy[300];  /* file */
    char mount[300]; /* directory */
    bool mounted;
    bool replayed;         /* by the kernel; since then: */
    struct timespec since; /* times from here on are the replay's */
    int root;        /* of the mounted tree; -1 if not mounted */
};

/* In the directory @dir, which must exist and be ours alone. */
int checkpoint_init(struct checkpoint *c, const char *dir, struct nf_error *err);

/* Copy @disk_fd and mount what the file system at @offset recovers to. 1: it is one
 * with fast commits, and the kernel refuses to recover it. */
int checkpoint_take(struct checkpoint *c, int disk_fd, uint64_t offset, struct nf_error *err);

/* Only the copy, recovered and not mounted. */
int checkpoint_recover(struct checkpoint *c, int disk_fd, uint64_t offset, struct nf_error *err);

/* Unmount. The copy stays until the next one. */
void checkpoint_drop(struct checkpoint *c);

/* Unmount and remove everything. */
void checkpoint_release(struct checkpoint *c);

#endif
