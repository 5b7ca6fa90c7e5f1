/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Which directory entries a step took away and added. */
#include "bdi/ext4/step_private.h"

#include "bdi/ext4/dirblock.h"

static int see_block(struct ext4_fs *fs, struct links *links, bool new_side,
                     const struct step_inode *si, const struct shown_form *form, uint64_t block,
                     struct nf_error *err)
{
    uint64_t dir = new_side ? step_new_key(si) : si->ino;
    const uint8_t *data = picture_block(&fs->pic, new_side ? VIEW_NEW : VIEW_OLD, block, err);
    struct dirblock it;
    struct dirblock_entry e;
    int ret;

    if (!data)
        return err ? err->code : NF_EIO;
    dirblock_begin(&it, data, fs->block_size, form->block);
    while ((ret = dirblock_next(&it, &e)) > 0) {
        struct name_ref ref = {e.ino, si->ino, block, e.offset};
        uint8_t buf[SHOWN_NAME_MAX];
        struct nf_bytes name;

        if (e.dot || e.dotdot)
            continue;
        if (!shown_name(fs, form, &e, buf, &name)) {
            ext4_oddity(fs);
            continue;
        }
        if (links_saw(links, new_side, dir, name, name.data == buf, &ref) < 0)
            return nf_fail(err, NF_ENOMEM, "directory %u: out of memory", si->ino);
    }
    if (ret < 0)
        ext4_oddity(fs);
    return 0;
}

/* Compare the blocks of a directory that changed hands or content. No more
 * than *@left blocks are looked into: a block is in one directory before and
 * in one after the step, unless a guest claims it for many. */
static int see_dir(struct ext4_fs *fs, struct links *links, struct step_inode *si,
                   uint64_t *left, struct nf_error *err)
{
    bool old_dir = si->old_live && ext4_is_dir(&si->old);
    bool new_dir = si->new_live && ext4_is_dir(&si->new);
    int ret = 0;

    for (int side = 0; side < 2 && si->map_differs; side++) {
        const struct block_map *mine = side ? &si->new_map : &si->old_map;
        const struct block_map *theirs = side ? &si->old_map : &si->new_map;

        struct shown_form form;

        if (side ? !new_dir : !old_dir)
            continue;
        form = shown_form(fs, side ? VIEW_NEW : VIEW_OLD, si->ino, side ? &si->new : &si->old);
        for (size_t i = 0; i < mine->n; i++) {
            for (uint32_t j = 0; j < mine->ext[i].len; j++) {
                uint64_t block = mine->ext[i].pblk + j;
                const struct map_extent *o =
                    si->same ? block_map_find(theirs, mine->ext[i].lblk + j, NULL) : NULL;

                if (o && o->pblk + (mine->ext[i].lblk + j - o->lblk) == block &&
                    !u64map_get(&fs->pic.staged, block) && !si->reformed)
                    continue;
                if (*left == 0) {
                    ext4_oddity(fs);
                    return 0;
                }
                --*left;
                ret = see_block(fs, links, side, si, &form, block, err);
                if (ret < 0)
                    return ret;
            }
        }
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

        if (!ownermap_get(&fs->owners, step->blocks[i]->fsblock, &owner) || owner.kind != OWN_DIR)
            continue;
        si = u64map_get(&step->touched, owner.owner);
        if (!si || si->map_differs || !si->same || !ext4_is_dir(&si->new))
            continue;
        form = shown_form(fs, VIEW_NEW, si->ino, &si->new);
        ret = see_block(fs, links, false, si, &form, step->blocks[i]->fsblock, err);
        if (ret == 0)
            ret = see_block(fs, links, true, si, &form, step->blocks[i]->fsblock, err);
    }
    return ret;
}
