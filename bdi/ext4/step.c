/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/step.h"

#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/content.h"
#include "bdi/ext4/dirblock.h"
#include "bdi/ext4/links.h"
#include "bdi/ext4/xattrs.h"

static struct step_inode *touch(struct step *step, uint32_t ino, struct nf_error *err)
{
    struct step_inode *si = u64map_get(&step->touched, ino);

    if (si)
        return si;
    si = calloc(1, sizeof(*si));
    if (!si || u64map_put(&step->touched, ino, si) < 0) {
        free(si);
        nf_fail(err, NF_ENOMEM, "step: out of memory");
        return NULL;
    }
    si->ino = ino;
    return si;
}

static int touch_table(struct ext4_fs *fs, struct step *step, const struct owner_extent *owner,
                       const uint8_t *old, const uint8_t *new, struct nf_error *err)
{
    uint32_t per = fs->block_size / fs->inode_size;

    for (uint32_t i = 0; i < per; i++) {
        size_t at = (size_t)i * fs->inode_size;
        uint64_t index = (uint64_t)owner->logical * per + i;
        uint64_t ino = (uint64_t)owner->owner * fs->inodes_per_group + index + 1;

        if (index >= fs->inodes_per_group || !memcmp(old + at, new + at, fs->inode_size))
            continue;
        if (ext4_inode_visible(fs, (uint32_t)ino) && !touch(step, (uint32_t)ino, err))
            return NF_ENOMEM;
    }
    return 0;
}

static int touch_bitmap(struct ext4_fs *fs, struct step *step, const struct owner_extent *owner,
                        const uint8_t *old, const uint8_t *new, struct nf_error *err)
{
    for (uint32_t byte = 0; byte < fs->inodes_per_group / 8; byte++) {
        uint8_t diff = old[byte] ^ new[byte];

        for (uint32_t bit = 0; diff; bit++, diff >>= 1) {
            uint64_t ino = (uint64_t)owner->owner * fs->inodes_per_group + byte * 8 + bit + 1;

            if ((diff & 1) && ext4_inode_visible(fs, (uint32_t)ino) &&
                !touch(step, (uint32_t)ino, err))
                return NF_ENOMEM;
        }
    }
    return 0;
}

static int by_block(const void *a, const void *b)
{
    const struct staged *x = *(const struct staged *const *)a;
    const struct staged *y = *(const struct staged *const *)b;

    return (x->fsblock > y->fsblock) - (x->fsblock < y->fsblock);
}

static int by_ino(const void *a, const void *b)
{
    const struct step_inode *x = *(const struct step_inode *const *)a;
    const struct step_inode *y = *(const struct step_inode *const *)b;

    return (x->ino > y->ino) - (x->ino < y->ino);
}

/* Which inodes do the staged blocks concern? */
static int gather(struct ext4_fs *fs, struct step *step, bool *super, struct nf_error *err)
{
    size_t pos = 0;
    void *v;
    int ret = 0;

    step->blocks = calloc(fs->pic.staged.used + 1, sizeof(*step->blocks));
    if (!step->blocks)
        return nf_fail(err, NF_ENOMEM, "step: out of memory");
    while (u64map_next(&fs->pic.staged, &pos, NULL, &v))
        step->blocks[step->nblocks++] = v;
    qsort(step->blocks, step->nblocks, sizeof(*step->blocks), by_block);

    for (size_t i = 0; ret == 0 && i < step->nblocks; i++) {
        const struct staged *s = step->blocks[i];
        struct step_inode *si = NULL;
        struct owner_extent owner;
        const uint8_t *old;

        if (!ownermap_get(&fs->owners, s->fsblock, &owner))
            continue;
        if (owner.kind == OWN_ITABLE || owner.kind == OWN_INODE_BITMAP) {
            old = picture_block(&fs->pic, VIEW_OLD, s->fsblock, err);
            if (!old)
                return err ? err->code : NF_EIO;
            ret = owner.kind == OWN_ITABLE ? touch_table(fs, step, &owner, old, s->new, err)
                                           : touch_bitmap(fs, step, &owner, old, s->new, err);
            continue;
        }
        if (owner.kind == OWN_SUPER)
            *super = true;
        if (owner.kind != OWN_DIR && owner.kind != OWN_NODE && owner.kind != OWN_XATTR)
            continue;
        if (!ext4_inode_visible(fs, owner.owner))
            continue;
        si = touch(step, owner.owner, err);
        if (!si)
            return NF_ENOMEM;
        si->dir_changed |= owner.kind == OWN_DIR;
        si->node_changed |= owner.kind == OWN_NODE;
        si->xattr_changed |= owner.kind == OWN_XATTR;
    }
    return ret;
}

static bool load_side(struct ext4_fs *fs, enum view view, uint32_t ino, struct ext4_inode *inode)
{
    const uint8_t *raw = ext4_inode_live(fs, view, ino) ? ext4_inode_raw(fs, view, ino) : NULL;

    if (!raw)
        return false;
    ext4_inode_decode(inode, raw, fs->inode_size);
    return inode->attr.mode != 0;
}

static bool same_object(const struct ext4_inode *a, const struct ext4_inode *b)
{
    return a->generation == b->generation && (a->attr.mode & 0170000) == (b->attr.mode & 0170000) &&
           a->attr.crtime.sec == b->attr.crtime.sec && a->attr.crtime.nsec == b->attr.crtime.nsec;
}

static int load(struct ext4_fs *fs, struct step *step, struct nf_error *err)
{
    size_t pos = 0;
    void *v;

    step->order = calloc(step->touched.used + 1, sizeof(*step->order));
    if (!step->order)
        return nf_fail(err, NF_ENOMEM, "step: out of memory");
    while (u64map_next(&step->touched, &pos, NULL, &v))
        step->order[step->n++] = v;
    qsort(step->order, step->n, sizeof(*step->order), by_ino);

    for (size_t i = 0; i < step->n; i++) {
        struct step_inode *si = step->order[i];
        bool old_map, new_map;
        int ret = 0;

        si->old_live = load_side(fs, VIEW_OLD, si->ino, &si->old);
        si->new_live = load_side(fs, VIEW_NEW, si->ino, &si->new);
        si->same = si->old_live && si->new_live &&
                   (si->ino == EXT2_ROOT_INO || same_object(&si->old, &si->new));
        old_map = si->old_live && ext4_has_map(&si->old);
        new_map = si->new_live && ext4_has_map(&si->new);
        si->map_differs = (old_map || new_map) &&
                          (!si->same || old_map != new_map || si->node_changed ||
                           memcmp(si->old.raw + 0x28, si->new.raw + 0x28, 60) != 0);
        if (!si->map_differs && !(new_map && ext4_is_reg(&si->new) &&
                                  si->new.attr.size > si->old.attr.size))
            continue;
        si->maps_read = true;
        if (old_map)
            ret = block_map_read(fs, VIEW_OLD, si->ino, &si->old, &si->old_map, err);
        if (ret == 0 && new_map)
            ret = block_map_read(fs, VIEW_NEW, si->ino, &si->new, &si->new_map, err);
        if (ret < 0)
            return ret;
    }
    return 0;
}

static enum owner_kind data_kind(const struct ext4_inode *inode, const struct map_extent *e)
{
    if (ext4_is_dir(inode))
        return OWN_DIR;
    /* Targets of symbolic links are written through the log, like metadata. */
    if (ext4_is_symlink(inode))
        return OWN_NODE;
    return e->unwritten ? OWN_UNWRITTEN : OWN_DATA;
}

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

        while (ret == 0 && pos < end) {
            uint32_t hole_end = UINT32_MAX, next;
            const struct map_extent *o = compare ? block_map_find(other, pos, &hole_end) : NULL;
            struct owner_extent oe;

            next = o ? o->lblk + o->len : hole_end;
            next = next < end ? next : end;
            if (!o || o->unwritten != e->unwritten ||
                o->pblk + (pos - o->lblk) != e->pblk + (pos - e->lblk)) {
                oe = (struct owner_extent){e->pblk + (pos - e->lblk), next - pos, ino, pos,
                                           data_kind(inode, e)};
                ret = fn(&fs->owners, &oe);
            }
            pos = next;
        }
    }
    /* Nodes are few: give all of them each time. */
    for (size_t i = 0; ret == 0 && i < map->nnodes; i++) {
        struct owner_extent oe = {map->nodes[i], 1, ino, 0, OWN_NODE};

        ret = fn(&fs->owners, &oe);
    }
    return ret;
}

static int own_xattr_block(struct ext4_fs *fs, uint32_t ino, uint64_t block, owner_fn *fn)
{
    struct owner_extent oe = {block, 1, ino, 0, OWN_XATTR};

    return block && block < fs->blocks ? fn(&fs->owners, &oe) : 0;
}

/* First everything that was given up, then everything that was taken: a block
 * that went from one file to another ends with the latter. */
static int update_owners(struct ext4_fs *fs, struct step *step, struct nf_error *err)
{
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < step->n; i++) {
        struct step_inode *si = step->order[i];

        if (si->map_differs && si->old_live)
            ret = for_difference(fs, si->ino, &si->old, &si->old_map, &si->new_map, si->same,
                                 ownermap_clear);
        if (ret == 0 && si->old_live &&
            (!si->new_live || si->old.file_acl != si->new.file_acl))
            ret = own_xattr_block(fs, si->ino, si->old.file_acl, ownermap_clear);
    }
    for (size_t i = 0; ret == 0 && i < step->n; i++) {
        struct step_inode *si = step->order[i];

        if (si->map_differs && si->new_live)
            ret = for_difference(fs, si->ino, &si->new, &si->new_map, &si->old_map, si->same,
                                 ownermap_set);
        if (ret == 0 && si->new_live)
            ret = own_xattr_block(fs, si->ino, si->new.file_acl, ownermap_set);
    }
    return ret < 0 ? nf_fail(err, ret, "owner map: %s", nf_status_name(ret)) : 0;
}

static int see_block(struct ext4_fs *fs, struct links *links, bool new_side, uint64_t dir,
                     uint32_t ino, uint64_t block, struct nf_error *err)
{
    const uint8_t *data = picture_block(&fs->pic, new_side ? VIEW_NEW : VIEW_OLD, block, err);
    struct dirblock it;
    struct dirblock_entry e;
    int ret;

    if (!data)
        return err ? err->code : NF_EIO;
    dirblock_begin(&it, data, fs->block_size, fs->filetype);
    while ((ret = dirblock_next(&it, &e)) > 0) {
        struct name_ref ref = {e.ino, ino, block, e.offset};

        if (e.dot || e.dotdot)
            continue;
        if (e.bad_name) {
            ext4_oddity(fs);
            continue;
        }
        if (links_saw(links, new_side, dir, e.name, &ref) < 0)
            return nf_fail(err, NF_ENOMEM, "directory %u: out of memory", ino);
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

        if (side ? !new_dir : !old_dir)
            continue;
        for (size_t i = 0; i < mine->n; i++) {
            for (uint32_t j = 0; j < mine->ext[i].len; j++) {
                uint64_t block = mine->ext[i].pblk + j;
                const struct map_extent *o =
                    si->same ? block_map_find(theirs, mine->ext[i].lblk + j, NULL) : NULL;

                if (o && o->pblk + (mine->ext[i].lblk + j - o->lblk) == block &&
                    !u64map_get(&fs->pic.staged, block))
                    continue;
                if (*left == 0) {
                    ext4_oddity(fs);
                    return 0;
                }
                --*left;
                ret = see_block(fs, links, side, side ? step_new_key(si) : si->ino, si->ino, block,
                                err);
                if (ret < 0)
                    return ret;
            }
        }
    }
    return ret;
}

static int see_dirs(struct ext4_fs *fs, struct step *step, struct links *links,
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

        if (!ownermap_get(&fs->owners, step->blocks[i]->fsblock, &owner) || owner.kind != OWN_DIR)
            continue;
        si = u64map_get(&step->touched, owner.owner);
        if (!si || si->map_differs || !si->same || !ext4_is_dir(&si->new))
            continue;
        ret = see_block(fs, links, false, si->ino, si->ino, step->blocks[i]->fsblock, err);
        if (ret == 0)
            ret = see_block(fs, links, true, si->ino, si->ino, step->blocks[i]->fsblock, err);
    }
    return ret;
}

static int emit_xattrs(struct ext4_fs *fs, struct step_inode *si, const struct nf_event *ev,
                       struct nf_error *err)
{
    struct xattrs before = {0}, after = {0};
    int ret = 0;

    if (si->same && !xattrs_may_differ(fs, &si->old, &si->new, si->xattr_changed))
        return 0;
    if (si->same)
        ret = xattrs_read(fs, VIEW_OLD, si->ino, &si->old, &before, err);
    if (ret == 0)
        ret = xattrs_read(fs, VIEW_NEW, si->ino, &si->new, &after, err);
    if (ret == 0)
        ret = xattrs_emit_diff(fs, ev, &before, &after, err);
    xattrs_release(&before);
    xattrs_release(&after);
    return ret;
}

/* Content, extended attributes, attributes: in this order, so that times are
 * set after everything that would change them. */
static int emit_inodes(struct ext4_fs *fs, struct step *step, struct nf_error *err)
{
    struct paths paths = {0};
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < step->n; i++) {
        struct step_inode *si = step->order[i];
        struct nf_event ev = {.inode = si->ino};
        uint32_t mask;

        if (!si->new_live)
            continue;
        paths_clear(&paths);
        paths_add_object(fs, &paths, step_new_key(si));
        ev.generation = si->new.generation;
        ev.paths = paths.list;
        ev.npaths = paths.n;
        ev.flags = paths_flags(&paths);
        if (ext4_is_reg(&si->new))
            ret = content_emit_step(fs, si, &ev, err);
        if (ret == 0)
            ret = emit_xattrs(fs, si, &ev, err);
        mask = si->same ? ext4_attr_diff(&si->old.attr, &si->new.attr) : 0;
        if (ret == 0 && mask) {
            ev.kind = NF_ATTR;
            ev.attr.mask = mask;
            ev.attr.before = si->old.attr;
            ev.attr.after = si->new.attr;
            ret = ext4_emit(fs, &ev, err);
        }
    }
    paths_release(&paths);
    return ret;
}

static void drop_freed(struct ownermap *m, const struct owner_extent *e, struct ext4_fs *fs)
{
    uint64_t pos = e->pblk, end = e->pblk + e->len;
    struct owner_extent now;

    while (ownermap_next(m, &pos, end, &now)) {
        uint64_t bs = fs->block_size;

        /* A range that was unwritten and still is may hold bytes that a later
         * commit converts. */
        if (now.kind == OWN_NONE || (now.kind == OWN_UNWRITTEN && e->kind != OWN_UNWRITTEN))
            held_forget(fs->ctx.held, fs->ctx.offset + now.pblk * bs, now.len * bs);
        if (e->kind == OWN_DATA || e->kind == OWN_UNWRITTEN)
            continue;
        if (now.kind != OWN_NONE && now.kind != OWN_DATA && now.kind != OWN_UNWRITTEN)
            continue;
        for (uint64_t b = 0; b < now.len; b++)
            picture_drop_home(&fs->pic, now.pblk + b);
    }
}

/* What was given up: bytes seen there belong to nobody's future. */
static void forget_freed(struct ext4_fs *fs, struct step *step)
{
    for (size_t i = 0; i < step->n; i++) {
        struct step_inode *si = step->order[i];

        if (!si->map_differs || !si->old_live)
            continue;
        for (size_t j = 0; j < si->old_map.n; j++) {
            const struct map_extent *e = &si->old_map.ext[j];
            struct owner_extent oe = {e->pblk, e->len, si->ino, e->lblk, OWN_NODE};

            /* Only kinds matter here, and only data against metadata. */
            if (ext4_is_reg(&si->old))
                oe.kind = e->unwritten ? OWN_UNWRITTEN : OWN_DATA;
            drop_freed(&fs->owners, &oe, fs);
        }
        for (size_t j = 0; j < si->old_map.nnodes; j++) {
            struct owner_extent oe = {si->old_map.nodes[j], 1, si->ino, 0, OWN_NODE};

            drop_freed(&fs->owners, &oe, fs);
        }
    }
}

static void step_release(struct step *step)
{
    size_t pos = 0;
    void *v;

    while (u64map_next(&step->touched, &pos, NULL, &v)) {
        struct step_inode *si = v;

        block_map_release(&si->old_map);
        block_map_release(&si->new_map);
        free(si);
    }
    u64map_release(&step->touched);
    free(step->order);
    free(step->blocks);
}

int step_run(struct ext4_fs *fs, bool commit, struct nf_error *err)
{
    struct step step = {0};
    struct links *links = NULL;
    bool super = false;
    int ret;

    u64map_init(&step.touched);
    fs->index = 0;
    ret = gather(fs, &step, &super, err);
    if (ret == 0)
        ret = load(fs, &step, err);
    if (ret < 0)
        goto out;
    links = links_new(fs, &step);
    if (!links) {
        ret = nf_fail(err, NF_ENOMEM, "step: out of memory");
        goto out;
    }
    ret = see_dirs(fs, &step, links, err);
    if (ret == 0)
        ret = update_owners(fs, &step, err);
    if (ret == 0) {
        fs->links = links;
        ret = links_pair(links, err);
    }
    if (ret == 0)
        ret = links_emit(links, err);
    if (ret == 0)
        ret = emit_inodes(fs, &step, err);
    if (ret == 0)
        ret = content_emit_journaled(fs, &step, err);
    if (ret == 0)
        ret = links_finish(links, err);
    fs->links = NULL;
    if (ret == 0 && (commit || fs->index)) {
        struct nf_event ev = {.kind = NF_COMMIT, .commit.events = fs->index};

        fs->ctx.emitter->status.steps++;
        ret = ext4_emit(fs, &ev, err);
    }
    if (ret == 0) {
        ret = picture_settle(&fs->pic, err);
        forget_freed(fs, &step);
    }
    if (ret == 0 && super)
        ret = ext4_super_changed(fs, err);
out:
    links_free(links);
    step_release(&step);
    return ret;
}
