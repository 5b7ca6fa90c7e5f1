/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ring reader over memory that a hostile producer filled.
 *
 * Input: 1 byte (bit 0: the header is fuzzed, too), the header if so, the
 * producer page's 80 bytes, the first tail (8 bytes), 1 byte n and n operations,
 * then descriptors for the slots from the tail's on.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "common/ring_reader.h"

#define DESCS NF_RING_MIN_DESCS
#define PAYLOAD NF_RING_MIN_SIZE
#define PAYLOAD_OFFSET (NF_RING_DESC_OFFSET + DESCS * sizeof(struct nf_ring_desc))

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *p;
    size_t left;
};

static void get(struct input *in, void *to, size_t n)
{
    size_t have = n < in->left ? n : in->left;

    memset(to, 0, n);
    memcpy(to, in->p, have);
    in->p += have;
    in->left -= have;
}

/* A record that the reader let through must be usable as it is. */
static void use(const struct nf_ring_reader *r, const struct nf_record *rec)
{
    volatile uint8_t sink;

    if (rec->type < NF_REC_WRITE || rec->type > NF_REC_CLOSE)
        abort();
    if (rec->type == NF_REC_WRITE && !(rec->flags & NF_REC_FAILED)) {
        if (!rec->data || rec->length > r->header.payload_size ||
            rec->offset + rec->length < rec->offset)
            abort();
        if (rec->length) {
            sink = rec->data[0];
            sink = rec->data[rec->length - 1];
            (void)sink;
        }
    } else if (rec->data) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t *meta, *payload;
    struct input in = {data, size};
    struct nf_ring_header header, checked;
    struct nf_ring_producer producer;
    struct nf_ring_ctrl ctrl = {0};
    struct nf_ring_reader r;
    struct nf_record rec;
    struct nf_error err;
    uint8_t mode, count, op;
    const uint8_t *ops;

    if (!meta) {
        meta = malloc(PAYLOAD_OFFSET);
        payload = calloc(2, PAYLOAD);
        if (!meta || !payload)
            abort();
    }
    memset(meta, 0, PAYLOAD_OFFSET);
    get(&in, &mode, 1);
    if (mode & 1) {
        get(&in, &header, sizeof(header));
        if (nf_ring_header_read(&header, PAYLOAD_OFFSET + PAYLOAD, &checked, &err))
            return 0;
        /* Whatever else it may say, it must fit the memory. */
        if (checked.payload_offset != PAYLOAD_OFFSET)
            return 0;
    } else {
        header = (struct nf_ring_header){
            .magic = NF_RING_MAGIC,
            .version = NF_RING_VERSION,
            .desc_size = sizeof(struct nf_ring_desc),
            .data_size = PAYLOAD_OFFSET + PAYLOAD,
            .desc_offset = NF_RING_DESC_OFFSET,
            .desc_count = DESCS,
            .payload_offset = PAYLOAD_OFFSET,
            .payload_size = PAYLOAD,
        };
        if (nf_ring_header_read(&header, header.data_size, &checked, &err))
            abort();
    }
    get(&in, &producer, sizeof(producer));
    memcpy(meta + NF_RING_PRODUCER_OFFSET, &producer, sizeof(producer));
    get(&in, &ctrl.tail, sizeof(ctrl.tail));
    get(&in, &count, 1);
    ops = in.p;
    if (count > in.left)
        count = (uint8_t)in.left;
    in.p += count;
    in.left -= count;
    for (uint64_t seq = ctrl.tail; in.left && seq < ctrl.tail + DESCS; seq++)
        get(&in, meta + NF_RING_DESC_OFFSET + (seq % DESCS) * sizeof(struct nf_ring_desc),
            sizeof(struct nf_ring_desc));

    if (nf_ring_reader_init(&r, &checked, meta, payload, &ctrl, &err))
        return 0;
    for (uint8_t i = 0; i < count; i++) {
        op = ops[i];
        switch (op & 7) {
        case 0:
        case 1:
        case 2:
            if (nf_ring_reader_next(&r, &rec, &err) == 1)
                use(&r, &rec);
            break;
        case 3:
            nf_ring_reader_release(&r, r.tail + (op >> 3));
            break;
        case 4:
            if (nf_ring_reader_peek(&r, r.tail + (op >> 3), &rec, &err) == 1)
                use(&r, &rec);
            break;
        case 5:
            nf_ring_reader_arm(&r);
            nf_ring_reader_in_gap(&r);
            break;
        case 6:
            r.dead = op & 8;
            break;
        default:
            if (nf_ring_reader_fill_permille(&r) > 1000)
                abort();
            break;
        }
        if (r.tail > r.next || ctrl.tail != r.tail)
            abort();
    }
    return 0;
}
