/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/judge_private.h"

#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/shown.h"
#include "common/bytes.h"

#define TAIL_LEN 12u /* struct ext2_dir_entry_tail: looks like an empty entry */
#define TAIL_TYPE 0xde

struct seen {
    uint64_t key;
    uint32_t ino;
};

struct seen_list {
    struct seen *list;
    size_t n;
};

static int by_seen(const void *a, const void *b)
{
    const struct seen *x = a, *y = b;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->ino > y->ino) - (x->ino < y->ino);
}

static bool has_tail(const struct ext4_fs *fs, const uint8_t *data)
{
    const uint8_t *t = data + fs->block_size - TAIL_LEN;

    return nf_le32(t) == 0 && nf_le16(t + 4) == TAIL_LEN && t[6] == 0 && t[7] == TAIL_TYPE;
}

/* Of a leaf: index nodes have their checksum elsewhere, and no entries. */
static bool checksum_good(const struct ext4_fs *fs, const struct ext4_inode *dir, uint32_t ino,
                          const uint8_t *data)
{
    uint8_t word[4];
    uint32_t crc;

    if (!ext2fs_has_feature_metadata_csum(fs->fs->super) || !has_tail(fs, data))
        return true;
    nf_put_le32(word, ino);
    crc = ext2fs_crc32c_le(fs->fs->csum_seed, word, 4);
    nf_put_le32(word, dir->generation);
    crc = ext2fs_crc32c_le(crc, word, 4);
    crc = ext2fs_crc32c_le(crc, data, fs->block_size - TAIL_LEN);
    return crc == nf_le32(data + fs->block_size - 4);
}

/* The entries of a directory block, sorted. 1: it is no good. */
static int read_block(struct judge *j, uint32_t dir, struct dirblock_form form,
                      const uint8_t *data, struct seen_list *out, struct nf_error *err)
{
    struct ext4_fs *fs = j->fs;
    struct siphash_key key = j->hash_key;
    struct dirblock it;
    struct dirblock_entry e;
    int ret;

    out->n = 0;
    if (!out->list)
        out->list = calloc(fs->block_size / 12 + 1, sizeof(*out->list));
    if (!out->list)
        return nf_fail(err, NF_ENOMEM, "step: out of memory");
    key.k1 ^= dir;
    dirblock_begin(&it, data, fs->block_size, form);
    while ((ret = dirblock_next(&it, &e)) > 0) {
        if (e.dot || e.dotdot || e.bad_name || !ext4_inode_visible(fs, e.ino))
            continue;
        out->list[out->n++] = (struct seen){siphash(key, e.name.data, e.name.len), e.ino};
    }
    if (out->n)
        qsort(out->list, out->n, sizeof(*out->list), by_seen);
    return ret < 0;
}

static int add_change(struct judge *j, const struct name_change *ch, bool added,
                      struct nf_error *err)
{
    struct candidate *c = judge_candidate(j, ch->ino);

    if (j->nchanges == j->changes_cap) {
        size_t cap = j->changes_cap ? j->changes_cap * 2 : 64;
        struct name_change *bigger = reallocarray(j->changes, cap, sizeof(*bigger));

        if (!bigger)
            c = NULL;
        else
            j->changes = bigger, j->changes_cap = cap;
    }
    if (!c)
        return nf_fail(err, NF_ENOMEM, "step: out of memory");
    j->changes[j->nchanges++] = *ch;
    c->names += added ? 1 : -1;
    c->places += added ? ch->key : -ch->key;
    return 0;
}

/* Compare a block of @si's directory, null where it is not the directory's. */
static int see_block(struct judge *j, struct step_inode *si, uint64_t block, bool was, bool is,
                     struct seen_list lists[2], struct nf_error *err)
{
    struct ext4_fs *fs = j->fs;
    struct name_change ch = {.block = block, .dir = si->ino, .gained = !was, .lost = !is};
    size_t a = 0, b = 0;
    int ret = 0;

    for (int side = 0; side < 2; side++) {
        enum view view = side ? VIEW_NEW : VIEW_OLD;
        struct dirblock_form form;
        const uint8_t *data;

        lists[side].n = 0;
        if (!(side ? is : was))
            continue;
        data = picture_block(&fs->pic, view, block, err);
        if (!data)
            return err ? err->code : NF_EIO;
        form = shown_form(fs, view, si->ino, side ? &si->new : &si->old).block;
        ret = read_block(j, si->ino, form, data, &lists[side], err);
        fs->pace.looked += lists[side].n;
        if (ret < 0)
            return ret;
        if (side && (ret == 1 || !checksum_good(fs, &si->new, si->ino, data)))
            judge_candidate(j, si->ino)->damaged = true;
    }
    ret = 0;
    while (ret == 0 && (a < lists[0].n || b < lists[1].n)) {
        int order = a == lists[0].n   ? 1
                    : b == lists[1].n ? -1
                                      : by_seen(&lists[0].list[a], &lists[1].list[b]);
        const struct seen *s = order > 0 ? &lists[1].list[b] : &lists[0].list[a];

        if (order != 0) {
            ch.key = s->key;
            ch.ino = s->ino;
            ret = add_change(j, &ch, order > 0, err);
        }
        a += order <= 0;
        b += order >= 0;
    }
    return ret;
}

/* A directory whose map changed: its blocks that are in it on one side only, or all
 * if it is not the same one. No more than *@left blocks are looked into. */
static int see_dir(struct judge *j, struct step_inode *si, uint64_t *left,
                   struct seen_list lists[2], struct nf_error *err)
{
    bool dir[2] = {si->old_live && ext4_is_dir(&si->old), si->new_live && ext4_is_dir(&si->new)};

    for (int side = 0; side < 2; side++) {
        const struct block_map *mine = side ? &si->new_map : &si->old_map;

        for (size_t i = 0; dir[side] && i < mine->n; i++) {
            const struct map_extent *e = &mine->ext[i];

            for (uint32_t k = 0; !map_extent_same(e) && k < e->len; k++) {
                int ret;

                if (si->same && step_stayed(si, e->lblk + k, e->pblk + k))
                    continue;
                if (*left == 0)
                    return 0;
                --*left;
                ret = see_block(j, si, e->pblk + k, !side, side, lists, err);
                if (ret < 0)
                    return ret;
            }
        }
    }
    return 0;
}

int judge_see_names(struct judge *j, struct nf_error *err)
{
    struct ext4_fs *fs = j->fs;
    struct seen_list lists[2] = {0};
    uint64_t left = 2 * fs->blocks;
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < j->step.n; i++) {
        if (j->step.order[i]->map_differs)
            ret = see_dir(j, j->step.order[i], &left, lists, err);
    }
    for (size_t i = 0; ret == 0 && i < j->step.nblocks; i++) {
        uint64_t block = j->step.blocks[i]->fsblock;
        struct owner_extent owner;
        struct step_inode *si;

        if (!ownermap_get(&fs->owners, block, &owner) || owner.kind != OWN_DIR)
            continue;
        si = step_inode_of(&j->step, owner.owner);
        if (si && si->same && ext4_is_dir(&si->new) && step_stayed(si, owner.logical, block))
            ret = see_block(j, si, block, true, true, lists, err);
    }
    free(lists[0].list);
    free(lists[1].list);
    return ret;
}
