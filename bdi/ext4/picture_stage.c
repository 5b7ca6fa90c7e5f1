/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a step changes in the picture: staged, looked at from both sides, settled. */
#include "bdi/ext4/picture_private.h"

#include <stdlib.h>
#include <string.h>

#include "common/bytes.h"

#define JBD2_MAGIC_BYTES "\xc0\x3b\x39\x98"

static struct staged *stage(struct picture *p, uint64_t block, struct nf_error *err)
{
    struct staged *s = u64map_get(&p->staged, block);

    if (s)
        return s;
    s = calloc(1, sizeof(*s));
    if (!s || u64map_put(&p->staged, block, s) < 0) {
        free(s);
        nf_fail(err, NF_ENOMEM, "staging a step: out of memory");
        return NULL;
    }
    s->fsblock = block;
    return s;
}

int picture_stage_txn(struct picture *p, const struct journal_txn *txn, struct nf_error *err)
{
    for (size_t i = 0; i < txn->ntags; i++) {
        const struct journal_tag *tag = &txn->tags[i];
        struct overlay_entry *entry, *before;
        struct staged *s;

        if (tag->fsblock >= p->blocks)
            continue; /* recovery would fail on it; the caller counts oddities */
        s = stage(p, tag->fsblock, err);
        entry = s ? calloc(1, sizeof(*entry)) : NULL;
        if (!entry)
            return nf_fail(err, NF_ENOMEM, "staging transaction %u: out of memory", txn->tid);
        s->entry = entry;
        entry->fsblock = tag->fsblock;
        entry->tid = txn->tid;
        entry->log_block = tag->log_block;
        if (tag->escaped) {
            const uint8_t *raw = picture_log_block(p, tag->log_block);

            entry->plain = raw ? malloc(p->block_size) : NULL;
            if (!entry->plain)
                return nf_fail(err, NF_ENOMEM, "staging transaction %u: out of memory", txn->tid);
            memcpy(entry->plain, raw, p->block_size);
            memcpy(entry->plain, JBD2_MAGIC_BYTES, 4);
        }
        s->new = picture_entry_content(p, entry);
        if (!s->new)
            return nf_fail(err, NF_EIO, "log block %u cannot be read", tag->log_block);
        /* A change in place that the step has too is older. */
        if (s->old_copy)
            continue;
        s->old = u64map_get(&p->made, tag->fsblock);
        before = picture_overlay(p, tag->fsblock);
        if (s->old)
            continue;
        if (before)
            s->old = picture_entry_content(p, before);
        else if (picture_present(p, tag->fsblock))
            s->old = p->home + tag->fsblock * p->block_size;
    }
    for (size_t i = 0; i < txn->nrevokes; i++) {
        uint64_t block = txn->revokes[i];
        struct overlay_entry *before = picture_overlay(p, block);
        struct staged *s;
        int ret;

        if (!before || block >= p->blocks)
            continue;
        s = stage(p, block, err);
        if (!s)
            return NF_ENOMEM;
        if (s->entry)
            continue;
        s->revoked = true;
        if (!s->old_copy) {
            s->old = u64map_get(&p->made, block);
            s->old = s->old ? s->old : picture_entry_content(p, before);
        }
        ret = picture_exact(p, block, &s->new, err);
        if (ret < 0)
            return ret;
        s->unread = ret == 0;
        if (s->unread)
            s->new = s->old;
    }
    return 0;
}

int picture_stage_in_place(struct picture *p, uint64_t block, struct nf_error *err)
{
    struct staged *s;

    if (u64map_get(&p->staged, block))
        return 0; /* the oldest content is already kept */
    s = stage(p, block, err);
    if (!s)
        return err ? err->code : NF_ENOMEM;
    /* What was never read has nothing in it that was in use. */
    s->old_copy = calloc(1, p->block_size);
    if (!s->old_copy)
        return nf_fail(err, NF_ENOMEM, "staging a step: out of memory");
    s->new = p->home + block * p->block_size;
    if (picture_present(p, block))
        memcpy(s->old_copy, s->new, p->block_size);
    p->staged_bytes += p->block_size;
    s->old = s->old_copy;
    return 0;
}

struct staged *picture_stage_unchanged(struct picture *p, uint64_t block, struct nf_error *err)
{
    return picture_stage_in_place(p, block, err) < 0 ? NULL : u64map_get(&p->staged, block);
}

int picture_stage_behind(struct picture *p, uint64_t block, uint8_t *behind, struct nf_error *err)
{
    int ret = picture_stage_in_place(p, block, err);
    struct staged *s = ret == 0 ? u64map_get(&p->staged, block) : NULL;

    if (!s) {
        free(behind);
        return ret;
    }
    free(s->old_copy);
    s->old = s->old_copy = behind;
    return 0;
}

void picture_stage_mixed(struct staged *s, uint8_t *mixed)
{
    free(s->mixed);
    s->mixed = mixed;
    s->new = mixed ? mixed : s->old;
    s->waits = true;
}

/* A part of @s, or nothing, became the picture: the rest of home still waits. */
static void keep_waiting(struct picture *p, struct staged *s)
{
    if (s->mixed) {
        free(s->old_copy);
        s->old = s->old_copy = s->mixed;
        s->mixed = NULL;
    }
    s->new = p->home + s->fsblock * p->block_size;
    s->waits = false;
    p->staged_bytes += p->block_size;
}

bool picture_made(const struct picture *p, uint64_t block)
{
    return u64map_get(&p->made, block);
}

uint8_t *picture_stage_made(struct picture *p, uint64_t block, struct nf_error *err)
{
    bool seen = picture_made(p, block) || u64map_get(&p->staged, block);
    bool known = block < PICTURE_VIRTUAL || seen;
    const uint8_t *before = NULL;
    struct staged *s;

    if (seen || (known && picture_overlay(p, block)))
        before = picture_block(p, VIEW_NEW, block, err);
    else if (known)
        before = picture_before_first(p, block, err);
    if (known && !before)
        return NULL;
    s = stage(p, block, err);
    if (!s || s->made)
        return s ? s->made : NULL;
    s->made = known ? malloc(p->block_size) : calloc(1, p->block_size);
    if (!s->made) {
        nf_fail(err, NF_ENOMEM, "fast commit: out of memory");
        return NULL;
    }
    if (known)
        memcpy(s->made, before, p->block_size);
    /* What was staged first has the older content. */
    if (!s->new)
        s->old = before;
    s->new = s->made;
    return s->made;
}

int picture_stage_unmade(struct picture *p, struct nf_error *err)
{
    uint64_t block;
    size_t pos = 0;
    void *v;

    /* What the step itself was about to make. */
    while (u64map_next(&p->staged, &pos, &block, &v)) {
        struct staged *s = v;

        if (!s->made)
            continue;
        s->unmade = true;
        if (block < PICTURE_VIRTUAL)
            s->new = s->entry ? picture_entry_content(p, s->entry) : picture_committed(p, block, err);
        else if (s->old)
            s->new = s->old;
        if (!s->new)
            return NF_EIO;
    }
    pos = 0;
    while (u64map_next(&p->made, &pos, &block, &v)) {
        struct staged *s = stage(p, block, err);

        if (!s)
            return NF_ENOMEM;
        s->unmade = true;
        if (!s->old)
            s->old = v;
        /* A virtual block's end is that nobody looks at it. */
        if (!s->new)
            s->new = block < PICTURE_VIRTUAL ? picture_committed(p, block, err) : s->old;
        if (!s->new)
            return NF_EIO;
    }
    return 0;
}

int picture_settle(struct picture *p, struct nf_error *err)
{
    struct staged **waiting = NULL;
    size_t pos = 0, n = 0;
    void *v;
    int ret = 0;

    if (p->staged.used) {
        waiting = malloc(p->staged.used * sizeof(struct staged *));
        if (!waiting)
            return nf_fail(err, NF_ENOMEM, "step: out of memory");
    }
    while (u64map_next(&p->staged, &pos, NULL, &v)) {
        struct staged *s = v;

        if (s->waits) {
            waiting[n++] = s;
            continue;
        }
        if (s->entry) {
            picture_overlay_drop(p, s->fsblock);
            if (picture_overlay_add(p, s->entry) < 0)
                ret = nf_fail(err, NF_ENOMEM, "overlay: out of memory");
            else
                s->entry = NULL;
        } else if (s->revoked) {
            picture_overlay_drop(p, s->fsblock);
        }
        if (s->made || s->unmade)
            free(u64map_remove(&p->made, s->fsblock));
        if (s->made && !s->unmade) {
            if (u64map_put(&p->made, s->fsblock, s->made) < 0)
                ret = nf_fail(err, NF_ENOMEM, "fast commit: out of memory");
            else
                s->made = NULL;
        }
        picture_staged_free(s);
    }
    u64map_clear(&p->staged);
    p->staged_bytes = 0;
    for (size_t i = 0; i < n; i++) {
        keep_waiting(p, waiting[i]);
        /* The table was larger a moment ago: this cannot fail. */
        if (u64map_put(&p->staged, waiting[i]->fsblock, waiting[i]) < 0) {
            picture_staged_free(waiting[i]);
            ret = nf_fail(err, NF_ENOMEM, "step: out of memory");
        }
    }
    free(waiting);
    return ret;
}

static int by_fsblock(const void *a, const void *b)
{
    const struct overlay_entry *x = *(struct overlay_entry *const *)a;
    const struct overlay_entry *y = *(struct overlay_entry *const *)b;

    return (x->fsblock > y->fsblock) - (x->fsblock < y->fsblock);
}

static int stage_retired(struct picture *p, uint64_t block, const uint8_t *was,
                         const uint8_t *home, struct nf_error *err)
{
    struct staged *s;

    if (u64map_get(&p->staged, block))
        return 0;
    s = stage(p, block, err);
    if (!s)
        return NF_ENOMEM;
    s->old_copy = malloc(p->block_size);
    if (!s->old_copy)
        return nf_fail(err, NF_ENOMEM, "retiring the overlay: out of memory");
    memcpy(s->old_copy, was, p->block_size);
    s->old = s->old_copy;
    s->new = home;
    return 0;
}

static int retire(struct picture *p, const struct overlay_entry *e, enum retiring what,
                  const struct retire_ops *ops, struct nf_error *err)
{
    const uint8_t *was = picture_entry_content(p, e), *home;
    int ret;

    if (!was || e->home_written || picture_made(p, e->fsblock) || what == RETIRE_FORGET)
        return 0;
    ret = picture_exact(p, e->fsblock, &home, err);
    /* What is home by now may be yet to come. Until it does, it is what was said. */
    if (ret == 0 && what == RETIRE_STAGE)
        return picture_write_home(p, e->fsblock, 0, p->block_size, was, err);
    if (ret <= 0)
        return ret;
    if (memcmp(home, was, p->block_size) == 0)
        return 0;
    if (what == RETIRE_STAGE)
        return stage_retired(p, e->fsblock, was, home, err);
    return ops->data(ops->opaque, e->fsblock, was, home, err);
}

int picture_retire(struct picture *p, uint32_t tid, bool all, const struct retire_ops *ops,
                   struct nf_error *err)
{
    struct overlay_entry **data = NULL;
    size_t n = 0, cap = 0;
    int ret = 0;

    for (struct overlay_entry *e = p->oldest, *newer; e; e = newer) {
        enum retiring what;

        newer = e->newer;
        if (!all && (int32_t)(e->tid - tid) >= 0) {
            if (!p->unordered)
                break;
            continue;
        }
        what = ret == 0 ? ops->what(ops->opaque, e->fsblock) : RETIRE_FORGET;
        if (what == RETIRE_DATA && !e->home_written) {
            if (n == cap) {
                struct overlay_entry **bigger;

                cap = cap ? cap * 2 : 16;
                bigger = reallocarray(data, cap, sizeof(*data));
                if (!bigger) {
                    ret = nf_fail(err, NF_ENOMEM, "retiring the overlay: out of memory");
                    break;
                }
                data = bigger;
            }
            data[n++] = e;
            continue;
        }
        if (ret == 0)
            ret = retire(p, e, what, ops, err);
        picture_overlay_drop(p, e->fsblock);
    }
    /* These become events, in the same order every time. */
    if (n)
        qsort(data, n, sizeof(*data), by_fsblock);
    for (size_t i = 0; i < n; i++) {
        if (ret == 0)
            ret = retire(p, data[i], RETIRE_DATA, ops, err);
        picture_overlay_drop(p, data[i]->fsblock);
    }
    free(data);
    return ret;
}
