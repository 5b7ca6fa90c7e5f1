/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine process: everything that looks at bytes of the guest.
 */
#ifndef BDI_DAEMON_ENGINE_H
#define BDI_DAEMON_ENGINE_H

#include "bdi/daemon/options.h"
#include "bdi/daemon/output.h"
#include "common/tap.h"

/* All that the engine gets; -1 where there is nothing. */
struct engine_setup {
    const struct options *opt;
    enum output_kind output;
    int control;     /* to the opener, see handoff.h */
    int image_fd;    /* regular file or block device, read-only */
    int nbd_sock;    /* connected */
    const char *export_name;
    struct nf_tap_fds tap;
    int trace_fd;
    int shadow_fd;   /* empty file */
    int hold_fd;     /* empty file for events of an attach in the making; tap */
    int kept_fd;     /* empty file for a copy of what an attach reads; tap */
    int out_fd;      /* PROTO, JSON */

    bool state;      /* --state: shadow_fd and these may hold something */
    int present_fd, undo_fd, outbox_fds[2];
    int lock_fd;     /* held as long as one of the two processes lives */
    char boot_id[37]; /* of the host, text */
};

/*
 * Enter the sandbox and follow the disk.  Called in a process of its own with
 * SIGTERM, SIGINT and SIGUSR1 blocked; closes every descriptor that is not in
 * @setup.  Returns the exit code; failures were said on stderr.
 */
int engine_main(struct engine_setup *setup);

#endif
