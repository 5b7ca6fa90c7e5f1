/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One chain of directory entries: an ext4 directory block, linear or htree
 * (index nodes and the checksum tail look like empty entries and are skipped by
 * the same rules that the kernel uses), or a part of an inline directory
 * (inline.h), for which "block" below means that part. The bytes are hostile.
 */
#ifndef BDI_EXT4_DIRBLOCK_H
#define BDI_EXT4_DIRBLOCK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/bytes.h"

/* How the entries of a directory are laid out. */
struct dirblock_form {
    bool filetype;  /* the file system's feature: an entry says what it names */
    bool csum;      /* metadata_csum */
    bool hashed;    /* casefolded and encrypted: a name is followed by its hashes */
    bool encrypted; /* names are ciphertext: any bytes, no fewer than 16 */
};

struct dirblock_entry {
    uint32_t ino;     /* never 0; not checked against the number of inodes */
    uint16_t offset;  /* within the block */
    uint8_t type;     /* EXT2_FT_*; 0 if unknown or the file system has no filetype */
    bool dot, dotdot; /* by name alone: whether they belong here is the caller's to know */
    bool bad_name;    /* empty, or holds '/' or NUL; of ciphertext, too short: to be
                         reported, not used */
    uint32_t hash[2]; /* in hashed directories, else 0 */
    struct nf_bytes name; /* points into the block */
};

struct dirblock {
    const uint8_t *data;
    uint32_t size;
    uint32_t pos;
    struct dirblock_form form;
};

void dirblock_begin(struct dirblock *it, const uint8_t *data, uint32_t size,
                    struct dirblock_form form);

/* 1: an entry; 0: end; NF_EFORMAT: the chain is broken here, nothing after
 * this point can be trusted (entries given before stand); so at every further
 * call. An entry is broken if the kernel says so: rec_len below 12 (20 with
 * hashes), not a multiple of 4, too short for the name, beyond the block or so
 * near its end that no entry fits behind it. */
int dirblock_next(struct dirblock *it, struct dirblock_entry *out);

/* The entry at @offset, if the chain from the block's start reaches a
 * well-formed live one exactly there. */
bool dirblock_at(const uint8_t *data, uint32_t size, struct dirblock_form form,
                 uint16_t offset, struct dirblock_entry *out);

/*
 * The same for many entries of a few blocks, which must not change meanwhile: each
 * block's chain is walked once, not from its start for each of them.
 */
#define DIRBLOCK_STARTS 8u
struct dirblock_starts {
    struct {
        const uint8_t *data; /* null: none yet */
        uint32_t size;
        struct dirblock_form form;
        uint64_t bits[65536 / 4 / 64]; /* where records begin, of 4 bytes each */
    } block[DIRBLOCK_STARTS];
};

bool dirblock_at_again(struct dirblock_starts *s, const uint8_t *data, uint32_t size,
                       struct dirblock_form form, uint16_t offset, struct dirblock_entry *out);

/*
 * A block of @size bytes in @out whose chain has @new's entries but those that
 * are new and name an inode that @waits, and @old's that are gone and name one
 * that @waits; @old may be null. Entries keep their offsets, only the chain is
 * made anew: index nodes and checksums are not kept. False if the entries do not
 * fit beside each other, or a side is broken.
 */
bool dirblock_mix(const uint8_t *old, const uint8_t *new, uint8_t *out, uint32_t size,
                  struct dirblock_form form, bool (*waits)(void *opaque, uint32_t ino), void *opaque);

#endif
