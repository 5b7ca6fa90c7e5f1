/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/links_private.h"

#include <stdlib.h>

bool links_is_dir(struct links *l, const struct node *n)
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
    /* Of a directory with many names, those that are done are not looked at
     * again for each of the others. */
    while (dir->children && dir->children->state == OP_DONE)
        dir->children = dir->children->next_child;
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
           links_is_dir(l, op->obj) == links_is_dir(l, victim->obj) && op->obj != victim->obj &&
           !first_child(victim->obj);
}

/* What must be done before @op; null: nothing. *@impossible: it never can. */
static struct link_op *unmet(struct links *l, struct link_op *op, bool *impossible)
{
    *impossible = false;
    if (op->dst) {
        struct node *dir = links_find(l, op->dst->dir);
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
        if (op->type == OP_MOVE && links_is_dir(l, op->obj) &&
            paths_is_beneath(l->fs, op->dst->dir, op->obj->key)) {
            /* Something between must move out first. */
            uint64_t at = op->dst->dir;
            uint8_t buf[SHOWN_NAME_MAX];
            struct nf_bytes name;

            for (int i = 0; i < 8192 && at != op->obj->key; i++) {
                struct node *n = links_find(l, at);

                for (struct link_op *m = n ? n->ops : NULL; m; m = m->next_of_obj) {
                    if (m->type == OP_MOVE && m->state != OP_DONE && m != op)
                        return m;
                }
                if (at == EXT2_ROOT_INO || !paths_parent(l->fs, at, &at, buf, &name))
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

static int execute(struct links *l, struct link_op *op, struct nf_error *err)
{
    op->state = OP_DONE;
    switch (op->type) {
    case OP_ADD:
        return links_emit_add(l, op, err);
    case OP_REMOVE:
        return links_emit_remove(l, op, err);
    case OP_MOVE:
        return links_emit_move(l, op, err);
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
        return links_emit_exchange(l, op, dep, err);
    if (dep->type == OP_MOVE && !dep->detoured)
        return links_emit_detour(l, dep, err);
    if (op->type == OP_MOVE && !op->detoured) {
        int ret = links_emit_detour(l, op, err);

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
    return ret ? ret : links_emit_nameless(l, err);
}
