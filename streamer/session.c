/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "streamer/session.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "common/buffer.h"
#include "streamer/log.h"

/* With so many bytes waiting for Redis nothing more is read: the sender's
 * socket fills, and what it watches is held in the tap's ring. */
#define QUEUE_STOP (32u << 20)
#define QUEUE_RESUME (16u << 20)
/* Acknowledgements that a sender lets lie; one is 30 bytes. */
#define ACKS_MAX (1u << 20)

enum session_state { WAIT_HELLO, CHECKING, OPEN, ENDED };

struct nf_session {
    struct nf_disk_sender sender; /* first: the disk hands it back as this */
    const struct nf_session_env *env;
    int fd;
    uint32_t watching;
    enum session_state state;
    bool reading; /* in read_frames(), which must not be entered again */
    struct nf_frame_reader *reader;
    struct nf_hello hello;
    struct nf_disk *disk;
    uint64_t next_seq;
    struct nf_buffer out; /* acknowledgements to send */
};

static void watch(struct nf_session *s, uint32_t events)
{
    struct epoll_event ev = { .events = events, .data.ptr = s };
    int op = !s->watching ? EPOLL_CTL_ADD : events ? EPOLL_CTL_MOD : EPOLL_CTL_DEL;

    if (events == s->watching)
        return;
    epoll_ctl(s->env->epoll_fd, op, s->fd, &ev);
    s->watching = events;
}

static void end(struct nf_session *s)
{
    if (s->state == ENDED)
        return;
    watch(s, 0);
    if (s->disk)
        nf_disk_close(s->disk, &s->sender);
    s->disk = NULL;
    /* The peer learns it at once, though the object lives a little longer. */
    shutdown(s->fd, SHUT_RDWR);
    s->state = ENDED;
}

static const char *label(const struct nf_session *s)
{
    static char text[3 * NF_SOURCE_NAME_MAX + 8];

    if (!*s->hello.host)
        return "a sender without HELLO";
    snprintf(text, sizeof(text), "%s/%s/%s", s->hello.host, s->hello.vm, s->hello.disk);
    return text;
}

/* A sender that is refused tries again: the same reason is said once a minute. */
static void refuse(struct nf_session *s, const char *why)
{
    static char last[1024];
    static time_t said;
    char text[1024];
    struct timespec now;

    snprintf(text, sizeof(text), "%s refused: %s", label(s), why);
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (strcmp(text, last) != 0 || now.tv_sec - said >= 60) {
        nf_log("%s", text);
        strcpy(last, text);
        said = now.tv_sec;
    }
    end(s);
}

/* Nothing is to be read while it is not known whether the sender is accepted,
 * and while Redis is behind. */
static void set_watching(struct nf_session *s, bool in)
{
    watch(s, (in ? EPOLLIN : 0) | (s->out.len ? EPOLLOUT : 0));
}

static void send_acks(struct nf_session *s)
{
    while (s->out.len) {
        ssize_t n = send(s->fd, s->out.data, s->out.len, MSG_DONTWAIT | MSG_NOSIGNAL);

        if (n < 0) {
            if (errno == EINTR)
                continue;
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                end(s);
            else if (s->out.len > ACKS_MAX)
                refuse(s, "it does not read its acknowledgements");
            break;
        }
        nf_buffer_consume(&s->out, (size_t)n);
    }
    if (s->state != ENDED)
        set_watching(s, s->watching & EPOLLIN);
}

/* An epoch is the Unix time of its start in milliseconds, or less in replays. One
 * far in the future would be the last that its disk's stream can ever have. */
#define EPOCH_AHEAD_MS (24ull * 3600 * 1000)

static bool epoch_plausible(uint64_t epoch)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return epoch <= (uint64_t)now.tv_sec * 1000 + EPOCH_AHEAD_MS;
}

static void take_hello(struct nf_session *s, const struct nf_frame *frame)
{
    struct nf_disk_sender *busy = NULL;
    struct nf_error err;
    int ret;

    if (frame->type != NF_FRAME_HELLO) {
        refuse(s, "the first frame is not HELLO");
        return;
    }
    s->hello = frame->hello;
    if (!*s->hello.host || !*s->hello.vm || !*s->hello.disk) {
        *s->hello.host = '\0';
        refuse(s, "HELLO without host, vm and disk");
        return;
    }
    if (s->hello.version != NF_FRAME_VERSION || s->hello.epoch == 0 || s->hello.next_seq == 0) {
        refuse(s, s->hello.version != NF_FRAME_VERSION ? "it speaks another version of the framing"
                                                       : "HELLO without epoch and seq");
        return;
    }
    if (!epoch_plausible(s->hello.epoch)) {
        refuse(s, "HELLO with an epoch that lies in the future");
        return;
    }
    s->next_seq = s->hello.next_seq;
    s->state = CHECKING;
    ret = nf_disk_open(s->env->disks, &s->hello, &s->sender, &s->disk, &busy, &err);
    if (ret == NF_EBUSY) {
        struct nf_session *other = (struct nf_session *)busy;
        struct pollfd p = { .fd = other->fd };

        /* A sender that was killed and is back may get here before its old
         * connection's end was noticed. */
        if (poll(&p, 1, 0) == 1 && (p.revents & (POLLHUP | POLLERR))) {
            end(other);
            ret = nf_disk_open(s->env->disks, &s->hello, &s->sender, &s->disk, &busy, &err);
        }
    }
    if (ret < 0) {
        s->disk = NULL;
        refuse(s, err.text);
    }
}

static void read_frames(struct nf_session *s)
{
    s->reading = true;
    while (s->state == OPEN || s->state == WAIT_HELLO) {
        struct nf_error err;
        struct nf_frame frame;
        struct nf_bytes payload;
        int ret;

        if (nf_link_queued(s->env->link) > QUEUE_STOP) {
            set_watching(s, false);
            break;
        }
        if (s->state == WAIT_HELLO) {
            ret = nf_frame_next(s->reader, &frame, &err);
            if (ret == NF_FRAME_READY)
                take_hello(s, &frame);
        } else {
            ret = nf_frame_next_raw(s->reader, &payload, &err);
            if (ret == NF_FRAME_READY) {
                int sent = nf_disk_deliver(s->disk, s->env->publisher, &s->hello, &s->next_seq,
                                           payload, &err);

                ret = sent < 0 ? sent : ret;
            }
        }
        if (ret == NF_FRAME_AGAIN) {
            set_watching(s, true);
            break;
        }
        if (ret < 0) {
            refuse(s, err.text);
        } else if (ret == NF_FRAME_END) {
            if (*s->hello.host)
                nf_log("%s: connection closed after event %" PRIu64 ":%" PRIu64, label(s),
                       s->hello.epoch, s->next_seq - 1);
            end(s);
        }
    }
    if (s->state == CHECKING)
        set_watching(s, false);
    s->reading = false;
}

static void on_checked(struct nf_disk_sender *sender, const char *refusal)
{
    struct nf_session *s = (struct nf_session *)sender;

    if (refusal) {
        refuse(s, refusal);
        return;
    }
    nf_log("%s: connected, epoch %" PRIu64 " from event %" PRIu64, label(s), s->hello.epoch,
           s->next_seq);
    s->state = OPEN;
    if (!s->reading)
        read_frames(s);
}

static void on_delivered(struct nf_disk_sender *sender, uint64_t epoch, uint64_t last_seq)
{
    struct nf_session *s = (struct nf_session *)sender;
    struct nf_error err;

    /* What an earlier connection left behind is none of this one's. */
    if (epoch != s->hello.epoch || last_seq >= s->next_seq || s->state != OPEN)
        return;
    if (nf_frame_put_ack(&s->out, &(struct nf_ack){ epoch, last_seq }, &err) < 0) {
        refuse(s, err.text);
        return;
    }
    send_acks(s);
}

static void on_conflict(struct nf_disk_sender *sender, const char *what)
{
    refuse((struct nf_session *)sender, what);
}

struct nf_session *nf_session_new(const struct nf_session_env *env, int fd)
{
    struct nf_session *s = calloc(1, sizeof(*s));

    if (s)
        s->reader = nf_frame_reader_new(fd, NULL);
    if (!s || !s->reader) {
        free(s);
        close(fd);
        return NULL;
    }
    s->sender = (struct nf_disk_sender){ on_checked, on_delivered, on_conflict };
    s->env = env;
    s->fd = fd;
    watch(s, EPOLLIN);
    return s;
}

void nf_session_free(struct nf_session *s)
{
    if (!s)
        return;
    end(s);
    close(s->fd);
    nf_frame_reader_free(s->reader);
    nf_buffer_release(&s->out);
    free(s);
}

void nf_session_ready(struct nf_session *s, uint32_t events)
{
    if (s->state == ENDED)
        return;
    if (events & EPOLLOUT)
        send_acks(s);
    if (s->state != ENDED && (events & (EPOLLIN | EPOLLHUP | EPOLLERR)))
        read_frames(s);
}

void nf_session_resume(struct nf_session *s)
{
    if (s->state == OPEN && !(s->watching & EPOLLIN) &&
        nf_link_queued(s->env->link) <= QUEUE_RESUME)
        read_frames(s);
}

void nf_session_stop(struct nf_session *s)
{
    if (s->state != ENDED)
        set_watching(s, false);
}

bool nf_session_ended(const struct nf_session *s)
{
    return s->state == ENDED;
}
