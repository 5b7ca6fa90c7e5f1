/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/held.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "common/bytes.h"

#define SECTOR 512u
#define PAGE 4096u
#define LEAF_PAGES 64u
#define LEAF_BYTES ((uint64_t)LEAF_PAGES * PAGE)
#define ALLOC_OVERHEAD 16u /* what malloc adds to a piece of memory */

/*
 * 64 pages in a row. Leaves are kept in a treap by key, so that the next known
 * place after any other is found at once, however far it is, and in a list by
 * the time of their last write.
 */
struct leaf {
    uint64_t key; /* offset / LEAF_BYTES */
    struct leaf *left, *right;
    struct leaf *newer, *older;
    uint64_t present;          /* bit per page: known[page] != 0 */
    uint8_t known[LEAF_PAGES]; /* bit per sector */
    uint8_t *buf[LEAF_PAGES];  /* PAGE bytes, where known; null: known to be zeros */
};

#define LEAF_COST (sizeof(struct leaf) + ALLOC_OVERHEAD)
#define PAGE_COST (PAGE + ALLOC_OVERHEAD)
#define SPARE_MAX 1024u /* pages */

/* A page that is not in use: each commit gives up what came before it, and as much
 * comes before the next one. */
struct spare {
    struct spare *next;
};

struct held {
    struct leaf *root;
    struct leaf *newest, *oldest;
    struct leaf *last; /* found last: writes and look-ups come in rows */
    uint64_t bytes, limit; /* bytes: without the spare pages; limit: with them */
    struct spare *spares;
    size_t nspares;
    uint64_t seed; /* the guest chooses keys, but not the shape of the treap */
};

static uint64_t priority(const struct held *h, uint64_t key)
{
    uint64_t x = key ^ h->seed;

    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

/* The leaf with the smallest key >= @key, or null. */
static struct leaf *leaf_from(struct held *h, uint64_t key)
{
    struct leaf *best = NULL;

    if (h->last && h->last->key == key)
        return h->last;
    for (struct leaf *l = h->root; l;) {
        if (l->key == key) {
            h->last = l;
            return l;
        }
        if (l->key > key) {
            best = l;
            l = l->left;
        } else {
            l = l->right;
        }
    }
    return best;
}

static struct leaf *leaf_find(struct held *h, uint64_t key)
{
    struct leaf *l = leaf_from(h, key);

    return l && l->key == key ? l : NULL;
}

/* Cut the tree @l into keys below and above @key, which is not in it. */
static void split(struct leaf *l, uint64_t key, struct leaf **below, struct leaf **above)
{
    while (l) {
        if (l->key < key) {
            *below = l;
            below = &l->right;
            l = l->right;
        } else {
            *above = l;
            above = &l->left;
            l = l->left;
        }
    }
    *below = NULL;
    *above = NULL;
}

static void tree_insert(struct held *h, struct leaf *l)
{
    struct leaf **at = &h->root;
    uint64_t prio = priority(h, l->key);

    while (*at && priority(h, (*at)->key) >= prio)
        at = l->key < (*at)->key ? &(*at)->left : &(*at)->right;
    split(*at, l->key, &l->left, &l->right);
    *at = l;
}

static void tree_remove(struct held *h, struct leaf *l)
{
    struct leaf **at = &h->root;
    struct leaf *a = l->left, *b = l->right;

    while (*at != l)
        at = l->key < (*at)->key ? &(*at)->left : &(*at)->right;
    while (a && b) {
        if (priority(h, a->key) >= priority(h, b->key)) {
            *at = a;
            at = &a->right;
            a = a->right;
        } else {
            *at = b;
            at = &b->left;
            b = b->left;
        }
    }
    *at = a ? a : b;
}

static void list_remove(struct held *h, struct leaf *l)
{
    *(l->newer ? &l->newer->older : &h->newest) = l->older;
    *(l->older ? &l->older->newer : &h->oldest) = l->newer;
}

static void list_push(struct held *h, struct leaf *l)
{
    l->newer = NULL;
    l->older = h->newest;
    *(h->newest ? &h->newest->newer : &h->oldest) = l;
    h->newest = l;
}

static void page_drop_buf(struct held *h, struct leaf *l, unsigned page)
{
    if (!l->buf[page])
        return;
    if (h->nspares < SPARE_MAX) {
        struct spare *s = (struct spare *)l->buf[page];

        s->next = h->spares;
        h->spares = s;
        h->nspares++;
    } else {
        free(l->buf[page]);
    }
    l->buf[page] = NULL;
    h->bytes -= PAGE_COST;
}

static uint8_t *spare_take(struct held *h)
{
    struct spare *s = h->spares;

    if (s) {
        h->spares = s->next;
        h->nspares--;
    }
    return (uint8_t *)s;
}

static uint8_t *page_buf(struct held *h)
{
    uint8_t *buf = spare_take(h);

    return buf ? buf : malloc(PAGE);
}

static void leaf_remove(struct held *h, struct leaf *l)
{
    for (uint64_t p = l->present; p; p &= p - 1)
        page_drop_buf(h, l, (unsigned)__builtin_ctzll(p));
    tree_remove(h, l);
    list_remove(h, l);
    if (h->last == l)
        h->last = NULL;
    free(l);
    h->bytes -= LEAF_COST;
}

/* Make room for @need bytes without touching @keep. */
static bool make_room(struct held *h, uint64_t need, const struct leaf *keep)
{
    while (h->bytes + h->nspares * PAGE_COST + need > h->limit) {
        /* A page is about to be one of them. */
        if (h->nspares > (need == PAGE_COST)) {
            free(spare_take(h));
            continue;
        }
        if (h->bytes + need <= h->limit)
            break;
        if (!h->oldest || h->oldest == keep)
            return false;
        leaf_remove(h, h->oldest);
    }
    return true;
}

/* The leaf @key, made if need be, as the one last written; null: no memory. */
static struct leaf *leaf_get(struct held *h, uint64_t key)
{
    struct leaf *l = leaf_find(h, key);

    if (l) {
        if (h->newest != l) {
            list_remove(h, l);
            list_push(h, l);
        }
        return l;
    }
    if (!make_room(h, LEAF_COST, NULL))
        return NULL;
    l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    l->key = key;
    h->bytes += LEAF_COST;
    tree_insert(h, l);
    list_push(h, l);
    h->last = l;
    return l;
}

static void page_forget(struct held *h, struct leaf *l, unsigned page, uint8_t mask)
{
    l->known[page] &= (uint8_t)~mask;
    if (l->known[page] == 0) {
        page_drop_buf(h, l, page);
        l->present &= ~((uint64_t)1 << page);
    }
}

/* The sectors of @mask, a run from byte @at of the page, become zeros. */
static void page_zero(struct held *h, struct leaf *l, unsigned page, uint8_t mask, uint32_t at,
                      uint32_t len)
{
    if (l->buf[page] && (l->known[page] & ~mask) == 0)
        page_drop_buf(h, l, page);
    if (l->buf[page])
        memset(l->buf[page] + at, 0, len);
    l->known[page] |= mask;
    l->present |= (uint64_t)1 << page;
}

static void page_write(struct held *h, struct leaf *l, unsigned page, uint8_t mask, uint32_t at,
                       uint32_t len, const uint8_t *data)
{
    /* Zeros need no buffer as long as the page has no other bytes. */
    if (!data || ((!l->buf[page] || mask == 0xff) && nf_is_zero(data, len))) {
        page_zero(h, l, page, mask, at, len);
        return;
    }
    if (!l->buf[page]) {
        uint8_t *buf = make_room(h, PAGE_COST, l) ? page_buf(h) : NULL;

        if (!buf) {
            page_forget(h, l, page, mask);
            return;
        }
        /* What was known without a buffer was known as zeros. */
        if (mask != 0xff)
            memset(buf, 0, PAGE);
        l->buf[page] = buf;
        h->bytes += PAGE_COST;
    }
    memcpy(l->buf[page] + at, data, len);
    l->known[page] |= mask;
    l->present |= (uint64_t)1 << page;
}

/* The part of [offset, end) that lies in the page of @offset. */
struct span {
    uint64_t key;
    unsigned page;
    uint32_t at, len; /* bytes within the page */
    uint8_t mask;     /* sectors wholly or partly in it */
};

static struct span span_at(uint64_t offset, uint64_t end)
{
    struct span s = {.key = offset / LEAF_BYTES,
                     .page = (unsigned)(offset % LEAF_BYTES / PAGE),
                     .at = (uint32_t)(offset % PAGE)};
    unsigned first = s.at / SECTOR, last;

    s.len = end - offset < PAGE - s.at ? (uint32_t)(end - offset) : PAGE - s.at;
    last = (s.at + s.len - 1) / SECTOR;
    s.mask = (uint8_t)((0xffu << first) & (0xffu >> (7 - last)));
    return s;
}

static uint64_t range_end(uint64_t offset, uint64_t length)
{
    return length > UINT64_MAX - offset ? UINT64_MAX : offset + length;
}

struct held *held_new(size_t limit)
{
    const void *random = (const void *)getauxval(AT_RANDOM);
    struct held *h = calloc(1, sizeof(*h));

    if (!h)
        return NULL;
    h->limit = limit;
    if (random)
        memcpy(&h->seed, random, sizeof(h->seed));
    return h;
}

void held_free(struct held *h)
{
    if (!h)
        return;
    while (h->oldest)
        leaf_remove(h, h->oldest);
    while (h->nspares)
        free(spare_take(h));
    free(h);
}

void held_forget(struct held *h, uint64_t offset, uint64_t length)
{
    uint64_t end = range_end(offset, length);

    while (offset < end) {
        struct leaf *l = leaf_from(h, offset / LEAF_BYTES);
        uint64_t leaf_end;

        if (!l || l->key > (end - 1) / LEAF_BYTES)
            return;
        if (l->key > offset / LEAF_BYTES)
            offset = l->key * LEAF_BYTES;
        leaf_end = range_end(l->key * LEAF_BYTES, LEAF_BYTES);
        if (leaf_end > end)
            leaf_end = end;
        while (offset < leaf_end) {
            struct span s = span_at(offset, leaf_end);

            page_forget(h, l, s.page, s.mask);
            offset += s.len;
        }
        if (!l->present)
            leaf_remove(h, l);
    }
}

void held_write(struct held *h, uint64_t offset, uint64_t length, const uint8_t *data)
{
    uint64_t end = range_end(offset, length);
    uint64_t from = offset - offset % SECTOR, zeros;

    /* Parts of sectors are not kept: they become unknown. */
    if (offset != from) {
        held_forget(h, from, SECTOR);
        if (end - from <= SECTOR)
            return;
        if (data)
            data += SECTOR - (offset - from);
        offset = from + SECTOR;
    }
    if (end % SECTOR != 0) {
        held_forget(h, end - end % SECTOR, SECTOR);
        end -= end % SECTOR;
    }
    /* Zeros come without payload, so their length bounds nothing. Work, and a
     * fourth of the memory, are spent on them; beyond that they are forgotten. */
    zeros = h->limit / 4 / LEAF_COST * LEAF_BYTES;
    if (!data && end > offset && end - offset > zeros) {
        held_forget(h, offset, end - offset - zeros);
        offset = end - zeros;
    }
    while (offset < end) {
        struct span s = span_at(offset, end);
        struct leaf *l = leaf_get(h, s.key);

        if (l) {
            page_write(h, l, s.page, s.mask, s.at, s.len, data);
            if (!l->present)
                leaf_remove(h, l);
        }
        offset += s.len;
        if (data)
            data += s.len;
    }
}

/* Is the sector at @offset known, and where are its bytes? */
static enum held_state sector_state(const struct leaf *l, uint64_t offset)
{
    struct span s = span_at(offset, offset + 1);

    if (!l || l->key != s.key || !(l->known[s.page] & s.mask))
        return HELD_UNKNOWN;
    return l->buf[s.page] ? HELD_BYTES : HELD_ZERO;
}

/* End of the run of unknown sectors that begins at @offset. */
static uint64_t unknown_until(struct held *h, uint64_t offset, uint64_t end)
{
    while (offset < end) {
        struct leaf *l = leaf_from(h, offset / LEAF_BYTES);
        uint64_t rest;
        struct span s;

        if (!l || l->key > (end - 1) / LEAF_BYTES)
            return end;
        if (l->key > offset / LEAF_BYTES)
            offset = l->key * LEAF_BYTES;
        s = span_at(offset, end);
        rest = l->present >> s.page;
        if (rest == 0) {
            offset = range_end(l->key * LEAF_BYTES, LEAF_BYTES);
        } else if (!(rest & 1)) {
            offset += (uint64_t)__builtin_ctzll(rest) * PAGE - s.at;
        } else if (!(l->known[s.page] & s.mask)) {
            offset += s.len;
        } else {
            unsigned first = (unsigned)__builtin_ctz(l->known[s.page] & s.mask);

            if (first > s.at / SECTOR)
                offset += first * SECTOR - s.at;
            break;
        }
    }
    return offset < end ? offset : end;
}

/* End of the run of known zeros that begins at @offset. */
static uint64_t zeros_until(struct held *h, uint64_t offset, uint64_t end)
{
    while (offset < end) {
        const struct leaf *l = leaf_find(h, offset / LEAF_BYTES);
        struct span s = span_at(offset, end);
        uint8_t unknown;

        if (!l || (l->known[s.page] && l->buf[s.page]))
            break;
        unknown = (uint8_t)(~l->known[s.page] & s.mask);
        if (unknown) {
            unsigned first = (unsigned)__builtin_ctz(unknown);

            if (first > s.at / SECTOR)
                offset += first * SECTOR - s.at;
            break;
        }
        offset += s.len;
    }
    return offset;
}

void held_lookup(struct held *h, uint64_t offset, uint64_t length, struct held_run *out)
{
    uint64_t end = range_end(offset, length), stop = end;
    struct leaf *l = leaf_find(h, offset / LEAF_BYTES);

    *out = (struct held_run){.state = sector_state(l, offset), .offset = offset};
    switch (out->state) {
    case HELD_UNKNOWN:
        stop = unknown_until(h, offset, end);
        break;
    case HELD_ZERO:
        stop = zeros_until(h, offset, end);
        break;
    case HELD_BYTES: {
        struct span s = span_at(offset, end);
        /* Bits of unknown sectors from the first one on, and a stop behind the last. */
        unsigned gone = ~((unsigned)l->known[s.page]) >> (s.at / SECTOR);
        uint64_t run = (uint64_t)__builtin_ctz(gone) * SECTOR - s.at % SECTOR;

        stop = offset + (run < s.len ? run : s.len);
        out->data = l->buf[s.page] + s.at;
        break;
    }
    }
    out->length = stop - offset;
}

uint64_t held_bytes(const struct held *h)
{
    return h->bytes;
}
