/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Many files, quickly: for the images that the benchmarks attach to.
 *
 * usage: fill DIR FILES PER-DIRECTORY BYTES
 *        fill -a DIR FILES PER-DIRECTORY BYTES    allocate BYTES, write none
 *
 * DIR/dNNNNN/fNNNNNNN; the first 8 bytes of each are its number.
 */
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define BYTES_MAX 65536u

int main(int argc, char **argv)
{
    static char content[BYTES_MAX];
    bool allocate = argc > 1 && strcmp(argv[1], "-a") == 0;
    unsigned long files, per, bytes;
    int top, dir = -1;
    char name[32];

    argc -= allocate;
    argv += allocate;
    if (argc != 5) {
        fprintf(stderr, "usage: fill [-a] DIR FILES PER-DIRECTORY BYTES\n");
        return 2;
    }
    files = strtoul(argv[2], NULL, 10);
    per = strtoul(argv[3], NULL, 10);
    bytes = strtoul(argv[4], NULL, 10);
    if (per == 0 || bytes > BYTES_MAX)
        errx(2, "too many bytes, or no files in a directory");
    top = open(argv[1], O_RDONLY | O_DIRECTORY);
    if (top < 0)
        err(1, "%s", argv[1]);
    for (unsigned long i = 0; i < files; i++) {
        int fd;

        if (i % per == 0) {
            snprintf(name, sizeof(name), "d%05lu", i / per);
            if (mkdirat(top, name, 0755) < 0)
                err(1, "%s", name);
            if (dir >= 0)
                close(dir);
            dir = openat(top, name, O_RDONLY | O_DIRECTORY);
            if (dir < 0)
                err(1, "%s", name);
        }
        snprintf(name, sizeof(name), "f%07lu", i);
        fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0644);
        if (fd < 0)
            err(1, "%s", name);
        if (bytes && allocate && fallocate(fd, 0, 0, (off_t)bytes) < 0)
            err(1, "%s: fallocate", name);
        memcpy(content, &i, sizeof(i));
        if (bytes && !allocate && write(fd, content, bytes) != (ssize_t)bytes)
            err(1, "%s: write", name);
        close(fd);
    }
    return 0;
}
