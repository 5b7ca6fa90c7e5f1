/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each tag of a fast commit does: as the kernel's replay has it, but for its
 * mistakes. Where that cannot go on at all (an unlinked file that is still open,
 * synced) or leaves something broken (a directory's first block, its number of
 * links), the tags are taken at their word.
 */
#include "bdi/ext4/fastcommit_private.h"

#include <string.h>

enum {
    EXTENT_AT = 4, /* in ADD_RANGE, behind the inode's number */
    INIT_MAX_LEN = 32768,

    I_LINKS = 0x1a,
    I_FLAGS = 0x20,
    I_BLOCK = 0x28,
    I_BLOCK_LEN = 60,
    I_GENERATION = 0x64,
    EXTENT_MAGIC = 0xf30a,
};

static bool is_live(struct ext4_fs *fs, uint32_t ino)
{
    return ext4_inode_visible(fs, ino) && ext4_inode_live(fs, VIEW_NEW, ino);
}

static uint16_t links_of(const uint8_t *raw)
{
    return nf_le16(raw + I_LINKS);
}

/* As the kernel's iget: with neither a bit in the bitmap nor a link there is none. */
static bool can_link(struct ext4_fs *fs, uint32_t ino)
{
    const uint8_t *raw = is_live(fs, ino) ? ext4_inode_raw(fs, VIEW_NEW, ino) : NULL;

    return raw && nf_le16(raw) != 0 && links_of(raw) != 0;
}

static bool is_directory(struct ext4_fs *fs, uint32_t ino)
{
    const uint8_t *raw = is_live(fs, ino) ? ext4_inode_raw(fs, VIEW_NEW, ino) : NULL;

    return raw && (nf_le16(raw) & 0170000) == 0040000;
}

/* What is in encrypted directories is not for fast commits. */
static bool holds_names(struct ext4_fs *fs, uint32_t ino)
{
    return is_directory(fs, ino) &&
           !(nf_le32(ext4_inode_raw(fs, VIEW_NEW, ino) + I_FLAGS) & EXT4_ENCRYPT_FL);
}

static int set_links(struct ext4_fs *fs, uint32_t ino, uint16_t links, struct nf_error *err)
{
    uint8_t *raw;
    int ret = fast_raw(fs, ino, &raw, err);

    if (raw)
        nf_put_le16(raw + I_LINKS, links);
    return ret;
}

/* --- names --- */

static int apply_unlink(struct ext4_fs *fs, uint32_t dir, uint32_t ino, struct nf_bytes name,
                        struct nf_error *err)
{
    struct fast_inode *i;
    uint16_t links;
    int ret;

    if (!can_link(fs, ino) || !holds_names(fs, dir))
        return 0;
    ret = fast_remove_name(fs, dir, ino, name, err);
    if (ret <= 0)
        return ret;
    i = fast_touch(fs, ino, err);
    if (!i)
        return err ? err->code : NF_ENOMEM;
    links = (uint16_t)(links_of(ext4_inode_raw(fs, VIEW_NEW, ino)) - 1);
    if (links == 0) {
        i->removed = true;
        i->fresh.live = false;
    }
    return set_links(fs, ino, links, err);
}

static int apply_link(struct ext4_fs *fs, uint32_t dir, uint32_t ino, struct nf_bytes name,
                      bool create, struct nf_error *err)
{
    uint16_t links;
    int ret;

    if (!can_link(fs, ino) || !holds_names(fs, dir))
        return 0;
    if (!fast_touch(fs, ino, err))
        return err ? err->code : NF_ENOMEM;
    ret = fast_add_name(fs, dir, ino, name, err);
    if (ret < 0)
        return ret;
    links = links_of(ext4_inode_raw(fs, VIEW_NEW, ino));
    if (create && !is_directory(fs, ino))
        links = 1;
    else if (!create && ret > 0)
        links++;
    return set_links(fs, ino, links, err);
}

static int apply_name(struct ext4_fs *fs, const struct journal_fc_tag *tag, struct nf_error *err)
{
    uint32_t dir = nf_le32(tag->value), ino = nf_le32(tag->value + 4);
    struct nf_bytes name = {tag->value + 8, tag->len - 8};

    if (memchr(name.data, '/', name.len) || memchr(name.data, '\0', name.len) || dir == ino) {
        ext4_oddity(fs);
        return 0;
    }
    if (tag->type == JOURNAL_FC_UNLINK)
        return apply_unlink(fs, dir, ino, name, err);
    return apply_link(fs, dir, ino, name, tag->type == JOURNAL_FC_CREAT, err);
}

/* --- inodes --- */

/* Nothing of the inode that had the number before must be found in the new one. */
static void begin_anew(struct fast_inode *i)
{
    block_map_release(&i->fresh.map);
    i->removed = false;
}

static int apply_inode(struct ext4_fs *fs, const struct journal_fc_tag *tag, struct nf_error *err)
{
    uint32_t ino = nf_le32(tag->value);
    const uint8_t *from = tag->value + 4;
    uint32_t len = tag->len - 4, flags = nf_le32(from + I_FLAGS);
    struct fast_inode *i;
    uint8_t *raw;
    int ret;

    if (!ext4_inode_visible(fs, ino)) {
        ext4_oddity(fs);
        return 0;
    }
    i = fast_touch(fs, ino, err);
    if (!i)
        return err ? err->code : NF_ENOMEM;
    ret = fast_raw(fs, ino, &raw, err);
    if (!raw)
        return ret;
    if (i->removed && nf_le32(raw + I_GENERATION) != nf_le32(from + I_GENERATION))
        begin_anew(i);
    i->removed = false;
    memcpy(raw, from, I_BLOCK);
    memcpy(raw + I_GENERATION, from + I_GENERATION, len - I_GENERATION);
    /* The map is not in the tag: ranges say how it changed. */
    if (!(flags & EXT4_EXTENTS_FL) && (flags & EXT4_INLINE_DATA_FL))
        memcpy(raw + I_BLOCK, from + I_BLOCK, I_BLOCK_LEN);
    else if ((flags & EXT4_EXTENTS_FL) && nf_le16(raw + I_BLOCK) != EXTENT_MAGIC)
        memset(raw + I_BLOCK, 0, I_BLOCK_LEN);
    i->fresh.live = true;
    return 0;
}

/* --- ranges --- */

static int apply_range(struct ext4_fs *fs, uint32_t ino, uint32_t lblk, uint32_t len, uint64_t pblk,
                       bool unwritten, struct nf_error *err)
{
    const struct fast_side *was = fastcommit_inode(fs, VIEW_NEW, ino);
    struct fast_inode *i;

    /* One whose last name went may still be open, and be said to be in use by
     * what follows. */
    if (!ext4_inode_visible(fs, ino) || (!was && !is_live(fs, ino)))
        return 0;
    if (len == 0)
        return 0;
    if (len > UINT32_MAX - lblk)
        len = UINT32_MAX - lblk;
    i = fast_touch(fs, ino, err);
    if (!i)
        return err ? err->code : NF_ENOMEM;
    /* A block has one place in one file: more than there are is made up. */
    if (pblk && (pblk >= fs->blocks || len > fs->blocks - pblk ||
                 len > fs->blocks - i->fresh.map.blocks)) {
        ext4_oddity(fs);
        return 0;
    }
    if (fast_map_set(fs->fast, &i->fresh.map, lblk, len, pblk, unwritten) < 0)
        return nf_fail(err, NF_ENOMEM, "fast commit: out of memory");
    return 0;
}

static int apply_add_range(struct ext4_fs *fs, const struct journal_fc_tag *tag,
                           struct nf_error *err)
{
    const uint8_t *e = tag->value + EXTENT_AT;
    uint32_t len = nf_le16(e + 4);
    uint64_t pblk = nf_le32(e + 8) | (uint64_t)nf_le16(e + 6) << 32;
    bool unwritten = len > INIT_MAX_LEN;

    if (!pblk)
        return 0;
    return apply_range(fs, nf_le32(tag->value), nf_le32(e), unwritten ? len - INIT_MAX_LEN : len,
                       pblk, unwritten, err);
}

int fastcommit_apply(struct ext4_fs *fs, const struct journal_fc *fc, struct nf_error *err)
{
    struct journal_fc at = *fc;
    struct journal_fc_tag tag;
    int ret = 0;

    while (ret == 0 && !fs->fast->over && journal_fc_tag(&fs->journal, &at, &tag)) {
        fast_worked(fs->fast, 32);
        switch (tag.type) {
        case JOURNAL_FC_CREAT:
        case JOURNAL_FC_LINK:
        case JOURNAL_FC_UNLINK:
            ret = apply_name(fs, &tag, err);
            break;
        case JOURNAL_FC_INODE:
            ret = apply_inode(fs, &tag, err);
            break;
        case JOURNAL_FC_ADD_RANGE:
            ret = apply_add_range(fs, &tag, err);
            break;
        case JOURNAL_FC_DEL_RANGE:
            ret = apply_range(fs, nf_le32(tag.value), nf_le32(tag.value + 4),
                              nf_le32(tag.value + 8), 0, false, err);
            break;
        default:
            break;
        }
    }
    return ret;
}
