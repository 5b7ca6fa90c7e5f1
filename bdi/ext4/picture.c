/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/picture_private.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"

#define FETCH_BYTES (1u << 20)

int picture_init(struct picture *p, const struct fs_context *ctx, uint32_t block_size,
                 uint64_t blocks, struct nf_error *err)
{
    memset(p, 0, sizeof(*p));
    u64map_init(&p->overlay);
    u64map_init(&p->staged);
    u64map_init(&p->made);
    p->ctx = ctx;
    p->block_size = block_size;
    p->home = ctx->shadow->map + ctx->offset;
    if (picture_grow(p, blocks) < 0)
        return nf_fail(err, NF_ENOMEM, "picture of %llu blocks: out of memory",
                       (unsigned long long)blocks);
    return 0;
}

int picture_grow(struct picture *p, uint64_t blocks)
{
    /* The shadow maps the disk: nothing beyond it can be addressed. */
    if (blocks > p->ctx->size / p->block_size)
        return NF_EFORMAT;
    p->blocks = blocks;
    return 0;
}

/* @at, where it points into the map that began at @from, in the one at @to. */
static const uint8_t *moved_to(const uint8_t *at, const uint8_t *from, const uint8_t *to,
                               uint64_t len)
{
    uintptr_t off = (uintptr_t)at - (uintptr_t)from;

    return at && off < len ? to + off : at;
}

void picture_remap(struct picture *p)
{
    const uint8_t *from = p->home;
    uint64_t len = p->blocks * p->block_size;
    size_t pos = 0;
    void *v;

    p->home = p->ctx->shadow->map + p->ctx->offset;
    if (p->home == from)
        return;
    while (u64map_next(&p->staged, &pos, NULL, &v)) {
        struct staged *s = v;

        s->old = moved_to(s->old, from, p->home, len);
        s->new = moved_to(s->new, from, p->home, len);
    }
}

static void entry_free(struct overlay_entry *e)
{
    if (e) {
        free(e->plain);
        free(e);
    }
}

void picture_staged_free(struct staged *s)
{
    free(s->old_copy);
    free(s->mixed);
    free(s->made);
    entry_free(s->entry);
    free(s);
}

void picture_drop_staged(struct picture *p)
{
    size_t pos = 0;
    void *v;

    while (u64map_next(&p->staged, &pos, NULL, &v))
        picture_staged_free(v);
    u64map_release(&p->staged);
    u64map_init(&p->staged);
    p->staged_bytes = 0;
}

void picture_drop_overlay(struct picture *p)
{
    size_t pos = 0;
    void *v;

    picture_drop_staged(p);
    while (u64map_next(&p->overlay, &pos, NULL, &v))
        entry_free(v);
    pos = 0;
    while (u64map_next(&p->made, &pos, NULL, &v))
        free(v);
    u64map_release(&p->overlay);
    u64map_release(&p->made);
    u64map_init(&p->overlay);
    u64map_init(&p->made);
    p->oldest = p->newest = NULL;
    p->unordered = false;
    free(p->log);
    p->log = NULL;
    p->nlog = p->log_blocks = 0;
}

void picture_release(struct picture *p)
{
    picture_drop_overlay(p);
    memset(p, 0, sizeof(*p));
}

static uint64_t disk_offset(const struct picture *p, uint64_t block)
{
    return p->ctx->offset + block * p->block_size;
}

bool picture_present(const struct picture *p, uint64_t block)
{
    return block < p->blocks && shadow_present(p->ctx->shadow, disk_offset(p, block));
}

void picture_forget(struct picture *p, uint64_t first, uint64_t count)
{
    uint64_t end = p->ctx->size / p->block_size;

    end = first < end && count < end - first ? first + count : end;
    if (first < end)
        shadow_forget(p->ctx->shadow, disk_offset(p, first), (end - first) * p->block_size);
}

int picture_follow(struct picture *p, uint64_t offset, uint64_t len, const uint8_t *data,
                   struct nf_error *err)
{
    uint32_t bs = p->block_size;
    int ret = 0;

    while (ret == 0 && len && offset / bs < p->blocks) {
        uint64_t block = offset / bs;
        uint32_t in = (uint32_t)(offset % bs);
        uint64_t n = bs - in;

        n = n < len ? n : len;
        if (picture_present(p, block))
            ret = picture_write_home(p, block, in, (uint32_t)n, data, err);
        offset += n;
        len -= n;
        data = data ? data + n : NULL;
    }
    return ret;
}

int picture_drop_home(struct picture *p, uint64_t block, struct nf_error *err)
{
    if (!picture_present(p, block))
        return 0;
    return shadow_drop(p->ctx->shadow, disk_offset(p, block), p->block_size, err);
}

/* Bytes seen written before anybody knew that they are metadata are exactly those
 * of this moment; the image's may be newer. */
static bool from_held(struct picture *p, uint64_t offset, uint8_t *to)
{
    uint32_t done = 0;

    while (p->ctx->held && done < p->block_size) {
        struct held_run run;

        held_lookup(p->ctx->held, offset + done, p->block_size - done, &run);
        if (run.state == HELD_UNKNOWN)
            return false;
        if (run.state == HELD_BYTES)
            memcpy(to + done, run.data, run.length);
        else
            memset(to + done, 0, run.length);
        done += (uint32_t)run.length;
    }
    return done == p->block_size;
}

/* Read one block of the image into its place. Null without @err: it may be newer
 * than the stream's position, and @exact was asked for. */
static const uint8_t *fetch(struct picture *p, uint64_t block, bool exact, struct nf_error *err)
{
    uint8_t *at = p->home + block * p->block_size;
    struct nf_error failure = {0};
    int ret;

    ret = shadow_touch(p->ctx->shadow, disk_offset(p, block), p->block_size, &failure);
    if (ret == 0 && !from_held(p, disk_offset(p, block), at)) {
        ret = p->ctx->img->read(p->ctx->img, disk_offset(p, block), at, p->block_size, &failure);
        p->ctx->emitter->status.fetched++;
    }
    if (ret < 0) {
        p->failure = failure;
        nf_fail(err, failure.code, "%s", failure.text);
        return NULL;
    }
    if (ret > 0 && exact)
        return NULL;
    if (ret > 0 && p->attaching) {
        p->moved = true;
        return at;
    }
    if (ret > 0)
        p->ctx->emitter->status.unsettled++;
    if (shadow_set_present(p->ctx->shadow, disk_offset(p, block), &failure) < 0) {
        p->failure = failure;
        nf_fail(err, failure.code, "%s", failure.text);
        return NULL;
    }
    return at;
}

const uint8_t *picture_home(struct picture *p, uint64_t block, struct nf_error *err)
{
    if (block >= p->blocks) {
        nf_fail(err, NF_EFORMAT, "block %llu is beyond the file system's end",
                (unsigned long long)block);
        return NULL;
    }
    if (picture_present(p, block))
        return p->home + block * p->block_size;
    return fetch(p, block, false, err);
}

int picture_exact(struct picture *p, uint64_t block, const uint8_t **home, struct nf_error *err)
{
    struct nf_error failure = {0};

    if (block >= p->blocks)
        return nf_fail(err, NF_EFORMAT, "block %llu is beyond the file system's end",
                       (unsigned long long)block);
    *home = p->home + block * p->block_size;
    if (picture_present(p, block))
        return 1;
    *home = fetch(p, block, true, &failure);
    if (failure.code < 0)
        return nf_fail(err, failure.code, "%s", failure.text);
    return *home != NULL;
}

void picture_prefetch(struct picture *p, uint64_t block, uint64_t n)
{
    uint64_t end = block < p->blocks && n < p->blocks - block ? block + n : p->blocks;
    uint64_t most = FETCH_BYTES / p->block_size;

    if (!p->fetch_buf)
        p->fetch_buf = malloc(FETCH_BYTES);
    while (p->fetch_buf && block < end) {
        uint64_t run = 0, at = disk_offset(p, block);
        struct nf_error ignored;
        size_t len;
        int ret;

        if (picture_present(p, block)) {
            block++;
            continue;
        }
        while (run < most && block + run < end && !picture_present(p, block + run))
            run++;
        len = (size_t)run * p->block_size;
        block += run;
        ret = p->ctx->img->read(p->ctx->img, at, p->fetch_buf, len, &ignored);
        /* Some of it may have moved on: block by block, then, and only what is needed. */
        if (ret > 0)
            continue;
        if (ret < 0 || shadow_fill(p->ctx->shadow, at, p->fetch_buf, len, p->block_size,
                                   &ignored) < 0)
            return;
        p->ctx->emitter->status.fetched += run;
    }
}

void picture_prefetched(struct picture *p)
{
    free(p->fetch_buf);
    p->fetch_buf = NULL;
}

bool picture_log_map(const struct picture *p, uint32_t lblk, uint64_t *pblk)
{
    size_t lo = 0, hi = p->nlog;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (lblk < p->log[mid].lblk)
            hi = mid;
        else if (lblk - p->log[mid].lblk >= p->log[mid].len)
            lo = mid + 1;
        else {
            *pblk = p->log[mid].pblk + (lblk - p->log[mid].lblk);
            return true;
        }
    }
    return false;
}

const uint8_t *picture_log_block(void *picture, uint32_t lblk)
{
    struct picture *p = picture;
    const uint8_t *home;
    uint64_t pblk;

    if (!picture_log_map(p, lblk, &pblk))
        return NULL;
    if (p->attaching && !p->resuming)
        return picture_home(p, pblk, NULL);
    /* What the log has there now belongs to transactions that are to come. */
    return picture_exact(p, pblk, &home, NULL) > 0 ? home : NULL;
}

const uint8_t *picture_entry_content(struct picture *p, const struct overlay_entry *e)
{
    return e->plain ? e->plain : picture_log_block(p, e->log_block);
}

struct overlay_entry *picture_overlay(const struct picture *p, uint64_t block)
{
    return u64map_get(&p->overlay, block);
}

bool picture_is_home(struct picture *p, const struct overlay_entry *e)
{
    const uint8_t *home = picture_present(p, e->fsblock)
                              ? p->home + e->fsblock * p->block_size : NULL;
    const uint8_t *copy = picture_entry_content(p, e);

    return home && copy && memcmp(home, copy, p->block_size) == 0;
}

const uint8_t *picture_committed(struct picture *p, uint64_t block, struct nf_error *err)
{
    struct overlay_entry *e = picture_overlay(p, block);
    const uint8_t *content;

    if (!e)
        return picture_home(p, block, err);
    content = picture_entry_content(p, e);
    if (!content)
        nf_fail(err, NF_EIO, "log block %u cannot be read", e->log_block);
    return content;
}

int picture_overlay_add(struct picture *p, struct overlay_entry *e)
{
    if (u64map_put(&p->overlay, e->fsblock, e) < 0)
        return NF_ENOMEM;
    /* Only a log that was begun anew in an odd way goes back. */
    if (p->newest && (int32_t)(e->tid - p->newest->tid) < 0)
        p->unordered = true;
    e->older = p->newest;
    e->newer = NULL;
    *(p->newest ? &p->newest->newer : &p->oldest) = e;
    p->newest = e;
    return 0;
}

void picture_overlay_drop(struct picture *p, uint64_t block)
{
    struct overlay_entry *e = u64map_remove(&p->overlay, block);

    if (!e)
        return;
    *(e->older ? &e->older->newer : &p->oldest) = e->newer;
    *(e->newer ? &e->newer->older : &p->newest) = e->older;
    if (!p->oldest)
        p->unordered = false;
    entry_free(e);
}

const uint8_t *picture_before_first(struct picture *p, uint64_t block, struct nf_error *err)
{
    static const uint8_t nothing[65536];
    const uint8_t *home;
    int ret = picture_exact(p, block, &home, err);

    return ret == 0 ? nothing : home;
}

void picture_stand_still(struct picture *p)
{
    memset(p->found, 0, sizeof(p->found));
    p->still = true;
}

void picture_move_on(struct picture *p)
{
    p->still = false;
}

static const uint8_t *find_block(struct picture *p, enum view view, uint64_t block,
                                 struct nf_error *err)
{
    struct staged *s = u64map_get(&p->staged, block);
    const uint8_t *made;

    if (s && view == VIEW_NEW)
        return s->new;
    if (s && s->old)
        return s->old;
    made = u64map_get(&p->made, block);
    if (made)
        return made;
    return s ? picture_before_first(p, block, err) : picture_committed(p, block, err);
}

const uint8_t *picture_block(struct picture *p, enum view view, uint64_t block,
                             struct nf_error *err)
{
    struct picture_found *f = &p->found[view][block % (sizeof(p->found[0]) / sizeof(p->found[0][0]))];

    if (!p->still)
        return find_block(p, view, block, err);
    if (!f->data || f->block != block)
        *f = (struct picture_found){block, find_block(p, view, block, err)};
    return f->data;
}

int picture_write_home(struct picture *p, uint64_t block, uint32_t offset, uint32_t len,
                       const uint8_t *data, struct nf_error *err)
{
    const uint8_t *home;
    uint8_t *at;
    int ret;

    if (block >= p->blocks || offset > p->block_size || len > p->block_size - offset)
        return nf_fail(err, NF_EINVAL, "write beyond block %llu", (unsigned long long)block);
    at = p->home + block * p->block_size;
    /* A part needs the rest. If that cannot be had the block stays unread: whenever
     * it is read, this is in it. */
    ret = len < p->block_size ? picture_exact(p, block, &home, err) : 1;
    if (ret <= 0)
        return ret;
    ret = shadow_touch(p->ctx->shadow, disk_offset(p, block), p->block_size, err);
    if (ret < 0)
        return ret;
    if (data)
        memcpy(at + offset, data, len);
    else
        memset(at + offset, 0, len);
    return shadow_set_present(p->ctx->shadow, disk_offset(p, block), err);
}

/* For each staged block its number and old content; one whose old side is not
 * known never is staged in place. */
int picture_save(const struct picture *p, struct nf_buffer *out, struct nf_error *err)
{
    uint8_t number[8];
    size_t pos = 0;
    void *v;

    while (u64map_next(&p->staged, &pos, NULL, &v)) {
        const struct staged *s = v;

        nf_put_le64(number, s->fsblock);
        if (nf_buffer_append(out, number, sizeof(number)) < 0 ||
            nf_buffer_append(out, s->old, p->block_size) < 0)
            return nf_fail(err, NF_ENOMEM, "state: out of memory");
    }
    return 0;
}

int picture_load(struct picture *p, struct nf_bytes state, struct nf_error *err)
{
    size_t each = 8 + (size_t)p->block_size, pos = 0;
    void *v;

    if (state.len % each)
        return nf_fail(err, NF_EFORMAT, "state: ext4: %zu bytes of staged blocks", state.len);
    for (size_t at = 0; at < state.len; at += each) {
        uint64_t block = nf_le64(state.data + at);
        struct staged *s;
        int ret;

        if (block >= p->blocks)
            return nf_fail(err, NF_EFORMAT, "state: ext4: staged block %llu",
                           (unsigned long long)block);
        ret = picture_stage_in_place(p, block, err);
        if (ret < 0)
            return ret;
        s = u64map_get(&p->staged, block);
        memcpy(s->old_copy, state.data + at + 8, p->block_size);
    }
    /* A copy in the log that is home already need not be read back when it goes. */
    while (u64map_next(&p->overlay, &pos, NULL, &v)) {
        struct overlay_entry *e = v;
        const uint8_t *copy = picture_entry_content(p, e);

        e->home_written = copy && picture_present(p, e->fsblock) &&
                          memcmp(p->home + e->fsblock * p->block_size, copy, p->block_size) == 0;
    }
    return 0;
}
