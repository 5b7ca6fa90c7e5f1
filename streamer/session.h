/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One connection from a nearfield-bdi: HELLO, then batches in, and
 * acknowledgements out.  Single-threaded; driven by the epoll loop.
 */
#ifndef NF_SESSION_H
#define NF_SESSION_H

#include <stdbool.h>
#include <stdint.h>

#include "streamer/disk.h"

struct nf_session;

struct nf_session_env {
    int epoll_fd; /* sessions register with data.ptr = the session */
    struct nf_link *link;
    struct nf_disks *disks;
    struct nf_publisher *publisher;
};

/* Take over @fd, a connected non-blocking socket. Null without memory (then
 * @fd is closed). @env is borrowed. */
struct nf_session *nf_session_new(const struct nf_session_env *env, int fd);
void nf_session_free(struct nf_session *s);

/* The socket is ready. */
void nf_session_ready(struct nf_session *s, uint32_t events);

/* Go on reading if it had stopped because Redis was behind. */
void nf_session_resume(struct nf_session *s);

/* Read nothing more; acknowledgements still go out. */
void nf_session_stop(struct nf_session *s);

/* True once the connection ended, for whatever reason; free it then, outside
 * of its own callbacks. */
bool nf_session_ended(const struct nf_session *s);

#endif
