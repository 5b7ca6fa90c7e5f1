/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine alone: no output, no sandbox, no second process.
 *
 *   bench-engine attach IMAGE          build the picture of a disk
 *   bench-engine decode TRACE          read a trace and do nothing with it
 *   bench-engine copy TRACE IMAGE      read it and keep the disk that it makes
 *   bench-engine replay TRACE IMAGE    the same, and infer events, without content
 *
 * Prints one line of NAME=VALUE: CPU and wall seconds, and what was counted.
 * The shadow is an unlinked file in $TMPDIR (or /var/tmp), as it is the daemon's.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "bdi/bdi.h"
#include "common/cleanup.h"
#include "common/image_overlay.h"
#include "common/trace.h"

static uint64_t kinds[NF_KIND_MAX + 1];

static int on_event(void *opaque, const struct nf_event *ev, struct nf_error *err)
{
    (void)opaque, (void)err;
    kinds[ev->kind <= NF_KIND_MAX ? ev->kind : 0]++;
    return 0;
}

static double cpu(void)
{
    struct rusage u;

    getrusage(RUSAGE_SELF, &u);
    return (double)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) +
           (double)(u.ru_utime.tv_usec + u.ru_stime.tv_usec) / 1e6;
}

static double wall(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* A line of /proc/self/status, in KiB. */
static unsigned long status_kib(const char *name)
{
    NF_AUTO_FREE char *line = NULL;
    size_t cap = 0, len = strlen(name);
    unsigned long kib = 0;
    FILE *f = fopen("/proc/self/status", "re");

    while (f && getline(&line, &cap, f) > 0) {
        if (strncmp(line, name, len) == 0 && line[len] == ':')
            kib = strtoul(line + len + 1, NULL, 10);
    }
    if (f)
        fclose(f);
    return kib;
}

static int temporary(struct nf_error *err)
{
    const char *dir = getenv("TMPDIR");
    int fd = open(dir && *dir ? dir : "/var/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    return fd < 0 ? nf_fail(err, NF_EIO, "a temporary file: %s", strerror(errno)) : fd;
}

struct clocks {
    double cpu, wall;
};

static void begin(struct clocks *c)
{
    *c = (struct clocks){cpu(), wall()};
}

static void end(const char *what, const struct clocks *c)
{
    printf("what=%s cpu=%.4f wall=%.4f", what, cpu() - c->cpu, wall() - c->wall);
}

static int decode(const char *trace, struct nf_error *err)
{
    struct nf_trace_reader *r;
    struct nf_record rec;
    struct clocks c;
    uint64_t records = 0, bytes = 0;
    int ret;

    begin(&c);
    r = nf_trace_open(trace, err);
    if (!r)
        return err->code;
    while ((ret = nf_trace_next(r, &rec, err)) > 0) {
        records++;
        bytes += rec.data ? rec.length : 0;
    }
    nf_trace_close(r);
    end("decode", &c);
    printf(" records=%" PRIu64 " bytes=%" PRIu64 "\n", records, bytes);
    return ret;
}

/* A replay needs the disk as it is at each record, which a live engine has in
 * the image: what that costs is no part of inference. */
static int copy(const char *trace, const char *image, struct nf_error *err)
{
    NF_AUTO_CLOSE int base = open(image, O_RDONLY | O_CLOEXEC);
    struct nf_trace_reader *r = nf_trace_open(trace, err);
    struct nf_image_overlay *disk;
    struct nf_record rec;
    struct clocks c;
    int ret = 0;

    if (!r)
        return err->code;
    disk = nf_image_overlay_new(base, nf_trace_reader_info(r)->disk_size, err);
    begin(&c);
    while (disk && ret >= 0 && (ret = nf_trace_next(r, &rec, err)) > 0)
        ret = nf_image_overlay_apply(disk, &rec, err);
    end("copy", &c);
    putchar('\n');
    nf_trace_close(r);
    nf_image_overlay_free(disk);
    return disk ? ret : err->code;
}

static struct bdi *attach(struct nf_image *img, int shadow, struct nf_error *err)
{
    struct bdi_options opt = {.epoch = 1, .first_seq = 1, .event = on_event};
    struct bdi *bdi = bdi_new(img, shadow, &opt, err);

    if (bdi && bdi_attach(bdi, err) < 0) {
        bdi_free(bdi);
        bdi = NULL;
    }
    return bdi;
}

static int run(const char *trace, const char *image, struct nf_error *err)
{
    NF_AUTO_CLOSE int base = open(image, O_RDONLY | O_CLOEXEC);
    NF_AUTO_CLOSE int shadow = temporary(err);
    struct nf_trace_reader *r = trace ? nf_trace_open(trace, err) : NULL;
    struct nf_image_overlay *disk = NULL;
    struct bdi *bdi = NULL;
    struct bdi_status st;
    struct nf_record rec;
    struct clocks c;
    uint64_t first = 0;
    int ret = 0;

    if (base < 0)
        return nf_fail(err, NF_EIO, "%s: %s", image, strerror(errno));
    if (shadow < 0 || (trace && !r))
        return err->code;
    disk = nf_image_overlay_new(base, trace ? nf_trace_reader_info(r)->disk_size
                                            : (uint64_t)lseek(base, 0, SEEK_END), err);
    begin(&c);
    if (disk)
        bdi = attach(nf_image_overlay_image(disk), shadow, err);
    if (!bdi) {
        ret = err->code;
        goto out;
    }
    if (!trace) {
        end("attach", &c);
        printf(" rss_anon_kib=%lu rss_file_kib=%lu\n", status_kib("RssAnon"),
               status_kib("RssFile"));
        goto out;
    }
    st = *bdi_get_status(bdi);
    first = st.events;
    begin(&c);
    while ((ret = nf_trace_next(r, &rec, err)) > 0) {
        ret = nf_image_overlay_apply(disk, &rec, err);
        if (ret == 0)
            ret = bdi_record(bdi, &rec, err);
        if (ret < 0)
            break;
    }
    end("replay", &c);
    st = *bdi_get_status(bdi);
    printf(" records=%" PRIu64 " steps=%" PRIu64 " events=%" PRIu64 " oddities=%" PRIu64
           " rss_anon_kib=%lu recorded=%.3f\n",
           st.records, st.steps, st.events - first, st.oddities, status_kib("RssAnon"),
           (double)(nf_trace_reader_info(r)->last_ns - nf_trace_reader_info(r)->first_ns) / 1e9);
out:
    bdi_free(bdi);
    nf_image_overlay_free(disk);
    nf_trace_close(r);
    return ret;
}

int main(int argc, char **argv)
{
    struct nf_error err = {0};
    int ret;

    if (argc == 3 && strcmp(argv[1], "attach") == 0) {
        ret = run(NULL, argv[2], &err);
    } else if (argc == 3 && strcmp(argv[1], "decode") == 0) {
        ret = decode(argv[2], &err);
    } else if (argc == 4 && strcmp(argv[1], "copy") == 0) {
        ret = copy(argv[2], argv[3], &err);
    } else if (argc == 4 && strcmp(argv[1], "replay") == 0) {
        ret = run(argv[2], argv[3], &err);
    } else {
        fputs("usage: bench-engine attach IMAGE | decode TRACE |\n"
              "       bench-engine copy TRACE IMAGE | replay TRACE IMAGE\n", stderr);
        return 2;
    }
    if (ret < 0)
        fprintf(stderr, "bench-engine: %s\n", err.text);
    return ret < 0;
}
