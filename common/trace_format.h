/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The native trace format, private to trace_reader.c and trace_writer.c.
 * docs/trace-format.md is its specification; the names here follow it.
 *
 * All integers are little-endian.  A file is: header, data blocks, index
 * block, trailer.  A block is a block header and one zstd frame.  Every header
 * ends in the CRC-32C of its bytes before.
 */
#ifndef NF_TRACE_FORMAT_H
#define NF_TRACE_FORMAT_H

#include <stdbool.h>
#include <stdint.h>

#include "common/trace.h"

/* Header. A first byte above 0x7f and both line ends show transfers as text. */
#define NF_TRACE_MAGIC "\x8eNFT\r\n\x1a\n"
#define NF_TRACE_VERSION 1
#define NF_TRACE_HEADER 320
enum nf_trace_header_pos {
    NF_TH_MAGIC = 0,    /* 8 bytes */
    NF_TH_VERSION = 8,  /* u16 */
    NF_TH_LENGTH = 10,  /* u16: NF_TRACE_HEADER */
    NF_TH_ORIGIN = 12,  /* u32 enum nf_trace_origin */
    NF_TH_EPOCH = 16,   /* 16 bytes */
    NF_TH_SIZE = 32,    /* u64 */
    NF_TH_CREATED = 40, /* s64 */
    NF_TH_DISK = 48,    /* 256 bytes, NUL-padded, the last one NUL */
    NF_TH_ZERO = 304,   /* 12 bytes */
    NF_TH_CRC = 316,    /* u32 */
};

/* Block header, of data blocks and of the index block. */
#define NF_TRACE_DATA_MAGIC "NFBK"
#define NF_TRACE_INDEX_MAGIC "NFIX"
#define NF_TRACE_BLOCK_HEADER 64
enum nf_trace_block_pos {
    NF_TB_MAGIC = 0,      /* 4 bytes */
    NF_TB_PACKED = 4,     /* u32: bytes of the zstd frame that follows */
    NF_TB_PLAIN = 8,      /* u32: bytes it stands for */
    NF_TB_RECORDS = 12,   /* u32; index: entries */
    NF_TB_FIRST_SEQ = 16, /* u64; index: 0, as the three after it */
    NF_TB_LAST_SEQ = 24,  /* u64 */
    NF_TB_FIRST_NS = 32,  /* s64: smallest time */
    NF_TB_LAST_NS = 40,   /* s64: largest time */
    NF_TB_ZERO = 48,      /* 8 bytes */
    NF_TB_PACKED_CRC = 56, /* u32: of the zstd frame */
    NF_TB_CRC = 60,       /* u32 */
};

/* A record in a data block; its payload follows where it has one. */
#define NF_TRACE_RECORD 48
enum nf_trace_record_pos {
    NF_TR_TYPE = 0,    /* u32 */
    NF_TR_FLAGS = 4,   /* u32 */
    NF_TR_SEQ = 8,     /* u64 */
    NF_TR_OFFSET = 16, /* u64 */
    NF_TR_LENGTH = 24, /* u64 */
    NF_TR_TIME = 32,   /* s64 */
    NF_TR_AUX = 40,    /* u64 */
};

/* Index: totals by type, then one entry per data block. */
#define NF_TRACE_TOTAL 16 /* u64 records, u64 bytes */
#define NF_TRACE_INDEX_ENTRY 48
enum nf_trace_index_pos {
    NF_TI_POS = 0,     /* u64: where the block's header is */
    NF_TI_PACKED = 8,  /* u32 */
    NF_TI_RECORDS = 12, /* u32 */
    NF_TI_FIRST_SEQ = 16,
    NF_TI_LAST_SEQ = 24,
    NF_TI_FIRST_NS = 32,
    NF_TI_LAST_NS = 40,
};

#define NF_TRACE_END_MAGIC "NFEND\r\n\x1a"
#define NF_TRACE_TRAILER 32
enum nf_trace_trailer_pos {
    NF_TT_MAGIC = 0, /* 8 bytes */
    NF_TT_INDEX = 8, /* u64: where the index block's header is */
    NF_TT_ZERO = 16, /* 12 bytes */
    NF_TT_CRC = 28,
};

/* Blocks are ended at this much plain data; only one long record exceeds it. */
#define NF_TRACE_BLOCK_TARGET (1u << 20)
#define NF_TRACE_MAX_PLAIN (NF_TRACE_MAX_PAYLOAD + NF_TRACE_RECORD)

/* What reader and writer keep of each data block: its index entry. */
struct nf_trace_block {
    uint64_t pos;
    uint32_t packed;
    uint32_t records;
    uint64_t first_seq, last_seq;
    int64_t first_ns, last_ns;
};

/* A write that failed left nothing that could be known. */
static inline bool nf_trace_has_payload(uint32_t type, uint32_t flags)
{
    return type == NF_REC_READBACK || (type == NF_REC_WRITE && !(flags & NF_REC_FAILED));
}

/* Does @offset..@offset+@length mean a range of the disk, for this type? */
static inline bool nf_trace_has_range(uint32_t type)
{
    return type == NF_REC_WRITE || type == NF_REC_READBACK || type == NF_REC_ZERO ||
           type == NF_REC_DISCARD;
}

/* May a trace hold a record with these values?  Ranges and sizes stay below
 * 2^63, so that they are off_t and their sums do not overflow. */
static inline bool nf_trace_record_ok(uint32_t type, uint64_t offset, uint64_t length)
{
    if (type < NF_REC_WRITE || type > NF_REC_READBACK)
        return false;
    if (nf_trace_has_range(type))
        return offset <= INT64_MAX && length <= INT64_MAX - offset;
    if (type == NF_REC_RESIZE || type == NF_REC_OPEN)
        return length <= INT64_MAX;
    return true;
}

#endif
