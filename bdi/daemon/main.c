/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nearfield-bdi: follows one virtual disk and tells what happens to its files.
 * See docs/man/nearfield-bdi.8.
 */
#include <fcntl.h>
#include <unistd.h>

#include "bdi/daemon/opener.h"
#include "bdi/daemon/options.h"

int main(int argc, char **argv)
{
    struct options opt;
    enum options_result result;

    /* A missing standard stream must not be replaced by a disk, nor by a place where
     * events vanish: for input there is one to write to, and the reverse. */
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0)
            return 1;
    }
    result = options_parse(argc, argv, &opt);
    if (result != OPTIONS_RUN)
        return (int)result;
    return opener_main(&opt);
}
