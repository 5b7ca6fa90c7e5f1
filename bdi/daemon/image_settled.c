/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/image_settled.h"

#include <stdlib.h>
#include <time.h>

/* How long a request may be in flight before the read counts as touched. */
#define WAIT_FIRST_NS 20000
#define WAIT_MAX_NS 1000000
#define WAIT_TOTAL_NS (5 * 1000000000ll)

struct image_settled {
    struct nf_image img;
    struct nf_image *inner;
    struct nf_tap *tap;
    uint64_t position;
    bool moved;
};

/* 1: @rec is complete, 0: still in flight after a patient wait, or negative. */
static int wait_done(struct nf_tap *tap, uint64_t seq, struct nf_record *rec,
                     struct nf_error *err)
{
    int64_t waited = 0;
    long ns = WAIT_FIRST_NS;

    for (;;) {
        int rc = nf_tap_peek(tap, seq, rec, err);
        struct timespec ts = {0, ns};

        if (rc != 0 || waited >= WAIT_TOTAL_NS)
            return rc;
        nanosleep(&ts, NULL);
        waited += ns;
        if (ns < WAIT_MAX_NS)
            ns *= 2;
    }
}

static bool touches(const struct nf_record *rec, uint64_t offset, uint64_t len)
{
    switch (rec->type) {
    case NF_REC_WRITE:
    case NF_REC_ZERO:
    case NF_REC_DISCARD:
    case NF_REC_READBACK:
        if (rec->offset >= offset)
            return rec->length > 0 && rec->offset - offset < len;
        return offset - rec->offset < rec->length;
    case NF_REC_FLUSH:
    case NF_REC_CLOSE:
        return false;
    case NF_REC_RESIZE:
    case NF_REC_GAP:
    case NF_REC_OPEN:
        return true;
    }
    return true;
}

static int settled_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                        struct nf_error *err)
{
    struct image_settled *s = (struct image_settled *)img;
    struct nf_tap_status st;
    uint64_t head;
    int rc = s->inner->read(s->inner, offset, buf, len, err);

    if (rc < 0)
        return rc;
    head = nf_tap_head(s->tap);
    nf_tap_status(s->tap, &st);
    if (st.in_gap)
        rc = 1; /* Requests pass that will never have a record of their own. */
    for (uint64_t seq = s->position; seq < head && rc == 0; seq++) {
        struct nf_record rec;
        int got = wait_done(s->tap, seq, &rec, err);

        if (got == NF_ECLOSED)
            break;
        if (got < 0)
            return got;
        if (got == 0 || touches(&rec, offset, len))
            rc = 1;
    }
    if (rc == 1)
        s->moved = true;
    return rc;
}

static void settled_free(struct nf_image *img)
{
    struct image_settled *s = (struct image_settled *)img;

    nf_image_free(s->inner);
    free(s);
}

struct nf_image *image_settled_new(struct nf_image *inner, struct nf_tap *tap,
                                   struct nf_error *err)
{
    struct image_settled *s = calloc(1, sizeof(*s));

    if (!s) {
        nf_image_free(inner);
        nf_fail(err, NF_ENOMEM, "image: out of memory");
        return NULL;
    }
    s->img.size = inner->size;
    s->img.read = settled_read;
    s->img.free = settled_free;
    s->inner = inner;
    s->tap = tap;
    return &s->img;
}

void image_settled_set_tap(struct nf_image *img, struct nf_tap *tap)
{
    ((struct image_settled *)img)->tap = tap;
}

void image_settled_set_position(struct nf_image *img, uint64_t seq)
{
    ((struct image_settled *)img)->position = seq;
}

bool image_settled_take_moved(struct nf_image *img)
{
    struct image_settled *s = (struct image_settled *)img;
    bool moved = s->moved;

    s->moved = false;
    return moved;
}
