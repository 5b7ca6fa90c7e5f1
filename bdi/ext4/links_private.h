/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private to links.c (which entries went and came), links_order.c (what must
 * come before what) and links_emit.c (the events).
 */
#ifndef BDI_EXT4_LINKS_PRIVATE_H
#define BDI_EXT4_LINKS_PRIVATE_H

#include "bdi/ext4/links.h"
#include "bdi/siphash.h"

enum op_type { OP_MOVE, OP_REMOVE, OP_ADD };
enum op_state { OP_NEW, OP_BUSY, OP_DONE };

struct node;

/* A (directory, name) place, and what the step does to it. */
struct slot {
    uint64_t dir;
    struct nf_bytes name;
    uint64_t hash; /* of both */
    bool has_old, has_new;
    bool dangling; /* names nothing, but may again, when its inode is repaired */
    struct name_ref old_ref, new_ref;
    struct link_op *leaving; /* not done yet: the place is still taken */
    struct node *holder;     /* whose name this is now, of those in the step; or null */
    struct slot *prev_name, *next_name; /* the holder's others */
    struct slot *next;       /* hash chain */
    uint8_t copy[];          /* of the name, where nothing else holds it */
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

/* An object whose names change. */
struct node {
    uint64_t key;
    struct step_inode *si; /* null: its inode is not part of the step */
    bool exists;           /* for new objects: CREATE went out */
    struct slot *first_name, *last_name; /* now, of those that this step touches */
    size_t nnames;
    struct link_op *ops;
    struct link_op *sources;  /* of these, where names that go begin; null: none */
    struct link_op *children; /* ops that take names out of this directory, without
                                 those at the front that are done */
};

struct links {
    struct ext4_fs *fs;
    struct step *step;
    struct slot **slots; /* in order of first sight */
    size_t nslots, slots_cap;
    struct slot **buckets;
    size_t nbuckets;
    struct siphash_key hash_key; /* names are the guest's choice */
    struct u64map nodes; /* key -> struct node, of inodes that are not in the step */
    struct nf_arena arena; /* slots, nodes, ops */
    struct link_op **ops;
    size_t nops, ops_cap;
    struct link_op **stack;
    size_t depth;
    uint32_t detours;
    struct paths paths;
    struct paths_cache cache;
};

/* links.c */
struct slot *links_slot(struct links *l, uint64_t dir, struct nf_bytes name, bool copy);
struct node *links_node(struct links *l, uint64_t key); /* made if there is none */
struct node *links_find(const struct links *l, uint64_t key);
/* Who holds a name. One file may have a million, and a step take them all: each
 * of these takes the same time, however many. */
void links_add_name(struct links *l, struct node *n, struct slot *s);
void links_drop_name(struct links *l, struct slot *s);
/* @to takes @from's turn. */
void links_replace_name(struct links *l, struct slot *from, struct slot *to);
void links_swap_names(struct links *l, struct slot *a, struct slot *b);

/* links_order.c: is it one, as far as its names go? */
bool links_is_dir(struct links *l, const struct node *n);

/* links_emit.c: carry out one operation, now, and say so. */
int links_emit_add(struct links *l, struct link_op *op, struct nf_error *err);
int links_emit_remove(struct links *l, struct link_op *op, struct nf_error *err);
int links_emit_move(struct links *l, struct link_op *op, struct nf_error *err);
/* @op and @other each hold, or end up at, the other's place. */
int links_emit_exchange(struct links *l, struct link_op *op, struct link_op *other,
                        struct nf_error *err);
/* Take @op's object out of the way under a name of our own making. */
int links_emit_detour(struct links *l, struct link_op *op, struct nf_error *err);
/* New inodes without a name, and nameless ones that were freed. */
int links_emit_nameless(struct links *l, struct nf_error *err);

#endif
