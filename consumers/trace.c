/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nearfield trace: captured write traces.
 */
#include "consumers/commands.h"

#include <stdio.h>
#include <string.h>

static const char usage[] =
    "Usage: nearfield trace VERB [OPTION]...\n\n"
    "Captured disk write traces.\n";

int nf_cmd_trace(int argc, char **argv)
{
    if (argc < 2)
        return nf_cmd_usage_error("trace", "no verb given");
    if (strcmp(argv[1], "--help") == 0) {
        fputs(usage, stdout);
        return nf_cmd_close_stdout("trace", NF_EXIT_OK);
    }
    return nf_cmd_usage_error("trace", "unknown verb '%s'", argv[1]);
}
