/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Paths that a guest chose, resolved beneath one directory and nowhere else.
 *
 * A path is absolute within the guest's file system ("/" is its root); its
 * bytes may be anything but NUL.  Every directory on the way is opened with
 * openat2(2), which follows no link, leaves by no "..", and crosses no mount;
 * only the last component is left to the caller's *at() call.  Paths may be
 * longer than PATH_MAX.
 *
 * One thread.  The descriptors that are handed out are O_PATH ones.
 */
#ifndef NF_BENEATH_H
#define NF_BENEATH_H

#include <stddef.h>
#include <time.h>

#include "common/bytes.h"
#include "common/error.h"

#define NF_NAME_MAX 255

enum { NF_BENEATH_SLOTS = 4 };

struct nf_beneath {
    int root; /* borrowed */

    /* Parent directories used last, by path. */
    struct nf_beneath_slot {
        uint8_t *path;
        size_t len;
        int fd; /* -1: empty */
        unsigned used;
    } slots[NF_BENEATH_SLOTS];
    unsigned clock;
};

/* @root is borrowed and must stay open. */
void nf_beneath_init(struct nf_beneath *b, int root);
void nf_beneath_release(struct nf_beneath *b);

/*
 * 0 if @path is absolute and each of its components is a possible name: 1 to
 * 255 bytes, no NUL, neither "." nor "..". Else NF_EFORMAT.
 */
int nf_beneath_check(struct nf_bytes path, struct nf_error *err);

/*
 * Open the directory that holds the last component of @path (not "/"), and
 * copy that component to @name.  *@fd is borrowed: valid until three further
 * calls, or nf_beneath_forget().  NF_ENOTFOUND if a directory on the way does
 * not exist, NF_EINVAL if it is something else (a symbolic link, a mount).
 */
int nf_beneath_parent(struct nf_beneath *b, struct nf_bytes path, int *fd,
                      char name[NF_NAME_MAX + 1], struct nf_error *err);

/* The same, after making what is missing on the way: directories, mode 0700. */
int nf_beneath_make_parent(struct nf_beneath *b, struct nf_bytes path, int *fd,
                           char name[NF_NAME_MAX + 1], struct nf_error *err);

/* Open @path itself, whatever it is, without following it. The caller closes *@fd. */
int nf_beneath_object(struct nf_beneath *b, struct nf_bytes path, int *fd, struct nf_error *err);

/* To be called after a directory was moved or removed. */
void nf_beneath_forget(struct nf_beneath *b);

/*
 * Modification time of what @fd refers to (any descriptor, O_PATH too), and
 * setting it back after an operation that touched it but stands for one that
 * is already in the guest's own time.  Return 0, or -1 with errno.
 */
int nf_beneath_mtime(int fd, struct timespec *mtime);
int nf_beneath_set_mtime(int fd, const struct timespec *mtime);

/*
 * @path for a message: bytes that are not printable ASCII, and backslashes, as
 * \xNN; cut with "..." to what fits into @size (at least 8). Returns @buf.
 */
const char *nf_beneath_text(struct nf_bytes path, char *buf, size_t size);

#endif
