/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From inode to path. Names come from the directory blocks by way of the name
 * index; while a step is being emitted, from the step's own link changes,
 * so that a path is always the one in force between two events.
 *
 * An object is named by a key: its inode number, with bit 32 set for an inode
 * that this step created under a number that was, or may have been, in use
 * before. Outside a step key and inode number are the same.
 */
#ifndef BDI_EXT4_PATHS_H
#define BDI_EXT4_PATHS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bdi/ext4/dirblock.h"
#include "bdi/ext4/ext4.h"
#include "bdi/ext4/shown.h"
#include "common/bytes.h"

#define OBJECT_NEW (1ull << 32)

/* Paths built for one event, on the heap; zero-initialise before first use,
 * reuse freely. */
struct paths {
    struct nf_bytes list[EXT4_MAX_PATHS];
    size_t n;
    bool truncated; /* a path was too long, or could not be built */
    bool more;      /* there are more names than fit */
    bool encrypted; /* a name in them stands for ciphertext */
    uint8_t *buf;
    size_t used, cap;
};

/* What is asked again and again while a step is emitted: the names in a few
 * directory blocks, and the paths of a few directories. Zero-initialise. */
struct paths_cache {
    struct dirblock_starts starts;
    struct paths_cached {
        uint64_t dir; /* 0: none */
        uint8_t *path;
        size_t len, cap;
        bool encrypted;
    } dirs[8];
};

/* A directory got, lost or changed a name. */
void paths_cache_moved(struct paths_cache *c);
void paths_cache_release(struct paths_cache *c);

/* What they mean for an event's flags: names that are left out, and encrypted ones. */
static inline uint32_t paths_flags(const struct paths *p)
{
    return (p->truncated || p->more ? NF_EV_TRUNCATED : 0) | (p->encrypted ? NF_EV_ENCRYPTED : 0);
}

void paths_clear(struct paths *p);
void paths_release(struct paths *p);

/* Append the path of entry @name in directory object @dir. False (and nothing
 * appended) if @dir does not hang from the root. */
bool paths_add_entry(struct ext4_fs *fs, struct paths *p, uint64_t dir, struct nf_bytes name);

/* Append all names of object @key that are not yet in @p, in byte order. */
void paths_add_object(struct ext4_fs *fs, struct paths *p, uint64_t key);

/* All entries of the index that name @ino, in a fixed order; *@refs is to be
 * freed. The first EXT4_MAX_PATHS are the ones that paths_add_object() takes.
 * Returns 0 or NF_ENOMEM. */
int paths_all_refs(struct ext4_fs *fs, uint32_t ino, struct name_ref **refs, size_t *n);

/* The name that @ref points to, in its block or in @buf; false if the directory
 * does not have it. */
bool paths_ref_name(struct ext4_fs *fs, const struct name_ref *ref, uint8_t buf[SHOWN_NAME_MAX],
                    struct nf_bytes *name);

/* Is directory object @dir the object @top or beneath it? */
bool paths_is_beneath(struct ext4_fs *fs, uint64_t dir, uint64_t top);

/* The object that holds the (first) name of @key, and that name as above; false
 * for the root and for what has no name. */
bool paths_parent(struct ext4_fs *fs, uint64_t key, uint64_t *parent, uint8_t buf[SHOWN_NAME_MAX],
                  struct nf_bytes *name);

#endif
