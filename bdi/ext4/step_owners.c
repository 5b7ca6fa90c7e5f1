/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a step means for the owner map, and for what was kept of freed blocks. */
#include "bdi/ext4/step_private.h"

#include "bdi/ext4/unsettled.h"

typedef int owner_fn(struct ownermap *m, const struct owner_extent *e);

/* Apply @fn to the parts of @map that @other does not have in the same place. */
static int for_difference(struct ext4_fs *fs, uint32_t ino, const struct ext4_inode *inode,
                          const struct block_map *map, const struct block_map *other, bool compare,
                          owner_fn *fn)
{
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < map->n; i++) {
        const struct map_extent *e = &map->ext[i];
        uint32_t pos = e->lblk, end = e->lblk + e->len;

        while (ret == 0 && pos < end && !map_extent_same(e)) {
            uint32_t hole_end = UINT32_MAX, next;
            const struct map_extent *o = compare ? block_map_find(other, pos, &hole_end) : NULL;
            struct owner_extent oe;

            next = o ? o->lblk + o->len : hole_end;
            next = next < end ? next : end;
            if (!o || o->unwritten != e->unwritten ||
                o->pblk + (pos - o->lblk) != e->pblk + (pos - e->lblk)) {
                oe = (struct owner_extent){e->pblk + (pos - e->lblk), next - pos, ino, pos,
                                           ext4_data_kind(fs, ino, inode, e->unwritten)};
                ret = fn(&fs->owners, &oe);
            }
            pos = next;
        }
    }
    for (size_t i = 0; ret == 0 && i < map->nnodes; i++) {
        struct owner_extent oe = {map->nodes[i].pblk, 1, ino, map->nodes[i].lblk, OWN_NODE};

        ret = fn(&fs->owners, &oe);
    }
    return ret;
}

typedef int xattr_fn(struct xattr_owners *x, struct ownermap *m, uint64_t block, uint32_t ino);

static int own_xattr_block(struct ext4_fs *fs, uint32_t ino, uint64_t block, xattr_fn *fn)
{
    int ret = block && block < fs->blocks ? fn(&fs->xattr_owners, &fs->owners, block, ino) : 0;

    if (ret > 0)
        ext4_oddity(fs);
    return ret < 0 ? ret : 0;
}

/* First everything that was given up, then everything that was taken: a block
 * that went from one file to another ends with the latter. */
int step_update_owners(struct ext4_fs *fs, struct step *step, struct nf_error *err)
{
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < step->n; i++) {
        struct step_inode *si = step->order[i];

        if (si->map_differs && si->old_used)
            ret = for_difference(fs, si->ino, &si->old, &si->old_map, &si->new_map, si->same,
                                 ownermap_clear);
        if (ret == 0 && si->old_used &&
            (!si->new_used || si->old.file_acl != si->new.file_acl))
            ret = own_xattr_block(fs, si->ino, si->old.file_acl, xattr_owners_remove);
    }
    for (size_t i = 0; ret == 0 && i < step->n; i++) {
        struct step_inode *si = step->order[i];

        if (si->map_differs && si->new_used)
            ret = for_difference(fs, si->ino, &si->new, &si->new_map, &si->old_map, si->same,
                                 ownermap_set);
        if (ret == 0 && si->new_used)
            ret = own_xattr_block(fs, si->ino, si->new.file_acl, xattr_owners_add);
    }
    return ret < 0 ? nf_fail(err, ret, "owner map: %s", nf_status_name(ret)) : 0;
}

static int drop_freed(struct ownermap *m, const struct owner_extent *e, struct ext4_fs *fs,
                      struct nf_error *err)
{
    uint64_t pos = e->pblk, end = e->pblk + e->len;
    struct owner_extent now;
    int ret = 0;

    while (ret == 0 && ownermap_next(m, &pos, end, &now)) {
        uint64_t bs = fs->block_size;

        /* A range that was unwritten and still is may hold bytes that a later
         * commit converts. */
        if (now.kind == OWN_NONE || (now.kind == OWN_UNWRITTEN && e->kind != OWN_UNWRITTEN))
            held_forget(fs->ctx.held, fs->ctx.offset + now.pblk * bs, now.len * bs);
        if (now.kind == OWN_NONE && unsettled_mode(fs))
            unsettled_forget(fs, now.pblk, now.len, NULL);
        if (e->kind == OWN_DATA || e->kind == OWN_UNWRITTEN)
            continue;
        if (now.kind != OWN_NONE && now.kind != OWN_DATA && now.kind != OWN_UNWRITTEN)
            continue;
        for (uint64_t b = 0; ret == 0 && b < now.len; b++)
            ret = picture_drop_home(&fs->pic, now.pblk + b, err);
    }
    return ret;
}

/* What was given up: bytes seen there belong to nobody's future. */
int step_forget_freed(struct ext4_fs *fs, struct step *step, struct nf_error *err)
{
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < step->n; i++) {
        struct step_inode *si = step->order[i];

        if (si->old_used && si->old.file_acl) {
            struct owner_extent oe = {si->old.file_acl, 1, si->ino, 0, OWN_XATTR};

            ret = drop_freed(&fs->owners, &oe, fs, err);
        }
        if (!si->map_differs || !si->old_used)
            continue;
        for (size_t j = 0; ret == 0 && j < si->old_map.n; j++) {
            const struct map_extent *e = &si->old_map.ext[j];
            struct owner_extent oe = {e->pblk, e->len, si->ino, e->lblk, OWN_NODE};

            if (map_extent_same(e))
                continue;
            /* Only kinds matter here, and only data against metadata. */
            oe.kind = ext4_data_kind(fs, si->ino, &si->old, e->unwritten);
            ret = drop_freed(&fs->owners, &oe, fs, err);
        }
        for (size_t j = 0; ret == 0 && j < si->old_map.nnodes; j++) {
            struct owner_extent oe = {si->old_map.nodes[j].pblk, 1, si->ino,
                                      si->old_map.nodes[j].lblk, OWN_NODE};

            ret = drop_freed(&fs->owners, &oe, fs, err);
        }
    }
    return ret;
}
