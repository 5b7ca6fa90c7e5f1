/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a live disk does to an engine that a trace does not. It may be killed again
 * and again: every so many records it is saved, goes on for some more, whose events
 * nobody gets, and is gone; another one is resumed from the shadow it left and is
 * given those records again. And the disk it reads may be ahead of its records.
 */
#ifndef TESTS_ORACLE_KILLER_H
#define TESTS_ORACLE_KILLER_H

#include "bdi/bdi.h"
#include "common/trace.h"

struct killer {
    uint64_t every;    /* records between two kills; 0: never */
    uint64_t ahead;    /* records by which the image is ahead of the engine, at most */
    uint64_t seed;
    /* A record that the engine gets later: the image is to have it now. */
    int (*early)(void *opaque, const struct nf_record *rec, struct nf_error *err);
    struct nf_image *image;
    struct bdi_options options; /* of each engine; its callback is wrapped */
    int shadow;

    bool open;
    struct nf_trace_reader *reader;
    struct bdi_state_fds state;
    struct nf_record *again; /* records taken from the reader too early, with data */
    size_t first, n, room;
    size_t position; /* of them, what the engine has taken */
    uint64_t taken, kills; /* taken: passed on */
    uint64_t generation;
    bool deaf; /* the engine is about to be killed */
};

/* The fields of the first block are set. Null on failure. */
struct bdi *killer_start(struct killer *k, struct nf_error *err);
void killer_release(struct killer *k);

/* Did the engine not yet take a record that touches [@offset, +@len)? */
bool killer_ahead(const struct killer *k, uint64_t offset, uint64_t len);

/* How many records the image has, and never less than killer.taken. */
uint64_t killer_image(const struct killer *k);

/* The next record of @reader, always the same one, as nf_trace_next(); before that
 * *@bdi, unless @bdi is null, may be killed and be another one. */
int killer_next(struct killer *k, struct nf_trace_reader *reader, struct bdi **bdi,
                struct nf_record *rec, struct nf_error *err);

#endif
