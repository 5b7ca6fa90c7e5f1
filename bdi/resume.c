/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Saving an engine and resuming it: what it knows of the disk's places. The
 * file systems in them are in the shadow, but for what their drivers say.
 */
#include <stdlib.h>
#include <string.h>

#include "bdi/disk.h"
#include "bdi/undo.h"
#include "common/bytes.h"

/* What bdi_save() writes, little-endian: a header; the sectors of the table; the
 * watched sectors; the places, each followed by what its driver saved. */
enum {
    S_VERSION = 0,
    S_PLACES = 4,
    S_GENERATION = 8,
    S_SIZE = 16,
    S_TABLE = 24,
    S_WATCHED = 28,
    S_FLAGS = 32,
    S_SETTLE_IN = 40, /* records */
    S_HEADER = 48,

    T_NUMBER = 0,
    T_CRC = 8,
    T_LEN = 12,

    W_SECTOR = 0,
    W_CRC = 8,
    W_KNOWN = 12,
    W_WHO = 16,
    W_LEN = 20,

    P_NUMBER = 0,
    P_FLAGS = 4,
    P_OFFSET = 8,
    P_SIZE = 16,
    P_PAUSE = 24,
    P_LOOK_IN = 32, /* records */
    P_COST = 40,
    P_DRIVER = 48,  /* bytes that it saved */
    P_TYPE = 56,
    P_LABEL = P_TYPE + 32,
    P_UUID = P_LABEL + 128,
    P_SAID = P_UUID + 16,
    P_LEN = P_SAID + 700,

    STATE_VERSION = 1,
};
_Static_assert(sizeof(((struct place *)0)->said) == P_LEN - P_SAID, "what was said");
_Static_assert(sizeof(((struct bdi_partition *)0)->type) == P_LABEL - P_TYPE, "types");
_Static_assert(sizeof(((struct bdi_partition *)0)->label) == P_UUID - P_LABEL, "labels");

enum { TABLE_DIRTY = 1, UNSETTLED = 2 };
enum { FOLLOWED = 1, DIRTY = 2, BROKEN = 4, UNRESUMED = 8 };

/* --- saving ---------------------------------------------------------------------- */

static uint64_t records_until(const struct bdi *b, uint64_t at)
{
    uint64_t now = b->emitter.status.records;

    return at > now ? at - now : 0;
}

static int append(struct nf_buffer *out, const void *data, size_t len, struct nf_error *err)
{
    if (nf_buffer_append(out, data, len) < 0)
        return nf_fail(err, NF_ENOMEM, "state: out of memory");
    return 0;
}

static int save_place(const struct bdi *b, const struct place *p, struct nf_buffer *out,
                      struct nf_error *err)
{
    /* One that has ended and waits to be attached again is looked at anew. */
    bool dirty = p->dirty || (p->fs && !p->followed);
    uint8_t head[P_LEN] = {0};
    size_t at = out->len;
    int ret;

    nf_put_le32(head + P_NUMBER, p->part.number);
    nf_put_le32(head + P_FLAGS, (p->followed ? FOLLOWED : 0) | (dirty ? DIRTY : 0) |
                                    (p->broken ? BROKEN : 0) |
                                    (p->unresumed ? UNRESUMED : 0));
    nf_put_le64(head + P_OFFSET, p->part.offset);
    nf_put_le64(head + P_SIZE, p->part.size);
    nf_put_le64(head + P_PAUSE, p->pause);
    nf_put_le64(head + P_LOOK_IN, records_until(b, p->look_at));
    nf_put_le64(head + P_COST, p->cost);
    memcpy(head + P_TYPE, p->part.type, sizeof(p->part.type));
    memcpy(head + P_LABEL, p->part.label, sizeof(p->part.label));
    memcpy(head + P_UUID, p->part.uuid, sizeof(p->part.uuid));
    memcpy(head + P_SAID, p->said, sizeof(p->said));
    ret = append(out, head, sizeof(head), err);
    if (ret < 0 || !p->followed)
        return ret;
    ret = p->driver->save(p->fs, out, err);
    if (ret == 0)
        nf_put_le64(out->data + at + P_DRIVER, out->len - at - P_LEN);
    return ret;
}

int bdi_save(struct bdi *b, uint64_t generation, struct nf_bytes *bytes, struct nf_error *err)
{
    struct nf_buffer *out = &b->saving;
    uint8_t buf[S_HEADER] = {0};
    bool unsettled = b->unsettled;
    int ret;

    for (size_t i = 0; i < b->nplaces; i++)
        unsettled |= b->places[i].fs && !b->places[i].followed;
    nf_buffer_clear(out);
    nf_put_le32(buf + S_VERSION, STATE_VERSION);
    nf_put_le32(buf + S_PLACES, (uint32_t)b->nplaces);
    nf_put_le64(buf + S_GENERATION, generation);
    nf_put_le64(buf + S_SIZE, b->image.img.size);
    nf_put_le32(buf + S_TABLE, (uint32_t)b->table.n);
    nf_put_le32(buf + S_WATCHED, (uint32_t)b->watch.n);
    nf_put_le64(buf + S_FLAGS,
                (b->table_dirty ? TABLE_DIRTY : 0) | (unsettled ? UNSETTLED : 0));
    nf_put_le64(buf + S_SETTLE_IN, records_until(b, b->settle_at));
    ret = append(out, buf, sizeof(buf), err);
    for (size_t i = 0; ret == 0 && i < b->table.n; i++) {
        nf_put_le64(buf + T_NUMBER, b->table.list[i].number);
        nf_put_le32(buf + T_CRC, b->table.list[i].crc);
        ret = append(out, buf, T_LEN, err);
    }
    for (size_t i = 0; ret == 0 && i < b->watch.n; i++) {
        const struct watched *w = &b->watch.list[i];

        nf_put_le64(buf + W_SECTOR, w->sector);
        nf_put_le32(buf + W_CRC, w->crc);
        nf_put_le32(buf + W_KNOWN, w->known);
        nf_put_le32(buf + W_WHO, w->who);
        ret = append(out, buf, W_LEN, err);
    }
    for (size_t i = 0; ret == 0 && i < b->nplaces; i++)
        ret = save_place(b, &b->places[i], out, err);
    *bytes = nf_buffer_bytes(out);
    return ret;
}

void bdi_saved(struct bdi *b, uint64_t generation)
{
    shadow_saved(&b->shadow, generation);
}

/* --- resuming -------------------------------------------------------------------- */

/* The first @len bytes of @state, which moves behind them; null if it is shorter. */
static const uint8_t *cut(struct nf_bytes *state, uint64_t len)
{
    const uint8_t *at = state->data;

    if (len > state->len)
        return NULL;
    *state = (struct nf_bytes){at + len, state->len - (size_t)len};
    return at;
}

static int cut_short(struct nf_error *err)
{
    return nf_fail(err, NF_EFORMAT, "state: it is cut short");
}

static int resume_table(struct bdi *b, uint32_t n, struct nf_bytes *state, struct nf_error *err)
{
    const uint8_t *at = cut(state, (uint64_t)n * T_LEN);

    if (!at)
        return cut_short(err);
    b->table.list = calloc(n ? n : 1, sizeof(*b->table.list));
    if (!b->table.list)
        return nf_fail(err, NF_ENOMEM, "engine: out of memory");
    b->table.n = b->table.room = n;
    for (uint32_t i = 0; i < n; i++, at += T_LEN)
        b->table.list[i] = (struct bdi_sector){nf_le64(at + T_NUMBER), nf_le32(at + T_CRC)};
    return 0;
}

static int resume_watch(struct bdi *b, uint32_t n, struct nf_bytes *state, struct nf_error *err)
{
    const uint8_t *at = cut(state, (uint64_t)n * W_LEN);

    if (!at)
        return cut_short(err);
    for (uint32_t i = 0; i < n; i++, at += W_LEN) {
        struct watched one = {nf_le64(at + W_SECTOR), nf_le32(at + W_CRC),
                              nf_le32(at + W_KNOWN) & 1, nf_le32(at + W_WHO)};

        if (one.who > b->nplaces)
            return nf_fail(err, NF_EFORMAT, "state: a sector of place %u", one.who);
        if (watch_add(&b->watch, &one) < 0)
            return nf_fail(err, NF_ENOMEM, "engine: out of memory");
    }
    watch_sort(&b->watch);
    return 0;
}

static int resume_place(struct bdi *b, struct place *p, struct nf_bytes *state,
                        struct nf_error *err)
{
    const uint8_t *head = cut(state, P_LEN), *own;
    uint64_t len = head ? nf_le64(head + P_DRIVER) : 0;
    uint32_t flags;
    int ret;

    own = head ? cut(state, len) : NULL;
    if (!own)
        return cut_short(err);
    flags = nf_le32(head + P_FLAGS);
    p->part.number = nf_le32(head + P_NUMBER);
    p->part.offset = nf_le64(head + P_OFFSET);
    p->part.size = nf_le64(head + P_SIZE);
    memcpy(p->part.type, head + P_TYPE, sizeof(p->part.type));
    memcpy(p->part.label, head + P_LABEL, sizeof(p->part.label));
    memcpy(p->part.uuid, head + P_UUID, sizeof(p->part.uuid));
    memcpy(p->said, head + P_SAID, sizeof(p->said));
    if (p->part.offset > b->image.img.size || p->part.size > b->image.img.size - p->part.offset ||
        p->part.type[sizeof(p->part.type) - 1] || p->part.label[sizeof(p->part.label) - 1] ||
        p->said[sizeof(p->said) - 1])
        return nf_fail(err, NF_EFORMAT, "state: a place that cannot be");
    p->dirty = flags & DIRTY;
    p->broken = flags & BROKEN;
    p->unresumed = flags & UNRESUMED;
    p->pause = nf_le64(head + P_PAUSE);
    p->look_at = nf_le64(head + P_LOOK_IN);
    p->cost = nf_le64(head + P_COST);
    p->driver = driver_for(p->part.type);
    p->ctx = (struct fs_context){&b->image.img,  &b->shadow,   &b->emitter,    b->held,
                                 p->part.offset, p->part.size, p->part.number, true};
    if (!(flags & FOLLOWED)) {
        /* What the engine knew of one that ended is not known any more. */
        shadow_forget(&b->shadow, p->part.offset, p->part.size);
        return 0;
    }
    if (!p->driver)
        return nf_fail(err, NF_EFORMAT, "state: nobody follows %s", p->part.type);
    ret = p->driver->resume(&p->ctx, (struct nf_bytes){own, (size_t)len}, &p->fs, err);
    if (ret == NF_EUNSUPPORTED || ret == NF_EFORMAT) {
        /* It was half overwritten when the state was saved, and that did not yet
         * show: it ends with the next record. */
        shadow_forget(&b->shadow, p->part.offset, p->part.size);
        p->unresumed = p->dirty = b->unsettled = true;
        p->look_at = b->settle_at = 0;
        return 0;
    }
    if (ret < 0)
        return ret;
    p->followed = true;
    b->emitter.status.filesystems++;
    return 0;
}

int bdi_resume(struct bdi *b, uint64_t generation, struct nf_bytes state, struct nf_error *err)
{
    const uint8_t *head = cut(&state, S_HEADER);
    uint32_t n;
    int ret;

    if (!b->keep_state)
        return nf_fail(err, NF_EINVAL, "state: this engine keeps none");
    if (!head || nf_le32(head + S_VERSION) != STATE_VERSION ||
        nf_le64(head + S_GENERATION) != generation)
        return nf_fail(err, NF_EFORMAT, "state: not of this version, or not of this save");
    n = nf_le32(head + S_PLACES);
    if (nf_le64(head + S_SIZE) > b->image.inner->size || n == 0 || n > BDI_PARTITIONS_MAX)
        return nf_fail(err, NF_EFORMAT, "state: a disk that cannot be");
    b->image.img.size = nf_le64(head + S_SIZE);
    b->table_dirty = nf_le64(head + S_FLAGS) & TABLE_DIRTY;
    b->unsettled = nf_le64(head + S_FLAGS) & UNSETTLED;
    b->settle_at = nf_le64(head + S_SETTLE_IN);
    ret = shadow_check_kept(b->shadow_fd, &b->state, b->image.img.size, err);
    if (ret == 0)
        ret = disk_open_shadow(b, err);
    if (ret == 0)
        ret = undo_roll_back(b->state.undo, generation,
                             (uint8_t *const[UNDO_AREAS]){b->shadow.map, b->shadow.present},
                             (const uint64_t[UNDO_AREAS]){b->shadow.size, b->shadow.present_size},
                             err);
    if (ret < 0)
        return ret;
    b->places = calloc(n, sizeof(*b->places));
    if (!b->places)
        return nf_fail(err, NF_ENOMEM, "engine: out of memory");
    b->nplaces = n;
    b->credit = CREDIT_MAX;
    ret = resume_table(b, nf_le32(head + S_TABLE), &state, err);
    if (ret == 0)
        ret = resume_watch(b, nf_le32(head + S_WATCHED), &state, err);
    for (uint32_t i = 0; ret == 0 && i < n; i++)
        ret = resume_place(b, &b->places[i], &state, err);
    if (ret == 0 && state.len > 0)
        ret = nf_fail(err, NF_EFORMAT, "state: %zu bytes too many", state.len);
    return ret;
}
