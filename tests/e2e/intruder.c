/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nearfield-bdi as a guest might have made it: the same program, but from the
 * moment that the disk brings it a certain text its engine does what an
 * intruder would. What came of it is said on standard error. The text is
 * "NF-INTRUDER:" and the name of an attack, at the start of a written sector.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "bdi/bdi.h"
#include "bdi/daemon/handoff.h"
#include "common/buffer.h"
#include "common/event_pb.h"
#include "common/frame.h"

#define TEXT "NF-INTRUDER:"
#define FDS 64

int __real_bdi_record(struct bdi *bdi, const struct nf_record *rec, struct nf_error *err);
int __wrap_bdi_record(struct bdi *bdi, const struct nf_record *rec, struct nf_error *err);

static void told(const char *what, long rc)
{
    dprintf(2, "intruder: %s: %s\n", what, rc < 0 ? strerror(errno) : "done");
}

static int socket_type(int fd)
{
    int type = 0;
    socklen_t len = sizeof(type);

    return getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) < 0 ? -1 : type;
}

static void send_all(int type, const void *data, size_t len)
{
    for (int fd = 3; fd < FDS; fd++) {
        if (socket_type(fd) == type)
            told("send", send(fd, data, len, MSG_DONTWAIT | MSG_NOSIGNAL));
    }
}

/* Speak to the streamer as another disk's engine would begin to. */
static void hello(void)
{
    struct nf_hello h = {.version = NF_FRAME_VERSION, .host = "host", .vm = "other", .disk = "b",
                         .epoch = (uint64_t)time(NULL) * 1000, .next_seq = 1};
    struct nf_buffer out = {0};

    if (nf_frame_put_hello(&out, &h, NULL) == 0)
        send_all(SOCK_STREAM, out.data, out.len);
    nf_buffer_release(&out);
}

/* An event that says itself that it is another disk's: the source in an event
 * is not the engine's to fill. */
static void event(void)
{
    static const struct nf_bytes path = {(const uint8_t *)"/forged", 7};
    struct nf_event ev = {
        .source = {.host = "host", .vm = "other", .disk = "b"},
        .epoch = (uint64_t)time(NULL) * 1000 + 3600 * 1000,
        .seq = 1,
        .kind = NF_CREATE,
        .paths = &path,
        .npaths = 1,
    };
    struct nf_batch_writer_options opt = {.epoch = ev.epoch, .next_seq = 1};

    for (int fd = 3; fd < FDS; fd++) {
        struct nf_batch_writer *w;

        opt.fd = fd;
        if (socket_type(fd) != SOCK_STREAM || !(w = nf_batch_writer_new(&opt, NULL)))
            continue;
        if (nf_batch_writer_add(w, &ev, NULL) == 0)
            told("forge", nf_batch_writer_flush(w, NULL));
        nf_batch_writer_free(w);
    }
}

/* Have the opener say HELLO with an epoch years from now. */
static void future(void)
{
    struct handoff_msg msg = {.kind = HANDOFF_STREAM,
                              .epoch = (uint64_t)time(NULL) * 1000 + 365ull * 86400 * 1000,
                              .next_seq = 1};

    send_all(SOCK_SEQPACKET, &msg, sizeof(msg));
}

/* Messages to the opener that make no sense. */
static void noise(void)
{
    char junk[200];

    memset(junk, 0x5a, sizeof(junk));
    for (size_t n = 1; n <= sizeof(junk); n += 33)
        send_all(SOCK_SEQPACKET, junk, n);
}

static void attack(const char *name, size_t len)
{
    char *argv[] = {(char[]){"true"}, NULL};
    int *null = NULL;

    told("it begins", 0);
#define IS(s) (len >= strlen(s) && memcmp(name, s, strlen(s)) == 0)
    if (IS("open"))
        told("open", open("/etc/passwd", O_RDONLY));
    else if (IS("create"))
        told("create", open("/tmp/nf-intruder", O_WRONLY | O_CREAT, 0600));
    else if (IS("socket"))
        told("socket", socket(AF_INET, SOCK_STREAM, 0));
    else if (IS("exec"))
        told("exec", execv("/bin/true", argv));
    else if (IS("ptrace"))
        told("ptrace", ptrace(PTRACE_ATTACH, getppid(), NULL, NULL));
    else if (IS("code"))
        told("code", mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) ==
                             MAP_FAILED
                         ? -1 : 0);
    else if (IS("hello"))
        hello();
    else if (IS("event"))
        event();
    else if (IS("future"))
        future();
    else if (IS("noise"))
        noise();
    else if (IS("crash"))
        *(volatile int *)null = 1;
    else if (IS("hang"))
        for (;;)
            ;
    else
        told("no such attack", 0);
}

int __wrap_bdi_record(struct bdi *bdi, const struct nf_record *rec, struct nf_error *err)
{
    size_t len = sizeof(TEXT) - 1;

    for (size_t at = 0; rec->data && at + 512 <= rec->length; at += 512) {
        if (memcmp(rec->data + at, TEXT, len) == 0)
            attack((const char *)rec->data + at + len, 512 - len);
    }
    return __real_bdi_record(bdi, rec, err);
}
