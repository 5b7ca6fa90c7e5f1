/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The streamer's messages: one line each on stderr, which the service manager
 * stores. */
#ifndef NF_LOG_H
#define NF_LOG_H

void nf_log(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
