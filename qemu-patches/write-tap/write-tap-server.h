/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The socket of a write-tap node: one consumer at a time, served from the
 * main loop.
 */
#ifndef BLOCK_WRITE_TAP_SERVER_H
#define BLOCK_WRITE_TAP_SERVER_H

#include <sys/stat.h>

#include "qemu/thread.h"
#include "write-tap-ring.h"

typedef struct WriteTapServer {
    /* Set once, before listening. */
    QemuMutex *lock;    /* protects the ring and @conn_fd */
    WriteTapRing *ring; /* borrowed; outlives the listening */
    char *path;
    char *node_name;

    /* Main loop only. */
    int listen_fd; /* -1: not listening */
    dev_t dev;     /* of the socket in the file system: it may not be ours */
    ino_t ino;     /* any more when we remove it */
    struct nf_ring_ctrl *ctrl;

    int conn_fd; /* -1: no consumer; changed by the main loop only */
} WriteTapServer;

/* @srv is zeroed memory. Listens from now on. */
int write_tap_server_start(WriteTapServer *srv, const char *path,
                           const char *node_name, QemuMutex *lock,
                           WriteTapRing *ring, Error **errp);
/* Disconnects, stops listening, removes the socket. Without effect if not started. */
void write_tap_server_stop(WriteTapServer *srv);

/*
 * Wake the consumer up. Any thread; @srv->lock is held, so that the connection
 * cannot go away. Never blocks.
 */
void write_tap_server_bell(WriteTapServer *srv);

/*
 * Look whether the ring found the consumer to break the contract, and if so make
 * the main loop drop it. Any thread; @srv->lock is held.
 */
void write_tap_server_check(WriteTapServer *srv);

#endif
