/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to the `nearfield trace` verbs: what they share.
 */
#ifndef NF_TRACE_CMD_H
#define NF_TRACE_CMD_H

#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/image.h"
#include "common/record.h"

/* The verbs; argv[0] is the verb, the result an exit status. */
int nf_trace_cmd_record(int argc, char **argv);
int nf_trace_cmd_replay(int argc, char **argv);
int nf_trace_cmd_info(int argc, char **argv);
int nf_trace_cmd_import(int argc, char **argv);
int nf_trace_cmd_export(int argc, char **argv);

/* Set by SIGINT, SIGTERM and SIGHUP once nf_catch_signals() was called: long
 * loops look at it, finish or clean up, and end. */
extern volatile sig_atomic_t nf_stop;
void nf_catch_signals(void);

/* A percentage on stderr if that is a terminal, else nothing. */
struct nf_progress {
    const char *what;
    int64_t next_ns; /* when to draw again */
    bool drawn;
};
void nf_progress_show(struct nf_progress *p, uint64_t done, uint64_t total);
void nf_progress_end(struct nf_progress *p);

/* Size of an open regular file or block device. */
int nf_disk_size(int fd, const char *path, uint64_t *size, struct nf_error *err);

/* May a file be renamed to @path? Not over a device, a pipe or a socket, and not
 * over the file of @input (null: none). */
int nf_output_check(const char *path, const char *input, struct nf_error *err);

/* An output file that appears under its name only when it is complete. */
struct nf_output {
    int fd;
    char *path, *tmp;
};
int nf_output_open(struct nf_output *o, const char *path, struct nf_error *err);
int nf_output_commit(struct nf_output *o, struct nf_error *err);
void nf_output_abort(struct nf_output *o); /* also after commit: releases */

/* Make zeros of a range of a file or block device. */
int nf_write_zeros(int fd, uint64_t offset, uint64_t length, struct nf_error *err);
int nf_write_full(int fd, const void *data, uint64_t length, uint64_t offset,
                  struct nf_error *err);

/* A raw file, block device or NBD URI (nbd:, nbds:, nbd+unix: ...) to read. */
struct nf_image *nf_image_source_open(const char *path_or_uri, struct nf_error *err);

#endif
