/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/ring_reader.h"

#include <string.h>

/* The values go through both headers unchanged. */
_Static_assert((int)NF_REC_WRITE == (int)NF_RING_WRITE, "record types");
_Static_assert((int)NF_REC_ZERO == (int)NF_RING_ZERO, "record types");
_Static_assert((int)NF_REC_DISCARD == (int)NF_RING_DISCARD, "record types");
_Static_assert((int)NF_REC_FLUSH == (int)NF_RING_FLUSH, "record types");
_Static_assert((int)NF_REC_RESIZE == (int)NF_RING_RESIZE, "record types");
_Static_assert((int)NF_REC_GAP == (int)NF_RING_GAP, "record types");
_Static_assert((int)NF_REC_OPEN == (int)NF_RING_OPEN, "record types");
_Static_assert((int)NF_REC_CLOSE == (int)NF_RING_CLOSE, "record types");
_Static_assert((int)NF_REC_FUA == (int)NF_RING_FUA, "record flags");
_Static_assert((int)NF_REC_UNMAP == (int)NF_RING_UNMAP, "record flags");
_Static_assert((int)NF_REC_AMBIGUOUS == (int)NF_RING_AMBIGUOUS, "record flags");
_Static_assert((int)NF_REC_BYPASSED == (int)NF_RING_BYPASSED, "record flags");

#define KNOWN_FLAGS (NF_RING_FUA | NF_RING_UNMAP | NF_RING_AMBIGUOUS | NF_RING_BYPASSED)

#define LOAD(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define LOAD_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define LOAD_SEQ_CST(p) __atomic_load_n((p), __ATOMIC_SEQ_CST)

int nf_ring_header_read(const void *page, uint64_t file_size, struct nf_ring_header *out,
                        struct nf_error *err)
{
    struct nf_ring_header h;
    uint64_t desc_end;

    memcpy(&h, page, sizeof(h));
    if (h.magic != NF_RING_MAGIC)
        return nf_fail(err, NF_EFORMAT, "ring: wrong magic number");
    if (h.version != NF_RING_VERSION)
        return nf_fail(err, NF_EUNSUPPORTED, "ring: version %u, this program knows version %u",
                       h.version, NF_RING_VERSION);
    if (h.desc_size != sizeof(struct nf_ring_desc))
        return nf_fail(err, NF_EFORMAT, "ring: descriptors of %u bytes", h.desc_size);
    if (h.data_size != file_size)
        return nf_fail(err, NF_EFORMAT, "ring: header says %llu bytes, the memory has %llu",
                       (unsigned long long)h.data_size, (unsigned long long)file_size);
    if (h.desc_count < NF_RING_MIN_DESCS || h.desc_count > NF_RING_MAX_DESCS ||
        (h.desc_count & (h.desc_count - 1)))
        return nf_fail(err, NF_EFORMAT, "ring: %llu descriptors", (unsigned long long)h.desc_count);
    if (h.payload_size < NF_RING_MIN_SIZE || h.payload_size > NF_RING_MAX_SIZE ||
        h.payload_size % NF_RING_PAGE)
        return nf_fail(err, NF_EFORMAT, "ring: payload area of %llu bytes",
                       (unsigned long long)h.payload_size);
    if (h.desc_offset != NF_RING_DESC_OFFSET)
        return nf_fail(err, NF_EFORMAT, "ring: descriptors at %llu",
                       (unsigned long long)h.desc_offset);
    desc_end = h.desc_offset + h.desc_count * sizeof(struct nf_ring_desc);
    if (h.payload_offset < desc_end || h.payload_offset % NF_RING_PAGE ||
        h.payload_offset > file_size || file_size - h.payload_offset != h.payload_size)
        return nf_fail(err, NF_EFORMAT, "ring: payload area at %llu",
                       (unsigned long long)h.payload_offset);
    if (h.disk_size > INT64_MAX)
        return nf_fail(err, NF_EFORMAT, "ring: disk of %llu bytes",
                       (unsigned long long)h.disk_size);
    if (!memchr(h.disk_id, 0, sizeof(h.disk_id)))
        return nf_fail(err, NF_EFORMAT, "ring: disk id without an end");
    *out = h;
    return NF_OK;
}

static const struct nf_ring_producer *producer_page(const struct nf_ring_reader *r)
{
    return (const struct nf_ring_producer *)(r->meta + NF_RING_PRODUCER_OFFSET);
}

static const struct nf_ring_desc *slot(const struct nf_ring_reader *r, uint64_t seq)
{
    const uint8_t *base = r->meta + r->header.desc_offset;

    return (const struct nf_ring_desc *)base + (seq & (r->header.desc_count - 1));
}

uint64_t nf_ring_reader_head(const struct nf_ring_reader *r)
{
    return LOAD_SEQ_CST(&producer_page(r)->head);
}

/* The head, if it is one that the producer may have. */
static int load_head(const struct nf_ring_reader *r, uint64_t *head, struct nf_error *err)
{
    *head = nf_ring_reader_head(r);
    if (*head < r->next || *head - r->tail > r->header.desc_count)
        return nf_fail(err, NF_EFORMAT, "ring: head %llu while reading %llu to %llu",
                       (unsigned long long)*head, (unsigned long long)r->tail,
                       (unsigned long long)r->next);
    return NF_OK;
}

int nf_ring_reader_init(struct nf_ring_reader *r, const struct nf_ring_header *header,
                        const void *meta, const void *payload, struct nf_ring_ctrl *ctrl,
                        struct nf_error *err)
{
    uint64_t head;

    *r = (struct nf_ring_reader){
        .header = *header,
        .meta = meta,
        .payload = payload,
        .ctrl = ctrl,
    };
    r->tail = r->next = LOAD_ACQUIRE(&ctrl->tail);
    if (r->tail == 0)
        return nf_fail(err, NF_EFORMAT, "ring: there is no record 0 to start at");
    return load_head(r, &head, err);
}

/* Bounds of what a descriptor of type WRITE, ZERO or DISCARD may say. */
static int check_range(uint64_t seq, uint64_t offset, uint64_t length, struct nf_error *err)
{
    if (offset > INT64_MAX || length > INT64_MAX - offset)
        return nf_fail(err, NF_EFORMAT, "ring: record %llu: range of %llu bytes at %llu",
                       (unsigned long long)seq, (unsigned long long)length,
                       (unsigned long long)offset);
    return NF_OK;
}

/* Read record @seq, which head says is reserved, in @rec. 1: done; 0: busy. */
static int decode(const struct nf_ring_reader *r, uint64_t seq, struct nf_record *rec,
                  struct nf_error *err)
{
    const struct nf_ring_desc *d = slot(r, seq);
    uint64_t have = LOAD_ACQUIRE(&d->seq);
    uint32_t type, state;
    uint64_t pos;
    bool unknown;
    int ret;

    if (have != seq)
        return nf_fail(err, NF_EFORMAT, "ring: record %llu where %llu belongs",
                       (unsigned long long)have, (unsigned long long)seq);
    state = LOAD_SEQ_CST(&d->state);
    if (state == NF_RING_BUSY && !r->dead)
        return 0;
    if (state != NF_RING_BUSY && state != NF_RING_DONE && state != NF_RING_FAILED)
        return nf_fail(err, NF_EFORMAT, "ring: record %llu in state %u",
                       (unsigned long long)seq, state);
    unknown = state != NF_RING_DONE;

    type = LOAD(&d->type);
    *rec = (struct nf_record){
        .seq = seq,
        .type = (enum nf_record_type)type,
        .flags = LOAD(&d->flags) & KNOWN_FLAGS,
        .offset = LOAD(&d->offset),
        .length = LOAD(&d->length),
        .time_ns = LOAD(&d->time_ns),
    };
    switch (type) {
    case NF_RING_WRITE:
    case NF_RING_ZERO:
    case NF_RING_DISCARD:
        ret = check_range(seq, rec->offset, rec->length, err);
        if (ret)
            return ret;
        if (unknown) {
            rec->type = NF_REC_WRITE;
            rec->flags = (rec->flags & ~(uint32_t)NF_REC_UNMAP) | NF_REC_FAILED;
            return 1;
        }
        if (type != NF_RING_WRITE)
            return 1;
        pos = LOAD(&d->payload_pos);
        if (rec->length > r->header.payload_size || pos >= r->header.payload_size ||
            pos % NF_RING_PAYLOAD_ALIGN)
            return nf_fail(err, NF_EFORMAT, "ring: record %llu: %llu bytes of payload at %llu",
                           (unsigned long long)seq, (unsigned long long)rec->length,
                           (unsigned long long)pos);
        rec->data = r->payload + pos;
        return 1;
    case NF_RING_RESIZE:
        if (rec->length > INT64_MAX || state == NF_RING_FAILED)
            break;
        if (unknown)
            rec->flags |= NF_REC_FAILED;
        return 1;
    case NF_RING_GAP: /* of a dead producer: what it counts is as unknown as ever */
        if (state == NF_RING_FAILED)
            break;
        return 1;
    case NF_RING_FLUSH:
        rec->aux = LOAD(&d->aux);
        if (unknown || rec->aux > seq)
            break;
        return 1;
    case NF_RING_OPEN:
        if (unknown || rec->length > INT64_MAX)
            break;
        return 1;
    case NF_RING_CLOSE:
        if (unknown)
            break;
        return 1;
    default:
        break;
    }
    return nf_fail(err, NF_EFORMAT, "ring: record %llu: type %u in state %u makes no sense",
                   (unsigned long long)seq, type, state);
}

int nf_ring_reader_next(struct nf_ring_reader *r, struct nf_record *rec, struct nf_error *err)
{
    uint64_t head;
    int ret;

    ret = load_head(r, &head, err);
    if (ret)
        return ret;
    if (r->next == head) {
        if (r->dead)
            return nf_fail(err, NF_ECLOSED, "the tap's producer is gone");
        return 0;
    }
    ret = decode(r, r->next, rec, err);
    if (ret == 1)
        r->next++;
    return ret;
}

int nf_ring_reader_peek(const struct nf_ring_reader *r, uint64_t seq, struct nf_record *rec,
                        struct nf_error *err)
{
    uint64_t head;
    int ret;

    if (seq < r->tail)
        return nf_fail(err, NF_EINVAL, "ring: record %llu is released",
                       (unsigned long long)seq);
    ret = load_head(r, &head, err);
    if (ret)
        return ret;
    if (seq >= head) {
        if (r->dead)
            return nf_fail(err, NF_ECLOSED, "the tap's producer is gone");
        return 0;
    }
    return decode(r, seq, rec, err);
}

void nf_ring_reader_release(struct nf_ring_reader *r, uint64_t seq)
{
    uint64_t tail = seq < r->next ? seq + 1 : r->next;

    if (tail <= r->tail)
        return;
    r->tail = tail;
    __atomic_store_n(&r->ctrl->tail, tail, __ATOMIC_RELEASE);
}

/* Whether nf_ring_reader_next() would return anything but 0. */
static bool ready(const struct nf_ring_reader *r)
{
    uint64_t head;
    const struct nf_ring_desc *d;

    if (r->dead || load_head(r, &head, NULL))
        return true;
    if (r->next == head)
        return false;
    d = slot(r, r->next);
    return LOAD_SEQ_CST(&d->state) != NF_RING_BUSY;
}

bool nf_ring_reader_arm(struct nf_ring_reader *r)
{
    /* Sequentially consistent on both sides: either the producer's exchange
     * sees the flag, or we see the state that it stored before. */
    __atomic_store_n(&r->ctrl->want_wakeup, 1, __ATOMIC_SEQ_CST);
    if (!ready(r))
        return false;
    __atomic_store_n(&r->ctrl->want_wakeup, 0, __ATOMIC_RELAXED);
    return true;
}

bool nf_ring_reader_in_gap(const struct nf_ring_reader *r)
{
    return LOAD(&producer_page(r)->state) == NF_RING_STATE_GAP;
}

void nf_ring_reader_producer(const struct nf_ring_reader *r, struct nf_ring_producer *out)
{
    const struct nf_ring_producer *p = producer_page(r);

    *out = (struct nf_ring_producer){
        .head = LOAD_ACQUIRE(&p->head),
        .state = LOAD(&p->state),
        .disk_size = LOAD(&p->disk_size),
        .records = LOAD(&p->records),
        .payload_bytes = LOAD(&p->payload_bytes),
        .gaps = LOAD(&p->gaps),
        .lost_requests = LOAD(&p->lost_requests),
        .lost_bytes = LOAD(&p->lost_bytes),
        .wakeups = LOAD(&p->wakeups),
        .touched_bytes = LOAD(&p->touched_bytes),
    };
}

uint32_t nf_ring_reader_fill_permille(const struct nf_ring_reader *r)
{
    const uint64_t size = r->header.payload_size;
    uint64_t head, used = 0, by_slots;

    if (load_head(r, &head, NULL))
        return 1000;
    for (uint64_t seq = r->tail; seq < head && used < size; seq++) {
        const struct nf_ring_desc *d = slot(r, seq);
        uint64_t length = LOAD(&d->length);

        if (LOAD(&d->type) != NF_RING_WRITE)
            continue;
        if (length > size)
            return 1000;
        used += (length + NF_RING_PAYLOAD_ALIGN - 1) / NF_RING_PAYLOAD_ALIGN *
                NF_RING_PAYLOAD_ALIGN;
    }
    if (used > size)
        used = size;
    by_slots = (head - r->tail) * 1000 / r->header.desc_count;
    used = used * 1000 / size;
    return (uint32_t)(used > by_slots ? used : by_slots);
}
