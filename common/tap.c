/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/tap.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "common/ring_reader.h"

#define HANDSHAKE_TIMEOUT_S 10

struct nf_tap {
    struct nf_tap_fds fds;
    struct nf_ring_reader reader;
    struct nf_tap_info info;
    uint8_t *meta; /* DATA up to the payload */
    size_t meta_len;
    uint8_t *payload; /* twice in a row */
    size_t payload_len; /* of both */
    struct nf_ring_ctrl *ctrl;
};

void nf_tap_fds_close(struct nf_tap_fds *fds)
{
    int *all[] = {&fds->sock, &fds->data, &fds->ctrl};

    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        if (*all[i] >= 0)
            close(*all[i]);
        *all[i] = -1;
    }
}

static int connect_error(const char *path, int saved, struct nf_error *err)
{
    switch (saved) {
    case ENOENT:
        return nf_fail(err, NF_ENOTFOUND, "tap %s: no such socket", path);
    case ECONNREFUSED:
        return nf_fail(err, NF_ECLOSED,
                       "tap %s: nobody listens (is the virtual machine running?)", path);
    default:
        return nf_fail(err, NF_EIO, "tap %s: %s", path, strerror(saved));
    }
}

/* Receive @hello and what comes with it; closes what it does not return. */
static int receive_hello(int sock, const char *path, struct nf_ring_hello *hello,
                         struct nf_tap_fds *fds, struct nf_error *err)
{
    union {
        char buf[CMSG_SPACE(4 * sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec iov = {.iov_base = hello, .iov_len = sizeof(*hello)};
    struct msghdr msg = {
        .msg_iov = &iov,
        .msg_iovlen = 1,
        .msg_control = control.buf,
        .msg_controllen = sizeof(control.buf),
    };
    ssize_t n;
    size_t have;

    do {
        n = recvmsg(sock, &msg, MSG_CMSG_CLOEXEC);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return nf_fail(err, NF_EFORMAT, "tap %s: no greeting; this is not a tap's socket", path);
        return nf_fail(err, NF_EIO, "tap %s: %s", path, strerror(errno));
    }

    for (struct cmsghdr *c = CMSG_FIRSTHDR(&msg); c; c = CMSG_NXTHDR(&msg, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        for (size_t i = 0; i < (c->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++) {
            int fd;

            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(int));
            if (fds->data < 0)
                fds->data = fd;
            else if (fds->ctrl < 0)
                fds->ctrl = fd;
            else
                close(fd);
        }
    }

    have = (size_t)n;
    while (n > 0 && have < sizeof(*hello)) {
        n = recv(sock, (char *)hello + have, sizeof(*hello) - have, 0);
        if (n < 0 && errno == EINTR) {
            n = 1;
            continue;
        }
        if (n > 0)
            have += (size_t)n;
    }
    if (have == 0)
        return nf_fail(err, NF_ECLOSED, "tap %s: it hung up without a greeting", path);
    if (have < sizeof(*hello) || hello->magic != NF_RING_HELLO_MAGIC)
        return nf_fail(err, NF_EFORMAT, "tap %s: wrong greeting; this is not a tap's socket", path);
    if (hello->version != NF_RING_VERSION)
        return nf_fail(err, NF_EFORMAT, "tap %s: it speaks version %u, this program version %u",
                       path, hello->version, NF_RING_VERSION);
    switch (hello->status) {
    case NF_RING_HELLO_OK:
        break;
    case NF_RING_HELLO_IN_USE:
        return nf_fail(err, NF_EBUSY, "tap %s: another consumer is connected to it", path);
    case NF_RING_HELLO_DENIED:
        return nf_fail(err, NF_EIO, "tap %s: it refuses user %u; be its user or root", path,
                       (unsigned)geteuid());
    default:
        return nf_fail(err, NF_ECLOSED, "tap %s: it is out of resources", path);
    }
    if (fds->data < 0 || fds->ctrl < 0)
        return nf_fail(err, NF_EFORMAT, "tap %s: the greeting lacks the memory", path);
    return NF_OK;
}

int nf_tap_connect(const char *socket_path, struct nf_tap_fds *fds, struct nf_error *err)
{
    struct sockaddr_un addr = {.sun_family = AF_UNIX};
    const struct timeval limit = {.tv_sec = HANDSHAKE_TIMEOUT_S};
    const struct timeval forever = {0};
    struct nf_ring_hello hello;
    struct stat st;
    int ret;

    *fds = (struct nf_tap_fds){-1, -1, -1};
    if (strlen(socket_path) >= sizeof(addr.sun_path))
        return nf_fail(err, NF_EINVAL, "tap %s: the path of a socket has at most %zu bytes",
                       socket_path, sizeof(addr.sun_path) - 1);
    strcpy(addr.sun_path, socket_path);

    if (stat(socket_path, &st) < 0)
        return connect_error(socket_path, errno, err);
    if (!S_ISSOCK(st.st_mode))
        return nf_fail(err, NF_EINVAL, "tap %s: not a socket", socket_path);

    fds->sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fds->sock < 0)
        return nf_fail(err, NF_EIO, "socket: %s", strerror(errno));
    if (setsockopt(fds->sock, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) < 0 ||
        setsockopt(fds->sock, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) < 0) {
        ret = nf_fail(err, NF_EIO, "tap %s: %s", socket_path, strerror(errno));
        goto out;
    }
    if (connect(fds->sock, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        ret = connect_error(socket_path, errno, err);
        goto out;
    }
    ret = receive_hello(fds->sock, socket_path, &hello, fds, err);
    if (ret)
        goto out;
    if (setsockopt(fds->sock, SOL_SOCKET, SO_RCVTIMEO, &forever, sizeof(forever)) < 0)
        ret = nf_fail(err, NF_EIO, "tap %s: %s", socket_path, strerror(errno));
out:
    if (ret)
        nf_tap_fds_close(fds);
    return ret;
}

/* The size of memfd @fd, which must have at least @seals: else it could be
 * shrunk under our mapping. */
static int sealed_size(int fd, const char *what, int seals, uint64_t *size, struct nf_error *err)
{
    struct stat st;
    int have = fcntl(fd, F_GET_SEALS);

    if (have < 0 || (have & seals) != seals)
        return nf_fail(err, NF_EFORMAT, "tap: the %s memory is not sealed", what);
    if (fstat(fd, &st) < 0)
        return nf_fail(err, NF_EIO, "tap: fstat: %s", strerror(errno));
    *size = (uint64_t)st.st_size;
    return NF_OK;
}

static int map_data(struct nf_tap *tap, struct nf_error *err)
{
    struct nf_ring_header header;
    uint64_t size;
    uint8_t *head;
    int ret;

    ret = sealed_size(tap->fds.data, "ring's", F_SEAL_SHRINK | F_SEAL_GROW, &size, err);
    if (ret)
        return ret;
    if (size < NF_RING_DESC_OFFSET)
        return nf_fail(err, NF_EFORMAT, "tap: a ring of %llu bytes", (unsigned long long)size);

    head = mmap(NULL, NF_RING_PAGE, PROT_READ, MAP_SHARED, tap->fds.data, 0);
    if (head == MAP_FAILED)
        return nf_fail(err, NF_ENOMEM, "tap: mmap: %s", strerror(errno));
    ret = nf_ring_header_read(head, size, &header, err);
    munmap(head, NF_RING_PAGE);
    if (ret)
        return ret;

    tap->meta_len = header.payload_offset;
    tap->meta = mmap(NULL, tap->meta_len, PROT_READ, MAP_SHARED, tap->fds.data, 0);
    if (tap->meta == MAP_FAILED) {
        tap->meta = NULL;
        return nf_fail(err, NF_ENOMEM, "tap: mmap: %s", strerror(errno));
    }
    /* Reserve the address range, then lay the payload over each half. */
    tap->payload_len = 2 * header.payload_size;
    tap->payload = mmap(NULL, tap->payload_len, PROT_NONE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (tap->payload == MAP_FAILED) {
        tap->payload = NULL;
        return nf_fail(err, NF_ENOMEM, "tap: mmap: %s", strerror(errno));
    }
    for (int i = 0; i < 2; i++) {
        if (mmap(tap->payload + i * header.payload_size, header.payload_size, PROT_READ,
                 MAP_SHARED | MAP_FIXED, tap->fds.data,
                 (off_t)header.payload_offset) == MAP_FAILED)
            return nf_fail(err, NF_ENOMEM, "tap: mmap: %s", strerror(errno));
    }
    tap->reader.header = header;
    return NF_OK;
}

static int map_ctrl(struct nf_tap *tap, struct nf_error *err)
{
    uint64_t size;
    void *p;
    int ret;

    ret = sealed_size(tap->fds.ctrl, "control", F_SEAL_SHRINK | F_SEAL_GROW, &size, err);
    if (ret)
        return ret;
    if (size != NF_RING_CTRL_SIZE)
        return nf_fail(err, NF_EFORMAT, "tap: control memory of %llu bytes",
                       (unsigned long long)size);
    p = mmap(NULL, NF_RING_CTRL_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, tap->fds.ctrl, 0);
    if (p == MAP_FAILED)
        return nf_fail(err, NF_ENOMEM, "tap: mmap: %s", strerror(errno));
    tap->ctrl = p;
    return NF_OK;
}

struct nf_tap *nf_tap_new(struct nf_tap_fds *fds, struct nf_error *err)
{
    struct nf_tap *tap = calloc(1, sizeof(*tap));
    const struct nf_ring_header *h;

    if (!tap) {
        nf_tap_fds_close(fds);
        nf_fail(err, NF_ENOMEM, "out of memory");
        return NULL;
    }
    tap->fds = *fds;
    *fds = (struct nf_tap_fds){-1, -1, -1};

    if (map_data(tap, err) || map_ctrl(tap, err))
        goto fail;
    h = &tap->reader.header;
    tap->info = (struct nf_tap_info){
        .disk_size = h->disk_size,
        .payload_size = h->payload_size,
        .desc_count = h->desc_count,
        .start_ns = h->start_ns,
    };
    memcpy(tap->info.epoch_uuid, h->epoch_uuid, sizeof(h->epoch_uuid));
    memcpy(tap->info.disk_id, h->disk_id, sizeof(h->disk_id));
    struct nf_ring_header header = *h;
    if (nf_ring_reader_init(&tap->reader, &header, tap->meta, tap->payload, tap->ctrl, err))
        goto fail;
    return tap;

fail:
    nf_tap_free(tap);
    return NULL;
}

void nf_tap_free(struct nf_tap *tap)
{
    if (!tap)
        return;
    if (tap->meta)
        munmap(tap->meta, tap->meta_len);
    if (tap->payload)
        munmap(tap->payload, tap->payload_len);
    if (tap->ctrl)
        munmap(tap->ctrl, NF_RING_CTRL_SIZE);
    nf_tap_fds_close(&tap->fds);
    free(tap);
}

const struct nf_tap_info *nf_tap_info(const struct nf_tap *tap)
{
    return &tap->info;
}

void nf_tap_status(const struct nf_tap *tap, struct nf_tap_status *st)
{
    struct nf_ring_producer p;

    nf_ring_reader_producer(&tap->reader, &p);
    *st = (struct nf_tap_status){
        .connected = tap->fds.sock >= 0,
        .in_gap = p.state == NF_RING_STATE_GAP,
        .head = p.head,
        .tail = tap->reader.tail,
        .disk_size = p.disk_size,
        .records = p.records,
        .payload_bytes = p.payload_bytes,
        .gaps = p.gaps,
        .lost_requests = p.lost_requests,
        .lost_bytes = p.lost_bytes,
        .touched_bytes = p.touched_bytes,
        .fill_permille = nf_ring_reader_fill_permille(&tap->reader),
    };
}

int nf_tap_next(struct nf_tap *tap, struct nf_record *rec, struct nf_error *err)
{
    return nf_ring_reader_next(&tap->reader, rec, err);
}

int nf_tap_peek(struct nf_tap *tap, uint64_t seq, struct nf_record *rec, struct nf_error *err)
{
    return nf_ring_reader_peek(&tap->reader, seq, rec, err);
}

void nf_tap_release(struct nf_tap *tap, uint64_t seq)
{
    nf_ring_reader_release(&tap->reader, seq);
}

/* Nothing more will come: what is BUSY now stays BUSY. */
static void producer_gone(struct nf_tap *tap)
{
    close(tap->fds.sock);
    tap->fds.sock = -1;
    tap->reader.dead = true;
}

/* Empty the socket of doorbells; notice its end. */
static void drain_socket(struct nf_tap *tap)
{
    char buf[256];
    ssize_t n;

    do {
        n = recv(tap->fds.sock, buf, sizeof(buf), MSG_DONTWAIT);
    } while (n == (ssize_t)sizeof(buf) || (n < 0 && errno == EINTR));
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK))
        producer_gone(tap);
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int nf_tap_wait(struct nf_tap *tap, int timeout_ms, struct nf_error *err)
{
    const int64_t deadline = timeout_ms < 0 ? INT64_MAX : now_ms() + timeout_ms;

    while (tap->fds.sock >= 0) {
        struct pollfd pfd = {.fd = tap->fds.sock, .events = POLLIN};
        int64_t left = timeout_ms;
        int n;

        if (nf_ring_reader_arm(&tap->reader))
            return 1;
        /* A producer that found no room hears only from us when there is some. */
        if (nf_ring_reader_in_gap(&tap->reader))
            (void)!send(tap->fds.sock, &(char){NF_RING_MSG_ROOM}, 1, MSG_DONTWAIT | MSG_NOSIGNAL);
        if (timeout_ms > 0) {
            left = deadline - now_ms();
            if (left < 0)
                left = 0;
        }
        n = poll(&pfd, 1, (int)left);
        if (n < 0 && errno != EINTR)
            return nf_fail(err, NF_EIO, "tap: poll: %s", strerror(errno));
        if (n == 0)
            return 0;
        if (n > 0)
            drain_socket(tap);
    }
    return 1;
}

int nf_tap_fd(const struct nf_tap *tap)
{
    return tap->fds.sock;
}

uint64_t nf_tap_head(const struct nf_tap *tap)
{
    return nf_ring_reader_head(&tap->reader);
}
