/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nearfield-streamer: takes events from the nearfield-bdi processes of a host
 * and publishes them in Redis.
 *
 * One thread, one epoll loop, nothing that blocks.
 */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "streamer/log.h"
#include "streamer/session.h"

#define SESSIONS_MAX 1024
#define CONNECT_TIMEOUT_MS 5000
/* After SIGTERM: for replies to what is already sent. Nothing is lost without
 * it, the senders keep what is not acknowledged; it spares them a repetition. */
#define DRAIN_MS 1000
#define DEFAULT_STREAM_LENGTH 10000ul

static const char usage[] =
    "Usage: nearfield-streamer --listen unix:PATH [OPTION]...\n"
    "\n"
    "Receive file events from nearfield-bdi and publish them in Redis.\n"
    "\n"
    "  --listen unix:PATH       socket to listen on (created with mode 0600)\n"
    "  --redis URI              redis://[user:pass@]host:port[/db] or unix:PATH\n"
    "                           (default " NF_REDIS_DEFAULT_URI ")\n"
    "  --publish LIST           channels, streams, or both (default channels,streams)\n"
    "  --stream-length N        batches that each disk's stream keeps, about\n"
    "                           (default 10000)\n"
    "  --help, --version\n"
    "\n"
    "Man page: nearfield-streamer(8), docs/man/nearfield-streamer.8 in the source tree.\n";

struct options {
    const char *listen;
    const char *redis;
    struct nf_publish_options publish;
};

struct streamer {
    struct options opt;
    struct nf_redis_uri uri;
    int epoll_fd, listen_fd, signal_fd;
    dev_t socket_dev; /* of the socket that we made, to remove no other one */
    ino_t socket_ino;
    struct nf_session_env env;
    struct nf_session *sessions[SESSIONS_MAX];
    size_t nsessions;
};

static int usage_error(const char *what, const char *arg)
{
    if (what)
        nf_log(what, arg);
    fprintf(stderr, "Try 'nearfield-streamer --help'.\n");
    return 2;
}

static int printed(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return 0;
    nf_log("write to standard output: %s", strerror(errno));
    return 1;
}

static int parse_publish(struct nf_publish_options *opt, const char *arg)
{
    opt->channels = opt->streams = false;
    for (;;) {
        size_t n = strcspn(arg, ",");

        if (n == 8 && memcmp(arg, "channels", n) == 0)
            opt->channels = true;
        else if (n == 7 && memcmp(arg, "streams", n) == 0)
            opt->streams = true;
        else
            return -1;
        if (!arg[n])
            return 0;
        arg += n + 1;
    }
}

/* Returns -1 to go on, or the exit status. */
static int parse_options(struct options *opt, int argc, char **argv)
{
    enum { LISTEN = 256, REDIS, PUBLISH, STREAM_LENGTH, VERSION, HELP };
    static const struct option longs[] = {
        { "listen", required_argument, NULL, LISTEN },
        { "redis", required_argument, NULL, REDIS },
        { "publish", required_argument, NULL, PUBLISH },
        { "stream-length", required_argument, NULL, STREAM_LENGTH },
        { "version", no_argument, NULL, VERSION },
        { "help", no_argument, NULL, HELP },
        { NULL, 0, NULL, 0 },
    };
    char *end;
    int c;

    *opt = (struct options){ .redis = NF_REDIS_DEFAULT_URI,
                             .publish = { true, true, DEFAULT_STREAM_LENGTH } };
    while ((c = getopt_long(argc, argv, "h", longs, NULL)) != -1) {
        switch (c) {
        case LISTEN:
            if (strncmp(optarg, "unix:", 5) != 0 || !optarg[5])
                return usage_error("--listen takes unix:PATH, not '%s'", optarg);
            if (strlen(optarg + 5) >= sizeof(((struct sockaddr_un *)0)->sun_path))
                return usage_error("--listen: the path is too long for a socket: %s", optarg + 5);
            opt->listen = optarg + 5;
            break;
        case REDIS:
            opt->redis = optarg;
            break;
        case PUBLISH:
            if (parse_publish(&opt->publish, optarg) < 0)
                return usage_error("--publish takes channels, streams or both, not '%s'", optarg);
            break;
        case STREAM_LENGTH:
            errno = 0;
            opt->publish.stream_length = strtoul(optarg, &end, 10);
            if (errno || *end || end == optarg || *optarg == '-' || !opt->publish.stream_length)
                return usage_error("--stream-length takes a number above 0, not '%s'", optarg);
            break;
        case VERSION:
            printf("nearfield-streamer %s\n", NF_VERSION);
            return printed();
        case 'h':
        case HELP:
            fputs(usage, stdout);
            return printed();
        default:
            return usage_error(NULL, NULL);
        }
    }
    if (optind < argc)
        return usage_error("unexpected argument '%s'", argv[optind]);
    if (!opt->listen)
        return usage_error("%s is needed", "--listen");
    return -1;
}

/* Bind the socket; one that nobody listens on any more is replaced. */
static int open_socket(struct streamer *st, struct nf_error *err)
{
    const char *path = st->opt.listen;
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    struct stat sb;
    mode_t mask;
    int fd, ret;

    strcpy(addr.sun_path, path);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return nf_fail(err, NF_EIO, "socket: %s", strerror(errno));
    if (lstat(path, &sb) == 0) {
        if (!S_ISSOCK(sb.st_mode)) {
            close(fd);
            return nf_fail(err, NF_EBUSY, "%s exists and is not a socket", path);
        }
        if (connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0 || errno != ECONNREFUSED) {
            close(fd);
            return nf_fail(err, NF_EBUSY, "%s is in use by another process", path);
        }
        if (unlink(path) < 0 && errno != ENOENT) {
            ret = nf_fail(err, NF_EIO, "remove the stale socket %s: %s", path, strerror(errno));
            close(fd);
            return ret;
        }
        close(fd);
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (fd < 0)
            return nf_fail(err, NF_EIO, "socket: %s", strerror(errno));
    }
    mask = umask(0177);
    ret = bind(fd, (struct sockaddr *)&addr, sizeof(addr));
    umask(mask);
    if (ret < 0 || listen(fd, 64) < 0 || lstat(path, &sb) < 0) {
        nf_fail(err, NF_EIO, "listen on %s: %s", path, strerror(errno));
        if (ret == 0)
            unlink(path);
        close(fd);
        return NF_EIO;
    }
    st->listen_fd = fd;
    st->socket_dev = sb.st_dev;
    st->socket_ino = sb.st_ino;
    return 0;
}

static void close_socket(struct streamer *st)
{
    struct stat sb;

    if (st->listen_fd < 0)
        return;
    if (lstat(st->opt.listen, &sb) == 0 && sb.st_dev == st->socket_dev &&
        sb.st_ino == st->socket_ino)
        unlink(st->opt.listen);
    close(st->listen_fd);
    st->listen_fd = -1;
}

static void accept_all(struct streamer *st)
{
    for (;;) {
        struct ucred cred;
        socklen_t len = sizeof(cred);
        struct nf_session *s;
        int fd = accept4(st->listen_fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

        if (fd < 0) {
            if (errno == EINTR || errno == ECONNABORTED)
                continue;
            if (errno != EAGAIN && errno != EWOULDBLOCK)
                nf_log("accept: %s", strerror(errno));
            return;
        }
        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &cred, &len) < 0 ||
            (cred.uid != 0 && cred.uid != geteuid())) {
            nf_log("connection of process %d, user %u refused: only root and user %u may send",
                   (int)cred.pid, (unsigned)cred.uid, (unsigned)geteuid());
            close(fd);
            continue;
        }
        if (st->nsessions == SESSIONS_MAX) {
            nf_log("connection of process %d refused: %d are too many", (int)cred.pid,
                   SESSIONS_MAX);
            close(fd);
            continue;
        }
        s = nf_session_new(&st->env, fd);
        if (!s)
            nf_log("connection of process %d refused: out of memory", (int)cred.pid);
        else
            st->sessions[st->nsessions++] = s;
    }
}

static int watch(struct streamer *st, int fd, void *ptr, struct nf_error *err)
{
    struct epoll_event ev = { .events = EPOLLIN, .data.ptr = ptr };

    if (epoll_ctl(st->epoll_fd, EPOLL_CTL_ADD, fd, &ev) < 0)
        return nf_fail(err, NF_EIO, "epoll: %s", strerror(errno));
    return 0;
}

static int64_t now_ms(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* Until a signal asks to stop. */
static int run(struct streamer *st, struct nf_error *err)
{
    struct epoll_event events[64];
    int64_t stop_at = 0;

    while (!stop_at || (!nf_link_idle(st->env.link) && now_ms() < stop_at)) {
        int timeout = nf_link_timeout(st->env.link), n;

        if (stop_at && (timeout < 0 || timeout > 20))
            timeout = 20;
        n = epoll_wait(st->epoll_fd, events, 64, timeout);
        if (n < 0 && errno != EINTR)
            return nf_fail(err, NF_EIO, "epoll: %s", strerror(errno));
        for (int i = 0; i < n; i++) {
            void *ptr = events[i].data.ptr;

            if (ptr == &st->signal_fd) {
                struct signalfd_siginfo si;

                if (read(st->signal_fd, &si, sizeof(si)) == sizeof(si) && !stop_at) {
                    close_socket(st); /* takes it out of epoll, too */
                    for (size_t k = 0; k < st->nsessions; k++)
                        nf_session_stop(st->sessions[k]);
                    stop_at = now_ms() + DRAIN_MS;
                }
            } else if (ptr == &st->listen_fd) {
                if (st->listen_fd >= 0)
                    accept_all(st);
            } else if (ptr == st->env.link) {
                nf_link_ready(st->env.link, events[i].events);
            } else if (!stop_at) {
                nf_session_ready(ptr, events[i].events);
            }
        }
        nf_link_tick(st->env.link);
        for (size_t i = 0; i < st->nsessions;) {
            if (!stop_at)
                nf_session_resume(st->sessions[i]);
            if (nf_session_ended(st->sessions[i])) {
                nf_session_free(st->sessions[i]);
                st->sessions[i] = st->sessions[--st->nsessions];
            } else {
                i++;
            }
        }
    }
    return 0;
}

/* Wrong addresses and passwords are to be noticed at once, not to be retried
 * for ever in the background. */
static int probe_redis(const struct nf_redis_uri *uri, struct nf_error *err)
{
    redisContext *c = nf_redis_connect(uri, CONNECT_TIMEOUT_MS, err);

    if (!c)
        return err->code;
    redisFree(c);
    return 0;
}

static int serve(struct streamer *st, struct nf_error *err)
{
    sigset_t signals;
    int ret;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigprocmask(SIG_BLOCK, &signals, NULL);
    signal(SIGPIPE, SIG_IGN);
    st->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    st->signal_fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
    if (st->epoll_fd < 0 || st->signal_fd < 0)
        return nf_fail(err, NF_EIO, "epoll or signalfd: %s", strerror(errno));
    ret = probe_redis(&st->uri, err);
    if (ret < 0)
        return ret;
    ret = open_socket(st, err);
    if (ret < 0)
        return ret;
    st->env.epoll_fd = st->epoll_fd;
    st->env.publisher = nf_publisher_new(&st->opt.publish, err);
    st->env.link = nf_link_new(&st->uri, st->epoll_fd, err);
    if (!st->env.publisher || !st->env.link)
        return NF_ENOMEM;
    st->env.disks = nf_disks_new(st->env.link, st->opt.publish.streams, err);
    if (!st->env.disks)
        return NF_ENOMEM;
    ret = watch(st, st->signal_fd, &st->signal_fd, err);
    if (ret == 0)
        ret = watch(st, st->listen_fd, &st->listen_fd, err);
    if (ret == 0) {
        nf_log("listening on %s, publishing in %s", st->opt.listen, st->uri.shown);
        ret = run(st, err);
    }
    return ret;
}

int main(int argc, char **argv)
{
    static struct streamer st = { .epoll_fd = -1, .listen_fd = -1, .signal_fd = -1 };
    struct nf_error err;
    int ret = parse_options(&st.opt, argc, argv);

    if (ret >= 0)
        return ret;
    if (nf_redis_uri_parse(&st.uri, st.opt.redis, &err) < 0)
        return usage_error("%s", err.text);
    setvbuf(stderr, NULL, _IOLBF, 0);

    ret = serve(&st, &err);
    if (ret < 0)
        nf_log("%s", err.text);
    close_socket(&st);
    while (st.nsessions)
        nf_session_free(st.sessions[--st.nsessions]);
    nf_link_free(st.env.link);
    nf_disks_free(st.env.disks);
    nf_publisher_free(st.env.publisher);
    nf_redis_uri_release(&st.uri);
    if (st.signal_fd >= 0)
        close(st.signal_fd);
    if (st.epoll_fd >= 0)
        close(st.epoll_fd);
    return ret < 0 ? 1 : 0;
}
