/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/step_private.h"

#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/content.h"
#include "bdi/ext4/fastcommit.h"
#include "bdi/ext4/xattrs.h"

#define XATTR_HEADER 32u /* of a block of attributes */

static struct step_inode *touch(struct step *step, uint32_t ino, struct nf_error *err)
{
    struct step_page *page = u64map_get(&step->pages, ino / STEP_PAGE);
    struct step_inode *si = page ? page->at[ino % STEP_PAGE] : NULL;

    if (si)
        return si;
    if (!page) {
        page = nf_arena_alloc(&step->arena, sizeof(*page));
        if (!page || u64map_put(&step->pages, ino / STEP_PAGE, page) < 0)
            goto nomem;
        memset(page, 0, sizeof(*page));
    }
    if (step->n == step->cap) {
        size_t cap = step->cap ? step->cap * 2 : 64;
        struct step_inode **bigger = reallocarray(step->order, cap, sizeof(*bigger));

        if (!bigger)
            goto nomem;
        step->order = bigger;
        step->cap = cap;
    }
    si = nf_arena_alloc(&step->arena, sizeof(*si));
    if (!si)
        goto nomem;
    memset(si, 0, sizeof(*si));
    si->ino = ino;
    page->at[ino % STEP_PAGE] = si;
    step->order[step->n++] = si;
    return si;
nomem:
    nf_fail(err, NF_ENOMEM, "step: out of memory");
    return NULL;
}

/* The others (the journal, the resize inode...) never get or lose a block while
 * they are followed. */
static bool can_touch(const struct ext4_fs *fs, uint32_t ino)
{
    return ext4_inode_visible(fs, ino) || ext4_inode_is_quota(fs, ino);
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
        if (can_touch(fs, (uint32_t)ino) && !touch(step, (uint32_t)ino, err))
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

            if ((diff & 1) && can_touch(fs, (uint32_t)ino) &&
                !touch(step, (uint32_t)ino, err))
                return NF_ENOMEM;
        }
    }
    return 0;
}

/* Without a journal, the descriptor that says how much of a table is in use can come
 * after the inodes and their bitmap. */
static int touch_used(struct ext4_fs *fs, struct step *step, const struct owner_extent *owner,
                      struct nf_error *err)
{
    uint32_t per = fs->block_size / fs->desc_size;

    if (fs->journal_open || owner->logical >= fs->ndesc_blocks ||
        fs->desc_blocks[owner->logical] != owner->pblk)
        return 0;
    for (uint32_t g = owner->logical * per; g < fs->groups && g < (owner->logical + 1) * per; g++) {
        uint32_t before = ext4_group_inodes_used(fs, VIEW_OLD, g);
        uint32_t after = ext4_group_inodes_used(fs, VIEW_NEW, g);

        for (uint32_t i = before; i < after; i++) {
            uint64_t ino = (uint64_t)g * fs->inodes_per_group + i + 1;

            if (ino <= fs->inodes && ext4_inode_visible(fs, (uint32_t)ino) &&
                ext4_inode_live(fs, VIEW_NEW, (uint32_t)ino) && !touch(step, (uint32_t)ino, err))
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

static int add_dirty(struct step_inode *si, uint32_t lblk)
{
    /* Grown whenever the number reaches a power of two. */
    if ((si->ndirty & (si->ndirty - 1)) == 0) {
        size_t cap = si->ndirty ? si->ndirty * 2 : 1;
        uint32_t *bigger = reallocarray(si->dirty, cap, sizeof(*bigger));

        if (!bigger)
            return NF_ENOMEM;
        si->dirty = bigger;
    }
    si->dirty[si->ndirty++] = lblk;
    si->node_changed = true;
    return 0;
}

/* A block of attributes, perhaps of many inodes. Each that joins or leaves them
 * changes the count in it, which is nobody's attribute. */
static int touch_xattrs(struct ext4_fs *fs, struct step *step, uint64_t block, uint32_t owner,
                        const uint8_t *old, const uint8_t *new, struct nf_error *err)
{
    const struct xattr_sharers *all = xattr_owners_of(&fs->xattr_owners, block);
    const uint32_t *ino = all ? all->ino : &owner;

    if (memcmp(old, new, 4) == 0 &&
        memcmp(old + XATTR_HEADER, new + XATTR_HEADER, fs->block_size - XATTR_HEADER) == 0)
        return 0;
    for (uint32_t i = 0; i < (all ? all->n : 1); i++) {
        struct step_inode *si;

        if (!ext4_inode_visible(fs, ino[i]))
            continue;
        si = touch(step, ino[i], err);
        if (!si)
            return NF_ENOMEM;
        si->xattr_changed = true;
    }
    return 0;
}

/* Which inodes do the staged blocks concern? */
static int gather(struct ext4_fs *fs, struct step *step, struct nf_error *err)
{
    size_t pos = 0;
    uint32_t ino;
    void *v;
    int ret = 0;

    step->blocks = calloc(fs->pic.staged.used + 1, sizeof(*step->blocks));
    if (!step->blocks)
        return nf_fail(err, NF_ENOMEM, "step: out of memory");
    while (u64map_next(&fs->pic.staged, &pos, NULL, &v))
        step->blocks[step->nblocks++] = v;
    qsort(step->blocks, step->nblocks, sizeof(*step->blocks), by_block);

    fs->pace.looked += step->nblocks;
    for (size_t i = 0; ret == 0 && i < step->nblocks; i++) {
        const struct staged *s = step->blocks[i];
        struct step_inode *si = NULL;
        struct owner_extent owner;
        const uint8_t *old;

        if (s->fsblock >= PICTURE_VIRTUAL) {
            if (!touch(step, fastcommit_directory(fs, s->fsblock), err))
                return NF_ENOMEM;
            continue;
        }
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
        if (owner.kind == OWN_SUPER && s->fsblock != 1024 / fs->block_size) {
            old = picture_block(&fs->pic, VIEW_OLD, s->fsblock, err);
            if (!old)
                return err ? err->code : NF_EIO;
            if (ext4_tables_moved(fs, owner.logical, old, s->new))
                return ext4_end(fs, FS_CHANGED, "its tables were moved", err);
            ret = touch_used(fs, step, &owner, err);
        }
        if (owner.kind == OWN_XATTR) {
            old = picture_block(&fs->pic, VIEW_OLD, s->fsblock, err);
            if (!old)
                return err ? err->code : NF_EIO;
            ret = touch_xattrs(fs, step, s->fsblock, owner.owner, old, s->new, err);
            continue;
        }
        if (owner.kind != OWN_DIR && owner.kind != OWN_NODE)
            continue;
        if (!can_touch(fs, owner.owner))
            continue;
        si = touch(step, owner.owner, err);
        if (!si)
            return NF_ENOMEM;
        si->dir_changed |= owner.kind == OWN_DIR;
        if (owner.kind == OWN_NODE && add_dirty(si, owner.logical) < 0)
            return nf_fail(err, NF_ENOMEM, "step: out of memory");
    }
    for (pos = 0; ret == 0 && (ino = fastcommit_next_changed(fs, &pos)) != 0;) {
        struct step_inode *si = touch(step, ino, err);

        if (!si)
            return NF_ENOMEM;
        si->node_changed = true;
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

static bool has_events(const struct ext4_fs *fs, uint32_t ino, const struct ext4_inode *inode)
{
    return ext4_inode_visible(fs, ino) && !ext4_inode_is_value(fs, inode->raw_flags);
}

static bool same_object(const struct ext4_inode *a, const struct ext4_inode *b)
{
    return a->generation == b->generation && (a->attr.mode & 0170000) == (b->attr.mode & 0170000) &&
           !((a->raw_flags ^ b->raw_flags) & EXT4_EA_INODE_FL) &&
           a->attr.crtime.sec == b->attr.crtime.sec && a->attr.crtime.nsec == b->attr.crtime.nsec;
}

/* Encryption and case folding are set on empty directories only; an index, which
 * decides what encrypted names look like, may come and go. */
static bool is_reformed(struct ext4_fs *fs, const struct step_inode *si)
{
    struct shown_form old, new;

    if (!si->same || !ext4_is_dir(&si->new) ||
        !(shown_encrypted(fs, &si->old) || shown_encrypted(fs, &si->new)))
        return false;
    old = shown_form(fs, VIEW_OLD, si->ino, &si->old);
    new = shown_form(fs, VIEW_NEW, si->ino, &si->new);
    return !shown_form_equal(&old, &new);
}

static int by_lblk(const void *a, const void *b)
{
    const uint32_t *x = a, *y = b;

    return (*x > *y) - (*x < *y);
}

/* Of a file that goes on: what differs, and what a larger size makes readable. */
static int load_difference(struct ext4_fs *fs, struct step_inode *si, struct nf_error *err)
{
    uint64_t from = si->old.attr.size / fs->block_size;
    uint64_t to = (si->new.attr.size + fs->block_size - 1) / fs->block_size;
    struct map_hint hint = {.dirty = si->dirty, .ndirty = si->ndirty};

    if (ext4_is_reg(&si->new) && si->new.attr.size > si->old.attr.size && from < UINT32_MAX) {
        hint.from = (uint32_t)from;
        hint.to = to < UINT32_MAX ? (uint32_t)to : UINT32_MAX;
    }
    if (si->ndirty)
        qsort(si->dirty, si->ndirty, sizeof(*si->dirty), by_lblk);
    return block_map_diff(fs, si->ino, &si->old, &si->new, &hint, &si->old_map, &si->new_map, err);
}

static int load(struct ext4_fs *fs, struct step *step, struct nf_error *err)
{
    bool sorted = true;

    /* A table's blocks come in their order: most often there is nothing to do. */
    for (size_t i = 1; sorted && i < step->n; i++)
        sorted = step->order[i - 1]->ino < step->order[i]->ino;
    if (!sorted)
        qsort(step->order, step->n, sizeof(*step->order), by_ino);
    fs->pace.looked += step->n;

    for (size_t i = 0; i < step->n; i++) {
        struct step_inode *si = step->order[i];
        bool old_map, new_map;
        int ret = 0;

        si->old_used = load_side(fs, VIEW_OLD, si->ino, &si->old);
        si->new_used = load_side(fs, VIEW_NEW, si->ino, &si->new);
        si->old_live = si->old_used && has_events(fs, si->ino, &si->old);
        si->new_live = si->new_used && has_events(fs, si->ino, &si->new);
        si->same = si->old_used && si->new_used &&
                   (si->ino == EXT2_ROOT_INO || same_object(&si->old, &si->new));
        step->replaced += step_replaced(si);
        old_map = si->old_used && ext4_has_map(&si->old);
        new_map = si->new_used && ext4_has_map(&si->new);
        si->reformed = is_reformed(fs, si);
        si->map_differs = (old_map || new_map) &&
                          (!si->same || old_map != new_map || si->node_changed || si->reformed ||
                           memcmp(si->old.raw + 0x28, si->new.raw + 0x28, 60) != 0);
        if (!si->map_differs && !(new_map && ext4_is_reg(&si->new) &&
                                  si->new.attr.size > si->old.attr.size))
            continue;
        si->maps_read = true;
        if (si->same && old_map && new_map && !si->reformed) {
            ret = load_difference(fs, si, err);
        } else {
            if (old_map)
                ret = block_map_read(fs, VIEW_OLD, si->ino, &si->old, &si->old_map, err);
            if (ret == 0 && new_map)
                ret = block_map_read(fs, VIEW_NEW, si->ino, &si->new, &si->new_map, err);
        }
        if (ret < 0)
            return ret;
        fs->pace.looked += si->old_map.n + si->old_map.nnodes + si->new_map.n + si->new_map.nnodes;
    }
    return 0;
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
        if (ext4_is_reg(&si->new) && !fs->quiet)
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

void step_release(struct step *step)
{
    for (size_t i = 0; i < step->n; i++) {
        struct step_inode *si = step->order[i];

        if (si->maps_read) {
            block_map_release(&si->old_map);
            block_map_release(&si->new_map);
        }
        if (si->moves) {
            moves_release(si->moves);
            free(si->moves);
        }
        free(si->dirty);
    }
    u64map_release(&step->pages);
    nf_arena_release(&step->arena);
    free(step->order);
    free(step->blocks);
}

int step_begin(struct ext4_fs *fs, struct step *step, struct nf_error *err)
{
    int ret;

    memset(step, 0, sizeof(*step));
    u64map_init(&step->pages);
    nf_arena_init(&step->arena, SIZE_MAX);
    ret = gather(fs, step, err);
    return ret < 0 || fs->gone ? ret : load(fs, step, err);
}

int step_run(struct ext4_fs *fs, bool commit, struct nf_error *err)
{
    struct step step = {0};
    struct links *links = NULL;
    bool grown = false;
    int ret;

    fs->index = 0;
    ret = ext4_super_step(fs, &grown, err);
    picture_stand_still(&fs->pic);
    /* What was written in place can be half of something. */
    if (commit)
        block_maps_begin(fs);
    if (ret == 0 && !fs->gone)
        ret = step_begin(fs, &step, err);
    block_maps_end(fs);
    if (fs->gone)
        goto out;
    if (ret < 0)
        goto out;
    links = links_new(fs, &step);
    if (!links) {
        ret = nf_fail(err, NF_ENOMEM, "step: out of memory");
        goto out;
    }
    ret = step_see_dirs(fs, &step, links, err);
    if (ret == 0)
        ret = step_update_owners(fs, &step, err);
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
    picture_move_on(&fs->pic);
    if (ret == 0)
        ret = picture_settle(&fs->pic, err);
    if (ret == 0) {
        fastcommit_settle(fs);
        ret = step_forget_freed(fs, &step, err);
    }
    if (ret == 0 && grown)
        ret = ext4_emit_fs(fs, NF_FS_GROWN, NULL, err);
out:
    picture_move_on(&fs->pic);
    fs->groups_before = fs->groups;
    links_free(links);
    step_release(&step);
    return ret;
}
