/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/links_private.h"

#include <stdlib.h>
#include <string.h>

struct links *links_new(struct ext4_fs *fs, struct step *step)
{
    struct links *l = calloc(1, sizeof(*l));

    if (!l)
        return NULL;
    l->fs = fs;
    l->step = step;
    l->hash_key = siphash_process_key();
    u64map_init(&l->nodes);
    nf_arena_init(&l->arena, SIZE_MAX);
    return l;
}

void links_free(struct links *l)
{
    if (!l)
        return;
    u64map_release(&l->nodes);
    nf_arena_release(&l->arena);
    free(l->slots);
    free(l->buckets);
    free(l->ops);
    free(l->stack);
    paths_release(&l->paths);
    paths_cache_release(&l->cache);
    free(l);
}

static uint64_t hash(const struct links *l, uint64_t dir, struct nf_bytes name)
{
    struct siphash_key key = l->hash_key;

    key.k1 ^= dir;
    return siphash(key, name.data, name.len);
}

static int rehash(struct links *l)
{
    size_t n = l->nbuckets ? l->nbuckets * 4 : 64;
    struct slot **buckets = calloc(n, sizeof(*buckets));

    if (!buckets)
        return NF_ENOMEM;
    free(l->buckets);
    l->buckets = buckets;
    l->nbuckets = n;
    for (size_t i = 0; i < l->nslots; i++) {
        struct slot *s = l->slots[i];
        size_t b = (size_t)s->hash & (n - 1);

        s->next = buckets[b];
        buckets[b] = s;
    }
    return 0;
}

static struct slot *slot_find(struct links *l, uint64_t dir, struct nf_bytes name, uint64_t h)
{
    struct slot *s = l->nbuckets ? l->buckets[h & (l->nbuckets - 1)] : NULL;

    while (s && (s->hash != h || s->dir != dir || !nf_bytes_equal(s->name, name)))
        s = s->next;
    return s;
}

bool links_knows(struct links *l, uint64_t dir, struct nf_bytes name)
{
    return slot_find(l, dir, name, hash(l, dir, name)) != NULL;
}

struct slot *links_slot(struct links *l, uint64_t dir, struct nf_bytes name, bool copy)
{
    uint64_t h = hash(l, dir, name);
    struct slot *s = slot_find(l, dir, name, h);
    size_t b;

    if (s)
        return s;
    if (l->nslots >= l->nbuckets && rehash(l) < 0)
        return NULL;
    if (l->nslots == l->slots_cap) {
        size_t cap = l->slots_cap ? l->slots_cap * 2 : 32;
        struct slot **bigger = reallocarray(l->slots, cap, sizeof(*bigger));

        if (!bigger)
            return NULL;
        l->slots = bigger;
        l->slots_cap = cap;
    }
    s = nf_arena_alloc(&l->arena, sizeof(*s) + (copy ? name.len : 0));
    if (!s)
        return NULL;
    memset(s, 0, sizeof(*s));
    s->dir = dir;
    s->name = name;
    s->hash = h;
    if (copy) {
        memcpy(s->copy, name.data, name.len);
        s->name.data = s->copy;
    }
    b = (size_t)h & (l->nbuckets - 1);
    s->next = l->buckets[b];
    l->buckets[b] = s;
    l->slots[l->nslots++] = s;
    return s;
}

int links_saw(struct links *l, bool new_side, uint64_t dir, struct nf_bytes name, bool copy,
              const struct name_ref *ref)
{
    struct slot *s = links_slot(l, dir, name, copy);

    if (!s)
        return NF_ENOMEM;
    /* The same name twice in one directory is damage: the first one counts,
     * as it does for the kernel's lookup. */
    if (new_side ? s->has_new : s->has_old) {
        ext4_oddity(l->fs);
        return 0;
    }
    if (new_side) {
        s->has_new = true;
        s->new_ref = *ref;
    } else {
        s->has_old = true;
        s->old_ref = *ref;
    }
    return 0;
}

static struct node *find(const struct links *l, struct step_inode *si, uint64_t key)
{
    return si ? si->node[(key & OBJECT_NEW) != 0] : u64map_get(&l->nodes, key);
}

struct node *links_find(const struct links *l, uint64_t key)
{
    return find(l, step_inode_of(l->step, key & ~OBJECT_NEW), key);
}

struct node *links_node(struct links *l, uint64_t key)
{
    struct step_inode *si = step_inode_of(l->step, key & ~OBJECT_NEW);
    struct node *n = find(l, si, key);

    if (n)
        return n;
    n = nf_arena_alloc(&l->arena, sizeof(*n));
    if (!n || (!si && u64map_put(&l->nodes, key, n) < 0))
        return NULL;
    if (si)
        si->node[(key & OBJECT_NEW) != 0] = n;
    memset(n, 0, sizeof(*n));
    n->key = key;
    n->si = si;
    n->exists = !(key & OBJECT_NEW);
    return n;
}

struct paths_cache *links_cache(struct links *l)
{
    return &l->cache;
}

/* Paths lead through directories alone. */
static void renamed(struct links *l, const struct node *n)
{
    if (links_is_dir(l, n))
        paths_cache_moved(&l->cache);
}

void links_drop_name(struct links *l, struct slot *s)
{
    struct node *n = s->holder;

    if (!n)
        return;
    renamed(l, n);
    *(s->prev_name ? &s->prev_name->next_name : &n->first_name) = s->next_name;
    *(s->next_name ? &s->next_name->prev_name : &n->last_name) = s->prev_name;
    n->nnames--;
    s->holder = NULL;
    s->prev_name = s->next_name = NULL;
}

void links_add_name(struct links *l, struct node *n, struct slot *s)
{
    /* Where damage made two hold it, it is the last one's. */
    links_drop_name(l, s);
    renamed(l, n);
    s->holder = n;
    s->prev_name = n->last_name;
    *(n->last_name ? &n->last_name->next_name : &n->first_name) = s;
    n->last_name = s;
    n->nnames++;
}

void links_replace_name(struct links *l, struct slot *from, struct slot *to)
{
    struct node *n = from->holder;

    links_drop_name(l, to);
    if (!n)
        return;
    renamed(l, n);
    to->holder = n;
    to->prev_name = from->prev_name;
    to->next_name = from->next_name;
    *(to->prev_name ? &to->prev_name->next_name : &n->first_name) = to;
    *(to->next_name ? &to->next_name->prev_name : &n->last_name) = to;
    from->holder = NULL;
    from->prev_name = from->next_name = NULL;
}

void links_swap_names(struct links *l, struct slot *a, struct slot *b)
{
    struct slot between = {0};

    links_replace_name(l, a, &between);
    links_replace_name(l, b, a);
    links_replace_name(l, &between, b);
}

bool links_next_name(const struct links *l, uint64_t key, const struct slot **at, uint64_t *dir,
                     struct nf_bytes *name)
{
    const struct node *n = *at ? NULL : links_find(l, key);
    const struct slot *s = *at ? (*at)->next_name : n ? n->first_name : NULL;

    if (!s)
        return false;
    *at = s;
    *dir = s->dir;
    *name = s->name;
    return true;
}

bool links_encrypted(const struct links *l, uint64_t key, bool *encrypted)
{
    const struct step_inode *si = step_inode_of(l->step, key & ~OBJECT_NEW);

    if (!si)
        return false;
    if (key & OBJECT_NEW || !si->old_live)
        *encrypted = shown_encrypted(l->fs, &si->new);
    else
        *encrypted = shown_encrypted(l->fs, &si->old) ||
                     (si->same && shown_encrypted(l->fs, &si->new));
    return true;
}

bool links_created(const struct links *l, uint64_t key)
{
    const struct node *n = links_find(l, key);

    return n && n->exists;
}

static struct link_op *op_new(struct links *l, enum op_type type, struct node *obj,
                              struct slot *src, struct slot *dst)
{
    struct link_op *op;

    if (l->nops == l->ops_cap) {
        size_t cap = l->ops_cap ? l->ops_cap * 2 : 32;
        struct link_op **bigger = reallocarray(l->ops, cap, sizeof(*bigger));

        if (!bigger)
            return NULL;
        l->ops = bigger;
        l->ops_cap = cap;
    }
    op = nf_arena_alloc(&l->arena, sizeof(*op));
    if (!op)
        return NULL;
    memset(op, 0, sizeof(*op));
    op->type = type;
    op->obj = obj;
    op->src = src;
    op->dst = dst;
    op->next_of_obj = obj->ops;
    obj->ops = op;
    l->ops[l->nops++] = op;
    return op;
}

static uint64_t object_key(struct links *l, uint32_t ino, bool new_side)
{
    const struct step_inode *si = step_inode_of(l->step, ino);

    return si && new_side && si->new_live ? step_new_key(si) : ino;
}

/* A removal of the same object that an arrival at @s can be paired with:
 * prefer the same directory, then the same name. */
static struct link_op *rename_source(struct node *n, const struct slot *s)
{
    struct link_op *best = NULL;
    int best_score = -1, looked = 0;

    /* A file can have 65000 names: a good pair is worth a short look only, and
     * what has found its pair or only comes is not passed again and again. */
    while (n->sources && n->sources->type != OP_REMOVE)
        n->sources = n->sources->next_of_obj;
    for (struct link_op *op = n->sources; op && (!best || looked++ < 64); op = op->next_of_obj) {
        int score;

        if (op->type != OP_REMOVE)
            continue;
        score = 2 * (op->src->dir == s->dir) + nf_bytes_equal(op->src->name, s->name);
        /* Ops are chained newest first: on a tie the oldest wins. */
        if (score >= best_score) {
            best = op;
            best_score = score;
        }
    }
    return best;
}

/* Does an entry name something that has events on its side? */
static bool entry_counts(struct links *l, bool new_side, uint32_t ino)
{
    const struct step_inode *si = step_inode_of(l->step, ino);

    if (si)
        return new_side ? si->new_live : si->old_live;
    return ext4_inode_shown(l->fs, new_side ? VIEW_NEW : VIEW_OLD, ino);
}

int links_pair(struct links *l, struct nf_error *err)
{
    struct ext4_fs *fs = l->fs;

    for (size_t i = 0; i < l->nslots; i++) {
        struct slot *s = l->slots[i];
        struct node *n;

        if (s->has_old && s->has_new && s->old_ref.ino == s->new_ref.ino) {
            const struct step_inode *si = step_inode_of(l->step, s->old_ref.ino);

            if (!si || si->same || (!si->old_live && !si->new_live)) {
                /* The same entry; perhaps at another place in the directory. */
                if (memcmp(&s->old_ref, &s->new_ref, sizeof(s->old_ref)) != 0) {
                    names_remove(&fs->names, &s->old_ref);
                    if (names_add(&fs->names, &s->new_ref) < 0)
                        goto nomem;
                }
                s->has_old = s->has_new = false;
                continue;
            }
        }
        if (s->has_old && !entry_counts(l, false, s->old_ref.ino)) {
            names_remove(&fs->names, &s->old_ref);
            s->has_old = false;
        }
        if (s->has_new && !entry_counts(l, true, s->new_ref.ino)) {
            ext4_oddity(fs); /* an entry that names nothing */
            s->has_new = false;
            s->dangling = ext4_inode_visible(fs, s->new_ref.ino);
        }
        if (!s->has_old)
            continue;
        n = links_node(l, s->old_ref.ino);
        if (!n)
            goto nomem;
        links_add_name(l, n, s);
        names_remove(&fs->names, &s->old_ref);
        s->leaving = op_new(l, OP_REMOVE, n, s, NULL);
        if (!s->leaving)
            goto nomem;
        n->sources = s->leaving;
    }
    for (size_t i = 0; i < l->nslots; i++) {
        struct slot *s = l->slots[i];
        struct link_op *op;
        struct node *n;

        if (!s->has_new)
            continue;
        n = links_node(l, object_key(l, s->new_ref.ino, true));
        if (!n)
            goto nomem;
        op = rename_source(n, s);
        if (op) {
            op->type = OP_MOVE;
            op->dst = s;
        } else if (!op_new(l, OP_ADD, n, NULL, s)) {
            goto nomem;
        }
    }
    /* Who must leave a directory before it can go. */
    for (size_t i = 0; i < l->nops; i++) {
        struct link_op *op = l->ops[i];
        struct node *dir;

        if (!op->src)
            continue;
        dir = links_find(l, op->src->dir);
        if (dir) {
            op->next_child = dir->children;
            dir->children = op;
        }
    }
    return 0;
nomem:
    return nf_fail(err, NF_ENOMEM, "pairing names: out of memory");
}
int links_finish(struct links *l, struct nf_error *err)
{
    for (size_t i = 0; i < l->nslots; i++) {
        if ((l->slots[i]->has_new || l->slots[i]->dangling) &&
            names_add(&l->fs->names, &l->slots[i]->new_ref) < 0)
            return nf_fail(err, NF_ENOMEM, "name index: out of memory");
    }
    return 0;
}
