/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/paths.h"

#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/dirblock.h"
#include "bdi/ext4/inline.h"
#include "bdi/ext4/links.h"

/* A guest's own limit on a path is 4096; deeper trees exist, loops do not end. */
#define MAX_DEPTH 8192
#define FAILED_MAX 64 /* names of one object that lead nowhere: then no more are tried */

void paths_clear(struct paths *p)
{
    p->n = 0;
    p->used = 0;
    p->truncated = false;
    p->more = false;
    p->encrypted = false;
}

void paths_release(struct paths *p)
{
    free(p->buf);
    memset(p, 0, sizeof(*p));
}

/* The chain of entries that @ref points into, and where in it: the whole block, or
 * a part of the directory's own inode. */
static bool ref_chain(struct ext4_fs *fs, enum view view, const struct name_ref *ref,
                      struct nf_bytes *chain, uint32_t *at)
{
    const uint8_t *block = picture_block(&fs->pic, view, ref->pblk, NULL);
    const uint8_t *raw = fs->inline_data ? ext4_inode_raw(fs, view, ref->parent) : NULL;
    struct nf_bytes part[2];

    if (!block || (fs->inline_data && !raw))
        return false;
    *chain = (struct nf_bytes){block, fs->block_size};
    *at = ref->offset;
    if (!raw || !(nf_le32(raw + 0x20) & EXT4_INLINE_DATA_FL))
        return true;
    inline_dir_chains(raw, fs->inode_size, part);
    for (int i = 0; i < 2; i++) {
        uint64_t base = (uint64_t)(part[i].data - block);

        /* The inode lies in that block, or there is no such entry. */
        if (part[i].data >= block && ref->offset >= base && ref->offset - base < part[i].len) {
            *chain = part[i];
            *at = ref->offset - (uint32_t)base;
            return true;
        }
    }
    return false;
}

bool paths_ref_name(struct ext4_fs *fs, const struct name_ref *ref, uint8_t buf[SHOWN_NAME_MAX],
                    struct nf_bytes *name)
{
    enum view view = fs->links ? VIEW_NEW : VIEW_OLD;
    struct nf_bytes chain;
    struct shown_form form;
    struct dirblock_entry e;
    uint32_t at;
    bool found;

    if (!ref_chain(fs, view, ref, &chain, &at) || !shown_form_of(fs, view, ref->parent, &form))
        return false;
    if (fs->links)
        found = dirblock_at_again(&links_cache(fs->links)->starts, chain.data,
                                  (uint32_t)chain.len, form.block, (uint16_t)at, &e);
    else
        found = dirblock_at(chain.data, (uint32_t)chain.len, form.block, (uint16_t)at, &e);
    return found && e.ino == ref->ino && shown_name(fs, &form, &e, buf, name);
}

bool paths_parent(struct ext4_fs *fs, uint64_t key, uint64_t *parent, uint8_t buf[SHOWN_NAME_MAX],
                  struct nf_bytes *name)
{
    const struct slot *first = NULL;
    struct name_ref ref;
    size_t cursor = 0;

    if (fs->links && links_next_name(fs->links, key, &first, parent, name))
        return true;
    if (key & OBJECT_NEW)
        return false;
    while (names_next(&fs->names, (uint32_t)key, &cursor, &ref)) {
        if (paths_ref_name(fs, &ref, buf, name)) {
            *parent = ref.parent;
            return true;
        }
    }
    return false;
}

bool paths_is_beneath(struct ext4_fs *fs, uint64_t dir, uint64_t top)
{
    uint8_t buf[SHOWN_NAME_MAX];
    struct nf_bytes name;

    for (int depth = 0; depth < MAX_DEPTH; depth++) {
        if (dir == top)
            return true;
        if (dir == EXT2_ROOT_INO || !paths_parent(fs, dir, &dir, buf, &name))
            return false;
    }
    return true; /* a loop: whatever asks must not go on */
}

static bool reserve(struct paths *p, size_t len)
{
    uint8_t *bigger;
    size_t want = p->cap ? p->cap : 4096;

    while (want - p->used < len)
        want *= 2;
    if (want == p->cap)
        return true;
    bigger = realloc(p->buf, want);
    if (!bigger)
        return false;
    /* Earlier paths moved with their buffer. */
    for (size_t i = 0; i < p->n; i++)
        p->list[i].data = bigger + (p->list[i].data - p->buf);
    p->buf = bigger;
    p->cap = want;
    return true;
}

/* Are the names in directory object @key, as they are now, ciphertext? */
static bool names_encrypted(struct ext4_fs *fs, uint64_t key)
{
    struct ext4_inode inode;
    const uint8_t *raw;
    bool encrypted;

    if (!fs->encrypt)
        return false;
    if (fs->links && links_encrypted(fs->links, key, &encrypted))
        return encrypted;
    raw = ext4_inode_raw(fs, VIEW_OLD, (uint32_t)key);
    if (!raw)
        return false;
    ext4_inode_decode(&inode, raw, fs->inode_size);
    return shown_encrypted(fs, &inode);
}

void paths_cache_moved(struct paths_cache *c)
{
    for (size_t i = 0; i < sizeof(c->dirs) / sizeof(c->dirs[0]); i++)
        c->dirs[i].dir = 0;
}

void paths_cache_release(struct paths_cache *c)
{
    for (size_t i = 0; i < sizeof(c->dirs) / sizeof(c->dirs[0]); i++)
        free(c->dirs[i].path);
}

static struct paths_cached *cached(struct ext4_fs *fs, uint64_t dir)
{
    struct paths_cache *c = fs->links ? links_cache(fs->links) : NULL;

    return c ? &c->dirs[dir % (sizeof(c->dirs) / sizeof(c->dirs[0]))] : NULL;
}

/* Only where the long way would come to the same: not beyond any limit. */
static bool add_cached(struct ext4_fs *fs, struct paths *p, uint64_t dir, struct nf_bytes name)
{
    const struct paths_cached *c = cached(fs, dir);
    size_t len = c ? c->len + 1 + name.len : 0;
    uint8_t *to;

    if (!c || c->dir != dir || len > EXT4_PATH_MAX || !reserve(p, len))
        return false;
    to = p->buf + p->used;
    if (c->len)
        memcpy(to, c->path, c->len);
    to[c->len] = '/';
    memcpy(to + c->len + 1, name.data, name.len);
    p->encrypted |= c->encrypted;
    p->list[p->n++] = (struct nf_bytes){to, len};
    p->used += len;
    return true;
}

/* @path is that of directory @dir; "" for the root. */
static void remember(struct ext4_fs *fs, uint64_t dir, struct nf_bytes path, bool encrypted)
{
    struct paths_cached *c = cached(fs, dir);

    if (!c)
        return;
    c->dir = 0;
    if (path.len > c->cap) {
        uint8_t *bigger = realloc(c->path, path.len);

        if (!bigger)
            return;
        c->path = bigger;
        c->cap = path.len;
    }
    if (path.len)
        memcpy(c->path, path.data, path.len);
    c->len = path.len;
    c->encrypted = encrypted;
    c->dir = dir;
}

bool paths_add_entry(struct ext4_fs *fs, struct paths *p, uint64_t dir, struct nf_bytes name)
{
    uint8_t buf[SHOWN_NAME_MAX];
    struct nf_bytes part = name;
    uint64_t at = dir;
    size_t len = 0;
    bool encrypted = false;
    uint8_t *end;

    if (p->n == EXT4_MAX_PATHS) {
        p->more = true;
        return false;
    }
    if (add_cached(fs, p, dir, name))
        return true;
    /* Once up for the length, once more to write it from the end. */
    for (int depth = 0;; depth++) {
        len += part.len + 1;
        if (at == EXT2_ROOT_INO)
            break;
        if (depth == MAX_DEPTH || len > EXT4_PATH_MAX) {
            p->truncated = true;
            return false;
        }
        if (!paths_parent(fs, at, &at, buf, &part))
            return false;
    }
    if (!reserve(p, len)) {
        p->truncated = true;
        return false;
    }
    end = p->buf + p->used + len;
    part = name;
    at = dir;
    for (;;) {
        end -= part.len;
        memcpy(end, part.data, part.len);
        *--end = '/';
        encrypted = encrypted || names_encrypted(fs, at);
        if (at == EXT2_ROOT_INO || !paths_parent(fs, at, &at, buf, &part))
            break;
    }
    remember(fs, dir, (struct nf_bytes){p->buf + p->used, len - name.len - 1}, encrypted);
    p->encrypted |= encrypted;
    p->list[p->n++] = (struct nf_bytes){p->buf + p->used, len};
    p->used += len;
    return true;
}

static int by_path(const void *a, const void *b)
{
    const struct nf_bytes *x = a, *y = b;
    size_t n = x->len < y->len ? x->len : y->len;
    int order = n ? memcmp(x->data, y->data, n) : 0;

    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static bool contains(const struct paths *p, size_t upto, struct nf_bytes path)
{
    for (size_t i = 0; i < upto; i++) {
        if (nf_bytes_equal(p->list[i], path))
            return true;
    }
    return false;
}

static bool ref_before(const struct name_ref *a, const struct name_ref *b)
{
    if (a->parent != b->parent)
        return a->parent < b->parent;
    if (a->pblk != b->pblk)
        return a->pblk < b->pblk;
    return a->offset < b->offset;
}

/* The same few of many names every time, whatever the index's order. */
static size_t first_refs(struct ext4_fs *fs, uint32_t ino, struct name_ref *out, size_t max,
                         bool *more)
{
    struct name_ref ref;
    size_t n = 0, cursor = 0;

    while (names_next(&fs->names, ino, &cursor, &ref)) {
        size_t i = n;

        if (n == max) {
            *more = true;
            if (!ref_before(&ref, &out[n - 1]))
                continue;
            i = n - 1;
        } else {
            n++;
        }
        for (; i > 0 && ref_before(&ref, &out[i - 1]); i--)
            out[i] = out[i - 1];
        out[i] = ref;
    }
    return n;
}

static int by_ref(const void *a, const void *b)
{
    return ref_before(a, b) ? -1 : ref_before(b, a);
}

int paths_all_refs(struct ext4_fs *fs, uint32_t ino, struct name_ref **refs, size_t *n)
{
    struct name_ref ref;
    size_t cursor = 0, cap = 0;

    *refs = NULL;
    *n = 0;
    while (names_next(&fs->names, ino, &cursor, &ref)) {
        if (*n == cap) {
            struct name_ref *bigger;

            cap = cap ? cap * 2 : 64;
            bigger = reallocarray(*refs, cap, sizeof(*bigger));
            if (!bigger) {
                free(*refs);
                *refs = NULL;
                return NF_ENOMEM;
            }
            *refs = bigger;
        }
        (*refs)[(*n)++] = ref;
    }
    if (*n)
        qsort(*refs, *n, sizeof(**refs), by_ref);
    return 0;
}

void paths_add_object(struct ext4_fs *fs, struct paths *p, uint64_t key)
{
    struct name_ref refs[EXT4_MAX_PATHS];
    size_t first = p->n, kept;
    const struct slot *at = NULL;
    int failed = 0;
    uint8_t buf[SHOWN_NAME_MAX];
    uint64_t dir;
    struct nf_bytes name;

    if ((key & ~OBJECT_NEW) == EXT2_ROOT_INO) {
        if (p->n < EXT4_MAX_PATHS && reserve(p, 1)) {
            p->buf[p->used] = '/';
            p->list[p->n++] = (struct nf_bytes){p->buf + p->used, 1};
            p->used++;
        }
        return;
    }
    /* Not all of 65000 names each time one of them goes: a full list is full. */
    while (!p->more && fs->links && links_next_name(fs->links, key, &at, &dir, &name)) {
        if (!paths_add_entry(fs, p, dir, name) && ++failed == FAILED_MAX)
            p->more = true;
    }
    if (!p->more && !(key & OBJECT_NEW)) {
        size_t n = first_refs(fs, (uint32_t)key, refs, EXT4_MAX_PATHS, &p->more);

        for (size_t i = 0; i < n; i++) {
            if (paths_ref_name(fs, &refs[i], buf, &name))
                paths_add_entry(fs, p, refs[i].parent, name);
        }
    }
    if (p->n - first > 1)
        qsort(p->list + first, p->n - first, sizeof(p->list[0]), by_path);
    /* What was there before the call is not said twice. */
    kept = first;
    for (size_t i = first; i < p->n; i++) {
        if (!contains(p, first, p->list[i]))
            p->list[kept++] = p->list[i];
    }
    p->n = kept;
}
