/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Write logs in the format of the Linux target dm-log-writes, which QEMU's
 * blklogwrites driver writes too.
 *
 * Little-endian.  The first sector holds {u64 magic, u64 version, u64 entries,
 * u32 sector size}.  An entry is one sector {u64 sector, u64 sectors, u64
 * flags, u64 length of inline data} and, unless it is a DISCARD or a MARK,
 * that many sectors of data.  Units are sectors of the stated size.  There are
 * no times and no checksums.
 *
 * Threads: one at a time per object.
 */
#ifndef NF_LOGWRITES_H
#define NF_LOGWRITES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/error.h"

#define NF_LOGWRITES_MAGIC UINT64_C(0x6a736677736872)
#define NF_LOGWRITES_VERSION 1

enum nf_logwrites_flags {
    NF_LOG_FLUSH = 1u << 0, /* the device's cache was flushed, before the data if any */
    NF_LOG_FUA = 1u << 1,
    NF_LOG_DISCARD = 1u << 2,
    NF_LOG_MARK = 1u << 3,     /* a text, inline */
    NF_LOG_METADATA = 1u << 4, /* the kernel's hint; QEMU refuses to read it */
    NF_LOG_KNOWN = (1u << 5) - 1,
};

struct nf_logwrites_entry {
    uint64_t number;   /* from 0 */
    uint64_t offset;   /* on the disk, bytes */
    uint64_t length;   /* bytes; for WRITE how many data bytes there are */
    uint32_t flags;    /* enum nf_logwrites_flags */
    uint64_t data_pos; /* in the log, where the data begin */
    bool has_data;     /* false: DISCARD, MARK, or nothing but a FLUSH */
    char mark[256];    /* MARK: its text, cut if longer, NUL-terminated */
};

struct nf_logwrites_reader;

/*
 * @fd (regular file or block device) is borrowed.  @disk_size bounds what
 * entries may refer to.  Null on failure (NF_EFORMAT, NF_EIO, NF_ENOMEM).
 */
struct nf_logwrites_reader *nf_logwrites_open(int fd, uint64_t disk_size, struct nf_error *err);
void nf_logwrites_close(struct nf_logwrites_reader *r); /* null is allowed */

/*
 * 1: @e is the next entry; 0: the end; NF_EFORMAT, NF_EIO.
 *
 * The count in the log's header is what its writer last said, now and then
 * while it ran: entries after it are real too.  So all up to the count must be
 * good; beyond it they are taken as long as they make sense (@trust_count
 * false), or not at all (true), which suits a log device that was used before.
 */
int nf_logwrites_next(struct nf_logwrites_reader *r, bool trust_count,
                      struct nf_logwrites_entry *e, struct nf_error *err);

/* @len bytes of @e's data from its byte @skip on. */
int nf_logwrites_read(struct nf_logwrites_reader *r, const struct nf_logwrites_entry *e,
                      uint64_t skip, void *buf, size_t len, struct nf_error *err);

uint32_t nf_logwrites_sector_size(const struct nf_logwrites_reader *r);
uint64_t nf_logwrites_counted(const struct nf_logwrites_reader *r); /* by the header */
uint64_t nf_logwrites_size(const struct nf_logwrites_reader *r);    /* of the log, bytes */

struct nf_logwrites_writer;

/* Begins a log in @fd, an empty regular file, borrowed. @sector_size is 512 or
 * 4096. */
struct nf_logwrites_writer *nf_logwrites_create(int fd, uint32_t sector_size,
                                                struct nf_error *err);

/* An entry, whole sectors of the disk (else NF_EINVAL).  Data, if the flags
 * mean data, follow by nf_logwrites_data() until they are complete. */
int nf_logwrites_entry(struct nf_logwrites_writer *w, uint32_t flags, uint64_t offset,
                       uint64_t length, struct nf_error *err);
/* Null @data means zeros. */
int nf_logwrites_data(struct nf_logwrites_writer *w, const void *data, uint64_t len,
                      struct nf_error *err);

/* Writes the count and makes the log durable; frees @w in every case. */
int nf_logwrites_finish(struct nf_logwrites_writer *w, struct nf_error *err);
void nf_logwrites_discard(struct nf_logwrites_writer *w); /* null is allowed */

#endif
