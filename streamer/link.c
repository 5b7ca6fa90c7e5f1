/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "streamer/link.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "streamer/log.h"

#define BACKOFF_MIN_MS 50
#define BACKOFF_MAX_MS 5000
/* No reply for so long, with requests waiting: the server hangs or the network
 * lost the connection without telling. */
#define REPLY_TIMEOUT_MS 30000
#define CONNECT_TIMEOUT_MS 5000
/* At once to send(2), so that replies are read in between. */
#define SEND_CHUNK (256u << 10)

enum link_state { DOWN, CONNECTING, UP };

struct nf_link {
    const struct nf_redis_uri *uri;
    int epoll_fd;
    enum link_state state;
    redisContext *ctx; /* for its socket and reader; its output buffer is not used */
    uint32_t watching; /* epoll events asked for */
    int64_t deadline;  /* ms: when to connect (DOWN), give up (otherwise); 0: none */
    int backoff;       /* ms */
    bool complained;   /* about the present outage */
    bool receiving;    /* replies are being handled: what they submit is sent after */

    struct nf_request hello;       /* AUTH, SELECT, PING of the present connection */
    bool hello_done;
    struct nf_request *head, *tail;
    struct nf_request *sending; /* first one not wholly sent; null: all are */
    size_t queued;
};

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

int nf_request_command(struct nf_request *req, int argc, const struct nf_bytes *argv)
{
    struct nf_buffer *b = &req->commands;
    size_t before = b->len;
    int ret = nf_buffer_printf(b, "*%d\r\n", argc);

    for (int i = 0; ret == 0 && i < argc; i++) {
        ret = nf_buffer_printf(b, "$%zu\r\n", argv[i].len);
        if (ret == 0)
            ret = nf_buffer_append(b, argv[i].data, argv[i].len);
        if (ret == 0)
            ret = nf_buffer_append(b, "\r\n", 2);
    }
    if (ret < 0)
        b->len = before;
    else
        req->ncommands++;
    return ret;
}

static void watch(struct nf_link *l, uint32_t events)
{
    struct epoll_event ev = { .events = events, .data.ptr = l };

    if (events == l->watching)
        return;
    epoll_ctl(l->epoll_fd, l->watching ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, l->ctx->fd, &ev);
    l->watching = events;
}

static void go_down(struct nf_link *l, const char *why)
{
    uint32_t random = 0;

    if (l->ctx) {
        if (l->watching)
            epoll_ctl(l->epoll_fd, EPOLL_CTL_DEL, l->ctx->fd, NULL);
        redisFree(l->ctx);
        l->ctx = NULL;
    }
    l->watching = 0;
    l->state = DOWN;
    l->hello_done = false;
    if (!l->complained)
        nf_log("Redis at %s: %s; trying again until it answers", l->uri->shown, why);
    l->complained = true;
    for (struct nf_request *r = l->head; r; r = r->next) {
        r->sent = 0;
        r->replies = 0;
    }
    l->sending = l->head;

    /* Between half and all of the backoff, so that many streamers do not
     * come back at the same moment. */
    if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
        random = (uint32_t)now_ms();
    l->deadline = now_ms() + l->backoff / 2 + (int)(random % (unsigned)(l->backoff / 2 + 1));
    l->backoff = l->backoff * 2 > BACKOFF_MAX_MS ? BACKOFF_MAX_MS : l->backoff * 2;
}

static enum nf_reply_verdict hello_reply(struct nf_request *req, unsigned i, const redisReply *r)
{
    (void)req;
    (void)i;
    return r->type == REDIS_REPLY_ERROR ? NF_REPLY_RETRY : NF_REPLY_FINE;
}

/* Write @req's rest; 1 when all is written, 0 when the socket is full. */
static int send_request(struct nf_link *l, struct nf_request *req)
{
    while (req->sent < req->commands.len) {
        size_t len = req->commands.len - req->sent;
        ssize_t n = send(l->ctx->fd, req->commands.data + req->sent,
                         len < SEND_CHUNK ? len : SEND_CHUNK, MSG_NOSIGNAL | MSG_DONTWAIT);

        if (n < 0) {
            if (errno == EINTR)
                continue;
            return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -errno;
        }
        req->sent += (size_t)n;
    }
    return 1;
}

static void push(struct nf_link *l)
{
    int ret;

    if (l->state != UP || l->receiving)
        return;
    ret = send_request(l, &l->hello);
    /* Nothing else before the server accepted us: commands sent to a server
     * that wants a password would come back as errors, out of step. */
    while (ret == 1 && l->hello_done && l->sending) {
        ret = send_request(l, l->sending);
        if (ret == 1)
            l->sending = l->sending->next;
    }
    if (ret < 0) {
        go_down(l, strerror(-ret));
        return;
    }
    watch(l, EPOLLIN | (ret == 0 ? EPOLLOUT : 0));
    if (!l->deadline && (l->head || !l->hello_done))
        l->deadline = now_ms() + REPLY_TIMEOUT_MS;
}

static void start(struct nf_link *l)
{
    struct nf_redis_command cmd[3];
    struct nf_error err;
    char db_text[16];
    int n;

    l->ctx = nf_redis_connect_start(l->uri, &err);
    if (!l->ctx) {
        go_down(l, err.text);
        return;
    }
    l->ctx->reader->maxbuf = 0; /* keep the reader's memory between replies */
    nf_buffer_clear(&l->hello.commands);
    l->hello.ncommands = l->hello.replies = 0;
    l->hello.sent = 0;
    n = nf_redis_uri_handshake(l->uri, cmd, db_text);
    for (int i = 0; i < n; i++) {
        struct nf_bytes argv[3];

        for (int k = 0; k < cmd[i].argc; k++)
            argv[k] = (struct nf_bytes){ (const uint8_t *)cmd[i].argv[k], strlen(cmd[i].argv[k]) };
        if (nf_request_command(&l->hello, cmd[i].argc, argv) < 0) {
            go_down(l, "out of memory");
            return;
        }
    }
    l->state = CONNECTING;
    l->deadline = now_ms() + CONNECT_TIMEOUT_MS;
    watch(l, EPOLLIN | EPOLLOUT);
}

struct nf_link *nf_link_new(const struct nf_redis_uri *uri, int epoll_fd, struct nf_error *err)
{
    struct nf_link *l = calloc(1, sizeof(*l));

    if (!l) {
        nf_fail(err, NF_ENOMEM, "link: out of memory");
        return NULL;
    }
    l->uri = uri;
    l->epoll_fd = epoll_fd;
    l->backoff = BACKOFF_MIN_MS;
    l->hello.reply = hello_reply;
    start(l);
    return l;
}

void nf_link_free(struct nf_link *l)
{
    if (!l)
        return;
    if (l->ctx)
        redisFree(l->ctx);
    nf_buffer_release(&l->hello.commands);
    free(l);
}

void nf_link_submit(struct nf_link *l, struct nf_request *req)
{
    bool was_clear = !l->sending;

    req->next = NULL;
    req->sent = 0;
    req->replies = 0;
    if (l->tail)
        l->tail->next = req;
    else
        l->head = req;
    l->tail = req;
    if (!l->sending)
        l->sending = req;
    l->queued += req->commands.len;
    if (was_clear)
        push(l);
}

static void recovered(struct nf_link *l)
{
    if (l->complained)
        nf_log("Redis at %s: connected again", l->uri->shown);
    l->complained = false;
    l->backoff = BACKOFF_MIN_MS;
}

/* One reply belongs to the oldest request. False: the connection is lost. */
static bool take_reply(struct nf_link *l, const redisReply *r)
{
    struct nf_request *req = l->hello_done ? l->head : &l->hello;

    if (!req || req->replies >= req->ncommands) {
        go_down(l, "it sent a reply that nothing was asked for");
        return false;
    }
    if (req->reply && req->reply(req, req->replies, r) == NF_REPLY_RETRY) {
        char text[200];

        snprintf(text, sizeof(text), "it refused a command: %.150s",
                 r->type == REDIS_REPLY_ERROR ? r->str : "unexpected reply");
        go_down(l, text);
        return false;
    }
    if (++req->replies < req->ncommands)
        return true;
    if (req->sent < req->commands.len) {
        go_down(l, "it answered before it was asked");
        return false;
    }
    if (req == &l->hello) {
        l->hello_done = true;
        if (!l->head)
            recovered(l);
        return true;
    }
    recovered(l); /* only now is it known to take commands, too */
    l->head = req->next;
    if (!l->head)
        l->tail = NULL;
    l->queued -= req->commands.len;
    req->done(req);
    return true;
}

static void receive(struct nf_link *l)
{
    for (;;) {
        char buf[65536];
        ssize_t n = recv(l->ctx->fd, buf, sizeof(buf), MSG_DONTWAIT);

        if (n == 0) {
            go_down(l, "it closed the connection");
            return;
        }
        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno == EAGAIN || errno == EWOULDBLOCK)
                break;
            go_down(l, strerror(errno));
            return;
        }
        if (redisReaderFeed(l->ctx->reader, buf, (size_t)n) != REDIS_OK) {
            go_down(l, l->ctx->reader->errstr);
            return;
        }
        for (;;) {
            void *reply = NULL;
            bool up;

            if (redisReaderGetReply(l->ctx->reader, &reply) != REDIS_OK) {
                go_down(l, l->ctx->reader->errstr);
                return;
            }
            if (!reply)
                break;
            l->receiving = true;
            up = take_reply(l, reply);
            l->receiving = false;
            freeReplyObject(reply);
            if (!up)
                return;
        }
        l->deadline = 0; /* it answers */
        if ((size_t)n < sizeof(buf))
            break;
    }
    push(l);
}

void nf_link_ready(struct nf_link *l, uint32_t events)
{
    if (!l->ctx)
        return; /* an event of a connection that is gone */
    if (l->state == CONNECTING) {
        int error = 0;
        socklen_t len = sizeof(error);

        if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
            return;
        if (getsockopt(l->ctx->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
            error = errno;
        if (error) {
            go_down(l, strerror(error));
            return;
        }
        l->state = UP;
        push(l);
        return;
    }
    if (events & (EPOLLIN | EPOLLERR | EPOLLHUP))
        receive(l);
    else if (events & EPOLLOUT)
        push(l);
}

int nf_link_timeout(const struct nf_link *l)
{
    int64_t left;

    if (!l->deadline)
        return -1;
    left = l->deadline - now_ms();
    return left < 0 ? 0 : (int)left;
}

void nf_link_tick(struct nf_link *l)
{
    if (!l->deadline || now_ms() < l->deadline)
        return;
    l->deadline = 0;
    if (l->state == DOWN)
        start(l);
    else
        go_down(l, l->state == CONNECTING ? "no connection in time" : "no answer in time");
}

size_t nf_link_queued(const struct nf_link *l)
{
    return l->queued;
}

bool nf_link_idle(const struct nf_link *l)
{
    return !l->head;
}
