/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which directory entries a step took away and added. */
#include "bdi/ext4/step_private.h"

#include <stdlib.h>

#include "bdi/ext4/dirblock.h"
#include "bdi/ext4/fastcommit.h"
#include "bdi/ext4/inline.h"

static int see_entry(struct ext4_fs *fs, struct links *links, bool new_side,
                     const struct step_inode *si, const struct shown_form *form, uint64_t block,
                     uint32_t base, const struct dirblock_entry *e)
{
    struct name_ref ref = {e->ino, si->ino, block, (uint16_t)(base + e->offset)};
    uint8_t buf[SHOWN_NAME_MAX];
    struct nf_bytes name;

    if (e->dot || e->dotdot)
        return 0;
    if (!shown_name(fs, form, e, buf, &name)) {
        ext4_oddity(fs);
        return 0;
    }
    return links_saw(links, new_side, new_side ? step_new_key(si) : si->ino, name,
                     name.data == buf, &ref);
}

/* @chain begins at @base in @block. */
static int see_chain(struct ext4_fs *fs, struct links *links, bool new_side,
                     const struct step_inode *si, const struct shown_form *form, uint64_t block,
                     uint32_t base, struct nf_bytes chain, struct nf_error *err)
{
    struct dirblock it;
    struct dirblock_entry e;
    int ret;

    dirblock_begin(&it, chain.data, (uint32_t)chain.len, form->block);
    while ((ret = dirblock_next(&it, &e)) > 0) {
        if (see_entry(fs, links, new_side, si, form, block, base, &e) < 0)
            return nf_fail(err, NF_ENOMEM, "directory %u: out of memory", si->ino);
    }
    if (ret < 0)
        ext4_oddity(fs);
    return 0;
}

static int see_block(struct ext4_fs *fs, struct links *links, bool new_side,
                     const struct step_inode *si, const struct shown_form *form, uint64_t block,
                     struct nf_error *err)
{
    const uint8_t *data = picture_block(&fs->pic, new_side ? VIEW_NEW : VIEW_OLD, block, err);

    if (!data)
        return err ? err->code : NF_EIO;
    return see_chain(fs, links, new_side, si, form, block, 0,
                     (struct nf_bytes){data, fs->block_size}, err);
}

/* The entries of a directory without blocks. */
static int see_inline(struct ext4_fs *fs, struct links *links, bool new_side,
                      const struct step_inode *si, struct nf_error *err)
{
    const struct ext4_inode *inode = new_side ? &si->new : &si->old;
    enum view view = new_side ? VIEW_NEW : VIEW_OLD;
    struct shown_form form = shown_form(fs, view, si->ino, inode);
    struct nf_bytes chain[2];
    uint64_t block;
    uint32_t offset;
    int ret = 0;

    if (!ext4_inode_place(fs, view, si->ino, &block, &offset))
        return 0;
    if (!inline_dir_chains(inode->raw, fs->inode_size, chain))
        ext4_oddity(fs);
    for (int i = 0; ret == 0 && i < 2; i++)
        ret = see_chain(fs, links, new_side, si, &form, block,
                        offset + (uint32_t)(chain[i].data - inode->raw), chain[i], err);
    return ret;
}

/* Does an entry that is in its place on both sides name one object before the
 * step and another after it? */
static bool replaced(const struct step *step, uint32_t ino)
{
    const struct step_inode *si = step->replaced ? step_inode_of(step, ino) : NULL;

    return si && step_replaced(si);
}

static bool next_entry(struct ext4_fs *fs, struct dirblock *it, struct dirblock_entry *e)
{
    int ret = dirblock_next(it, e);

    if (ret < 0)
        ext4_oddity(fs);
    return ret > 0;
}

/* A block of directory @dir that is in it on both sides: what it says now and
 * did not, and the reverse. Most entries stayed where they are. */
static int see_both(struct ext4_fs *fs, struct step *step, struct links *links,
                    const struct step_inode *dir, const struct shown_form *form, uint64_t block,
                    struct nf_error *err)
{
    const uint8_t *old = picture_block(&fs->pic, VIEW_OLD, block, err);
    const uint8_t *new = old ? picture_block(&fs->pic, VIEW_NEW, block, err) : NULL;
    struct dirblock a_it, b_it;
    struct dirblock_entry a, b;
    bool has_a, has_b;
    int ret = 0;

    if (!new)
        return err ? err->code : NF_EIO;
    dirblock_begin(&a_it, old, fs->block_size, form->block);
    dirblock_begin(&b_it, new, fs->block_size, form->block);
    has_a = next_entry(fs, &a_it, &a);
    has_b = next_entry(fs, &b_it, &b);
    while (ret == 0 && (has_a || has_b)) {
        bool take_a = has_a && (!has_b || a.offset <= b.offset);
        bool take_b = has_b && (!has_a || b.offset <= a.offset);

        if (!take_a || !take_b || a.ino != b.ino || !nf_bytes_equal(a.name, b.name) ||
            replaced(step, a.ino)) {
            if (take_a)
                ret = see_entry(fs, links, false, dir, form, block, 0, &a);
            if (ret == 0 && take_b)
                ret = see_entry(fs, links, true, dir, form, block, 0, &b);
        }
        if (take_a)
            has_a = next_entry(fs, &a_it, &a);
        if (take_b)
            has_b = next_entry(fs, &b_it, &b);
    }
    return ret < 0 ? nf_fail(err, NF_ENOMEM, "directory %u: out of memory", dir->ino) : 0;
}

bool step_stayed(const struct step_inode *si, uint32_t lblk, uint64_t block)
{
    const struct map_extent *o, *n;

    if (!si->map_differs)
        return true;
    o = block_map_find(&si->old_map, lblk, NULL);
    n = block_map_find(&si->new_map, lblk, NULL);
    if (o && n && !map_extent_same(o))
        return o->pblk + (lblk - o->lblk) == block && n->pblk + (lblk - n->lblk) == block;
    return o && n;
}

/* Compare the blocks of a directory that changed hands, or all if it is not the
 * same one on both sides. No more than *@left blocks are looked into: a block is
 * in one directory before and in one after the step, unless a guest claims it
 * for many. */
static int see_dir(struct ext4_fs *fs, struct links *links, struct step_inode *si,
                   uint64_t *left, struct nf_error *err)
{
    bool old_dir = si->old_live && ext4_is_dir(&si->old);
    bool new_dir = si->new_live && ext4_is_dir(&si->new);
    int ret = 0;

    if (old_dir && ext4_is_inline(&si->old))
        ret = see_inline(fs, links, false, si, err);
    if (ret == 0 && new_dir && ext4_is_inline(&si->new))
        ret = see_inline(fs, links, true, si, err);
    for (int side = 0; ret == 0 && side < 2 && si->map_differs; side++) {
        const struct block_map *mine = side ? &si->new_map : &si->old_map;
        struct shown_form form;

        if (side ? !new_dir : !old_dir)
            continue;
        form = shown_form(fs, side ? VIEW_NEW : VIEW_OLD, si->ino, side ? &si->new : &si->old);
        for (size_t i = 0; i < mine->n; i++) {
            const struct map_extent *e = &mine->ext[i];

            if (map_extent_same(e))
                continue;
            for (uint32_t j = 0; j < e->len; j++) {
                if (si->same && !si->reformed && step_stayed(si, e->lblk + j, e->pblk + j))
                    continue;
                if (*left == 0) {
                    ext4_oddity(fs);
                    return 0;
                }
                --*left;
                ret = see_block(fs, links, side, si, &form, e->pblk + j, err);
                if (ret < 0)
                    return ret;
            }
        }
    }
    return ret;
}

/* Without a journal, an inode can be written long after the name that it has now
 * replaced another's, and e2fsck brings inodes to life that have a name still: then
 * no block of the directory says so. */
static int see_names_kept(struct ext4_fs *fs, struct links *links, const struct step_inode *si,
                          struct nf_error *err)
{
    struct name_ref *refs;
    size_t n;
    int ret = paths_all_refs(fs, si->ino, &refs, &n);

    for (size_t i = 0; ret == 0 && i < n; i++) {
        uint8_t buf[SHOWN_NAME_MAX];
        struct nf_bytes name;

        if (!paths_ref_name(fs, &refs[i], buf, &name) ||
            links_knows(links, refs[i].parent, name))
            continue;
        ret = links_saw(links, false, refs[i].parent, name, true, &refs[i]);
        if (ret == 0)
            ret = links_saw(links, true, refs[i].parent, name, true, &refs[i]);
    }
    free(refs);
    return ret < 0 ? nf_fail(err, ret, "names of inode %u: out of memory", si->ino) : 0;
}

/* Names that fast commits added are in blocks without a place in the map. */
static int see_virtual(struct ext4_fs *fs, struct step *step, struct links *links,
                       const struct staged *s, struct nf_error *err)
{
    const struct step_inode *si = step_inode_of(step, fastcommit_directory(fs, s->fsblock));
    struct shown_form form;
    int ret = 0;

    if (si && s->old && si->old_live) {
        form = shown_form(fs, VIEW_OLD, si->ino, &si->old);
        ret = see_block(fs, links, false, si, &form, s->fsblock, err);
    }
    if (ret == 0 && si && !s->unmade && si->new_live) {
        form = shown_form(fs, VIEW_NEW, si->ino, &si->new);
        ret = see_block(fs, links, true, si, &form, s->fsblock, err);
    }
    return ret;
}

int step_see_dirs(struct ext4_fs *fs, struct step *step, struct links *links,
                  struct nf_error *err)
{
    uint64_t left = 2 * fs->blocks;
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < step->n; i++)
        ret = see_dir(fs, links, step->order[i], &left, err);
    /* Where the map stayed, the staged blocks themselves say what to compare. */
    for (size_t i = 0; ret == 0 && i < step->nblocks; i++) {
        struct owner_extent owner;
        struct step_inode *si;
        struct shown_form form;

        if (step->blocks[i]->fsblock >= PICTURE_VIRTUAL) {
            ret = see_virtual(fs, step, links, step->blocks[i], err);
            continue;
        }
        if (!ownermap_get(&fs->owners, step->blocks[i]->fsblock, &owner) || owner.kind != OWN_DIR)
            continue;
        si = step_inode_of(step, owner.owner);
        if (!si || !si->same || si->reformed || !ext4_is_dir(&si->new) ||
            !step_stayed(si, owner.logical, step->blocks[i]->fsblock))
            continue;
        form = shown_form(fs, VIEW_NEW, si->ino, &si->new);
        ret = see_both(fs, step, links, si, &form, step->blocks[i]->fsblock, err);
    }
    for (size_t i = 0; ret == 0 && i < step->n; i++) {
        const struct step_inode *si = step->order[i];

        if (!si->same && (si->old_live || si->new_live))
            ret = see_names_kept(fs, links, si, err);
    }
    return ret;
}
