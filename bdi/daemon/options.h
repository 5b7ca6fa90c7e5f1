/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The command line of nearfield-bdi.
 */
#ifndef BDI_DAEMON_OPTIONS_H
#define BDI_DAEMON_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>

#include "bdi/bdi.h"
#include "common/event_pb.h"

struct options {
    const char *tap;   /* socket path, or null */
    const char *trace; /* file, or null; exactly one of the two is set */
    const char *image; /* path or NBD URI */
    char host[NF_SOURCE_NAME_MAX + 1];
    const char *vm, *disk;
    const char *out;       /* path; null for standard output and the streamer */
    const char *streamer;  /* socket path, or null */
    const char *state;     /* directory, or null; only with a tap */
    bool json;
    bool snapshot;
    enum bdi_data_mode data_mode;
    uint64_t content_limit;
    uint64_t epoch; /* 0: to be chosen */
};

enum options_result {
    OPTIONS_RUN = -1, /* go on; the other values are exit codes */
    OPTIONS_DONE = 0, /* --help and --version */
    OPTIONS_FAILED = 1, /* standard output does not take what they say */
    OPTIONS_USAGE = 2,
};

/* Parse; what is wrong is said on stderr.  Strings point into @argv. */
enum options_result options_parse(int argc, char **argv, struct options *opt);

#endif
