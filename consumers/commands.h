/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The subcommands of the `nearfield` program: one function, one file each.
 *
 * argv[0] is the subcommand's own name ("trace"), so that getopt(3) works
 * unchanged from optind 1.  A command prints its errors on stderr itself, one
 * line each beginning "nearfield NAME: ", and returns the exit status:
 * 0, 1 (it failed) or 2 (wrong usage, see nf_cmd_usage_error()).
 */
#ifndef NF_COMMANDS_H
#define NF_COMMANDS_H

enum nf_exit {
    NF_EXIT_OK = 0,
    NF_EXIT_FAILURE = 1,
    NF_EXIT_USAGE = 2,
};

int nf_cmd_mirror(int argc, char **argv);
int nf_cmd_trace(int argc, char **argv);
int nf_cmd_watch(int argc, char **argv);

/* "nearfield @name: MESSAGE" and a pointer to --help, on stderr; returns
 * NF_EXIT_USAGE.  @name is "trace" or, for verbs, "trace import"; may be null
 * for the program itself.  A null @fmt leaves the message out: for use after
 * getopt_long(), which has printed its own. */
int nf_cmd_usage_error(const char *name, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

/* "nearfield @name: MESSAGE" on stderr; returns NF_EXIT_FAILURE. */
int nf_cmd_error(const char *name, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Flush stdout; a failed write there (full disk, closed pipe) turns a good
 * @status into NF_EXIT_FAILURE with a message. */
int nf_cmd_close_stdout(const char *name, int status);

#endif
