/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/bdi.h"

#include <stdlib.h>

#include "bdi/disk.h"

#define HELD_DEFAULT (128u << 20)
#define SECTOR 512u
#define QUIET_NS INT64_C(100000000)
#define READ_CHUNK (1u << 20)

static int counted_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                        struct nf_error *err)
{
    struct counted_image *c = (struct counted_image *)img;
    int ret = c->inner->read(c->inner, offset, buf, len, err);

    c->bytes += len;
    c->moved |= ret > 0;
    return ret;
}

struct bdi *bdi_new(struct nf_image *img, int shadow_fd, const struct bdi_options *opt,
                    struct nf_error *err)
{
    struct bdi *b = calloc(1, sizeof(*b));

    if (!b) {
        nf_fail(err, NF_ENOMEM, "engine: out of memory");
        return NULL;
    }
    b->image = (struct counted_image){{.size = img->size, .read = counted_read}, img, 0, false};
    b->shadow_fd = shadow_fd;
    b->emitter.opt = *opt;
    b->emitter.opt.state = NULL; /* it need not live on */
    b->keep_state = opt->state != NULL;
    if (opt->state)
        b->state = *opt->state;
    b->emitter.next_seq = opt->first_seq ? opt->first_seq : 1;
    b->held = held_new(opt->held_limit ? (size_t)opt->held_limit : HELD_DEFAULT);
    if (!b->held) {
        nf_fail(err, NF_ENOMEM, "engine: out of memory");
        bdi_free(b);
        return NULL;
    }
    return b;
}

void bdi_free(struct bdi *b)
{
    if (!b)
        return;
    places_free(b);
    held_free(b->held);
    nf_buffer_release(&b->saving);
    shadow_release(&b->shadow);
    free(b);
}

int disk_open_shadow(struct bdi *b, struct nf_error *err)
{
    return shadow_init(&b->shadow, b->shadow_fd, b->keep_state ? &b->state : NULL,
                       b->image.img.size, err);
}

int bdi_attach(struct bdi *b, struct nf_error *err)
{
    return places_attach(b, err);
}

/* What a failed or overlapping write left is what the disk says now. */
static int reread(struct bdi *b, uint64_t offset, uint64_t len, struct nf_error *err)
{
    uint8_t *buf = malloc(READ_CHUNK);
    int ret = 0;

    if (!buf)
        return nf_fail(err, NF_ENOMEM, "engine: out of memory");
    while (ret == 0 && len) {
        size_t n = len < READ_CHUNK ? (size_t)len : READ_CHUNK;

        ret = b->image.img.read(&b->image.img, offset, buf, n, err);
        if (ret < 0)
            break;
        b->emitter.status.readbacks++;
        b->emitter.extra_flags = NF_EV_READBACK | (ret > 0 ? NF_EV_UNSETTLED : 0);
        ret = places_write(b, offset, n, buf, true, err);
        offset += n;
        len -= n;
    }
    b->emitter.extra_flags = 0;
    free(buf);
    return ret;
}

static int lose(struct bdi *b, const struct nf_record *rec, struct nf_error *err)
{
    struct nf_event ev = {.kind = NF_GAP};
    int ret;

    b->lost = true;
    ev.gap.scope = "writes to the disk were not seen";
    ev.gap.lost_requests = rec->offset;
    ev.gap.lost_bytes = rec->length;
    ret = emit(&b->emitter, &ev, err);
    if (ret < 0)
        return ret;
    return nf_fail(err, NF_ELOST, "%llu writes (%llu bytes) to the disk were not seen",
                   (unsigned long long)rec->offset, (unsigned long long)rec->length);
}

/* The disk has the size that the record says, as far as the image can be read. */
static int resize(struct bdi *b, uint64_t size, struct nf_error *err)
{
    size = size < b->image.inner->size ? size : b->image.inner->size;
    if (size == b->image.img.size || size == 0)
        return 0;
    b->image.img.size = size;
    return places_resize(b, err);
}

static int take(struct bdi *b, const struct nf_record *rec, struct nf_error *err)
{
    uint64_t size = b->image.img.size;
    uint64_t offset = rec->offset, len = rec->length;

    switch (rec->type) {
    case NF_REC_WRITE:
    case NF_REC_ZERO:
    case NF_REC_DISCARD:
        /* What lies beyond the disk is in no file system. */
        if (offset >= size || len == 0)
            return 0;
        len = len < size - offset ? len : size - offset;
        break;
    case NF_REC_FLUSH:
    case NF_REC_CLOSE:
        return places_barrier(b, rec->type == NF_REC_CLOSE, err);
    case NF_REC_RESIZE:
        return resize(b, len, err);
    case NF_REC_GAP:
        return lose(b, rec, err);
    default:
        return 0;
    }
    if (offset % SECTOR || len % SECTOR) {
        /* Emulated sub-sector writes: take whole sectors from the disk. */
        uint64_t lo = offset / SECTOR * SECTOR;
        uint64_t hi = (offset + len + SECTOR - 1) / SECTOR * SECTOR;

        return reread(b, lo, (hi < size ? hi : size / SECTOR * SECTOR) - lo, err);
    }
    if (rec->flags & (NF_REC_FAILED | NF_REC_AMBIGUOUS))
        return reread(b, offset, len, err);
    if (rec->type == NF_REC_DISCARD)
        return places_write(b, offset, len, NULL, false, err);
    if (rec->type == NF_REC_WRITE && !rec->data)
        return nf_fail(err, NF_EINVAL, "record %llu: a write without data",
                       (unsigned long long)rec->seq);
    return places_write(b, offset, len, rec->type == NF_REC_WRITE ? rec->data : NULL, true, err);
}

int bdi_idle(struct bdi *b, int64_t now_ns, struct nf_error *err)
{
    if (b->lost)
        return 0;
    if (now_ns != INT64_MAX && now_ns > b->emitter.time_ns)
        b->emitter.time_ns = now_ns;
    return places_barrier(b, now_ns == INT64_MAX, err);
}

int bdi_record(struct bdi *b, const struct nf_record *rec, struct nf_error *err)
{
    int ret;

    if (b->lost)
        return nf_fail(err, NF_ELOST, "continuity was lost before this record");
    b->emitter.status.records++;
    /* What was written last before a pause may have been the last of something. */
    if (rec->time_ns - b->emitter.time_ns >= QUIET_NS && b->emitter.time_ns > 0) {
        ret = bdi_idle(b, rec->time_ns, err);
        if (ret < 0)
            return ret;
    }
    b->emitter.time_ns = rec->time_ns;
    ret = take(b, rec, err);
    if (ret < 0)
        return ret;
    ret = places_settle(b, rec->type == NF_REC_FLUSH || rec->type == NF_REC_CLOSE, err);
    if (ret == 0 && b->shadow.failure.code < 0)
        ret = nf_fail(err, b->shadow.failure.code, "%s", b->shadow.failure.text);
    return ret;
}

uint64_t bdi_next_seq(const struct bdi *b)
{
    return b->emitter.next_seq;
}

const struct bdi_place *bdi_get_place(struct bdi *b, size_t i)
{
    return places_describe(b, i);
}

const struct bdi_status *bdi_get_status(struct bdi *b)
{
    struct bdi_status *st = &b->emitter.status;

    st->held_bytes = held_bytes(b->held);
    st->waiting = st->waiting_content = st->looked = 0;
    places_status(b, st);
    return st;
}
