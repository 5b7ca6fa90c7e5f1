/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * make-event-corpus DIR: (re)makes the seeds of fuzz-event and fuzz-frame in
 * DIR/fuzz-event and DIR/fuzz-frame: an event of each kind, and streams of
 * frames.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/frame.h"
#include "tests/unit/event-samples.h"

static struct samples samples = { .state = 11 };

static int create(const char *top, const char *target, const char *name)
{
    char path[4096];

    snprintf(path, sizeof(path), "%s/%s", top, target);
    mkdir(path, 0777);
    snprintf(path, sizeof(path), "%s/%s/%s", top, target, name);
    return open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

/* Short, as fuzzing likes it. */
static void small_event(enum nf_kind kind, uint64_t seq, struct nf_event *ev)
{
    samples_event(&samples, kind, ev);
    ev->epoch = 5;
    ev->seq = seq;
    if (ev->npaths > 2)
        ev->npaths = 2;
    for (size_t i = 0; i < ev->npaths; i++)
        if (samples.paths[i].len > 12)
            samples.paths[i].len = 12;
}

int main(int argc, char **argv)
{
    struct nf_event_encoder *enc = nf_event_encoder_new(NULL);
    struct nf_hello hello = { NF_FRAME_VERSION, "h", "v", "d", 5, 1 };
    struct nf_buffer out = { 0 };
    struct nf_batch_writer *w;
    struct nf_error err = { 0 };
    struct nf_event ev;
    int fd, ret = 0;

    if (argc != 2 || !enc) {
        fprintf(stderr, "usage: make-event-corpus DIR\n");
        return 2;
    }
    for (int kind = 1; ret == 0 && kind <= NF_KIND_MAX; kind++) {
        nf_buffer_clear(&out);
        small_event((enum nf_kind)kind, 7, &ev);
        ret = nf_event_encode(enc, &ev, &out, &err);
        fd = create(argv[1], "fuzz-event", nf_kind_name((enum nf_kind)kind));
        if (fd < 0 || write(fd, out.data, out.len) != (ssize_t)out.len)
            ret = nf_fail(&err, NF_EIO, "cannot write %s", argv[1]);
        close(fd);
    }
    fd = create(argv[1], "fuzz-frame", "stream");
    if (ret == 0)
        ret = nf_frame_write_hello(fd, &hello, &err);
    w = nf_batch_writer_new(
        &(struct nf_batch_writer_options){ .fd = fd, .epoch = 5, .next_seq = 1 }, &err);
    for (int kind = 1; ret == 0 && w && kind <= NF_KIND_MAX; kind++) {
        small_event((enum nf_kind)kind, (uint64_t)kind, &ev);
        ret = nf_batch_writer_add(w, &ev, &err);
        if (ret == 0 && kind % 4 == 0)
            ret = nf_batch_writer_flush(w, &err);
    }
    nf_batch_writer_free(w);
    close(fd);
    nf_buffer_clear(&out);
    fd = create(argv[1], "fuzz-frame", "acks");
    for (uint64_t seq = 1; ret == 0 && seq < 4; seq++)
        ret = nf_frame_put_ack(&out, &(struct nf_ack){ 5, seq }, &err);
    if (ret == 0 && write(fd, out.data, out.len) != (ssize_t)out.len)
        ret = nf_fail(&err, NF_EIO, "cannot write %s", argv[1]);
    close(fd);
    if (ret < 0)
        fprintf(stderr, "make-event-corpus: %s\n", err.text);
    nf_buffer_release(&out);
    nf_event_encoder_free(enc);
    return ret < 0;
}
