/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Messages between the opener and the engine, over a SOCK_SEQPACKET pair.
 *
 * The engine asks (it cannot open or connect anything); the opener answers
 * with descriptors (SCM_RIGHTS) or a status.  The opener believes nothing but
 * the numbers of a HELLO, and those within its own bounds.
 */
#ifndef BDI_DAEMON_HANDOFF_H
#define BDI_DAEMON_HANDOFF_H

#include <stdint.h>

#include "common/error.h"

enum handoff_kind {
    HANDOFF_HELLO = 1,  /* say HELLO on the output; answer: status */
    HANDOFF_STREAM = 2, /* connect to the streamer, say HELLO; answer: socket */
    HANDOFF_IMAGE = 3,  /* connect to the NBD server; answer: socket */
    HANDOFF_TAP = 4,    /* connect to the tap; answer: socket, DATA, CTRL */
};

#define HANDOFF_FDS_MAX 3

struct handoff_msg {
    uint32_t kind;     /* enum handoff_kind */
    int32_t status;    /* answers: 0 or negative enum nf_status */
    uint64_t epoch;    /* HELLO, STREAM: what to say */
    uint64_t next_seq; /* HELLO, STREAM */
};

/* Send one message; descriptors are borrowed. 0, NF_ECLOSED or NF_EIO. */
int handoff_send(int sock, const struct handoff_msg *msg, const int *fds, int nfds,
                 struct nf_error *err);

/*
 * Receive one message, blocking.  @fds has room for HANDOFF_FDS_MAX; the
 * caller owns the @nfds it gets (close-on-exec).  0, NF_ECLOSED when the other
 * process is gone, NF_EFORMAT, NF_EIO.
 */
int handoff_recv(int sock, struct handoff_msg *msg, int *fds, int *nfds, struct nf_error *err);

#endif
