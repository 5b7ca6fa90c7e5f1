/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fast commits: small records behind the log proper, each of which adds to the
 * transaction that is not committed yet.
 *
 * The area begins anew after each full commit. It holds tags (type, length,
 * value; little-endian, none crosses a block), and a fast commit is valid once
 * its TAIL has the expected id and the right checksum over all tags since the
 * last one. The first tag of the area is a HEAD with the id; of what follows
 * the last valid TAIL nothing counts. Format and rules: fs/ext4/fast_commit.[ch]
 * of the kernel.
 */
#include "bdi/ext4/journal_private.h"

#include <ext2fs/ext2fs.h>

enum {
    TAG_LEN = 4,    /* type and length */
    HEAD_LEN = 8,   /* features, tid */
    TAIL_LEN = 8,   /* tid, checksum; the rest of the block belongs to it, too */
    RANGE_LEN = 16, /* inode and extent */
    HOLE_LEN = 12,  /* inode, block, length */
    DENTRY_LEN = 8, /* directory and inode, before the name */
    INODE_LEN = 4,  /* number, before the inode itself */
    INODE_MIN = 128,
    NAME_MAX_LEN = 255,
};

void journal_fc_reset(struct journal *j)
{
    struct journal_scratch *s = j->scratch;
    uint64_t blocks = j->fc_end - j->fc_first, times = blocks;

    s->fc_pos = s->fc_scanned = 0;
    s->fc_crc = 0;
    /* As it is filled, the area may be read again for each block: up to where the
     * remains of older fast commits, or a disk that is ahead, look like more of the
     * same. Those who write it again and again are not followed without end. */
    times = times < 16 ? 16 : times > 256 ? 256 : times;
    s->fc_budget = blocks * times + 64;
}

void journal_fc_ignore(struct journal *j)
{
    j->scratch->fc_budget = 0;
}

static bool length_ok(const struct journal *j, unsigned type, uint32_t len)
{
    switch (type) {
    case JOURNAL_FC_ADD_RANGE:
        return len == RANGE_LEN;
    case JOURNAL_FC_DEL_RANGE:
        return len == HOLE_LEN;
    case JOURNAL_FC_CREAT:
    case JOURNAL_FC_LINK:
    case JOURNAL_FC_UNLINK:
        return len > DENTRY_LEN && len <= DENTRY_LEN + NAME_MAX_LEN;
    case JOURNAL_FC_INODE:
        return len >= INODE_LEN + INODE_MIN && len - INODE_LEN <= j->fc_inode_size;
    case JOURNAL_FC_PAD:
        return true;
    case JOURNAL_FC_TAIL:
        return len >= TAIL_LEN;
    case JOURNAL_FC_HEAD:
        return len == HEAD_LEN;
    }
    return false;
}

/* The tag at @in of @block: false if there is none that the kernel would take. */
static bool tag_at(const struct journal *j, const uint8_t *block, uint32_t in,
                   struct journal_fc_tag *tag)
{
    if (j->block_size - in < TAG_LEN)
        return false;
    tag->type = nf_le16(block + in);
    tag->len = nf_le16(block + in + 2);
    tag->value = block + in + TAG_LEN;
    return tag->len <= j->block_size - in - TAG_LEN && length_ok(j, tag->type, tag->len);
}

static const uint8_t *area_block(const struct journal *j, uint64_t pos)
{
    uint64_t lblk = j->fc_first + pos / j->block_size;

    return lblk < j->fc_end ? j->block(j->opaque, (uint32_t)lblk) : NULL;
}

/* Where the next tag begins: no tag starts in a block's last bytes. */
static uint64_t after_tag(const struct journal *j, uint64_t pos, const struct journal_fc_tag *tag)
{
    pos += TAG_LEN + tag->len;
    if (j->block_size - pos % j->block_size < TAG_LEN)
        pos += j->block_size - pos % j->block_size;
    return pos;
}

/* Go through the block of *@pos. 1: a valid TAIL ends before *@pos; 0: the block
 * is used up, *@pos is the next one's; -1: what is here does not count (yet). */
static int scan_block(struct journal *j, uint64_t *pos, uint32_t *crc)
{
    const uint8_t *block = area_block(j, *pos);
    uint64_t end = (*pos / j->block_size + 1) * j->block_size;

    while (block && *pos < end) {
        uint32_t in = (uint32_t)(*pos % j->block_size);
        struct journal_fc_tag tag;

        if (!tag_at(j, block, in, &tag) || (*pos == 0 && tag.type != JOURNAL_FC_HEAD))
            return -1;
        if (tag.type == JOURNAL_FC_HEAD &&
            (nf_le32(tag.value) != 0 || nf_le32(tag.value + 4) != j->next_tid))
            return -1;
        *pos = after_tag(j, *pos, &tag);
        if (tag.type == JOURNAL_FC_TAIL) {
            *crc = ext2fs_crc32c_le(*crc, block + in, TAG_LEN + 4);
            return nf_le32(tag.value) == j->next_tid && nf_le32(tag.value + 4) == *crc ? 1 : -1;
        }
        *crc = ext2fs_crc32c_le(*crc, block + in, TAG_LEN + tag.len);
    }
    return block ? 0 : -1;
}

bool journal_fc_next(struct journal *j, struct journal_fc *out)
{
    struct journal_scratch *s = j->scratch;

    /* An empty log is not recovered, whatever is behind it. */
    while (j->next_block != 0 && s->fc_budget > 0) {
        uint64_t pos = s->fc_scanned;
        uint32_t crc = s->fc_crc;
        int found;

        s->fc_budget--;
        found = scan_block(j, &pos, &crc);
        if (found < 0)
            return false;
        if (found > 0)
            *out = (struct journal_fc){.tid = j->next_tid, .pos = s->fc_pos, .end = pos};
        s->fc_scanned = pos;
        s->fc_crc = found > 0 ? 0 : crc;
        if (found > 0) {
            s->fc_pos = pos;
            return true;
        }
    }
    return false;
}

bool journal_fc_tag(const struct journal *j, struct journal_fc *fc, struct journal_fc_tag *tag)
{
    const uint8_t *block = fc->pos < fc->end ? area_block(j, fc->pos) : NULL;

    if (!block || !tag_at(j, block, (uint32_t)(fc->pos % j->block_size), tag))
        return false;
    fc->pos = after_tag(j, fc->pos, tag);
    return true;
}

enum journal_fc_change journal_fc_written(struct journal *j, uint32_t lblk)
{
    struct journal_scratch *s = j->scratch;
    uint64_t begin;

    if (lblk < j->fc_first || lblk >= j->fc_end || j->next_block == 0)
        return JOURNAL_FC_SAME;
    begin = (uint64_t)(lblk - j->fc_first) * j->block_size;
    if (begin < s->fc_pos) {
        s->fc_pos = s->fc_scanned = 0;
        s->fc_crc = 0;
        return JOURNAL_FC_REWRITTEN;
    }
    if (begin > s->fc_scanned)
        return JOURNAL_FC_SAME;
    if (begin < s->fc_scanned) {
        s->fc_scanned = s->fc_pos;
        s->fc_crc = 0;
    }
    return JOURNAL_FC_MORE;
}
