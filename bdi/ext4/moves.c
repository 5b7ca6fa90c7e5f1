/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/moves.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "common/error.h"

struct list {
    struct move *v;
    size_t n, cap;
};

static int append(struct list *l, struct move m)
{
    if (l->n == l->cap) {
        size_t cap = l->cap ? l->cap * 2 : 16;
        struct move *bigger = reallocarray(l->v, cap, sizeof(*bigger));

        if (!bigger)
            return NF_ENOMEM;
        l->v = bigger;
        l->cap = cap;
    }
    l->v[l->n++] = m;
    return 0;
}

/* Is there old data that is no longer where it was? Without that (appending,
 * filling holes) nothing can have moved. */
static bool anything_left(const struct block_map *old_map, const struct block_map *new_map)
{
    size_t j = 0;

    for (size_t i = 0; i < old_map->n; i++) {
        const struct map_extent *o = &old_map->ext[i];
        uint32_t pos = o->lblk, end = o->lblk + o->len;

        while (!o->unwritten && pos < end) {
            const struct map_extent *n;

            while (j < new_map->n && new_map->ext[j].lblk + new_map->ext[j].len <= pos)
                j++;
            n = j < new_map->n ? &new_map->ext[j] : NULL;
            if (!n || n->lblk > pos || n->unwritten ||
                n->pblk + (pos - n->lblk) != o->pblk + (pos - o->lblk))
                return true;
            pos = n->lblk + n->len;
        }
    }
    return false;
}

static int by_place(const void *a, const void *b)
{
    const struct map_extent *x = *(const struct map_extent *const *)a;
    const struct map_extent *y = *(const struct map_extent *const *)b;

    return (x->pblk > y->pblk) - (x->pblk < y->pblk);
}

/* First of @sorted that ends behind @pblk. */
static size_t first_behind(const struct map_extent *const *sorted, size_t n, uint64_t pblk)
{
    size_t lo = 0, hi = n;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (sorted[mid]->pblk + sorted[mid]->len <= pblk)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* Where each run of the new map was in the old one, in the order of the new map
 * and not against that of the old. */
static int pair_runs(const struct block_map *old_map, const struct block_map *new_map,
                     struct list *out)
{
    const struct map_extent **sorted = calloc(old_map->n, sizeof(*sorted));
    size_t n = 0;
    uint64_t kept_to = 0; /* end of the last run kept, in the old map */
    int ret = 0;

    if (!sorted)
        return NF_ENOMEM;
    for (size_t i = 0; i < old_map->n; i++) {
        if (!old_map->ext[i].unwritten)
            sorted[n++] = &old_map->ext[i];
    }
    qsort(sorted, n, sizeof(*sorted), by_place);
    /* Blocks that a file claims twice are damage: nothing can be said of them. */
    for (size_t i = 1; i < n; i++) {
        if (sorted[i]->pblk < sorted[i - 1]->pblk + sorted[i - 1]->len)
            n = 0;
    }
    for (size_t i = 0; ret == 0 && i < new_map->n; i++) {
        const struct map_extent *e = &new_map->ext[i];
        uint64_t end = e->pblk + e->len;

        if (e->unwritten)
            continue;
        for (size_t k = first_behind(sorted, n, e->pblk);
             ret == 0 && k < n && sorted[k]->pblk < end; k++) {
            const struct map_extent *o = sorted[k];
            uint64_t lo = o->pblk > e->pblk ? o->pblk : e->pblk;
            uint64_t hi = o->pblk + o->len < end ? o->pblk + o->len : end;
            struct move m = {(uint32_t)(o->lblk + (lo - o->pblk)),
                             (uint32_t)(e->lblk + (lo - e->pblk)), (uint32_t)(hi - lo)};

            if (m.from < kept_to)
                continue;
            kept_to = (uint64_t)m.from + m.len;
            ret = append(out, m);
        }
    }
    free(sorted);
    return ret;
}

/* Does [lblk, +len) read as zeros? */
static bool no_data(const struct block_map *map, uint64_t lblk, uint64_t len)
{
    uint64_t end = lblk + len;

    while (lblk < end) {
        uint32_t hole_end;
        const struct map_extent *e = block_map_find(map, (uint32_t)lblk, &hole_end);

        if (e && !e->unwritten)
            return false;
        lblk = e ? (uint64_t)e->lblk + e->len : hole_end;
    }
    return true;
}

static int64_t shift(const struct move *m)
{
    return (int64_t)m->to - (int64_t)m->from;
}

/* Runs that moved equally far with nothing but zeros between move as one; runs
 * that did not move are dropped. */
static void merge(const struct block_map *old_map, const struct block_map *new_map, struct list *l)
{
    size_t kept = 0;

    for (size_t i = 0; i < l->n; i++) {
        struct move *last = kept ? &l->v[kept - 1] : NULL;
        struct move m = l->v[i];

        if (shift(&m) == 0)
            continue;
        if (last && shift(last) == shift(&m)) {
            uint32_t old_end = last->from + last->len, new_end = last->to + last->len;

            if (no_data(old_map, old_end, m.from - old_end) &&
                no_data(new_map, new_end, m.to - new_end)) {
                last->len = m.from + m.len - last->from;
                continue;
            }
        }
        l->v[kept++] = m;
    }
    l->n = kept;
}

static int add(struct block_map *m, size_t *cap, struct map_extent e)
{
    if (m->n == *cap) {
        size_t more = *cap ? *cap * 2 : 16;
        struct map_extent *bigger = reallocarray(m->ext, more, sizeof(*bigger));

        if (!bigger)
            return NF_ENOMEM;
        m->ext = bigger;
        *cap = more;
    }
    m->ext[m->n++] = e;
    return 0;
}

/* The parts of @map in [lo, hi), moved by @by. */
static int add_part(struct block_map *out, size_t *cap, const struct block_map *map, uint64_t lo,
                    uint64_t hi, int64_t by)
{
    while (lo < hi) {
        uint32_t hole_end;
        const struct map_extent *e = block_map_find(map, (uint32_t)lo, &hole_end);
        uint64_t end = e ? (uint64_t)e->lblk + e->len : hole_end;

        end = end < hi ? end : hi;
        if (e) {
            struct map_extent part = {(uint32_t)((int64_t)lo + by), (uint32_t)(end - lo),
                                      e->pblk + (lo - e->lblk), e->unwritten};

            if (add(out, cap, part) < 0)
                return NF_ENOMEM;
        }
        lo = end;
    }
    return 0;
}

/* @list is by its places in the new map. */
static int carry_out(const struct block_map *old_map, const struct list *l, struct block_map *after)
{
    uint64_t pos = 0;
    size_t cap = 0;
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < l->n; i++) {
        const struct move *m = &l->v[i];

        ret = add_part(after, &cap, old_map, pos, m->to, 0);
        if (ret == 0)
            ret = add_part(after, &cap, old_map, m->from, (uint64_t)m->from + m->len, shift(m));
        pos = (uint64_t)m->to + m->len;
    }
    return ret < 0 ? ret : add_part(after, &cap, old_map, pos, UINT32_MAX, 0);
}

/* Downwards from the first on, upwards from the last on. As the runs keep their
 * order, none that moves down meets one that moves up. */
static int put_in_order(struct list *l, struct moves *out)
{
    out->list = calloc(l->n, sizeof(*out->list));
    if (!out->list)
        return NF_ENOMEM;
    for (size_t i = 0; i < l->n; i++) {
        if (shift(&l->v[i]) < 0)
            out->list[out->n++] = l->v[i];
    }
    for (size_t i = l->n; i > 0; i--) {
        if (shift(&l->v[i - 1]) > 0)
            out->list[out->n++] = l->v[i - 1];
    }
    return 0;
}

int moves_find(const struct block_map *old_map, const struct block_map *new_map,
               struct moves *out)
{
    struct list l = {0};
    int ret = 0;

    memset(out, 0, sizeof(*out));
    if (!old_map->n || !new_map->n || !anything_left(old_map, new_map))
        return 0;
    ret = pair_runs(old_map, new_map, &l);
    if (ret == 0)
        merge(old_map, new_map, &l);
    if (ret == 0 && l.n) {
        ret = carry_out(old_map, &l, &out->after);
        if (ret == 0)
            ret = put_in_order(&l, out);
    }
    free(l.v);
    return ret;
}

void moves_release(struct moves *m)
{
    free(m->list);
    block_map_release(&m->after);
    memset(m, 0, sizeof(*m));
}
