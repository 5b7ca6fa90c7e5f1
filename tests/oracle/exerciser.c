/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Random system calls on a directory tree, decided by a seed alone:
 *     exerciser [--fsync|--small] SEED STEPS DIR
 * With --fsync files are synced one by one, often, and what ext4 cannot put into
 * a fast commit is rare. With --small most writes are of few bytes, and names are
 * few, such as fit into inodes.
 * Calls may fail (a name is taken, a directory is not empty): that is part of
 * it. How often each was tried and done is printed at the end, so that nobody
 * takes a call for tested that this kernel or file system always refused.
 */
#include "tests/oracle/exerciser.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void say(const struct ex_op *op)
{
    for (; op->name; op++) {
        printf("  %-16s %6" PRIu64 " of %6" PRIu64, op->name, op->done, op->tried);
        if (op->tried && !op->done)
            printf("  %s", strerror(op->last_errno));
        putchar('\n');
    }
}

static void prefer_fsync(struct ex_op *op)
{
    for (; op->name; op++)
        if (!op->full)
            op->weight *= strcmp(op->name, "fsync") == 0 ? 500 : 15;
}

int main(int argc, char **argv)
{
    if (argc == 5 && strcmp(argv[1], "--fsync") == 0) {
        prefer_fsync(ex_file_ops);
        prefer_fsync(ex_name_ops);
        prefer_fsync(ex_attr_ops);
        argc--;
        argv++;
    } else if (argc == 5 && strcmp(argv[1], "--small") == 0) {
        ex_small = true;
        argc--;
        argv++;
    }
    if (argc != 4 || chdir(argv[3]) < 0) {
        fprintf(stderr, "Usage: exerciser [--fsync|--small] SEED STEPS DIR\n");
        return 2;
    }
    ex_seed(strtoull(argv[1], NULL, 0));
    printf("exerciser: seed %s, %s steps\n", argv[1], argv[2]);
    if (ex_make_dirs() < 0) {
        fprintf(stderr, "exerciser: mkdir: %s\n", strerror(errno));
        return 1;
    }
    for (long steps = atol(argv[2]); steps > 0; steps--) {
        unsigned r = ex_below(100);

        ex_run(ex_choose(r < 40 ? ex_file_ops : r < 82 ? ex_name_ops : ex_attr_ops));
    }
    puts("done of tried:");
    say(ex_file_ops);
    say(ex_name_ops);
    say(ex_attr_ops);
    return 0;
}
