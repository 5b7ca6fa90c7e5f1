/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading a whole file system once, through the picture: who owns which block,
 * and where each inode is named. What is read on the way becomes the shadow.
 */
#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/content.h"
#include "bdi/ext4/crawl_private.h"
#include "bdi/ext4/dirblock.h"
#include "bdi/ext4/ext4.h"
#include "bdi/ext4/extents.h"
#include "bdi/ext4/inline.h"
#include "bdi/ext4/inode.h"
#include "bdi/ext4/paths.h"
#include "bdi/ext4/xattrs.h"
#include "common/bytes.h"

#define VALUE_MAX 65536u /* bytes of an attribute's value in an inode of its own */

static int own(struct ext4_fs *fs, uint64_t pblk, uint64_t len, uint32_t owner, uint32_t logical,
               enum owner_kind kind, struct nf_error *err)
{
    struct owner_extent e = {pblk, len, owner, logical, kind};
    int ret;

    if (pblk >= fs->blocks || len > fs->blocks - pblk) {
        ext4_oddity(fs);
        return 0;
    }
    ret = ownermap_set(&fs->owners, &e);
    return ret < 0 ? nf_fail(err, ret, "owner map: %s", nf_status_name(ret)) : 0;
}

static int own_xattrs(struct ext4_fs *fs, uint64_t block, uint32_t ino, struct nf_error *err)
{
    int ret = 1;

    if (block < fs->blocks)
        ret = xattr_owners_add(&fs->xattr_owners, &fs->owners, block, ino);
    if (ret > 0)
        ext4_oddity(fs);
    return ret < 0 ? nf_fail(err, ret, "owner map: %s", nf_status_name(ret)) : 0;
}

int ext4_own_groups(struct ext4_fs *fs, uint32_t first, struct nf_error *err)
{
    uint32_t table = (uint32_t)(((uint64_t)fs->inodes_per_group * fs->inode_size +
                                 fs->block_size - 1) / fs->block_size);
    int ret = 0;

    for (uint32_t g = first; ret == 0 && g < fs->groups; g++) {
        const uint8_t *desc = ext4_group_desc(fs, fs->pic.view, g);
        blk64_t super = 0, old_desc = 0, new_desc = 0;
        uint32_t ndesc = fs->fs->super->s_reserved_gdt_blocks;

        if (!desc)
            return nf_fail(err, NF_EFORMAT, "ext4: descriptor of group %u cannot be read", g);
        if (ext2fs_has_feature_meta_bg(fs->fs->super))
            ndesc += fs->fs->super->s_first_meta_bg;
        else
            ndesc += fs->ndesc_blocks;
        ext2fs_super_and_bgd_loc2(fs->fs, g, &super, &old_desc, &new_desc, NULL);
        if (old_desc && old_desc < fs->blocks)
            ret = own(fs, old_desc, ndesc < fs->blocks - old_desc ? ndesc : 1, g, 0, OWN_OTHER,
                      err);
        if (ret == 0 && new_desc)
            ret = own(fs, new_desc, 1, g, 0, OWN_OTHER, err);
        if (ret == 0 && (super || g == 0))
            ret = own(fs, super, 1, g, 0, OWN_OTHER, err);
        if (ret == 0)
            ret = own(fs, ext4_group_block_bitmap(fs, desc), 1, g, 0, OWN_BLOCK_BITMAP, err);
        if (ret == 0)
            ret = own(fs, ext4_group_inode_bitmap(fs, desc), 1, g, 0, OWN_INODE_BITMAP, err);
        if (ret == 0)
            ret = own(fs, ext4_group_itable(fs, desc), table, g, 0, OWN_ITABLE, err);
    }
    if (ret == 0 && fs->mmp_block)
        ret = own(fs, fs->mmp_block, 1, 0, 0, OWN_OTHER, err);
    /* The primary copies are the ones that count; backups stand aside. */
    if (ret == 0)
        ret = own(fs, 1024 / fs->block_size, 1, 0, 0, OWN_SUPER, err);
    for (uint32_t i = 0; ret == 0 && i < fs->ndesc_blocks; i++)
        ret = own(fs, fs->desc_blocks[i], 1, 0, i, OWN_SUPER, err);
    return ret;
}

/* A block has one owner. What claims it a second time is damage, or made to have
 * the same blocks read over and over: the first claim stands. */
bool crawl_is_free(struct ext4_fs *fs, uint64_t pblk, uint64_t len)
{
    uint64_t pos = pblk;
    struct owner_extent now;

    while (ownermap_next(&fs->owners, &pos, pblk + len, &now)) {
        if (now.kind != OWN_NONE)
            return false;
    }
    return true;
}

/* @chain begins at @base in @block. *@ahead: some of its entries name what is not
 * there yet. */
static int crawl_chain(struct ext4_fs *fs, uint32_t ino, const struct shown_form *form,
                       uint64_t block, uint32_t base, struct nf_bytes chain, bool *ahead,
                       struct nf_error *err)
{
    struct dirblock it;
    struct dirblock_entry e;
    int ret;

    *ahead = false;
    dirblock_begin(&it, chain.data, (uint32_t)chain.len, form->block);
    while ((ret = dirblock_next(&it, &e)) > 0) {
        struct name_ref ref = {e.ino, ino, block, (uint16_t)(base + e.offset)};

        if (e.dot || e.dotdot)
            continue;
        if (crawl_in_the_middle(fs) && crawl_names_nothing(fs, e.ino)) {
            *ahead = true;
            continue;
        }
        if (e.bad_name || !ext4_inode_visible(fs, e.ino)) {
            ext4_oddity(fs);
            continue;
        }
        /* It names nothing, until its inode is repaired. */
        if (!ext4_inode_shown(fs, VIEW_OLD, e.ino))
            ext4_oddity(fs);
        ret = names_add(&fs->names, &ref);
        if (ret < 0)
            return nf_fail(err, ret, "name index: %s", nf_status_name(ret));
    }
    if (ret < 0) {
        ext4_oddity(fs);
        *ahead = false;
    }
    return 0;
}

int crawl_dir(struct ext4_fs *fs, uint32_t ino, const struct ext4_inode *inode,
              const struct block_map *map, struct nf_error *err)
{
    struct shown_form form = shown_form(fs, VIEW_OLD, ino, inode);

    for (size_t i = 0; i < map->n; i++) {
        for (uint32_t j = 0; j < map->ext[i].len; j++) {
            uint64_t block = map->ext[i].pblk + j;
            struct owner_extent owner;
            const uint8_t *data;
            bool ahead;
            int ret;

            if (!ownermap_get(&fs->owners, block, &owner) || owner.owner != ino ||
                owner.kind != OWN_DIR)
                continue;
            data = picture_block(&fs->pic, VIEW_OLD, block, err);
            if (!data)
                return err ? err->code : NF_EIO;
            ret = crawl_chain(fs, ino, &form, block, 0, (struct nf_bytes){data, fs->block_size},
                              &ahead, err);
            if (ret == 0 && ahead)
                ret = crawl_put_off_names(fs, block, data, form.block, err);
            if (ret < 0)
                return ret;
        }
    }
    return 0;
}

static int crawl_inline_dir(struct ext4_fs *fs, uint32_t ino, const struct ext4_inode *inode,
                            struct nf_error *err)
{
    struct shown_form form = shown_form(fs, VIEW_OLD, ino, inode);
    struct nf_bytes chain[2];
    uint64_t block;
    uint32_t offset;
    bool ahead;
    int ret = 0;

    if (!ext4_inode_place(fs, VIEW_OLD, ino, &block, &offset))
        return 0;
    if (!inline_dir_chains(inode->raw, fs->inode_size, chain))
        ext4_oddity(fs);
    for (int i = 0; ret == 0 && i < 2; i++)
        ret = crawl_chain(fs, ino, &form, block, offset + (uint32_t)(chain[i].data - inode->raw),
                          chain[i], &ahead, err);
    return ret;
}

/* Attributes and their values: later they are compared with what the disk has
 * now, not with what it will have by then. */
static int crawl_xattrs(struct ext4_fs *fs, uint32_t ino, uint64_t block, struct nf_error *err)
{
    int ret = own_xattrs(fs, block, ino, err);

    if (ret < 0)
        return ret;
    if (block && block < fs->blocks && !picture_block(&fs->pic, VIEW_OLD, block, err))
        return err ? err->code : NF_EIO;
    return 0;
}

static int crawl_value(struct ext4_fs *fs, const struct block_map *map, struct nf_error *err)
{
    for (size_t i = 0; i < map->n; i++) {
        for (uint32_t j = 0; j < map->ext[i].len && j < VALUE_MAX / fs->block_size; j++) {
            if (!picture_block(&fs->pic, VIEW_OLD, map->ext[i].pblk + j, err))
                return err ? err->code : NF_EIO;
        }
    }
    return 0;
}

static int crawl_inode(struct ext4_fs *fs, uint32_t ino, struct nf_error *err)
{
    const uint8_t *raw = ext4_inode_raw(fs, VIEW_OLD, ino);
    bool visible = ext4_inode_visible(fs, ino);
    struct ext4_inode inode;
    struct block_map map;
    int ret = 0;

    if (!raw) {
        ext4_oddity(fs);
        return 0;
    }
    ext4_inode_decode(&inode, raw, fs->inode_size);
    if (inode.attr.mode == 0 && visible)
        return 0;
    if (inode.file_acl)
        ret = crawl_xattrs(fs, ino, inode.file_acl, err);
    if (ret == 0 && visible && ext4_is_dir(&inode) && ext4_is_inline(&inode))
        ret = crawl_inline_dir(fs, ino, &inode, err);
    if (ret < 0 || (visible && !ext4_has_map(&inode)))
        return ret;
    ret = block_map_read(fs, VIEW_OLD, ino, &inode, &map, err);
    if (ret == 0 && visible && crawl_in_the_middle(fs) &&
        !crawl_whole(fs, ino, &inode, &map)) {
        block_map_release(&map);
        return crawl_put_off(fs, ino, err);
    }
    for (size_t i = 0; ret == 0 && i < map.nnodes; i++)
        ret = own(fs, map.nodes[i].pblk, 1, ino, map.nodes[i].lblk,
                  visible || ext4_inode_is_quota(fs, ino) ? OWN_NODE : OWN_OTHER, err);
    for (size_t i = 0; ret == 0 && i < map.n; i++) {
        const struct map_extent *e = &map.ext[i];
        enum owner_kind kind = ino == fs->journal_ino
                                   ? OWN_JOURNAL
                                   : ext4_data_kind(fs, ino, &inode, e->unwritten);

        /* The resize inode maps descriptor blocks that have an owner already. */
        if (ino == EXT2_RESIZE_INO)
            continue;
        if (crawl_is_free(fs, e->pblk, e->len))
            ret = own(fs, e->pblk, e->len, ino, e->lblk, kind, err);
        else
            ext4_oddity(fs);
    }
    if (ret == 0 && visible && ext4_is_dir(&inode) && !crawl_in_the_middle(fs))
        ret = crawl_dir(fs, ino, &inode, &map, err);
    if (ret == 0 && visible && ext4_inode_is_value(fs, inode.raw_flags))
        ret = crawl_value(fs, &map, err);
    block_map_release(&map);
    return ret;
}

/* Of the first @n inodes of group @g: the blocks of the table that hold a live one. */
static void prefetch_table(struct ext4_fs *fs, uint32_t g, uint32_t n)
{
    const uint8_t *desc = ext4_group_desc(fs, VIEW_OLD, g);
    const uint8_t *bits = desc ? picture_block(&fs->pic, VIEW_OLD,
                                               ext4_group_inode_bitmap(fs, desc), NULL) : NULL;
    uint32_t per = fs->block_size / fs->inode_size;
    uint64_t table = desc ? ext4_group_itable(fs, desc) : 0;
    uint64_t from = 0, to = 0;

    for (uint32_t i = 0; bits && i < n; i++) {
        if (!(bits[i / 8] >> (i % 8) & 1))
            continue;
        if (i / per > to) {
            picture_prefetch(&fs->pic, table + from, to - from);
            from = i / per;
        }
        to = i / per + 1;
    }
    picture_prefetch(&fs->pic, table + from, to - from);
}

int crawl_each(struct ext4_fs *fs, crawl_fn *fn, struct nf_error *err)
{
    int ret = 0;

    for (uint32_t g = 0; ret == 0 && g < fs->groups; g++) {
        /* Most inodes of a large disk were never used: not even looked at. */
        uint32_t n = ext4_group_inodes_used(fs, VIEW_OLD, g);

        /* After a kill the shadow has all that matters; the image is ahead of it. */
        if (!fs->pic.resuming)
            prefetch_table(fs, g, n);
        for (uint32_t i = 0; ret == 0 && i < n; i++) {
            uint64_t ino = (uint64_t)g * fs->inodes_per_group + i + 1;

            if (ino > fs->inodes)
                break;
            if (ext4_inode_live(fs, VIEW_OLD, (uint32_t)ino))
                ret = fn(fs, (uint32_t)ino, err);
        }
    }
    picture_prefetched(&fs->pic);
    return ret;
}

int ext4_crawl(struct ext4_fs *fs, struct nf_error *err)
{
    int ret = ext4_own_groups(fs, 0, err);

    if (!crawl_in_the_middle(fs))
        block_maps_begin(fs);
    if (ret == 0)
        ret = crawl_each(fs, crawl_inode, err);
    block_maps_end(fs);
    if (ret == 0 && crawl_in_the_middle(fs))
        ret = crawl_middle(fs, err);
    return ret;
}

/* The names of an inode that its ENTRY had no room for. */
static int snapshot_links(struct ext4_fs *fs, const struct nf_event *entry, struct nf_error *err)
{
    struct nf_event ev = *entry;
    struct paths paths = {0};
    struct name_ref *refs;
    size_t n;
    int ret = paths_all_refs(fs, entry->inode, &refs, &n);

    if (ret < 0)
        return nf_fail(err, ret, "names of inode %u: out of memory", entry->inode);
    ev.kind = NF_LINK;
    for (size_t i = EXT4_MAX_PATHS; ret == 0 && i < n; i++) {
        uint8_t buf[SHOWN_NAME_MAX];
        struct nf_bytes two[2], name;

        paths_clear(&paths);
        if (!paths_ref_name(fs, &refs[i], buf, &name) ||
            !paths_add_entry(fs, &paths, refs[i].parent, name))
            continue;
        two[0] = paths.list[0];
        two[1] = entry->paths[0];
        ev.paths = two;
        ev.npaths = 2;
        ret = ext4_emit(fs, &ev, err);
    }
    free(refs);
    paths_release(&paths);
    return ret;
}

static int snapshot_inode(struct ext4_fs *fs, uint32_t ino, struct nf_error *err)
{
    const uint8_t *raw;
    struct ext4_inode inode;
    struct nf_event ev = {.inode = ino, .kind = NF_ENTRY};
    struct block_map map = {0};
    struct xattrs none = {0}, xattrs = {0};
    struct paths paths = {0};
    uint8_t buf[SHOWN_NAME_MAX];
    int ret = 0;

    if (!ext4_inode_visible(fs, ino))
        return 0;
    raw = ext4_inode_raw(fs, VIEW_OLD, ino);
    if (!raw) {
        ext4_oddity(fs);
        return 0;
    }
    ext4_inode_decode(&inode, raw, fs->inode_size);
    if (inode.attr.mode == 0 || ext4_inode_is_value(fs, inode.raw_flags))
        return 0;
    if (ext4_has_map(&inode))
        ret = block_map_read(fs, VIEW_OLD, ino, &inode, &map, err);
    if (ret < 0)
        return ret;
    paths_add_object(fs, &paths, ino);
    ev.generation = inode.generation;
    ev.paths = paths.list;
    ev.npaths = paths.n;
    /* Names that do not fit follow as LINKs. */
    ev.flags = paths.truncated ? NF_EV_TRUNCATED : 0;
    ev.create.attr = inode.attr;
    ev.create.valid_seq = fs->ctx.emitter->next_seq;
    if (ext4_is_symlink(&inode))
        ev.create.target = shown_target(fs, VIEW_OLD, &inode, &map, buf, err);
    if (paths.encrypted || (ext4_is_symlink(&inode) && shown_encrypted(fs, &inode)))
        ev.flags |= NF_EV_ENCRYPTED;
    ret = ext4_emit(fs, &ev, err);
    memset(&ev.create, 0, sizeof(ev.create));
    if (ret == 0 && paths.more)
        ret = snapshot_links(fs, &ev, err);
    if (ret == 0 && ext4_is_reg(&inode))
        ret = content_emit_all(fs, &inode, &map, &ev, err);
    if (ret == 0)
        ret = xattrs_read(fs, VIEW_OLD, ino, &inode, &xattrs, err);
    if (ret == 0)
        ret = xattrs_emit_diff(fs, &ev, &none, &xattrs, err);
    xattrs_release(&xattrs);
    block_map_release(&map);
    paths_release(&paths);
    return ret;
}

int ext4_snapshot(struct ext4_fs *fs, struct nf_error *err)
{
    int ret;

    fs->txn = 0;
    fs->index = 0;
    if (!crawl_in_the_middle(fs))
        block_maps_begin(fs);
    ret = crawl_each(fs, snapshot_inode, err);
    block_maps_end(fs);
    return ret;
}
