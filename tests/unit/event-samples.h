/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events to test with: one of each kind, every field set from a seeded
 * generator, and a comparison of two events field by field.
 */
#ifndef EVENT_SAMPLES_H
#define EVENT_SAMPLES_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "common/event.h"
#include "common/event_pb.h"

struct samples {
    uint64_t state;
    struct nf_bytes paths[20];
    uint8_t bytes[20][300];
    uint8_t content[8192];
};

/* splitmix64 */
static inline uint64_t samples_next(struct samples *s)
{
    uint64_t z = s->state += 0x9e3779b97f4a7c15u;

    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* A path of any bytes that a name may have. */
static inline struct nf_bytes samples_path(struct samples *s, unsigned slot)
{
    size_t len = 1 + samples_next(s) % 290;

    for (size_t i = 0; i < len; i++) {
        s->bytes[slot][i] = (uint8_t)samples_next(s);
        if (s->bytes[slot][i] == 0)
            s->bytes[slot][i] = '*';
    }
    s->bytes[slot][0] = '/';
    return (struct nf_bytes){ s->bytes[slot], len };
}

static inline struct nf_attr samples_attr(struct samples *s)
{
    return (struct nf_attr){
        .mode = (uint32_t)samples_next(s) & 0177777,
        .uid = (uint32_t)samples_next(s),
        .gid = (uint32_t)samples_next(s),
        .links = (uint32_t)samples_next(s),
        .size = samples_next(s),
        .atime = { (int64_t)samples_next(s), (uint32_t)(samples_next(s) % 1000000000) },
        .mtime = { -(int64_t)(samples_next(s) % 100000), 0 },
        .ctime = { 0, (uint32_t)(samples_next(s) % 1000000000) },
        .crtime = { 1700000000, 5 },
        .flags = (uint32_t)samples_next(s),
        .project = (uint32_t)samples_next(s),
        .rdev_major = (uint32_t)samples_next(s) & 0xfff,
        .rdev_minor = (uint32_t)samples_next(s) & 0xfffff,
    };
}

/* What it points to lives in @s until the next call. */
static inline void samples_event(struct samples *s, enum nf_kind kind, struct nf_event *ev)
{
    memset(ev, 0, sizeof(*ev));
    ev->source.host = "h1";
    ev->source.vm = samples_next(s) & 1 ? "vm-2" : NULL;
    ev->source.disk = "d_3";
    ev->source.partition = (uint32_t)(samples_next(s) % 9);
    if (samples_next(s) & 1)
        memcpy(ev->source.fs_uuid, "0123456789abcdef", 16);
    ev->epoch = samples_next(s);
    ev->seq = samples_next(s);
    ev->txn = (uint32_t)samples_next(s);
    ev->index = (uint32_t)samples_next(s);
    ev->time_ns = (int64_t)samples_next(s);
    ev->inode = (uint32_t)samples_next(s);
    ev->generation = (uint32_t)samples_next(s);
    ev->flags = (uint32_t)samples_next(s) & 63;
    ev->kind = kind;
    ev->npaths = samples_next(s) % 19;
    for (unsigned i = 0; i < ev->npaths; i++)
        s->paths[i] = samples_path(s, i);
    ev->paths = ev->npaths ? s->paths : NULL;

    switch (kind) {
    case NF_CREATE:
    case NF_ENTRY:
        ev->create.attr = samples_attr(s);
        ev->create.target = samples_path(s, 19);
        ev->create.valid_seq = samples_next(s);
        break;
    case NF_UNLINK:
        ev->unlink.last = samples_next(s) & 1;
        ev->unlink.before = samples_attr(s);
        break;
    case NF_RENAME:
    case NF_EXCHANGE:
        ev->rename.new_path = samples_path(s, 19);
        ev->rename.other_inode = (uint32_t)samples_next(s) | 1;
        ev->rename.other_generation = (uint32_t)samples_next(s);
        ev->rename.other_last = kind == NF_RENAME && (samples_next(s) & 1);
        if (kind == NF_RENAME)
            ev->rename.other = samples_attr(s);
        break;
    case NF_WRITE: {
        size_t len = samples_next(s) % sizeof(s->content);
        bool plain = samples_next(s) & 1; /* else it does not compress */

        for (size_t i = 0; i < len; i++)
            s->content[i] = plain ? (uint8_t)(i / 64) : (uint8_t)samples_next(s);
        ev->write.offset = samples_next(s) >> 2;
        ev->write.length = len + samples_next(s) % 100;
        ev->write.data = (struct nf_bytes){ len ? s->content : NULL, len };
        ev->write.plain_length = len;
        break;
    }
    case NF_TRUNCATE:
        ev->truncate.size_before = samples_next(s);
        ev->truncate.size_after = samples_next(s);
        break;
    case NF_ZERO:
    case NF_MOVE_RANGE:
        ev->range.offset = samples_next(s);
        ev->range.length = samples_next(s);
        ev->range.to = kind == NF_MOVE_RANGE ? samples_next(s) : 0;
        break;
    case NF_ATTR:
        ev->attr.mask = (uint32_t)samples_next(s) & 0x7ff;
        ev->attr.before = samples_attr(s);
        ev->attr.after = samples_attr(s);
        break;
    case NF_XATTR:
        ev->xattr.name = samples_path(s, 18);
        ev->xattr.value = samples_path(s, 19);
        ev->xattr.removed = samples_next(s) & 1;
        break;
    case NF_COMMIT:
        ev->commit.events = samples_next(s);
        break;
    case NF_FS:
        ev->fs.state = (enum nf_fs_state)(1 + samples_next(s) % 4);
        ev->fs.reason = "because";
        ev->fs.type = "ext4";
        ev->fs.features = "extents 64bit";
        ev->fs.label = samples_path(s, 19);
        ev->fs.block_size = 4096;
        ev->fs.blocks = samples_next(s);
        ev->fs.inodes = samples_next(s);
        ev->fs.offset = samples_next(s);
        break;
    case NF_GAP:
    case NF_RESYNC_BEGIN:
    case NF_RESYNC_END:
        ev->gap.scope = "the whole disk";
        ev->gap.lost_requests = samples_next(s);
        ev->gap.lost_bytes = samples_next(s);
        break;
    case NF_HEARTBEAT:
        ev->heartbeat.last_seq = samples_next(s);
        ev->heartbeat.oldest_held_ns = (int64_t)samples_next(s);
        ev->heartbeat.ring_fill_permille = (uint32_t)samples_next(s) % 1000;
        break;
    default:
        break;
    }
}

static inline bool samples_same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static inline bool samples_same_attr(const struct nf_attr *a, const struct nf_attr *b)
{
    return a->mode == b->mode && a->uid == b->uid && a->gid == b->gid && a->links == b->links &&
           a->size == b->size && a->atime.sec == b->atime.sec && a->atime.nsec == b->atime.nsec &&
           a->mtime.sec == b->mtime.sec && a->mtime.nsec == b->mtime.nsec &&
           a->ctime.sec == b->ctime.sec && a->ctime.nsec == b->ctime.nsec &&
           a->crtime.sec == b->crtime.sec && a->crtime.nsec == b->crtime.nsec &&
           a->flags == b->flags && a->project == b->project && a->rdev_major == b->rdev_major &&
           a->rdev_minor == b->rdev_minor;
}

static inline bool samples_same_content(const struct nf_event *a, const struct nf_event *b)
{
    struct nf_buffer sa = { 0 }, sb = { 0 };
    struct nf_bytes pa, pb;
    bool same = nf_event_content(a, SIZE_MAX, &sa, &pa, NULL) == 0 &&
                nf_event_content(b, SIZE_MAX, &sb, &pb, NULL) == 0 && nf_bytes_equal(pa, pb);

    nf_buffer_release(&sa);
    nf_buffer_release(&sb);
    return same;
}

/* True if both say the same; content is compared plain. */
static inline bool samples_same(const struct nf_event *a, const struct nf_event *b)
{
    if (!samples_same_text(a->source.host, b->source.host) ||
        !samples_same_text(a->source.vm, b->source.vm) ||
        !samples_same_text(a->source.disk, b->source.disk) ||
        a->source.partition != b->source.partition ||
        memcmp(a->source.fs_uuid, b->source.fs_uuid, 16) != 0 || a->epoch != b->epoch ||
        a->seq != b->seq || a->txn != b->txn || a->index != b->index ||
        a->time_ns != b->time_ns || a->inode != b->inode || a->generation != b->generation ||
        a->flags != b->flags || a->kind != b->kind || a->npaths != b->npaths)
        return false;
    for (size_t i = 0; i < a->npaths; i++)
        if (!nf_bytes_equal(a->paths[i], b->paths[i]))
            return false;
    switch (a->kind) {
    case NF_CREATE:
    case NF_ENTRY:
        return samples_same_attr(&a->create.attr, &b->create.attr) &&
               nf_bytes_equal(a->create.target, b->create.target) &&
               a->create.valid_seq == b->create.valid_seq;
    case NF_UNLINK:
        return a->unlink.last == b->unlink.last &&
               samples_same_attr(&a->unlink.before, &b->unlink.before);
    case NF_RENAME:
    case NF_EXCHANGE:
        return nf_bytes_equal(a->rename.new_path, b->rename.new_path) &&
               a->rename.other_inode == b->rename.other_inode &&
               a->rename.other_generation == b->rename.other_generation &&
               a->rename.other_last == b->rename.other_last &&
               samples_same_attr(&a->rename.other, &b->rename.other);
    case NF_WRITE:
        return a->write.offset == b->write.offset && a->write.length == b->write.length &&
               a->write.plain_length == b->write.plain_length && samples_same_content(a, b);
    case NF_TRUNCATE:
        return a->truncate.size_before == b->truncate.size_before &&
               a->truncate.size_after == b->truncate.size_after;
    case NF_ZERO:
    case NF_MOVE_RANGE:
        return a->range.offset == b->range.offset && a->range.length == b->range.length &&
               a->range.to == b->range.to;
    case NF_ATTR:
        return a->attr.mask == b->attr.mask &&
               samples_same_attr(&a->attr.before, &b->attr.before) &&
               samples_same_attr(&a->attr.after, &b->attr.after);
    case NF_XATTR:
        return nf_bytes_equal(a->xattr.name, b->xattr.name) &&
               nf_bytes_equal(a->xattr.value, b->xattr.value) &&
               a->xattr.removed == b->xattr.removed;
    case NF_COMMIT:
        return a->commit.events == b->commit.events;
    case NF_FS:
        return a->fs.state == b->fs.state && samples_same_text(a->fs.reason, b->fs.reason) &&
               samples_same_text(a->fs.type, b->fs.type) &&
               samples_same_text(a->fs.features, b->fs.features) &&
               nf_bytes_equal(a->fs.label, b->fs.label) &&
               a->fs.block_size == b->fs.block_size && a->fs.blocks == b->fs.blocks &&
               a->fs.inodes == b->fs.inodes && a->fs.offset == b->fs.offset;
    case NF_GAP:
    case NF_RESYNC_BEGIN:
    case NF_RESYNC_END:
        return samples_same_text(a->gap.scope, b->gap.scope) &&
               a->gap.lost_requests == b->gap.lost_requests &&
               a->gap.lost_bytes == b->gap.lost_bytes;
    case NF_HEARTBEAT:
        return a->heartbeat.last_seq == b->heartbeat.last_seq &&
               a->heartbeat.oldest_held_ns == b->heartbeat.oldest_held_ns &&
               a->heartbeat.ring_fill_permille == b->heartbeat.ring_fill_permille;
    default:
        return true;
    }
}

#endif
