/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/ownermap.h"

#include <stdlib.h>
#include <string.h>

#include "common/error.h"

#define START_BITS 11 /* OWNERMAP_CHUNK is 1 << START_BITS */
#define LOGICAL_END ((uint64_t)UINT32_MAX + 1)

/* 12 bytes, because there are as many as files. */
struct piece {
    uint32_t owner;
    uint32_t logical;
    uint32_t start : START_BITS; /* first block within the chunk */
    uint32_t len1 : START_BITS;  /* blocks - 1 */
    uint32_t kind : 4;
};

struct ownermap_chunk {
    struct piece *piece; /* sorted by start, not overlapping, never empty */
    uint16_t n, cap;
};

_Static_assert(OWNERMAP_CHUNK == 1u << START_BITS, "a piece's position has START_BITS");
_Static_assert(sizeof(struct piece) == 12, "pieces are compact");

static uint32_t piece_end(const struct piece *p)
{
    return p->start + p->len1 + 1u;
}

/* The part of @p within [from, to), blocks of the chunk; not empty. */
static struct piece piece_cut(const struct piece *p, uint32_t from, uint32_t to)
{
    struct piece out = *p;

    if (from > p->start) {
        out.logical += from - p->start;
        out.start = from;
    }
    if (to > piece_end(p))
        to = piece_end(p);
    out.len1 = to - out.start - 1;
    return out;
}

static bool piece_continues(const struct piece *a, const struct piece *b)
{
    return piece_end(a) == b->start && a->owner == b->owner && a->kind == b->kind &&
           (uint64_t)a->logical + a->len1 + 1 == b->logical;
}

/* Index of the first piece that ends behind block @at of the chunk. */
static uint32_t chunk_find(const struct ownermap_chunk *c, uint32_t at)
{
    uint32_t lo = 0, hi = c->n;

    /* A file system that is read once, from its start on, comes here in order. */
    if (hi > 0 && piece_end(&c->piece[hi - 1]) <= at)
        return hi;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;

        if (piece_end(&c->piece[mid]) <= at)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

static int chunk_reserve(struct ownermap_chunk *c, uint32_t need)
{
    struct piece *p;
    uint32_t cap;

    if (need > OWNERMAP_CHUNK)
        need = OWNERMAP_CHUNK; /* one piece per block is the most there can be */
    if (need <= c->cap)
        return 0;
    /* Grown by a quarter: most chunks soon reach their final size. */
    cap = c->cap + c->cap / 4 + 1;
    if (cap < need)
        cap = need;
    if (cap > OWNERMAP_CHUNK)
        cap = OWNERMAP_CHUNK;
    p = realloc(c->piece, cap * sizeof(*p));
    if (!p)
        return NF_ENOMEM;
    c->piece = p;
    c->cap = (uint16_t)cap;
    return 0;
}

static void chunk_trim(struct ownermap_chunk *c)
{
    struct piece *p;

    if (c->n == 0) {
        free(c->piece);
        c->piece = NULL;
        c->cap = 0;
    } else if (c->n < c->cap / 2) {
        p = realloc(c->piece, c->n * sizeof(*p));
        if (p) {
            c->piece = p;
            c->cap = c->n;
        }
    }
}

/* Replace pieces [lo, hi) by the @n pieces of @in; room was reserved. */
static void chunk_splice(struct ownermap *m, struct ownermap_chunk *c, uint32_t lo, uint32_t hi,
                         const struct piece *in, uint32_t n)
{
    if (lo + n != hi)
        memmove(c->piece + lo + n, c->piece + hi, (c->n - hi) * sizeof(*in));
    if (n > 0)
        memcpy(c->piece + lo, in, n * sizeof(*in));
    m->pieces = m->pieces - (hi - lo) + n;
    c->n = (uint16_t)(c->n - (hi - lo) + n);
}

/* How many pieces chunk @c can come to hold by chunk_set() of @p. */
static uint32_t chunk_set_needs(const struct ownermap_chunk *c, const struct piece *p)
{
    return c->n == 0 || p->len1 == OWNERMAP_CHUNK - 1 ? 1 : c->n + 2u;
}

/* Put @p in; chunk_set_needs() pieces were reserved, so it cannot fail. */
static void chunk_set(struct ownermap *m, struct ownermap_chunk *c, const struct piece *p)
{
    struct piece out[3];
    uint32_t end = piece_end(p), n = 0;
    uint32_t lo = chunk_find(c, p->start), hi = lo;
    bool tail = false;

    if (lo < c->n && c->piece[lo].start < p->start)
        out[n++] = piece_cut(&c->piece[lo], 0, p->start);
    else if (lo > 0 && piece_continues(&c->piece[lo - 1], p))
        out[n++] = c->piece[--lo];
    if (n > 0 && piece_continues(&out[n - 1], p))
        out[n - 1].len1 = end - out[n - 1].start - 1;
    else
        out[n++] = *p;

    while (hi < c->n && piece_end(&c->piece[hi]) <= end)
        hi++;
    if (hi < c->n && c->piece[hi].start < end) {
        out[n] = piece_cut(&c->piece[hi++], end, OWNERMAP_CHUNK);
        tail = true;
    } else if (hi < c->n && piece_continues(&out[n - 1], &c->piece[hi])) {
        out[n] = c->piece[hi++];
        tail = true;
    }
    if (tail && piece_continues(&out[n - 1], &out[n]))
        out[n - 1].len1 = piece_end(&out[n]) - out[n - 1].start - 1;
    else if (tail)
        n++;
    chunk_splice(m, c, lo, hi, out, n);
}

/* Remove from [p->start, end) what agrees with @p. Only a piece that sticks
 * out at both ends makes the chunk larger: then NF_ENOMEM may come, before
 * anything is changed. */
static int chunk_clear(struct ownermap *m, struct ownermap_chunk *c, const struct piece *p)
{
    uint32_t end = piece_end(p), from = chunk_find(c, p->start);
    uint32_t r, w = from;

    for (r = from; r < c->n && c->piece[r].start < end; r++) {
        struct piece q = c->piece[r];

        if (q.owner != p->owner || q.kind != p->kind ||
            q.logical - q.start != p->logical - p->start) {
            c->piece[w++] = q;
            continue;
        }
        if (q.start < p->start && piece_end(&q) > end) {
            struct piece both[2] = {piece_cut(&q, 0, p->start),
                                    piece_cut(&q, end, OWNERMAP_CHUNK)};

            if (chunk_reserve(c, c->n + 1u) < 0)
                return NF_ENOMEM;
            chunk_splice(m, c, r, r + 1, both, 2);
            return 0;
        }
        if (q.start < p->start)
            c->piece[w++] = piece_cut(&q, 0, p->start);
        else if (piece_end(&q) > end)
            c->piece[w++] = piece_cut(&q, end, OWNERMAP_CHUNK);
    }
    if (w != r) {
        chunk_splice(m, c, w, r, NULL, 0);
        chunk_trim(c);
    }
    return 0;
}

/* The part of @e that lies in the chunk of @pblk, as a piece of it. */
static struct piece extent_cut(const struct owner_extent *e, uint64_t pblk)
{
    uint32_t start = (uint32_t)(pblk % OWNERMAP_CHUNK);
    uint64_t len = e->len - (pblk - e->pblk);

    if (len > OWNERMAP_CHUNK - start)
        len = OWNERMAP_CHUNK - start;
    return (struct piece){.owner = e->owner,
                          .logical = e->logical + (uint32_t)(pblk - e->pblk),
                          .start = start,
                          .len1 = (uint32_t)len - 1,
                          .kind = e->kind};
}

int ownermap_init(struct ownermap *m, uint64_t blocks)
{
    *m = (struct ownermap){0};
    return ownermap_grow(m, blocks);
}

void ownermap_release(struct ownermap *m)
{
    for (size_t i = 0; i < m->nchunks; i++)
        free(m->chunks[i].piece);
    free(m->chunks);
    *m = (struct ownermap){0};
}

size_t ownermap_memory(const struct ownermap *m)
{
    return m->nchunks * sizeof(*m->chunks) + m->pieces * sizeof(struct piece);
}

int ownermap_grow(struct ownermap *m, uint64_t blocks)
{
    uint64_t n = blocks / OWNERMAP_CHUNK + (blocks % OWNERMAP_CHUNK != 0);
    struct ownermap_chunk *c;

    if (blocks <= m->blocks)
        return 0;
    if (n > m->nchunks) {
        if (n > OWNERMAP_MAX_BLOCKS / OWNERMAP_CHUNK || n > SIZE_MAX / sizeof(*c))
            return NF_ENOMEM;
        c = realloc(m->chunks, (size_t)n * sizeof(*c));
        if (!c)
            return NF_ENOMEM;
        memset(c + m->nchunks, 0, ((size_t)n - m->nchunks) * sizeof(*c));
        m->chunks = c;
        m->nchunks = (size_t)n;
    }
    m->blocks = blocks;
    return 0;
}

int ownermap_set(struct ownermap *m, const struct owner_extent *e)
{
    uint64_t end, pblk;

    if (e->pblk > m->blocks || e->len > m->blocks - e->pblk ||
        e->len > LOGICAL_END - e->logical || e->kind <= OWN_NONE || e->kind > OWN_LAST)
        return NF_EINVAL;
    end = e->pblk + e->len;
    /* First the memory, so that the map is changed either wholly or not. */
    for (int apply = 0; apply < 2; apply++)
        for (pblk = e->pblk; pblk < end;) {
            struct ownermap_chunk *c = &m->chunks[pblk / OWNERMAP_CHUNK];
            struct piece p = extent_cut(e, pblk);

            if (apply) {
                chunk_set(m, c, &p);
                chunk_trim(c);
            } else if (chunk_reserve(c, chunk_set_needs(c, &p)) < 0) {
                return NF_ENOMEM;
            }
            pblk += p.len1 + 1u;
        }
    return 0;
}

int ownermap_clear(struct ownermap *m, const struct owner_extent *e)
{
    struct owner_extent in = *e;

    if (e->kind <= OWN_NONE || e->kind > OWN_LAST || e->pblk >= m->blocks)
        return 0; /* nothing there can match */
    if (in.len > m->blocks - in.pblk)
        in.len = m->blocks - in.pblk;
    if (in.len > LOGICAL_END - in.logical)
        in.len = LOGICAL_END - in.logical;
    for (uint64_t pblk = in.pblk; pblk < in.pblk + in.len;) {
        struct piece p = extent_cut(&in, pblk);

        if (chunk_clear(m, &m->chunks[pblk / OWNERMAP_CHUNK], &p) < 0)
            return NF_ENOMEM;
        pblk += p.len1 + 1u;
    }
    return 0;
}

bool ownermap_get(const struct ownermap *m, uint64_t pblk, struct owner_extent *out)
{
    const struct ownermap_chunk *c;
    uint32_t at = (uint32_t)(pblk % OWNERMAP_CHUNK), i;
    uint64_t len;

    if (pblk >= m->blocks) {
        if (out)
            *out = (struct owner_extent){.pblk = pblk};
        return false;
    }
    c = &m->chunks[pblk / OWNERMAP_CHUNK];
    i = chunk_find(c, at);
    if (i < c->n && c->piece[i].start <= at) {
        struct piece p = piece_cut(&c->piece[i], at, OWNERMAP_CHUNK);

        if (out)
            *out = (struct owner_extent){.pblk = pblk,
                                         .len = p.len1 + 1u,
                                         .owner = p.owner,
                                         .logical = p.logical,
                                         .kind = (enum owner_kind)p.kind};
        return true;
    }
    len = (i < c->n ? c->piece[i].start : OWNERMAP_CHUNK) - at;
    if (len > m->blocks - pblk)
        len = m->blocks - pblk;
    if (out)
        *out = (struct owner_extent){.pblk = pblk, .len = len};
    return false;
}

bool ownermap_next(const struct ownermap *m, uint64_t *pos, uint64_t end, struct owner_extent *out)
{
    struct owner_extent more;

    if (end > m->blocks)
        end = m->blocks;
    if (*pos >= end)
        return false;
    ownermap_get(m, *pos, out);
    /* Runs are cut at chunk borders, and only there. */
    while (out->pblk + out->len < end) {
        ownermap_get(m, out->pblk + out->len, &more);
        if (more.kind != out->kind || more.owner != out->owner ||
            (more.kind != OWN_NONE && more.logical != out->logical + out->len))
            break;
        out->len += more.len;
    }
    if (out->len > end - out->pblk)
        out->len = end - out->pblk;
    *pos = out->pblk + out->len;
    return true;
}
