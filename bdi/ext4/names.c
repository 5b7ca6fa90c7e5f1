/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/names.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "common/error.h"

#define PAGE_INODES 32u
#define PART_PAGES 512u
#define SCAN_MAX 16u /* so many names of an inode are found by looking at all */

/* Where one name is: pblk << 16 | offset, and the directory. */
struct place {
    uint32_t parent;
    uint32_t lo, hi; /* of the position; not uint64_t, to stay at 12 bytes */
};

/* The names of one inode that has, or had, more than one. */
struct many {
    uint32_t n, cap;
    uint32_t index_cap; /* a power of 2, >= 2 * n; 0: no index */
    uint32_t *index;    /* open addressing by place: position in place[] + 1 */
    struct place place[];
};

/* What an inode has: no name (all zero), one, or (parent 0, lo and hi) a pointer
 * to many. */
struct names_part {
    struct place *page[PART_PAGES]; /* PAGE_INODES each; null: none has a name */
};

_Static_assert(sizeof(struct place) == 12, "places are compact");
_Static_assert(sizeof(void *) <= 8, "a pointer fits into a place");

/* The finaliser of MurmurHash3. */
static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdull;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53ull;
    return h ^ h >> 33;
}

static uint32_t place_hash(const struct names *n, const struct place *p)
{
    uint64_t h = mix(n->seed ^ ((uint64_t)p->hi << 32 | p->lo));

    return (uint32_t)mix(h + p->parent);
}

static uint64_t place_at(const struct place *p)
{
    return (uint64_t)p->hi << 32 | p->lo;
}

static struct place place_of(const struct name_ref *r)
{
    uint64_t at = r->pblk << 16 | r->offset;

    return (struct place){r->parent, (uint32_t)at, (uint32_t)(at >> 32)};
}

static bool place_equal(const struct place *a, const struct place *b)
{
    return a->parent == b->parent && a->lo == b->lo && a->hi == b->hi;
}

static bool has_none(const struct place *s)
{
    return s->parent == 0 && s->lo == 0 && s->hi == 0;
}

static struct many *many_of(const struct place *s)
{
    return (struct many *)(uintptr_t)place_at(s);
}

static struct place place_of_many(const struct many *m)
{
    uint64_t at = (uint64_t)(uintptr_t)m;

    return (struct place){0, (uint32_t)at, (uint32_t)(at >> 32)};
}

/* Where @ino's place is kept, or null if there is none yet. */
static struct place *find(const struct names *n, uint32_t ino)
{
    size_t page = ino / PAGE_INODES;
    const struct names_part *part =
        page / PART_PAGES < n->nparts ? n->parts[page / PART_PAGES] : NULL;
    struct place *p = part ? part->page[page % PART_PAGES] : NULL;

    return p ? &p[ino % PAGE_INODES] : NULL;
}

/* The same, made if need be; null: no memory. */
static struct place *get(struct names *n, uint32_t ino)
{
    size_t page = ino / PAGE_INODES, part = page / PART_PAGES;
    struct place **p;

    if (part >= n->nparts) {
        struct names_part **bigger = reallocarray(n->parts, part + 1, sizeof(*bigger));

        if (!bigger)
            return NULL;
        memset(bigger + n->nparts, 0, (part + 1 - n->nparts) * sizeof(*bigger));
        n->parts = bigger;
        n->nparts = part + 1;
    }
    if (!n->parts[part])
        n->parts[part] = calloc(1, sizeof(*n->parts[part]));
    if (!n->parts[part])
        return NULL;
    p = &n->parts[part]->page[page % PART_PAGES];
    if (!*p) {
        *p = calloc(PAGE_INODES, sizeof(**p));
        n->pages += *p != NULL;
    }
    return *p ? &(*p)[ino % PAGE_INODES] : NULL;
}

/* Slot of the index where @p is, or the empty one where its search ends. */
static uint32_t index_find(const struct names *n, const struct many *m, const struct place *p)
{
    uint32_t mask = m->index_cap - 1, i = place_hash(n, p) & mask;

    while (m->index[i] != 0 && !place_equal(&m->place[m->index[i] - 1], p))
        i = (i + 1) & mask;
    return i;
}

static void index_remove(const struct names *n, struct many *m, uint32_t i)
{
    uint32_t mask = m->index_cap - 1, j = i;

    for (;;) {
        uint32_t h;

        j = (j + 1) & mask;
        if (m->index[j] == 0)
            break;
        h = place_hash(n, &m->place[m->index[j] - 1]) & mask;
        if (((j - h) & mask) >= ((j - i) & mask)) {
            m->index[i] = m->index[j];
            i = j;
        }
    }
    m->index[i] = 0;
}

/* Position of @p in m->place, or m->n. */
static uint32_t many_find(const struct names *n, const struct many *m, const struct place *p)
{
    uint32_t i;

    if (m->index_cap) {
        i = m->index[index_find(n, m, p)];
        return i ? i - 1 : m->n;
    }
    for (i = 0; i < m->n && !place_equal(&m->place[i], p); i++)
        ;
    return i;
}

/* Give @m an index of @cap slots. */
static int many_index(const struct names *n, struct many *m, uint32_t cap)
{
    uint32_t *index = calloc(cap, sizeof(*index));

    if (!index)
        return NF_ENOMEM;
    free(m->index);
    m->index = index;
    m->index_cap = cap;
    for (uint32_t i = 0; i < m->n; i++)
        index[index_find(n, m, &m->place[i])] = i + 1;
    return 0;
}

static void many_free(struct many *m)
{
    free(m->index);
    free(m);
}

/* Room for one more. *@mp may move. */
static int many_reserve(const struct names *n, struct many **mp)
{
    struct many *m = *mp;

    if (m->n == m->cap) {
        uint64_t cap = m->cap + (uint64_t)m->cap / 2 + 1;

        if (cap > UINT32_MAX / 4)
            return NF_ENOMEM;
        m = realloc(m, sizeof(*m) + (size_t)cap * sizeof(m->place[0]));
        if (!m)
            return NF_ENOMEM;
        m->cap = (uint32_t)cap;
        *mp = m;
    }
    if (m->n >= SCAN_MAX && m->n >= m->index_cap / 2)
        return many_index(n, m, m->index_cap ? m->index_cap * 2 : SCAN_MAX * 4);
    return 0;
}

static void many_append(const struct names *n, struct many *m, const struct place *p)
{
    if (m->index_cap)
        m->index[index_find(n, m, p)] = m->n + 1;
    m->place[m->n++] = *p;
}

static bool many_remove(const struct names *n, struct many *m, const struct place *p)
{
    uint32_t i = many_find(n, m, p);

    if (i == m->n)
        return false;
    if (m->index_cap) {
        index_remove(n, m, index_find(n, m, p));
        /* The last one takes the free place. */
        if (i != m->n - 1)
            m->index[index_find(n, m, &m->place[m->n - 1])] = i + 1;
    }
    m->place[i] = m->place[--m->n];
    return true;
}

/* Give back what a crowd of names left behind, or a guest could make us keep
 * it for every inode in turn. Without memory to do so it stays. */
static struct many *many_shrink(const struct names *n, struct many *m)
{
    if (m->index_cap && m->n < SCAN_MAX / 2) {
        free(m->index);
        m->index = NULL;
        m->index_cap = 0;
    } else if (m->n < m->index_cap / 8) {
        many_index(n, m, m->index_cap / 2);
    }
    if (m->cap > SCAN_MAX && m->n < m->cap / 4) {
        uint32_t cap = m->cap / 2;
        struct many *less = realloc(m, sizeof(*m) + cap * sizeof(m->place[0]));

        if (less) {
            less->cap = cap;
            return less;
        }
    }
    return m;
}

int names_init(struct names *n)
{
    const void *random = (const void *)getauxval(AT_RANDOM);

    *n = (struct names){0};
    /* A guest chooses where names are; it must not be able to choose collisions.
     * The kernel's 16 random bytes cost no system call. */
    if (random) {
        uint64_t r[2];

        memcpy(r, random, sizeof(r));
        n->seed = mix(r[0] ^ mix(r[1]));
    }
    return 0;
}

static void page_free(struct place *page)
{
    for (size_t i = 0; page && i < PAGE_INODES; i++) {
        if (page[i].parent == 0 && !has_none(&page[i]))
            many_free(many_of(&page[i]));
    }
    free(page);
}

void names_release(struct names *n)
{
    for (size_t i = 0; i < n->nparts; i++) {
        for (size_t j = 0; n->parts[i] && j < PART_PAGES; j++)
            page_free(n->parts[i]->page[j]);
        free(n->parts[i]);
    }
    free(n->parts);
    *n = (struct names){0};
}

/* @s, which has one name, gets an array for more. */
static int make_many(struct place *s)
{
    struct many *m = calloc(1, sizeof(*m) + 3 * sizeof(m->place[0]));

    if (!m)
        return NF_ENOMEM;
    m->cap = 3;
    m->n = 1;
    m->place[0] = *s;
    *s = place_of_many(m);
    return 0;
}

size_t names_memory(const struct names *n)
{
    return n->pages * PAGE_INODES * sizeof(struct place) +
           n->nparts * (sizeof(*n->parts) + sizeof(**n->parts)) +
           (n->refs - n->used) * sizeof(struct place);
}

int names_add(struct names *n, const struct name_ref *ref)
{
    struct place *s;
    struct place p;
    struct many *m;
    int ret;

    if (ref->ino == 0 || ref->parent == 0 || ref->pblk >> 48 || ref->offset % 4)
        return NF_EINVAL;
    p = place_of(ref);
    s = get(n, ref->ino);
    if (!s)
        return NF_ENOMEM;
    if (has_none(s)) {
        *s = p;
        n->used++;
        n->refs++;
        return 0;
    }
    if (s->parent != 0) {
        if (place_equal(s, &p))
            return 0;
        if (make_many(s) < 0)
            return NF_ENOMEM;
    } else if (many_find(n, many_of(s), &p) < many_of(s)->n) {
        return 0;
    }
    m = many_of(s);
    ret = many_reserve(n, &m);
    *s = place_of_many(m);
    if (ret < 0)
        return NF_ENOMEM;
    many_append(n, m, &p);
    n->refs++;
    return 0;
}

bool names_remove(struct names *n, const struct name_ref *ref)
{
    struct place *s = find(n, ref->ino);
    struct place p = place_of(ref);

    if (ref->ino == 0 || ref->parent == 0 || ref->pblk >> 48 || !s || has_none(s))
        return false;
    if (s->parent != 0) {
        if (!place_equal(s, &p))
            return false;
        *s = (struct place){0};
        n->used--;
    } else {
        struct many *m = many_of(s);

        if (!many_remove(n, m, &p))
            return false;
        if (m->n == 1) {
            *s = m->place[0];
            many_free(m);
        } else {
            *s = place_of_many(many_shrink(n, m));
        }
    }
    n->refs--;
    return true;
}

size_t names_remove_all(struct names *n, uint32_t ino)
{
    struct place *s = find(n, ino);
    size_t count = 1;

    if (ino == 0 || !s || has_none(s))
        return 0;
    if (s->parent == 0) {
        count = many_of(s)->n;
        many_free(many_of(s));
    }
    *s = (struct place){0};
    n->used--;
    n->refs -= count;
    return count;
}

bool names_next(const struct names *n, uint32_t ino, size_t *cursor, struct name_ref *out)
{
    const struct place *s = ino ? find(n, ino) : NULL;
    const struct place *at;

    if (!s || has_none(s) || *cursor >= (s->parent ? 1 : many_of(s)->n))
        return false;
    at = s->parent ? s : &many_of(s)->place[*cursor];
    *out = (struct name_ref){.ino = ino,
                             .parent = at->parent,
                             .pblk = place_at(at) >> 16,
                             .offset = (uint16_t)place_at(at)};
    ++*cursor;
    return true;
}
