/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The directory of --state, as the opener sees it: files that it opens and
 * never reads, since a guest may have had a hand in them.
 */
#ifndef BDI_DAEMON_STATE_DIR_H
#define BDI_DAEMON_STATE_DIR_H

#include "bdi/daemon/engine.h"

/*
 * Make the directory if need be (0700), take its lock (waiting a moment for
 * processes that were killed and are not quite gone), open its files into
 * @setup.  NF_EBUSY: another engine uses it; NF_EINVAL: others than its owner
 * may change it, or it is not ours; NF_EIO.
 */
int state_dir_open(const char *path, struct engine_setup *setup, struct nf_error *err);

#endif
