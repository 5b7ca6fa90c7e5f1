/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/crawl_private.h"

#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/judge.h"
#include "bdi/ext4/shown.h"
#include "common/bytes.h"

/* What is put off takes what is beneath it along; a guest can make that deeper. */
#define ROUNDS_MAX 64

bool crawl_in_the_middle(const struct ext4_fs *fs)
{
    return !fs->journal_open && !fs->pic.resuming && !(fs->fs->super->s_state & EXT2_VALID_FS);
}

static bool all_free(struct ext4_fs *fs, const struct block_map *map)
{
    for (size_t i = 0; i < map->n; i++) {
        if (!crawl_is_free(fs, map->ext[i].pblk, map->ext[i].len))
            return false;
    }
    for (size_t i = 0; i < map->nnodes; i++) {
        if (!crawl_is_free(fs, map->nodes[i].pblk, 1))
            return false;
    }
    return true;
}

bool crawl_whole(struct ext4_fs *fs, uint32_t ino, const struct ext4_inode *inode,
                 const struct block_map *map)
{
    return all_free(fs, map) && judge_inode_whole(fs, VIEW_OLD, ino, inode, map, NULL);
}

int crawl_put_off(struct ext4_fs *fs, uint32_t ino, struct nf_error *err)
{
    const uint8_t *data;
    uint8_t *behind;
    uint64_t block;
    uint32_t offset;

    if (!ext4_inode_place(fs, VIEW_OLD, ino, &block, &offset))
        return 0;
    data = picture_block(&fs->pic, VIEW_OLD, block, err);
    behind = data ? malloc(fs->block_size) : NULL;
    if (!behind)
        return data ? nf_fail(err, NF_ENOMEM, "ext4: out of memory") : NF_EIO;
    memcpy(behind, data, fs->block_size);
    memset(behind + offset, 0, fs->inode_size);
    return picture_stage_behind(&fs->pic, block, behind, err);
}

bool crawl_names_nothing(void *opaque, uint32_t ino)
{
    struct ext4_fs *fs = opaque;
    const uint8_t *raw;

    if (!ext4_inode_visible(fs, ino) || !ext4_inode_live(fs, VIEW_OLD, ino))
        return true;
    raw = ext4_inode_raw(fs, VIEW_OLD, ino);
    return !raw || nf_le16(raw) == 0;
}

int crawl_put_off_names(struct ext4_fs *fs, uint64_t block, const uint8_t *data,
                        struct dirblock_form form, struct nf_error *err)
{
    uint8_t *mixed = malloc(fs->block_size);

    if (!mixed)
        return nf_fail(err, NF_ENOMEM, "ext4: out of memory");
    if (dirblock_mix(NULL, data, mixed, fs->block_size, form, crawl_names_nothing, fs))
        return picture_stage_behind(&fs->pic, block, mixed, err);
    free(mixed);
    return 0;
}

/* The inode's map, if it is in the picture and has one; 1 if not. */
static int read_map(struct ext4_fs *fs, uint32_t ino, struct ext4_inode *inode,
                    struct block_map *map, struct nf_error *err)
{
    const uint8_t *raw = ext4_inode_raw(fs, VIEW_OLD, ino);

    if (!raw || !ext4_inode_visible(fs, ino))
        return 1;
    ext4_inode_decode(inode, raw, fs->inode_size);
    if (inode->attr.mode == 0 || !ext4_has_map(inode))
        return 1;
    return block_map_read(fs, VIEW_OLD, ino, inode, map, err);
}

static int count_block(struct ext4_fs *fs, uint64_t block, struct dirblock_form form,
                       struct nf_error *err)
{
    const uint8_t *data = picture_block(&fs->pic, VIEW_OLD, block, err);
    struct dirblock it;
    struct dirblock_entry e;

    if (!data)
        return err ? err->code : NF_EIO;
    dirblock_begin(&it, data, fs->block_size, form);
    while (dirblock_next(&it, &e) > 0) {
        if (!e.dot && !e.dotdot && e.ino <= fs->inodes && fs->name_counts[e.ino] < UINT32_MAX)
            fs->name_counts[e.ino]++;
    }
    return 0;
}

static int count_names(struct ext4_fs *fs, uint32_t ino, struct nf_error *err)
{
    struct ext4_inode inode;
    struct block_map map = {0};
    int ret = read_map(fs, ino, &inode, &map, err);

    for (size_t i = 0; ret == 0 && ext4_is_dir(&inode) && i < map.n; i++) {
        struct dirblock_form form = shown_form(fs, VIEW_OLD, ino, &inode).block;
        uint64_t pos = map.ext[i].pblk, end = pos + map.ext[i].len;
        struct owner_extent run;

        while (ret == 0 && ownermap_next(&fs->owners, &pos, end, &run)) {
            if (run.kind != OWN_DIR || run.owner != ino)
                continue;
            for (uint64_t k = 0; ret == 0 && k < run.len; k++)
                ret = count_block(fs, run.pblk + k, form, err);
        }
    }
    block_map_release(&map);
    return ret < 0 ? ret : 0;
}

static int disown(struct ext4_fs *fs, uint32_t ino)
{
    struct ext4_inode inode;
    struct block_map map = {0};
    int ret = read_map(fs, ino, &inode, &map, NULL);

    for (size_t i = 0; ret == 0 && i < map.n + map.nnodes; i++) {
        uint64_t pos = i < map.n ? map.ext[i].pblk : map.nodes[i - map.n].pblk;
        uint64_t end = pos + (i < map.n ? map.ext[i].len : 1);
        struct owner_extent run;

        while (ret == 0 && ownermap_next(&fs->owners, &pos, end, &run)) {
            if (run.kind != OWN_NONE && run.kind < OWN_JOURNAL && run.owner == ino)
                ret = ownermap_clear(&fs->owners, &run);
        }
    }
    block_map_release(&map);
    return ret < 0 ? ret : 0;
}

/* An inode that has not the names that it should. */
static int put_off_misnamed(struct ext4_fs *fs, uint32_t ino, struct nf_error *err)
{
    const uint8_t *raw = ext4_inode_raw(fs, VIEW_OLD, ino);
    struct ext4_inode inode;
    uint32_t names;
    int ret;

    if (!raw || ino == EXT2_ROOT_INO || !ext4_inode_visible(fs, ino) || nf_le16(raw) == 0)
        return 0;
    ext4_inode_decode(&inode, raw, fs->inode_size);
    names = ext4_is_dir(&inode) ? inode.attr.links > 0 : inode.attr.links;
    if (fs->name_counts[ino] == names)
        return 0;
    fs->misnamed = true;
    ret = disown(fs, ino);
    return ret < 0 ? nf_fail(err, ret, "owner map: %s", nf_status_name(ret))
                   : crawl_put_off(fs, ino, err);
}

static int add_names(struct ext4_fs *fs, uint32_t ino, struct nf_error *err)
{
    struct ext4_inode inode;
    struct block_map map = {0};
    int ret = read_map(fs, ino, &inode, &map, err);

    if (ret == 0 && ext4_is_dir(&inode))
        ret = crawl_dir(fs, ino, &inode, &map, err);
    block_map_release(&map);
    return ret < 0 ? ret : 0;
}

int crawl_middle(struct ext4_fs *fs, struct nf_error *err)
{
    int ret = 0;

    fs->name_counts = malloc(((size_t)fs->inodes + 1) * sizeof(*fs->name_counts));
    if (!fs->name_counts)
        return nf_fail(err, NF_ENOMEM, "ext4: out of memory");
    fs->misnamed = true;
    for (int i = 0; ret == 0 && fs->misnamed && i < ROUNDS_MAX; i++) {
        fs->misnamed = false;
        memset(fs->name_counts, 0, ((size_t)fs->inodes + 1) * sizeof(*fs->name_counts));
        ret = crawl_each(fs, count_names, err);
        if (ret == 0)
            ret = crawl_each(fs, put_off_misnamed, err);
    }
    free(fs->name_counts);
    fs->name_counts = NULL;
    return ret < 0 ? ret : crawl_each(fs, add_names, err);
}
