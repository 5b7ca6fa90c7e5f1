/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The one error scheme of Nearfield.
 *
 * A function that can fail returns 0 (NF_OK) on success, a negative enum
 * nf_status on failure, and, where its header says so, a positive value that
 * is not an error (end of input, nothing to do).  The sentence for a human is
 * made where the error is detected, into a caller-owned struct nf_error; it
 * says what failed, on what, and if possible what to do.  A null nf_error
 * pointer is always allowed and drops the text.
 */
#ifndef NF_ERROR_H
#define NF_ERROR_H

#pragma GCC visibility push(default) /* part of libbdi's interface */

enum nf_status {
    NF_OK = 0,
    NF_EIO = -1,          /* the operating system refused; text has strerror */
    NF_EFORMAT = -2,      /* bytes from outside break their format's rules */
    NF_ENOMEM = -3,       /* out of memory or over a stated bound */
    NF_EINVAL = -4,       /* the caller's arguments are wrong */
    NF_ENOTFOUND = -5,    /* no such object */
    NF_EUNSUPPORTED = -6, /* understood, but not something we follow */
    NF_ECLOSED = -7,      /* the peer is gone or broke the protocol */
    NF_ELOST = -8,        /* data was lost; continuity is broken */
    NF_EBUSY = -9,        /* in use by somebody else */
};

struct nf_error {
    int code;       /* enum nf_status of the last failure */
    char text[500]; /* one line, no newline, NUL-terminated */
};

/* Fill @err (may be null) and return @code, so that one writes
 * `return nf_fail(err, NF_EIO, "open %s: %s", path, strerror(errno));`. */
int nf_fail(struct nf_error *err, int code, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));

/* Put "@prefix: " in front of the text that @err already has; returns its code. */
int nf_fail_prefix(struct nf_error *err, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* A fixed English word for @status ("I/O error", ...). Never null. */
const char *nf_status_name(int status);

#pragma GCC visibility pop

#endif
