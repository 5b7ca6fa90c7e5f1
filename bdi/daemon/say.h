/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the daemon tells its operator: one line on stderr, written at once, so
 * that lines of the two processes never mix.  Text may carry bytes that a
 * guest chose: control characters are replaced.
 */
#ifndef BDI_DAEMON_SAY_H
#define BDI_DAEMON_SAY_H

void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
