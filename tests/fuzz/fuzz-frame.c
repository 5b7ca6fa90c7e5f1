/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stream of frames from a hostile engine: through the reader, and each frame
 * through what the streamer does with it.
 */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "streamer/publish.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct nf_hello from = { 1, "h", "v", "d", 5, 1 };

static void publish(struct nf_publisher *p, uint64_t *next_seq, struct nf_bytes payload)
{
    struct nf_request req = { 0 };
    struct nf_published out;

    if (nf_publish_batch(p, &from, *next_seq, payload, &req, &out, NULL) == 0) {
        struct nf_bytes z = { req.commands.data + out.z_at, out.z_len };

        if (out.first_seq != *next_seq || out.last_seq < out.first_seq || req.ncommands < 2 ||
            out.z_at + out.z_len + 2 != req.commands.len || !nf_publish_same(z, z))
            abort();
        *next_seq = out.last_seq + 1;
    }
    nf_buffer_release(&req.commands);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static int fd = -1;
    static struct nf_publisher *p;
    struct nf_frame_reader *r;
    struct nf_frame frame;
    struct nf_bytes payload;
    uint64_t next_seq = 1;
    int ret;

    if (fd < 0) {
        fd = memfd_create("frames", 0);
        p = nf_publisher_new(&(struct nf_publish_options){ true, true, 10 }, NULL);
    }
    if (fd < 0 || !p || ftruncate(fd, 0) < 0 || pwrite(fd, data, size, 0) != (ssize_t)size)
        abort();

    lseek(fd, 0, SEEK_SET);
    r = nf_frame_reader_new(fd, NULL);
    while ((ret = nf_frame_next(r, &frame, NULL)) == NF_FRAME_READY)
        if (frame.type == NF_FRAME_BATCH && frame.batch.nevents == 0)
            abort();
    if (ret == NF_FRAME_AGAIN)
        abort(); /* a file never blocks */
    nf_frame_reader_free(r);

    lseek(fd, 0, SEEK_SET);
    r = nf_frame_reader_new(fd, NULL);
    while (nf_frame_next_raw(r, &payload, NULL) == NF_FRAME_READY)
        publish(p, &next_seq, payload);
    nf_frame_reader_free(r);
    return 0;
}
