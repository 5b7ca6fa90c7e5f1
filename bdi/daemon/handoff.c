/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/handoff.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

union control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(HANDOFF_FDS_MAX * sizeof(int))];
};

int handoff_send(int sock, const struct handoff_msg *msg, const int *fds, int nfds,
                 struct nf_error *err)
{
    struct handoff_msg copy = *msg;
    struct iovec iov = {&copy, sizeof(copy)};
    union control control = {0};
    struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

    if (nfds < 0 || nfds > HANDOFF_FDS_MAX)
        return nf_fail(err, NF_EINVAL, "handoff of %d descriptors", nfds);
    if (nfds > 0) {
        struct cmsghdr *c;

        mh.msg_control = control.bytes;
        mh.msg_controllen = CMSG_SPACE((size_t)nfds * sizeof(int));
        c = CMSG_FIRSTHDR(&mh);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN((size_t)nfds * sizeof(int));
        memcpy(CMSG_DATA(c), fds, (size_t)nfds * sizeof(int));
    }
    while (sendmsg(sock, &mh, MSG_NOSIGNAL) < 0) {
        if (errno == EINTR)
            continue;
        if (errno == EPIPE || errno == ECONNRESET)
            return nf_fail(err, NF_ECLOSED, "handoff: the other process is gone");
        return nf_fail(err, NF_EIO, "handoff: sendmsg: %s", strerror(errno));
    }
    return 0;
}

int handoff_recv(int sock, struct handoff_msg *msg, int *fds, int *nfds, struct nf_error *err)
{
    struct iovec iov = {msg, sizeof(*msg)};
    union control control;
    struct msghdr mh = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.bytes,
        .msg_controllen = sizeof(control.bytes),
    };
    ssize_t n;

    *nfds = 0;
    do {
        n = recvmsg(sock, &mh, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n == 0 || (n < 0 && errno == ECONNRESET))
        return nf_fail(err, NF_ECLOSED, "handoff: the other process is gone");
    if (n < 0)
        return nf_fail(err, NF_EIO, "handoff: recvmsg: %s", strerror(errno));
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&mh); c; c = CMSG_NXTHDR(&mh, c)) {
        size_t count;

        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        /* The control buffer has room for no more than HANDOFF_FDS_MAX. */
        count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if (*nfds < HANDOFF_FDS_MAX)
                fds[(*nfds)++] = fd;
            else
                close(fd);
        }
    }
    if (n != sizeof(*msg) || (mh.msg_flags & (MSG_TRUNC | MSG_CTRUNC))) {
        while (*nfds > 0)
            close(fds[--*nfds]);
        return nf_fail(err, NF_EFORMAT, "handoff: message of %zd bytes", n);
    }
    return 0;
}
