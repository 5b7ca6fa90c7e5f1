/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nearfield trace info
 */
#include "consumers/trace_cmd.h"

#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/trace.h"
#include "consumers/commands.h"

#define NAME "trace info"

static const char usage[] =
    "Usage: nearfield trace info [--json] [--verify] FILE\n\n"
    "Say what a trace holds.\n\n"
    "  --json    one JSON object\n"
    "  --verify  read all of it, even if its index answers everything\n"
    "  --help    this text\n";

static const char *const type_names[NF_TRACE_TYPES] = {
    [NF_REC_WRITE] = "write",   [NF_REC_ZERO] = "zero",     [NF_REC_DISCARD] = "discard",
    [NF_REC_FLUSH] = "flush",   [NF_REC_RESIZE] = "resize", [NF_REC_GAP] = "gap",
    [NF_REC_OPEN] = "open",     [NF_REC_CLOSE] = "close",   [NF_REC_READBACK] = "readback",
};

static const char *const origin_names[] = { "unknown", "tap", "logwrites", "derived" };

static const char *origin_name(enum nf_trace_origin origin)
{
    size_t n = sizeof(origin_names) / sizeof(origin_names[0]);

    return (size_t)origin < n ? origin_names[origin] : origin_names[0];
}

/* What only reading all records can tell, where there is no index. */
static int count_all(struct nf_trace_reader *r, struct nf_trace_info *info, struct nf_error *err)
{
    struct nf_progress progress = { .what = "reading" };
    struct nf_record rec;
    uint64_t done = 0;
    int ret;

    memset(info->totals, 0, sizeof(info->totals));
    while ((ret = nf_trace_next(r, &rec, err)) == 1) {
        info->totals[rec.type].records++;
        if (__builtin_add_overflow(info->totals[rec.type].bytes, rec.length,
                                   &info->totals[rec.type].bytes))
            info->totals[rec.type].bytes = UINT64_MAX;
        if ((++done & 1023) == 0)
            nf_progress_show(&progress, done, info->records);
        if (nf_stop) {
            ret = nf_fail(err, NF_EIO, "interrupted");
            break;
        }
    }
    nf_progress_end(&progress);
    return ret;
}

static void print_uuid(const uint8_t *u)
{
    for (int i = 0; i < 16; i++)
        printf("%s%02x", i == 4 || i == 6 || i == 8 || i == 10 ? "-" : "", u[i]);
}

/* The tap's text, which a producer chose: nothing but plain ASCII. */
static void print_id(const char *id)
{
    for (; *id; id++) {
        unsigned char c = (unsigned char)*id;

        if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')
            printf("\\u%04x", c);
        else
            putchar(c);
    }
}

static void print_time(const char *label, int64_t ns)
{
    time_t sec = (time_t)(ns / 1000000000 - (ns % 1000000000 < 0));
    long frac = (long)(ns - (int64_t)sec * 1000000000);
    struct tm tm;
    char text[64];

    if (!gmtime_r(&sec, &tm) || strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm) == 0)
        return;
    printf("%s%s.%09ldZ", label, text, frac);
}

static void print_text(const struct nf_trace_info *info)
{
    printf("epoch      ");
    print_uuid(info->epoch_uuid);
    printf("\ndisk       %" PRIu64 " bytes%s", info->disk_size, info->disk_id[0] ? ", " : "");
    print_id(info->disk_id);
    printf("\norigin     %s\n", origin_name(info->origin));
    if (info->created_ns)
        print_time("created    ", info->created_ns), putchar('\n');
    printf("index      %s\n", info->has_index ? "yes" : "no (recording did not end orderly)");
    if (info->torn)
        printf("torn       %" PRIu64 " bytes at the end are not whole\n", info->torn);
    printf("records    %" PRIu64, info->records);
    if (info->records)
        printf(", seq %" PRIu64 " to %" PRIu64, info->first_seq, info->last_seq);
    putchar('\n');
    if (info->first_ns != 0 || info->last_ns != 0) {
        print_time("time       ", info->first_ns);
        print_time(" to ", info->last_ns);
        putchar('\n');
    }
    printf("gaps       %s\n", info->totals[NF_REC_GAP].records ? "YES: writes were lost" : "none");
    for (int i = 1; i < NF_TRACE_TYPES; i++)
        if (info->totals[i].records)
            printf("  %-9s%12" PRIu64 "  %15" PRIu64 " bytes\n", type_names[i] ? type_names[i] : "?",
                   info->totals[i].records, info->totals[i].bytes);
}

static void print_json(const struct nf_trace_info *info)
{
    const char *sep = "";

    printf("{\"epoch\":\"");
    print_uuid(info->epoch_uuid);
    printf("\",\"disk_id\":\"");
    print_id(info->disk_id);
    printf("\",\"disk_size\":%" PRIu64 ",\"origin\":\"%s\",\"created_ns\":%" PRId64
           ",\"index\":%s,\"torn_bytes\":%" PRIu64 ",\"records\":%" PRIu64
           ",\"first_seq\":%" PRIu64 ",\"last_seq\":%" PRIu64 ",\"first_ns\":%" PRId64
           ",\"last_ns\":%" PRId64 ",\"gaps\":%s,\"types\":{",
           info->disk_size, origin_name(info->origin), info->created_ns,
           info->has_index ? "true" : "false", info->torn, info->records, info->first_seq,
           info->last_seq, info->first_ns, info->last_ns,
           info->totals[NF_REC_GAP].records ? "true" : "false");
    for (int i = 1; i < NF_TRACE_TYPES; i++) {
        if (!info->totals[i].records || !type_names[i])
            continue;
        printf("%s\"%s\":{\"records\":%" PRIu64 ",\"bytes\":%" PRIu64 "}", sep, type_names[i],
               info->totals[i].records, info->totals[i].bytes);
        sep = ",";
    }
    printf("}}\n");
}

int nf_trace_cmd_info(int argc, char **argv)
{
    static const struct option options[] = {
        { "json", no_argument, NULL, 'j' },
        { "verify", no_argument, NULL, 'v' },
        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    bool json = false, verify = false;
    struct nf_trace_reader *r;
    struct nf_trace_info info;
    struct nf_error err = { 0 };
    int c, ret = 0;

    while ((c = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        switch (c) {
        case 'j':
            json = true;
            break;
        case 'v':
            verify = true;
            break;
        case 'h':
            fputs(usage, stdout);
            return nf_cmd_close_stdout(NAME, NF_EXIT_OK);
        default:
            return nf_cmd_usage_error(NAME, NULL);
        }
    }
    if (optind + 1 != argc)
        return nf_cmd_usage_error(NAME, "exactly one trace is needed");
    nf_catch_signals();
    r = nf_trace_open(argv[optind], &err);
    if (!r)
        return nf_cmd_error(NAME, "%s", err.text);
    info = *nf_trace_reader_info(r);
    if (verify || !info.has_index)
        ret = count_all(r, &info, &err);
    nf_trace_close(r);
    if (ret < 0)
        return nf_cmd_error(NAME, "%s: %s", argv[optind], err.text);
    if (json)
        print_json(&info);
    else
        print_text(&info);
    return nf_cmd_close_stdout(NAME, NF_EXIT_OK);
}
