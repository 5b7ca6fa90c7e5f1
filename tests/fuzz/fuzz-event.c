/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events from anywhere: decode, print, unpack content, and encode again. What
 * was decoded and encoded must decode to the same.
 */
#include <stdlib.h>

#include "common/event_json.h"
#include "common/event_pb.h"
#include "tests/unit/event-samples.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct nf_event_encoder *enc = nf_event_encoder_new(NULL);
    struct nf_buffer out = { 0 };
    struct nf_arena arena, again;
    struct nf_event ev, copy;
    struct nf_batch batch;
    int ret;

    nf_arena_init(&arena, size * 32 + 65536);
    nf_arena_init(&again, 64u << 20);
    ret = nf_event_decode(&arena, data, size, &ev, NULL);
    if (ret >= 0) {
        int printed = nf_event_json(&ev, true, &out, NULL);

        if (printed == 0 && (out.len < 2 || out.data[out.len - 1] != '\n'))
            abort();
    }
    if (ret == 0) {
        nf_buffer_clear(&out);
        if (nf_event_encode(enc, &ev, &out, NULL) < 0 ||
            nf_event_decode(&again, out.data, out.len, &copy, NULL) != 0)
            abort();
        /* Content that does not unpack is passed on as it came. */
        if (ev.kind != NF_WRITE && !samples_same(&ev, &copy))
            abort();
    }
    nf_arena_reset(&arena);
    nf_batch_decode(&arena, data, size, &batch, NULL);
    nf_arena_release(&arena);
    nf_arena_release(&again);
    nf_buffer_release(&out);
    nf_event_encoder_free(enc);
    return 0;
}
