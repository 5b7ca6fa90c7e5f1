/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Traces: the records of a tap in a file (native format, docs/trace-format.md).
 *
 * Threads: an object is used by one thread at a time; different objects are
 * independent.
 */
#ifndef NF_TRACE_H
#define NF_TRACE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/record.h"

/* No record read from a trace carries more bytes than this. */
#define NF_TRACE_MAX_PAYLOAD (64u << 20)

/* Totals are kept per record type, indexed by enum nf_record_type. */
#define NF_TRACE_TYPES 16

/* Where the records came from. */
enum nf_trace_origin {
    NF_TRACE_ORIGIN_UNKNOWN = 0,
    NF_TRACE_ORIGIN_TAP = 1,       /* recorded from a live tap */
    NF_TRACE_ORIGIN_LOGWRITES = 2, /* imported: no times, no epoch of a tap */
    NF_TRACE_ORIGIN_DERIVED = 3,   /* cut or filtered from another trace */
};

struct nf_trace_info {
    uint8_t epoch_uuid[16]; /* of the tap; an import derives one from its input */
    uint64_t disk_size;     /* bytes, when the trace began */
    int64_t created_ns;     /* Unix ns when recording began; 0: not known */
    enum nf_trace_origin origin;
    char disk_id[256];      /* the tap's name of the disk; "" if none */

    /* The rest is about what the file holds; nf_trace_create() ignores it. */
    bool has_index; /* false: recording ended without nf_trace_finish() */
    uint64_t torn;  /* without an index: bytes behind the last whole block, what
                       a crash while recording cut off */
    uint64_t records;
    uint64_t first_seq, last_seq;
    int64_t first_ns, last_ns; /* smallest and largest record time */
    struct { /* known only with an index, else 0 */
        uint64_t records;
        uint64_t bytes; /* sum of nf_record.length; saturates */
    } totals[NF_TRACE_TYPES];
};

struct nf_trace_reader;
struct nf_trace_writer;

/* --- reading ------------------------------------------------------------ */

/* Null on failure (NF_EIO, NF_EFORMAT, NF_ENOMEM in @err).  The file must be a
 * regular one.  _open_fd takes ownership of @fd, also on failure. */
struct nf_trace_reader *nf_trace_open(const char *path, struct nf_error *err);
struct nf_trace_reader *nf_trace_open_fd(int fd, struct nf_error *err);
void nf_trace_close(struct nf_trace_reader *r); /* null is allowed */

/* Valid as long as the reader. */
const struct nf_trace_info *nf_trace_reader_info(const struct nf_trace_reader *r);

/*
 * The next record: 1 and @rec (its data borrowed until the next call on @r), 0
 * at the end, or negative: NF_EFORMAT where the file is damaged.  A trace whose
 * recording was cut off (no index) ends cleanly after its last whole block.  An
 * error is final: further calls repeat it.
 *
 * seq never decreases.  It is the same in parts of one long WRITE, and in
 * READBACK, which has that of the record it follows.  A filtered trace has
 * holes; where a tap lost writes there is a GAP record.  A FAILED write has no
 * data.
 */
int nf_trace_next(struct nf_trace_reader *r, struct nf_record *rec, struct nf_error *err);

/*
 * Bytes that were read before, again: _where() names the first byte of the data of
 * the record that nf_trace_next() gave last (0: @rec is another, or has none), and
 * those behind it follow it; _again() reads them, at any time until @r is closed,
 * without moving @r. It may have to decompress a block for that: a few are kept.
 */
uint64_t nf_trace_where(const struct nf_trace_reader *r, const struct nf_record *rec);
int nf_trace_again(struct nf_trace_reader *r, uint64_t where, void *buf, size_t len,
                   struct nf_error *err);

/* Go on with the first record whose seq is >= @seq (the end if there is none). */
int nf_trace_seek(struct nf_trace_reader *r, uint64_t seq, struct nf_error *err);

/* --- writing ------------------------------------------------------------ */

/*
 * Starts a trace in a temporary file beside @path; only nf_trace_finish()
 * makes it appear there (replacing what was), so a failure leaves nothing.
 * The same info, records and calls always give the same bytes (with the same
 * version of libzstd).
 */
struct nf_trace_writer *nf_trace_create(const char *path, const struct nf_trace_info *info,
                                        struct nf_error *err);

/* The same into an open, empty, writable regular file; takes ownership of
 * @fd, also on failure. */
struct nf_trace_writer *nf_trace_create_fd(int fd, const struct nf_trace_info *info,
                                           struct nf_error *err);

/* Append one record; its data is copied.  A WRITE or READBACK longer than
 * NF_TRACE_MAX_PAYLOAD is stored as several, of the same seq.  NF_EINVAL for a
 * record that no trace can hold: unknown type, seq below the last one, a range
 * beyond 2^63, data missing.  After NF_EIO or NF_ENOMEM only
 * nf_trace_discard() is useful. */
int nf_trace_append(struct nf_trace_writer *w, const struct nf_record *rec, struct nf_error *err);

/* Write out what is buffered and make it durable.  Ends a block: for when the
 * source is quiet, not for after each record. */
int nf_trace_flush(struct nf_trace_writer *w, struct nf_error *err);

/* Write the rest and the index, make the file durable and put it in its
 * place.  Frees @w, also on failure (then no file is left). */
int nf_trace_finish(struct nf_trace_writer *w, struct nf_error *err);

/* Give up: remove the temporary file and free @w.  Null is allowed. */
void nf_trace_discard(struct nf_trace_writer *w);

#endif
