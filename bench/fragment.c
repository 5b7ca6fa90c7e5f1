/* SPDX-License-Identifier: GPL-2.0-or-later */
/* usage: fragment FILE EXTENTS: a file of single blocks with holes between them. */
#include <err.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BLOCK 4096

int main(int argc, char **argv)
{
    long extents;
    int fd;

    if (argc != 3) {
        fprintf(stderr, "usage: fragment FILE EXTENTS\n");
        return 2;
    }
    extents = atol(argv[2]);
    fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0644);
    if (fd < 0)
        err(1, "%s", argv[1]);
    if (fallocate(fd, 0, 0, 2 * BLOCK * (off_t)extents) < 0)
        err(1, "%s: fallocate", argv[1]);
    for (long i = 0; i < extents; i++) {
        if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (2 * i + 1) * (off_t)BLOCK,
                      BLOCK) < 0)
            err(1, "%s: punch", argv[1]);
    }
    return 0;
}
