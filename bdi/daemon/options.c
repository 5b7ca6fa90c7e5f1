/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/options.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "bdi/bdi.h"
#include "bdi/daemon/say.h"

static const char help[] =
    "usage: nearfield-bdi --tap SOCKET | --trace FILE  --image PATH|NBD-URI  [options]\n"
    "\n"
    "Turns the write stream of one virtual disk into file events.\n"
    "\n"
    "  --tap SOCKET        follow a running disk: socket of its write-tap node\n"
    "  --trace FILE        replay a trace instead\n"
    "  --image PATH|URI    the disk to read: a raw file, nbd://HOST[:PORT]/EXPORT or\n"
    "                      nbd+unix:///EXPORT?socket=PATH; with --trace, its base\n"
    "  --state DIR         keep in DIR what is needed to go on after being killed\n"
    "  --host H --vm V --disk D\n"
    "                      what the events are from: [A-Za-z0-9._-]+\n"
    "                      (default: this host's name, \"vm\", \"disk\")\n"
    "  --out -|FILE|unix:PATH\n"
    "                      where events go: standard output (default), a file, or the\n"
    "                      socket of nearfield-streamer\n"
    "  --format proto|json frames of common/events.proto (default), or JSON lines\n"
    "  --content none|all|BYTES\n"
    "                      how much content a WRITE carries (default: none)\n"
    "  --snapshot, --no-snapshot\n"
    "                      begin with an ENTRY for every file (default: with --trace)\n"
    "  --data-mode auto|ordered|writeback\n"
    "                      how ext4 with a journal is mounted (default: auto, by the\n"
    "                      file system's own default)\n"
    "  --epoch N           number of the epoch (default: from the clock or the trace)\n"
    "  --help, --version\n";

enum {
    OPT_TAP = 256,
    OPT_TRACE,
    OPT_IMAGE,
    OPT_STATE,
    OPT_HOST,
    OPT_VM,
    OPT_DISK,
    OPT_OUT,
    OPT_FORMAT,
    OPT_CONTENT,
    OPT_SNAPSHOT,
    OPT_DATA_MODE,
    OPT_NO_SNAPSHOT,
    OPT_EPOCH,
    OPT_HELP,
    OPT_VERSION,
};

static const struct option longopts[] = {
    {"tap", required_argument, NULL, OPT_TAP},
    {"trace", required_argument, NULL, OPT_TRACE},
    {"image", required_argument, NULL, OPT_IMAGE},
    {"state", required_argument, NULL, OPT_STATE},
    {"host", required_argument, NULL, OPT_HOST},
    {"vm", required_argument, NULL, OPT_VM},
    {"disk", required_argument, NULL, OPT_DISK},
    {"out", required_argument, NULL, OPT_OUT},
    {"format", required_argument, NULL, OPT_FORMAT},
    {"content", required_argument, NULL, OPT_CONTENT},
    {"snapshot", no_argument, NULL, OPT_SNAPSHOT},
    {"no-snapshot", no_argument, NULL, OPT_NO_SNAPSHOT},
    {"data-mode", required_argument, NULL, OPT_DATA_MODE},
    {"epoch", required_argument, NULL, OPT_EPOCH},
    {"help", no_argument, NULL, OPT_HELP},
    {"version", no_argument, NULL, OPT_VERSION},
    {0},
};

static enum options_result __attribute__((format(printf, 1, 2))) usage(const char *fmt, ...)
{
    char text[600];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    say("%s (see --help)", text);
    return OPTIONS_USAGE;
}

/* --help | head must not fail, a full disk must. */
static enum options_result printed(void)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return OPTIONS_DONE;
    say("write to standard output: %s", strerror(errno));
    return OPTIONS_FAILED;
}

/* A decimal number, with K, M or G (powers of 1024) where @scaled. */
static bool parse_number(const char *text, bool scaled, uint64_t *value)
{
    unsigned shift = 0;
    char *end;

    if (text[0] < '0' || text[0] > '9')
        return false;
    errno = 0;
    *value = strtoull(text, &end, 10);
    if (errno)
        return false;
    if (scaled && *end) {
        const char *units = "KMG";
        const char *u = strchr(units, *end);

        if (!u)
            return false;
        shift = 10 * (unsigned)(u - units + 1);
        end++;
    }
    if (*end || *value > UINT64_MAX >> shift)
        return false;
    *value <<= shift;
    return true;
}

/* The host's name with what a source name cannot hold replaced. */
static void default_host(char *out, size_t room)
{
    if (gethostname(out, room) < 0)
        out[0] = '\0';
    out[room - 1] = '\0';
    for (char *c = out; *c; c++) {
        char one[2] = {*c, '\0'};

        if (!nf_source_name_valid(one))
            *c = '-';
    }
    if (!out[0])
        snprintf(out, room, "localhost");
}

static bool parse_content(const char *text, uint64_t *limit)
{
    if (strcmp(text, "none") == 0)
        *limit = BDI_CONTENT_NONE;
    else if (strcmp(text, "all") == 0)
        *limit = BDI_CONTENT_ALL;
    else
        return parse_number(text, true, limit);
    return true;
}

enum options_result options_parse(int argc, char **argv, struct options *opt)
{
    const char *host = NULL, *format = "proto", *out = "-";
    int c, snapshot = -1;

    memset(opt, 0, sizeof(*opt));
    opt->vm = "vm";
    opt->disk = "disk";
    opt->content_limit = BDI_CONTENT_NONE;
    optind = 0;
    opterr = 0;
    while ((c = getopt_long(argc, argv, ":", longopts, NULL)) != -1) {
        switch (c) {
        case OPT_TAP:
            opt->tap = optarg;
            break;
        case OPT_TRACE:
            opt->trace = optarg;
            break;
        case OPT_IMAGE:
            opt->image = optarg;
            break;
        case OPT_STATE:
            opt->state = optarg;
            break;
        case OPT_HOST:
            host = optarg;
            break;
        case OPT_VM:
            opt->vm = optarg;
            break;
        case OPT_DISK:
            opt->disk = optarg;
            break;
        case OPT_OUT:
            out = optarg;
            break;
        case OPT_FORMAT:
            format = optarg;
            break;
        case OPT_CONTENT:
            if (!parse_content(optarg, &opt->content_limit))
                return usage("--content %s: neither none, all nor a number of bytes", optarg);
            break;
        case OPT_SNAPSHOT:
            snapshot = 1;
            break;
        case OPT_NO_SNAPSHOT:
            snapshot = 0;
            break;
        case OPT_DATA_MODE:
            if (strcmp(optarg, "auto") == 0)
                opt->data_mode = BDI_DATA_AUTO;
            else if (strcmp(optarg, "ordered") == 0)
                opt->data_mode = BDI_DATA_ORDERED;
            else if (strcmp(optarg, "writeback") == 0)
                opt->data_mode = BDI_DATA_WRITEBACK;
            else
                return usage("--data-mode %s: neither auto, ordered nor writeback", optarg);
            break;
        case OPT_EPOCH:
            if (!parse_number(optarg, false, &opt->epoch) || opt->epoch == 0)
                return usage("--epoch %s: not a number above 0", optarg);
            break;
        case OPT_HELP:
            fputs(help, stdout);
            return printed();
        case OPT_VERSION:
            puts("nearfield-bdi " NF_VERSION);
            return printed();
        case ':':
            return usage("option %s needs a value", argv[optind - 1]);
        default:
            return usage("unknown option %s", argv[optind - 1]);
        }
    }
    if (optind < argc)
        return usage("unexpected argument %s", argv[optind]);
    if (!opt->tap == !opt->trace)
        return usage("give either --tap or --trace");
    if (!opt->image)
        return usage("--image is missing");
    if (!opt->image[0] || (opt->tap ? !opt->tap[0] : !opt->trace[0]))
        return usage("--%s: the name is empty",
                     !opt->image[0] ? "image" : opt->tap ? "tap" : "trace");
    if (strcmp(format, "json") == 0)
        opt->json = true;
    else if (strcmp(format, "proto") != 0)
        return usage("--format %s: neither proto nor json", format);
    if (strncmp(out, "unix:", 5) == 0) {
        opt->streamer = out + 5;
        if (!opt->streamer[0])
            return usage("--out %s: the socket's path is missing", out);
        if (opt->json)
            return usage("--format json goes to a file or standard output, not to a streamer");
    } else if (strcmp(out, "-") != 0) {
        if (!out[0])
            return usage("--out: the file's name is empty");
        opt->out = out;
    }
    if (opt->state && !opt->state[0])
        return usage("--state: the directory's name is empty");
    if (opt->state && opt->trace)
        return usage("--state is of use with --tap only: a trace can be replayed again");
    if (opt->state && opt->json)
        return usage("--state needs --format proto");
    if (host && !nf_source_name_valid(host))
        return usage("--host %s: must be 1 to %d of [A-Za-z0-9._-]", host, NF_SOURCE_NAME_MAX);
    if (!nf_source_name_valid(opt->vm))
        return usage("--vm %s: must be 1 to %d of [A-Za-z0-9._-]", opt->vm, NF_SOURCE_NAME_MAX);
    if (!nf_source_name_valid(opt->disk))
        return usage("--disk %s: must be 1 to %d of [A-Za-z0-9._-]", opt->disk,
                     NF_SOURCE_NAME_MAX);
    if (host)
        snprintf(opt->host, sizeof(opt->host), "%s", host);
    else
        default_host(opt->host, sizeof(opt->host));
    opt->snapshot = snapshot >= 0 ? snapshot : opt->trace != NULL;
    return OPTIONS_RUN;
}
