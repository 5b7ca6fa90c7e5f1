/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file event as C sees it.  The wire form and the meaning of every field
 * are specified in common/events.proto; values of the enums are equal there.
 *
 * Ownership: all pointers are borrowed.  An event handed to a callback is
 * valid until the callback returns; one made by nf_event_decode() until the
 * decoder's arena is released.
 */
#ifndef NF_EVENT_H
#define NF_EVENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/bytes.h"

enum nf_kind {
    NF_KIND_UNSPECIFIED = 0,
    NF_CREATE = 1,
    NF_LINK = 2,
    NF_UNLINK = 3,
    NF_RENAME = 4,
    NF_EXCHANGE = 5,
    NF_WRITE = 6,
    NF_TRUNCATE = 7,
    NF_ZERO = 8,
    NF_MOVE_RANGE = 9,
    NF_ATTR = 10,
    NF_XATTR = 11,
    NF_COMMIT = 12,
    NF_FS = 13,
    NF_GAP = 14,
    NF_RESYNC_BEGIN = 15,
    NF_RESYNC_END = 16,
    NF_ENTRY = 17,
    NF_HEARTBEAT = 18,
    NF_KIND_MAX = 18,
};

enum nf_event_flags {
    NF_EV_READBACK = 1u << 0,  /* bytes were read from the image, not seen written */
    NF_EV_RELOCATED = 1u << 1, /* same content, other place on the disk */
    NF_EV_UNSETTLED = 1u << 2, /* content may be newer than this point */
    NF_EV_UNORDERED = 1u << 3, /* written outside a journal, and not consistent */
    NF_EV_TRUNCATED = 1u << 4, /* content, paths or a name cut by policy */
    NF_EV_ENCRYPTED = 1u << 5, /* a name in it or the content is known as ciphertext only */
};

/* Which attributes an ATTR event changed. */
enum nf_attr_mask {
    NF_ATTR_MODE = 1u << 0,
    NF_ATTR_UID = 1u << 1,
    NF_ATTR_GID = 1u << 2,
    NF_ATTR_ATIME = 1u << 3,
    NF_ATTR_MTIME = 1u << 4,
    NF_ATTR_CTIME = 1u << 5,
    NF_ATTR_CRTIME = 1u << 6,
    NF_ATTR_FLAGS = 1u << 7,   /* ext4 inode flags (chattr) */
    NF_ATTR_PROJECT = 1u << 8,
    NF_ATTR_LINKS = 1u << 9,
    NF_ATTR_RDEV = 1u << 10,
};

enum nf_codec {
    NF_CODEC_NONE = 0, /* data is the plain bytes */
    NF_CODEC_ZSTD = 1, /* data is one zstd frame of plain_length bytes */
};

enum nf_fs_state {
    NF_FS_UNSPECIFIED = 0,
    NF_FS_ATTACHED = 1,
    NF_FS_GONE = 2,
    NF_FS_GROWN = 3,
    NF_FS_UNSUPPORTED = 4,
};

struct nf_time {
    int64_t sec; /* Unix seconds; may be negative */
    uint32_t nsec;
};

struct nf_source {
    const char *host; /* [A-Za-z0-9._-]+, or null where not yet stamped */
    const char *vm;
    const char *disk;
    uint32_t partition; /* 0: the whole disk */
    uint8_t fs_uuid[16];
};

struct nf_attr {
    uint32_t mode; /* st_mode: type and permission bits */
    uint32_t uid, gid;
    uint32_t links;
    uint64_t size;
    struct nf_time atime, mtime, ctime, crtime;
    uint32_t flags; /* ext4 i_flags that chattr shows */
    uint32_t project;
    uint32_t rdev_major, rdev_minor; /* character and block devices */
};

struct nf_event {
    struct nf_source source;
    uint64_t epoch;
    uint64_t seq;
    uint32_t txn;   /* journal transaction; 0 outside one */
    uint32_t index; /* within the transaction or step, from 0 */
    int64_t time_ns; /* host: when the disk write that made it true completed */
    uint32_t inode;
    uint32_t generation;
    uint32_t flags; /* enum nf_event_flags */
    enum nf_kind kind;

    /* Absolute within the file system, "/" for its root. paths[0] is the path
     * that the event is about; the others are further hard links, bounded.
     * npaths == 0: an inode without a name. */
    const struct nf_bytes *paths;
    size_t npaths;

    union {
        struct { /* CREATE, ENTRY */
            struct nf_attr attr;
            struct nf_bytes target; /* symbolic links */
            uint64_t valid_seq;     /* ENTRY: true as of this seq */
        } create;
        struct { /* UNLINK: paths[0] is the name that went; without a path, a
                    nameless inode was freed */
            bool last; /* no name is left */
            struct nf_attr before;
        } unlink;
        struct { /* RENAME: paths[0] -> new_path; EXCHANGE: the two swap */
            struct nf_bytes new_path;
            uint32_t other_inode; /* RENAME: overwritten file, 0 if none;
                                     EXCHANGE: what was at new_path */
            uint32_t other_generation;
            bool other_last;        /* RENAME: that was its last name */
            struct nf_attr other;   /* its attributes before */
        } rename;
        struct { /* WRITE */
            uint64_t offset;
            uint64_t length; /* of the change, even if data is cut or absent */
            struct nf_bytes data;
            uint64_t plain_length; /* bytes that data stands for, from offset */
            enum nf_codec codec;
        } write;
        struct { /* TRUNCATE */
            uint64_t size_before, size_after;
        } truncate;
        struct { /* ZERO, MOVE_RANGE (from, to, length) */
            uint64_t offset;
            uint64_t length;
            uint64_t to;
        } range;
        struct { /* ATTR */
            uint32_t mask;
            struct nf_attr before, after;
        } attr;
        struct { /* XATTR; name with its prefix, "user.x" */
            struct nf_bytes name;
            struct nf_bytes value; /* as getxattr(2) would return it */
            bool removed;
        } xattr;
        struct { /* COMMIT */
            uint64_t events; /* in this step, the COMMIT not counted */
        } commit;
        struct { /* FS */
            enum nf_fs_state state;
            const char *reason;   /* UNSUPPORTED, GONE; else null */
            const char *type;     /* "ext4", "xfs", ... or null */
            const char *features; /* space-separated names or null */
            struct nf_bytes label;
            uint32_t block_size;
            uint64_t blocks;
            uint64_t inodes;
            uint64_t offset; /* of the file system on the disk, bytes */
        } fs;
        struct { /* GAP, RESYNC_BEGIN, RESYNC_END */
            const char *scope; /* a sentence or null */
            uint64_t lost_requests;
            uint64_t lost_bytes;
        } gap;
        struct { /* HEARTBEAT */
            uint64_t last_seq;
            int64_t oldest_held_ns; /* 0: nothing held */
            uint32_t ring_fill_permille;
        } heartbeat;
    };
};

#endif
