/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a held cache without a limit would know of the first MODEL_BYTES of a
 * disk: every byte and whether it is known. The unit test and the fuzz target
 * drive this and the real one alike. Offsets and lengths are multiples of 512.
 */
#ifndef TESTS_HELD_MODEL_H
#define TESTS_HELD_MODEL_H

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/held.h"

#define MODEL_BYTES ((uint64_t)1 << 20)

#define MODEL_CHECK(cond)                                                                          \
    do {                                                                                           \
        if (!(cond)) {                                                                             \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #cond);                             \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct held_model {
    uint8_t byte[MODEL_BYTES];
    bool known[MODEL_BYTES / 512];
};

static inline void model_clip(uint64_t offset, uint64_t *length)
{
    if (offset > MODEL_BYTES)
        *length = 0;
    else if (*length > MODEL_BYTES - offset)
        *length = MODEL_BYTES - offset;
}

static inline void model_write(struct held_model *m, uint64_t offset, uint64_t length,
                               const uint8_t *data)
{
    model_clip(offset, &length);
    if (length == 0)
        return;
    if (data)
        memcpy(m->byte + offset, data, length);
    else
        memset(m->byte + offset, 0, length);
    memset(m->known + offset / 512, true, length / 512);
}

static inline void model_forget(struct held_model *m, uint64_t offset, uint64_t length)
{
    model_clip(offset, &length);
    if (length > 0)
        memset(m->known + offset / 512, false, length / 512);
}

/*
 * Walk [offset, offset + length) of the real one. What it knows must be what
 * the model knows; with @complete it must know all of it. Runs are as long as
 * the header promises.
 */
static inline void model_compare(const struct held_model *m, struct held *h, uint64_t offset,
                                 uint64_t length, bool complete)
{
    static const uint8_t zeros[512];
    struct held_run r, before = {0};
    uint64_t end;

    model_clip(offset, &length);
    end = offset + length;
    while (offset < end) {
        held_lookup(h, offset, end - offset, &r);
        MODEL_CHECK(r.offset == offset && r.length > 0 && r.length <= end - offset);
        MODEL_CHECK((r.state == HELD_BYTES) == (r.data != NULL));
        MODEL_CHECK(r.state != HELD_BYTES || offset / 4096 == (offset + r.length - 1) / 4096);
        /* Two runs of one state in a row: only bytes, only at a page's edge. */
        MODEL_CHECK(before.length == 0 || before.state != r.state ||
                    (r.state == HELD_BYTES && offset % 4096 == 0));
        for (uint64_t i = 0; i < r.length; i += 512) {
            bool known = m->known[(offset + i) / 512];
            const uint8_t *want = m->byte + offset + i;

            if (r.state == HELD_UNKNOWN)
                MODEL_CHECK(!complete || !known);
            else
                MODEL_CHECK(known && memcmp(r.data ? r.data + i : zeros, want, 512) == 0);
        }
        before = r;
        offset += r.length;
    }
}

#endif
