/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The superblock: which file systems are followed, their geometry, and what
 * its changes mean.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <e2p/e2p.h>

#include "bdi/ext4/ext4.h"
#include "common/bytes.h"

#define SUPER_AT 1024u /* in the file system */

enum {
    S_BLOCKS = 0x04,
    S_FIRST_DATA_BLOCK = 0x14, /* and s_log_block_size */
    S_BLOCKS_PER_GROUP = 0x20, /* and clusters and inodes */
    S_MAGIC = 0x38,
    S_STATE = 0x3a,
    S_FIRST_INO = 0x54, /* and s_inode_size */
    S_FEATURES = 0x5c,
    S_INCOMPAT = 0x60,
    S_UUID = 0x68,
    S_LABEL = 0x78,
    S_RESERVED_GDT = 0xce,
    S_JOURNAL_INUM = 0xe0,
    S_HASH_SEED = 0xec, /* and s_def_hash_version */
    S_DESC_SIZE = 0xfe,
    S_FIRST_META_BG = 0x104,
    S_MKFS_TIME = 0x108,
    S_BLOCKS_HI = 0x150,
    S_FLAGS = 0x160,
    S_QUOTA_INUMS = 0x240,
    S_PRJ_QUOTA_INUM = 0x26c,
    S_CHECKSUM_SEED = 0x270,
    S_ORPHAN_FILE_INUM = 0x280,
};

/* What is followed exactly. Everything else is refused by name. */
#define COMPAT_OK                                                                                 \
    (EXT2_FEATURE_COMPAT_DIR_PREALLOC | EXT3_FEATURE_COMPAT_HAS_JOURNAL |                        \
     EXT2_FEATURE_COMPAT_EXT_ATTR | EXT2_FEATURE_COMPAT_RESIZE_INODE |                           \
     EXT2_FEATURE_COMPAT_DIR_INDEX | EXT4_FEATURE_COMPAT_SPARSE_SUPER2 |                         \
     EXT4_FEATURE_COMPAT_ORPHAN_FILE | EXT4_FEATURE_COMPAT_STABLE_INODES |                       \
     EXT4_FEATURE_COMPAT_FAST_COMMIT)
#define INCOMPAT_OK                                                                               \
    (EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_RECOVER |                            \
     EXT2_FEATURE_INCOMPAT_META_BG | EXT3_FEATURE_INCOMPAT_EXTENTS |                             \
     EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG |                               \
     EXT4_FEATURE_INCOMPAT_CSUM_SEED | EXT4_FEATURE_INCOMPAT_ENCRYPT |                            \
     EXT4_FEATURE_INCOMPAT_CASEFOLD | EXT4_FEATURE_INCOMPAT_MMP |                                 \
     EXT4_FEATURE_INCOMPAT_EA_INODE | EXT4_FEATURE_INCOMPAT_LARGEDIR |                            \
     EXT4_FEATURE_INCOMPAT_INLINE_DATA)
#define RO_COMPAT_OK                                                                              \
    (EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |                   \
     EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_GDT_CSUM |                        \
     EXT4_FEATURE_RO_COMPAT_DIR_NLINK | EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE |                     \
     EXT4_FEATURE_RO_COMPAT_METADATA_CSUM | EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT |               \
     EXT4_FEATURE_RO_COMPAT_VERITY | EXT4_FEATURE_RO_COMPAT_BIGALLOC |                            \
     EXT4_FEATURE_RO_COMPAT_QUOTA | EXT4_FEATURE_RO_COMPAT_PROJECT)

/* Features whose coming and going does not change how the rest is read. */
#define COMPAT_PASSING                                                                            \
    (EXT2_FEATURE_COMPAT_DIR_PREALLOC | EXT2_FEATURE_COMPAT_EXT_ATTR |                           \
     EXT2_FEATURE_COMPAT_RESIZE_INODE | EXT2_FEATURE_COMPAT_DIR_INDEX)
#define INCOMPAT_PASSING                                                                          \
    (EXT3_FEATURE_INCOMPAT_RECOVER | EXT2_FEATURE_INCOMPAT_META_BG |                             \
     EXT3_FEATURE_INCOMPAT_EXTENTS)
#define RO_COMPAT_PASSING                                                                         \
    (EXT2_FEATURE_RO_COMPAT_LARGE_FILE | EXT4_FEATURE_RO_COMPAT_HUGE_FILE |                      \
     EXT4_FEATURE_RO_COMPAT_DIR_NLINK | EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT)

static int refuse(uint32_t word, int compat, struct nf_error *err)
{
    return nf_fail(err, NF_EUNSUPPORTED, "ext4 feature %s is not followed",
                   e2p_feature2string(compat, word & -word));
}

static int check_features(const struct ext2_super_block *sb, struct nf_error *err)
{
    uint32_t odd;

    if ((sb->s_feature_compat & EXT3_FEATURE_COMPAT_HAS_JOURNAL) && sb->s_journal_inum == 0)
        return nf_fail(err, NF_EUNSUPPORTED, "an external journal is not followed");
    odd = sb->s_feature_incompat & ~(uint32_t)INCOMPAT_OK;
    /* Without a journal, what fits together is judged by the blocks of directories
     * and attributes. */
    if (!(sb->s_feature_compat & EXT3_FEATURE_COMPAT_HAS_JOURNAL))
        odd |= sb->s_feature_incompat &
               (EXT4_FEATURE_INCOMPAT_INLINE_DATA | EXT4_FEATURE_INCOMPAT_EA_INODE);
    /* A fast commit's names are put into blocks. */
    if (sb->s_feature_compat & EXT4_FEATURE_COMPAT_FAST_COMMIT)
        odd |= sb->s_feature_incompat & EXT4_FEATURE_INCOMPAT_INLINE_DATA;
    if (odd)
        return refuse(odd, E2P_FEATURE_INCOMPAT, err);
    odd = sb->s_feature_ro_compat & ~(uint32_t)RO_COMPAT_OK;
    if (odd)
        return refuse(odd, E2P_FEATURE_RO_INCOMPAT, err);
    odd = sb->s_feature_compat & ~(uint32_t)COMPAT_OK;
    if (odd)
        return refuse(odd, E2P_FEATURE_COMPAT, err);
    return 0;
}

/* The kernel does not mount a file system with such descriptors either. */
static int check_groups(struct ext4_fs *fs, struct nf_error *err)
{
    enum view view = fs->pic.view;
    uint64_t table = ((uint64_t)fs->inodes_per_group * fs->inode_size + fs->block_size - 1) /
                     fs->block_size;

    for (uint32_t g = 0; g < fs->groups; g++) {
        const uint8_t *desc = ext4_group_desc(fs, view, g);

        if (!desc)
            return nf_fail(err, NF_EFORMAT, "ext4: descriptor of group %u cannot be read", g);
        if (ext4_group_block_bitmap(fs, desc) >= fs->blocks ||
            ext4_group_inode_bitmap(fs, desc) >= fs->blocks ||
            ext4_group_itable(fs, desc) >= fs->blocks ||
            table > fs->blocks - ext4_group_itable(fs, desc))
            return nf_fail(err, NF_EFORMAT,
                           "ext4: the descriptor of group %u points beyond the file system", g);
    }
    return 0;
}

int ext4_read_geometry(struct ext4_fs *fs, struct nf_error *err)
{
    struct ext2_super_block *sb = fs->fs->super;
    const uint8_t *raw;
    uint64_t *blocks;
    int ret = check_features(sb, err);

    if (ret < 0)
        return ret;
    raw = picture_block(&fs->pic, fs->pic.view, SUPER_AT / fs->block_size, err);
    if (!raw)
        return err->code;
    memcpy(fs->sb, raw + SUPER_AT % fs->block_size, sizeof(fs->sb));
    fs->block_size = fs->fs->blocksize;
    fs->blocks = ext2fs_blocks_count(sb);
    fs->inodes = sb->s_inodes_count;
    fs->inodes_per_group = sb->s_inodes_per_group;
    fs->inode_size = EXT2_INODE_SIZE(sb);
    fs->groups = fs->fs->group_desc_count;
    if (fs->pic.view == VIEW_OLD)
        fs->groups_before = fs->groups;
    fs->desc_size = EXT2_DESC_SIZE(sb);
    fs->first_ino = EXT2_FIRST_INO(sb);
    fs->journal_ino = ext2fs_has_feature_journal(sb) ? sb->s_journal_inum : 0;
    fs->orphan_file_ino =
        ext2fs_has_feature_orphan_file(sb) ? sb->s_orphan_file_inum : 0;
    fs->filetype = (sb->s_feature_incompat & EXT2_FEATURE_INCOMPAT_FILETYPE) != 0;
    fs->group_csum = (sb->s_feature_ro_compat & (EXT4_FEATURE_RO_COMPAT_GDT_CSUM |
                                                 EXT4_FEATURE_RO_COMPAT_METADATA_CSUM)) != 0;
    fs->csum = ext2fs_has_feature_metadata_csum(sb);
    fs->dir_index = ext2fs_has_feature_dir_index(sb);
    fs->encrypt = ext2fs_has_feature_encrypt(sb);
    fs->hash_version = sb->s_def_hash_version;
    fs->unsigned_hash = (sb->s_flags & EXT2_FLAGS_UNSIGNED_HASH) != 0;
    fs->ea_inode = ext2fs_has_feature_ea_inode(sb);
    fs->inline_data = ext2fs_has_feature_inline_data(sb);
    fs->mmp_block = ext2fs_has_feature_mmp(sb) ? sb->s_mmp_block : 0;
    memset(fs->quota_ino, 0, sizeof(fs->quota_ino));
    if (ext2fs_has_feature_quota(sb)) {
        fs->quota_ino[0] = sb->s_usr_quota_inum;
        fs->quota_ino[1] = sb->s_grp_quota_inum;
        fs->quota_ino[2] = sb->s_prj_quota_inum;
    }
    memcpy(fs->uuid, sb->s_uuid, 16);
    /* libext2fs checked most of these; the rest of the engine relies on them. */
    if (fs->block_size < 1024 || fs->block_size > 65536 || fs->inode_size < 128 ||
        fs->inode_size > fs->block_size || (fs->inode_size & (fs->inode_size - 1)) ||
        fs->inodes_per_group == 0 || fs->inodes_per_group > 8 * fs->block_size ||
        fs->inodes_per_group % 8 || fs->desc_size < 32 || fs->desc_size > fs->block_size ||
        (uint64_t)fs->groups * fs->inodes_per_group < fs->inodes || fs->journal_ino > fs->inodes)
        return nf_fail(err, NF_EFORMAT, "ext4: the superblock's geometry contradicts itself");
    if (fs->blocks > fs->ctx.size / fs->block_size)
        return nf_fail(err, NF_EFORMAT,
                       "ext4: %llu blocks of %u bytes do not fit into %llu bytes",
                       (unsigned long long)fs->blocks, fs->block_size,
                       (unsigned long long)fs->ctx.size);

    fs->ndesc_blocks = fs->fs->desc_blocks;
    blocks = reallocarray(fs->desc_blocks, fs->ndesc_blocks, sizeof(*blocks));
    if (!blocks)
        return nf_fail(err, NF_ENOMEM, "ext4: out of memory");
    fs->desc_blocks = blocks;
    for (uint32_t i = 0; i < fs->ndesc_blocks; i++) {
        blocks[i] = ext2fs_descriptor_block_loc2(fs->fs, sb->s_first_data_block, i);
        if (blocks[i] >= fs->blocks)
            return nf_fail(err, NF_EFORMAT, "ext4: group descriptors lie beyond the file system");
    }
    return check_groups(fs, err);
}

void ext4_feature_names(const uint8_t *sb, char *buf, size_t size)
{
    static const int sets[3] = {E2P_FEATURE_COMPAT, E2P_FEATURE_INCOMPAT, E2P_FEATURE_RO_INCOMPAT};
    size_t used = 0;

    buf[0] = '\0';
    for (int w = 0; w < 3; w++) {
        uint32_t word = nf_le32(sb + S_FEATURES + 4 * w);

        for (int bit = 0; bit < 32; bit++) {
            int n;

            if (!(word >> bit & 1))
                continue;
            n = snprintf(buf + used, size - used, "%s%s", used ? " " : "",
                         e2p_feature2string(sets[w], 1u << bit));
            if (n < 0 || (size_t)n >= size - used)
                return;
            used += (size_t)n;
        }
    }
}

int ext4_emit_fs(struct ext4_fs *fs, enum nf_fs_state state, const char *reason,
                 struct nf_error *err)
{
    struct nf_event ev = {.kind = NF_FS};
    char features[1024];

    ext4_feature_names(fs->sb, features, sizeof(features));
    ev.fs.state = state;
    ev.fs.reason = reason;
    ev.fs.type = "ext4";
    ev.fs.features = features;
    ev.fs.label = (struct nf_bytes){fs->sb + S_LABEL, strnlen((const char *)fs->sb + S_LABEL, 16)};
    ev.fs.block_size = fs->block_size;
    ev.fs.blocks = fs->blocks;
    ev.fs.inodes = fs->inodes;
    ev.fs.offset = fs->ctx.offset;
    fs->txn = 0;
    fs->index = 0;
    return ext4_emit(fs, &ev, err);
}

int ext4_end(struct ext4_fs *fs, enum fs_end how, const char *reason, struct nf_error *err)
{
    fs->gone = how;
    fs->step_flags = 0;
    return ext4_emit_fs(fs, NF_FS_GONE, reason, err);
}

static uint64_t sb_blocks(const uint8_t *sb)
{
    uint64_t blocks = nf_le32(sb + S_BLOCKS);

    if (nf_le32(sb + S_INCOMPAT) & EXT4_FEATURE_INCOMPAT_64BIT)
        blocks |= (uint64_t)nf_le32(sb + S_BLOCKS_HI) << 32;
    return blocks;
}

/* Not the file system that was attached, but one that came after it. */
static const char *is_another(const struct ext4_fs *fs, const uint8_t *sb)
{
    if (nf_le16(sb + S_MAGIC) != EXT2_SUPER_MAGIC)
        return "its superblock is no longer valid";
    if (memcmp(sb + S_MKFS_TIME, fs->sb + S_MKFS_TIME, 4) != 0)
        return "another file system was made in its place";
    return NULL;
}

/* Are there new groups, or a new way to describe those to come? */
static bool takes_groups(const struct ext4_fs *fs, const uint8_t *sb)
{
    return sb_blocks(sb) > fs->blocks ||
           (nf_le32(sb + S_INCOMPAT) & ~nf_le32(fs->sb + S_INCOMPAT) &
            EXT2_FEATURE_INCOMPAT_META_BG);
}

/* What encrypted names are shown as depends on how directories are hashed. */
static bool is_rehashed(const struct ext4_fs *fs, const uint8_t *sb)
{
    uint32_t flags = nf_le32(sb + S_FLAGS) ^ nf_le32(fs->sb + S_FLAGS);
    uint32_t compat = nf_le32(sb + S_FEATURES) ^ nf_le32(fs->sb + S_FEATURES);

    return fs->encrypt && ((flags & EXT2_FLAGS_UNSIGNED_HASH) ||
                           (compat & EXT2_FEATURE_COMPAT_DIR_INDEX) ||
                           memcmp(sb + S_HASH_SEED, fs->sb + S_HASH_SEED, 17) != 0);
}

/* What the superblock says of how the disk is to be read is not what it said:
 * the same file system, but made anew by tune2fs, resize2fs or the like. */
static const char *is_rebuilt(const struct ext4_fs *fs, const uint8_t *sb)
{
    /* Bits that come and go in a running one, or concern only what is new. */
    static const uint32_t passing[3] = {COMPAT_PASSING, INCOMPAT_PASSING, RO_COMPAT_PASSING};
    static const struct {
        uint16_t at, len;
    } fixed[] = {
        {S_FIRST_DATA_BLOCK, 8}, {S_BLOCKS_PER_GROUP, 12}, {S_FIRST_INO, 6}, {S_JOURNAL_INUM, 4},
        {S_DESC_SIZE, 2},        {S_QUOTA_INUMS, 8},       {S_PRJ_QUOTA_INUM, 4},
        {S_CHECKSUM_SEED, 4},    {S_ORPHAN_FILE_INUM, 4},
    };

    if (memcmp(sb + S_UUID, fs->sb + S_UUID, 16) != 0)
        return "it has another UUID";
    for (size_t w = 0; w < 3; w++) {
        uint32_t diff = nf_le32(sb + S_FEATURES + 4 * w) ^ nf_le32(fs->sb + S_FEATURES + 4 * w);

        if (diff & ~passing[w])
            return "its features changed";
    }
    for (size_t i = 0; i < sizeof(fixed) / sizeof(fixed[0]); i++) {
        if (memcmp(sb + fixed[i].at, fs->sb + fixed[i].at, fixed[i].len) != 0)
            return "its geometry changed";
    }
    if (is_rehashed(fs, sb))
        return "its directories are hashed in another way";
    if (sb_blocks(sb) < fs->blocks)
        return "it became smaller";
    /* These go with new groups, or come just before them. */
    if (!takes_groups(fs, sb) &&
        (memcmp(sb + S_RESERVED_GDT, fs->sb + S_RESERVED_GDT, 2) != 0 ||
         memcmp(sb + S_FIRST_META_BG, fs->sb + S_FIRST_META_BG, 4) != 0 ||
         nf_le32(fs->sb + S_INCOMPAT) & ~nf_le32(sb + S_INCOMPAT) &
             EXT2_FEATURE_INCOMPAT_META_BG))
        return "its geometry changed";
    return NULL;
}

/* resize2fs calls the file system damaged as long as it moves things. No mount
 * that writes can be meant: that is in need of recovery, or not called clean. */
int ext4_super_mark(struct ext4_fs *fs, struct nf_error *err)
{
    const uint8_t *sb = picture_home(&fs->pic, SUPER_AT / fs->block_size, err);
    uint16_t state;

    if (!sb)
        return err ? err->code : NF_EIO;
    sb += SUPER_AT % fs->block_size;
    state = nf_le16(sb + S_STATE);
    fs->worked_on = (state & EXT2_VALID_FS) && (state & EXT2_ERROR_FS) &&
                    !(nf_le32(sb + S_INCOMPAT) & EXT3_FEATURE_INCOMPAT_RECOVER);
    return 0;
}

int ext4_super_written(struct ext4_fs *fs, struct nf_error *err)
{
    const uint8_t *sb = picture_home(&fs->pic, SUPER_AT / fs->block_size, err);
    const char *why;

    if (!sb)
        return err ? err->code : NF_EIO;
    why = is_another(fs, sb + SUPER_AT % fs->block_size);
    return why ? ext4_end(fs, FS_ENDED, why, err) : ext4_super_mark(fs, err);
}

static int grow(struct ext4_fs *fs, struct nf_error *err)
{
    uint32_t groups = fs->groups;
    ext2_filsys bigger;
    int ret = picture_open_fs(&fs->pic, &bigger, err);

    if (ret < 0)
        return ret;
    ext2fs_free(fs->fs);
    fs->fs = bigger;
    ret = ext4_read_geometry(fs, err);
    if (ret == 0 && ownermap_grow(&fs->owners, fs->blocks) < 0)
        ret = nf_fail(err, NF_ENOMEM, "out of memory");
    /* The last group may have been a short one: own it again. */
    if (ret == 0)
        ret = ext4_own_groups(fs, groups ? groups - 1 : 0, err);
    return ret;
}

void ext4_see_clean(struct ext4_fs *fs)
{
    const uint8_t *sb = picture_home(&fs->pic, 1024 / fs->block_size, NULL);

    fs->clean = !fs->journal_open && sb &&
                (nf_le16(sb + 1024 % fs->block_size + 0x3a) & EXT2_VALID_FS);
}

int ext4_super_step(struct ext4_fs *fs, bool *grown, struct nf_error *err)
{
    const struct staged *s = u64map_get(&fs->pic.staged, SUPER_AT / fs->block_size);
    const uint8_t *sb = s ? s->new + SUPER_AT % fs->block_size : NULL;
    enum fs_end how = FS_ENDED;
    struct nf_error why_not = {0};
    const char *why;
    int ret;

    *grown = false;
    if (!s)
        return 0;
    why = is_another(fs, sb);
    if (!why) {
        why = is_rebuilt(fs, sb);
        how = FS_CHANGED;
    }
    if (!why && takes_groups(fs, sb)) {
        uint64_t before = fs->blocks;

        fs->pic.view = VIEW_NEW;
        ret = grow(fs, &why_not);
        fs->pic.view = VIEW_OLD;
        if (ret == NF_EFORMAT || ret == NF_EUNSUPPORTED)
            why = why_not.text;
        else if (ret < 0)
            return nf_fail(err, ret, "%s", why_not.text);
        *grown = fs->blocks > before;
    }
    if (why)
        return ext4_end(fs, how, why, err);
    memcpy(fs->sb, sb, sizeof(fs->sb));
    return 0;
}

bool ext4_tables_moved(const struct ext4_fs *fs, uint32_t index, const uint8_t *old,
                       const uint8_t *new)
{
    uint32_t per_block = fs->block_size / fs->desc_size;

    for (uint32_t i = 0; i < per_block; i++) {
        const uint8_t *a = old + (size_t)i * fs->desc_size, *b = new + (size_t)i * fs->desc_size;

        if ((uint64_t)index * per_block + i >= fs->groups_before)
            break;
        if (ext4_group_block_bitmap(fs, a) != ext4_group_block_bitmap(fs, b) ||
            ext4_group_inode_bitmap(fs, a) != ext4_group_inode_bitmap(fs, b) ||
            ext4_group_itable(fs, a) != ext4_group_itable(fs, b))
            return true;
    }
    return false;
}
