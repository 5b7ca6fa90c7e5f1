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

/* What is followed exactly. Everything else is refused by name. */
#define COMPAT_OK                                                                                 \
    (EXT2_FEATURE_COMPAT_DIR_PREALLOC | EXT3_FEATURE_COMPAT_HAS_JOURNAL |                        \
     EXT2_FEATURE_COMPAT_EXT_ATTR | EXT2_FEATURE_COMPAT_RESIZE_INODE |                           \
     EXT2_FEATURE_COMPAT_DIR_INDEX | EXT4_FEATURE_COMPAT_SPARSE_SUPER2 |                         \
     EXT4_FEATURE_COMPAT_ORPHAN_FILE | EXT4_FEATURE_COMPAT_STABLE_INODES)
#define INCOMPAT_OK                                                                               \
    (EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_RECOVER |                            \
     EXT2_FEATURE_INCOMPAT_META_BG | EXT3_FEATURE_INCOMPAT_EXTENTS |                             \
     EXT4_FEATURE_INCOMPAT_64BIT | EXT4_FEATURE_INCOMPAT_FLEX_BG |                               \
     EXT4_FEATURE_INCOMPAT_CSUM_SEED | EXT4_FEATURE_INCOMPAT_ENCRYPT |                            \
     EXT4_FEATURE_INCOMPAT_CASEFOLD)
#define RO_COMPAT_OK                                                                              \
    (EXT2_FEATURE_RO_COMPAT_SPARSE_SUPER | EXT2_FEATURE_RO_COMPAT_LARGE_FILE |                   \
     EXT4_FEATURE_RO_COMPAT_HUGE_FILE | EXT4_FEATURE_RO_COMPAT_GDT_CSUM |                        \
     EXT4_FEATURE_RO_COMPAT_DIR_NLINK | EXT4_FEATURE_RO_COMPAT_EXTRA_ISIZE |                     \
     EXT4_FEATURE_RO_COMPAT_METADATA_CSUM | EXT4_FEATURE_RO_COMPAT_ORPHAN_PRESENT |                    \
     EXT4_FEATURE_RO_COMPAT_VERITY)

static int refuse(uint32_t word, int compat, struct nf_error *err)
{
    return nf_fail(err, NF_EUNSUPPORTED, "ext4 feature %s is not followed",
                   e2p_feature2string(compat, word & -word));
}

static int check_features(const struct ext2_super_block *sb, struct nf_error *err)
{
    uint32_t odd;

    if (!(sb->s_feature_compat & EXT3_FEATURE_COMPAT_HAS_JOURNAL))
        return nf_fail(err, NF_EUNSUPPORTED, "ext4 without a journal is not followed");
    if (sb->s_journal_inum == 0)
        return nf_fail(err, NF_EUNSUPPORTED, "an external journal is not followed");
    odd = sb->s_feature_incompat & ~(uint32_t)INCOMPAT_OK;
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
    uint64_t table = ((uint64_t)fs->inodes_per_group * fs->inode_size + fs->block_size - 1) /
                     fs->block_size;

    for (uint32_t g = 0; g < fs->groups; g++) {
        const uint8_t *desc = ext4_group_desc(fs, VIEW_OLD, g);

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
    uint64_t *blocks;
    int ret = check_features(sb, err);

    if (ret < 0)
        return ret;
    fs->block_size = fs->fs->blocksize;
    fs->blocks = ext2fs_blocks_count(sb);
    fs->inodes = sb->s_inodes_count;
    fs->inodes_per_group = sb->s_inodes_per_group;
    fs->inode_size = EXT2_INODE_SIZE(sb);
    fs->groups = fs->fs->group_desc_count;
    fs->desc_size = EXT2_DESC_SIZE(sb);
    fs->first_ino = EXT2_FIRST_INO(sb);
    fs->journal_ino = sb->s_journal_inum;
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

/* "has_journal extent ..." of all three words, into @buf. */
static void feature_names(const struct ext2_super_block *sb, char *buf, size_t size)
{
    const uint32_t words[3] = {sb->s_feature_compat, sb->s_feature_incompat,
                               sb->s_feature_ro_compat};
    static const int sets[3] = {E2P_FEATURE_COMPAT, E2P_FEATURE_INCOMPAT, E2P_FEATURE_RO_INCOMPAT};
    size_t used = 0;

    buf[0] = '\0';
    for (int w = 0; w < 3; w++) {
        for (int bit = 0; bit < 32; bit++) {
            int n;

            if (!(words[w] >> bit & 1))
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
    const struct ext2_super_block *sb = fs->fs->super;
    struct nf_event ev = {.kind = NF_FS};
    char features[1024];

    feature_names(sb, features, sizeof(features));
    ev.fs.state = state;
    ev.fs.reason = reason;
    ev.fs.type = "ext4";
    ev.fs.features = features;
    ev.fs.label = (struct nf_bytes){sb->s_volume_name,
                                    strnlen((const char *)sb->s_volume_name, EXT2_LABEL_LEN)};
    ev.fs.block_size = fs->block_size;
    ev.fs.blocks = fs->blocks;
    ev.fs.inodes = fs->inodes;
    ev.fs.offset = fs->ctx.offset;
    fs->txn = 0;
    fs->index = 0;
    return ext4_emit(fs, &ev, err);
}

static int grow(struct ext4_fs *fs, uint64_t blocks, struct nf_error *err)
{
    uint32_t groups = fs->groups;
    ext2_filsys bigger;
    int ret;

    if (picture_grow(&fs->pic, blocks) < 0)
        return nf_fail(err, NF_EFORMAT, "it grew beyond its partition");
    ret = picture_open_fs(&fs->pic, &bigger, err);
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

int ext4_super_changed(struct ext4_fs *fs, struct nf_error *err)
{
    enum view view = fs->pic.staged.used ? VIEW_NEW : VIEW_OLD;
    const uint8_t *sb = picture_block(&fs->pic, view, 1024 / fs->block_size, err);
    uint64_t blocks;
    const char *why = NULL;
    struct nf_error ignored = {0};

    if (!sb)
        return err ? err->code : NF_EIO;
    sb += 1024 % fs->block_size;
    blocks = nf_le32(sb + 0x04);
    if (fs->desc_size >= 64)
        blocks |= (uint64_t)nf_le32(sb + 0x150) << 32;
    if (nf_le16(sb + 0x38) != EXT2_SUPER_MAGIC)
        why = "its superblock is no longer valid";
    else if (memcmp(sb + 0x68, fs->uuid, 16) != 0)
        why = "another file system was made in its place";
    else if ((1024u << (nf_le32(sb + 0x18) & 31)) != fs->block_size || blocks < fs->blocks)
        why = "its geometry changed in a way that cannot be followed";
    if (!why && blocks > fs->blocks) {
        if (view == VIEW_NEW)
            return 0; /* when the step is done */
        if (grow(fs, blocks, &ignored) < 0)
            why = ignored.text;
        else
            return ext4_emit_fs(fs, NF_FS_GROWN, NULL, err);
    }
    if (!why)
        return 0;
    fs->gone = true;
    return ext4_emit_fs(fs, NF_FS_GONE, why, err);
}
