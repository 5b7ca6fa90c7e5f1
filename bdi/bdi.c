/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/bdi.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bdi/fs.h"
#include "bdi/partition.h"

#define HELD_DEFAULT (128u << 20)
#define SECTOR 512u
#define READ_CHUNK (1u << 20)

static const struct fs_driver *const drivers[] = {&ext4_driver};

struct followed {
    struct fs_context ctx;
    const struct fs_driver *driver;
    void *fs;
};

struct bdi {
    struct nf_image *img;
    struct shadow shadow;
    int shadow_fd;
    struct emitter emitter;
    struct held *held;
    struct followed *fs;
    size_t nfs;
    bool lost; /* a GAP was met: nothing after it can be followed */
};

struct bdi *bdi_new(struct nf_image *img, int shadow_fd, const struct bdi_options *opt,
                    struct nf_error *err)
{
    struct bdi *b = calloc(1, sizeof(*b));

    if (!b) {
        nf_fail(err, NF_ENOMEM, "engine: out of memory");
        return NULL;
    }
    b->img = img;
    b->shadow_fd = shadow_fd;
    b->emitter.opt = *opt;
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
    for (size_t i = 0; i < b->nfs; i++) {
        if (b->fs[i].fs)
            b->fs[i].driver->detach(b->fs[i].fs);
    }
    free(b->fs);
    held_free(b->held);
    shadow_release(&b->shadow);
    free(b);
}

static const struct fs_driver *driver_for(const char *type)
{
    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
        if (drivers[i]->probe(type))
            return drivers[i];
    }
    return NULL;
}

static int say_unsupported(struct bdi *b, const struct bdi_partition *part, const char *reason,
                           struct nf_error *err)
{
    struct nf_event ev = {.kind = NF_FS};

    ev.source.partition = part->number;
    memcpy(ev.source.fs_uuid, part->uuid, 16);
    ev.fs.state = NF_FS_UNSUPPORTED;
    ev.fs.reason = reason;
    ev.fs.type = part->type[0] ? part->type : NULL;
    ev.fs.label = (struct nf_bytes){(const uint8_t *)part->label, strlen(part->label)};
    ev.fs.offset = part->offset;
    return emit(&b->emitter, &ev, err);
}

int bdi_attach(struct bdi *b, struct nf_error *err)
{
    struct bdi_partition *parts = NULL;
    struct nf_error why = {0};
    char last[600] = "no known file system on it";
    size_t n = 0;
    int ret;

    ret = bdi_partitions_scan(b->img, b->shadow_fd, &parts, &n, err);
    if (ret < 0)
        return ret;
    ret = shadow_init(&b->shadow, b->shadow_fd, b->img->size, err);
    if (ret == 0) {
        b->fs = calloc(n, sizeof(*b->fs));
        if (!b->fs)
            ret = nf_fail(err, NF_ENOMEM, "engine: out of memory");
    }
    for (size_t i = 0; ret == 0 && i < n; i++) {
        struct followed *f = &b->fs[b->nfs];
        const char *reason = "not a file system that is followed";

        f->driver = driver_for(parts[i].type);
        if (f->driver) {
            f->ctx = (struct fs_context){b->img,          &b->shadow,     &b->emitter, b->held,
                                         parts[i].offset, parts[i].size, parts[i].number};
            ret = f->driver->attach(&f->ctx, &f->fs, &why);
            if (ret == 0) {
                b->nfs++;
                b->emitter.status.filesystems++;
                continue;
            }
            if (ret != NF_EUNSUPPORTED && ret != NF_EFORMAT) {
                ret = nf_fail(err, ret, "%s", why.text);
                break;
            }
            reason = why.text;
        } else if (!parts[i].type[0]) {
            reason = "nothing known is there";
        }
        snprintf(last, sizeof(last), "%s: %s", parts[i].type[0] ? parts[i].type : "disk", reason);
        ret = say_unsupported(b, &parts[i], reason, err);
    }
    free(parts);
    if (ret == 0 && b->nfs == 0)
        ret = nf_fail(err, NF_EUNSUPPORTED, "no file system to follow (%s)", last);
    return ret;
}

/* Hand the part of [offset, +len) that lies in @f to its driver. */
static int give(struct followed *f, uint64_t offset, uint64_t len, const uint8_t *data,
                bool known, struct nf_error *err)
{
    uint64_t lo = offset > f->ctx.offset ? offset : f->ctx.offset;
    uint64_t hi = offset + len;
    uint64_t end = f->ctx.offset + f->ctx.size;

    hi = hi < end ? hi : end;
    if (!f->fs || lo >= hi)
        return 0;
    if (!known)
        return f->driver->unknown(f->fs, lo - f->ctx.offset, hi - lo, err);
    return f->driver->write(f->fs, lo - f->ctx.offset, hi - lo, data ? data + (lo - offset) : NULL,
                            err);
}

static bool touches(const struct followed *f, uint64_t offset, uint64_t len)
{
    return f->fs && offset < f->ctx.offset + f->ctx.size && offset + len > f->ctx.offset;
}

static int give_all(struct bdi *b, uint64_t offset, uint64_t len, const uint8_t *data, bool known,
                    struct nf_error *err)
{
    bool mapped = false;
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < b->nfs; i++) {
        mapped |= touches(&b->fs[i], offset, len);
        ret = give(&b->fs[i], offset, len, data, known, err);
        if (ret == 0 && b->fs[i].fs && b->fs[i].driver->gone(b->fs[i].fs)) {
            b->fs[i].driver->detach(b->fs[i].fs);
            b->fs[i].fs = NULL;
            b->emitter.status.filesystems--;
        }
    }
    if (!mapped)
        b->emitter.status.unmapped_writes++;
    return ret;
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

        ret = b->img->read(b->img, offset, buf, n, err);
        if (ret < 0)
            break;
        b->emitter.status.readbacks++;
        b->emitter.extra_flags = NF_EV_READBACK | (ret > 0 ? NF_EV_UNSETTLED : 0);
        ret = give_all(b, offset, n, buf, true, err);
        offset += n;
        len -= n;
    }
    b->emitter.extra_flags = 0;
    free(buf);
    return ret;
}

static int barrier_all(struct bdi *b, struct nf_error *err)
{
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < b->nfs; i++) {
        if (b->fs[i].fs)
            ret = b->fs[i].driver->barrier(b->fs[i].fs, err);
    }
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

int bdi_record(struct bdi *b, const struct nf_record *rec, struct nf_error *err)
{
    uint64_t size = b->img->size;
    uint64_t offset = rec->offset, len = rec->length;

    if (b->lost)
        return nf_fail(err, NF_ELOST, "continuity was lost before this record");
    b->emitter.status.records++;
    b->emitter.time_ns = rec->time_ns;
    switch (rec->type) {
    case NF_REC_WRITE:
    case NF_REC_ZERO:
    case NF_REC_DISCARD:
        /* What lies beyond the disk as it was attached is in no file system
         * that is followed. */
        if (offset >= size || len == 0)
            return 0;
        len = len < size - offset ? len : size - offset;
        break;
    case NF_REC_FLUSH:
    case NF_REC_CLOSE:
        return barrier_all(b, err);
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
        return give_all(b, offset, len, NULL, false, err);
    if (rec->type == NF_REC_WRITE && !rec->data)
        return nf_fail(err, NF_EINVAL, "record %llu: a write without data",
                       (unsigned long long)rec->seq);
    return give_all(b, offset, len, rec->type == NF_REC_WRITE ? rec->data : NULL, true, err);
}

uint64_t bdi_next_seq(const struct bdi *b)
{
    return b->emitter.next_seq;
}

const struct bdi_status *bdi_get_status(struct bdi *b)
{
    b->emitter.status.held_bytes = held_bytes(b->held);
    return &b->emitter.status;
}
