/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/links_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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

/* Does an inode that has no name left still count some? Then somebody took the
 * entry alone (debugfs), or lost it, and e2fsck will give it another. */
static bool comes_back(struct links *l, const struct node *n)
{
    struct ext4_inode inode;
    const uint8_t *raw;

    if (n->si)
        return n->si->same && n->si->new.attr.links > 0 && !ext4_is_dir(&n->si->new);
    raw = ext4_inode_raw(l->fs, VIEW_NEW, (uint32_t)n->key);
    if (!raw)
        return false;
    ext4_inode_decode(&inode, raw, l->fs->inode_size);
    return inode.attr.links > 0 && !ext4_is_dir(&inode);
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
    uint8_t buf[SHOWN_NAME_MAX];
    struct nf_error ignored;

    ev->kind = NF_CREATE;
    ev->create.attr = inode->attr;
    if (ext4_is_symlink(inode)) {
        static const struct block_map none;

        ev->create.target = shown_target(fs, VIEW_NEW, inode, n->si ? &n->si->new_map : &none, buf,
                                         &ignored);
        if (shown_encrypted(fs, inode))
            ev->flags |= NF_EV_ENCRYPTED;
    }
    n->exists = true;
    return send(l, ev, err);
}

int links_emit_add(struct links *l, struct link_op *op, struct nf_error *err)
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
        links_add_name(l, n, op->dst);
        return emit_create(l, n, inode, &ev, err);
    }
    ev.kind = NF_LINK;
    paths_add_object(l->fs, &l->paths, n->key);
    links_add_name(l, n, op->dst);
    return send(l, &ev, err);
}

int links_emit_remove(struct links *l, struct link_op *op, struct nf_error *err)
{
    struct node *n = op->obj;
    struct ext4_inode scratch;
    const struct ext4_inode *inode;
    struct nf_event ev = {.kind = NF_UNLINK};

    fill_object(l, n, &ev, &inode, &scratch);
    paths_clear(&l->paths);
    if (!paths_add_entry(l->fs, &l->paths, op->src->dir, op->src->name) && !l->paths.truncated)
        ext4_oddity(l->fs);
    links_drop_name(l, op->src);
    op->src->leaving = NULL;
    if (!l->paths.n)
        return 0;
    paths_add_object(l->fs, &l->paths, n->key);
    ev.unlink.last = names_left(l, n) == 0 && !comes_back(l, n);
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

int links_emit_move(struct links *l, struct link_op *op, struct nf_error *err)
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
        links_drop_name(l, op->dst);
        ev.rename.other_last = names_left(l, victim->obj) == 0;
        victim->state = OP_DONE;
    }
    fill_object(l, op->obj, &ev, &inode, &scratch);
    ev.kind = NF_RENAME;
    ok = two_paths(l, op->src, op->dst, &ev);
    op->dst->leaving = NULL;
    op->src->leaving = NULL;
    links_replace_name(l, op->src, op->dst);
    return ok ? send(l, &ev, err) : 0;
}

/* @op and @other each hold (or end up at) the other's place. */
int links_emit_exchange(struct links *l, struct link_op *op, struct link_op *other,
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
    links_swap_names(l, a, b);
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
int links_emit_detour(struct links *l, struct link_op *op, struct nf_error *err)
{
    struct ext4_inode scratch;
    const struct ext4_inode *inode;
    struct nf_event ev = {.kind = NF_RENAME, .flags = NF_EV_UNORDERED};
    char name[64];
    struct slot *temp;
    bool ok;

    snprintf(name, sizeof(name), ".nearfield-%u-%u", (uint32_t)op->obj->key, l->detours++);
    temp = links_slot(l, EXT2_ROOT_INO, (struct nf_bytes){(uint8_t *)name, strlen(name)}, true);
    if (!temp)
        return nf_fail(err, NF_ENOMEM, "ordering names: out of memory");
    op->detoured = true;
    fill_object(l, op->obj, &ev, &inode, &scratch);
    ok = two_paths(l, op->src, temp, &ev);
    links_replace_name(l, op->src, temp);
    op->src->leaving = NULL;
    op->src = temp;
    temp->leaving = op;
    return ok ? send(l, &ev, err) : 0;
}

int links_emit_nameless(struct links *l, struct nf_error *err)
{
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < l->step->n; i++) {
        struct step_inode *si = l->step->order[i];
        struct nf_event ev = {.inode = si->ino};
        struct name_ref ref;
        size_t cursor = 0;

        paths_clear(&l->paths);
        if (si->old_live && !si->same && !links_find(l, si->ino) &&
            !names_next(&l->fs->names, si->ino, &cursor, &ref)) {
            ev.kind = NF_UNLINK;
            ev.generation = si->old.generation;
            ev.unlink.last = true;
            ev.unlink.before = si->old.attr;
            ret = send(l, &ev, err);
        }
        if (ret == 0 && si->new_live && !si->same && !links_created(l, si->ino | OBJECT_NEW)) {
            struct node *n = links_node(l, si->ino | OBJECT_NEW);

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
