/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The `nearfield` program: finds the subcommand and runs it.
 */
#include "consumers/commands.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* In the order of --help. */
static const struct {
    const char *name;
    const char *help;
    int (*run)(int argc, char **argv);
} commands[] = {
    { "mirror", "make a directory follow a guest's files", nf_cmd_mirror },
    { "trace", "record, replay, inspect and convert captured write traces", nf_cmd_trace },
    { "watch", "print file events as they happen", nf_cmd_watch },
};

static void help(FILE *out)
{
    fprintf(out, "Usage: nearfield COMMAND [OPTION]...\n"
                 "       nearfield --help | --version\n\n"
                 "Follow the files of virtual machines from outside them.\n\n"
                 "Commands:\n");
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        fprintf(out, "  %-9s %s\n", commands[i].name, commands[i].help);
    fprintf(out, "\n'nearfield COMMAND --help' describes a command; "
                 "so does nearfield-COMMAND(1),\n"
                 "docs/man/nearfield-COMMAND.1 in the source tree.\n");
}

static void vmessage(const char *name, const char *fmt, va_list ap)
{
    char text[1024];

    vsnprintf(text, sizeof(text), fmt, ap);
    fprintf(stderr, "nearfield%s%s: %s\n", name ? " " : "", name ? name : "", text);
}

int nf_cmd_usage_error(const char *name, const char *fmt, ...)
{
    va_list ap;

    if (fmt) {
        va_start(ap, fmt);
        vmessage(name, fmt, ap);
        va_end(ap);
    }
    fprintf(stderr, "Try 'nearfield%s%s --help'.\n", name ? " " : "", name ? name : "");
    return NF_EXIT_USAGE;
}

int nf_cmd_error(const char *name, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    vmessage(name, fmt, ap);
    va_end(ap);
    return NF_EXIT_FAILURE;
}

int nf_cmd_close_stdout(const char *name, int status)
{
    int bad = ferror(stdout);

    if (fflush(stdout) != 0)
        bad = 1;
    if (bad && status == NF_EXIT_OK)
        status = nf_cmd_error(name, "write to standard output: %s", strerror(errno));
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 2)
        return nf_cmd_usage_error(NULL, "no command given");
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        help(stdout);
        return nf_cmd_close_stdout(NULL, NF_EXIT_OK);
    }
    if (strcmp(argv[1], "--version") == 0) {
        printf("nearfield %s\n", NF_VERSION);
        return nf_cmd_close_stdout(NULL, NF_EXIT_OK);
    }
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
        if (strcmp(argv[1], commands[i].name) == 0)
            return commands[i].run(argc - 1, argv + 1);
    if (argv[1][0] == '-')
        return nf_cmd_usage_error(NULL, "unknown option '%s'", argv[1]);
    return nf_cmd_usage_error(NULL, "unknown command '%s'", argv[1]);
}
