/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/watch.h"

#include <stdlib.h>

#include "common/crc32c.h"
#include "common/error.h"

#define SECTOR 512u

void watch_release(struct watch *w)
{
    free(w->list);
    *w = (struct watch){0};
}

int watch_add(struct watch *w, const struct watched *one)
{
    if (w->n == w->room) {
        size_t room = w->room ? w->room * 2 : 64;
        struct watched *list = reallocarray(w->list, room, sizeof(*list));

        if (!list)
            return NF_ENOMEM;
        w->list = list;
        w->room = room;
    }
    w->list[w->n++] = *one;
    return 0;
}

static int by_sector(const void *a, const void *b)
{
    const struct watched *x = a, *y = b;

    return x->sector < y->sector ? -1 : x->sector > y->sector;
}

void watch_sort(struct watch *w)
{
    if (w->n)
        qsort(w->list, w->n, sizeof(*w->list), by_sector);
}

void watch_write(struct watch *w, uint64_t offset, uint64_t len, const uint8_t *data, bool known,
                 watch_fn *fn, void *opaque)
{
    static const uint8_t zeros[SECTOR];
    uint64_t first = offset / SECTOR, end = first + len / SECTOR;
    size_t lo = 0, hi = w->n;

    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;

        if (w->list[mid].sector < first)
            lo = mid + 1;
        else
            hi = mid;
    }
    for (; lo < w->n && w->list[lo].sector < end; lo++) {
        struct watched *one = &w->list[lo];
        const uint8_t *now = known && data ? data + (one->sector - first) * SECTOR : NULL;
        uint32_t crc = nf_crc32c(0, now ? now : zeros, SECTOR);

        if (known && one->known && crc == one->crc)
            continue;
        one->crc = crc;
        one->known = known;
        fn(opaque, one, now);
    }
}
