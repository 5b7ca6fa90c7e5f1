/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One followed ext4 file system: private to bdi/ext4/.
 */
#ifndef BDI_EXT4_EXT4_H
#define BDI_EXT4_EXT4_H

#include <stdbool.h>
#include <stdint.h>

#include "bdi/ext4/names.h"
#include "bdi/ext4/ownermap.h"
#include "bdi/ext4/pace.h"
#include "bdi/ext4/picture.h"
#include "bdi/ext4/xattr_owners.h"
#include "bdi/fs.h"
#include "bdi/u64map.h"

#define EXT4_MAX_PATHS 16   /* names of one inode that an event carries */
#define EXT4_PATH_MAX 65536 /* longer paths are cut and flagged */

/* An inode whose changes in place wait: see judge.h. */
struct ext4_waiting {
    uint32_t ino;
    int64_t since_ns;
};

struct unsettled;

struct ext4_fs {
    struct fs_context ctx;
    struct picture pic;
    ext2_filsys fs; /* libext2fs on the picture */
    struct journal journal;
    bool journal_open;
    struct ownermap owners;
    struct xattr_owners xattr_owners;
    struct names names;
    struct fastcommit *fast; /* null: none has taken effect since the last full commit */

    /* Geometry, from the superblock; constant but for growth. */
    uint8_t sb[1024]; /* as it was then */
    uint32_t block_size;
    uint64_t blocks;
    uint32_t inodes, inodes_per_group, inode_size, groups, desc_size;
    uint32_t first_ino, journal_ino, orphan_file_ino;
    uint32_t quota_ino[3]; /* 0: none */
    uint64_t mmp_block;    /* 0: none */
    bool filetype, group_csum, csum, dir_index, ea_inode, inline_data;
    bool encrypt;       /* files and names may be ciphertext */
    bool unsigned_hash; /* how htree hashes are computed: */
    int hash_version;   /* of directories that do not say so themselves */
    uint32_t groups_before; /* that VIEW_OLD has: fewer, in a step that adds some */
    uint8_t uuid[16];
    uint64_t *desc_blocks; /* block of each run of group descriptors */
    uint32_t ndesc_blocks;

    uint8_t *content_buf; /* content.c's */
    uint8_t *inline_buf;  /* two inodes' worth, for what stands in inodes */

    enum fs_end gone;
    bool doubt; /* a part of the disk is unknown: home may be of another time */
    bool worked_on; /* by resize2fs, which says so: what is in place is half done... */
    bool reshaped;  /* ...and content was seen to move */
    bool quiet; /* emit nothing: attaching, reading what a snapshot will */
    struct unsettled *unsettled; /* unsettled.h; null: content is exact at each commit */

    bool one_user;       /* extents.h: block_maps_begin() */
    struct u64map node_users[2];

    bool in_place_news;  /* something was, that may let a step close */
    bool clean;          /* no journal, and not mounted for writing */
    struct ext4_waiting *waiting; /* by ino; owned */
    size_t nwaiting;
    int64_t overdue_ns; /* when the first of them has waited long enough */
    struct pace pace;
    uint32_t *name_counts; /* crawl_middle.c's, while it runs: by inode */
    bool misnamed;         /* crawl_middle.c's */

    /* The step being emitted. */
    uint32_t txn;
    uint32_t index;
    uint32_t step_flags;
    struct links *links; /* names that this step changes; null outside one */
};

/* Raw inode of @ino in @view: inode_size bytes, borrowed; null if it cannot be. */
const uint8_t *ext4_inode_raw(struct ext4_fs *fs, enum view view, uint32_t ino);

/* The block of the table that @ino is in; false if there is none. */

/* Is @ino in use in @view: by bitmap, group flags and itable_unused. */
bool ext4_inode_live(struct ext4_fs *fs, enum view view, uint32_t ino);

/* How many inodes of @group, from its first on, may be in use; the others never
 * were. 0 if the group's descriptor cannot be read. */
uint32_t ext4_group_inodes_used(struct ext4_fs *fs, enum view view, uint32_t group);

/* Is @ino's number one of those that have events: the root or an ordinary one? */
bool ext4_inode_visible(const struct ext4_fs *fs, uint32_t ino);

/* Does the inode itself have none, because it only holds an attribute's value? */
bool ext4_inode_is_value(const struct ext4_fs *fs, uint32_t raw_flags);

/* Is @ino in use in @view, and does it have events? */
bool ext4_inode_shown(struct ext4_fs *fs, enum view view, uint32_t ino);

/* Is it one of the quota files? They have no events, but come and go and grow. */
bool ext4_inode_is_quota(const struct ext4_fs *fs, uint32_t ino);

/* Which block holds @ino in @view, and at which offset; false if none can. */
bool ext4_inode_place(struct ext4_fs *fs, enum view view, uint32_t ino, uint64_t *block,
                      uint32_t *offset);

/* A group's descriptor in @view, or null. */
const uint8_t *ext4_group_desc(struct ext4_fs *fs, enum view view, uint32_t group);
uint64_t ext4_group_block_bitmap(const struct ext4_fs *fs, const uint8_t *desc);
uint64_t ext4_group_inode_bitmap(const struct ext4_fs *fs, const uint8_t *desc);
uint64_t ext4_group_itable(const struct ext4_fs *fs, const uint8_t *desc);

/* Emit with this file system's source, the step's txn and index. */
int ext4_emit(struct ext4_fs *fs, struct nf_event *ev, struct nf_error *err);

/* Follow the fast commits that the log has by now: a step for each. */
int ext4_fast_commits(struct ext4_fs *fs, struct nf_error *err);

/* Count something broken in the guest's structures. */
void ext4_oddity(struct ext4_fs *fs);

/* attach.c: struct fs_driver's, and the image's failure so far, met where damage
 * was looked for as well: it must not pass for that. 0 if there is none. */
int ext4_attach(const struct fs_context *ctx, void **fs, struct nf_error *err);
int ext4_save(const void *fs, struct nf_buffer *out, struct nf_error *err);
int ext4_resume(const struct fs_context *ctx, struct nf_bytes state, void **fs,
                struct nf_error *err);
void ext4_retire(void *fs);
void ext4_detach(void *fs);
int ext4_image_failure(const struct ext4_fs *fs, struct nf_error *err);

/* crawl.c: owner map and name index of the whole file system. */
int ext4_crawl(struct ext4_fs *fs, struct nf_error *err);
/* ENTRY rows, xattrs and contents of everything. */
int ext4_snapshot(struct ext4_fs *fs, struct nf_error *err);
/* Give static metadata (tables, bitmaps, descriptors) of groups from @first on
 * to its owners. */
int ext4_own_groups(struct ext4_fs *fs, uint32_t first, struct nf_error *err);

/* super.c: feature check; fills geometry from fs->fs. */
int ext4_read_geometry(struct ext4_fs *fs, struct nf_error *err);
int ext4_emit_fs(struct ext4_fs *fs, enum nf_fs_state state, const char *reason,
                 struct nf_error *err);
/* "has_journal extent ..." of all three words, into @buf. */
void ext4_feature_names(const uint8_t *sb, char *buf, size_t size);
/* Emit FS(gone). */
int ext4_end(struct ext4_fs *fs, enum fs_end how, const char *reason, struct nf_error *err);
/* Sets worked_on, from the superblock in place. */
int ext4_super_mark(struct ext4_fs *fs, struct nf_error *err);
/* The superblock was written in place: is it still the same file system's? */
int ext4_super_written(struct ext4_fs *fs, struct nf_error *err);
/* Before a step is worked out: do its staged blocks end the file system, or
 * *@grow it? Then its new groups are known from here on. */
int ext4_super_step(struct ext4_fs *fs, bool *grown, struct nf_error *err);
/* A staged block of group descriptors: do tables that were there move? */
bool ext4_tables_moved(const struct ext4_fs *fs, uint32_t index, const uint8_t *old,
                       const uint8_t *new);
/* Without a journal the superblock says whether somebody writes: fs->clean. */
void ext4_see_clean(struct ext4_fs *fs);

#endif
