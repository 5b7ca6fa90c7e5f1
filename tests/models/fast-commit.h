/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes fast commits behind a jbd2 log for tests, as ext4 does: tags do not
 * cross blocks, a PAD fills a block that has no room, a TAIL the last one. From
 * the format's description alone, like journal-log.h.
 */
#ifndef TESTS_MODELS_FAST_COMMIT_H
#define TESTS_MODELS_FAST_COMMIT_H

#include "tests/models/journal-log.h"

enum { JFC_ADD = 1, JFC_DEL, JFC_CREAT, JFC_LINK, JFC_UNLINK, JFC_INODE, JFC_PAD, JFC_TAIL, JFC_HEAD };

struct jfc {
    struct jlog *log;
    uint32_t first, end; /* log blocks */
    uint32_t at, in;     /* where the next tag goes */
    uint32_t crc;
};

static inline void jfc_le16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void jfc_le32(uint8_t *p, uint32_t v)
{
    jfc_le16(p, v);
    jfc_le16(p + 2, v >> 16);
}

/* The area of the last @blocks blocks of @log, of which the first is not used. */
static inline void jfc_init(struct jfc *f, struct jlog *log, uint32_t blocks)
{
    *f = (struct jfc){ .log = log, .first = log->blocks - blocks + 1, .end = log->blocks };
    f->at = f->first;
    log->features |= JLOG_FAST_COMMIT;
}

/* jlog_super() with the number of blocks. */
static inline void jfc_super(struct jfc *f, uint32_t sequence, uint32_t start)
{
    jlog_super(f->log, sequence, start);
    jlog_put32(f->log->data + 0x54, f->end - f->first + 1);
    if (jlog_v2or3(f->log)) {
        jlog_put32(f->log->data + 0xfc, 0);
        jlog_put32(f->log->data + 0xfc, jlog_crc32c(~0u, f->log->data, 1024));
    }
}

static inline void jfc_put(struct jfc *f, uint32_t type, const uint8_t *value, uint32_t len)
{
    uint8_t *p = jlog_block(f->log, f->at) + f->in;

    jfc_le16(p, type);
    jfc_le16(p + 2, len);
    if (len)
        memcpy(p + 4, value, len);
    f->crc = jlog_crc32c(f->crc, p, 4 + len);
    f->in += 4 + len;
}

/* Leaves room for the PAD of the next one. */
static inline void jfc_room(struct jfc *f, uint32_t len)
{
    static const uint8_t zeros[65536];
    uint32_t left = f->log->block_size - f->in;

    if (4 + len + 4 <= left)
        return;
    jfc_put(f, JFC_PAD, zeros, left - 4);
    f->at++;
    f->in = 0;
    if (f->at == f->end)
        abort();
}

static inline void jfc_tag(struct jfc *f, uint32_t type, const uint8_t *value, uint32_t len)
{
    jfc_room(f, len);
    jfc_put(f, type, value, len);
}

static inline void jfc_head(struct jfc *f, uint32_t tid)
{
    uint8_t v[8] = { 0 };

    f->at = f->first;
    f->in = 0;
    f->crc = 0;
    jfc_le32(v + 4, tid);
    jfc_tag(f, JFC_HEAD, v, 8);
}

static inline void jfc_name(struct jfc *f, uint32_t type, uint32_t dir, uint32_t ino,
                            const char *name)
{
    uint8_t v[8 + 255];
    uint32_t len = (uint32_t)strlen(name);

    jfc_le32(v, dir);
    jfc_le32(v + 4, ino);
    memcpy(v + 8, name, len);
    jfc_tag(f, type, v, 8 + len);
}

static inline void jfc_hole(struct jfc *f, uint32_t ino, uint32_t lblk, uint32_t len)
{
    uint8_t v[12];

    jfc_le32(v, ino);
    jfc_le32(v + 4, lblk);
    jfc_le32(v + 8, len);
    jfc_tag(f, JFC_DEL, v, 12);
}

static inline void jfc_range(struct jfc *f, uint32_t ino, uint32_t lblk, uint32_t len,
                             uint64_t pblk)
{
    uint8_t v[16];

    jfc_le32(v, ino);
    jfc_le32(v + 4, lblk);
    jfc_le16(v + 8, len);
    jfc_le16(v + 10, (uint32_t)(pblk >> 32));
    jfc_le32(v + 12, (uint32_t)pblk);
    jfc_tag(f, JFC_ADD, v, 16);
}

static inline void jfc_inode(struct jfc *f, uint32_t ino, const uint8_t *raw, uint32_t len)
{
    uint8_t v[4 + 1024];

    jfc_le32(v, ino);
    memcpy(v + 4, raw, len);
    jfc_tag(f, JFC_INODE, v, 4 + len);
}

static inline void jfc_tail(struct jfc *f, uint32_t tid)
{
    uint8_t *p;

    jfc_room(f, 8);
    p = jlog_block(f->log, f->at) + f->in;
    jfc_le16(p, JFC_TAIL);
    jfc_le16(p + 2, f->log->block_size - f->in - 4);
    jfc_le32(p + 4, tid);
    jfc_le32(p + 8, jlog_crc32c(f->crc, p, 8));
    memset(p + 12, 0, f->log->block_size - f->in - 12);
    f->at++;
    f->in = 0;
    f->crc = 0;
}

#endif
