/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The engine alone: no output, no sandbox, no second process.
 *
 *   bench-engine attach IMAGE          build the picture of a disk
 *   bench-engine decode TRACE          read a trace and do nothing with it
 *   bench-engine copy TRACE IMAGE      read it and keep the disk that it makes
 *   bench-engine replay TRACE IMAGE    the same, and infer events, without content
 *   bench-engine send TRACE IMAGE      the same, and write them as frames to nowhere
 *   bench-engine keep TRACE IMAGE      the same, storing everything before, as --state does
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
#include "bdi/daemon/outbox.h"
#include "common/cleanup.h"
#include "common/image_overlay.h"
#include "common/trace.h"

/* As the daemon saves while it never idles. */
#define SAVE_RECORDS 512
#define SAVE_BYTES (4u << 20)

static uint64_t kinds[NF_KIND_MAX + 1];

/* Where events go, if anywhere; and what is stored, if anything. */
static struct {
    struct nf_batch_writer *frames;
    struct outbox *outbox;
    int present, undo, files[2], nowhere;
    uint64_t records, bytes, generation, saves;
} out;

static int on_event(void *opaque, const struct nf_event *ev, struct nf_error *err)
{
    (void)opaque;
    kinds[ev->kind <= NF_KIND_MAX ? ev->kind : 0]++;
    return out.frames ? nf_batch_writer_add(out.frames, ev, err) : 0;
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
    if (disk)
        nf_image_overlay_read_again(disk, r);
    begin(&c);
    while (disk && ret >= 0 && (ret = nf_trace_next(r, &rec, err)) > 0)
        ret = nf_image_overlay_apply(disk, &rec, err);
    end("copy", &c);
    putchar('\n');
    nf_trace_close(r);
    nf_image_overlay_free(disk);
    return disk ? ret : err->code;
}

static int open_out(const char *how, struct nf_error *err)
{
    struct nf_batch_writer_options bo = {.epoch = 1, .next_seq = 1};
    const struct outbox_owner owner = {.host = "h", .vm = "v", .disk = "d", .disk_size = 1};
    const char boot[37] = "";
    bool same;

    out.nowhere = bo.fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
    out.frames = nf_batch_writer_new(&bo, err);
    if (!out.frames || out.nowhere < 0)
        return NF_ENOMEM;
    if (strcmp(how, "keep") != 0)
        return 0;
    out.present = temporary(err);
    out.undo = temporary(err);
    out.files[0] = temporary(err);
    out.files[1] = temporary(err);
    if (out.present < 0 || out.undo < 0 || out.files[0] < 0 || out.files[1] < 0)
        return NF_EIO;
    nf_batch_writer_hold(out.frames);
    return outbox_open(out.files, &owner, boot, &out.outbox, &same, err);
}

static void close_out(void)
{
    nf_batch_writer_free(out.frames);
    outbox_free(out.outbox);
}

/* What the daemon does where it has consumed enough: see bdi/daemon/state.c. */
static int save(struct bdi *bdi, struct nf_error *err)
{
    struct outbox_mark mark = {.generation = ++out.generation, .epoch = 1, .picture = true,
                               .next_seq = bdi_next_seq(bdi)};
    struct nf_bytes state;
    int ret;

    out.records = out.bytes = 0;
    out.saves++;
    if (!out.outbox)
        return nf_batch_writer_flush(out.frames, err);
    mark.acked = nf_batch_writer_acked(out.frames);
    ret = nf_batch_writer_end(out.frames, err);
    if (ret == 0)
        ret = bdi_save(bdi, mark.generation, &state, err);
    if (ret == 0)
        ret = outbox_large(out.outbox)
                  ? outbox_rewrite(out.outbox, &mark, state, out.frames, err)
                  : outbox_append(out.outbox, &mark, state, out.frames, err);
    if (ret < 0)
        return ret;
    bdi_saved(bdi, mark.generation);
    return nf_batch_writer_stored(out.frames, err);
}

static int consumed(struct bdi *bdi, const struct nf_record *rec, struct nf_error *err)
{
    out.records++;
    out.bytes += rec->data ? rec->length : 0;
    if (!out.frames || (out.records < SAVE_RECORDS && out.bytes < SAVE_BYTES))
        return 0;
    return save(bdi, err);
}

static struct bdi *attach(struct nf_image *img, int shadow, struct nf_error *err)
{
    const struct bdi_state_fds state = {out.present, out.undo};
    struct bdi_options opt = {.epoch = 1, .first_seq = 1, .event = on_event,
                              .state = out.outbox ? &state : NULL};
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
    if (disk && trace)
        nf_image_overlay_read_again(disk, r);
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
        if (ret == 0)
            ret = consumed(bdi, &rec, err);
        if (ret < 0)
            break;
    }
    if (ret == 0 && out.frames)
        ret = save(bdi, err);
    end("replay", &c);
    st = *bdi_get_status(bdi);
    printf(" records=%" PRIu64 " steps=%" PRIu64 " events=%" PRIu64 " oddities=%" PRIu64
           " saves=%" PRIu64 " rss_anon_kib=%lu recorded=%.3f\n",
           st.records, st.steps, st.events - first, st.oddities, out.saves, status_kib("RssAnon"),
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
    } else if (argc == 4 && (strcmp(argv[1], "send") == 0 || strcmp(argv[1], "keep") == 0)) {
        ret = open_out(argv[1], &err);
        if (ret == 0)
            ret = run(argv[2], argv[3], &err);
        close_out();
    } else {
        fputs("usage: bench-engine attach IMAGE | decode TRACE |\n"
              "       bench-engine copy TRACE IMAGE | replay TRACE IMAGE |\n"
              "       bench-engine send TRACE IMAGE | keep TRACE IMAGE\n", stderr);
        return 2;
    }
    if (ret < 0)
        fprintf(stderr, "bench-engine: %s\n", err.text);
    return ret < 0;
}
