/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine's sandbox: what is left to a process that parses bytes which a
 * guest chose.  Entered once, before the first such byte; never left.
 */
#ifndef BDI_DAEMON_SANDBOX_H
#define BDI_DAEMON_SANDBOX_H

#include "common/error.h"

/*
 * Close every descriptor of this process but 0, 1, 2 and those of @keep
 * (entries of -1 are ignored).  0 or NF_EIO.
 */
int sandbox_close_fds(const int *keep, int n, struct nf_error *err);

/*
 * Drop root (to user and group nobody), every capability and any way to gain
 * privileges; bound resources; deny the file system by Landlock where the
 * kernel has it; and restrict system calls to an allow-list by seccomp.  After
 * it the process can use the descriptors that it has and memory, and receive
 * further descriptors; a refused call fails with EPERM, and one that only an
 * intruder would make (execve, ptrace, socket, connect...) kills it.
 * It dies when its parent does.  Single-threaded callers only.
 * 0, or a negative status: then the process must
 * not go on.
 */
int sandbox_enter(struct nf_error *err);

#endif
