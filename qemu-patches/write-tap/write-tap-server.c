/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * write-tap: the socket that a consumer connects to
 */
#include "qemu/osdep.h"

#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "qapi/error.h"
#include "qemu/main-loop.h"
#include "trace.h"

#include "write-tap-server.h"

/* How long to wait for another process that binds in the same directory. */
#define BIND_TRIES 100
#define BIND_WAIT_US 10000

void write_tap_server_bell(WriteTapServer *srv)
{
    char msg = NF_RING_MSG_DOORBELL;

    if (srv->conn_fd >= 0) {
        /* A full socket means that the consumer has doorbells to read. */
        (void)!send(srv->conn_fd, &msg, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
    }
}

void write_tap_server_check(WriteTapServer *srv)
{
    if (srv->conn_fd >= 0 && write_tap_ring_take_fault(srv->ring)) {
        trace_write_tap_fault(srv->node_name);
        shutdown(srv->conn_fd, SHUT_RDWR);
    }
}

static void disconnect(WriteTapServer *srv)
{
    int fd = srv->conn_fd;

    if (fd < 0) {
        return;
    }
    qemu_set_fd_handler(fd, NULL, NULL, NULL);
    WITH_QEMU_LOCK_GUARD(srv->lock) {
        write_tap_ring_attach(srv->ring, NULL);
        srv->conn_fd = -1;
    }
    munmap(srv->ctrl, NF_RING_CTRL_SIZE);
    srv->ctrl = NULL;
    close(fd);
    trace_write_tap_disconnect(srv->node_name);
}

/* The consumer's side of the socket has something, or ended. */
static void conn_read(void *opaque)
{
    WriteTapServer *srv = opaque;
    bool room = false;
    char buf[64];
    ssize_t n;

    n = recv(srv->conn_fd, buf, sizeof(buf), MSG_DONTWAIT);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    for (ssize_t i = 0; i < n; i++) {
        if (buf[i] != NF_RING_MSG_ROOM) {
            trace_write_tap_fault(srv->node_name);
            n = 0;
        }
        room = true;
    }
    if (n <= 0) {
        disconnect(srv);
        return;
    }
    if (room) {
        WITH_QEMU_LOCK_GUARD(srv->lock) {
            if (write_tap_ring_room(srv->ring)) {
                write_tap_server_bell(srv);
            }
            write_tap_server_check(srv);
        }
    }
}

/* A memfd of the size of CTRL, sealed, mapped at *@map. -1 on failure. */
static int create_ctrl(struct nf_ring_ctrl **map)
{
    int fd = memfd_create("write-tap-ctrl", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    void *p = MAP_FAILED;

    if (fd < 0) {
        return -1;
    }
    if (ftruncate(fd, NF_RING_CTRL_SIZE) == 0 &&
        fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) == 0) {
        p = mmap(NULL, NF_RING_CTRL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
                 fd, 0);
    }
    if (p == MAP_FAILED) {
        close(fd);
        return -1;
    }
    *map = p;
    return fd;
}

/* Greet; with @ctrl_fd >= 0 hand over the memory. False if that failed. */
static bool send_hello(WriteTapServer *srv, int fd, uint32_t status, int ctrl_fd)
{
    struct nf_ring_hello hello = {
        .magic = NF_RING_HELLO_MAGIC,
        .version = NF_RING_VERSION,
        .status = status,
        .data_size = write_tap_ring_data_size(srv->ring),
        .ctrl_size = NF_RING_CTRL_SIZE,
    };
    union {
        char buf[CMSG_SPACE(2 * sizeof(int))];
        struct cmsghdr align;
    } control = { 0 };
    struct iovec iov = { .iov_base = &hello, .iov_len = sizeof(hello) };
    struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

    memcpy(hello.epoch_uuid, write_tap_ring_uuid(srv->ring),
           sizeof(hello.epoch_uuid));
    if (ctrl_fd >= 0) {
        int fds[2] = { write_tap_ring_fd(srv->ring), ctrl_fd };
        struct cmsghdr *c;

        msg.msg_control = control.buf;
        msg.msg_controllen = sizeof(control.buf);
        c = CMSG_FIRSTHDR(&msg);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(fds));
        memcpy(CMSG_DATA(c), fds, sizeof(fds));
    }
    return sendmsg(fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) == sizeof(hello);
}

static bool peer_allowed(int fd)
{
    struct ucred cred;
    socklen_t len = sizeof(cred);

    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) == 0 &&
           (cred.uid == 0 || cred.uid == geteuid());
}

/* One that hung up holds its place only until somebody looks. */
static bool conn_is_alive(WriteTapServer *srv)
{
    char c;
    ssize_t n;

    if (srv->conn_fd < 0) {
        return false;
    }
    n = recv(srv->conn_fd, &c, 1, MSG_DONTWAIT | MSG_PEEK);
    if (n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR))) {
        return true;
    }
    disconnect(srv);
    return false;
}

static void listen_accept(void *opaque)
{
    WriteTapServer *srv = opaque;
    struct nf_ring_ctrl *ctrl = NULL;
    int ctrl_fd;
    int fd = accept4(srv->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

    if (fd < 0) {
        return;
    }
    if (!peer_allowed(fd)) {
        send_hello(srv, fd, NF_RING_HELLO_DENIED, -1);
        close(fd);
        return;
    }
    if (conn_is_alive(srv)) {
        send_hello(srv, fd, NF_RING_HELLO_IN_USE, -1);
        close(fd);
        return;
    }
    ctrl_fd = create_ctrl(&ctrl);
    if (ctrl_fd < 0) {
        send_hello(srv, fd, NF_RING_HELLO_ERROR, -1);
        close(fd);
        return;
    }
    /* The tail is in place before the consumer can see the page. */
    WITH_QEMU_LOCK_GUARD(srv->lock) {
        write_tap_ring_attach(srv->ring, ctrl);
        srv->conn_fd = fd;
    }
    srv->ctrl = ctrl;
    if (!send_hello(srv, fd, NF_RING_HELLO_OK, ctrl_fd)) {
        disconnect(srv);
    } else {
        qemu_set_fd_handler(fd, conn_read, NULL, srv);
        trace_write_tap_connect(srv->node_name);
    }
    close(ctrl_fd);
}

/* 1: somebody listens at @addr; 0: nobody does; negative errno. */
static int probe(const struct sockaddr_un *addr)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int ret;

    if (fd < 0) {
        return -errno;
    }
    ret = connect(fd, (const struct sockaddr *)addr, sizeof(*addr)) == 0 ? 1 : -errno;
    close(fd);
    if (ret == -EAGAIN) {
        return 1; /* its queue is full */
    }
    return ret == -ECONNREFUSED ? 0 : ret;
}

/* Bind at @addr; a socket that nobody listens on any more is replaced. */
static int bind_locked(int fd, const struct sockaddr_un *addr, Error **errp)
{
    struct stat st;
    int ret;

    if (lstat(addr->sun_path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode)) {
            error_setg(errp, "'%s' exists and is not a socket", addr->sun_path);
            return -EEXIST;
        }
        ret = probe(addr);
        if (ret) {
            error_setg(errp, ret > 0 ? "'%s' is in use by another process" :
                       "'%s' exists and cannot be probed", addr->sun_path);
            return -EADDRINUSE;
        }
        if (unlink(addr->sun_path) < 0) {
            ret = -errno;
            error_setg_errno(errp, errno, "Could not remove the stale socket '%s'",
                             addr->sun_path);
            return ret;
        }
    }
    /* On Linux this is the mode that bind gives to the file. */
    if (fchmod(fd, 0600) < 0 ||
        bind(fd, (const struct sockaddr *)addr, sizeof(*addr)) < 0 ||
        listen(fd, 4) < 0) {
        ret = -errno;
        error_setg_errno(errp, errno, "Could not listen on '%s'", addr->sun_path);
        return ret;
    }
    return 0;
}

/*
 * Lock the directory against other taps, so that two of them that find the
 * same stale socket cannot take it over from each other.
 */
static int lock_directory(const char *path, Error **errp)
{
    g_autofree char *dir = g_path_get_dirname(path);
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int ret;

    if (fd < 0) {
        ret = -errno;
        error_setg_errno(errp, errno, "Could not open '%s'", dir);
        return ret;
    }
    for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
        if (i == BIND_TRIES || (errno != EWOULDBLOCK && errno != EINTR)) {
            ret = -errno;
            error_setg_errno(errp, errno, "Could not lock '%s'", dir);
            close(fd);
            return ret;
        }
        g_usleep(BIND_WAIT_US);
    }
    return fd;
}

int write_tap_server_start(WriteTapServer *srv, const char *path,
                           const char *node_name, QemuMutex *lock,
                           WriteTapRing *ring, Error **errp)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct stat st;
    int dir_fd, fd, ret;

    if (strlen(path) >= sizeof(addr.sun_path)) {
        error_setg(errp, "Socket path '%s' is longer than %zu bytes", path,
                   sizeof(addr.sun_path) - 1);
        return -ENAMETOOLONG;
    }
    pstrcpy(addr.sun_path, sizeof(addr.sun_path), path);

    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        ret = -errno;
        error_setg_errno(errp, errno, "Could not create a socket");
        return ret;
    }
    dir_fd = lock_directory(path, errp);
    if (dir_fd < 0) {
        close(fd);
        return dir_fd;
    }
    ret = bind_locked(fd, &addr, errp);
    close(dir_fd);
    if (ret < 0) {
        close(fd);
        return ret;
    }

    *srv = (WriteTapServer) {
        .lock = lock,
        .ring = ring,
        .path = g_strdup(path),
        .node_name = g_strdup(node_name),
        .listen_fd = fd,
        .conn_fd = -1,
    };
    if (lstat(path, &st) == 0) {
        srv->dev = st.st_dev;
        srv->ino = st.st_ino;
    }
    qemu_set_fd_handler(fd, listen_accept, NULL, srv);
    return 0;
}

void write_tap_server_stop(WriteTapServer *srv)
{
    struct stat st;

    if (!srv->path) {
        return;
    }
    disconnect(srv);
    qemu_set_fd_handler(srv->listen_fd, NULL, NULL, NULL);
    if (lstat(srv->path, &st) == 0 && st.st_dev == srv->dev &&
        st.st_ino == srv->ino) {
        unlink(srv->path);
    }
    close(srv->listen_fd);
    srv->listen_fd = -1;
    g_free(srv->path);
    g_free(srv->node_name);
    srv->path = srv->node_name = NULL;
}
