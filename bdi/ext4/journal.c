/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/journal_private.h"

#include <stdlib.h>
#include <string.h>

/* Fields of the journal superblock. */
enum {
    S_BLOCKSIZE = 0x0c,
    S_MAXLEN = 0x10,
    S_FIRST = 0x14,
    S_SEQUENCE = 0x18,
    S_START = 0x1c,
    S_FEATURE_COMPAT = 0x24,
    S_FEATURE_INCOMPAT = 0x28,
    S_FEATURE_RO_COMPAT = 0x2c,
    S_UUID = 0x30,
    S_NR_USERS = 0x40,
    S_CHECKSUM_TYPE = 0x50, /* u8 */
    S_NUM_FC_BLOCKS = 0x54,
    CHECKSUM_TYPE_CRC32C = 4,

    /* An ext4 superblock where the journal's should be. */
    EXT4_SUPER = 1024,
    EXT4_MAGIC_AT = EXT4_SUPER + 0x38,
    EXT4_MAGIC = 0xef53,
    EXT4_INCOMPAT_AT = EXT4_SUPER + 0x60,
    EXT4_INCOMPAT_JOURNAL_DEV = 0x8,

    MAX_BLOCK_SIZE = 65536,

    FC_BLOCKS_DEFAULT = 256, /* where the superblock says 0 */
    LOG_BLOCKS_MIN = 1024,   /* that fast commits must leave to the log */
};

#define INCOMPAT_KNOWN                                                                             \
    (JBD_INCOMPAT_REVOKE | JBD_INCOMPAT_64BIT | JBD_INCOMPAT_ASYNC_COMMIT | JBD_INCOMPAT_CSUM_V2 | \
     JBD_INCOMPAT_CSUM_V3 | JBD_INCOMPAT_FAST_COMMIT)

static int check_features(const struct journal *j, uint32_t ro_compat, uint8_t csum_type,
                          struct nf_error *err)
{
    uint32_t incompat = j->features_incompat;

    if (incompat & ~(uint32_t)INCOMPAT_KNOWN)
        return nf_fail(err, NF_EUNSUPPORTED, "journal has unknown incompatible features %#x",
                       incompat & ~(uint32_t)INCOMPAT_KNOWN);
    if (ro_compat)
        return nf_fail(err, NF_EUNSUPPORTED, "journal has unknown read-only features %#x",
                       ro_compat);
    if ((incompat & JBD_INCOMPAT_CSUM_V2) && (incompat & JBD_INCOMPAT_CSUM_V3))
        return nf_fail(err, NF_EFORMAT, "journal has checksums v2 and v3 at once");
    if (journal_csum_v2or3(j) && (j->features_compat & JBD_COMPAT_CHECKSUM))
        return nf_fail(err, NF_EFORMAT, "journal has checksums v1 and v2 or v3 at once");
    if (journal_csum_v2or3(j) && csum_type != CHECKSUM_TYPE_CRC32C)
        return nf_fail(err, NF_EFORMAT, "journal has unknown checksum type %u", csum_type);
    return 0;
}

/* The end of the log is that of fast commits; the kernel leaves a block between
 * the two, and the log whole if it would become too short. */
static void set_fast_commit_area(struct journal *j, uint32_t num)
{
    num = num ? num : FC_BLOCKS_DEFAULT;
    j->fc_first = j->fc_end = j->maxlen;
    if (!(j->features_incompat & JBD_INCOMPAT_FAST_COMMIT) || num > j->maxlen ||
        j->maxlen - num < LOG_BLOCKS_MIN)
        return;
    j->maxlen -= num;
    j->fc_first = j->maxlen + 1;
}

/* Read log block 0 into the fields "from the superblock" of @j, of which
 * nothing is valid after a failure. */
static int read_super(struct journal *j, struct nf_error *err)
{
    const uint8_t *sb = j->block(j->opaque, 0);
    uint32_t type, maxlen, ro_compat = 0, fc_blocks = 0;
    uint8_t csum_type = 0;
    int ret;

    if (!sb)
        return nf_fail(err, NF_EFORMAT, "journal superblock cannot be read");
    if (nf_be32(sb) != JBD_MAGIC) {
        if (j->block_size > EXT4_SUPER && nf_le16(sb + EXT4_MAGIC_AT) == EXT4_MAGIC &&
            (nf_le32(sb + EXT4_INCOMPAT_AT) & EXT4_INCOMPAT_JOURNAL_DEV))
            return nf_fail(err, NF_EUNSUPPORTED,
                           "this is an external journal device, which cannot be followed");
        return nf_fail(err, NF_EFORMAT, "journal superblock has magic %#x instead of %#x",
                       nf_be32(sb), JBD_MAGIC);
    }
    type = nf_be32(sb + 4);
    if (type != JBD_SUPER_V1 && type != JBD_SUPER_V2)
        return nf_fail(err, NF_EFORMAT, "journal superblock has block type %u", type);
    if (nf_be32(sb + S_BLOCKSIZE) != j->block_size)
        return nf_fail(err, NF_EFORMAT, "journal block size is %u, the file system's %u",
                       nf_be32(sb + S_BLOCKSIZE), j->block_size);

    /* Version 1 ends before the features: it has none. */
    j->features_compat = j->features_incompat = j->csum_seed = 0;
    memset(j->uuid, 0, sizeof(j->uuid));
    if (type == JBD_SUPER_V2) {
        j->features_compat = nf_be32(sb + S_FEATURE_COMPAT);
        j->features_incompat = nf_be32(sb + S_FEATURE_INCOMPAT);
        ro_compat = nf_be32(sb + S_FEATURE_RO_COMPAT);
        csum_type = sb[S_CHECKSUM_TYPE];
        fc_blocks = nf_be32(sb + S_NUM_FC_BLOCKS);
        memcpy(j->uuid, sb + S_UUID, sizeof(j->uuid));
        if (nf_be32(sb + S_NR_USERS) > 1)
            return nf_fail(err, NF_EUNSUPPORTED,
                           "journal is shared by %u file systems (external journal device), "
                           "which cannot be followed",
                           nf_be32(sb + S_NR_USERS));
    }
    ret = check_features(j, ro_compat, csum_type, err);
    if (ret < 0)
        return ret;
    if (journal_csum_v2or3(j)) {
        if (!journal_super_csum_ok(sb))
            return nf_fail(err, NF_EFORMAT, "journal superblock has a wrong checksum");
        j->csum_seed = journal_csum_seed(j->uuid);
    }

    maxlen = nf_be32(sb + S_MAXLEN);
    j->first = nf_be32(sb + S_FIRST);
    j->maxlen = maxlen;
    j->tail_tid = nf_be32(sb + S_SEQUENCE);
    j->tail_block = nf_be32(sb + S_START);
    if (maxlen > j->blocks)
        return nf_fail(err, NF_EFORMAT, "journal claims %u blocks, its inode has %u", maxlen,
                       j->blocks);
    set_fast_commit_area(j, fc_blocks);
    maxlen = j->maxlen;
    if (j->first == 0 || j->first >= maxlen)
        return nf_fail(err, NF_EFORMAT, "journal's log area [%u, %u) is invalid", j->first, maxlen);
    if (j->tail_block != 0 && (j->tail_block < j->first || j->tail_block >= maxlen))
        return nf_fail(err, NF_EFORMAT, "journal starts at block %u, outside its log [%u, %u)",
                       j->tail_block, j->first, maxlen);
    return 0;
}

int journal_init(struct journal *j, uint32_t block_size, uint32_t blocks, journal_block_fn *block,
                 void *opaque, struct nf_error *err)
{
    int ret;

    memset(j, 0, sizeof(*j));
    if (block_size < 1024 || block_size > MAX_BLOCK_SIZE || (block_size & (block_size - 1)))
        return nf_fail(err, NF_EINVAL, "journal block size %u", block_size);
    j->block = block;
    j->opaque = opaque;
    j->block_size = block_size;
    j->blocks = blocks;
    ret = read_super(j, err);
    if (ret < 0)
        return ret;
    j->scratch = calloc(1, sizeof(*j->scratch));
    if (!j->scratch)
        return nf_fail(err, NF_ENOMEM, "out of memory for the journal");
    j->next_tid = j->tail_tid;
    j->next_block = j->tail_block;
    journal_scan_reset(j);
    journal_fc_reset(j);
    return 0;
}

void journal_release(struct journal *j)
{
    struct journal_scratch *s = j->scratch;

    if (s) {
        free(s->control);
        free(s->cache);
        free(s->tags);
        free(s->revokes);
        free(s);
    }
    memset(j, 0, sizeof(*j));
}

/* What happened to the log between @old and @now, both as read from disk. */
static enum journal_reload compare(const struct journal *old, const struct journal *now)
{
    bool moved = now->tail_tid != old->tail_tid || now->tail_block != old->tail_block;

    if (now->tail_block == 0)
        return moved ? JOURNAL_EMPTY : JOURNAL_SAME;
    if (old->next_block == 0)
        return JOURNAL_RESTART;
    if (now->first != old->first || now->maxlen != old->maxlen || now->fc_first != old->fc_first ||
        now->fc_end != old->fc_end)
        return JOURNAL_RESTART;
    if (!moved)
        return JOURNAL_SAME;
    /* A running journal's tail only goes forward, and never beyond what was
     * committed. Anything else is another history: a mount after recovery
     * (which skips an id), or an older image put in place. */
    if (!journal_tid_gt(now->tail_tid, old->tail_tid) ||
        journal_tid_gt(now->tail_tid, old->next_tid))
        return JOURNAL_RESTART;
    if (now->tail_tid == old->next_tid && now->tail_block != old->next_block)
        return JOURNAL_RESTART;
    return JOURNAL_TAIL;
}

int journal_reload(struct journal *j, struct nf_error *err)
{
    struct journal now = *j;
    enum journal_reload what;
    bool parse_changed;
    int ret = read_super(&now, err);

    if (ret < 0)
        return ret;
    what = compare(j, &now);
    if (what == JOURNAL_EMPTY || what == JOURNAL_RESTART) {
        now.next_tid = now.tail_tid;
        now.next_block = now.tail_block;
    }
    parse_changed = now.features_compat != j->features_compat ||
                    now.features_incompat != j->features_incompat ||
                    now.csum_seed != j->csum_seed || now.first != j->first ||
                    now.maxlen != j->maxlen;
    *j = now;
    if (parse_changed || what == JOURNAL_EMPTY || what == JOURNAL_RESTART)
        journal_scan_reset(j);
    if (what == JOURNAL_EMPTY || what == JOURNAL_RESTART)
        journal_fc_reset(j);
    return what;
}
