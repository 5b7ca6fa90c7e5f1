/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the applier's files share; no interface for others.
 * apply.c: names. apply_attr.c: attributes. apply_content.c: content.
 */
#ifndef NF_APPLY_STATE_H
#define NF_APPLY_STATE_H

#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>

#include "consumers/apply.h"
#include "consumers/beneath.h"
#include "consumers/inode_map.h"

/* The regular file whose content is being changed: kept open between events
 * of one inode; its mtime and capability are put back when it is closed. */
struct nf_apply_file {
    int fd; /* -1: none */
    uint32_t inode, generation;
    struct timespec mtime;
    struct nf_apply_cap {
        char value[64];
        ssize_t len; /* <= 0: none */
    } cap;
};

struct nf_apply {
    struct nf_beneath tree;
    int stage;
    struct nf_apply_options opt;
    struct nf_apply_stats stats;
    struct nf_inode_map inodes;
    struct nf_apply_file file;
    uint8_t *piece; /* for copying within a file; null until needed */
};

/* --- apply.c --- */

/*
 * Open what @ev is about (O_PATH) and check that it is the inode it says.
 * 1: there is nothing to do, it is not kept here (a skipped device, an inode
 * without a name that was never linked).
 */
int nf_apply_open(struct nf_apply *a, const struct nf_event *ev, int *fd, struct nf_error *err);

/* "Event SEQ (KIND) PATH: MESSAGE". Returns @code. */
int nf_apply_fail(struct nf_error *err, int code, const struct nf_event *ev, const char *fmt, ...)
    __attribute__((format(printf, 4, 5)));

/* "/proc/self/fd/N": the way to operations that take no O_PATH descriptor. */
struct nf_proc_path {
    char text[40];
};
struct nf_proc_path nf_proc_path(int fd);

/* --- apply_attr.c --- */

/* Who may do what. */
#define NF_APPLY_ACCESS ((uint32_t)(NF_ATTR_MODE | NF_ATTR_UID | NF_ATTR_GID))

/* Is @ev about the top directory? */
bool nf_apply_is_top(const struct nf_event *ev);

/* Set the attributes in @mask (enum nf_attr_mask; others are ignored) of @fd,
 * an O_PATH or other descriptor. -1 with errno. */
int nf_apply_set_attr(struct nf_apply *a, int fd, const struct nf_attr *attr, uint32_t mask);

/* Writing to a file, and changing its owner, drop its capability; the guest's
 * own doing arrives as an event, so ours is undone. */
void nf_apply_cap_save(struct nf_apply *a, int fd, struct nf_apply_cap *cap);
void nf_apply_cap_restore(int fd, const struct nf_apply_cap *cap);

int nf_apply_attr(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err);
int nf_apply_xattr(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err);

/* --- apply_clear.c --- */

/* All that is in the tree and the staging directory goes. */
int nf_apply_clear(struct nf_apply *a, struct nf_error *err);

/* --- apply_content.c --- */

/* WRITE, TRUNCATE, ZERO, MOVE_RANGE */
int nf_apply_content(struct nf_apply *a, const struct nf_event *ev, struct nf_error *err);

/* Put the file's mtime back and close it. */
int nf_apply_file_close(struct nf_apply *a, struct nf_error *err);

/* Give a new file its size, sparse, within the bounds. -1 with errno. */
int nf_apply_set_size(struct nf_apply *a, int fd, uint64_t size);

#endif
