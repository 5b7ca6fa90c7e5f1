/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/names.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "common/error.h"

#define CAP_MIN 64u
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

struct names_slot {
    uint32_t ino;    /* 0: empty */
    uint32_t parent; /* 0: many is valid, else at */
    union {
        uint64_t at;
        struct many *many;
    };
};

_Static_assert(sizeof(struct names_slot) <= 16, "slots are compact");
_Static_assert(sizeof(struct place) == 12, "places are compact");

/* The finaliser of MurmurHash3. */
static uint64_t mix(uint64_t h)
{
    h ^= h >> 33;
    h *= 0xff51afd7ed558ccdull;
    h ^= h >> 33;
    h *= 0xc4ceb9fe1a85ec53ull;
    return h ^ h >> 33;
}

static size_t home(const struct names *n, uint32_t ino)
{
    uint64_t h = mix(mix(ino ^ n->seed) + n->seed);

    /* Scaled instead of masked: the table may have any size. */
    return (size_t)((h >> 32) * n->cap >> 32);
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

/* Slot of @ino, or the empty one where its search ends. */
static size_t find_slot(const struct names *n, uint32_t ino)
{
    size_t i = home(n, ino);

    while (n->slots[i].ino != 0 && n->slots[i].ino != ino)
        i = i + 1 == n->cap ? 0 : i + 1;
    return i;
}

/* Empty slot @i and move up what the gap would cut off from its home. */
static void remove_slot(struct names *n, size_t i)
{
    size_t j = i;

    for (;;) {
        size_t from_home, from_gap;

        j = j + 1 == n->cap ? 0 : j + 1;
        if (n->slots[j].ino == 0)
            break;
        from_home = (j + n->cap - home(n, n->slots[j].ino)) % n->cap;
        from_gap = (j + n->cap - i) % n->cap;
        if (from_home >= from_gap) {
            n->slots[i] = n->slots[j];
            i = j;
        }
    }
    n->slots[i] = (struct names_slot){0};
    n->used--;
}

static int grow(struct names *n)
{
    struct names bigger = *n;

    if (n->cap / 8 * 7 > n->used)
        return 0;
    /* By a quarter, not twice: the table is most of what a file costs us. */
    bigger.cap = n->cap + n->cap / 4;
    if (bigger.cap > UINT32_MAX)
        return NF_ENOMEM;
    bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
    if (!bigger.slots)
        return NF_ENOMEM;
    for (size_t i = 0; i < n->cap; i++)
        if (n->slots[i].ino != 0)
            bigger.slots[find_slot(&bigger, n->slots[i].ino)] = n->slots[i];
    free(n->slots);
    *n = bigger;
    return 0;
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

    *n = (struct names){.cap = CAP_MIN};
    /* A guest chooses inode numbers; it must not be able to choose collisions.
     * The kernel's 16 random bytes cost no system call. */
    if (random) {
        uint64_t r[2];

        memcpy(r, random, sizeof(r));
        n->seed = mix(r[0] ^ mix(r[1]));
    }
    n->slots = calloc(n->cap, sizeof(*n->slots));
    if (!n->slots) {
        n->cap = 0;
        return NF_ENOMEM;
    }
    return 0;
}

void names_release(struct names *n)
{
    for (size_t i = 0; i < n->cap; i++)
        if (n->slots[i].ino != 0 && n->slots[i].parent == 0)
            many_free(n->slots[i].many);
    free(n->slots);
    *n = (struct names){0};
}

/* @s, which has one name, gets an array for more. */
static int make_many(struct names_slot *s)
{
    struct many *m = calloc(1, sizeof(*m) + 3 * sizeof(m->place[0]));

    if (!m)
        return NF_ENOMEM;
    m->cap = 3;
    m->n = 1;
    m->place[0] = (struct place){s->parent, (uint32_t)s->at, (uint32_t)(s->at >> 32)};
    s->parent = 0;
    s->many = m;
    return 0;
}

size_t names_memory(const struct names *n)
{
    return n->cap * sizeof(*n->slots) + (n->refs - n->used) * sizeof(struct place);
}

int names_add(struct names *n, const struct name_ref *ref)
{
    struct names_slot *s;
    struct place p;
    size_t i;

    if (ref->ino == 0 || ref->parent == 0 || ref->pblk >> 48 || ref->offset % 4)
        return NF_EINVAL;
    p = place_of(ref);
    i = find_slot(n, ref->ino);
    if (n->slots[i].ino == 0) {
        if (grow(n) < 0)
            return NF_ENOMEM;
        s = &n->slots[find_slot(n, ref->ino)];
        s->ino = ref->ino;
        s->parent = p.parent;
        s->at = place_at(&p);
        n->used++;
        n->refs++;
        return 0;
    }
    s = &n->slots[i];
    if (s->parent != 0) {
        if (s->parent == p.parent && s->at == place_at(&p))
            return 0;
        if (make_many(s) < 0)
            return NF_ENOMEM;
    } else if (many_find(n, s->many, &p) < s->many->n) {
        return 0;
    }
    if (many_reserve(n, &s->many) < 0)
        return NF_ENOMEM;
    many_append(n, s->many, &p);
    n->refs++;
    return 0;
}

bool names_remove(struct names *n, const struct name_ref *ref)
{
    size_t i = find_slot(n, ref->ino);
    struct names_slot *s = &n->slots[i];
    struct place p = place_of(ref);

    if (ref->ino == 0 || ref->parent == 0 || ref->pblk >> 48 || s->ino == 0)
        return false;
    if (s->parent != 0) {
        if (s->parent != p.parent || s->at != place_at(&p))
            return false;
        remove_slot(n, i);
    } else {
        struct many *m = s->many;

        if (!many_remove(n, m, &p))
            return false;
        if (m->n == 1) {
            s->parent = m->place[0].parent;
            s->at = place_at(&m->place[0]);
            many_free(m);
        } else {
            s->many = many_shrink(n, m);
        }
    }
    n->refs--;
    return true;
}

size_t names_remove_all(struct names *n, uint32_t ino)
{
    size_t i = find_slot(n, ino), count = 1;

    if (ino == 0 || n->slots[i].ino == 0)
        return 0;
    if (n->slots[i].parent == 0) {
        count = n->slots[i].many->n;
        many_free(n->slots[i].many);
    }
    remove_slot(n, i);
    n->refs -= count;
    return count;
}

bool names_next(const struct names *n, uint32_t ino, size_t *cursor, struct name_ref *out)
{
    const struct names_slot *s;
    uint64_t at;

    if (ino == 0)
        return false;
    s = &n->slots[find_slot(n, ino)];
    if (s->ino == 0 || *cursor >= (s->parent ? 1 : s->many->n))
        return false;
    at = s->parent ? s->at : place_at(&s->many->place[*cursor]);
    *out = (struct name_ref){.ino = ino,
                             .parent = s->parent ? s->parent : s->many->place[*cursor].parent,
                             .pblk = at >> 16,
                             .offset = (uint16_t)at};
    ++*cursor;
    return true;
}
