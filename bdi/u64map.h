/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hash map from u64 to a pointer-sized value: open addressing, linear
 * probing, tombstone-free deletion. Keys come from guests, so the hash is
 * mixed with a per-process seed.
 */
#ifndef BDI_U64MAP_H
#define BDI_U64MAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct u64map_slot {
    uint64_t key;
    void *value; /* null: empty slot */
};

struct u64map {
    struct u64map_slot *slots;
    size_t cap; /* power of two or 0 */
    size_t used;
};

void u64map_init(struct u64map *m);
/* Frees the table, not what the values point to. */
void u64map_release(struct u64map *m);
/* Forget every entry but keep the table. */
void u64map_clear(struct u64map *m);

/* Null if absent. */
void *u64map_get(const struct u64map *m, uint64_t key);
/* @value must not be null; replaces. Returns 0 or NF_ENOMEM. */
int u64map_put(struct u64map *m, uint64_t key, void *value);
/* Returns what was there, or null. */
void *u64map_remove(struct u64map *m, uint64_t key);

/* Iterate: *pos starts at 0; the map must not change meanwhile. Order is
 * unspecified: whoever lets it reach an event must sort. */
bool u64map_next(const struct u64map *m, size_t *pos, uint64_t *key, void **value);

#endif
