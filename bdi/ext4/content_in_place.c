/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Content of ranges that were readable before: written over, in place or
 * through the log.
 */
#include "bdi/ext4/content_private.h"

#include "bdi/ext4/shown.h"

/* The last block of a file is written whole at each append. If its former
 * bytes are held, only what differs from them is a change. */
static void trim_unchanged(struct ext4_fs *fs, uint64_t disk, const uint8_t **data, uint64_t *len,
                           uint64_t *skipped)
{
    uint64_t pos = 0, last_diff = 0, first_diff = *len;

    while (pos < *len) {
        uint64_t lo = (disk + pos) & ~(uint64_t)(SECTOR - 1);
        uint64_t hi = (disk + *len + SECTOR - 1) & ~(uint64_t)(SECTOR - 1);
        struct held_run run;
        uint64_t n;

        held_lookup(fs->ctx.held, lo, hi - lo, &run);
        n = run.offset + run.length - (disk + pos);
        n = n < *len - pos ? n : *len - pos;
        for (uint64_t i = 0; i < n; i++) {
            bool equal = run.state == HELD_BYTES
                             ? run.data[disk + pos + i - run.offset] == (*data)[pos + i]
                             : run.state == HELD_ZERO && (*data)[pos + i] == 0;

            if (!equal) {
                first_diff = first_diff < pos + i ? first_diff : pos + i;
                last_diff = pos + i + 1;
            }
        }
        pos += n;
    }
    *skipped = first_diff;
    *data += first_diff;
    *len = last_diff > first_diff ? last_diff - first_diff : 0;
}

int content_overwrite(struct ext4_fs *fs, const struct owner_extent *owner, uint64_t offset,
                      uint64_t len, const uint8_t *data, struct nf_error *err)
{
    uint32_t bs = fs->block_size;
    uint64_t file = (uint64_t)owner->logical * bs + (offset - owner->pblk * bs);
    uint64_t disk = fs->ctx.offset + offset;
    const uint8_t *raw = ext4_inode_raw(fs, VIEW_OLD, owner->owner);
    struct ext4_inode inode;
    struct nf_event ev = {.inode = owner->owner};
    struct paths paths = {0};
    uint64_t inside, eof_block, at, left;
    const uint8_t *bytes = data;
    bool encrypted;
    int ret = 0;

    if (!raw)
        return 0;
    ext4_inode_decode(&inode, raw, fs->inode_size);
    if (!ext4_is_reg(&inode))
        return 0;
    inside = file >= inode.attr.size ? 0 : inode.attr.size - file;
    inside = inside < len ? inside : len;
    eof_block = inode.attr.size / bs * bs;
    at = file;
    left = inside;
    if (left && data && file >= eof_block) {
        uint64_t skipped;

        trim_unchanged(fs, disk, &bytes, &left, &skipped);
        at += skipped;
    } else if (left && data && file + left > eof_block) {
        uint64_t before = eof_block - file, tail = left - before, skipped;
        const uint8_t *end = data + before;

        trim_unchanged(fs, disk + before, &end, &tail, &skipped);
        left = tail ? before + skipped + tail : before;
    }
    encrypted = shown_encrypted(fs, &inode);
    if (left && encrypted) {
        uint64_t end = (at + left + CIPHER_UNIT - 1) & ~(uint64_t)(CIPHER_UNIT - 1);

        /* A byte of its ciphertext can stay the same by chance. */
        at &= ~(uint64_t)(CIPHER_UNIT - 1);
        at = at > file ? at : file;
        left = (end < file + inside ? end : file + inside) - at;
    }
    if (left) {
        bool zeros = !data || nf_is_zero(bytes, left);

        paths_add_object(fs, &paths, owner->owner);
        ev.generation = inode.generation;
        ev.paths = paths.list;
        ev.npaths = paths.n;
        ev.flags = paths_flags(&paths);
        fs->txn = 0;
        fs->index = 0;
        if (encrypted)
            ret = content_emit_write(fs, &ev, at, NULL, (size_t)left, NF_EV_ENCRYPTED, err);
        else if (zeros)
            ret = content_emit_zero(fs, &ev, at, left, err);
        while (!encrypted && !zeros && ret == 0 && left) {
            size_t n = left < CHUNK ? (size_t)left : CHUNK;

            ret = content_emit_write(fs, &ev, at, bytes, n, 0, err);
            at += n, bytes += n, left -= n;
        }
        paths_release(&paths);
    }
    if (file < eof_block) {
        uint64_t n = eof_block - file < len ? eof_block - file : len;

        held_forget(fs->ctx.held, disk, n);
    }
    /* From the file's last block on, later commits may make more readable. */
    if (file + len > eof_block) {
        uint64_t from = file >= eof_block ? 0 : eof_block - file;

        held_write(fs->ctx.held, disk + from, len - from, data ? data + from : NULL);
    }
    return ret;
}

int content_emit_journaled(struct ext4_fs *fs, struct step *step, struct nf_error *err)
{
    uint32_t bs = fs->block_size;
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < step->nblocks; i++) {
        const struct staged *s = step->blocks[i];
        const struct step_inode *si;
        struct owner_extent owner;
        struct ext4_inode inode;
        struct paths paths = {0};
        struct nf_event ev = {0};
        const uint8_t *raw;
        uint64_t file, len;

        if (!s->entry || !ownermap_get(&fs->owners, s->fsblock, &owner) ||
            owner.kind != OWN_DATA)
            continue;
        si = step_inode_of(step, owner.owner);
        if (si && si->map_differs) {
            const struct block_map *before = si->moves ? &si->moves->after : &si->old_map;
            const struct map_extent *o = block_map_find(before, owner.logical, NULL);

            /* Newly mapped: its range was published with the map. */
            if (!si->same || !o || o->unwritten ||
                (!map_extent_same(o) && o->pblk + (owner.logical - o->lblk) != s->fsblock))
                continue;
        }
        raw = ext4_inode_raw(fs, VIEW_NEW, owner.owner);
        if (!raw)
            continue;
        ext4_inode_decode(&inode, raw, fs->inode_size);
        file = (uint64_t)owner.logical * bs;
        if (!ext4_is_reg(&inode) || file >= inode.attr.size)
            continue;
        len = inode.attr.size - file < bs ? inode.attr.size - file : bs;
        ev.inode = owner.owner;
        ev.generation = inode.generation;
        paths_add_object(fs, &paths, owner.owner);
        ev.paths = paths.list;
        ev.npaths = paths.n;
        ev.flags = paths_flags(&paths);
        ret = content_hide_in_place(fs, s->fsblock, err);
        if (ret == 0)
            ret = content_emit_bytes(fs, &ev, &inode, file, s->new, len, err);
        paths_release(&paths);
    }
    return ret;
}
