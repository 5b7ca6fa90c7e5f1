/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/content_private.h"

#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/inline.h"
#include "bdi/ext4/shown.h"
#include "bdi/ext4/unsettled.h"


/* Bytes of one file being published: adjacent runs become one event. */
struct publish {
    struct ext4_fs *fs;
    const struct nf_event *proto;
    uint8_t *buf; /* CHUNK bytes */
    size_t len;
    uint64_t start;  /* file offset of buf[0] */
    uint32_t flags;  /* of the bytes in buf */
    uint32_t extra;  /* added to every event's flags */
    uint64_t end;    /* highest file offset written */
    bool encrypted;  /* bytes are ciphertext: only where they changed is said */
    const struct ext4_inode *inode;
    bool waits;      /* some of it cannot be published yet */
    bool announce;   /* say so */
    struct nf_error *err;
};

int content_emit_write(struct ext4_fs *fs, const struct nf_event *proto, uint64_t offset,
                      const uint8_t *data, size_t len, uint32_t flags, struct nf_error *err)
{
    uint64_t limit = fs->ctx.emitter->opt.content_limit;
    struct nf_event ev = *proto;

    ev.kind = NF_WRITE;
    ev.flags |= flags;
    ev.write.offset = offset;
    ev.write.length = len;
    ev.write.plain_length = data ? (len < limit ? len : limit) : 0;
    ev.write.data = (struct nf_bytes){data, (size_t)ev.write.plain_length};
    if (data && ev.write.plain_length < len)
        ev.flags |= NF_EV_TRUNCATED;
    if (ev.write.plain_length == 0)
        ev.write.data.data = NULL;
    return ext4_emit(fs, &ev, err);
}

int content_emit_bytes(struct ext4_fs *fs, const struct nf_event *proto,
                       const struct ext4_inode *inode, uint64_t offset, const uint8_t *data,
                       size_t len, struct nf_error *err)
{
    bool encrypted = shown_encrypted(fs, inode);

    return content_emit_write(fs, proto, offset, encrypted ? NULL : data, len,
                              encrypted ? NF_EV_ENCRYPTED : 0, err);
}

int content_emit_zero(struct ext4_fs *fs, const struct nf_event *proto, uint64_t offset,
                     uint64_t len, struct nf_error *err)
{
    struct nf_event ev = *proto;

    ev.kind = NF_ZERO;
    ev.range.offset = offset;
    ev.range.length = len;
    ev.range.to = 0;
    return ext4_emit(fs, &ev, err);
}

/* One buffer for the life of the file system: allocating it anew for each
 * file would cost more than most files. */
static int publish_buffer(struct publish *p)
{
    if (!p->fs->content_buf)
        p->fs->content_buf = malloc(CHUNK);
    p->buf = p->fs->content_buf;
    return p->buf ? 0 : nf_fail(p->err, NF_ENOMEM, "content: out of memory");
}

static int flush(struct publish *p)
{
    int ret;

    if (!p->len)
        return 0;
    ret = content_emit_write(p->fs, p->proto, p->start, p->buf, p->len, p->flags | p->extra, p->err);
    p->end = p->start + p->len > p->end ? p->start + p->len : p->end;
    p->len = 0;
    return ret;
}

static int add_bytes(struct publish *p, uint64_t offset, const uint8_t *data, size_t len,
                     uint32_t flags)
{
    while (len) {
        size_t n;
        int ret = 0;

        if (p->len && (p->len == CHUNK || p->start + p->len != offset || p->flags != flags))
            ret = flush(p);
        if (ret < 0)
            return ret;
        if (!p->len) {
            p->start = offset;
            p->flags = flags;
        }
        n = CHUNK - p->len < len ? CHUNK - p->len : len;
        memcpy(p->buf + p->len, data, n);
        p->len += n;
        offset += n;
        data += n;
        len -= n;
    }
    return 0;
}

/* Say that a range changed, without its bytes. */
static int add_opaque(struct publish *p, uint64_t offset, uint64_t len, uint32_t flags)
{
    int ret = flush(p);

    if (ret == 0)
        ret = content_emit_write(p->fs, p->proto, offset, NULL, (size_t)len, p->extra | flags, p->err);
    p->end = offset + len > p->end ? offset + len : p->end;
    return ret;
}

/* These bytes cannot be told yet. @anew: from now on. */
static int wait_for(struct publish *p, uint64_t offset, uint64_t disk, uint64_t len, bool anew)
{
    struct ext4_fs *fs = p->fs;
    uint64_t first = (disk - fs->ctx.offset) / fs->block_size;
    uint64_t end = (disk + len - fs->ctx.offset + fs->block_size - 1) / fs->block_size;
    int ret = flush(p);

    if (ret == 0 && anew)
        ret = unsettled_wrote(fs, first, end - first, p->err);
    if (ret == 0)
        ret = unsettled_add_file(fs, p->proto->inode, p->err);
    if (ret == 0 && p->announce) {
        ret = content_emit_write(fs, p->proto, offset, NULL, (size_t)len, NF_EV_UNSETTLED, p->err);
        p->end = offset + len > p->end ? offset + len : p->end;
    }
    p->waits = true;
    return ret;
}

static int add_readback(struct publish *p, uint64_t offset, uint64_t disk, uint64_t len)
{
    struct ext4_fs *fs = p->fs;
    struct nf_image *img = fs->ctx.img;

    if (fs->quiet)
        return flush(p);
    /* Nobody wants the bytes: read nothing. */
    if (fs->ctx.emitter->opt.content_limit == 0)
        return add_opaque(p, offset, len, 0);
    while (len) {
        uint32_t flags = NF_EV_READBACK;
        size_t n = len < CHUNK ? (size_t)len : CHUNK;
        int ret = flush(p);

        if (ret < 0)
            return ret;
        ret = img->read(img, disk, p->buf, n, p->err);
        if (ret < 0)
            return ret;
        fs->ctx.emitter->status.readbacks++;
        if (ret > 0 && unsettled_mode(fs) && !fs->unsettled->publishing_all) {
            /* Newer bytes than these may be another file's. */
            ret = wait_for(p, offset, disk, n, true);
            if (ret < 0)
                return ret;
            offset += n;
            disk += n;
            len -= n;
            continue;
        }
        if (ret > 0)
            flags |= NF_EV_UNSETTLED;
        p->start = offset;
        p->len = n;
        p->flags = flags;
        offset += n;
        disk += n;
        len -= n;
    }
    return 0;
}

static bool journaled(const struct ext4_fs *fs, uint64_t block)
{
    const struct staged *s = u64map_get(&fs->pic.staged, block);

    return s ? !s->unread : picture_overlay(&fs->pic, block) != NULL;
}

int content_hide_in_place(struct ext4_fs *fs, uint64_t block, struct nf_error *err)
{
    const struct staged *s = u64map_get(&fs->pic.staged, block);
    uint64_t pos = fs->ctx.offset + block * fs->block_size, end = pos + fs->block_size;
    uint64_t begin = pos;
    struct held_run run;
    int ret = 0;

    if (s && s->revoked)
        return 0;
    while (ret == 0 && pos < end) {
        held_lookup(fs->ctx.held, pos, end - pos, &run);
        if (run.state != HELD_UNKNOWN)
            ret = picture_write_home(&fs->pic, block, (uint32_t)(pos - begin),
                                     (uint32_t)run.length,
                                     run.state == HELD_BYTES ? run.data : NULL, err);
        pos = run.offset + run.length;
    }
    held_forget(fs->ctx.held, begin, end - begin);
    return ret;
}

/* @n bytes from @in of @block on, cut where a journaled block begins. */
static uint64_t before_journaled(const struct ext4_fs *fs, uint64_t block, uint64_t in, uint64_t n)
{
    uint64_t bs = fs->block_size;

    if (!fs->pic.overlay.used && !fs->pic.staged.used)
        return n;
    for (uint64_t got = bs - in; got < n; got += bs) {
        if (journaled(fs, ++block))
            return got;
    }
    return n;
}

/* Publish file range [offset, +len), which is at [disk, +len) of the disk.
 * @was_zero: readers saw zeros there before, so zeros are no change. */
static int add_range(struct publish *p, uint64_t offset, uint64_t disk, uint64_t len,
                     bool was_zero)
{
    struct ext4_fs *fs = p->fs;
    int ret = 0;

    while (ret == 0 && len) {
        uint64_t rel = disk - fs->ctx.offset;
        uint64_t block = rel / fs->block_size;
        uint64_t in = rel % fs->block_size;
        uint64_t lo = disk & ~(uint64_t)(SECTOR - 1);
        uint64_t hi = (disk + len + SECTOR - 1) & ~(uint64_t)(SECTOR - 1);
        struct held_run run;
        struct owner_extent own;
        uint64_t n;

        /* Blocks that another inode, or another part of this one, claims as
         * well are nobody's to publish; nor could a guest make much of little. */
        if (!ownermap_get(&fs->owners, block, &own) || own.owner != p->proto->inode ||
            own.kind != OWN_DATA || own.logical != offset / fs->block_size) {
            ext4_oddity(fs);
            n = own.len * fs->block_size - in;
            n = n < len ? n : len;
            offset += n, disk += n, len -= n;
            continue;
        }
        n = own.len * fs->block_size - in;
        n = n < len ? n : len;
        hi = (disk + n + SECTOR - 1) & ~(uint64_t)(SECTOR - 1);

        if (p->encrypted) {
            ret = add_opaque(p, offset, n, NF_EV_ENCRYPTED);
            offset += n, disk += n, len -= n;
            continue;
        }
        /* File data that went through the log is there, not in place. */
        if (journaled(fs, block)) {
            const uint8_t *copy = picture_block(&fs->pic, VIEW_NEW, block, p->err);

            if (!copy)
                return p->err ? p->err->code : NF_EIO;
            n = fs->block_size - in < n ? fs->block_size - in : n;
            ret = content_hide_in_place(fs, block, p->err);
            if (ret == 0)
                ret = add_bytes(p, offset, copy + in, n, 0);
            offset += n, disk += n, len -= n;
            continue;
        }
        held_lookup(fs->ctx.held, lo, hi - lo, &run);
        n = run.offset + run.length - disk < n ? run.offset + run.length - disk : n;
        n = before_journaled(fs, block, in, n);
        switch (run.state) {
        case HELD_BYTES:
            ret = add_bytes(p, offset, run.data + (disk - run.offset), n, 0);
            break;
        case HELD_ZERO:
            if (!was_zero) {
                ret = flush(p);
                if (ret == 0)
                    ret = content_emit_zero(fs, p->proto, offset, n, p->err);
            }
            break;
        case HELD_UNKNOWN:
            ret = add_readback(p, offset, disk, n);
            break;
        }
        offset += n, disk += n, len -= n;
    }
    return ret;
}

/* As add_range(), but for what cannot be told yet. */
static int add_settled(struct publish *p, uint64_t offset, uint64_t disk, uint64_t len,
                       bool was_zero)
{
    struct ext4_fs *fs = p->fs;
    uint64_t bs = fs->block_size, eof_block = p->inode->attr.size / bs;
    int ret = 0;

    if (!unsettled_mode(fs))
        return add_range(p, offset, disk, len, was_zero);
    while (ret == 0 && len) {
        uint64_t block = (disk - fs->ctx.offset) / bs, in = (disk - fs->ctx.offset) % bs;
        uint64_t blocks = (in + len + bs - 1) / bs, n;
        enum unsettled_state state = UNSETTLED_NOT;
        struct owner_extent own;
        bool mine = ownermap_get(&fs->owners, block, &own) && own.owner == p->proto->inode;

        blocks = own.len < blocks ? own.len : blocks;
        if (mine)
            state = unsettled_state(fs, p->proto->inode, p->inode, block, &blocks);
        n = blocks * bs - in < len ? blocks * bs - in : len;
        if (state != UNSETTLED_NOT) {
            ret = wait_for(p, offset, disk, n, state == UNSETTLED_NEVER);
        } else {
            bool waited = p->waits;

            p->waits = false;
            ret = add_range(p, offset, disk, n, was_zero);
            if (ret == 0 && mine && !p->waits) {
                uint64_t lblk = offset / bs;
                uint64_t keep = lblk + blocks > eof_block ? lblk + blocks - eof_block : 0;

                ret = unsettled_forget(fs, block, blocks, p->err);
                if (keep < blocks)
                    held_forget(fs->ctx.held, fs->ctx.offset + block * bs, (blocks - keep) * bs);
            }
            p->waits |= waited;
        }
        offset += n, disk += n, len -= n;
    }
    return ret;
}

/* Published bytes are not kept, but for the file's last block: the next append
 * writes it again, and more of it may become readable. */
static void forget_published(struct ext4_fs *fs, uint64_t offset, uint64_t disk, uint64_t end,
                             uint64_t size)
{
    uint64_t eof_block = size / fs->block_size * fs->block_size;

    /* What is not published yet must stay. */
    if (unsettled_mode(fs))
        return;
    offset = offset / fs->block_size * fs->block_size;
    disk = fs->ctx.offset + (disk - fs->ctx.offset) / fs->block_size * fs->block_size;
    end = end < eof_block ? end : eof_block;
    if (offset < end)
        held_forget(fs->ctx.held, disk, end - offset);
}

static uint64_t run_end(const struct map_extent *e, uint32_t hole_end)
{
    return e ? (uint64_t)e->lblk + e->len : hole_end;
}

/* A file that ended within a block and goes on behind it: where the zeros that
 * filled that block end. They are what a reader sees when the size grows. */
static uint64_t past_zeros(const struct ext4_fs *fs, uint64_t offset, uint64_t disk)
{
    uint64_t end = (offset / fs->block_size + 1) * fs->block_size;

    while (offset < end) {
        uint64_t lo = disk & ~(uint64_t)(SECTOR - 1);
        struct held_run run;
        uint64_t n;

        held_lookup(fs->ctx.held, lo, (disk - lo) + (end - offset), &run);
        n = run.offset + run.length - disk;
        n = n < end - offset ? n : end - offset;
        if (run.state == HELD_UNKNOWN ||
            (run.state == HELD_BYTES && !nf_is_zero(run.data + (disk - run.offset), n)))
            break;
        offset += n, disk += n;
    }
    return offset;
}

static int changed_ranges(struct publish *p, const struct step_inode *si,
                          const struct block_map *old_map, uint64_t old_size)
{
    struct ext4_fs *fs = p->fs;
    uint32_t bs = fs->block_size;
    uint64_t size = si->new.attr.size;
    uint64_t blocks = size / bs + (size % bs != 0);
    bool moved_only = si->same && si->old.attr.size == size &&
                      si->old.version == si->new.version &&
                      !(ext4_attr_diff(&si->old.attr, &si->new.attr) & NF_ATTR_MTIME);
    int ret = 0;

    for (uint64_t pos = 0; ret == 0 && pos < blocks && pos < UINT32_MAX;) {
        uint32_t new_hole = UINT32_MAX, old_hole = UINT32_MAX;
        const struct map_extent *n = block_map_find(&si->new_map, (uint32_t)pos, &new_hole);
        const struct map_extent *o =
            old_map ? block_map_find(old_map, (uint32_t)pos, &old_hole) : NULL;
        uint64_t next = run_end(n, new_hole);
        uint64_t a = pos * bs, b, disk = 0;
        bool new_data = n && !n->unwritten, old_data = o && !o->unwritten;

        next = run_end(o, old_hole) < next ? run_end(o, old_hole) : next;
        next = next < blocks ? next : blocks;
        b = next * bs < size ? next * bs : size;
        if ((n && map_extent_same(n)) || (o && map_extent_same(o))) {
            pos = next;
            continue;
        }
        if (new_data)
            disk = fs->ctx.offset + (n->pblk + (pos - n->lblk)) * bs;
        if (new_data && old_data && n->pblk + (pos - n->lblk) == o->pblk + (pos - o->lblk)) {
            uint64_t from = old_size > a ? old_size : a;

            /* What waits is known by whole blocks. */
            if (unsettled_mode(fs))
                from -= from % bs;
            else if (from == old_size && from % bs && from / bs < size / bs)
                from = past_zeros(fs, from, disk + (from - a));
            if (from < b)
                ret = add_settled(p, from, disk + (from - a), b - from, true);
            if (from < b)
                forget_published(fs, from, disk + (from - a), b, size);
        } else if (new_data) {
            p->extra = old_data && moved_only ? NF_EV_RELOCATED : 0;
            ret = add_settled(p, a, disk, b - a, !old_data || a >= old_size);
            forget_published(fs, a, disk, b, size);
            if (ret == 0 && p->extra)
                ret = flush(p);
            p->extra = 0;
        } else if (old_data && a < old_size) {
            ret = flush(p);
            if (ret == 0)
                ret = content_emit_zero(fs, p->proto, a, (b < old_size ? b : old_size) - a, p->err);
        }
        pos = next;
    }
    return ret ? ret : flush(p);
}

int content_emit_truncate(struct ext4_fs *fs, const struct nf_event *proto, uint64_t before,
                         uint64_t after, struct nf_error *err)
{
    struct nf_event ev = *proto;

    ev.kind = NF_TRUNCATE;
    ev.truncate.size_before = before;
    ev.truncate.size_after = after;
    return ext4_emit(fs, &ev, err);
}

static int emit_move(struct ext4_fs *fs, const struct nf_event *proto, uint64_t from, uint64_t to,
                     uint64_t len, struct nf_error *err)
{
    struct nf_event ev = *proto;

    ev.kind = NF_MOVE_RANGE;
    ev.range.offset = from;
    ev.range.length = len;
    ev.range.to = to;
    return ext4_emit(fs, &ev, err);
}

/* Say what moved within the file. *@size: the file's, before and after. */
static int emit_moves(struct ext4_fs *fs, const struct moves *moves, const struct nf_event *ev,
                      uint64_t *size, struct nf_error *err)
{
    uint64_t bs = fs->block_size, need = *size, end = 0;
    bool end_moved = false;
    int ret = 0;

    /* The end of the file moves with its last block. */
    for (size_t i = 0; i < moves->n; i++) {
        const struct move *m = &moves->list[i];
        uint64_t from_end = ((uint64_t)m->from + m->len) * bs;
        uint64_t to_end = ((uint64_t)m->to + m->len) * bs;

        if (m->from * bs >= *size)
            continue;
        if (from_end >= *size) {
            to_end -= from_end - *size;
            end = to_end;
            end_moved = true;
        }
        need = to_end > need ? to_end : need;
    }
    /* Only within the file can anything be moved. */
    if (need > *size)
        ret = content_emit_truncate(fs, ev, *size, need, err);
    for (size_t i = 0; ret == 0 && i < moves->n; i++) {
        const struct move *m = &moves->list[i];
        uint64_t from = m->from * bs, len = m->len * bs;

        if (from < *size)
            ret = emit_move(fs, ev, from, m->to * bs, len < *size - from ? len : *size - from,
                            err);
    }
    if (ret == 0 && end_moved && end < need)
        ret = content_emit_truncate(fs, ev, need, end, err);
    *size = end_moved ? end : need;
    return ret;
}

int content_emit_step(struct ext4_fs *fs, struct step_inode *si, const struct nf_event *ev,
                      struct nf_error *err)
{
    uint64_t old_size = si->same ? si->old.attr.size : 0;
    uint64_t new_size = si->new.attr.size;
    const struct block_map *old_map = si->same ? &si->old_map : NULL;
    struct publish p = {.fs = fs, .proto = ev, .err = err, .inode = &si->new, .announce = true,
                        .encrypted = shown_encrypted(fs, &si->new)};
    struct map_extent first = {.len = 1};
    struct block_map was_inline = {.ext = &first, .n = 1};
    int ret;

    if (ext4_is_inline(&si->new))
        return content_emit_inline(fs, si, ev, err);
    if (si->same && !si->maps_read && new_size == old_size)
        return 0;
    ret = publish_buffer(&p);
    /* Elsewhere in the file the same ciphertext means something else. */
    if (ret == 0 && old_map && si->map_differs && !p.encrypted) {
        struct moves found;

        ret = moves_find(old_map, &si->new_map, &found);
        if (ret == 0 && found.n) {
            si->moves = malloc(sizeof(*si->moves));
            ret = si->moves ? 0 : NF_ENOMEM;
        }
        if (si->moves)
            *si->moves = found;
        else
            moves_release(&found);
        if (ret < 0)
            return nf_fail(err, ret, "content: out of memory");
    }
    if (ret == 0 && si->moves) {
        ret = emit_moves(fs, si->moves, ev, &old_size, err);
        old_map = &si->moves->after;
    }
    /* What stood in the inode stands in no block yet, or in a new one. */
    if (old_map && ext4_is_inline(&si->old))
        old_map = &was_inline;
    if (ret == 0 && new_size < old_size)
        ret = content_emit_truncate(fs, ev, old_size, new_size, err);
    if (ret == 0 && si->maps_read)
        ret = changed_ranges(&p, si, old_map, old_size < new_size ? old_size : new_size);
    /* Growth is said only where the bytes written do not say it already. */
    if (ret == 0 && si->same && new_size > old_size && p.end < new_size)
        ret = content_emit_truncate(fs, ev, p.end > old_size ? p.end : old_size, new_size, err);
    return ret;
}

int content_emit_all(struct ext4_fs *fs, const struct ext4_inode *inode,
                     const struct block_map *map, const struct nf_event *ev, struct nf_error *err)
{
    struct publish p = {.fs = fs, .proto = ev, .err = err, .inode = inode,
                        .encrypted = shown_encrypted(fs, inode)};
    uint64_t size = inode->attr.size;
    int ret;

    if (ext4_is_inline(inode)) {
        uint32_t len = inline_data_copy(inode, fs->inode_size, fs->inline_buf);

        return len ? content_emit_bytes(fs, ev, inode, 0, fs->inline_buf, len, err) : 0;
    }
    ret = publish_buffer(&p);
    if (ret < 0)
        return ret;
    for (size_t i = 0; ret == 0 && i < map->n; i++) {
        const struct map_extent *e = &map->ext[i];
        uint64_t a = (uint64_t)e->lblk * fs->block_size;
        uint64_t len = (uint64_t)e->len * fs->block_size;

        if (e->unwritten || a >= size)
            continue;
        ret = add_range(&p, a, fs->ctx.offset + e->pblk * fs->block_size,
                        len < size - a ? len : size - a, true);
    }
    if (ret == 0)
        ret = flush(&p);
    return ret;
}

int content_emit_settled(struct ext4_fs *fs, const struct ext4_inode *inode,
                         const struct block_map *map, const struct nf_event *ev,
                         struct nf_error *err)
{
    struct publish p = {.fs = fs, .proto = ev, .err = err, .inode = inode,
                        .encrypted = shown_encrypted(fs, inode)};
    uint64_t size = inode->attr.size, bs = fs->block_size;
    int ret = publish_buffer(&p);

    for (size_t i = 0; ret == 0 && i < map->n; i++) {
        const struct map_extent *e = &map->ext[i];
        uint64_t pos = e->pblk, end = e->pblk + e->len;
        struct owner_extent w;

        while (ret == 0 && !e->unwritten && ownermap_next(&fs->unsettled->written, &pos, end, &w)) {
            uint64_t at = (e->lblk + (w.pblk - e->pblk)) * bs;

            if (w.kind == OWN_NONE || at >= size)
                continue;
            ret = add_settled(&p, at, fs->ctx.offset + w.pblk * bs,
                              w.len * bs < size - at ? w.len * bs : size - at, false);
        }
    }
    if (ret == 0)
        ret = flush(&p);
    return ret < 0 ? ret : p.waits;
}
