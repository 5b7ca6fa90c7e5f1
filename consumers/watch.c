/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nearfield watch: print file events as they happen.
 */
#include <errno.h>
#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "common/event_json.h"
#include "common/event_pb.h"
#include "common/redis_uri.h"
#include "consumers/commands.h"
#include "consumers/event_line.h"
#include "consumers/subscribe.h"

#define NAME "watch"
#define MAX_PATHS 256

static const char help[] =
    "usage: nearfield watch [options]\n"
    "\n"
    "Print file events from Redis as they happen.\n"
    "\n"
    "  --redis URI        redis://[user:pass@]host:port[/db] or unix:PATH\n"
    "                     (default " NF_REDIS_DEFAULT_URI ")\n"
    "  --host GLOB        only these hosts, virtual machines, disks\n"
    "  --vm GLOB\n"
    "  --disk GLOB\n"
    "  --path GLOB        only these paths; may be given several times\n"
    "  --kind KIND        only this kind (create, write, attr, ...); may be given\n"
    "                     several times\n"
    "  --since EPOCH:SEQ  begin after this event; 0: with all that is retained;\n"
    "                     -: now (default)\n"
    "  --json             one JSON object a line\n"
    "  --content          show what was written\n"
    "  --count N          end after N events\n"
    "  --timeout SECONDS  end after so many seconds without an event\n"
    "  --latency          at the end, say how long events took from the disk write\n"
    "                     that made them true (on stderr)\n"
    "  --help             this text\n";

struct watch {
    struct nf_selection sel;
    const char *paths[MAX_PATHS];
    const char *redis;
    bool json, content, latency;
    uint64_t count;
    double timeout;
    struct nf_line_style style;
    struct nf_buffer out;
    uint64_t seen;
    uint32_t *latency_us;
    size_t nlatency, latency_cap;
};

static volatile sig_atomic_t stop;

static void on_signal(int sig)
{
    (void)sig;
    stop = 1;
}

static int64_t now_ns(clockid_t clock)
{
    struct timespec ts;

    clock_gettime(clock, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

/* Only what came with a journal commit: its time is that of the disk write
 * that carried the commit block. */
static void note_latency(struct watch *w, const struct nf_event *ev)
{
    int64_t us = (now_ns(CLOCK_REALTIME) - ev->time_ns) / 1000;

    if (!ev->txn || ev->kind == NF_ENTRY)
        return;
    if (w->nlatency == w->latency_cap) {
        size_t cap = w->latency_cap ? w->latency_cap * 2 : 1024;
        uint32_t *bigger = reallocarray(w->latency_us, cap, sizeof(*bigger));

        if (!bigger)
            return;
        w->latency_us = bigger;
        w->latency_cap = cap;
    }
    w->latency_us[w->nlatency++] = us < 0 ? 0 : us > UINT32_MAX ? UINT32_MAX : (uint32_t)us;
}

static int on_event(void *opaque, const struct nf_event *ev, struct nf_error *err)
{
    struct watch *w = opaque;
    int ret;

    if (w->latency)
        note_latency(w, ev);
    nf_buffer_clear(&w->out);
    ret = w->json ? nf_event_json(ev, w->content, &w->out, err)
                  : nf_event_line(ev, &w->style, &w->out, err);
    if (ret < 0)
        return ret;
    if (fwrite(w->out.data, 1, w->out.len, stdout) != w->out.len || fflush(stdout) != 0)
        return nf_fail(err, NF_EIO, "standard output: %s", strerror(errno));
    w->seen++;
    return w->count && w->seen >= w->count ? 1 : 0;
}

static void on_notice(void *opaque, const char *text)
{
    (void)opaque;
    fprintf(stderr, "nearfield " NAME ": %s\n", text);
}

static int by_value(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

    return (x > y) - (x < y);
}

static void say_latency(struct watch *w)
{
    size_t n = w->nlatency;

    if (!n) {
        fprintf(stderr, "latency: no event of a journal commit was received\n");
        return;
    }
    qsort(w->latency_us, n, sizeof(*w->latency_us), by_value);
    fprintf(stderr, "latency: %zu events, median %.3f ms, 99th percentile %.3f ms, maximum %.3f ms\n",
            n, w->latency_us[n / 2] / 1000.0, w->latency_us[(n - 1) * 99 / 100] / 1000.0,
            w->latency_us[n - 1] / 1000.0);
}

static int parse_since(struct watch *w, const char *text)
{
    char *end;

    if (strcmp(text, "-") == 0) {
        w->sel.since = NF_SINCE_NOW;
        return 0;
    }
    if (strcmp(text, "0") == 0) {
        w->sel.since = NF_SINCE_ALL;
        return 0;
    }
    w->sel.since = NF_SINCE_SEQ;
    errno = 0;
    if (text[0] < '0' || text[0] > '9')
        return -1;
    w->sel.epoch = strtoull(text, &end, 10);
    if (*end != ':' || end[1] < '0' || end[1] > '9')
        return -1;
    w->sel.seq = strtoull(end + 1, &end, 10);
    return *end || errno ? -1 : 0;
}

static int parse(struct watch *w, int argc, char **argv)
{
    enum { REDIS = 256, HOST, VM, DISK, PATH, KIND, SINCE, JSON, CONTENT, COUNT, TIMEOUT, LATENCY };
    static const struct option options[] = {
        {"redis", required_argument, NULL, REDIS},     {"host", required_argument, NULL, HOST},
        {"vm", required_argument, NULL, VM},           {"disk", required_argument, NULL, DISK},
        {"path", required_argument, NULL, PATH},       {"kind", required_argument, NULL, KIND},
        {"since", required_argument, NULL, SINCE},     {"json", no_argument, NULL, JSON},
        {"content", no_argument, NULL, CONTENT},       {"count", required_argument, NULL, COUNT},
        {"timeout", required_argument, NULL, TIMEOUT}, {"latency", no_argument, NULL, LATENCY},
        {"help", no_argument, NULL, 'h'},              {NULL, 0, NULL, 0}};
    enum nf_kind kind;
    char *end;
    int c;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case REDIS:
            w->redis = optarg;
            break;
        case HOST:
            w->sel.host = optarg;
            break;
        case VM:
            w->sel.vm = optarg;
            break;
        case DISK:
            w->sel.disk = optarg;
            break;
        case PATH:
            if (w->sel.npaths == MAX_PATHS)
                return nf_cmd_usage_error(NAME, "more than %d --path", MAX_PATHS);
            w->paths[w->sel.npaths++] = optarg;
            break;
        case KIND:
            kind = nf_kind_from_name(optarg);
            if (kind == NF_KIND_UNSPECIFIED)
                return nf_cmd_usage_error(NAME, "--kind %s: no such kind of event", optarg);
            w->sel.kinds |= 1ull << kind;
            break;
        case SINCE:
            if (parse_since(w, optarg) < 0)
                return nf_cmd_usage_error(NAME, "--since %s: neither EPOCH:SEQ nor 0 nor -",
                                          optarg);
            break;
        case JSON:
            w->json = true;
            break;
        case CONTENT:
            w->content = w->style.content = true;
            break;
        case COUNT:
            errno = 0;
            w->count = strtoull(optarg, &end, 10);
            if (errno || *end || optarg[0] == '-' || !w->count)
                return nf_cmd_usage_error(NAME, "--count %s: not a number above 0", optarg);
            break;
        case TIMEOUT:
            w->timeout = strtod(optarg, &end);
            if (*end || end == optarg || !(w->timeout > 0) || w->timeout > 1e9)
                return nf_cmd_usage_error(NAME, "--timeout %s: not a number above 0", optarg);
            break;
        case LATENCY:
            w->latency = true;
            break;
        case 'h':
            fputs(help, stdout);
            return -1;
        default:
            return nf_cmd_usage_error(NAME, NULL);
        }
    }
    if (optind < argc)
        return nf_cmd_usage_error(NAME, "unexpected argument '%s'", argv[optind]);
    return 0;
}

static int run(struct watch *w, struct nf_subscription *sub, struct nf_error *err)
{
    int64_t last = now_ns(CLOCK_MONOTONIC);
    uint64_t seen = 0;
    int ret = 0;

    while (ret == 0 && !stop) {
        int64_t left_ms = 1000;

        if (w->seen != seen) {
            seen = w->seen;
            last = now_ns(CLOCK_MONOTONIC);
        }
        if (w->timeout > 0) {
            left_ms = (int64_t)(w->timeout * 1000) -
                      (now_ns(CLOCK_MONOTONIC) - last) / 1000000;
            if (left_ms <= 0)
                return 0;
        }
        /* Wakes now and then: a signal between the check and the poll. */
        ret = nf_subscription_wait(sub, left_ms < 1000 ? (int)left_ms : 1000, err);
    }
    return ret;
}

int nf_cmd_watch(int argc, char **argv)
{
    struct watch w = {.redis = NF_REDIS_DEFAULT_URI};
    struct sigaction sa = {.sa_handler = on_signal};
    struct nf_subscription *sub = NULL;
    struct nf_redis_uri uri = {0};
    struct nf_error err = {0};
    int ret = parse(&w, argc, argv);

    if (ret)
        return ret < 0 ? nf_cmd_close_stdout(NAME, NF_EXIT_OK) : ret;
    w.sel.paths = w.paths;
    w.style.color = !w.json && isatty(STDOUT_FILENO) && !getenv("NO_COLOR");
    w.style.source = true;
    if (nf_redis_uri_parse(&uri, w.redis, &err) < 0)
        return nf_cmd_usage_error(NAME, "%s", err.text);
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    signal(SIGPIPE, SIG_IGN); /* hiredis writes to connections that are gone */
    sub = nf_subscribe(&uri, &w.sel, on_event, on_notice, &w, &err);
    ret = sub ? run(&w, sub, &err) : err.code;
    if (ret < 0)
        nf_cmd_error(NAME, "%s", err.text);
    if (w.latency)
        say_latency(&w);
    nf_subscription_free(sub);
    nf_redis_uri_release(&uri);
    nf_buffer_release(&w.out);
    free(w.latency_us);
    return ret < 0 ? NF_EXIT_FAILURE : NF_EXIT_OK;
}
