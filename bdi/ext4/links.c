/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/links.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum op_type { OP_MOVE, OP_REMOVE, OP_ADD };
enum op_state { OP_NEW, OP_BUSY, OP_DONE };

struct node;

/* A (directory, name) place, and what the step does to it. */
struct slot {
    uint64_t dir;
    struct nf_bytes name;
    bool has_old, has_new;
    struct name_ref old_ref, new_ref;
    struct link_op *leaving; /* not done yet: the place is still taken */
    struct slot *next;       /* hash chain */
};

struct link_op {
    enum op_type type;
    enum op_state state;
    bool detoured;   /* went to a temporary name already */
    struct node *obj;
    struct slot *src, *dst;
    struct link_op *next_child;  /* others leaving the same directory */
    struct link_op *next_of_obj; /* others of the same object */
};

struct place {
    uint64_t dir;
    struct nf_bytes name;
};

/* An object whose names change. */
struct node {
    uint64_t key;
    struct step_inode *si; /* null: its inode is not part of the step */
    bool exists;           /* for new objects: CREATE went out */
    struct place *names;   /* now, of those that this step touches */
    size_t nnames, cap;
    struct link_op *ops;
    struct link_op *children; /* ops that take names out of this directory */
};

struct links {
    struct ext4_fs *fs;
    struct step *step;
    struct slot **slots; /* in order of first sight */
    size_t nslots, slots_cap;
    struct slot **buckets;
    size_t nbuckets;
    struct u64map nodes; /* key -> struct node, owned */
    struct link_op **ops;
    size_t nops, ops_cap;
    struct link_op **stack;
    size_t depth;
    uint32_t detours;
    struct paths paths;
    char **temp_names;
    size_t ntemps;
};

struct links *links_new(struct ext4_fs *fs, struct step *step)
{
    struct links *l = calloc(1, sizeof(*l));

    if (!l)
        return NULL;
    l->fs = fs;
    l->step = step;
    u64map_init(&l->nodes);
    return l;
}

void links_free(struct links *l)
{
    size_t pos = 0;
    void *v;

    if (!l)
        return;
    while (u64map_next(&l->nodes, &pos, NULL, &v)) {
        free(((struct node *)v)->names);
        free(v);
    }
    u64map_release(&l->nodes);
    for (size_t i = 0; i < l->nslots; i++)
        free(l->slots[i]);
    for (size_t i = 0; i < l->nops; i++)
        free(l->ops[i]);
    for (size_t i = 0; i < l->ntemps; i++)
        free(l->temp_names[i]);
    free(l->temp_names);
    free(l->slots);
    free(l->buckets);
    free(l->ops);
    free(l->stack);
    paths_release(&l->paths);
    free(l);
}

/* FNV-1a: chains are bounded by what one step can hold, and a guest that
 * makes them long slows only its own engine, linearly in its own names. */
static size_t hash(const struct links *l, uint64_t dir, struct nf_bytes name)
{
    uint64_t h = 0xcbf29ce484222325ull ^ dir;

    for (size_t i = 0; i < name.len; i++)
        h = (h ^ name.data[i]) * 0x100000001b3ull;
    h ^= h >> 32;
    return (size_t)h & (l->nbuckets - 1);
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
        size_t b = hash(l, s->dir, s->name);

        s->next = buckets[b];
        buckets[b] = s;
    }
    return 0;
}

static struct slot *slot_find(struct links *l, uint64_t dir, struct nf_bytes name)
{
    struct slot *s = l->nbuckets ? l->buckets[hash(l, dir, name)] : NULL;

    while (s && (s->dir != dir || !nf_bytes_equal(s->name, name)))
        s = s->next;
    return s;
}

static struct slot *slot_make(struct links *l, uint64_t dir, struct nf_bytes name)
{
    struct slot *s = slot_find(l, dir, name);
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
    s = calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->dir = dir;
    s->name = name;
    b = hash(l, dir, name);
    s->next = l->buckets[b];
    l->buckets[b] = s;
    l->slots[l->nslots++] = s;
    return s;
}

int links_saw(struct links *l, bool new_side, uint64_t dir, struct nf_bytes name,
              const struct name_ref *ref)
{
    struct slot *s = slot_make(l, dir, name);

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

static struct node *node_get(struct links *l, uint64_t key)
{
    struct node *n = u64map_get(&l->nodes, key);

    if (n)
        return n;
    n = calloc(1, sizeof(*n));
    if (!n || u64map_put(&l->nodes, key, n) < 0) {
        free(n);
        return NULL;
    }
    n->key = key;
    n->si = u64map_get(&l->step->touched, key & ~OBJECT_NEW);
    n->exists = !(key & OBJECT_NEW);
    return n;
}

static int node_add_name(struct node *n, uint64_t dir, struct nf_bytes name)
{
    if (n->nnames == n->cap) {
        size_t cap = n->cap ? n->cap * 2 : 2;
        struct place *bigger = reallocarray(n->names, cap, sizeof(*bigger));

        if (!bigger)
            return NF_ENOMEM;
        n->names = bigger;
        n->cap = cap;
    }
    n->names[n->nnames++] = (struct place){dir, name};
    return 0;
}

static void node_drop_name(struct node *n, const struct slot *s)
{
    for (size_t i = 0; i < n->nnames; i++) {
        if (n->names[i].dir == s->dir && nf_bytes_equal(n->names[i].name, s->name)) {
            memmove(&n->names[i], &n->names[i + 1], (n->nnames - i - 1) * sizeof(*n->names));
            n->nnames--;
            return;
        }
    }
}

static void node_replace_name(struct node *n, const struct slot *from, const struct slot *to)
{
    for (size_t i = 0; i < n->nnames; i++) {
        if (n->names[i].dir == from->dir && nf_bytes_equal(n->names[i].name, from->name)) {
            n->names[i] = (struct place){to->dir, to->name};
            return;
        }
    }
}

bool links_current(const struct links *l, uint64_t key, size_t i, uint64_t *dir,
                   struct nf_bytes *name)
{
    const struct node *n = u64map_get(&l->nodes, key);

    if (!n || i >= n->nnames)
        return false;
    *dir = n->names[i].dir;
    *name = n->names[i].name;
    return true;
}

bool links_created(const struct links *l, uint64_t key)
{
    const struct node *n = u64map_get(&l->nodes, key);

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
    op = calloc(1, sizeof(*op));
    if (!op)
        return NULL;
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
    const struct step_inode *si = u64map_get(&l->step->touched, ino);

    return si && new_side && si->new_live ? step_new_key(si) : ino;
}

/* A removal of the same object that an arrival at @s can be paired with:
 * prefer the same directory, then the same name. */
static struct link_op *rename_source(struct node *n, const struct slot *s)
{
    struct link_op *best = NULL;
    int best_score = -1, looked = 0;

    /* A file can have 65000 names: a good pair is worth a short look only. */
    for (struct link_op *op = n->ops; op && (!best || looked++ < 64); op = op->next_of_obj) {
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
    const struct step_inode *si = u64map_get(&l->step->touched, ino);

    if (!ext4_inode_visible(l->fs, ino))
        return false;
    if (si)
        return new_side ? si->new_live : si->old_live;
    return ext4_inode_live(l->fs, new_side ? VIEW_NEW : VIEW_OLD, ino);
}

int links_pair(struct links *l, struct nf_error *err)
{
    struct ext4_fs *fs = l->fs;

    for (size_t i = 0; i < l->nslots; i++) {
        struct slot *s = l->slots[i];
        struct node *n;

        if (s->has_old && s->has_new && s->old_ref.ino == s->new_ref.ino) {
            const struct step_inode *si = u64map_get(&l->step->touched, s->old_ref.ino);

            if (!si || si->same || !si->old_live || !si->new_live) {
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
        if (s->has_old && !entry_counts(l, false, s->old_ref.ino))
            s->has_old = false;
        if (s->has_new && !entry_counts(l, true, s->new_ref.ino)) {
            ext4_oddity(fs); /* an entry that names nothing */
            s->has_new = false;
        }
        if (!s->has_old)
            continue;
        n = node_get(l, s->old_ref.ino);
        if (!n || node_add_name(n, s->dir, s->name) < 0)
            goto nomem;
        names_remove(&fs->names, &s->old_ref);
        s->leaving = op_new(l, OP_REMOVE, n, s, NULL);
        if (!s->leaving)
            goto nomem;
    }
    for (size_t i = 0; i < l->nslots; i++) {
        struct slot *s = l->slots[i];
        struct link_op *op;
        struct node *n;

        if (!s->has_new)
            continue;
        n = node_get(l, object_key(l, s->new_ref.ino, true));
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
        dir = u64map_get(&l->nodes, op->src->dir);
        if (dir) {
            op->next_child = dir->children;
            dir->children = op;
        }
    }
    return 0;
nomem:
    return nf_fail(err, NF_ENOMEM, "pairing names: out of memory");
}

static bool node_is_dir(struct links *l, const struct node *n)
{
    struct ext4_inode inode;
    const uint8_t *raw;

    if (n->si)
        return ext4_is_dir(n->key & OBJECT_NEW || !n->si->old_live ? &n->si->new : &n->si->old);
    raw = ext4_inode_raw(l->fs, VIEW_OLD, (uint32_t)n->key);
    if (!raw)
        return false;
    ext4_inode_decode(&inode, raw, l->fs->inode_size);
    return ext4_is_dir(&inode);
}

static struct link_op *first_child(struct node *dir)
{
    for (struct link_op *op = dir->children; op; op = op->next_child) {
        /* Exchanges and detours may have moved it to another directory. */
        if (op->state != OP_DONE && op->src->dir == dir->key)
            return op;
    }
    return NULL;
}

/* May a rename of @op replace @victim in one go? */
static bool can_replace(struct links *l, const struct link_op *op, const struct link_op *victim)
{
    return op->type == OP_MOVE && victim->type == OP_REMOVE &&
           node_is_dir(l, op->obj) == node_is_dir(l, victim->obj) && op->obj != victim->obj &&
           !first_child(victim->obj);
}

/* What must be done before @op; null: nothing. *@impossible: it never can. */
static struct link_op *unmet(struct links *l, struct link_op *op, bool *impossible)
{
    *impossible = false;
    if (op->dst) {
        struct node *dir = u64map_get(&l->nodes, op->dst->dir);
        struct link_op *holder = op->dst->leaving;

        if ((op->dst->dir & OBJECT_NEW) && (!dir || !dir->exists)) {
            for (struct link_op *c = dir ? dir->ops : NULL; c; c = c->next_of_obj) {
                if (c->type == OP_ADD && c->state != OP_DONE)
                    return c;
            }
            *impossible = true;
            return NULL;
        }
        if (holder && holder != op) {
            struct link_op *child;

            if (can_replace(l, op, holder))
                holder = NULL;
            else if (holder->type == OP_REMOVE && (child = first_child(holder->obj)))
                return child == op ? holder : child;
            if (holder)
                return holder;
        }
        if (op->type == OP_MOVE && node_is_dir(l, op->obj) &&
            paths_is_beneath(l->fs, op->dst->dir, op->obj->key)) {
            /* Something between must move out first. */
            uint64_t at = op->dst->dir;
            struct nf_bytes name;

            for (int i = 0; i < 8192 && at != op->obj->key; i++) {
                struct node *n = u64map_get(&l->nodes, at);

                for (struct link_op *m = n ? n->ops : NULL; m; m = m->next_of_obj) {
                    if (m->type == OP_MOVE && m->state != OP_DONE && m != op)
                        return m;
                }
                if (at == EXT2_ROOT_INO || !paths_parent(l->fs, at, &at, &name))
                    break;
            }
            *impossible = true;
            return NULL;
        }
    }
    if (op->type == OP_REMOVE)
        return first_child(op->obj);
    return NULL;
}

static void fill_object(struct links *l, const struct node *n, struct nf_event *ev,
                        const struct ext4_inode **inode, struct ext4_inode *scratch)
{
    const uint8_t *raw;

    *inode = NULL;
    ev->inode = (uint32_t)n->key;
    if (n->si) {
        *inode = n->key & OBJECT_NEW || !n->si->old_live ? &n->si->new : &n->si->old;
    } else {
        raw = ext4_inode_raw(l->fs, VIEW_OLD, (uint32_t)n->key);
        if (raw) {
            ext4_inode_decode(scratch, raw, l->fs->inode_size);
            *inode = scratch;
        }
    }
    if (*inode)
        ev->generation = (*inode)->generation;
}

static size_t names_left(struct links *l, const struct node *n)
{
    struct name_ref ref;
    size_t cursor = 0, count = n->nnames;

    if (!(n->key & OBJECT_NEW)) {
        while (count < 2 && names_next(&l->fs->names, (uint32_t)n->key, &cursor, &ref))
            count++;
    }
    return count;
}

static int send(struct links *l, struct nf_event *ev, struct nf_error *err)
{
    ev->paths = l->paths.list;
    ev->npaths = l->paths.n;
    ev->flags |= paths_flags(&l->paths);
    return ext4_emit(l->fs, ev, err);
}

static int emit_create(struct links *l, struct node *n, const struct ext4_inode *inode,
                       struct nf_event *ev, struct nf_error *err)
{
    struct ext4_fs *fs = l->fs;
    struct nf_error ignored;
    const uint8_t *block;

    ev->kind = NF_CREATE;
    ev->create.attr = inode->attr;
    if (ext4_is_symlink(inode)) {
        uint64_t len = inode->attr.size;

        if (!ext4_has_map(inode)) {
            ev->create.target = (struct nf_bytes){inode->raw + 0x28, len < 60 ? len : 60};
        } else if (n->si && n->si->new_map.n && n->si->new_map.ext[0].lblk == 0) {
            block = picture_block(&fs->pic, VIEW_NEW, n->si->new_map.ext[0].pblk, &ignored);
            if (block)
                ev->create.target =
                    (struct nf_bytes){block, len < fs->block_size ? len : fs->block_size};
        }
    }
    n->exists = true;
    return send(l, ev, err);
}

static int emit_add(struct links *l, struct link_op *op, struct nf_error *err)
{
    struct node *n = op->obj;
    struct ext4_inode scratch;
    const struct ext4_inode *inode;
    struct nf_event ev = {0};

    fill_object(l, n, &ev, &inode, &scratch);
    if (!inode)
        return 0;
    paths_clear(&l->paths);
    if (!paths_add_entry(l->fs, &l->paths, op->dst->dir, op->dst->name) && !l->paths.truncated) {
        ext4_oddity(l->fs);
        return 0;
    }
    if (!n->exists) {
        if (node_add_name(n, op->dst->dir, op->dst->name) < 0)
            return nf_fail(err, NF_ENOMEM, "out of memory");
        return emit_create(l, n, inode, &ev, err);
    }
    ev.kind = NF_LINK;
    paths_add_object(l->fs, &l->paths, n->key);
    if (node_add_name(n, op->dst->dir, op->dst->name) < 0)
        return nf_fail(err, NF_ENOMEM, "out of memory");
    return send(l, &ev, err);
}

static int emit_remove(struct links *l, struct link_op *op, struct nf_error *err)
{
    struct node *n = op->obj;
    struct ext4_inode scratch;
    const struct ext4_inode *inode;
    struct nf_event ev = {.kind = NF_UNLINK};

    fill_object(l, n, &ev, &inode, &scratch);
    paths_clear(&l->paths);
    if (!paths_add_entry(l->fs, &l->paths, op->src->dir, op->src->name) && !l->paths.truncated)
        ext4_oddity(l->fs);
    node_drop_name(n, op->src);
    op->src->leaving = NULL;
    if (!l->paths.n)
        return 0;
    paths_add_object(l->fs, &l->paths, n->key);
    ev.unlink.last = names_left(l, n) == 0;
    if (inode)
        ev.unlink.before = inode->attr;
    return send(l, &ev, err);
}

/* paths[0] and new_path are built in one buffer: the second is then cut off. */
static bool two_paths(struct links *l, const struct slot *a, const struct slot *b,
                      struct nf_event *ev)
{
    paths_clear(&l->paths);
    if (!paths_add_entry(l->fs, &l->paths, a->dir, a->name) ||
        !paths_add_entry(l->fs, &l->paths, b->dir, b->name)) {
        ext4_oddity(l->fs);
        return false;
    }
    ev->rename.new_path = l->paths.list[1];
    l->paths.n = 1;
    return true;
}

static int emit_move(struct links *l, struct link_op *op, struct nf_error *err)
{
    struct link_op *victim = op->dst->leaving;
    struct ext4_inode scratch;
    const struct ext4_inode *inode;
    struct nf_event ev = {0};
    bool ok;

    if (victim && victim != op) {
        fill_object(l, victim->obj, &ev, &inode, &scratch);
        ev.rename.other_inode = ev.inode;
        ev.rename.other_generation = ev.generation;
        if (inode)
            ev.rename.other = inode->attr;
        node_drop_name(victim->obj, op->dst);
        ev.rename.other_last = names_left(l, victim->obj) == 0;
        victim->state = OP_DONE;
    }
    fill_object(l, op->obj, &ev, &inode, &scratch);
    ev.kind = NF_RENAME;
    ok = two_paths(l, op->src, op->dst, &ev);
    op->dst->leaving = NULL;
    op->src->leaving = NULL;
    node_replace_name(op->obj, op->src, op->dst);
    return ok ? send(l, &ev, err) : 0;
}

/* @op and @other each hold (or end up at) the other's place. */
static int emit_exchange(struct links *l, struct link_op *op, struct link_op *other,
                         struct nf_error *err)
{
    struct slot *a = op->src, *b = op->dst;
    struct ext4_inode scratch;
    const struct ext4_inode *inode;
    struct nf_event ev = {0};
    bool ok;

    fill_object(l, other->obj, &ev, &inode, &scratch);
    ev.rename.other_inode = ev.inode;
    ev.rename.other_generation = ev.generation;
    if (inode)
        ev.rename.other = inode->attr;
    fill_object(l, op->obj, &ev, &inode, &scratch);
    ev.kind = NF_EXCHANGE;
    ok = two_paths(l, a, b, &ev);
    node_replace_name(op->obj, a, b);
    node_replace_name(other->obj, b, a);
    b->leaving = NULL;
    other->src = a;
    a->leaving = other;
    op->state = OP_DONE;
    if (other->dst == a) {
        a->leaving = NULL;
        other->state = OP_DONE;
    }
    return ok ? send(l, &ev, err) : 0;
}

/* Take @op's object out of the way under a name of our own making. */
static int emit_detour(struct links *l, struct link_op *op, struct nf_error *err)
{
    struct ext4_inode scratch;
    const struct ext4_inode *inode;
    struct nf_event ev = {.kind = NF_RENAME, .flags = NF_EV_UNORDERED};
    char **names = reallocarray(l->temp_names, l->ntemps + 1, sizeof(*names));
    char name[64];
    struct slot *temp = NULL;
    bool ok;

    if (names) {
        l->temp_names = names;
        snprintf(name, sizeof(name), ".nearfield-%u-%u", (uint32_t)op->obj->key, l->detours++);
        names[l->ntemps] = strdup(name);
        if (names[l->ntemps]) {
            struct nf_bytes b = {(uint8_t *)names[l->ntemps], strlen(name)};

            l->ntemps++;
            temp = slot_make(l, EXT2_ROOT_INO, b);
        }
    }
    if (!temp)
        return nf_fail(err, NF_ENOMEM, "ordering names: out of memory");
    op->detoured = true;
    fill_object(l, op->obj, &ev, &inode, &scratch);
    ok = two_paths(l, op->src, temp, &ev);
    node_replace_name(op->obj, op->src, temp);
    op->src->leaving = NULL;
    op->src = temp;
    temp->leaving = op;
    return ok ? send(l, &ev, err) : 0;
}

static int execute(struct links *l, struct link_op *op, struct nf_error *err)
{
    op->state = OP_DONE;
    switch (op->type) {
    case OP_ADD:
        return emit_add(l, op, err);
    case OP_REMOVE:
        return emit_remove(l, op, err);
    case OP_MOVE:
        return emit_move(l, op, err);
    }
    return 0;
}

static bool can_exchange(struct links *l, const struct link_op *op, const struct link_op *other)
{
    return op->type == OP_MOVE && other->type == OP_MOVE && other == op->dst->leaving &&
           !paths_is_beneath(l->fs, op->src->dir, other->obj->key) &&
           !paths_is_beneath(l->fs, op->dst->dir, op->obj->key);
}

/* @dep, which must come before @op, waits for @op itself. */
static int cut_knot(struct links *l, struct link_op *op, struct link_op *dep, struct nf_error *err)
{
    if (can_exchange(l, op, dep))
        return emit_exchange(l, op, dep, err);
    if (dep->type == OP_MOVE && !dep->detoured)
        return emit_detour(l, dep, err);
    if (op->type == OP_MOVE && !op->detoured) {
        int ret = emit_detour(l, op, err);

        op->state = OP_NEW; /* its turn comes again when the others are done */
        return ret;
    }
    ext4_oddity(l->fs);
    op->state = OP_DONE;
    if (op->src && op->src->leaving == op)
        op->src->leaving = NULL;
    return 0;
}

static int run(struct links *l, struct link_op *first, struct nf_error *err)
{
    int ret = 0;

    l->depth = 0;
    l->stack[l->depth++] = first;
    first->state = OP_BUSY;
    while (ret == 0 && l->depth) {
        struct link_op *op = l->stack[l->depth - 1];
        struct link_op *dep;
        bool impossible;

        if (op->state != OP_BUSY) {
            l->depth--;
            continue;
        }
        dep = unmet(l, op, &impossible);
        if (impossible) {
            ext4_oddity(l->fs);
            op->state = OP_DONE;
            if (op->src && op->src->leaving == op)
                op->src->leaving = NULL;
        } else if (!dep) {
            ret = execute(l, op, err);
        } else if (dep->state == OP_BUSY) {
            ret = cut_knot(l, op, dep, err);
        } else {
            dep->state = OP_BUSY;
            l->stack[l->depth++] = dep;
        }
    }
    return ret;
}

int links_emit(struct links *l, struct nf_error *err)
{
    static const enum op_type turn[] = {OP_MOVE, OP_REMOVE, OP_ADD};
    int ret = 0;
    bool again = true;

    if (l->nops) {
        l->stack = calloc(l->nops, sizeof(*l->stack));
        if (!l->stack)
            return nf_fail(err, NF_ENOMEM, "ordering names: out of memory");
    }
    /* A second round only for what a detour put back. */
    for (int round = 0; ret == 0 && again && round < 3; round++) {
        again = false;
        for (size_t t = 0; t < 3; t++) {
            for (size_t i = 0; ret == 0 && i < l->nops; i++) {
                if (l->ops[i]->type == turn[t] && l->ops[i]->state == OP_NEW)
                    ret = run(l, l->ops[i], err);
                again |= l->ops[i]->state == OP_NEW;
            }
        }
    }
    /* New inodes without a name, and nameless ones that were freed. */
    for (size_t i = 0; ret == 0 && i < l->step->n; i++) {
        struct step_inode *si = l->step->order[i];
        struct nf_event ev = {.inode = si->ino};
        struct name_ref ref;
        size_t cursor = 0;

        paths_clear(&l->paths);
        if (si->old_live && !si->same && !u64map_get(&l->nodes, si->ino) &&
            !names_next(&l->fs->names, si->ino, &cursor, &ref)) {
            ev.kind = NF_UNLINK;
            ev.generation = si->old.generation;
            ev.unlink.last = true;
            ev.unlink.before = si->old.attr;
            ret = send(l, &ev, err);
        }
        if (ret == 0 && si->new_live && !si->same && !links_created(l, si->ino | OBJECT_NEW)) {
            struct node *n = node_get(l, si->ino | OBJECT_NEW);

            if (!n)
                return nf_fail(err, NF_ENOMEM, "ordering names: out of memory");
            memset(&ev, 0, sizeof(ev));
            ev.inode = si->ino;
            ev.generation = si->new.generation;
            ret = emit_create(l, n, &si->new, &ev, err);
        }
    }
    return ret;
}

int links_finish(struct links *l, struct nf_error *err)
{
    for (size_t i = 0; i < l->nslots; i++) {
        if (l->slots[i]->has_new && names_add(&l->fs->names, &l->slots[i]->new_ref) < 0)
            return nf_fail(err, NF_ENOMEM, "name index: out of memory");
    }
    return 0;
}
