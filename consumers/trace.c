/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nearfield trace: captured write traces.
 */
#include "consumers/commands.h"

#include <stdio.h>
#include <string.h>

#include "consumers/trace_cmd.h"

static const struct {
    const char *name;
    const char *help;
    int (*run)(int argc, char **argv);
} verbs[] = {
    { "record", "record the write stream of a live tap", nf_trace_cmd_record },
    { "replay", "apply a trace to a disk image", nf_trace_cmd_replay },
    { "info", "say what a trace holds", nf_trace_cmd_info },
    { "import", "make a trace of a dm-log-writes or blklogwrites log", nf_trace_cmd_import },
    { "export", "make a dm-log-writes log of a trace", nf_trace_cmd_export },
};
#define NVERBS (sizeof(verbs) / sizeof(verbs[0]))

int nf_cmd_trace(int argc, char **argv)
{
    static char name[64];

    if (argc < 2)
        return nf_cmd_usage_error("trace", "no verb given");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        printf("Usage: nearfield trace VERB [OPTION]...\n\n"
               "Captured disk write traces: a base image and what was written to it.\n\n"
               "Verbs:\n");
        for (size_t i = 0; i < NVERBS; i++)
            printf("  %-7s %s\n", verbs[i].name, verbs[i].help);
        printf("\n'nearfield trace VERB --help' describes a verb.\n");
        return nf_cmd_close_stdout("trace", NF_EXIT_OK);
    }
    for (size_t i = 0; i < NVERBS; i++)
        if (strcmp(argv[1], verbs[i].name) == 0) {
            /* getopt_long() begins its messages with this. */
            snprintf(name, sizeof(name), "nearfield trace %s", verbs[i].name);
            argv[1] = name;
            return verbs[i].run(argc - 1, argv + 1);
        }
    return nf_cmd_usage_error("trace", "unknown verb '%s'", argv[1]);
}
