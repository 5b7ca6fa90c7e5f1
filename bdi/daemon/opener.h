/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The opener process: opens and connects, starts the engine, and serves it
 * until it ends.  It reads no byte that a guest chose.
 */
#ifndef BDI_DAEMON_OPENER_H
#define BDI_DAEMON_OPENER_H

#include "bdi/daemon/options.h"

/* Run to the end. Returns the exit code; failures were said on stderr. */
int opener_main(const struct options *opt);

#endif
