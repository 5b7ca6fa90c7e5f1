/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is where on the disk, and how that changes: partition tables are
 * written, file systems made over others.
 *
 * A look at the disk (its table, what a partition holds, attaching to it) is
 * taken at a barrier after something changed that it depends on: between two
 * barriers a table may be half written. Looks are paid for with what the
 * stream brings, so that a guest cannot have its disk read over and over by
 * writing a sector.
 */
#include "bdi/disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"
#include "common/cleanup.h"

#define SECTOR 512u

/* Watched of a place that is not followed: where superblocks are. */
#define HEAD_SECTORS 16u
#define BTRFS_SECTOR 128u
#define EXT_SECTOR 2u
#define EXT_MAGIC_AT 0x38u
#define EXT_MAGIC 0xef53u

/* Without a barrier a change is looked into after so many records. */
#define SETTLE_RECORDS 4096u
#define PAUSE_MIN 1u
#define PAUSE_BUSY_MAX 4096u
#define PAUSE_MAX 65536u

#define DEBT_MAX (256ll << 20)
#define CREDIT_RECORD 1024     /* bytes, for each record */
#define CREDIT_MS 1024         /* and each millisecond of their time */
#define LOOK_MIN (64ull << 10) /* a look costs at least that */

static const struct fs_driver *const drivers[] = {&ext4_driver};

const struct fs_driver *driver_for(const char *type)
{
    for (size_t i = 0; i < sizeof(drivers) / sizeof(drivers[0]); i++) {
        if (drivers[i]->probe(type))
            return drivers[i];
    }
    return NULL;
}

static uint64_t records(const struct bdi *b)
{
    return b->emitter.status.records;
}

/* --- saying ---------------------------------------------------------------------- */

/* Say once why @p is not followed. */
static int say_unsupported(struct bdi *b, struct place *p, const char *reason,
                           struct nf_error *err)
{
    const struct bdi_partition *part = &p->part;
    struct nf_event ev = {.kind = NF_FS};
    char text[sizeof(p->said)] = "";
    int what = snprintf(text, sizeof(text), "%s %llx %llx ", part->type,
                        (unsigned long long)nf_le64(part->uuid),
                        (unsigned long long)nf_le64(part->uuid + 8));

    snprintf(text + what, sizeof(text) - (size_t)what, "%s", reason);
    if (strcmp(text, p->said) == 0)
        return 0;
    p->pause = 0;
    memcpy(p->said, text, sizeof(text));
    p->reason = p->said + what;
    ev.source.partition = part->number;
    memcpy(ev.source.fs_uuid, part->uuid, 16);
    ev.fs.state = NF_FS_UNSUPPORTED;
    ev.fs.reason = reason;
    ev.fs.type = part->type[0] ? part->type : NULL;
    ev.fs.label = (struct nf_bytes){(const uint8_t *)part->label, strlen(part->label)};
    ev.fs.offset = part->offset;
    return emit(&b->emitter, &ev, err);
}

const struct bdi_place *places_describe(struct bdi *b, size_t i)
{
    struct bdi_place *d = &b->described;
    const struct place *p;

    if (i >= b->nplaces)
        return NULL;
    p = &b->places[i];
    *d = (struct bdi_place){
        .partition = p->part.number,
        .offset = p->part.offset,
        .size = p->part.size,
        .type = p->part.type,
        .label = p->part.label,
        .uuid = p->part.uuid,
    };
    if (p->followed)
        p->driver->describe(p->fs, d, b->features, sizeof(b->features));
    else
        d->reason = p->said[0] ? p->reason : "it has changed and is to be looked into";
    return d;
}

/* FS(gone), of one that no driver knows any more. */
static int say_gone(struct bdi *b, const struct place *p, const char *reason,
                    struct nf_error *err)
{
    struct nf_event ev = {.kind = NF_FS};

    ev.source.partition = p->part.number;
    memcpy(ev.source.fs_uuid, p->part.uuid, 16);
    ev.fs.state = NF_FS_GONE;
    ev.fs.reason = reason;
    ev.fs.type = p->part.type;
    ev.fs.offset = p->part.offset;
    return emit(&b->emitter, &ev, err);
}

/* --- one place ------------------------------------------------------------------- */

static void place_drop(struct bdi *b, struct place *p)
{
    if (!p->fs)
        return;
    p->driver->detach(p->fs);
    p->fs = NULL;
    if (p->followed)
        b->emitter.status.filesystems--;
    p->followed = false;
    held_forget(b->held, p->part.offset, p->part.size);
    shadow_punch(&b->shadow, p->part.offset, p->part.size);
}

static int place_end(struct bdi *b, struct place *p, const char *reason, struct nf_error *err)
{
    int ret = p->followed ? p->driver->end(p->fs, reason, err) : 0;

    place_drop(b, p);
    return ret;
}

static void place_dirty(struct bdi *b, struct place *p)
{
    p->dirty = true;
    if (!b->unsettled)
        b->settle_at = records(b) + SETTLE_RECORDS;
    b->unsettled = true;
}

static void be_patient(struct bdi *b, struct place *p, uint64_t max)
{
    p->pause = p->pause ? p->pause * 2 : PAUSE_MIN;
    p->pause = p->pause < max ? p->pause : max;
    p->look_at = records(b) + p->pause;
}

/* Its driver may have found that it has ended. */
static void notice_end(struct bdi *b, struct place *p)
{
    enum fs_end how = p->followed ? p->driver->gone(p->fs) : FS_LIVES;

    if (how == FS_LIVES)
        return;
    p->followed = false;
    b->emitter.status.filesystems--;
    p->driver->retire(p->fs);
    held_forget(b->held, p->part.offset, p->part.size);
    p->said[0] = '\0';
    p->pause = p->look_at = 0;
    p->broken = true; /* until a look says otherwise */
    place_dirty(b, p);
    if (how == FS_CHANGED)
        b->settle_at = 0;
}

/* Attach to @p with its driver; 1: it is not to be followed now, and that was
 * said or needs not be. */
static int place_attach(struct bdi *b, struct place *p, bool again, struct nf_error *err)
{
    struct nf_error why = {0};
    int ret;

    p->ctx = (struct fs_context){&b->image.img,  &b->shadow,   &b->emitter,    b->held,
                                 p->part.offset, p->part.size, p->part.number, again};
    held_forget(b->held, p->part.offset, p->part.size);
    ret = p->driver->attach(&p->ctx, &p->fs, &why);
    if (ret == 0) {
        p->followed = true;
        p->said[0] = '\0';
        p->pause = 0;
        b->emitter.status.filesystems++;
        return 0;
    }
    if (ret == NF_EBUSY) {
        place_dirty(b, p);
        be_patient(b, p, PAUSE_BUSY_MAX);
        return 1;
    }
    shadow_punch(&b->shadow, p->part.offset, p->part.size);
    if (ret != NF_EUNSUPPORTED && ret != NF_EFORMAT)
        return nf_fail(err, ret, "%s", why.text);
    p->broken = ret == NF_EFORMAT;
    ret = say_unsupported(b, p, why.text, err);
    be_patient(b, p, PAUSE_MAX);
    return ret < 0 ? ret : 1;
}

/* What is in @p, and can it be followed? */
static int place_look(struct bdi *b, struct place *p, bool again, struct nf_error *err)
{
    const struct fs_driver *driver;
    const char *reason = "not a file system that is followed";
    int ret;

    if (p->unresumed) {
        ret = say_gone(b, p, "it was being overwritten", err);
        if (ret < 0)
            return ret;
    }
    p->dirty = p->broken = p->unresumed = false;
    b->image.moved = false;
    ret = bdi_partition_identify(&b->image.img, &p->part, err);
    if (ret < 0)
        return ret;
    driver = driver_for(p->part.type);
    if (driver != p->driver)
        place_drop(b, p);
    p->driver = driver;
    if (driver) {
        ret = place_attach(b, p, again, err);
        return ret < 0 ? ret : 0;
    }
    if (again && b->image.moved) {
        place_dirty(b, p);
        be_patient(b, p, PAUSE_BUSY_MAX);
        return 0;
    }
    if (!p->part.type[0])
        reason = "nothing known is there";
    ret = say_unsupported(b, p, reason, err);
    be_patient(b, p, PAUSE_MAX);
    return ret;
}

/* --- paying ---------------------------------------------------------------------- */

static void earn(struct bdi *b)
{
    int64_t now = b->emitter.time_ns, ms;

    b->credit += CREDIT_RECORD;
    if (now > b->paid_ns) {
        ms = b->paid_ns ? (now - b->paid_ns) / 1000000 : 0;
        b->credit += ms < CREDIT_MAX / CREDIT_MS ? ms * CREDIT_MS : CREDIT_MAX;
        b->paid_ns = b->paid_ns ? b->paid_ns + ms * 1000000 : now;
    }
    if (b->credit > CREDIT_MAX)
        b->credit = CREDIT_MAX;
}

/* The bytes read since @before, and no less than @least. */
static uint64_t pay(struct bdi *b, uint64_t before, uint64_t least)
{
    uint64_t cost = b->image.bytes - before;

    cost = cost > least ? cost : least;
    cost = cost > LOOK_MIN ? cost : LOOK_MIN;
    b->credit -= cost < (uint64_t)DEBT_MAX ? (int64_t)cost : DEBT_MAX;
    if (b->credit < -DEBT_MAX)
        b->credit = -DEBT_MAX;
    return cost;
}

/* --- the table ------------------------------------------------------------------- */

static int watch_anew(struct bdi *b, struct nf_error *err)
{
    int ret = 0;

    b->watch.n = 0;
    for (size_t i = 0; ret == 0 && i < b->table.n; i++)
        ret = watch_add(&b->watch, &(struct watched){b->table.list[i].number,
                                                     b->table.list[i].crc, true, 0});
    for (size_t i = 0; i < b->nplaces; i++) {
        uint64_t first = b->places[i].part.offset / SECTOR;
        uint32_t who = (uint32_t)i + 1;

        if (b->places[i].followed)
            continue;
        for (uint64_t s = 0; ret == 0 && s < HEAD_SECTORS; s++)
            ret = watch_add(&b->watch, &(struct watched){first + s, 0, false, who});
        if (ret == 0)
            ret = watch_add(&b->watch, &(struct watched){first + BTRFS_SECTOR, 0, false, who});
    }
    watch_sort(&b->watch);
    return ret < 0 ? nf_fail(err, ret, "engine: out of memory") : 0;
}

static void changed(void *opaque, const struct watched *one, const uint8_t *data)
{
    struct bdi *b = opaque;
    struct place *p;

    if (one->who == 0) {
        b->table_dirty = true;
        if (!b->unsettled)
            b->settle_at = records(b) + SETTLE_RECORDS;
        b->unsettled = true;
        return;
    }
    p = &b->places[one->who - 1];
    place_dirty(b, p);
    /* Likely one to follow: no patience is due. */
    if (data && one->sector == p->part.offset / SECTOR + EXT_SECTOR &&
        nf_le16(data + EXT_MAGIC_AT) == EXT_MAGIC && !driver_for(p->part.type))
        p->look_at = 0;
}

static struct place *same_place(struct bdi *b, const struct bdi_partition *part)
{
    for (size_t i = 0; i < b->nplaces; i++) {
        if (b->places[i].part.number == part->number && b->places[i].part.offset == part->offset)
            return &b->places[i];
    }
    return NULL;
}

static const char *why_not_there(const struct place *p, const struct bdi_partition *list, size_t n)
{
    if (p->part.number == 0)
        return "a partition table was written to the disk";
    for (size_t i = 0; i < n; i++) {
        if (list[i].number == p->part.number)
            return "its partition was moved";
    }
    return "its partition is no longer in the table";
}

/* Go over to the places in @list: those that go first, then what is kept moves
 * into *@fresh. */
static int change_places(struct bdi *b, const struct bdi_partition *list, size_t n,
                         struct place *fresh, struct nf_error *err)
{
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < b->nplaces; i++) {
        struct place *p = &b->places[i];
        bool stays = false;

        for (size_t j = 0; j < n; j++)
            stays |= list[j].number == p->part.number && list[j].offset == p->part.offset;
        if (!stays)
            ret = place_end(b, p, why_not_there(p, list, n), err);
    }
    for (size_t i = 0; ret == 0 && i < n; i++) {
        struct place *p = same_place(b, &list[i]);
        uint64_t size = list[i].size;

        if (!p) {
            fresh[i].part = list[i];
            fresh[i].dirty = true;
            continue;
        }
        if (size != p->part.size) {
            p->part.size = p->ctx.size = size;
            p->dirty = !p->followed;
            p->look_at = p->pause = 0;
            ret = p->fs ? p->driver->resize(p->fs, size, err) : 0;
            notice_end(b, p);
        }
        fresh[i] = *p;
        p->fs = NULL; /* it lives on there */
    }
    return ret;
}

static int look_at_table(struct bdi *b, struct nf_error *err)
{
    NF_AUTO_FREE struct bdi_partition *list = NULL;
    struct bdi_sectors table = {0};
    uint64_t before = b->image.bytes;
    struct place *fresh;
    size_t n = 0;
    int ret;

    b->image.moved = false;
    ret = bdi_table_read(&b->image.img, &list, &n, &table, err);
    pay(b, before, 0);
    if (ret < 0 || b->image.moved) {
        bdi_sectors_release(&table);
        return ret;
    }
    bdi_sectors_release(&b->table);
    b->table = table;
    b->table_dirty = false;
    fresh = calloc(n, sizeof(*fresh));
    if (!fresh)
        return nf_fail(err, NF_ENOMEM, "engine: out of memory");
    ret = change_places(b, list, n, fresh, err);
    if (ret < 0) {
        /* The engine stops: what moved over still has to be freed. */
        for (size_t i = 0; i < n; i++) {
            if (fresh[i].fs)
                fresh[i].driver->detach(fresh[i].fs);
        }
        free(fresh);
        return ret;
    }
    free(b->places);
    b->places = fresh;
    b->nplaces = n;
    return 0;
}

/* --- the interface --------------------------------------------------------------- */

int places_attach(struct bdi *b, struct nf_error *err)
{
    NF_AUTO_FREE struct bdi_partition *list = NULL;
    size_t n = 0;
    int ret = bdi_table_read(&b->image.img, &list, &n, &b->table, err);

    if (ret == 0)
        ret = disk_open_shadow(b, err);
    if (ret < 0)
        return ret;
    b->credit = CREDIT_MAX;
    b->places = calloc(n, sizeof(*b->places));
    if (!b->places)
        return nf_fail(err, NF_ENOMEM, "engine: out of memory");
    b->nplaces = n;
    for (size_t i = 0; ret == 0 && i < n; i++) {
        b->places[i].part = list[i];
        ret = place_look(b, &b->places[i], false, err);
    }
    return ret < 0 ? ret : watch_anew(b, err);
}

void places_free(struct bdi *b)
{
    for (size_t i = 0; i < b->nplaces; i++) {
        if (b->places[i].fs)
            b->places[i].driver->detach(b->places[i].fs);
    }
    free(b->places);
    bdi_sectors_release(&b->table);
    watch_release(&b->watch);
}

/* Hand the part of [offset, +len) that lies in @p to its driver. */
static int give(struct place *p, uint64_t offset, uint64_t len, const uint8_t *data, bool known,
                struct nf_error *err)
{
    uint64_t lo = offset > p->ctx.offset ? offset : p->ctx.offset;
    uint64_t hi = offset + len;
    uint64_t end = p->ctx.offset + p->ctx.size;

    hi = hi < end ? hi : end;
    if (!p->fs || lo >= hi)
        return 0;
    if (!known)
        return p->driver->unknown(p->fs, lo - p->ctx.offset, hi - lo, err);
    return p->driver->write(p->fs, lo - p->ctx.offset, hi - lo, data ? data + (lo - offset) : NULL,
                            err);
}

int places_write(struct bdi *b, uint64_t offset, uint64_t len, const uint8_t *data, bool known,
                 struct nf_error *err)
{
    bool mapped = false;
    int ret = 0;

    watch_write(&b->watch, offset, len, data, known, changed, b);
    for (size_t i = 0; ret == 0 && i < b->nplaces; i++) {
        struct place *p = &b->places[i];

        if (offset >= p->part.offset + p->part.size || offset + len <= p->part.offset)
            continue;
        mapped |= p->followed;
        if (p->broken)
            place_dirty(b, p);
        ret = give(p, offset, len, data, known, err);
        notice_end(b, p);
    }
    if (!mapped)
        b->emitter.status.unmapped_writes++;
    return ret;
}

int places_barrier(struct bdi *b, bool end, struct nf_error *err)
{
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < b->nplaces; i++) {
        struct place *p = &b->places[i];

        if (!p->followed)
            continue;
        ret = p->driver->barrier(p->fs, end, err);
        notice_end(b, p);
    }
    return ret;
}

void places_status(const struct bdi *b, struct bdi_status *st)
{
    for (size_t i = 0; i < b->nplaces; i++) {
        if (b->places[i].followed)
            b->places[i].driver->status(b->places[i].fs, st);
    }
}

int places_resize(struct bdi *b, struct nf_error *err)
{
    int ret = shadow_resize(&b->shadow, b->image.img.size, err);

    for (size_t i = 0; ret == 0 && i < b->nplaces; i++) {
        struct place *p = &b->places[i];

        if (p->part.number == 0)
            p->part.size = p->ctx.size = b->image.img.size;
        p->dirty |= !p->followed;
        p->look_at = 0;
        ret = p->fs ? p->driver->resize(p->fs, p->ctx.size, err) : 0;
        notice_end(b, p);
    }
    b->table_dirty = b->unsettled = true;
    b->settle_at = records(b) + SETTLE_RECORDS;
    return ret;
}

static void plan_next(struct bdi *b)
{
    b->unsettled = b->table_dirty;
    b->settle_at = records(b) + SETTLE_RECORDS;
    for (size_t i = 0; i < b->nplaces; i++) {
        const struct place *p = &b->places[i];

        if (p->followed || !p->dirty)
            continue;
        b->unsettled = true;
        /* One that waits for the disk to stand still needs no barrier. */
        if (p->fs && p->look_at < b->settle_at)
            b->settle_at = p->look_at;
    }
}

int places_settle(struct bdi *b, bool barrier, struct nf_error *err)
{
    bool looked = false;
    int ret = 0;

    earn(b);
    if (!b->unsettled || (!barrier && records(b) < b->settle_at))
        return 0;
    if (b->table_dirty && b->credit > 0) {
        ret = look_at_table(b, err);
        looked = true;
    }
    for (size_t i = 0; ret == 0 && i < b->nplaces && b->credit > 0; i++) {
        struct place *p = &b->places[i];
        uint64_t before = b->image.bytes;

        if (p->followed || !p->dirty || records(b) < p->look_at)
            continue;
        ret = place_look(b, p, true, err);
        p->cost = pay(b, before, p->dirty ? 0 : p->cost);
        looked = true;
    }
    if (ret == 0 && looked)
        ret = watch_anew(b, err);
    plan_next(b);
    return ret;
}
