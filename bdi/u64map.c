/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/u64map.h"

#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>

#include "common/error.h"

/* The kernel's 16 random bytes of this process: no system call, no file. */
static uint64_t seed(void)
{
    static uint64_t value;

    if (!value) {
        const void *p = (const void *)getauxval(AT_RANDOM);

        if (p)
            memcpy(&value, p, sizeof(value));
        value |= 1;
    }
    return value;
}

static size_t slot_of(const struct u64map *m, uint64_t key)
{
    uint64_t h = (key ^ seed()) * 0x9e3779b97f4a7c15ull;

    h ^= h >> 29;
    h *= 0xbf58476d1ce4e5b9ull;
    h ^= h >> 32;
    return (size_t)h & (m->cap - 1);
}

void u64map_init(struct u64map *m)
{
    memset(m, 0, sizeof(*m));
}

void u64map_release(struct u64map *m)
{
    free(m->slots);
    u64map_init(m);
}

void u64map_clear(struct u64map *m)
{
    if (m->used)
        memset(m->slots, 0, m->cap * sizeof(*m->slots));
    m->used = 0;
}

void *u64map_get(const struct u64map *m, uint64_t key)
{
    if (!m->used)
        return NULL;
    for (size_t i = slot_of(m, key); m->slots[i].value; i = (i + 1) & (m->cap - 1)) {
        if (m->slots[i].key == key)
            return m->slots[i].value;
    }
    return NULL;
}

static int grow(struct u64map *m)
{
    struct u64map bigger = {.cap = m->cap ? m->cap * 2 : 64};

    bigger.slots = calloc(bigger.cap, sizeof(*bigger.slots));
    if (!bigger.slots)
        return NF_ENOMEM;
    for (size_t i = 0; i < m->cap; i++) {
        size_t j;

        if (!m->slots[i].value)
            continue;
        for (j = slot_of(&bigger, m->slots[i].key); bigger.slots[j].value;)
            j = (j + 1) & (bigger.cap - 1);
        bigger.slots[j] = m->slots[i];
    }
    bigger.used = m->used;
    free(m->slots);
    *m = bigger;
    return 0;
}

int u64map_put(struct u64map *m, uint64_t key, void *value)
{
    size_t i;

    if (m->used * 4 >= m->cap * 3) {
        int ret = grow(m);

        if (ret < 0)
            return ret;
    }
    for (i = slot_of(m, key); m->slots[i].value; i = (i + 1) & (m->cap - 1)) {
        if (m->slots[i].key == key) {
            m->slots[i].value = value;
            return 0;
        }
    }
    m->slots[i] = (struct u64map_slot){key, value};
    m->used++;
    return 0;
}

void *u64map_remove(struct u64map *m, uint64_t key)
{
    size_t i, hole;
    void *value;

    if (!m->used)
        return NULL;
    for (i = slot_of(m, key); m->slots[i].value; i = (i + 1) & (m->cap - 1)) {
        if (m->slots[i].key == key)
            break;
    }
    value = m->slots[i].value;
    if (!value)
        return NULL;
    /* Close the hole: move back every later entry of the run that may not
     * stand behind an empty slot. */
    hole = i;
    for (i = (i + 1) & (m->cap - 1); m->slots[i].value; i = (i + 1) & (m->cap - 1)) {
        size_t home = slot_of(m, m->slots[i].key);

        if (((i - home) & (m->cap - 1)) >= ((i - hole) & (m->cap - 1))) {
            m->slots[hole] = m->slots[i];
            hole = i;
        }
    }
    m->slots[hole].value = NULL;
    m->used--;
    return value;
}

bool u64map_next(const struct u64map *m, size_t *pos, uint64_t *key, void **value)
{
    while (*pos < m->cap) {
        const struct u64map_slot *s = &m->slots[(*pos)++];

        if (s->value) {
            if (key)
                *key = s->key;
            *value = s->value;
            return true;
        }
    }
    return false;
}
