/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/fastcommit_private.h"

#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/dirblock.h"

/* Fast commits are a few dozen blocks; more than this is for nobody's good. What
 * would need more waits for its full commit. */
#define BYTES_MAX (64u << 20)
#define WORK_MAX (1u << 25)

#define DE_HEADER 8u

static struct fastcommit *fast_new(void)
{
    struct fastcommit *f = calloc(1, sizeof(*f));

    if (!f)
        return NULL;
    u64map_init(&f->inodes);
    u64map_init(&f->dirs);
    u64map_init(&f->names);
    f->key = siphash_process_key();
    return f;
}

static void names_clear(struct fastcommit *f)
{
    size_t pos = 0;
    void *v;

    while (u64map_next(&f->names, &pos, NULL, &v))
        free(v);
    u64map_clear(&f->names);
}

static void inode_free(struct fast_inode *i)
{
    block_map_release(&i->now.map);
    block_map_release(&i->fresh.map);
    free(i);
}

void fastcommit_free(struct fastcommit *f)
{
    size_t pos = 0;
    void *v;

    if (!f)
        return;
    while (u64map_next(&f->inodes, &pos, NULL, &v))
        inode_free(v);
    names_clear(f);
    u64map_release(&f->inodes);
    u64map_release(&f->dirs);
    u64map_release(&f->names);
    free(f->changed);
    free(f->blocks);
    free(f);
}

bool fastcommit_active(const struct ext4_fs *fs)
{
    return fs->fast;
}

void fast_worked(struct fastcommit *f, uint64_t work)
{
    f->work += work;
    f->over |= f->work > WORK_MAX;
}

const struct fast_side *fastcommit_inode(const struct ext4_fs *fs, enum view view, uint32_t ino)
{
    const struct fast_inode *i = fs->fast ? u64map_get(&fs->fast->inodes, ino) : NULL;
    const struct fast_side *side;

    if (!i)
        return NULL;
    side = view == VIEW_NEW && i->changed ? &i->fresh : &i->now;
    return side->known ? side : NULL;
}

uint32_t fastcommit_inodes_used(const struct ext4_fs *fs, uint32_t group)
{
    uint32_t used = 0;
    uint64_t ino;
    size_t pos = 0;
    void *v;

    if (!fs->fast)
        return 0;
    while (u64map_next(&fs->fast->inodes, &pos, &ino, &v)) {
        uint32_t index = (uint32_t)(ino - 1) % fs->inodes_per_group;

        if ((ino - 1) / fs->inodes_per_group == group && index >= used)
            used = index + 1;
    }
    return used;
}

uint32_t fastcommit_directory(const struct ext4_fs *fs, uint64_t block)
{
    uint64_t i = block - PICTURE_VIRTUAL;

    return fs->fast && block >= PICTURE_VIRTUAL && i < fs->fast->nblocks ? fs->fast->blocks[i].dir
                                                                         : 0;
}

uint32_t fastcommit_next_changed(const struct ext4_fs *fs, size_t *pos)
{
    return fs->fast && *pos < fs->fast->nchanged ? fs->fast->changed[(*pos)++]->ino : 0;
}

/* --- inodes --- */

static int note_changed(struct fastcommit *f, struct fast_inode *i)
{
    if (i->changed)
        return 0;
    if (f->nchanged == f->changed_room) {
        size_t room = f->changed_room ? f->changed_room * 2 : 16;
        struct fast_inode **bigger = reallocarray(f->changed, room, sizeof(*bigger));

        if (!bigger)
            return NF_ENOMEM;
        f->changed = bigger;
        f->changed_room = room;
    }
    f->changed[f->nchanged++] = i;
    i->changed = true;
    return 0;
}

struct fast_inode *fast_touch(struct ext4_fs *fs, uint32_t ino, struct nf_error *err)
{
    struct fastcommit *f = fs->fast;
    struct fast_inode *i = u64map_get(&f->inodes, ino);
    struct ext4_inode inode;
    const uint8_t *raw;
    int ret = 0;

    if (i && i->changed)
        return i;
    if (!i) {
        i = calloc(1, sizeof(*i));
        if (!i || u64map_put(&f->inodes, ino, i) < 0) {
            free(i);
            goto nomem;
        }
        i->ino = ino;
    }
    if (note_changed(f, i) < 0)
        goto nomem;
    if (i->now.known) {
        fast_worked(f, i->now.map.n);
        i->fresh = (struct fast_side){.known = true, .live = i->now.live};
        if (block_map_copy(&i->now.map, &i->fresh.map) < 0)
            goto nomem;
        return i;
    }
    /* For the first time: as it is committed. */
    i->fresh.live = ext4_inode_live(fs, VIEW_NEW, ino);
    raw = i->fresh.live ? ext4_inode_raw(fs, VIEW_NEW, ino) : NULL;
    if (raw) {
        ext4_inode_decode(&inode, raw, fs->inode_size);
        if (ext4_has_map(&inode))
            ret = block_map_read(fs, VIEW_NEW, ino, &inode, &i->fresh.map, err);
        if (ret < 0)
            return NULL;
        fast_worked(f, i->fresh.map.n);
    }
    i->fresh.known = true;
    return i;
nomem:
    nf_fail(err, NF_ENOMEM, "fast commit: out of memory");
    return NULL;
}

/* Block @block of the new side, to be changed. */
static int writable(struct ext4_fs *fs, uint64_t block, uint8_t **out, struct nf_error *err)
{
    struct staged *s = u64map_get(&fs->pic.staged, block);

    *out = NULL;
    if (!picture_made(&fs->pic, block) && !(s && s->made))
        fs->fast->bytes += fs->block_size;
    if (fs->fast->bytes > BYTES_MAX) {
        fs->fast->over = true;
        return 0;
    }
    *out = picture_stage_made(&fs->pic, block, err);
    return *out ? 0 : err ? err->code : NF_EIO;
}

int fast_raw(struct ext4_fs *fs, uint32_t ino, uint8_t **out, struct nf_error *err)
{
    uint64_t pos = (uint64_t)((ino - 1) % fs->inodes_per_group) * fs->inode_size;
    const uint8_t *desc = ext4_group_desc(fs, VIEW_NEW, (ino - 1) / fs->inodes_per_group);
    uint64_t block;
    int ret;

    *out = NULL;
    if (!desc)
        return 0;
    block = ext4_group_itable(fs, desc) + pos / fs->block_size;
    if (block >= fs->blocks) {
        ext4_oddity(fs);
        return 0;
    }
    ret = writable(fs, block, out, err);
    if (*out)
        *out += pos % fs->block_size;
    return ret;
}

/* --- maps --- */

static int insert_extent(struct block_map *m, size_t at, struct map_extent e)
{
    if (m->n == m->cap) {
        size_t cap = m->cap ? m->cap * 2 : 8;
        struct map_extent *bigger = reallocarray(m->ext, cap, sizeof(*bigger));

        if (!bigger)
            return NF_ENOMEM;
        m->ext = bigger;
        m->cap = cap;
    }
    if (at < m->n)
        memmove(m->ext + at + 1, m->ext + at, (m->n - at) * sizeof(*m->ext));
    m->ext[at] = e;
    m->n++;
    return 0;
}

static uint64_t extent_end(const struct map_extent *e)
{
    return (uint64_t)e->lblk + e->len;
}

/* Join extent @at with the one after it, if they are one. */
static void join(struct block_map *m, size_t at)
{
    struct map_extent *a = m->ext + at, *b = a + 1;

    if (at + 1 >= m->n || extent_end(a) != b->lblk || a->pblk + a->len != b->pblk ||
        a->unwritten != b->unwritten)
        return;
    a->len += b->len;
    memmove(b, b + 1, (m->n - at - 2) * sizeof(*b));
    m->n--;
}

int fast_map_set(struct fastcommit *f, struct block_map *m, uint32_t lblk, uint32_t len,
                 uint64_t pblk, bool unwritten)
{
    uint64_t end = (uint64_t)lblk + len;
    size_t lo = 0, hi = m->n, gone;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (extent_end(&m->ext[mid]) <= lblk)
            lo = mid + 1;
        else
            hi = mid;
    }
    fast_worked(f, m->n - lo + 1);
    /* Cut a hole... */
    if (lo < m->n && m->ext[lo].lblk < lblk) {
        struct map_extent e = m->ext[lo];
        uint64_t over = extent_end(&e) > end ? extent_end(&e) - end : 0;

        if (over && insert_extent(m, lo + 1,
                                  (struct map_extent){(uint32_t)end, (uint32_t)over,
                                                      e.pblk + (end - e.lblk), e.unwritten}) < 0)
            return NF_ENOMEM;
        m->ext[lo].len = lblk - e.lblk;
        m->blocks -= e.len - (lblk - e.lblk) - over;
        lo++;
    }
    for (gone = lo; gone < m->n && extent_end(&m->ext[gone]) <= end; gone++)
        m->blocks -= m->ext[gone].len;
    if (gone < m->n && m->ext[gone].lblk < end) {
        uint32_t cut = (uint32_t)(end - m->ext[gone].lblk);

        m->ext[gone].lblk += cut;
        m->ext[gone].pblk += cut;
        m->ext[gone].len -= cut;
        m->blocks -= cut;
    }
    if (gone > lo) {
        memmove(m->ext + lo, m->ext + gone, (m->n - gone) * sizeof(*m->ext));
        m->n -= gone - lo;
    }
    /* ...and fill it. */
    if (!pblk)
        return 0;
    if (insert_extent(m, lo, (struct map_extent){lblk, len, pblk, unwritten}) < 0)
        return NF_ENOMEM;
    m->blocks += len;
    join(m, lo);
    if (lo > 0)
        join(m, lo - 1);
    return 0;
}

/* --- names --- */

static uint64_t name_hash(const struct fastcommit *f, uint32_t dir, struct nf_bytes name)
{
    struct siphash_key key = f->key;

    key.k1 ^= dir;
    return siphash(key, name.data, name.len);
}

/* Is the entry at @offset of @block, on the new side, @name of @ino? */
static bool entry_is(struct ext4_fs *fs, uint64_t block, uint16_t offset, uint32_t ino,
                     struct nf_bytes name)
{
    const struct dirblock_form form = {.filetype = fs->filetype, .csum = fs->csum};
    const uint8_t *data = picture_block(&fs->pic, VIEW_NEW, block, NULL);
    struct dirblock_entry e;

    fast_worked(fs->fast, 32);
    return data && dirblock_at(data, fs->block_size, form, offset, &e) && e.ino == ino &&
           nf_bytes_equal(e.name, name);
}

/* The entry @name of @ino in @dir: of those that this step added, or by the index,
 * which is as of its old side. */
static bool find_name(struct ext4_fs *fs, uint32_t dir, uint32_t ino, struct nf_bytes name,
                      uint64_t *block, uint16_t *offset)
{
    struct fast_name *n = u64map_get(&fs->fast->names, name_hash(fs->fast, dir, name));
    struct name_ref ref;
    size_t cursor = 0;

    if (n && n->dir == dir && entry_is(fs, n->block, n->offset, ino, name)) {
        *block = n->block;
        *offset = n->offset;
        return true;
    }
    while (names_next(&fs->names, ino, &cursor, &ref)) {
        /* A file has as many names as a guest likes, elsewhere too. */
        fast_worked(fs->fast, 1);
        if (fs->fast->over)
            return false;
        if (ref.parent == dir && entry_is(fs, ref.pblk, ref.offset, ino, name)) {
            *block = ref.pblk;
            *offset = ref.offset;
            return true;
        }
    }
    return false;
}

static void put_length(uint8_t *entry, uint32_t len, uint32_t block_size)
{
    if (block_size >= 65536)
        len = len == block_size ? 0xffff : (len & 0xfffc) | len >> 16;
    nf_put_le16(entry + 4, (uint16_t)len);
}

/* *@at: the virtual block of @dir with room for @len bytes. */
static int block_with_room(struct ext4_fs *fs, uint32_t dir, uint32_t len, size_t *at)
{
    struct fastcommit *f = fs->fast;
    size_t index = (size_t)(uintptr_t)u64map_get(&f->dirs, dir);

    if (index && fs->block_size - f->blocks[index - 1].used >= len) {
        *at = index - 1;
        return 0;
    }
    if (f->nblocks == f->blocks_room) {
        size_t room = f->blocks_room ? f->blocks_room * 2 : 8;
        struct fast_block *bigger = reallocarray(f->blocks, room, sizeof(*bigger));

        if (!bigger)
            return NF_ENOMEM;
        f->blocks = bigger;
        f->blocks_room = room;
    }
    f->blocks[f->nblocks] = (struct fast_block){.dir = dir};
    if (u64map_put(&f->dirs, dir, (void *)(uintptr_t)(f->nblocks + 1)) < 0)
        return NF_ENOMEM;
    *at = f->nblocks++;
    return 0;
}

int fast_add_name(struct ext4_fs *fs, uint32_t dir, uint32_t ino, struct nf_bytes name,
                  struct nf_error *err)
{
    struct fastcommit *f = fs->fast;
    uint32_t len = (DE_HEADER + (uint32_t)name.len + 3) & ~3u;
    struct fast_name *n, *before;
    struct fast_block *b;
    uint64_t block;
    uint16_t offset;
    uint8_t *data;
    size_t at;
    int ret;

    if (find_name(fs, dir, ino, name, &block, &offset) || f->over)
        return 0;
    if (block_with_room(fs, dir, len, &at) < 0)
        return nf_fail(err, NF_ENOMEM, "fast commit: out of memory");
    b = &f->blocks[at];
    ret = writable(fs, PICTURE_VIRTUAL + at, &data, err);
    if (!data)
        return ret;
    if (b->used)
        put_length(data + b->last, b->used - b->last, fs->block_size);
    put_length(data + b->used, fs->block_size - b->used, fs->block_size);
    nf_put_le32(data + b->used, ino);
    data[b->used + 6] = (uint8_t)name.len;
    data[b->used + 7] = 0;
    memcpy(data + b->used + DE_HEADER, name.data, name.len);
    n = malloc(sizeof(*n));
    if (!n)
        return nf_fail(err, NF_ENOMEM, "fast commit: out of memory");
    *n = (struct fast_name){dir, ino, PICTURE_VIRTUAL + at, (uint16_t)b->used};
    b->last = b->used;
    b->used += len;
    before = u64map_remove(&f->names, name_hash(f, dir, name));
    free(before);
    if (u64map_put(&f->names, name_hash(f, dir, name), n) < 0) {
        free(n);
        return nf_fail(err, NF_ENOMEM, "fast commit: out of memory");
    }
    return 1;
}

int fast_remove_name(struct ext4_fs *fs, uint32_t dir, uint32_t ino, struct nf_bytes name,
                     struct nf_error *err)
{
    uint64_t block;
    uint16_t offset;
    uint8_t *data;
    int ret;

    if (!find_name(fs, dir, ino, name, &block, &offset))
        return 0;
    ret = writable(fs, block, &data, err);
    if (!data)
        return ret;
    /* Readers skip what has no inode. */
    nf_put_le32(data + offset, 0);
    return 1;
}

/* --- the step --- */

int fastcommit_stage(struct ext4_fs *fs, const struct journal_fc *fc, struct nf_error *err)
{
    int ret;

    if (!fs->fast)
        fs->fast = fast_new();
    if (!fs->fast)
        return nf_fail(err, NF_ENOMEM, "fast commit: out of memory");
    fs->fast->work = 0;
    ret = fastcommit_apply(fs, fc, err);
    return ret == 0 && fs->fast->over ? 1 : ret;
}

int fastcommit_stage_end(struct ext4_fs *fs, struct nf_error *err)
{
    struct fastcommit *f = fs->fast;
    size_t pos = 0;
    void *v;

    if (!f)
        return 0;
    f->ending = true;
    while (u64map_next(&f->inodes, &pos, NULL, &v)) {
        struct fast_inode *i = v;

        if (note_changed(f, i) < 0)
            return nf_fail(err, NF_ENOMEM, "fast commit: out of memory");
        block_map_release(&i->fresh.map);
        i->fresh = (struct fast_side){.known = false};
    }
    return picture_stage_unmade(&fs->pic, err);
}

void fastcommit_settle(struct ext4_fs *fs)
{
    struct fastcommit *f = fs->fast;

    if (!f)
        return;
    if (f->ending) {
        fastcommit_free(f);
        fs->fast = NULL;
        return;
    }
    for (size_t i = 0; i < f->nchanged; i++) {
        struct fast_inode *inode = f->changed[i];

        block_map_release(&inode->now.map);
        inode->now = inode->fresh;
        inode->fresh = (struct fast_side){.known = false};
        inode->changed = false;
    }
    f->nchanged = 0;
    names_clear(f);
}
