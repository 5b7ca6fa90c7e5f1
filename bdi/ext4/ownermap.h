/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Owner map: from physical block to who owns it.
 *
 * The file system's blocks are cut into fixed chunks of OWNERMAP_CHUNK; each
 * chunk has a sorted array of pieces that do not overlap. So a lookup is a
 * binary search in one short array, an update moves at most one chunk, and
 * the worst a hostile guest can do is one piece per block. Pieces that
 * continue each other (same owner and kind, logical and physical both
 * contiguous) are merged within a chunk, and by the iterator across chunks.
 */
#ifndef BDI_EXT4_OWNERMAP_H
#define BDI_EXT4_OWNERMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define OWNERMAP_CHUNK 2048u
#define OWNERMAP_MAX_BLOCKS ((uint64_t)1 << 48) /* ext4 has no more */

enum owner_kind {
    OWN_NONE = 0,
    OWN_DATA = 1,      /* owner: inode; logical: file block; initialised */
    OWN_UNWRITTEN = 2, /* the same, but reads as zeros until converted */
    OWN_DIR = 3,       /* owner: directory inode; logical: its block */
    OWN_NODE = 4,      /* extent tree node or indirect block of inode; logical: the first
                          file block that it is there for */
    OWN_XATTR = 5,     /* owner: one inode that refers to it */
    OWN_JOURNAL = 6,   /* logical: block of the log */
    OWN_BLOCK_BITMAP = 7, /* owner: group */
    OWN_INODE_BITMAP = 8, /* owner: group */
    OWN_ITABLE = 9,       /* owner: group; logical: block within its table */
    OWN_SUPER = 10,       /* superblock, descriptors and their backups */
    OWN_OTHER = 11,       /* content of inodes without events (resize, quota, orphan file) */
    OWN_EA = 12,          /* value of an attribute; owner: the inode that holds it, logical */
    OWN_LAST = OWN_EA,
};

struct owner_extent {
    uint64_t pblk;    /* first physical block */
    uint64_t len;     /* blocks */
    uint32_t owner;   /* inode or group */
    uint32_t logical; /* of the first block */
    enum owner_kind kind;
};

struct ownermap {
    struct ownermap_chunk *chunks; /* private */
    size_t nchunks;
    uint64_t blocks;
    size_t pieces; /* in all chunks: for status and memory accounting */
};

/* For a file system of @blocks blocks; takes 16 bytes per chunk at once, so
 * the caller checks @blocks against the disk. Returns 0 or NF_ENOMEM (also
 * beyond OWNERMAP_MAX_BLOCKS). */
int ownermap_init(struct ownermap *m, uint64_t blocks);
void ownermap_release(struct ownermap *m);

/* Bytes that it takes. */
size_t ownermap_memory(const struct ownermap *m);

/* Extend to @blocks (never shrinks). Returns 0 or NF_ENOMEM. */
int ownermap_grow(struct ownermap *m, uint64_t blocks);

/* Give @e to its owner, replacing whatever stood there. Parts beyond the file
 * system or the last logical block (UINT32_MAX) and kind OWN_NONE are
 * NF_EINVAL. Returns 0 or NF_ENOMEM. On any error nothing was changed. */
int ownermap_set(struct ownermap *m, const struct owner_extent *e);

/* Take away the parts of @e that still belong to @e->owner with the same
 * kind and the same logical position; the rest stays. Returns 0, or
 * NF_ENOMEM with nothing changed (only a cut within a piece needs memory). */
int ownermap_clear(struct ownermap *m, const struct owner_extent *e);

/* The piece that holds @pblk: true and @out clipped to start at @pblk; or
 * false and, if not null, @out->pblk = @pblk, @out->len = run that nobody
 * owns (at least 1 if pblk is inside the file system), kind OWN_NONE. */
bool ownermap_get(const struct ownermap *m, uint64_t pblk, struct owner_extent *out);

/* Walk [*pos, end): each call gives the next run, owned or OWN_NONE, clipped
 * to the range, and advances *pos. Returns false at the end. */
bool ownermap_next(const struct ownermap *m, uint64_t *pos, uint64_t end,
                   struct owner_extent *out);

#endif
