/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs the engine over a kept trace and prints its events; also makes and
 * unmakes the kept base images (tests/golden/README.md).
 *
 *   golden-run events DIR         events of DIR/trace.nft over DIR/base.nft, as JSON
 *   golden-run pack IMAGE FILE    IMAGE as a trace of what is not zero in it
 *   golden-run unpack FILE IMAGE  and back, into a sparse file
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "bdi/bdi.h"
#include "common/buffer.h"
#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/event_json.h"
#include "common/image_overlay.h"
#include "common/trace.h"

#define PIECE 1024u
#define PIECES_MAX 64u /* in one record */

static int on_event(void *opaque, const struct nf_event *ev, struct nf_error *err)
{
    struct nf_buffer *line = opaque;
    int ret;

    nf_buffer_clear(line);
    ret = nf_event_json(ev, true, line, err);
    if (ret == 0 && fwrite(line->data, 1, line->len, stdout) != line->len)
        ret = nf_fail(err, NF_EIO, "standard output: %s", strerror(errno));
    return ret;
}

/* Apply every record of @path to @disk and, if there is one, give it to @bdi. */
static int feed(const char *path, struct nf_image_overlay *disk, struct bdi *bdi,
                struct nf_error *err)
{
    struct nf_trace_reader *r = nf_trace_open(path, err);
    struct nf_record rec;
    int ret;

    if (!r)
        return nf_fail_prefix(err, "%s", path);
    while ((ret = nf_trace_next(r, &rec, err)) > 0) {
        ret = nf_image_overlay_apply(disk, &rec, err);
        if (ret == 0 && bdi)
            ret = bdi_record(bdi, &rec, err);
        if (ret < 0) {
            nf_fail_prefix(err, "record %" PRIu64, rec.seq);
            break;
        }
    }
    if (ret < 0)
        nf_fail_prefix(err, "%s", path);
    nf_trace_close(r);
    return ret;
}

static struct nf_image_overlay *new_disk(const char *base, int fd, struct nf_error *err)
{
    struct nf_trace_reader *r = nf_trace_open(base, err);
    struct nf_image_overlay *disk = NULL;

    if (!r) {
        nf_fail_prefix(err, "%s", base);
        return NULL;
    }
    disk = nf_image_overlay_new(fd, nf_trace_reader_info(r)->disk_size, err);
    nf_trace_close(r);
    if (disk && feed(base, disk, NULL, err) < 0) {
        nf_image_overlay_free(disk);
        disk = NULL;
    }
    return disk;
}

static int events(const char *dir, struct nf_error *err)
{
    NF_AUTO_CLOSE int empty = memfd_create("base", MFD_CLOEXEC);
    NF_AUTO_CLOSE int shadow = memfd_create("shadow", MFD_CLOEXEC);
    struct nf_image_overlay *disk = NULL;
    struct nf_buffer line = {0};
    struct bdi_options opt = {.epoch = 1,
                              .first_seq = 1,
                              .content_limit = BDI_CONTENT_ALL,
                              .snapshot = 1,
                              .event = on_event,
                              .opaque = &line};
    struct bdi *bdi = NULL;
    struct bdi_status st;
    char base[4096], trace[4096];
    int ret = 0;

    snprintf(base, sizeof(base), "%s/base.nft", dir);
    snprintf(trace, sizeof(trace), "%s/trace.nft", dir);
    if (empty < 0 || shadow < 0)
        return nf_fail(err, NF_EIO, "memfd: %s", strerror(errno));
    disk = new_disk(base, empty, err);
    if (disk)
        bdi = bdi_new(nf_image_overlay_image(disk), shadow, &opt, err);
    if (!bdi) {
        ret = err->code;
        goto out;
    }
    ret = bdi_attach(bdi, err);
    if (ret == 0)
        ret = feed(trace, disk, bdi, err);
    st = *bdi_get_status(bdi);
    /* What no event shows is part of what is expected too. */
    printf("{\"status\":{\"filesystems\":%" PRIu32 ",\"records\":%" PRIu64 ",\"steps\":%" PRIu64
           ",\"events\":%" PRIu64 ",\"unmapped_writes\":%" PRIu64 ",\"readbacks\":%" PRIu64
           ",\"oddities\":%" PRIu64 ",\"next_seq\":%" PRIu64 "}}\n",
           st.filesystems, st.records, st.steps, st.events, st.unmapped_writes, st.readbacks,
           st.oddities, bdi_next_seq(bdi));
out:
    bdi_free(bdi);
    nf_image_overlay_free(disk);
    nf_buffer_release(&line);
    return ret;
}

static int put(struct nf_trace_writer *w, uint64_t *seq, const uint8_t *buf, uint64_t offset,
               size_t len, struct nf_error *err)
{
    struct nf_record rec = {
        .seq = ++*seq, .type = NF_REC_WRITE, .offset = offset, .length = len, .data = buf};

    return len ? nf_trace_append(w, &rec, err) : 0;
}

static int pack(const char *image, const char *file, struct nf_error *err)
{
    static uint8_t buf[PIECE * PIECES_MAX];
    NF_AUTO_CLOSE int fd = open(image, O_RDONLY | O_CLOEXEC);
    struct nf_trace_info info = {.origin = NF_TRACE_ORIGIN_DERIVED};
    struct nf_trace_writer *w;
    struct stat st;
    uint64_t seq = 0;
    int ret = 0;

    if (fd < 0 || fstat(fd, &st) < 0)
        return nf_fail(err, NF_EIO, "%s: %s", image, strerror(errno));
    info.disk_size = (uint64_t)st.st_size;
    w = nf_trace_create(file, &info, err);
    if (!w)
        return err->code;
    for (uint64_t at = 0; ret == 0 && at < info.disk_size; at += sizeof(buf)) {
        size_t left = info.disk_size - at < sizeof(buf) ? (size_t)(info.disk_size - at)
                                                        : sizeof(buf);
        size_t from = 0, to = 0;

        if (pread(fd, buf, left, (off_t)at) != (ssize_t)left) {
            ret = nf_fail(err, NF_EIO, "read %s: %s", image, strerror(errno));
            break;
        }
        for (size_t p = 0; ret == 0 && p < left; p += PIECE) {
            size_t n = left - p < PIECE ? left - p : PIECE;

            if (nf_is_zero(buf + p, n))
                continue;
            if (p != to) {
                ret = put(w, &seq, buf + from, at + from, to - from, err);
                from = p;
            }
            to = p + n;
        }
        if (ret == 0)
            ret = put(w, &seq, buf + from, at + from, to - from, err);
    }
    if (ret < 0) {
        nf_trace_discard(w);
        return ret;
    }
    return nf_trace_finish(w, err);
}

static int unpack(const char *file, const char *image, struct nf_error *err)
{
    NF_AUTO_CLOSE int fd = open(image, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    struct nf_trace_reader *r = nf_trace_open(file, err);
    struct nf_record rec;
    int ret = 0;

    if (!r)
        return nf_fail_prefix(err, "%s", file);
    if (fd < 0 || ftruncate(fd, (off_t)nf_trace_reader_info(r)->disk_size) < 0)
        ret = nf_fail(err, NF_EIO, "%s: %s", image, strerror(errno));
    while (ret == 0 && (ret = nf_trace_next(r, &rec, err)) > 0) {
        ret = 0;
        if (rec.type == NF_REC_WRITE &&
            pwrite(fd, rec.data, rec.length, (off_t)rec.offset) != (ssize_t)rec.length)
            ret = nf_fail(err, NF_EIO, "write %s: %s", image, strerror(errno));
    }
    nf_trace_close(r);
    return ret;
}

int main(int argc, char **argv)
{
    struct nf_error err = {0};
    int ret;

    if (argc == 3 && strcmp(argv[1], "events") == 0) {
        ret = events(argv[2], &err);
    } else if (argc == 4 && strcmp(argv[1], "pack") == 0) {
        ret = pack(argv[2], argv[3], &err);
    } else if (argc == 4 && strcmp(argv[1], "unpack") == 0) {
        ret = unpack(argv[2], argv[3], &err);
    } else {
        fputs("usage: golden-run events DIR | pack IMAGE FILE | unpack FILE IMAGE\n", stderr);
        return 2;
    }
    if (ret == 0 && fflush(stdout) != 0)
        ret = nf_fail(&err, NF_EIO, "standard output: %s", strerror(errno));
    if (ret < 0)
        fprintf(stderr, "golden-run: %s\n", err.text);
    return ret < 0;
}
