/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * write-tap: the producer's half of the ring
 */
#include "qemu/osdep.h"

#include <sys/mman.h>
#include <time.h>

#include "write-tap-ring.h"

/* Requests above this part of the payload area are not recorded. */
#define MAX_PART 4
/* A gap ends when this part of the ring is free. */
#define RESUME_PART 4
/*
 * Looking for an empty ring to start over in begins at this part, so that a
 * consumer that keeps up leaves the rest of the ring untouched...
 */
#define RESTART_PART 64
/* ...and no request of such a ring pays for the first touch of a page. */
#define PREFAULT (1024 * 1024)

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/*
 * A run of requests that could not be recorded. Open (ring->gap) while there
 * is no room for its record; then it belongs to the requests in flight that
 * it counts, and its record is BUSY until the last of them completes.
 */
struct WriteTapGap {
    uint64_t seq; /* of its record; 0: not reserved yet */
    uint64_t requests, bytes;
    unsigned inflight;
};

/* What we know of a slot; never read back from the shared memory. */
typedef struct Slot {
    uint64_t payload_end; /* ring->payload_head after this record */
    bool done;
} Slot;

struct WriteTapRing {
    unsigned refs;
    int fd;
    uint8_t *map; /* header, producer page, descriptors; payload; payload again */
    size_t map_size;
    uint8_t *payload;
    uint64_t data_size;
    uint64_t payload_size;
    uint64_t desc_count;
    struct nf_ring_producer *shared;
    struct nf_ring_desc *descs;
    uint8_t uuid[16];

    Slot *slots;
    uint64_t head;     /* seq of the next record */
    uint64_t tail;     /* first seq whose slot is in use */
    uint64_t done_end; /* all records before this seq are complete */
    /* Positions only grow; modulo payload_size they are offsets. */
    uint64_t payload_head;
    uint64_t payload_tail;

    WriteTapReq inflight; /* head of a circular list */
    WriteTapGap *gap;     /* the open one */
    bool closed;
    bool fault;
    struct nf_ring_ctrl *ctrl; /* hostile */
    struct nf_ring_producer stats; /* the shared page is a copy of this */
};

static int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static uint64_t round_up(uint64_t n, uint64_t to)
{
    return (n + to - 1) / to * to;
}

static uint64_t descs_for(uint64_t payload_size)
{
    uint64_t n = NF_RING_MIN_DESCS;

    while (n < NF_RING_MAX_DESCS && n < payload_size / NF_RING_PAYLOAD_ALIGN) {
        n *= 2;
    }
    return n;
}

static void fill_header(WriteTapRing *r, const WriteTapRingInfo *info,
                        uint64_t payload_offset)
{
    struct nf_ring_header *h = (struct nf_ring_header *)r->map;

    h->magic = NF_RING_MAGIC;
    h->version = NF_RING_VERSION;
    h->desc_size = sizeof(struct nf_ring_desc);
    memcpy(h->epoch_uuid, info->epoch_uuid, sizeof(h->epoch_uuid));
    h->data_size = r->data_size;
    h->desc_offset = NF_RING_DESC_OFFSET;
    h->desc_count = r->desc_count;
    h->payload_offset = payload_offset;
    h->payload_size = r->payload_size;
    h->disk_size = info->disk_size;
    h->start_ns = now_ns();
    memcpy(h->disk_id, info->disk_id,
           strnlen(info->disk_id, sizeof(h->disk_id) - 1));
}

/* Map the payload twice so that one that runs over the end is contiguous. */
static bool map_data(WriteTapRing *r, uint64_t payload_offset)
{
    uint8_t *p;

    r->map_size = payload_offset + 2 * r->payload_size;
    p = mmap(NULL, r->map_size, PROT_NONE,
             MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) {
        return false;
    }
    r->map = p;
    r->payload = p + payload_offset;
    return mmap(p, r->data_size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
                r->fd, 0) != MAP_FAILED &&
           mmap(p + r->data_size, r->payload_size, PROT_READ | PROT_WRITE,
                MAP_SHARED | MAP_FIXED, r->fd, payload_offset) != MAP_FAILED;
}

WriteTapRing *write_tap_ring_new(const WriteTapRingInfo *info, int *err,
                                 const char **what)
{
    WriteTapRing *r = g_new0(WriteTapRing, 1);
    uint64_t payload_offset;

    r->refs = 1;
    r->payload_size = info->payload_size;
    r->desc_count = descs_for(info->payload_size);
    payload_offset = round_up(NF_RING_DESC_OFFSET +
                              r->desc_count * sizeof(struct nf_ring_desc),
                              NF_RING_PAGE);
    r->data_size = payload_offset + r->payload_size;

    *what = "memfd_create";
    r->fd = memfd_create("write-tap-data", MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (r->fd < 0) {
        goto fail;
    }
    *what = "ftruncate";
    if (ftruncate(r->fd, r->data_size) < 0) {
        goto fail;
    }
    *what = "mmap";
    if (!map_data(r, payload_offset)) {
        goto fail;
    }
    /* From here on nobody but our mapping can write it. */
    *what = "F_ADD_SEALS";
    if (fcntl(r->fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW |
              F_SEAL_FUTURE_WRITE | F_SEAL_SEAL) < 0) {
        goto fail;
    }

    fill_header(r, info, payload_offset);
    /* Kernels before 5.14 refuse: pages are then touched when they are used. */
    (void)madvise(r->map, payload_offset + PREFAULT, MADV_POPULATE_WRITE);
    memcpy(r->uuid, info->epoch_uuid, sizeof(r->uuid));
    r->shared = (struct nf_ring_producer *)(r->map + NF_RING_PRODUCER_OFFSET);
    r->descs = (struct nf_ring_desc *)(r->map + NF_RING_DESC_OFFSET);
    r->slots = g_new0(Slot, r->desc_count);
    r->head = r->tail = r->done_end = 1;
    r->inflight.prev = r->inflight.next = &r->inflight;
    r->stats.state = NF_RING_STATE_STREAMING;
    r->stats.disk_size = info->disk_size;
    r->stats.touched_bytes = payload_offset + PREFAULT;
    r->shared->state = r->stats.state;
    r->shared->disk_size = r->stats.disk_size;
    __atomic_store_n(&r->shared->head, r->head, __ATOMIC_SEQ_CST);
    return r;

fail:
    *err = errno;
    write_tap_ring_unref(r);
    return NULL;
}

void write_tap_ring_unref(WriteTapRing *r)
{
    if (!r || --r->refs) {
        return;
    }
    if (r->map) {
        munmap(r->map, r->map_size);
    }
    if (r->fd >= 0) {
        close(r->fd);
    }
    g_free(r->gap);
    g_free(r->slots);
    g_free(r);
}

int write_tap_ring_fd(const WriteTapRing *r)
{
    return r->fd;
}

uint64_t write_tap_ring_data_size(const WriteTapRing *r)
{
    return r->data_size;
}

const uint8_t *write_tap_ring_uuid(const WriteTapRing *r)
{
    return r->uuid;
}

uint64_t write_tap_ring_head(const WriteTapRing *r)
{
    return r->head;
}

bool write_tap_ring_closed(const WriteTapRing *r)
{
    return r->closed;
}

void write_tap_ring_stats(const WriteTapRing *r, struct nf_ring_producer *out)
{
    *out = r->stats;
    out->head = r->head;
}

static void publish_stats(WriteTapRing *r)
{
    struct nf_ring_producer *p = r->shared;

#define PUBLISH(field) __atomic_store_n(&p->field, r->stats.field, __ATOMIC_RELAXED)
    PUBLISH(state);
    PUBLISH(disk_size);
    PUBLISH(records);
    PUBLISH(payload_bytes);
    PUBLISH(gaps);
    PUBLISH(lost_requests);
    PUBLISH(lost_bytes);
    PUBLISH(wakeups);
    PUBLISH(touched_bytes);
#undef PUBLISH
}

static Slot *slot_of(WriteTapRing *r, uint64_t seq)
{
    return &r->slots[seq & (r->desc_count - 1)];
}

static struct nf_ring_desc *desc_of(WriteTapRing *r, uint64_t seq)
{
    return &r->descs[seq & (r->desc_count - 1)];
}

/* Take over the consumer's position, if it is one that it can have. */
static void load_tail(WriteTapRing *r)
{
    uint64_t tail;

    if (!r->ctrl) {
        return;
    }
    tail = __atomic_load_n(&r->ctrl->tail, __ATOMIC_ACQUIRE);
    if (tail == r->tail) {
        return;
    }
    while (r->done_end < r->head && slot_of(r, r->done_end)->done) {
        r->done_end++;
    }
    if (tail < r->tail || tail > r->done_end) {
        r->ctrl = NULL;
        r->fault = true;
        return;
    }
    r->tail = tail;
    r->payload_tail = slot_of(r, tail - 1)->payload_end;
    if (r->tail == r->head) {
        /* Empty: start over, so that few pages are touched. */
        r->payload_head = round_up(r->payload_head, r->payload_size);
        r->payload_tail = r->payload_head;
    }
}

static bool has_room(const WriteTapRing *r, uint64_t descs, uint64_t payload)
{
    return r->desc_count - (r->head - r->tail) >= descs &&
           r->payload_size - (r->payload_head - r->payload_tail) >= payload;
}

/* Make record head visible. There is room. Returns its payload, if any. */
static void *reserve(WriteTapRing *r, uint32_t type, uint32_t flags,
                     uint64_t offset, uint64_t length, uint64_t aux,
                     uint32_t state)
{
    uint64_t seq = r->head;
    struct nf_ring_desc *d = desc_of(r, seq);
    uint64_t pos = r->payload_head % r->payload_size;
    uint64_t used = type == NF_RING_WRITE ?
                    round_up(length, NF_RING_PAYLOAD_ALIGN) : 0;
    uint64_t touched;

    __atomic_store_n(&d->type, type, __ATOMIC_RELAXED);
    __atomic_store_n(&d->flags, flags, __ATOMIC_RELAXED);
    __atomic_store_n(&d->offset, offset, __ATOMIC_RELAXED);
    __atomic_store_n(&d->length, length, __ATOMIC_RELAXED);
    __atomic_store_n(&d->payload_pos, used ? pos : 0, __ATOMIC_RELAXED);
    __atomic_store_n(&d->time_ns, now_ns(), __ATOMIC_RELAXED);
    __atomic_store_n(&d->aux, aux, __ATOMIC_RELAXED);
    __atomic_store_n(&d->result, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&d->state, state, __ATOMIC_RELAXED);
    __atomic_store_n(&d->seq, seq, __ATOMIC_RELEASE);

    r->payload_head += used;
    slot_of(r, seq)->payload_end = r->payload_head;
    slot_of(r, seq)->done = state != NF_RING_BUSY;
    r->head++;
    r->stats.records++;
    r->stats.payload_bytes += used ? length : 0;
    touched = r->data_size - r->payload_size + MIN(r->payload_size, pos + used);
    r->stats.touched_bytes = MAX(r->stats.touched_bytes, touched);
    __atomic_store_n(&r->shared->head, r->head, __ATOMIC_SEQ_CST);
    return used ? r->payload + pos : NULL;
}

/* The consumer wants to be woken: it hears of it once. */
static bool take_wakeup(WriteTapRing *r)
{
    if (!r->ctrl || !__atomic_load_n(&r->ctrl->want_wakeup, __ATOMIC_SEQ_CST)) {
        return false;
    }
    __atomic_store_n(&r->ctrl->want_wakeup, 0, __ATOMIC_SEQ_CST);
    r->stats.wakeups++;
    return true;
}

static void complete(WriteTapRing *r, uint64_t seq, uint32_t state, int result)
{
    struct nf_ring_desc *d = desc_of(r, seq);

    __atomic_store_n(&d->time_ns, now_ns(), __ATOMIC_RELAXED);
    __atomic_store_n(&d->result, result, __ATOMIC_RELAXED);
    __atomic_store_n(&d->state, state, __ATOMIC_SEQ_CST);
    slot_of(r, seq)->done = true;
}

static bool part_is_free(const WriteTapRing *r)
{
    return has_room(r, r->desc_count / RESUME_PART, r->payload_size / RESUME_PART);
}

/* End the open gap if there is room: give it its place in the order. */
static void try_resume(WriteTapRing *r)
{
    WriteTapGap *gap = r->gap;

    if (!gap) {
        return;
    }
    if (!part_is_free(r)) {
        load_tail(r);
        if (!part_is_free(r)) {
            return;
        }
    }
    r->gap = NULL;
    r->stats.gaps++;
    if (!r->closed) {
        r->stats.state = NF_RING_STATE_STREAMING;
    }
    gap->seq = r->head;
    reserve(r, NF_RING_GAP, 0, gap->requests, gap->bytes, 0,
            gap->inflight ? NF_RING_BUSY : NF_RING_DONE);
    if (!gap->inflight) {
        g_free(gap);
    }
}

/* Count a request that has no record; @req, if any, completes later. */
static void lose(WriteTapRing *r, WriteTapReq *req, uint64_t bytes)
{
    if (!r->gap) {
        r->gap = g_new0(WriteTapGap, 1);
        if (!r->closed) {
            r->stats.state = NF_RING_STATE_GAP;
        }
    }
    r->gap->requests++;
    r->gap->bytes += bytes;
    r->stats.lost_requests++;
    r->stats.lost_bytes += bytes;
    if (req) {
        req->gap = r->gap;
        r->gap->inflight++;
    }
}

/* Whether a record with @payload bytes can be reserved now, in order. */
static bool prepare(WriteTapRing *r, uint64_t payload)
{
    try_resume(r);
    if (r->gap) {
        return false;
    }
    if (!has_room(r, 1, payload)) {
        load_tail(r);
        return has_room(r, 1, payload);
    }
    if (r->head - r->tail > r->desc_count / RESTART_PART ||
        r->payload_head - r->payload_tail > r->payload_size / RESTART_PART) {
        /* Not needed for room, but it lets the payload start over. */
        load_tail(r);
    }
    return true;
}

static void track(WriteTapRing *r, WriteTapReq *req)
{
    for (WriteTapReq *o = r->inflight.next; o != &r->inflight; o = o->next) {
        if (req->offset < o->end && o->offset < req->end) {
            req->ambiguous = true;
            o->ambiguous = true;
        }
    }
    req->prev = r->inflight.prev;
    req->next = &r->inflight;
    req->prev->next = req;
    r->inflight.prev = req;
}

void *write_tap_ring_begin(WriteTapRing *r, WriteTapReq *req, uint32_t type,
                           uint32_t flags, uint64_t offset, uint64_t length)
{
    bool resize = type == NF_RING_RESIZE;
    uint64_t payload = type == NF_RING_WRITE ?
                       round_up(length, NF_RING_PAYLOAD_ALIGN) : 0;
    bool too_large = payload > r->payload_size / MAX_PART;
    void *buf = NULL;

    *req = (WriteTapReq) {
        .type = type,
        .offset = resize ? 0 : offset,
        .end = resize ? 0 : offset + length,
    };
    r->refs++;
    track(r, req);
    if (r->closed) {
        return NULL;
    }
    if (!too_large && prepare(r, payload)) {
        req->seq = r->head;
        buf = reserve(r, type, flags, offset, length, 0, NF_RING_BUSY);
    } else {
        lose(r, req, resize ? 0 : length);
        /* One that is only too large has its place in the order right away. */
        try_resume(r);
    }
    publish_stats(r);
    return buf;
}

bool write_tap_ring_end(WriteTapRing *r, WriteTapReq *req, int ret,
                        uint64_t disk_size)
{
    struct nf_ring_desc *d;
    WriteTapGap *gap = req->gap;
    bool resize = req->type == NF_RING_RESIZE;
    bool bell;

    req->prev->next = req->next;
    req->next->prev = req->prev;

    if (req->seq) {
        d = desc_of(r, req->seq);
        if (req->ambiguous) {
            __atomic_store_n(&d->flags, d->flags | NF_RING_AMBIGUOUS,
                             __ATOMIC_RELAXED);
        }
        if (resize) {
            /* What counts is the size that it has now, even after an error. */
            __atomic_store_n(&d->length, disk_size, __ATOMIC_RELAXED);
            ret = 0;
        }
        complete(r, req->seq, ret < 0 ? NF_RING_FAILED : NF_RING_DONE, ret);
    }
    if (gap) {
        gap->inflight--;
        if (!gap->inflight && gap->seq) {
            complete(r, gap->seq, NF_RING_DONE, 0);
            g_free(gap);
        }
        try_resume(r);
    }
    if (resize) {
        r->stats.disk_size = disk_size;
    }
    bell = take_wakeup(r);
    publish_stats(r);
    write_tap_ring_unref(r);
    return bell;
}

bool write_tap_ring_append(WriteTapRing *r, uint32_t type, uint32_t flags,
                           uint64_t length, uint64_t aux)
{
    bool bell;

    if (r->closed) {
        return false;
    }
    if (prepare(r, 0)) {
        reserve(r, type, flags, 0, length, aux, NF_RING_DONE);
    } else {
        lose(r, NULL, 0);
    }
    bell = take_wakeup(r);
    publish_stats(r);
    return bell;
}

bool write_tap_ring_close(WriteTapRing *r, uint32_t flags)
{
    bool bell;

    if (r->closed) {
        return false;
    }
    bell = write_tap_ring_append(r, NF_RING_CLOSE, flags, 0, 0);
    r->closed = true;
    r->stats.state = NF_RING_STATE_CLOSED;
    publish_stats(r);
    return bell;
}

bool write_tap_ring_room(WriteTapRing *r)
{
    bool had_gap = r->gap != NULL;

    try_resume(r);
    publish_stats(r);
    return had_gap && !r->gap && take_wakeup(r);
}

void write_tap_ring_attach(WriteTapRing *r, struct nf_ring_ctrl *ctrl)
{
    if (!ctrl) {
        load_tail(r); /* what the old one released is released */
    }
    r->ctrl = ctrl;
    r->fault = false;
    if (ctrl) {
        __atomic_store_n(&ctrl->tail, r->tail, __ATOMIC_RELEASE);
        try_resume(r);
        publish_stats(r);
    }
}

bool write_tap_ring_take_fault(WriteTapRing *r)
{
    bool fault = r->fault;

    r->fault = false;
    return fault;
}
