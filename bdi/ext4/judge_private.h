/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to judge.c (what waits, and what hangs on it), judge_names.c and
 * judge_inode.c (what is seen of names and blocks, and whether an inode fits).
 */
#ifndef BDI_EXT4_JUDGE_PRIVATE_H
#define BDI_EXT4_JUDGE_PRIVATE_H

#include "bdi/ext4/dirblock.h"
#include "bdi/ext4/judge.h"
#include "bdi/ext4/step_private.h"
#include "bdi/siphash.h"

/* An inode that the staged blocks say something about. */
struct candidate {
    uint32_t ino;
    struct step_inode *si; /* null: only its names */
    bool waits;
    bool forced;    /* has waited long enough */
    bool damaged;   /* what it points to cannot be its own */
    int64_t since_ns;
    int64_t names;  /* added less removed */
    uint64_t places; /* sum of the hashes of names added, less those removed */
};

/* An entry that is in a block on one side only. */
struct name_change {
    uint64_t key; /* hash of directory and name */
    uint64_t block;
    uint32_t dir, ino;
    bool gained; /* its block is new to the directory */
    bool lost;   /* its block is the directory's no more */
};

struct block_claim {
    uint64_t pblk, len;
    uint32_t ino;
};

/* Blocks of @ino were @of's. */
struct block_need {
    uint32_t ino, of;
};

struct judge {
    struct ext4_fs *fs;
    struct step step;
    bool all, forced;
    int64_t now_ns;
    struct siphash_key hash_key;
    struct u64map candidates; /* ino -> struct candidate, owned */
    struct name_change *changes;
    size_t nchanges, changes_cap;
    struct name_change **by_block;
    struct block_claim *claims;
    size_t nclaims, claims_cap;
    struct block_need *needs;
    size_t nneeds, needs_cap;
};

/* The candidate for @ino, made if missing; null: no memory. */
struct candidate *judge_candidate(struct judge *j, uint32_t ino);

/* What the staged blocks do to names. */
int judge_see_names(struct judge *j, struct nf_error *err);

/* Which blocks change hands. */
int judge_see_claims(struct judge *j, struct nf_error *err);

/* Does what the disk says of the inode make sense by itself? */
bool judge_inode_fits(struct judge *j, const struct candidate *c);

#endif
