/* SPDX-License-Identifier: GPL-2.0-or-later */
/* manifest DIR: see manifest.h. Runs in guests, too. */
#include <fcntl.h>
#include <stdio.h>

#include "tests/oracle/manifest.h"

int main(int argc, char **argv)
{
    int dir = argc == 2 ? open(argv[1], O_PATH | O_DIRECTORY) : -1;

    if (dir < 0 || manifest_write(dir, stdout) < 0) {
        perror(argc == 2 ? argv[1] : "usage: manifest DIR");
        return 1;
    }
    return 0;
}
