/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole engine, over a small ext4 without checksums (engine-base.nft,
 * made by make-engine-base) and writes to it that a hostile guest chose.
 *
 * Input: a byte whose low bits are flags (enum flag), one that says how many
 * operations change the disk before the engine attaches, then operations
 * (enum op): a byte and its arguments. Most change a block within a
 * transaction, which OP_COMMIT writes into the log as jbd2 would; with
 * FLAG_NO_JOURNAL it writes the blocks in place, in another order or only some of
 * them, and time passes faster: a second for each record.
 *
 * Beside memory errors, endless loops and leaks this finds: records and disks
 * that stop the engine, names that no file can have, seqs with holes, events
 * that cannot be delivered.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <ext2fs/ext2fs.h>

#include "bdi/bdi.h"
#include "common/buffer.h"
#include "common/bytes.h"
#include "common/event_json.h"
#include "common/event_pb.h"
#include "common/trace.h"

enum {
    BLOCK = 1024,
    BLOCKS = 3072,
    LOG_MAX = 1024,
    STAGED_MAX = 32,
    OPS_MAX = 256,
    INODE_BITMAP = 19,
    ITABLE = 35,
    INODES = 64,
    INODE_SIZE = 256,
    JOURNAL_INO = 8,
};

enum flag {
    FLAG_SNAPSHOT = 1,
    FLAG_CONTENT = 2,
    FLAG_JSON = 4,
    FLAG_ENCRYPT = 8,
    FLAG_FOLD = 16,
    FLAG_NO_JOURNAL = 32,
    FLAG_MOUNTED = 64, /* the engine attaches in the middle */
};

enum op {
    OP_PATCH,    /* within a transaction: block, offset, count, bytes */
    OP_INODE,    /* within a transaction: inode, offset, count, bytes */
    OP_COMMIT,   /* how (enum how), and its arguments */
    OP_COPY,     /* within a transaction: from block, to block */
    OP_BITMAP,   /* within a transaction: which, bit */
    OP_DIRENT,   /* within a transaction: block, offset/4, inode, length, type, a letter */
    OP_EXTENTS,  /* within a transaction: inode, depth and count, each: logical, length, physical */
    OP_IN_PLACE, /* written at once: block, offset, count, bytes */
    OP_HOME,     /* all that was committed is written in place; where the tail is then */
    OP_DATA,     /* written at once: block, count, byte */
    OP_RECORD,   /* type, flags, offset in sectors (and below), length */
    OP_LOG,      /* written into the log: its block, offset, count, bytes */
    OPS,
};

enum how { HOW_REVOKE = 1, HOW_TORN = 2, HOW_WRONG_TID = 4, HOW_SYNC = 8 };

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

struct input {
    const uint8_t *p, *end;
};

struct copy {
    uint32_t block;
    uint8_t data[BLOCK];
};

struct world {
    struct input in;
    struct bdi *bdi; /* null before it attached */
    uint64_t seq;    /* of records */
    uint64_t event_seq;
    uint32_t flags;
    uint32_t tid, log_at; /* of the next transaction */
    bool log_open;        /* the journal's superblock says where the log begins */
    bool stopped;
    struct copy staged[STAGED_MAX];
    uint32_t nstaged;
    struct copy done[2 * STAGED_MAX]; /* committed, not home */
    uint32_t ndone;
};

static uint8_t base[BLOCK * BLOCKS], disk[BLOCK * BLOCKS];
static bool dirty[BLOCKS]; /* blocks of disk that are not those of base */
static uint32_t log_map[LOG_MAX], log_blocks;
static uint32_t used[BLOCKS], nused; /* what is not zero and not the log */
static int shadow_fd = -1;
static struct nf_event_encoder *encoder;
static struct nf_buffer encoded;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int read_disk(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                     struct nf_error *err)
{
    (void)err;
    CHECK(offset <= img->size && len <= img->size - offset);
    memcpy(buf, disk + offset, len);
    return 0;
}

static struct nf_image image = {.size = sizeof(disk), .read = read_disk};

/* --- once -------------------------------------------------------------------- */

static void find_log(void)
{
    char path[64];
    ext2_filsys fs;
    int fd = memfd_create("base", MFD_CLOEXEC);

    CHECK(fd >= 0 && write(fd, base, sizeof(base)) == sizeof(base));
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    CHECK(ext2fs_open(path, 0, 0, 0, unix_io_manager, &fs) == 0);
    CHECK(fs->blocksize == BLOCK && ext2fs_blocks_count(fs->super) == BLOCKS);
    CHECK(ext2fs_inode_bitmap_loc(fs, 0) == INODE_BITMAP);
    CHECK(ext2fs_inode_table_loc(fs, 0) == ITABLE && fs->super->s_inodes_count == INODES);
    CHECK(EXT2_INODE_SIZE(fs->super) == INODE_SIZE);
    for (; log_blocks < LOG_MAX; log_blocks++) {
        blk64_t pblk = 0;

        CHECK(ext2fs_bmap2(fs, JOURNAL_INO, NULL, NULL, 0, log_blocks, NULL, &pblk) == 0);
        CHECK(pblk > 0 && pblk < BLOCKS);
        log_map[log_blocks] = (uint32_t)pblk;
    }
    ext2fs_close_free(&fs);
    close(fd);
}

static void set_up(void)
{
    struct nf_trace_reader *r = nf_trace_open(NF_ENGINE_BASE, NULL);
    struct nf_record rec;
    bool is_log[BLOCKS] = {0};

    CHECK(r && nf_trace_reader_info(r)->disk_size == sizeof(base));
    while (nf_trace_next(r, &rec, NULL) > 0)
        memcpy(base + rec.offset, rec.data, rec.length);
    nf_trace_close(r);
    find_log();
    for (uint32_t i = 0; i < log_blocks; i++)
        is_log[log_map[i]] = true;
    for (uint32_t b = 1; b < BLOCKS; b++) {
        if (!is_log[b] && !nf_is_zero(base + b * BLOCK, BLOCK))
            used[nused++] = b;
    }
    memcpy(disk, base, sizeof(disk));
    shadow_fd = memfd_create("shadow", MFD_CLOEXEC);
    encoder = nf_event_encoder_new(NULL);
    CHECK(shadow_fd >= 0 && encoder);
}

/* --- events ------------------------------------------------------------------ */

static void check_path(struct nf_bytes path)
{
    size_t start = 1;

    CHECK(path.len > 0 && path.data[0] == '/');
    for (size_t i = 1; path.len > 1 && i <= path.len; i++) {
        size_t n = i - start;

        if (i < path.len && path.data[i] != '/') {
            CHECK(path.data[i] != 0);
            continue;
        }
        CHECK(n > 0 && n <= 255);
        CHECK(memcmp(path.data + start, "..", n < 2 ? n : 2) != 0 || n > 2);
        start = i + 1;
    }
}

static int on_event(void *opaque, const struct nf_event *ev, struct nf_error *err)
{
    struct world *w = opaque;
    int ret;

    CHECK(ev->seq == w->event_seq + 1);
    w->event_seq = ev->seq;
    for (size_t i = 0; i < ev->npaths; i++)
        check_path(ev->paths[i]);
    if (ev->kind == NF_RENAME || ev->kind == NF_EXCHANGE)
        check_path(ev->rename.new_path);
    nf_buffer_clear(&encoded);
    if (w->flags & FLAG_JSON)
        ret = nf_event_json(ev, true, &encoded, err);
    else
        ret = nf_event_encode(encoder, ev, &encoded, err);
    CHECK(ret == 0);
    return 0;
}

/* --- the disk ---------------------------------------------------------------- */

static void give(struct world *w, struct nf_record *rec)
{
    struct nf_error err = {0};

    rec->seq = ++w->seq;
    rec->time_ns = (int64_t)w->seq * (w->flags & FLAG_NO_JOURNAL ? 1000000000 : 1000);
    if (rec->data) {
        memcpy(disk + rec->offset, rec->data, rec->length);
        for (uint64_t b = rec->offset / BLOCK; b * BLOCK < rec->offset + rec->length; b++)
            dirty[b] = true;
    }
    if (rec->type == NF_REC_ZERO) {
        for (uint64_t i = rec->offset; i < rec->offset + rec->length && i < sizeof(disk); i++) {
            disk[i] = 0;
            dirty[i / BLOCK] = true;
        }
    }
    if (!w->bdi || w->stopped)
        return;
    if (bdi_record(w->bdi, rec, &err) < 0) {
        /* Nothing in a guest's power may stop the engine, but a GAP. */
        if (rec->type != NF_REC_GAP)
            fprintf(stderr, "record %llu: %s\n", (unsigned long long)rec->seq, err.text);
        CHECK(rec->type == NF_REC_GAP && err.code == NF_ELOST);
        w->stopped = true;
    }
}

static void write_block(struct world *w, uint32_t block, const uint8_t *data)
{
    uint8_t copy[BLOCK];

    memcpy(copy, data, BLOCK);
    give(w, &(struct nf_record){
                .type = NF_REC_WRITE, .offset = block * BLOCK, .length = BLOCK, .data = copy});
}

/* What the guest sees in @block. */
static const uint8_t *current(struct world *w, uint32_t block)
{
    for (uint32_t i = w->nstaged; i-- > 0;) {
        if (w->staged[i].block == block)
            return w->staged[i].data;
    }
    for (uint32_t i = w->ndone; i-- > 0;) {
        if (w->done[i].block == block)
            return w->done[i].data;
    }
    return disk + block * BLOCK;
}

/* @block's copy in the running transaction; null if that is full. */
static uint8_t *stage(struct world *w, uint32_t block)
{
    const uint8_t *now = current(w, block);
    struct copy *c;

    for (uint32_t i = 0; i < w->nstaged; i++) {
        if (w->staged[i].block == block)
            return w->staged[i].data;
    }
    if (w->nstaged == STAGED_MAX)
        return NULL;
    c = &w->staged[w->nstaged++];
    c->block = block;
    memcpy(c->data, now, BLOCK);
    return c->data;
}

static void put32(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)(v >> 24);
    p[1] = (uint8_t)(v >> 16);
    p[2] = (uint8_t)(v >> 8);
    p[3] = (uint8_t)v;
}

static void write_log(struct world *w, const uint8_t *data)
{
    write_block(w, log_map[w->log_at], data);
    if (++w->log_at == log_blocks)
        w->log_at = 1;
}

static void header(uint8_t *block, uint32_t type, uint32_t tid)
{
    memset(block, 0, BLOCK);
    put32(block, 0xc03b3998);
    put32(block + 4, type);
    put32(block + 8, tid);
}

/* @start 0: the log is empty. */
static void write_log_super(struct world *w, uint32_t tid, uint32_t start)
{
    uint8_t sb[BLOCK];

    memcpy(sb, disk + log_map[0] * BLOCK, BLOCK);
    put32(sb + 0x18, tid);
    put32(sb + 0x1c, start);
    put32(sb + 0x28, 1); /* revokes */
    write_block(w, log_map[0], sb);
    w->log_open = start != 0;
}

/* --- operations -------------------------------------------------------------- */

static uint32_t u8(struct world *w)
{
    return w->in.p < w->in.end ? *w->in.p++ : 0;
}

static uint32_t u16(struct world *w)
{
    uint32_t lo = u8(w);

    return lo | u8(w) << 8;
}

/* Half of all numbers mean one of the blocks that hold something. */
static uint32_t get_block(struct world *w)
{
    uint32_t v = u16(w);

    return v & 1 ? used[(v >> 1) % nused] : (v >> 1) % BLOCKS;
}

static void patch(struct world *w, uint8_t *at, uint32_t room)
{
    uint32_t n = u8(w) % 33;

    for (uint32_t i = 0; i < n; i++) {
        uint32_t v = u8(w);

        if (at && i < room)
            at[i] = (uint8_t)v;
    }
}

static uint8_t *stage_inode(struct world *w, uint32_t ino)
{
    uint8_t *block = stage(w, ITABLE + ino * INODE_SIZE / BLOCK);

    return block ? block + ino * INODE_SIZE % BLOCK : NULL;
}

static void op_dirent(struct world *w)
{
    uint8_t *block = stage(w, get_block(w));
    uint32_t at = u8(w) * 4, ino = u8(w), len = u8(w), type = u8(w), letter = u8(w);

    if (!block || at > BLOCK - 12)
        return;
    nf_put_le32(block + at, ino);
    block[at + 6] = (uint8_t)len;
    block[at + 7] = (uint8_t)type;
    for (uint32_t i = 0; letter && i < len && at + 8 + i < BLOCK; i++)
        block[at + 8 + i] = (uint8_t)letter;
}

static void op_extents(struct world *w)
{
    uint8_t *inode = stage_inode(w, u8(w) % INODES);
    uint32_t shape = u8(w), n = shape % 5, depth = shape / 5 % 3;
    uint8_t root[60] = {0};

    nf_put_le16(root, 0xf30a);
    nf_put_le16(root + 2, (uint16_t)n);
    nf_put_le16(root + 4, 4);
    nf_put_le16(root + 6, (uint16_t)depth);
    for (uint32_t i = 0; i < n; i++) {
        uint8_t *e = root + 12 + 12 * i;

        nf_put_le32(e, u16(w));
        if (depth) {
            nf_put_le32(e + 4, get_block(w));
        } else {
            nf_put_le16(e + 4, (uint16_t)u16(w));
            nf_put_le32(e + 8, get_block(w));
        }
    }
    if (!inode)
        return;
    nf_put_le32(inode + 0x20, nf_le32(inode + 0x20) | EXT4_EXTENTS_FL);
    memcpy(inode + 0x28, root, sizeof(root));
}

static void write_home(struct world *w)
{
    for (uint32_t i = 0; i < w->ndone; i++)
        write_block(w, w->done[i].block, w->done[i].data);
    w->ndone = 0;
}

/* Without a journal: the transaction's blocks in place, in some order, or half of them. */
static void write_back(struct world *w)
{
    uint32_t how = u8(w), n = how & HOW_TORN ? w->nstaged / 2 : w->nstaged;

    for (uint32_t i = 0; i < n; i++) {
        const struct copy *c = &w->staged[how & HOW_REVOKE ? n - 1 - i : i];

        write_block(w, c->block, c->data);
        if (how & HOW_WRONG_TID)
            give(w, &(struct nf_record){.type = NF_REC_FLUSH});
    }
    w->nstaged -= n;
    memmove(w->staged, w->staged + n, w->nstaged * sizeof(*w->staged));
    if (how & HOW_SYNC)
        give(w, &(struct nf_record){.type = NF_REC_FLUSH});
}

static void op_commit(struct world *w)
{
    uint32_t how = u8(w), begin = w->log_at;
    uint8_t block[BLOCK], *tag = block + 12;
    uint32_t tid = w->tid;

    if (w->ndone + w->nstaged > 2 * STAGED_MAX)
        write_home(w);
    if (w->nstaged) {
        header(block, 1, tid);
        for (uint32_t i = 0; i < w->nstaged; i++, tag += 8) {
            bool escape = memcmp(w->staged[i].data, "\xc0\x3b\x39\x98", 4) == 0;

            put32(tag, w->staged[i].block);
            tag[7] = (uint8_t)(escape | (i ? 2 : 0) | (i + 1 == w->nstaged ? 8 : 0));
            if (i == 0)
                tag += 16;
        }
        write_log(w, block);
        for (uint32_t i = 0; i < w->nstaged; i++) {
            memcpy(block, w->staged[i].data, BLOCK);
            if (memcmp(block, "\xc0\x3b\x39\x98", 4) == 0)
                memset(block, 0, 4);
            write_log(w, block);
        }
    }
    if (how & HOW_REVOKE) {
        header(block, 5, tid);
        put32(block + 12, 20);
        put32(block + 16, get_block(w));
        write_log(w, block);
    }
    if (how & HOW_TORN) {
        w->log_at = begin;
        w->nstaged = 0;
        return;
    }
    header(block, 2, how & HOW_WRONG_TID ? tid + 1 : tid);
    write_log(w, block);
    if (!w->log_open)
        write_log_super(w, tid, begin);
    w->tid++;
    memcpy(w->done + w->ndone, w->staged, w->nstaged * sizeof(*w->staged));
    w->ndone += w->nstaged;
    w->nstaged = 0;
    if (how & HOW_SYNC)
        write_home(w);
}

static void op_home(struct world *w)
{
    uint32_t how = u8(w);

    write_home(w);
    if (how % 4 == 1) {
        write_log_super(w, w->tid, 0);
        w->log_at = 1 + how / 4 * 15;
    } else if (how % 4 == 2) {
        write_log_super(w, w->tid, w->log_at);
    }
    if (how % 4)
        give(w, &(struct nf_record){.type = NF_REC_FLUSH});
}

static void op_record(struct world *w)
{
    static const uint8_t types[] = {NF_REC_ZERO,  NF_REC_DISCARD, NF_REC_FLUSH, NF_REC_RESIZE,
                                    NF_REC_WRITE, NF_REC_OPEN,    NF_REC_CLOSE, NF_REC_GAP};
    struct nf_record rec = {0};
    uint32_t type = u8(w), odd = u8(w);
    static uint8_t zeros[256 * 512];

    rec.type = types[type % sizeof(types)];
    rec.flags = type / sizeof(types) &
                (NF_REC_FUA | NF_REC_UNMAP | NF_REC_AMBIGUOUS | NF_REC_FAILED);
    rec.offset = get_block(w) * BLOCK + odd % 64 * 32;
    rec.length = u8(w) * 512 + odd / 64 * 100;
    /* The tap lets no write beyond the disk through; all else it may say. */
    if (rec.type == NF_REC_WRITE) {
        if (rec.offset > sizeof(disk) - sizeof(zeros))
            return;
        rec.length = rec.length < sizeof(zeros) ? rec.length : sizeof(zeros);
        rec.data = rec.flags & NF_REC_FAILED ? NULL : zeros;
    }
    give(w, &rec);
}

static void run_op(struct world *w)
{
    uint32_t op = u8(w) % OPS, block, n;
    uint8_t *at, copy[BLOCK];

    switch ((enum op)op) {
    case OP_PATCH:
        at = stage(w, get_block(w));
        n = u16(w) % BLOCK;
        patch(w, at ? at + n : NULL, BLOCK - n);
        break;
    case OP_INODE:
        at = stage_inode(w, u8(w) % INODES);
        n = u8(w);
        patch(w, at ? at + n : NULL, INODE_SIZE - n);
        break;
    case OP_COMMIT:
        if (w->flags & FLAG_NO_JOURNAL)
            write_back(w);
        else
            op_commit(w);
        break;
    case OP_COPY:
        block = get_block(w);
        at = stage(w, get_block(w));
        if (at)
            memmove(at, current(w, block), BLOCK);
        break;
    case OP_BITMAP:
        at = stage(w, u8(w) & 1 ? INODE_BITMAP : INODE_BITMAP - 16);
        n = u16(w) % (8 * BLOCK);
        if (at)
            at[n / 8] ^= (uint8_t)(1u << n % 8);
        break;
    case OP_DIRENT:
        op_dirent(w);
        break;
    case OP_EXTENTS:
        op_extents(w);
        break;
    case OP_IN_PLACE:
        block = get_block(w);
        memcpy(copy, disk + block * BLOCK, BLOCK);
        n = u16(w) % BLOCK;
        patch(w, copy + n, BLOCK - n);
        write_block(w, block, copy);
        break;
    case OP_HOME:
        op_home(w);
        break;
    case OP_DATA:
        block = get_block(w);
        n = u8(w) % 16;
        memset(copy, (int)u8(w), BLOCK);
        for (; n-- > 0 && block < BLOCKS; block++)
            write_block(w, block, copy);
        break;
    case OP_RECORD:
        op_record(w);
        break;
    case OP_LOG:
        block = log_map[u16(w) % log_blocks];
        memcpy(copy, disk + block * BLOCK, BLOCK);
        n = u16(w) % BLOCK;
        patch(w, copy + n, BLOCK - n);
        write_block(w, block, copy);
        break;
    case OPS:
        break;
    }
}

/* Everything but the root is encrypted, and perhaps casefolded: with names that are
 * none of that, which only makes them hostile. */
static void encrypt(uint32_t flags)
{
    uint32_t incompat = EXT4_FEATURE_INCOMPAT_ENCRYPT, inode_flags = EXT4_ENCRYPT_FL;

    if (flags & FLAG_FOLD) {
        incompat |= EXT4_FEATURE_INCOMPAT_CASEFOLD;
        inode_flags |= EXT4_CASEFOLD_FL;
    }
    nf_put_le32(disk + 1024 + 0x60, nf_le32(disk + 1024 + 0x60) | incompat);
    dirty[1024 / BLOCK] = true;
    for (uint32_t i = EXT2_GOOD_OLD_FIRST_INO; i < INODES; i++) {
        uint8_t *raw = disk + ITABLE * BLOCK + i * INODE_SIZE;

        nf_put_le32(raw + 0x20, nf_le32(raw + 0x20) | inode_flags);
        dirty[ITABLE + i * INODE_SIZE / BLOCK] = true;
    }
}

/* The journal's inode goes, and its blocks are free. */
static void remove_journal(void)
{
    uint8_t *sb = disk + 1024, *bitmap = disk + (INODE_BITMAP - 16) * BLOCK;

    nf_put_le32(sb + 0x5c, nf_le32(sb + 0x5c) & ~(uint32_t)EXT3_FEATURE_COMPAT_HAS_JOURNAL);
    nf_put_le32(sb + 0xe0, 0); /* its inode's number... */
    sb[0xfd] = 0;              /* ...and a copy of its map */
    memset(sb + 0x10c, 0, 68);
    memset(disk + ITABLE * BLOCK + (JOURNAL_INO - 1) * INODE_SIZE, 0, INODE_SIZE);
    for (uint32_t i = 0; i < log_blocks; i++)
        bitmap[(log_map[i] - 1) / 8] &= (uint8_t)~(1u << (log_map[i] - 1) % 8);
    dirty[1024 / BLOCK] = dirty[INODE_BITMAP - 16] = true;
    dirty[ITABLE + (JOURNAL_INO - 1) * INODE_SIZE / BLOCK] = true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct world world;
    struct world *w = &world;
    struct bdi_options opt = {.epoch = 1, .first_seq = 1, .event = on_event, .opaque = w};
    struct nf_error err = {0};
    struct bdi *bdi;
    uint32_t before;
    int ret;

    if (!nused)
        set_up();
    memset(w, 0, sizeof(*w));
    w->in = (struct input){data, data + len};
    w->tid = nf_be32(base + log_map[0] * BLOCK + 0x18);
    w->log_at = 1;
    w->flags = u8(w);
    if (w->flags & FLAG_ENCRYPT)
        encrypt(w->flags);
    if (w->flags & FLAG_NO_JOURNAL)
        remove_journal();
    if (w->flags & FLAG_MOUNTED) {
        disk[1024 + 0x3a] &= (uint8_t)~EXT2_VALID_FS;
        dirty[1024 / BLOCK] = true;
    }
    before = u8(w) % 16;
    for (uint32_t i = 0; i < before && w->in.p < w->in.end; i++)
        run_op(w);

    opt.snapshot = w->flags & FLAG_SNAPSHOT;
    opt.content_limit = w->flags & FLAG_CONTENT ? BDI_CONTENT_ALL : 0;
    opt.held_limit = 1u << 20;
    CHECK(ftruncate(shadow_fd, 0) == 0);
    bdi = bdi_new(&image, shadow_fd, &opt, &err);
    CHECK(bdi);
    ret = bdi_attach(bdi, &err);
    if (ret < 0 && ret != NF_EUNSUPPORTED)
        fprintf(stderr, "attach: %s\n", err.text);
    CHECK(ret == 0 || ret == NF_EUNSUPPORTED);
    w->bdi = bdi;
    for (uint32_t i = 0; ret == 0 && i < OPS_MAX && w->in.p < w->in.end && !w->stopped; i++)
        run_op(w);
    /* No more is to come: what has waited goes out as it is. */
    if (ret == 0 && !w->stopped)
        CHECK(bdi_idle(bdi, INT64_MAX, &err) == 0);
    bdi_free(bdi);

    for (uint32_t b = 0; b < BLOCKS; b++) {
        if (dirty[b])
            memcpy(disk + b * BLOCK, base + b * BLOCK, BLOCK);
        dirty[b] = false;
    }
    return 0;
}
