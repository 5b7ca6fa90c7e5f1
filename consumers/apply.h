/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The applier: file events in, one after another, a directory tree out.
 *
 * It does what each event says and nothing else, so that after each COMMIT the
 * tree equals the guest's at that commit.  Paths are resolved beneath the
 * tree's descriptor (consumers/beneath.h).  Applying an event leaves the
 * modification times of files and parent directories as they were: the guest's
 * own times arrive in the events.  Change and creation times cannot be set.
 *
 * An inode without a name is kept in the staging directory as "INODE-GENERATION"
 * until it gets one.  New objects are made there and moved into the tree when
 * complete, so they inherit no ACL and no group from where they go.
 *
 * The applier fails, and the tree is then of no use, if an event does not fit
 * what the tree holds.  One thread.
 */
#ifndef NF_APPLY_H
#define NF_APPLY_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/event.h"

struct nf_apply_options {
    /*
     * Owners, devices, all permission bits and all xattrs for real.  Needs
     * root.  Else: no devices, no owners, only xattrs of the user namespace,
     * no set-user-ID and set-group-ID bits, and the owner can always read and
     * write files and enter directories.
     */
    bool as_root;
    bool keep_top;          /* the top directory keeps its owner, mode and ACL */
    uint64_t max_file_size; /* files are kept no longer than this; 0: no bound */
};

struct nf_apply_stats {
    uint64_t events, commits;
    uint64_t devices;     /* skipped, for want of as_root */
    uint64_t odd;         /* skipped: an impossible type, link target or xattr name */
    uint64_t incomplete;  /* WRITE with less data than length; paths left out */
    uint64_t encrypted;   /* WRITE of what only the guest can read: a hole of that length */
    uint64_t too_large;   /* content beyond max_file_size or what the host can hold */
    uint64_t xattrs;      /* refused by the host's file system */
    uint64_t chattr;      /* immutable and append-only flags, never set here */
    bool broken;          /* a GAP or RESYNC_BEGIN without its RESYNC_END */
};

struct nf_apply;

/*
 * Apply to the directory @tree with the directory @stage, on the same file
 * system, to hold what has no name.  Both are borrowed.  Null on failure.
 */
struct nf_apply *nf_apply_new(int tree, int stage, const struct nf_apply_options *opt,
                              struct nf_error *err);

/* Null is allowed. Content of the last file is put in order first. */
void nf_apply_free(struct nf_apply *a);

/*
 * Apply one event.  FS(gone) empties the tree; what is made in its place comes
 * as events.  Other FS and HEARTBEAT change nothing; kinds that are not known
 * are skipped.  The content of a WRITE must be plain (NF_CODEC_NONE).
 * Returns 0, or: NF_EFORMAT (a path or range that cannot be),
 * NF_ELOST (the event does not fit the tree), NF_EIO, NF_ENOMEM.
 */
int nf_apply_event(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err);

/*
 * Put the time back of the file that was written to last, which waits for the
 * next event about something else: to be called before the tree is looked at.
 */
int nf_apply_settle(struct nf_apply *a, struct nf_error *err);

/* Valid as long as @a. */
const struct nf_apply_stats *nf_apply_stats(const struct nf_apply *a);

#endif
