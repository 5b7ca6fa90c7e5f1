/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/opener.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "bdi/daemon/engine.h"
#include "bdi/daemon/handoff.h"
#include "bdi/daemon/nbd_uri.h"
#include "bdi/daemon/say.h"
#include "bdi/daemon/state_dir.h"
#include "bdi/daemon/unix_socket.h"
#include "common/frame.h"

#define RETRY_MS 100
#define BACKOFF_MAX_MS 5000     /* between connections that the streamer refuses */
#define TAP_PATIENCE_MS 2000    /* then the disk's stream counts as ended */
#define IMAGE_PATIENCE_MS 10000 /* then reading the disk counts as failed */
#define STOP_PATIENCE_MS 8000   /* then an engine that was asked to end is killed */

/* An engine may be a little ahead of this process's clock, not more. */
#define EPOCH_SLACK_MS 1000

struct request {
    bool pending;
    int64_t until; /* ms; INT64_MAX: for ever */
    int64_t not_before;
    struct handoff_msg msg;
};

struct opener {
    const struct options *opt;
    struct nbd_uri uri;
    struct engine_setup setup; /* descriptors of the engine */
    int control;               /* our end */
    int signals;
    int stream_fd; /* connected, not yet used */
    int64_t stream_at; /* ms, when the last connection was made */
    int64_t backoff;   /* ms */
    bool made_out; /* the output file is our creation */
    bool said_hello;
    uint64_t epoch; /* last one said */
    pid_t engine;
    int64_t kill_at; /* ms; 0: not asked to end */
    struct request stream, image, tap;
};

static int64_t now_ms(clockid_t id)
{
    struct timespec ts;

    clock_gettime(id, &ts);
    return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* --- opening -------------------------------------------------------------- */

static int open_input(const char *what, const char *path, bool devices, struct nf_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat st;

    if (fd < 0)
        return nf_fail(err, NF_EIO, "%s %s: %s", what, path, strerror(errno));
    if (fstat(fd, &st) < 0 || !(S_ISREG(st.st_mode) || (devices && S_ISBLK(st.st_mode)))) {
        close(fd);
        return nf_fail(err, NF_EINVAL, "%s %s: not a regular file%s", what, path,
                       devices ? " or block device" : "");
    }
    if (devices && S_ISREG(st.st_mode) && st.st_size == 0) {
        close(fd);
        return nf_fail(err, NF_EINVAL, "%s %s: it is empty: no file system to follow", what,
                       path);
    }
    return fd;
}

/* A file without a name, gone when both processes are. */
static int open_scratch(const char *what, struct nf_error *err)
{
    const char *dir = getenv("TMPDIR");
    int fd;

    if (!dir || !dir[0])
        dir = "/var/tmp";
    fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) /* Not every file system can; memory always can. */
        fd = memfd_create("nearfield-bdi", MFD_CLOEXEC);
    if (fd < 0)
        return nf_fail(err, NF_EIO, "%s: temporary file: %s", what, strerror(errno));
    return fd;
}

static bool same_file(int a, int b)
{
    struct stat x, y;

    return a >= 0 && b >= 0 && fstat(a, &x) == 0 && fstat(b, &y) == 0 && x.st_dev == y.st_dev &&
           x.st_ino == y.st_ino;
}

static int open_output(struct opener *o, struct nf_error *err)
{
    const char *path = o->opt->out;
    struct stat st;
    int fd;

    if (!path) {
        if (!o->opt->json && isatty(STDOUT_FILENO))
            return nf_fail(err, NF_EINVAL,
                           "standard output is a terminal and frames are binary: use "
                           "--format json or --out");
        fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 3);
        return fd >= 0 ? fd : nf_fail(err, NF_EIO, "standard output: %s", strerror(errno));
    }
    fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd >= 0) {
        o->made_out = true;
        return fd;
    }
    if (errno == EEXIST)
        fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return nf_fail(err, NF_EIO, "output %s: %s", path, strerror(errno));
    if (same_file(fd, o->setup.image_fd) || same_file(fd, o->setup.trace_fd)) {
        close(fd);
        return nf_fail(err, NF_EINVAL, "output %s: that is the input", path);
    }
    /* With --state the engine knows where to go on. */
    if (!o->opt->state && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && ftruncate(fd, 0) < 0) {
        int e = errno;

        close(fd);
        return nf_fail(err, NF_EIO, "output %s: %s", path, strerror(e));
    }
    return fd;
}

static int open_image(struct opener *o, struct nf_error *err)
{
    struct engine_setup *s = &o->setup;
    int rc;

    if (!nbd_uri_is(o->opt->image)) {
        s->image_fd = open_input("image", o->opt->image, true, err);
        return s->image_fd < 0 ? s->image_fd : 0;
    }
    if (o->opt->trace)
        return nf_fail(err, NF_EINVAL, "image %s: the base of a trace must be a file",
                       o->opt->image);
    rc = nbd_uri_parse(o->opt->image, &o->uri, err);
    if (rc < 0)
        return rc;
    s->nbd_sock = nbd_uri_connect(&o->uri, err);
    s->export_name = o->uri.export_name;
    return s->nbd_sock < 0 ? s->nbd_sock : 0;
}

/* One that was killed a moment ago may still hold the tap. */
static int connect_tap(struct opener *o, struct nf_error *err)
{
    int64_t until = now_ms(CLOCK_MONOTONIC) + (o->opt->state ? TAP_PATIENCE_MS : 0);
    const struct timespec pause = {.tv_nsec = RETRY_MS / 5 * 1000000l};
    int rc;

    while ((rc = nf_tap_connect(o->opt->tap, &o->setup.tap, err)) == NF_EBUSY &&
           now_ms(CLOCK_MONOTONIC) < until)
        nanosleep(&pause, NULL);
    return rc;
}

static int open_everything(struct opener *o, struct nf_error *err)
{
    struct engine_setup *s = &o->setup;
    int rc;

    if (o->opt->trace) {
        s->trace_fd = open_input("trace", o->opt->trace, false, err);
        if (s->trace_fd < 0)
            return s->trace_fd;
    } else {
        rc = o->opt->state ? state_dir_open(o->opt->state, s, err) : 0;
        if (rc == 0)
            rc = connect_tap(o, err);
        if (rc < 0)
            return rc;
        s->hold_fd = open_scratch("events on hold", err);
        if (s->hold_fd < 0)
            return s->hold_fd;
        s->kept_fd = open_scratch("copy of what is read", err);
        if (s->kept_fd < 0)
            return s->kept_fd;
    }
    rc = open_image(o, err);
    if (rc < 0)
        return rc;
    if (s->shadow_fd < 0)
        s->shadow_fd = open_scratch("shadow", err);
    if (s->shadow_fd < 0)
        return s->shadow_fd;
    if (o->opt->streamer) {
        s->output = OUTPUT_STREAMER;
        o->stream_fd = unix_connect(o->opt->streamer, "streamer", err);
        return o->stream_fd < 0 ? o->stream_fd : 0;
    }
    s->output = o->opt->json ? OUTPUT_JSON : OUTPUT_PROTO;
    s->out_fd = open_output(o, err);
    return s->out_fd < 0 ? s->out_fd : 0;
}

/* --- serving --------------------------------------------------------------- */

/* A replayed epoch comes from the trace; a live one never leads the clock and
 * never goes back, whatever the engine says. */
static bool epoch_allowed(const struct opener *o, uint64_t epoch)
{
    uint64_t now = (uint64_t)now_ms(CLOCK_REALTIME) + EPOCH_SLACK_MS;

    if (epoch < o->epoch || epoch == 0)
        return false;
    return o->opt->trace || epoch <= now || epoch == o->opt->epoch ||
           (o->said_hello && epoch <= o->epoch + 1);
}

static int say_hello(struct opener *o, int fd, const struct handoff_msg *msg,
                     struct nf_error *err)
{
    struct nf_hello hello = {
        .version = NF_FRAME_VERSION,
        .epoch = msg->epoch,
        .next_seq = msg->next_seq,
    };
    int rc;

    if (!epoch_allowed(o, msg->epoch) || msg->next_seq == 0)
        return nf_fail(err, NF_EINVAL, "engine asks for an impossible epoch %llu:%llu",
                       (unsigned long long)msg->epoch, (unsigned long long)msg->next_seq);
    snprintf(hello.host, sizeof(hello.host), "%s", o->opt->host);
    snprintf(hello.vm, sizeof(hello.vm), "%s", o->opt->vm);
    snprintf(hello.disk, sizeof(hello.disk), "%s", o->opt->disk);
    /* JSON lines carry all that a HELLO would say. */
    rc = o->setup.output == OUTPUT_JSON ? 0 : nf_frame_write_hello(fd, &hello, err);
    if (rc < 0)
        return rc;
    o->epoch = msg->epoch;
    o->said_hello = true;
    return 0;
}

static int answer(struct opener *o, const struct handoff_msg *to, int status, const int *fds,
                  int nfds, struct nf_error *err)
{
    struct handoff_msg msg = *to;
    int rc;

    msg.status = status;
    rc = handoff_send(o->control, &msg, fds, nfds, err);
    return rc == NF_ECLOSED ? 0 : rc; /* It ended meanwhile: waitpid() will tell. */
}

/* Try one pending request. Answers it when it succeeded or its time is up. */
static int try_request(struct opener *o, struct request *r, struct nf_error *err)
{
    struct nf_error why = {0};
    struct nf_tap_fds tap = {-1, -1, -1};
    int fds[HANDOFF_FDS_MAX], nfds = 1, rc;

    if (now_ms(CLOCK_MONOTONIC) < r->not_before)
        return 0;
    switch (r->msg.kind) {
    case HANDOFF_STREAM:
        fds[0] = o->stream_fd >= 0 ? o->stream_fd
                                   : unix_connect(o->opt->streamer, "streamer", &why);
        o->stream_fd = -1;
        rc = fds[0] < 0 ? fds[0] : say_hello(o, fds[0], &r->msg, &why);
        if (rc < 0 && fds[0] >= 0)
            close(fds[0]);
        if (rc == NF_EINVAL)
            return nf_fail(err, rc, "%s", why.text);
        if (rc == 0)
            o->stream_at = now_ms(CLOCK_MONOTONIC);
        break;
    case HANDOFF_IMAGE:
        fds[0] = nbd_uri_connect(&o->uri, &why);
        rc = fds[0] < 0 ? fds[0] : 0;
        break;
    default:
        rc = nf_tap_connect(o->opt->tap, &tap, &why);
        fds[0] = tap.sock;
        fds[1] = tap.data;
        fds[2] = tap.ctrl;
        nfds = 3;
        break;
    }
    if (rc < 0 && now_ms(CLOCK_MONOTONIC) < r->until)
        return 0;
    r->pending = false;
    if (rc < 0)
        say("%s", why.text);
    rc = answer(o, &r->msg, rc, fds, rc < 0 ? 0 : nfds, err);
    if (r->msg.kind == HANDOFF_TAP)
        nf_tap_fds_close(&tap);
    else if (fds[0] >= 0)
        close(fds[0]);
    return rc;
}

static void enqueue(struct request *r, const struct handoff_msg *msg, int64_t patience)
{
    r->pending = true;
    r->msg = *msg;
    r->until = patience < 0 ? INT64_MAX : now_ms(CLOCK_MONOTONIC) + patience;
    r->not_before = 0;
}

/* A connection that did not last was refused; asking again at once will not help. */
static void enqueue_stream(struct opener *o, const struct handoff_msg *msg)
{
    int64_t now = now_ms(CLOCK_MONOTONIC);

    enqueue(&o->stream, msg, -1);
    if (msg->epoch != o->epoch || now - o->stream_at > BACKOFF_MAX_MS) {
        o->backoff = 0;
        return;
    }
    o->stream.not_before = now + o->backoff;
    o->backoff = o->backoff == 0 ? RETRY_MS : 2 * o->backoff;
    if (o->backoff > BACKOFF_MAX_MS)
        o->backoff = BACKOFF_MAX_MS;
}

/* The engine wants something. 1: it closed its end. */
static int take_request(struct opener *o, struct nf_error *err)
{
    struct handoff_msg msg;
    int fds[HANDOFF_FDS_MAX], nfds, rc;

    rc = handoff_recv(o->control, &msg, fds, &nfds, err);
    if (rc == NF_ECLOSED)
        return 1;
    if (rc < 0)
        return rc;
    while (nfds > 0) /* It has none to give. */
        close(fds[--nfds]);
    if (msg.kind == HANDOFF_STREAM && o->opt->streamer)
        enqueue_stream(o, &msg);
    else if (msg.kind == HANDOFF_IMAGE && o->setup.export_name)
        enqueue(&o->image, &msg, IMAGE_PATIENCE_MS);
    else if (msg.kind == HANDOFF_TAP && o->opt->tap)
        enqueue(&o->tap, &msg, TAP_PATIENCE_MS);
    else if (msg.kind == HANDOFF_HELLO && !o->opt->streamer) {
        rc = say_hello(o, o->setup.out_fd, &msg, err);
        if (rc < 0)
            nf_fail_prefix(err, "output %s", o->opt->out ? o->opt->out : "-");
        if (rc == 0)
            rc = answer(o, &msg, 0, NULL, 0, err);
    } else {
        rc = nf_fail(err, NF_EFORMAT, "engine asks for %u, which there is not", msg.kind);
    }
    return rc;
}

static void take_signals(struct opener *o)
{
    struct signalfd_siginfo si;

    while (read(o->signals, &si, sizeof(si)) == sizeof(si)) {
        if (si.ssi_signo == SIGUSR1) {
            kill(o->engine, SIGUSR1);
        } else if (si.ssi_signo != SIGCHLD && o->kill_at == 0) {
            kill(o->engine, SIGTERM);
            o->kill_at = now_ms(CLOCK_MONOTONIC) + STOP_PATIENCE_MS;
        }
    }
}

/* What the end of the engine means. */
static int exit_code(const struct opener *o, int status)
{
    int sig;

    if (WIFEXITED(status))
        return WEXITSTATUS(status);
    sig = WTERMSIG(status);
    if (o->kill_at && sig == SIGTERM)
        return 128 + SIGTERM;
    if (sig == SIGSYS)
        say("engine: killed for a system call that its sandbox forbids");
    else
        say("engine: killed by signal %d (%s)", sig, strsignal(sig));
    return 1;
}

/* Serve the engine until it ends; returns its exit status as of waitpid(2). */
static int supervise(struct opener *o, struct nf_error *err)
{
    bool closed = false;
    int rc = 0, status;

    for (;;) {
        struct pollfd p[2] = {
            {.fd = o->signals, .events = POLLIN},
            {.fd = closed ? -1 : o->control, .events = POLLIN},
        };
        struct request *all[] = {&o->stream, &o->image, &o->tap};
        bool pending = false;

        for (size_t i = 0; i < 3; i++) {
            if (all[i]->pending && rc == 0)
                rc = try_request(o, all[i], err);
            pending |= all[i]->pending;
        }
        if (rc < 0)
            kill(o->engine, SIGKILL);
        if (waitpid(o->engine, &status, rc < 0 ? 0 : WNOHANG) == o->engine)
            return rc < 0 ? rc : status;
        if (o->kill_at && now_ms(CLOCK_MONOTONIC) >= o->kill_at) {
            rc = nf_fail(err, NF_EBUSY, "engine: did not end within %d s, killed",
                         STOP_PATIENCE_MS / 1000);
            continue;
        }
        if (poll(p, 2, pending || o->kill_at ? RETRY_MS : -1) < 0 && errno != EINTR)
            rc = nf_fail(err, NF_EIO, "poll: %s", strerror(errno));
        if (p[0].revents)
            take_signals(o);
        if (rc == 0 && p[1].revents) {
            rc = take_request(o, err);
            if (rc == 1) {
                closed = true;
                rc = 0;
            }
        }
    }
}

/* --- start and end --------------------------------------------------------- */

static int start_engine(struct opener *o, struct nf_error *err)
{
    sigset_t set;
    int pair[2];

    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGUSR1);
    sigaddset(&set, SIGCHLD);
    signal(SIGPIPE, SIG_IGN);
    if (sigprocmask(SIG_BLOCK, &set, NULL) < 0)
        return nf_fail(err, NF_EIO, "sigprocmask: %s", strerror(errno));
    o->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (o->signals < 0)
        return nf_fail(err, NF_EIO, "signalfd: %s", strerror(errno));
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
        return nf_fail(err, NF_EIO, "socketpair: %s", strerror(errno));
    o->control = pair[0];
    o->setup.control = pair[1];
    o->engine = fork();
    if (o->engine < 0)
        return nf_fail(err, NF_EIO, "fork: %s", strerror(errno));
    if (o->engine == 0) {
        /* A replay has no loop that listens: let signals end it. */
        if (o->opt->trace)
            sigdelset(&set, SIGUSR1);
        else
            sigemptyset(&set);
        sigprocmask(SIG_UNBLOCK, &set, NULL);
        _exit(engine_main(&o->setup));
    }
    return 0;
}

/* The engine's alone from here on: as long as we held them, nobody would see
 * that it has gone. */
static void close_engine_fds(struct engine_setup *s)
{
    int *fds[] = {&s->control, &s->image_fd, &s->nbd_sock, &s->trace_fd, &s->shadow_fd,
                  &s->hold_fd,  &s->kept_fd,  &s->present_fd, &s->undo_fd,
                  &s->outbox_fds[0], &s->outbox_fds[1]};

    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        if (*fds[i] >= 0)
            close(*fds[i]);
        *fds[i] = -1;
    }
    nf_tap_fds_close(&s->tap);
}

int opener_main(const struct options *opt)
{
    struct nf_error err = {0};
    struct opener o = {
        .opt = opt,
        .setup = {.opt = opt,
                  .control = -1,
                  .image_fd = -1,
                  .nbd_sock = -1,
                  .tap = {-1, -1, -1},
                  .trace_fd = -1,
                  .shadow_fd = -1,
                  .hold_fd = -1,
                  .kept_fd = -1,
                  .out_fd = -1,
                  .present_fd = -1,
                  .undo_fd = -1,
                  .outbox_fds = {-1, -1},
                  .lock_fd = -1},
        .control = -1,
        .signals = -1,
        .stream_fd = -1,
    };
    int code = 1, rc;

    rc = open_everything(&o, &err);
    if (rc == 0)
        rc = start_engine(&o, &err);
    if (rc == 0) {
        close_engine_fds(&o.setup);
        rc = supervise(&o, &err);
        if (rc >= 0)
            code = exit_code(&o, rc);
    }
    if (rc < 0)
        say("%s", err.text);
    close_engine_fds(&o.setup);
    /* Half a replay is no result, and an attach that failed has none. */
    if (code != 0 && o.made_out && (opt->trace || !o.said_hello))
        unlink(opt->out);
    return code;
}
