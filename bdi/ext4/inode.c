/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/inode.h"

#include <string.h>

#include <ext2fs/ext2_fs.h>

#include "bdi/ext4/ext4.h"
#include "bdi/ext4/fastcommit.h"
#include "common/bytes.h"

/* Flags that describe how ext4 stores the inode, not what a user set. */
#define INTERNAL_FLAGS                                                                             \
    (EXT4_EXTENTS_FL | EXT2_INDEX_FL | EXT4_HUGE_FILE_FL | EXT4_INLINE_DATA_FL | EXT4_EA_INODE_FL | \
     EXT4_SNAPFILE_FL | EXT4_SNAPFILE_DELETED_FL | EXT4_SNAPFILE_SHRUNK_FL | 0x00400000u)

static struct nf_time decode_time(const uint8_t *raw, uint32_t lo_at, uint32_t extra_at,
                                  uint32_t limit)
{
    struct nf_time t = {.sec = (int32_t)nf_le32(raw + lo_at)};

    if (extra_at + 4 <= limit) {
        uint32_t extra = nf_le32(raw + extra_at);

        t.sec += (int64_t)(extra & 3) << 32;
        t.nsec = extra >> 2;
        if (t.nsec > 999999999)
            t.nsec = 0; /* the kernel would hand it on; no consumer can use it */
    }
    return t;
}

static void decode_rdev(struct nf_attr *a, const uint8_t *block)
{
    uint32_t dev = nf_le32(block);

    /* i_block[0]: old 8:8 form; else i_block[1]: 12:20 form. */
    if (dev) {
        a->rdev_major = dev >> 8 & 0xff;
        a->rdev_minor = dev & 0xff;
    } else {
        dev = nf_le32(block + 4);
        a->rdev_major = (dev & 0xfff00) >> 8;
        a->rdev_minor = (dev & 0xff) | (dev >> 12 & 0xfff00);
    }
}

void ext4_inode_decode(struct ext4_inode *out, const uint8_t *raw, uint32_t inode_size)
{
    struct nf_attr *a = &out->attr;
    uint32_t limit = 128;
    uint32_t type;

    memset(out, 0, sizeof(*out));
    if (inode_size > 132) {
        uint32_t extra = nf_le16(raw + 0x80);

        /* A size that does not fit is damage: read the old part only. */
        if (extra <= inode_size - 128)
            limit = 128 + extra;
    }
    a->mode = nf_le16(raw);
    a->uid = nf_le16(raw + 2) | (uint32_t)nf_le16(raw + 0x78) << 16;
    a->gid = nf_le16(raw + 0x18) | (uint32_t)nf_le16(raw + 0x7a) << 16;
    a->links = nf_le16(raw + 0x1a);
    a->size = nf_le32(raw + 4) | (uint64_t)nf_le32(raw + 0x6c) << 32;
    a->atime = decode_time(raw, 0x08, 0x8c, limit);
    a->ctime = decode_time(raw, 0x0c, 0x84, limit);
    a->mtime = decode_time(raw, 0x10, 0x88, limit);
    if (0x94 <= limit)
        a->crtime = decode_time(raw, 0x90, 0x94, limit);
    out->raw_flags = nf_le32(raw + 0x20);
    a->flags = out->raw_flags & ~(uint32_t)INTERNAL_FLAGS;
    if (0xa0 <= limit)
        a->project = nf_le32(raw + 0x9c);
    out->generation = nf_le32(raw + 0x64);
    out->file_acl = nf_le32(raw + 0x68) | (uint64_t)nf_le16(raw + 0x76) << 32;
    out->version = nf_le32(raw + 0x24);
    if (0x9c <= limit)
        out->version |= (uint64_t)nf_le32(raw + 0x98) << 32;
    type = a->mode & 0170000;
    if (type == 0020000 || type == 0060000)
        decode_rdev(a, raw + 0x28);
    out->raw = raw;
}

bool ext4_has_map(const struct ext4_inode *i)
{
    if (i->raw_flags & EXT4_INLINE_DATA_FL)
        return false;
    if (ext4_is_reg(i) || ext4_is_dir(i))
        return true;
    /* A short target stands in i_block itself. */
    return ext4_is_symlink(i) && (i->attr.size >= 60 || (i->raw_flags & EXT4_EXTENTS_FL));
}

static bool time_equal(struct nf_time a, struct nf_time b)
{
    return a.sec == b.sec && a.nsec == b.nsec;
}

uint32_t ext4_attr_diff(const struct nf_attr *a, const struct nf_attr *b)
{
    uint32_t mask = 0;

    mask |= a->mode != b->mode ? NF_ATTR_MODE : 0;
    mask |= a->uid != b->uid ? NF_ATTR_UID : 0;
    mask |= a->gid != b->gid ? NF_ATTR_GID : 0;
    mask |= a->links != b->links ? NF_ATTR_LINKS : 0;
    mask |= a->flags != b->flags ? NF_ATTR_FLAGS : 0;
    mask |= a->project != b->project ? NF_ATTR_PROJECT : 0;
    mask |= !time_equal(a->atime, b->atime) ? NF_ATTR_ATIME : 0;
    mask |= !time_equal(a->mtime, b->mtime) ? NF_ATTR_MTIME : 0;
    mask |= !time_equal(a->ctime, b->ctime) ? NF_ATTR_CTIME : 0;
    mask |= !time_equal(a->crtime, b->crtime) ? NF_ATTR_CRTIME : 0;
    mask |= a->rdev_major != b->rdev_major || a->rdev_minor != b->rdev_minor ? NF_ATTR_RDEV : 0;
    return mask;
}

const uint8_t *ext4_group_desc(struct ext4_fs *fs, enum view view, uint32_t group)
{
    uint32_t per_block = fs->block_size / fs->desc_size;
    const uint8_t *block;

    if (group >= (view == VIEW_OLD ? fs->groups_before : fs->groups) || group / per_block >= fs->ndesc_blocks)
        return NULL;
    block = picture_block(&fs->pic, view, fs->desc_blocks[group / per_block], NULL);
    return block ? block + (size_t)(group % per_block) * fs->desc_size : NULL;
}

static uint64_t desc_block(const struct ext4_fs *fs, const uint8_t *desc, uint32_t lo, uint32_t hi)
{
    uint64_t b = nf_le32(desc + lo);

    return fs->desc_size >= 64 ? b | (uint64_t)nf_le32(desc + hi) << 32 : b;
}

uint64_t ext4_group_block_bitmap(const struct ext4_fs *fs, const uint8_t *desc)
{
    return desc_block(fs, desc, 0x00, 0x20);
}

uint64_t ext4_group_inode_bitmap(const struct ext4_fs *fs, const uint8_t *desc)
{
    return desc_block(fs, desc, 0x04, 0x24);
}

uint64_t ext4_group_itable(const struct ext4_fs *fs, const uint8_t *desc)
{
    return desc_block(fs, desc, 0x08, 0x28);
}

bool ext4_inode_place(struct ext4_fs *fs, enum view view, uint32_t ino, uint64_t *block,
                      uint32_t *offset)
{
    const uint8_t *desc;
    uint64_t pos;

    if (ino == 0 || ino > fs->inodes)
        return false;
    desc = ext4_group_desc(fs, view, (ino - 1) / fs->inodes_per_group);
    if (!desc)
        return false;
    pos = (uint64_t)((ino - 1) % fs->inodes_per_group) * fs->inode_size;
    *block = ext4_group_itable(fs, desc) + pos / fs->block_size;
    *offset = (uint32_t)(pos % fs->block_size);
    return true;
}

const uint8_t *ext4_inode_raw(struct ext4_fs *fs, enum view view, uint32_t ino)
{
    const uint8_t *data;
    uint64_t block;
    uint32_t offset;

    if (!ext4_inode_place(fs, view, ino, &block, &offset))
        return NULL;
    data = picture_block(&fs->pic, view, block, NULL);
    return data ? data + offset : NULL;
}

/* Inodes of the group of @desc from the first on that may be in use. */
static uint32_t inodes_used(const struct ext4_fs *fs, const uint8_t *desc)
{
    uint32_t unused = 0;

    if (fs->group_csum) {
        unused = nf_le16(desc + 0x1c);
        if (fs->desc_size >= 64)
            unused |= (uint32_t)nf_le16(desc + 0x32) << 16;
        if ((nf_le16(desc + 0x12) & EXT2_BG_INODE_UNINIT) || unused > fs->inodes_per_group)
            unused = fs->inodes_per_group;
    }
    return fs->inodes_per_group - unused;
}

uint32_t ext4_group_inodes_used(struct ext4_fs *fs, enum view view, uint32_t group)
{
    const uint8_t *desc = ext4_group_desc(fs, view, group);
    uint32_t used = desc ? inodes_used(fs, desc) : 0;
    uint32_t fast = fastcommit_inodes_used(fs, group);

    return fast > used ? fast : used;
}

bool ext4_inode_live(struct ext4_fs *fs, enum view view, uint32_t ino)
{
    const struct fast_side *fast = fastcommit_inode(fs, view, ino);
    uint32_t group, index;
    const uint8_t *desc, *bits;

    if (fast)
        return fast->live;
    if (ino == 0 || ino > fs->inodes)
        return false;
    group = (ino - 1) / fs->inodes_per_group;
    index = (ino - 1) % fs->inodes_per_group;
    desc = ext4_group_desc(fs, view, group);
    if (!desc || index >= inodes_used(fs, desc))
        return false;
    bits = picture_block(&fs->pic, view, ext4_group_inode_bitmap(fs, desc), NULL);
    return bits && (bits[index / 8] >> (index % 8) & 1);
}

bool ext4_inode_visible(const struct ext4_fs *fs, uint32_t ino)
{
    if (ino == EXT2_ROOT_INO)
        return true;
    return ino >= fs->first_ino && ino <= fs->inodes && ino != fs->orphan_file_ino &&
           ino != fs->journal_ino && !ext4_inode_is_quota(fs, ino);
}

bool ext4_inode_is_quota(const struct ext4_fs *fs, uint32_t ino)
{
    return ino && (ino == fs->quota_ino[0] || ino == fs->quota_ino[1] || ino == fs->quota_ino[2]);
}

bool ext4_inode_is_value(const struct ext4_fs *fs, uint32_t raw_flags)
{
    return fs->ea_inode && (raw_flags & EXT4_EA_INODE_FL);
}

bool ext4_inode_shown(struct ext4_fs *fs, enum view view, uint32_t ino)
{
    const uint8_t *raw;

    if (!ext4_inode_visible(fs, ino) || !ext4_inode_live(fs, view, ino))
        return false;
    if (!fs->ea_inode)
        return true;
    raw = ext4_inode_raw(fs, view, ino);
    return raw && !ext4_inode_is_value(fs, nf_le32(raw + 0x20));
}

enum owner_kind ext4_data_kind(const struct ext4_fs *fs, uint32_t ino,
                               const struct ext4_inode *inode, bool unwritten)
{
    if (!ext4_inode_visible(fs, ino))
        return OWN_OTHER;
    if (ext4_inode_is_value(fs, inode->raw_flags))
        return OWN_EA;
    if (ext4_is_dir(inode))
        return OWN_DIR;
    /* Targets of symbolic links are written through the log, like metadata. */
    if (ext4_is_symlink(inode))
        return OWN_NODE;
    return unwritten ? OWN_UNWRITTEN : OWN_DATA;
}
