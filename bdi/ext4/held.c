/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/held.h"

#include <stdlib.h>
#include <string.h>

#include "bdi/u64map.h"

#define PAGE 4096u
#define SECTOR 512u
#define PAGE_SECTORS (PAGE / SECTOR)

/* What one entry costs besides its bytes: itself and its share of the map. */
#define ENTRY_COST (sizeof(struct held_page) + 2 * sizeof(struct u64map_slot))

struct held_page {
    uint64_t index;
    uint8_t known; /* a bit per sector: its content is known */
    uint8_t zero;  /* a bit per known sector: it reads as zeros */
    uint8_t *data; /* PAGE bytes, or null while every known sector is zero */
    struct held_page *older, *newer; /* in order of last write */
};

struct held {
    struct u64map pages;
    struct held_page *oldest, *newest;
    size_t used, limit;
};

struct held *held_new(size_t limit)
{
    struct held *h = calloc(1, sizeof(*h));

    if (!h)
        return NULL;
    u64map_init(&h->pages);
    h->limit = limit;
    return h;
}

static void unlink_page(struct held *h, struct held_page *p)
{
    *(p->older ? &p->older->newer : &h->oldest) = p->newer;
    *(p->newer ? &p->newer->older : &h->newest) = p->older;
    p->older = p->newer = NULL;
}

static void link_newest(struct held *h, struct held_page *p)
{
    p->older = h->newest;
    p->newer = NULL;
    *(h->newest ? &h->newest->newer : &h->oldest) = p;
    h->newest = p;
}

static void drop_page(struct held *h, struct held_page *p)
{
    u64map_remove(&h->pages, p->index);
    unlink_page(h, p);
    h->used -= ENTRY_COST + (p->data ? PAGE : 0);
    free(p->data);
    free(p);
}

void held_free(struct held *h)
{
    if (!h)
        return;
    while (h->oldest)
        drop_page(h, h->oldest);
    u64map_release(&h->pages);
    free(h);
}

/* Room for @bytes more, at the cost of the oldest pages but never of @keep. */
static bool make_room(struct held *h, size_t bytes, const struct held_page *keep)
{
    while (h->limit - h->used < bytes) {
        struct held_page *victim = h->oldest == keep && keep ? keep->newer : h->oldest;

        if (!victim)
            return false;
        drop_page(h, victim);
    }
    return true;
}

static struct held_page *make_page(struct held *h, uint64_t index)
{
    struct held_page *p = u64map_get(&h->pages, index);

    if (p) {
        unlink_page(h, p);
        link_newest(h, p);
        return p;
    }
    if (h->limit < ENTRY_COST || !make_room(h, ENTRY_COST, NULL))
        return NULL;
    p = calloc(1, sizeof(*p));
    if (!p || u64map_put(&h->pages, index, p) < 0) {
        free(p);
        return NULL;
    }
    p->index = index;
    h->used += ENTRY_COST;
    link_newest(h, p);
    return p;
}

/* Sectors [first, first + n) of a page as bits. */
static uint8_t mask_of(uint32_t first, uint32_t n)
{
    return (uint8_t)(((1u << n) - 1) << first);
}

static void write_page(struct held *h, uint64_t index, uint32_t first, uint32_t n,
                       const uint8_t *data)
{
    struct held_page *p = make_page(h, index);
    uint8_t mask = mask_of(first, n);

    if (!p)
        return;
    if (data && !p->data) {
        if (h->limit < ENTRY_COST + PAGE || !make_room(h, PAGE, p) ||
            !(p->data = malloc(PAGE))) {
            /* Without memory the new content is forgotten, not the old kept. */
            p->known &= (uint8_t)~mask;
            if (!p->known)
                drop_page(h, p);
            return;
        }
        h->used += PAGE;
    }
    p->known |= mask;
    if (data) {
        p->zero &= (uint8_t)~mask;
        memcpy(p->data + first * SECTOR, data, n * SECTOR);
    } else {
        p->zero |= mask;
        if (p->data && p->zero == p->known) {
            free(p->data);
            p->data = NULL;
            h->used -= PAGE;
        }
    }
}

void held_write(struct held *h, uint64_t offset, uint64_t length, const uint8_t *data)
{
    uint64_t end = offset + length;
    uint64_t fits = h->limit / (ENTRY_COST + (data ? PAGE : 0)) * PAGE;

    /* Pages that the end of this very range would push out are not made. */
    if (length > fits) {
        uint64_t skip = (length - fits + PAGE - 1) / PAGE * PAGE;

        skip = skip < length ? skip : length;
        held_forget(h, offset, skip);
        offset += skip;
        data = data ? data + skip : NULL;
    }
    while (offset < end) {
        uint32_t first = (uint32_t)(offset % PAGE / SECTOR);
        uint64_t n = PAGE_SECTORS - first;

        n = n < (end - offset) / SECTOR ? n : (end - offset) / SECTOR;
        if (!n)
            return;
        write_page(h, offset / PAGE, first, (uint32_t)n, data);
        offset += n * SECTOR;
        data = data ? data + n * SECTOR : NULL;
    }
}

static void forget_sectors(struct held *h, struct held_page *p, uint8_t mask)
{
    p->known &= (uint8_t)~mask;
    p->zero &= (uint8_t)~mask;
    if (!p->known)
        drop_page(h, p);
}

/* The bits of page @index that lie in [offset, end), outward to whole sectors. */
static uint8_t mask_within(uint64_t index, uint64_t offset, uint64_t end)
{
    uint64_t lo = index * PAGE > offset ? index * PAGE : offset;
    uint64_t hi = (index + 1) * PAGE < end ? (index + 1) * PAGE : end;
    uint32_t first = (uint32_t)(lo % PAGE / SECTOR);
    uint32_t last = (uint32_t)((hi - index * PAGE + SECTOR - 1) / SECTOR);

    return lo < hi ? mask_of(first, last - first) : 0;
}

void held_forget(struct held *h, uint64_t offset, uint64_t length)
{
    uint64_t end = offset + length;
    uint64_t pages = length / PAGE + 2;

    if (!length || !h->pages.used)
        return;
    if (pages > h->pages.used) {
        /* A huge range: look at what is cached instead. */
        struct held_page *p = h->oldest;

        while (p) {
            struct held_page *next = p->newer;

            if (p->index >= offset / PAGE && p->index * PAGE < end)
                forget_sectors(h, p, mask_within(p->index, offset, end));
            p = next;
        }
        return;
    }
    for (uint64_t index = offset / PAGE; index * PAGE < end; index++) {
        struct held_page *p = u64map_get(&h->pages, index);

        if (p)
            forget_sectors(h, p, mask_within(index, offset, end));
    }
}

static enum held_state sector_state(const struct held_page *p, uint32_t sector)
{
    if (!p || !(p->known >> sector & 1))
        return HELD_UNKNOWN;
    return p->zero >> sector & 1 ? HELD_ZERO : HELD_BYTES;
}

void held_lookup(struct held *h, uint64_t offset, uint64_t length, struct held_run *out)
{
    uint64_t end = offset + length, pos = offset;
    const struct held_page *p = u64map_get(&h->pages, offset / PAGE);
    enum held_state state = sector_state(p, (uint32_t)(offset % PAGE / SECTOR));

    out->state = state;
    out->offset = offset;
    out->data = state == HELD_BYTES ? p->data + offset % PAGE : NULL;
    if (state == HELD_UNKNOWN && !h->pages.used) {
        out->length = length;
        return;
    }
    while (pos < end && sector_state(p, (uint32_t)(pos % PAGE / SECTOR)) == state) {
        pos += SECTOR - pos % SECTOR;
        if (pos % PAGE == 0) {
            if (state == HELD_BYTES || pos >= end)
                break;
            p = u64map_get(&h->pages, pos / PAGE);
        }
    }
    out->length = (pos < end ? pos : end) - offset;
}

uint64_t held_bytes(const struct held *h)
{
    return h->used;
}
