/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/xattr_owners.h"

#include <stdlib.h>
#include <string.h>

#include "common/error.h"

void xattr_owners_init(struct xattr_owners *x)
{
    u64map_init(&x->shared);
}

void xattr_owners_release(struct xattr_owners *x)
{
    size_t pos = 0;
    void *v;

    while (u64map_next(&x->shared, &pos, NULL, &v))
        free(v);
    u64map_release(&x->shared);
}

const struct xattr_sharers *xattr_owners_of(const struct xattr_owners *x, uint64_t block)
{
    return u64map_get(&x->shared, block);
}

/* Where @ino is in @s, or would be. */
static uint32_t place(const struct xattr_sharers *s, uint32_t ino)
{
    uint32_t lo = 0, hi = s->n;

    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;

        if (s->ino[mid] < ino)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* @block is not what it was: nobody shares it. */
static void forget(struct xattr_owners *x, uint64_t block)
{
    free(u64map_remove(&x->shared, block));
}

static int own(struct ownermap *m, uint64_t block, uint32_t ino)
{
    const struct owner_extent e = {block, 1, ino, 0, OWN_XATTR};

    return ownermap_set(m, &e);
}

/* A larger @s (null: one that holds @first) in its place. */
static struct xattr_sharers *grow(struct xattr_owners *x, uint64_t block, struct xattr_sharers *s,
                                  uint32_t first)
{
    uint32_t cap = s ? s->cap * 2 : 4;
    struct xattr_sharers *bigger = malloc(sizeof(*bigger) + cap * sizeof(bigger->ino[0]));

    if (!bigger)
        return NULL;
    if (s) {
        memcpy(bigger, s, sizeof(*s) + s->n * sizeof(s->ino[0]));
    } else {
        bigger->n = 1;
        bigger->ino[0] = first;
    }
    bigger->cap = cap;
    if (u64map_put(&x->shared, block, bigger) < 0) {
        free(bigger);
        return NULL;
    }
    free(s);
    return bigger;
}

int xattr_owners_add(struct xattr_owners *x, struct ownermap *m, uint64_t block, uint32_t ino)
{
    struct xattr_sharers *s = u64map_get(&x->shared, block);
    struct owner_extent now;
    uint32_t at;

    if (!ownermap_get(m, block, &now) || now.kind != OWN_XATTR) {
        forget(x, block);
        return own(m, block, ino);
    }
    if (s ? (at = place(s, ino)) < s->n && s->ino[at] == ino : now.owner == ino)
        return 0;
    if (s && s->n == XATTR_OWNERS_MAX)
        return 1;
    if (!s || s->n == s->cap)
        s = grow(x, block, s, now.owner);
    if (!s)
        return NF_ENOMEM;
    at = place(s, ino);
    memmove(&s->ino[at + 1], &s->ino[at], (s->n - at) * sizeof(s->ino[0]));
    s->ino[at] = ino;
    s->n++;
    return 0;
}

int xattr_owners_remove(struct xattr_owners *x, struct ownermap *m, uint64_t block, uint32_t ino)
{
    struct xattr_sharers *s = u64map_get(&x->shared, block);
    const struct owner_extent mine = {block, 1, ino, 0, OWN_XATTR};
    struct owner_extent now;
    uint32_t at;
    int ret;

    if (!s)
        return ownermap_clear(m, &mine);
    if (!ownermap_get(m, block, &now) || now.kind != OWN_XATTR) {
        forget(x, block);
        return 0;
    }
    at = place(s, ino);
    if (at == s->n || s->ino[at] != ino)
        return 0;
    memmove(&s->ino[at], &s->ino[at + 1], (s->n - at - 1) * sizeof(s->ino[0]));
    s->n--;
    ret = own(m, block, s->ino[0]);
    if (ret == 0 && s->n == 1)
        forget(x, block);
    return ret;
}
