/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/unix_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

int unix_connect(const char *path, const char *what, struct nf_error *err)
{
    struct sockaddr_un sa = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    int fd;

    if (len == 0 || len >= sizeof(sa.sun_path))
        return nf_fail(err, NF_EINVAL, "%s %s: the path is empty or over %zu bytes", what, path,
                       sizeof(sa.sun_path) - 1);
    memcpy(sa.sun_path, path, len + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return nf_fail(err, NF_EIO, "%s %s: socket: %s", what, path, strerror(errno));
    if (connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0) {
        int e = errno;

        close(fd);
        if (e == ENOENT || e == ECONNREFUSED)
            return nf_fail(err, NF_ENOTFOUND, "%s %s: %s; is it running?", what, path,
                           strerror(e));
        return nf_fail(err, NF_EIO, "%s %s: connect: %s", what, path, strerror(e));
    }
    return fd;
}
