/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest's disk and what we make of it, side by side: records go to a copy of
 * the disk and to the engine, the engine's events to a directory tree, and at
 * any record that tree can be held against what the kernel would recover from
 * the disk at that instant (checkpoint.h).  Needs root.
 */
#ifndef NF_REPLICA_H
#define NF_REPLICA_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "bdi/bdi.h"
#include "common/error.h"
#include "common/image.h"
#include "common/record.h"
#include "consumers/apply.h"
#include "tests/oracle/checkpoint.h"
#include "tests/oracle/killer.h"
#include "tests/oracle/projects.h"

/* What discarded ranges of the disk read as. */
enum replica_discard {
    REPLICA_DISCARD_ZERO,
    REPLICA_DISCARD_KEEP,
    REPLICA_DISCARD_JUNK,
};

/* What became of a commit. */
enum replica_fate {
    REPLICA_PASSED,   /* nobody asked for a comparison */
    REPLICA_COMPARED,
    REPLICA_REFUSED,  /* the kernel's own recovery did not allow it */
    REPLICA_TOGETHER, /* the same record brought another one: the journal's superblock says
                         that the log is no longer empty. A kernel makes fast commits behind
                         an empty log, too, which nobody recovers until then. */
    REPLICA_FATES,
};

struct replica_options {
    const char *base;   /* image */
    uint64_t disk_size; /* bytes; the base may be shorter */
    uint64_t offset;    /* where the file system begins, bytes... */
    bool any;           /* ...or: one file system after another, wherever it is */
    enum replica_discard discard;
    uint64_t kill_every; /* records between two kills of the engine; 0: none */
    uint64_t ahead;      /* records by which the image it reads may be ahead of those it got */
    uint64_t seed;       /* of how far it gets beyond what it saved, and of that */
    bool count_only;    /* no tree: only commits are counted */
    const char *defer;  /* not compared: see replica_check(); or null */
    enum nf_kind lose;  /* not applied, to see that it is found; or unspecified */
    FILE *events;       /* null, or where a line per event goes */
};

/* Lines on recent events beyond this many are only counted. */
#define REPLICA_RECENT 200

struct replica {
    struct replica_options opt;
    char dir[200]; /* private scratch directory; "" before there is one */
    int disk;      /* the image as of the last record */
    int ahead;     /* the one that the engine reads once it is attached; or -1 */
    int shadow, tree, stage;
    struct nf_image image;
    struct bdi *bdi;
    struct killer killer;
    struct nf_apply *apply;
    struct projects projects;
    struct checkpoint cp;

    bool attached;
    bool following;    /* there is a file system, in this place: */
    uint32_t partition;
    uint64_t offset;
    uint64_t attaches; /* how many there were */
    bool changed;      /* by the last record: attached or grown */
    uint64_t commits;  /* seen since the engine attached */
    uint32_t txn;      /* of the last of them */
    bool committed;    /* by the last record */

    /* Lines on the events since the last comparison. */
    FILE *recent;
    char *recent_text;
    size_t recent_len;
    uint64_t recent_events;

    /* So many records make good what was read from an image that is ahead: content,
     * and, if there is no journal, metadata. */
    uint64_t settled_at, known_at;
    uint64_t unsettled, unknown; /* comparisons before that: but for content, and none */

    uint64_t compared, paths, bytes;
    uint64_t marks, waited; /* syncs, and those after which something waited */

    /* Fast commits, by what became of them. */
    bool is_fast;           /* the last commit */
    enum replica_fate fate; /* of that */
    bool log_begins;        /* the record is the journal's superblock */
    uint64_t fast_seen;     /* by the engine's count */
    uint64_t fast[REPLICA_FATES];
    uint64_t damaged; /* directories that the kernel's recovery left behind damaged... */
    uint64_t acls;    /* ...and ACLs, with other inodes */
};

/* A workload writes this somewhere outside its file system when a sync is done. The
 * engine then hears that a minute has passed: nothing waits any longer, and that is
 * as good as a commit. */
#define REPLICA_MARK "nearfield oracle: synced"


/* @r is to be closed also after a failure. */
int replica_open(struct replica *r, const struct replica_options *opt, struct nf_error *err);

/* Unmounts and, unless @keep, removes the scratch directory. */
void replica_close(struct replica *r, bool keep);

/* The engine reads the disk as it is now. Before that, records only change it. */
int replica_attach(struct replica *r, struct nf_error *err);
/* The next record of @reader, as nf_trace_next(), for replica_record(). */
int replica_next(struct replica *r, struct nf_trace_reader *reader, struct nf_record *rec,
                 struct nf_error *err);
int replica_record(struct replica *r, const struct nf_record *rec, struct nf_error *err);

/* Nothing more will come. */
int replica_end(struct replica *r, struct nf_error *err);

/*
 * Compare the tree with what the disk recovers to.  A line per difference goes
 * to @report (may be null).  Returns how many there are, or negative if it
 * could not be said.  Without a file system the tree must be empty.
 *
 * With opt.defer, what the disk recovers to becomes DEFER-COMMIT.img and the
 * tree's manifest DEFER-COMMIT.mirror, for a kernel other than ours to be asked
 * (tests/oracle/read-guest), and there are no differences.
 */
int64_t replica_check(struct replica *r, FILE *report, struct nf_error *err);

/* Only the second half: the tree with the checkpoint taken last. */
int64_t replica_compare(struct replica *r, FILE *report, struct nf_error *err);

/* Forget the lines on events so far. */
void replica_forget_events(struct replica *r);

/* 0, or what the applier left out, as text in @err. */
int replica_complete(const struct replica *r, struct nf_error *err);

/* The last commit's fate is known. Returns the number of fast commits so far. */
uint64_t replica_fast(struct replica *r);

/* Change the tree in one way at a time: each must be found, and its undoing. */
int replica_self_test(struct replica *r, struct nf_error *err);

#endif
