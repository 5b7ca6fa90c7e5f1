/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * feed-frames: sends made-up events to a streamer as nearfield-bdi would, until
 * all are acknowledged; connects again when the streamer goes away.
 *
 * The events depend on their seq alone, so that a second run sends the same.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "common/frame.h"

static const char usage[] =
    "Usage: feed-frames --socket PATH [--host H] [--vm V] [--disk D] [--epoch N] [--first SEQ]\n"
    "                   [--count N] [--batch N] [--size BYTES] [--interval-us N] [--now]\n"
    "                   [--paths FILE] [--other] [--retry SECONDS]\n"
    "--paths: NUL-separated paths to use in turn; --now: events happen as they are sent;\n"
    "--other: other content than without it.\n";

struct feed {
    const char *socket;
    struct nf_hello hello;
    uint64_t count, batch, size, interval_us;
    bool now, other;
    double retry;
    char *paths; /* contents of --paths */
    size_t paths_len;
    char *content;
};

static int64_t clock_ns(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static struct nf_bytes bytes(const char *s)
{
    return (struct nf_bytes){ (const uint8_t *)s, strlen(s) };
}

/* Path number @n of the file, counted round. */
static struct nf_bytes path_from_file(const struct feed *f, uint64_t n)
{
    size_t at = 0;

    for (; n > 0; n--) {
        at += strlen(f->paths + at) + 1;
        if (at >= f->paths_len)
            at = 0;
    }
    return bytes(f->paths + at);
}

static void make_event(const struct feed *f, uint64_t seq, struct nf_event *ev,
                       struct nf_bytes paths[2], char names[2][64])
{
    memset(ev, 0, sizeof(*ev));
    ev->epoch = f->hello.epoch;
    ev->seq = seq;
    ev->txn = (uint32_t)(seq / 5 + 1);
    ev->index = (uint32_t)(seq % 5);
    ev->time_ns = f->now ? clock_ns(CLOCK_REALTIME) : 1700000000000000000 + (int64_t)seq;
    ev->source.partition = 1;
    memcpy(ev->source.fs_uuid, "0123456789abcdef", 16);
    if (seq % 5 == 0) {
        ev->kind = NF_COMMIT;
        ev->commit.events = 4;
        return;
    }
    ev->inode = (uint32_t)(11 + seq % 1000);
    ev->generation = 1;
    snprintf(names[0], 64, "/dir/file-%" PRIu64, seq);
    snprintf(names[1], 64, "/other/%" PRIu64, seq);
    paths[0] = f->paths ? path_from_file(f, seq - 1) : bytes(names[0]);
    paths[1] = bytes(names[1]);
    ev->paths = paths;
    ev->npaths = 1;
    switch (f->paths ? 1 : seq % 7) {
    case 0:
        ev->kind = NF_CREATE;
        ev->create.attr.mode = 0100644;
        ev->create.attr.links = 1;
        break;
    case 1:
    case 2:
        ev->kind = NF_WRITE;
        ev->write.offset = seq % 2 * 4096;
        ev->write.length = f->size;
        ev->write.data = (struct nf_bytes){ (const uint8_t *)f->content, f->size };
        break;
    case 3:
        ev->kind = NF_ATTR;
        ev->attr.mask = NF_ATTR_MODE;
        ev->attr.before.mode = 0100755;
        ev->attr.after.mode = 0100644;
        break;
    case 4:
        ev->kind = NF_RENAME;
        ev->rename.new_path = paths[1];
        break;
    case 5:
        ev->kind = NF_LINK;
        ev->npaths = 2;
        break;
    default:
        ev->kind = NF_UNLINK;
        ev->unlink.last = true;
        ev->unlink.before.mode = 0100644;
        break;
    }
}

static int connect_once(const struct feed *f)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", f->socket);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Connect and say HELLO, again until @deadline (monotonic ns). */
static int open_streamer(struct feed *f, uint64_t next_seq, int64_t deadline)
{
    for (;;) {
        struct nf_error err;
        int fd = connect_once(f);

        f->hello.next_seq = next_seq;
        if (fd >= 0 && nf_frame_write_hello(fd, &f->hello, &err) == 0)
            return fd;
        if (fd >= 0)
            close(fd);
        if (clock_ns(CLOCK_MONOTONIC) >= deadline) {
            fprintf(stderr, "feed-frames: no streamer at %s\n", f->socket);
            return -1;
        }
        usleep(20000);
    }
}

static int feed(struct feed *f)
{
    uint64_t first = f->hello.next_seq, end = first + f->count, seq = first;
    int64_t patience = (int64_t)(f->retry * 1e9), deadline = clock_ns(CLOCK_MONOTONIC) + patience;
    struct nf_batch_writer *w;
    struct nf_error err;
    int fd = open_streamer(f, first, deadline), ret = 0;

    if (fd < 0)
        return 1;
    w = nf_batch_writer_new(&(struct nf_batch_writer_options){
                                .fd = fd, .acks = true, .epoch = f->hello.epoch, .next_seq = first },
                            &err);
    if (!w)
        return 1;
    while (nf_batch_writer_acked(w) + 1 < end) {
        if (ret == 0 && seq < end) {
            struct nf_event ev;
            struct nf_bytes paths[2];
            char names[2][64];

            make_event(f, seq, &ev, paths, names);
            ret = nf_batch_writer_add(w, &ev, &err);
            if (ret == 0 || ret == NF_ECLOSED)
                seq++;
            if (ret == 0 && ((seq - first) % f->batch == 0 || seq == end))
                ret = nf_batch_writer_flush(w, &err);
            if (ret == 0)
                ret = nf_batch_writer_poll(w, &err);
            if (f->interval_us)
                usleep((useconds_t)f->interval_us);
        } else if (ret == 0) {
            ret = nf_batch_writer_drain(w, 10000 + (int)(f->retry * 1000), &err);
            if (ret == 1) {
                fprintf(stderr, "feed-frames: acknowledged only up to %" PRIu64 "\n",
                        nf_batch_writer_acked(w));
                break;
            }
        }
        if (ret == NF_ECLOSED && patience > 0) {
            close(fd);
            /* Each refusal ends here, too: without progress it must end. */
            if (nf_batch_writer_acked(w) + 1 > first) {
                first = nf_batch_writer_acked(w) + 1;
                deadline = clock_ns(CLOCK_MONOTONIC) + patience;
            } else if (clock_ns(CLOCK_MONOTONIC) >= deadline) {
                fprintf(stderr, "feed-frames: refused by the streamer\n");
                fd = -1;
                break;
            }
            usleep(20000);
            fd = open_streamer(f, nf_batch_writer_acked(w) + 1, deadline);
            if (fd < 0)
                break;
            ret = nf_batch_writer_resume(w, fd, &err);
        } else if (ret < 0) {
            fprintf(stderr, "feed-frames: %s\n", err.text);
            break;
        }
    }
    ret = nf_batch_writer_acked(w) + 1 < end;
    nf_batch_writer_free(w);
    if (fd >= 0)
        close(fd);
    return ret;
}

static int read_paths(struct feed *f, const char *name)
{
    FILE *in = fopen(name, "rb");
    size_t cap = 1 << 20;

    f->paths = malloc(cap + 1);
    if (!in || !f->paths) {
        perror(name);
        return -1;
    }
    f->paths_len = fread(f->paths, 1, cap, in);
    f->paths[f->paths_len] = '\0';
    fclose(in);
    return 0;
}

int main(int argc, char **argv)
{
    enum { SOCKET = 256, HOST, VM, DISK, EPOCH, FIRST, COUNT, BATCH, SIZE, INTERVAL, NOW, PATHS,
           OTHER, RETRY };
    static const struct option longs[] = {
        { "socket", 1, NULL, SOCKET }, { "host", 1, NULL, HOST },
        { "vm", 1, NULL, VM },         { "disk", 1, NULL, DISK },
        { "epoch", 1, NULL, EPOCH },   { "first", 1, NULL, FIRST },
        { "count", 1, NULL, COUNT },   { "batch", 1, NULL, BATCH },
        { "size", 1, NULL, SIZE },     { "interval-us", 1, NULL, INTERVAL },
        { "now", 0, NULL, NOW },       { "paths", 1, NULL, PATHS },
        { "other", 0, NULL, OTHER },   { "retry", 1, NULL, RETRY },
        { NULL, 0, NULL, 0 },
    };
    struct feed f = { .hello = { .version = NF_FRAME_VERSION, .host = "host1", .vm = "vm1",
                                 .disk = "vda", .epoch = 1000, .next_seq = 1 },
                      .count = 10, .batch = 5, .size = 100, .retry = 0 };
    int c, ret;

    signal(SIGPIPE, SIG_IGN);
    while ((c = getopt_long(argc, argv, "", longs, NULL)) != -1) {
        switch (c) {
        case SOCKET: f.socket = optarg; break;
        case HOST: snprintf(f.hello.host, sizeof(f.hello.host), "%s", optarg); break;
        case VM: snprintf(f.hello.vm, sizeof(f.hello.vm), "%s", optarg); break;
        case DISK: snprintf(f.hello.disk, sizeof(f.hello.disk), "%s", optarg); break;
        case EPOCH: f.hello.epoch = strtoull(optarg, NULL, 10); break;
        case FIRST: f.hello.next_seq = strtoull(optarg, NULL, 10); break;
        case COUNT: f.count = strtoull(optarg, NULL, 10); break;
        case BATCH: f.batch = strtoull(optarg, NULL, 10); break;
        case SIZE: f.size = strtoull(optarg, NULL, 10); break;
        case INTERVAL: f.interval_us = strtoull(optarg, NULL, 10); break;
        case NOW: f.now = true; break;
        case OTHER: f.other = true; break;
        case RETRY: f.retry = strtod(optarg, NULL); break;
        case PATHS:
            if (read_paths(&f, optarg) < 0)
                return 1;
            break;
        default: fputs(usage, stderr); return 2;
        }
    }
    f.content = malloc(f.size + 1);
    if (!f.socket || optind < argc || !f.batch || !f.content) {
        fputs(usage, stderr);
        return 2;
    }
    for (size_t i = 0; i < f.size; i++)
        f.content[i] = (f.other ? "CONTENT\n" : "content\n")[i % 8];
    ret = feed(&f);
    free(f.content);
    free(f.paths);
    return ret;
}
