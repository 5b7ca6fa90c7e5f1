/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/event_pb.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <zstd.h>

#include "common/event_pb_priv.h"

/* Fast rather than small: an event is on its way to somebody who waits. */
#define ZSTD_LEVEL 1
/* Content is at most 4 MiB, so no frame of ours needs a larger window; a
 * hostile one could ask for 128 MiB. */
#define ZSTD_WINDOW_LOG_MAX 23

struct nf_event_encoder {
    ZSTD_CCtx *zstd;
    struct nf_buffer packed; /* compressed content of the event at hand */
};

static const char *const kind_names[NF_KIND_MAX + 1] = {
    [NF_CREATE] = "create",
    [NF_LINK] = "link",
    [NF_UNLINK] = "unlink",
    [NF_RENAME] = "rename",
    [NF_EXCHANGE] = "exchange",
    [NF_WRITE] = "write",
    [NF_TRUNCATE] = "truncate",
    [NF_ZERO] = "zero",
    [NF_MOVE_RANGE] = "move_range",
    [NF_ATTR] = "attr",
    [NF_XATTR] = "xattr",
    [NF_COMMIT] = "commit",
    [NF_FS] = "fs",
    [NF_GAP] = "gap",
    [NF_RESYNC_BEGIN] = "resync_begin",
    [NF_RESYNC_END] = "resync_end",
    [NF_ENTRY] = "entry",
    [NF_HEARTBEAT] = "heartbeat",
};

const char *nf_kind_name(enum nf_kind kind)
{
    return (unsigned)kind <= NF_KIND_MAX ? kind_names[kind] : NULL;
}

enum nf_kind nf_kind_from_name(const char *name)
{
    for (int k = 1; k <= NF_KIND_MAX; k++)
        if (strcasecmp(name, kind_names[k]) == 0)
            return (enum nf_kind)k;
    return NF_KIND_UNSPECIFIED;
}

bool nf_source_name_valid(const char *name)
{
    size_t n = strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-");

    return n > 0 && n <= NF_SOURCE_NAME_MAX && name[n] == '\0';
}

static void *arena_alloc(void *arena, size_t size)
{
    return nf_arena_alloc(arena, size ? size : 1);
}

static void arena_free(void *arena, void *p)
{
    (void)arena;
    (void)p;
}

ProtobufCAllocator nf_arena_allocator(struct nf_arena *arena)
{
    return (ProtobufCAllocator){ arena_alloc, arena_free, arena };
}

static bool path_valid(const uint8_t *p, size_t len)
{
    return len > 0 && p[0] == '/' && !memchr(p, 0, len);
}

/* ---- C form to message ---- */

struct nf_event_encoder *nf_event_encoder_new(struct nf_error *err)
{
    struct nf_event_encoder *enc = calloc(1, sizeof(*enc));

    if (enc)
        enc->zstd = ZSTD_createCCtx();
    if (!enc || !enc->zstd) {
        free(enc);
        nf_fail(err, NF_ENOMEM, "event encoder: out of memory");
        return NULL;
    }
    ZSTD_CCtx_setParameter(enc->zstd, ZSTD_c_compressionLevel, ZSTD_LEVEL);
    return enc;
}

void nf_event_encoder_free(struct nf_event_encoder *enc)
{
    if (!enc)
        return;
    ZSTD_freeCCtx(enc->zstd);
    nf_buffer_release(&enc->packed);
    free(enc);
}

static ProtobufCBinaryData to_binary(struct nf_bytes b)
{
    return (ProtobufCBinaryData){ b.len, b.len ? (uint8_t *)b.data : NULL };
}

static char *to_string(const char *s)
{
    return s ? (char *)s : (char *)protobuf_c_empty_string;
}

/* One Attr and the messages that it points to. */
struct pb_attr {
    Nearfield__V1__Attr attr;
    Nearfield__V1__Timespec time[4];
};

static Nearfield__V1__Attr *to_attr(struct pb_attr *m, const struct nf_attr *a)
{
    const struct nf_time *times[4] = { &a->atime, &a->mtime, &a->ctime, &a->crtime };
    Nearfield__V1__Timespec **to[4] = { &m->attr.atime, &m->attr.mtime, &m->attr.ctime,
                                        &m->attr.crtime };

    nearfield__v1__attr__init(&m->attr);
    m->attr.mode = a->mode;
    m->attr.uid = a->uid;
    m->attr.gid = a->gid;
    m->attr.links = a->links;
    m->attr.size = a->size;
    m->attr.flags = a->flags;
    m->attr.project = a->project;
    m->attr.rdev_major = a->rdev_major;
    m->attr.rdev_minor = a->rdev_minor;
    for (int i = 0; i < 4; i++) {
        nearfield__v1__timespec__init(&m->time[i]);
        m->time[i].sec = times[i]->sec;
        m->time[i].nsec = times[i]->nsec;
        *to[i] = &m->time[i];
    }
    return &m->attr;
}

/* Fill @m->data from the event, compressed if that pays. */
static int to_content(struct nf_event_encoder *enc, const struct nf_event *ev,
                      Nearfield__V1__Write *m, struct nf_error *err)
{
    size_t len = ev->write.data.len, n;
    uint64_t end;

    if (__builtin_add_overflow(ev->write.offset, ev->write.length, &end))
        return nf_fail(err, NF_EINVAL, "event %llu: range of the write overflows",
                       (unsigned long long)ev->seq);
    m->offset = ev->write.offset;
    m->length = ev->write.length;
    m->data = to_binary(ev->write.data);
    m->plain_length = ev->write.codec == NF_CODEC_NONE ? len : ev->write.plain_length;
    m->codec = (Nearfield__V1__Codec)ev->write.codec;
    if (m->plain_length > NF_EVENT_CONTENT_MAX || m->plain_length > m->length)
        return nf_fail(err, NF_EINVAL, "event %llu: %llu bytes of content in a write of %llu",
                       (unsigned long long)ev->seq, (unsigned long long)m->plain_length,
                       (unsigned long long)m->length);
    if (ev->write.codec != NF_CODEC_NONE || len < NF_EVENT_ZSTD_THRESHOLD)
        return 0;

    nf_buffer_clear(&enc->packed);
    if (!nf_buffer_reserve(&enc->packed, len))
        return nf_fail(err, NF_ENOMEM, "event encoder: out of memory");
    /* Room for less than the plain bytes: what does not shrink fails early. */
    n = ZSTD_compress2(enc->zstd, enc->packed.data, len - 1, ev->write.data.data, len);
    if (!ZSTD_isError(n)) {
        m->data = (ProtobufCBinaryData){ n, enc->packed.data };
        m->codec = NEARFIELD__V1__CODEC__CODEC_ZSTD;
    }
    return 0;
}

int nf_event_encode(struct nf_event_encoder *enc, const struct nf_event *ev,
                    struct nf_buffer *out, struct nf_error *err)
{
    Nearfield__V1__Event m = NEARFIELD__V1__EVENT__INIT;
    Nearfield__V1__Source source = NEARFIELD__V1__SOURCE__INIT;
    Nearfield__V1__Create create = NEARFIELD__V1__CREATE__INIT;
    Nearfield__V1__Unlink unlink = NEARFIELD__V1__UNLINK__INIT;
    Nearfield__V1__Rename rename = NEARFIELD__V1__RENAME__INIT;
    Nearfield__V1__Write write = NEARFIELD__V1__WRITE__INIT;
    Nearfield__V1__Truncate truncate = NEARFIELD__V1__TRUNCATE__INIT;
    Nearfield__V1__Range range = NEARFIELD__V1__RANGE__INIT;
    Nearfield__V1__AttrChange attr = NEARFIELD__V1__ATTR_CHANGE__INIT;
    Nearfield__V1__Xattr xattr = NEARFIELD__V1__XATTR__INIT;
    Nearfield__V1__Commit commit = NEARFIELD__V1__COMMIT__INIT;
    Nearfield__V1__Fs fs = NEARFIELD__V1__FS__INIT;
    Nearfield__V1__Gap gap = NEARFIELD__V1__GAP__INIT;
    Nearfield__V1__Heartbeat heartbeat = NEARFIELD__V1__HEARTBEAT__INIT;
    struct pb_attr a, b;
    ProtobufCBinaryData few[16], *paths = few;
    size_t size;
    uint8_t *to;
    int ret = 0;

    if (ev->npaths > NF_EVENT_PATHS_MAX)
        return nf_fail(err, NF_EINVAL, "event %llu: %zu paths are too many",
                       (unsigned long long)ev->seq, ev->npaths);
    if (ev->npaths > sizeof(few) / sizeof(few[0])) {
        paths = calloc(ev->npaths, sizeof(*paths));
        if (!paths)
            return nf_fail(err, NF_ENOMEM, "event encoder: out of memory");
    }
    for (size_t i = 0; i < ev->npaths; i++) {
        if (!path_valid(ev->paths[i].data, ev->paths[i].len)) {
            ret = nf_fail(err, NF_EINVAL, "event %llu: path %zu is not absolute",
                          (unsigned long long)ev->seq, i);
            goto out;
        }
        paths[i] = to_binary(ev->paths[i]);
    }

    source.host = to_string(ev->source.host);
    source.vm = to_string(ev->source.vm);
    source.disk = to_string(ev->source.disk);
    source.partition = ev->source.partition;
    if (!nf_is_zero(ev->source.fs_uuid, sizeof(ev->source.fs_uuid)))
        source.fs_uuid =
            (ProtobufCBinaryData){ sizeof(ev->source.fs_uuid), (uint8_t *)ev->source.fs_uuid };
    m.source = &source;
    m.epoch = ev->epoch;
    m.seq = ev->seq;
    m.txn = ev->txn;
    m.index = ev->index;
    m.time = ev->time_ns;
    m.inode = ev->inode;
    m.generation = ev->generation;
    m.flags = ev->flags;
    m.kind = (Nearfield__V1__Kind)ev->kind;
    m.n_path = ev->npaths;
    m.path = paths;

    switch (ev->kind) {
    case NF_CREATE:
    case NF_ENTRY:
        create.attr = to_attr(&a, &ev->create.attr);
        create.target = to_binary(ev->create.target);
        create.valid_seq = ev->create.valid_seq;
        m.body_case = NEARFIELD__V1__EVENT__BODY_CREATE;
        m.create = &create;
        break;
    case NF_LINK:
        break;
    case NF_UNLINK:
        unlink.last = ev->unlink.last;
        unlink.before = to_attr(&a, &ev->unlink.before);
        m.body_case = NEARFIELD__V1__EVENT__BODY_UNLINK;
        m.unlink = &unlink;
        break;
    case NF_RENAME:
    case NF_EXCHANGE:
        if (ev->rename.new_path.len &&
            !path_valid(ev->rename.new_path.data, ev->rename.new_path.len)) {
            ret = nf_fail(err, NF_EINVAL, "event %llu: the new path is not absolute",
                          (unsigned long long)ev->seq);
            goto out;
        }
        rename.new_path = to_binary(ev->rename.new_path);
        rename.other_inode = ev->rename.other_inode;
        rename.other_generation = ev->rename.other_generation;
        rename.other_last = ev->rename.other_last;
        if (ev->kind == NF_RENAME && ev->rename.other_inode)
            rename.other = to_attr(&a, &ev->rename.other);
        m.body_case = NEARFIELD__V1__EVENT__BODY_RENAME;
        m.rename = &rename;
        break;
    case NF_WRITE:
        ret = to_content(enc, ev, &write, err);
        if (ret < 0)
            goto out;
        m.body_case = NEARFIELD__V1__EVENT__BODY_WRITE;
        m.write = &write;
        break;
    case NF_TRUNCATE:
        truncate.size_before = ev->truncate.size_before;
        truncate.size_after = ev->truncate.size_after;
        m.body_case = NEARFIELD__V1__EVENT__BODY_TRUNCATE;
        m.truncate = &truncate;
        break;
    case NF_ZERO:
    case NF_MOVE_RANGE:
        range.offset = ev->range.offset;
        range.length = ev->range.length;
        range.to = ev->kind == NF_MOVE_RANGE ? ev->range.to : 0;
        m.body_case = NEARFIELD__V1__EVENT__BODY_RANGE;
        m.range = &range;
        break;
    case NF_ATTR:
        attr.mask = ev->attr.mask;
        attr.before = to_attr(&a, &ev->attr.before);
        attr.after = to_attr(&b, &ev->attr.after);
        m.body_case = NEARFIELD__V1__EVENT__BODY_ATTR;
        m.attr = &attr;
        break;
    case NF_XATTR:
        xattr.name = to_binary(ev->xattr.name);
        xattr.value = to_binary(ev->xattr.value);
        xattr.removed = ev->xattr.removed;
        m.body_case = NEARFIELD__V1__EVENT__BODY_XATTR;
        m.xattr = &xattr;
        break;
    case NF_COMMIT:
        commit.events = ev->commit.events;
        m.body_case = NEARFIELD__V1__EVENT__BODY_COMMIT;
        m.commit = &commit;
        break;
    case NF_FS:
        fs.state = (Nearfield__V1__FsState)ev->fs.state;
        fs.reason = to_string(ev->fs.reason);
        fs.type = to_string(ev->fs.type);
        fs.features = to_string(ev->fs.features);
        fs.label = to_binary(ev->fs.label);
        fs.block_size = ev->fs.block_size;
        fs.blocks = ev->fs.blocks;
        fs.inodes = ev->fs.inodes;
        fs.offset = ev->fs.offset;
        m.body_case = NEARFIELD__V1__EVENT__BODY_FS;
        m.fs = &fs;
        break;
    case NF_GAP:
    case NF_RESYNC_BEGIN:
    case NF_RESYNC_END:
        gap.scope = to_string(ev->gap.scope);
        gap.lost_requests = ev->gap.lost_requests;
        gap.lost_bytes = ev->gap.lost_bytes;
        m.body_case = NEARFIELD__V1__EVENT__BODY_GAP;
        m.gap = &gap;
        break;
    case NF_HEARTBEAT:
        heartbeat.last_seq = ev->heartbeat.last_seq;
        heartbeat.oldest_held = ev->heartbeat.oldest_held_ns;
        heartbeat.ring_fill_permille = ev->heartbeat.ring_fill_permille;
        m.body_case = NEARFIELD__V1__EVENT__BODY_HEARTBEAT;
        m.heartbeat = &heartbeat;
        break;
    default:
        ret = nf_fail(err, NF_EINVAL, "event %llu: unknown kind %d", (unsigned long long)ev->seq,
                      (int)ev->kind);
        goto out;
    }

    size = nearfield__v1__event__get_packed_size(&m);
    if (size > NF_EVENT_MAX) {
        ret = nf_fail(err, NF_EINVAL, "event %llu: %zu bytes are too many",
                      (unsigned long long)ev->seq, size);
        goto out;
    }
    to = nf_buffer_reserve(out, size);
    if (!to) {
        ret = nf_fail(err, NF_ENOMEM, "event encoder: out of memory");
        goto out;
    }
    out->len += nearfield__v1__event__pack(&m, to);
out:
    if (paths != few)
        free(paths);
    return ret;
}

/* ---- message to C form ---- */

static struct nf_bytes from_binary(const ProtobufCBinaryData *b)
{
    return (struct nf_bytes){ b->len ? b->data : NULL, b->len };
}

static const char *from_string(const char *s)
{
    return s && *s ? s : NULL;
}

static struct nf_time from_time(const Nearfield__V1__Timespec *m)
{
    return m ? (struct nf_time){ m->sec, m->nsec } : (struct nf_time){ 0 };
}

static void from_attr(struct nf_attr *a, const Nearfield__V1__Attr *m)
{
    *a = (struct nf_attr){ 0 };
    if (!m)
        return;
    a->mode = m->mode;
    a->uid = m->uid;
    a->gid = m->gid;
    a->links = m->links;
    a->size = m->size;
    a->atime = from_time(m->atime);
    a->mtime = from_time(m->mtime);
    a->ctime = from_time(m->ctime);
    a->crtime = from_time(m->crtime);
    a->flags = m->flags;
    a->project = m->project;
    a->rdev_major = m->rdev_major;
    a->rdev_minor = m->rdev_minor;
}

static int bad(const Nearfield__V1__Event *m, const char *what, struct nf_error *err)
{
    return nf_fail(err, NF_EFORMAT, "event %llu: %s", (unsigned long long)m->seq, what);
}

/* Which body a kind has; NOT_SET: none. */
static Nearfield__V1__Event__BodyCase body_of(enum nf_kind kind)
{
    switch (kind) {
    case NF_CREATE:
    case NF_ENTRY:
        return NEARFIELD__V1__EVENT__BODY_CREATE;
    case NF_UNLINK:
        return NEARFIELD__V1__EVENT__BODY_UNLINK;
    case NF_RENAME:
    case NF_EXCHANGE:
        return NEARFIELD__V1__EVENT__BODY_RENAME;
    case NF_WRITE:
        return NEARFIELD__V1__EVENT__BODY_WRITE;
    case NF_TRUNCATE:
        return NEARFIELD__V1__EVENT__BODY_TRUNCATE;
    case NF_ZERO:
    case NF_MOVE_RANGE:
        return NEARFIELD__V1__EVENT__BODY_RANGE;
    case NF_ATTR:
        return NEARFIELD__V1__EVENT__BODY_ATTR;
    case NF_XATTR:
        return NEARFIELD__V1__EVENT__BODY_XATTR;
    case NF_COMMIT:
        return NEARFIELD__V1__EVENT__BODY_COMMIT;
    case NF_FS:
        return NEARFIELD__V1__EVENT__BODY_FS;
    case NF_GAP:
    case NF_RESYNC_BEGIN:
    case NF_RESYNC_END:
        return NEARFIELD__V1__EVENT__BODY_GAP;
    case NF_HEARTBEAT:
        return NEARFIELD__V1__EVENT__BODY_HEARTBEAT;
    default:
        return NEARFIELD__V1__EVENT__BODY__NOT_SET;
    }
}

static int from_write(const Nearfield__V1__Event *m, struct nf_event *ev, struct nf_error *err)
{
    const Nearfield__V1__Write *w = m->write;
    uint64_t end;

    if (__builtin_add_overflow(w->offset, w->length, &end))
        return bad(m, "range of the write overflows", err);
    if (w->plain_length > w->length || w->plain_length > NF_EVENT_CONTENT_MAX)
        return bad(m, "more content than the write is long", err);
    if (w->codec != NEARFIELD__V1__CODEC__CODEC_NONE &&
        w->codec != NEARFIELD__V1__CODEC__CODEC_ZSTD)
        return bad(m, "content in an unknown codec", err);
    if (w->codec == NEARFIELD__V1__CODEC__CODEC_NONE && w->data.len != w->plain_length)
        return bad(m, "content is not as long as it says", err);
    ev->write.offset = w->offset;
    ev->write.length = w->length;
    ev->write.data = from_binary(&w->data);
    ev->write.plain_length = w->plain_length;
    ev->write.codec = (enum nf_codec)w->codec;
    return 0;
}

int nf_event_from_pb(struct nf_arena *arena, const Nearfield__V1__Event *m, struct nf_event *ev,
                     struct nf_error *err)
{
    struct nf_bytes *paths = NULL;

    memset(ev, 0, sizeof(*ev));
    if (m->source) {
        ev->source.host = from_string(m->source->host);
        ev->source.vm = from_string(m->source->vm);
        ev->source.disk = from_string(m->source->disk);
        ev->source.partition = m->source->partition;
        if (m->source->fs_uuid.len == sizeof(ev->source.fs_uuid))
            memcpy(ev->source.fs_uuid, m->source->fs_uuid.data, sizeof(ev->source.fs_uuid));
        else if (m->source->fs_uuid.len)
            return bad(m, "a file system's UUID that is not 16 bytes", err);
    }
    ev->epoch = m->epoch;
    ev->seq = m->seq;
    ev->txn = m->txn;
    ev->index = m->index;
    ev->time_ns = m->time;
    if (m->inode > UINT32_MAX)
        return bad(m, "inode number of more than 32 bits", err);
    ev->inode = (uint32_t)m->inode;
    ev->generation = m->generation;
    ev->flags = m->flags;
    ev->kind = (enum nf_kind)m->kind;

    if (m->n_path > NF_EVENT_PATHS_MAX)
        return bad(m, "too many paths", err);
    if (m->n_path) {
        paths = nf_arena_alloc(arena, m->n_path * sizeof(*paths));
        if (!paths)
            return nf_fail(err, NF_ENOMEM, "event decoder: over its memory bound");
    }
    for (size_t i = 0; i < m->n_path; i++) {
        if (!path_valid(m->path[i].data, m->path[i].len))
            return bad(m, "a path that is not absolute", err);
        paths[i] = from_binary(&m->path[i]);
    }
    ev->paths = paths;
    ev->npaths = m->n_path;

    /* The generated enum may be unsigned; what was sent may be negative. */
    if ((int)m->kind <= 0)
        return bad(m, "no kind", err);
    if ((int)m->kind > NF_KIND_MAX)
        return 1;
    if (body_of(ev->kind) != NEARFIELD__V1__EVENT__BODY__NOT_SET &&
        m->body_case != body_of(ev->kind))
        return bad(m, "the body is not the one of its kind", err);

    switch (ev->kind) {
    case NF_CREATE:
    case NF_ENTRY:
        from_attr(&ev->create.attr, m->create->attr);
        ev->create.target = from_binary(&m->create->target);
        ev->create.valid_seq = m->create->valid_seq;
        break;
    case NF_UNLINK:
        ev->unlink.last = m->unlink->last;
        from_attr(&ev->unlink.before, m->unlink->before);
        break;
    case NF_RENAME:
    case NF_EXCHANGE:
        if (m->rename->new_path.len &&
            !path_valid(m->rename->new_path.data, m->rename->new_path.len))
            return bad(m, "a new path that is not absolute", err);
        if (m->rename->other_inode > UINT32_MAX)
            return bad(m, "inode number of more than 32 bits", err);
        ev->rename.new_path = from_binary(&m->rename->new_path);
        ev->rename.other_inode = (uint32_t)m->rename->other_inode;
        ev->rename.other_generation = m->rename->other_generation;
        ev->rename.other_last = m->rename->other_last;
        if (ev->kind == NF_RENAME && ev->rename.other_inode)
            from_attr(&ev->rename.other, m->rename->other);
        break;
    case NF_WRITE:
        return from_write(m, ev, err);
    case NF_TRUNCATE:
        ev->truncate.size_before = m->truncate->size_before;
        ev->truncate.size_after = m->truncate->size_after;
        break;
    case NF_ZERO:
    case NF_MOVE_RANGE:
        ev->range.offset = m->range->offset;
        ev->range.length = m->range->length;
        ev->range.to = ev->kind == NF_MOVE_RANGE ? m->range->to : 0;
        break;
    case NF_ATTR:
        ev->attr.mask = m->attr->mask;
        from_attr(&ev->attr.before, m->attr->before);
        from_attr(&ev->attr.after, m->attr->after);
        break;
    case NF_XATTR:
        ev->xattr.name = from_binary(&m->xattr->name);
        ev->xattr.value = from_binary(&m->xattr->value);
        ev->xattr.removed = m->xattr->removed;
        break;
    case NF_COMMIT:
        ev->commit.events = m->commit->events;
        break;
    case NF_FS:
        ev->fs.state = (enum nf_fs_state)m->fs->state;
        ev->fs.reason = from_string(m->fs->reason);
        ev->fs.type = from_string(m->fs->type);
        ev->fs.features = from_string(m->fs->features);
        ev->fs.label = from_binary(&m->fs->label);
        ev->fs.block_size = m->fs->block_size;
        ev->fs.blocks = m->fs->blocks;
        ev->fs.inodes = m->fs->inodes;
        ev->fs.offset = m->fs->offset;
        break;
    case NF_GAP:
    case NF_RESYNC_BEGIN:
    case NF_RESYNC_END:
        ev->gap.scope = from_string(m->gap->scope);
        ev->gap.lost_requests = m->gap->lost_requests;
        ev->gap.lost_bytes = m->gap->lost_bytes;
        break;
    case NF_HEARTBEAT:
        ev->heartbeat.last_seq = m->heartbeat->last_seq;
        ev->heartbeat.oldest_held_ns = m->heartbeat->oldest_held;
        ev->heartbeat.ring_fill_permille = m->heartbeat->ring_fill_permille;
        break;
    default: /* LINK carries nothing more */
        break;
    }
    return 0;
}

int nf_event_decode(struct nf_arena *arena, const void *data, size_t len, struct nf_event *ev,
                    struct nf_error *err)
{
    ProtobufCAllocator alloc = nf_arena_allocator(arena);
    Nearfield__V1__Event *m;

    if (len > NF_EVENT_MAX)
        return nf_fail(err, NF_EFORMAT, "event of %zu bytes is too large", len);
    m = nearfield__v1__event__unpack(&alloc, len, data);
    if (!m)
        return nf_fail(err, NF_EFORMAT, "not a serialized event (%zu bytes)", len);
    return nf_event_from_pb(arena, m, ev, err);
}

int nf_batch_from_pb(struct nf_arena *arena, const Nearfield__V1__Batch *m,
                     struct nf_batch *batch, struct nf_error *err)
{
    struct nf_event *events;

    if (m->n_events == 0 || m->first_seq == 0 || m->last_seq < m->first_seq ||
        m->last_seq - m->first_seq != m->n_events - 1)
        return nf_fail(err, NF_EFORMAT, "batch of %zu events says that it is %llu to %llu",
                       m->n_events, (unsigned long long)m->first_seq,
                       (unsigned long long)m->last_seq);
    if (m->n_events > SIZE_MAX / sizeof(*events))
        return nf_fail(err, NF_EFORMAT, "batch of too many events");
    events = nf_arena_alloc(arena, m->n_events * sizeof(*events));
    if (!events)
        return nf_fail(err, NF_ENOMEM, "batch of %zu events is over the memory bound",
                       m->n_events);
    for (size_t i = 0; i < m->n_events; i++) {
        int ret = nf_event_from_pb(arena, m->events[i], &events[i], err);

        if (ret < 0)
            return ret;
        if (events[i].epoch != m->epoch || events[i].seq != m->first_seq + i)
            return nf_fail(err, NF_EFORMAT, "batch from %llu:%llu holds event %llu:%llu",
                           (unsigned long long)m->epoch, (unsigned long long)m->first_seq,
                           (unsigned long long)events[i].epoch,
                           (unsigned long long)events[i].seq);
    }
    *batch = (struct nf_batch){ m->epoch, m->first_seq, m->last_seq, m->partial != 0, events,
                                m->n_events };
    return 0;
}

int nf_batch_decode(struct nf_arena *arena, const void *data, size_t len, struct nf_batch *batch,
                    struct nf_error *err)
{
    ProtobufCAllocator alloc = nf_arena_allocator(arena);
    Nearfield__V1__Batch *m = nearfield__v1__batch__unpack(&alloc, len, data);

    if (!m)
        return nf_fail(err, NF_EFORMAT, "not a serialized batch, or over the memory bound "
                                        "(%zu bytes)", len);
    return nf_batch_from_pb(arena, m, batch, err);
}

int nf_event_content(const struct nf_event *ev, size_t limit, struct nf_buffer *scratch,
                     struct nf_bytes *plain, struct nf_error *err)
{
    ZSTD_inBuffer in = { ev->write.data.data, ev->write.data.len, 0 };
    ZSTD_outBuffer out = { NULL, 0, 0 };
    ZSTD_DCtx *zstd = NULL;
    size_t want, left = 1;
    int ret = 0;

    if (ev->kind != NF_WRITE)
        return nf_fail(err, NF_EINVAL, "event %llu has no content", (unsigned long long)ev->seq);
    if (ev->write.codec == NF_CODEC_NONE) {
        *plain = ev->write.data;
        if (plain->len > limit)
            plain->len = limit;
        return 0;
    }
    if (ev->write.codec != NF_CODEC_ZSTD || ev->write.plain_length > NF_EVENT_CONTENT_MAX)
        return nf_fail(err, NF_EFORMAT, "event %llu: content cannot be unpacked",
                       (unsigned long long)ev->seq);
    want = ev->write.plain_length < limit ? ev->write.plain_length : limit;
    nf_buffer_clear(scratch);
    /* One byte more than wanted, to notice a frame that holds too much. */
    out.dst = nf_buffer_reserve(scratch, want + 1);
    out.size = want + (want == ev->write.plain_length ? 1 : 0);
    zstd = ZSTD_createDCtx();
    if (!out.dst || !zstd) {
        ret = nf_fail(err, NF_ENOMEM, "content: out of memory");
        goto out;
    }
    ZSTD_DCtx_setParameter(zstd, ZSTD_d_windowLogMax, ZSTD_WINDOW_LOG_MAX);
    while (out.pos < out.size && left != 0) {
        size_t in_before = in.pos, out_before = out.pos;

        left = ZSTD_decompressStream(zstd, &out, &in);
        if (ZSTD_isError(left) || (in.pos == in_before && out.pos == out_before))
            break;
    }
    if (ZSTD_isError(left) || out.pos < want || out.pos > ev->write.plain_length ||
        (want == ev->write.plain_length && (left != 0 || in.pos != in.size))) {
        ret = nf_fail(err, NF_EFORMAT, "event %llu: content does not unpack to %llu bytes",
                      (unsigned long long)ev->seq, (unsigned long long)ev->write.plain_length);
        goto out;
    }
    scratch->len = want;
    *plain = nf_buffer_bytes(scratch);
out:
    ZSTD_freeDCtx(zstd);
    return ret;
}
