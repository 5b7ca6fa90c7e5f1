/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a held cache without a limit would know of the first MODEL_BYTES of a
 * disk: every byte and whether it is known. The unit test and the fuzz target
 * drive this and the real one alike.
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
    for (uint64_t i = 0; i < length; i++) {
        m->byte[offset + i] = data ? data[i] : 0;
        m->known[(offset + i) / 512] = true;
    }
}

static inline void model_forget(struct held_model *m, uint64_t offset, uint64_t length)
{
    model_clip(offset, &length);
    for (uint64_t i = 0; i < length; i++)
        m->known[(offset + i) / 512] = false;
}

/*
 * Walk [offset, offset + length) of the real one. What it knows must be what
 * the model knows; with @complete it must know all of it. Runs are as long as
 * the header promises.
 */
static inline void model_compare(const struct held_model *m, struct held *h, uint64_t offset,
                                 uint64_t length, bool complete)
{
    uint64_t end;
    struct held_run r, before = {0};

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
        for (uint64_t i = 0; i < r.length; i++) {
            bool known = m->known[(offset + i) / 512];

            if (r.state == HELD_UNKNOWN)
                MODEL_CHECK(!complete || !known);
            else
                MODEL_CHECK(known && (r.data ? r.data[i] : 0) == m->byte[offset + i]);
        }
        before = r;
        offset += r.length;
    }
}

#endif
