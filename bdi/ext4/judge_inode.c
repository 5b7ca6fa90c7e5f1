/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/judge_private.h"

#include <stdlib.h>
#include <string.h>

#define XATTR_MAGIC 0xea020000u

/* --- blocks ------------------------------------------------------------------------- */

static void damage(struct judge *j, uint32_t ino)
{
    struct candidate *c = u64map_get(&j->candidates, ino);

    if (c)
        c->damaged = true;
}

static bool holds_node(const struct block_map *m, uint64_t block)
{
    for (size_t i = 0; i < m->nnodes; i++) {
        if (m->nodes[i].pblk == block)
            return true;
    }
    return false;
}

/* Does @owner's inode, as it is now, still have the block that it had? */
static bool still_owns(struct judge *j, const struct owner_extent *owner)
{
    const struct step_inode *si = step_inode_of(&j->step, owner->owner);
    const struct map_extent *e;

    if (!si)
        return true;
    if (!si->new_live || !si->same)
        return false;
    if (owner->kind == OWN_XATTR)
        return si->new.file_acl == owner->pblk;
    if (!si->map_differs)
        return true;
    if (holds_node(&si->new_map, owner->pblk))
        return true;
    /* What is not in the difference is as it was. */
    e = block_map_find(&si->new_map, owner->logical, NULL);
    if (owner->kind == OWN_NODE && si->same && !holds_node(&si->old_map, owner->pblk))
        return true;
    return e && (map_extent_same(e) || e->pblk + (owner->logical - e->lblk) == owner->pblk);
}

static int add_need(struct judge *j, uint32_t ino, uint32_t of, struct nf_error *err)
{
    if (j->nneeds == j->needs_cap) {
        size_t cap = j->needs_cap ? j->needs_cap * 2 : 64;
        struct block_need *bigger = reallocarray(j->needs, cap, sizeof(*bigger));

        if (!bigger)
            return nf_fail(err, NF_ENOMEM, "step: out of memory");
        j->needs = bigger;
        j->needs_cap = cap;
    }
    j->needs[j->nneeds++] = (struct block_need){ino, of};
    return 0;
}

static int claim(struct judge *j, uint32_t ino, uint64_t pblk, uint64_t len, bool shared,
                 struct nf_error *err)
{
    uint64_t pos = pblk;
    struct owner_extent owner;
    int ret = 0;

    if (!shared) {
        if (j->nclaims == j->claims_cap) {
            size_t cap = j->claims_cap ? j->claims_cap * 2 : 64;
            struct block_claim *bigger = reallocarray(j->claims, cap, sizeof(*bigger));

            if (!bigger)
                return nf_fail(err, NF_ENOMEM, "step: out of memory");
            j->claims = bigger;
            j->claims_cap = cap;
        }
        j->claims[j->nclaims++] = (struct block_claim){pblk, len, ino};
    }
    while (ret == 0 && ownermap_next(&j->fs->owners, &pos, pblk + len, &owner)) {
        if (owner.kind == OWN_NONE || (shared && owner.kind == OWN_XATTR))
            continue;
        if (owner.kind >= OWN_JOURNAL)
            damage(j, ino);
        else if (owner.owner == ino)
            continue;
        else if (still_owns(j, &owner))
            damage(j, ino);
        else
            ret = add_need(j, ino, owner.owner, err);
    }
    return ret;
}

static int by_pblk(const void *a, const void *b)
{
    const struct block_claim *x = a, *y = b;

    if (x->pblk != y->pblk)
        return x->pblk < y->pblk ? -1 : 1;
    return (x->ino > y->ino) - (x->ino < y->ino);
}

int judge_see_claims(struct judge *j, struct nf_error *err)
{
    struct block_claim *last;
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < j->step.n; i++) {
        const struct step_inode *si = j->step.order[i];

        if (!si->new_live)
            continue;
        for (size_t k = 0; si->map_differs && ret == 0 && k < si->new_map.n; k++) {
            const struct map_extent *e = &si->new_map.ext[k];

            if (!map_extent_same(e))
                ret = claim(j, si->ino, e->pblk, e->len, false, err);
        }
        for (size_t k = 0; si->map_differs && ret == 0 && k < si->new_map.nnodes; k++)
            ret = claim(j, si->ino, si->new_map.nodes[k].pblk, 1, false, err);
        if (ret == 0 && si->new.file_acl && (!si->same || si->new.file_acl != si->old.file_acl))
            ret = claim(j, si->ino, si->new.file_acl, 1, true, err);
    }
    if (ret < 0 || j->nclaims == 0)
        return ret;
    qsort(j->claims, j->nclaims, sizeof(*j->claims), by_pblk);
    last = &j->claims[0];
    for (size_t i = 1; i < j->nclaims; i++) {
        struct block_claim *c = &j->claims[i];

        if (c->pblk < last->pblk + last->len) {
            damage(j, c->ino);
            damage(j, last->ino);
        }
        if (c->pblk + c->len > last->pblk + last->len)
            last = c;
    }
    return 0;
}

/* --- one inode ---------------------------------------------------------------------- */

static size_t names_before(struct ext4_fs *fs, uint32_t ino)
{
    struct name_ref ref;
    size_t cursor = 0, n = 0;

    while (names_next(&fs->names, ino, &cursor, &ref))
        n++;
    fs->pace.looked += n;
    return n;
}

static bool time_equal(struct nf_time a, struct nf_time b)
{
    return a.sec == b.sec && a.nsec == b.nsec;
}

static bool names_fit(struct judge *j, const struct candidate *c)
{
    const struct step_inode *si = c->si;
    int64_t names;

    if (c->names == 0 && c->places == 0 && si->same && si->old.attr.links == si->new.attr.links)
        return true;
    /* Whatever makes or takes a name changes the inode: one that does not know of
     * it yet may be another file's by the time it is written. */
    if ((c->names || c->places) && si->same &&
        time_equal(si->old.attr.ctime, si->new.attr.ctime))
        return false;
    names = (int64_t)names_before(j->fs, c->ino) + c->names;
    if (!si->new_live)
        return names == 0;
    if (c->ino == EXT2_ROOT_INO)
        return true;
    if (ext4_is_dir(&si->new))
        return names == (si->new.attr.links ? 1 : 0);
    return names == (int64_t)si->new.attr.links;
}

/* What of i_blocks a map accounts for; of a difference, the part that is in it. */
static uint64_t mapped(const struct block_map *m)
{
    uint64_t n = m->nnodes;

    for (size_t i = 0; i < m->n; i++)
        n += map_extent_same(&m->ext[i]) ? 0 : m->ext[i].len;
    return n;
}

static uint64_t counted(const struct ext4_fs *fs, const struct ext4_inode *inode)
{
    uint64_t count = nf_le32(inode->raw + 0x1c);

    if (!ext2fs_has_feature_huge_file(fs->fs->super))
        return count;
    count |= (uint64_t)nf_le16(inode->raw + 0x74) << 32;
    return inode->raw_flags & EXT4_HUGE_FILE_FL ? count * (fs->block_size / 512) : count;
}

/* i_blocks counts all that the map has, if the map is as new as the inode; where only
 * the difference to @old_map is known, it must make the difference. */
static bool blocks_fit(const struct ext4_fs *fs, const struct ext4_inode *inode,
                       const struct block_map *map, const struct ext4_inode *old,
                       const struct block_map *old_map)
{
    uint64_t have = mapped(map) + (inode->file_acl != 0), was = 0, counted_was = 0;

    if (map->damaged)
        return false;
    if (ext2fs_has_feature_bigalloc(fs->fs->super) || ext2fs_has_feature_ea_inode(fs->fs->super))
        return true;
    if (old) {
        was = mapped(old_map) + (old->file_acl != 0);
        counted_was = counted(fs, old);
    }
    return counted(fs, inode) - counted_was == (have - was) * (fs->block_size / 512);
}

static bool target_fits(struct ext4_fs *fs, enum view view, const struct ext4_inode *inode,
                        const struct block_map *map)
{
    const uint8_t *block;
    uint64_t len = inode->attr.size;

    if (inode->raw_flags & EXT4_ENCRYPT_FL)
        return true;
    if (map->n && map_extent_same(&map->ext[0]))
        return true;
    if (map->n == 0 || len >= fs->block_size)
        return false;
    block = picture_block(&fs->pic, view, map->ext[0].pblk, NULL);
    return block && !memchr(block, '\0', (size_t)len) && block[len] == '\0';
}

bool judge_inode_whole(struct ext4_fs *fs, enum view view, uint32_t ino,
                       const struct ext4_inode *inode, const struct block_map *map,
                       const struct step_inode *change)
{
    const struct ext4_inode *old = change && change->same ? &change->old : NULL;
    const uint8_t *xattr;

    if (inode->attr.links == 0 && nf_le32(inode->raw + 0x14) != 0)
        return false; /* deleted, but for the bitmap */
    if (!ext2fs_inode_csum_verify(fs->fs, ino, (struct ext2_inode_large *)inode->raw))
        return false;
    if (map && ext4_has_map(inode)) {
        if (!blocks_fit(fs, inode, map, old, change ? &change->old_map : NULL))
            return false;
        if (ext4_is_symlink(inode) && !target_fits(fs, view, inode, map))
            return false;
    }
    if (inode->file_acl && (!old || old->file_acl != inode->file_acl)) {
        xattr = picture_block(&fs->pic, view, inode->file_acl, NULL);
        if (!xattr || nf_le32(xattr) != XATTR_MAGIC)
            return false;
    }
    return true;
}

bool judge_inode_fits(struct judge *j, const struct candidate *c)
{
    const struct step_inode *si = c->si;
    const uint8_t *raw;

    if (!si) /* named, or not, by a block that changed, but itself as before */
        return c->names == 0 && c->places == 0;
    if (si->new_live) {
        if (!judge_inode_whole(j->fs, VIEW_NEW, si->ino, &si->new,
                               si->map_differs ? &si->new_map : NULL, si))
            return false;
    } else {
        raw = ext4_inode_raw(j->fs, VIEW_NEW, si->ino);
        /* Live in one of table and bitmap? */
        if (!raw || ext4_inode_live(j->fs, VIEW_NEW, si->ino) ||
            (nf_le16(raw) != 0 && nf_le16(raw + 0x1a) != 0))
            return false;
    }
    return names_fit(j, c);
}
