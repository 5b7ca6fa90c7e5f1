/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/event_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/event_pb.h"
#include "common/json.h"

static const char *type_name(uint32_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFREG:
        return "file";
    case S_IFDIR:
        return "directory";
    case S_IFLNK:
        return "symlink";
    case S_IFCHR:
        return "char_device";
    case S_IFBLK:
        return "block_device";
    case S_IFIFO:
        return "fifo";
    case S_IFSOCK:
        return "socket";
    default:
        return "unknown";
    }
}

static void put_attr(struct nf_json *j, const char *name, const struct nf_attr *a)
{
    nf_json_key(j, name);
    nf_json_open(j, "{");
    nf_json_string(j, "type", type_name(a->mode));
    nf_json_key(j, "mode");
    nf_json_printf(j, "\"%04o\"", a->mode & 07777);
    nf_json_u64(j, "uid", a->uid);
    nf_json_u64(j, "gid", a->gid);
    nf_json_u64(j, "links", a->links);
    nf_json_u64(j, "size", a->size);
    nf_json_time(j, "atime", a->atime.sec, a->atime.nsec);
    nf_json_time(j, "mtime", a->mtime.sec, a->mtime.nsec);
    nf_json_time(j, "ctime", a->ctime.sec, a->ctime.nsec);
    nf_json_time(j, "crtime", a->crtime.sec, a->crtime.nsec);
    nf_json_u64(j, "flags", a->flags);
    nf_json_u64(j, "project", a->project);
    if (S_ISCHR(a->mode) || S_ISBLK(a->mode)) {
        nf_json_u64(j, "rdev_major", a->rdev_major);
        nf_json_u64(j, "rdev_minor", a->rdev_minor);
    }
    nf_json_close(j, "}");
}

/* The names of the bits set in @bits; what has no name as "bit_N". */
static void put_bits(struct nf_json *j, const char *name, uint32_t bits, const char *const *names,
                     unsigned n)
{
    nf_json_key(j, name);
    nf_json_open(j, "[");
    for (unsigned i = 0; i < 32; i++) {
        if (!(bits >> i & 1))
            continue;
        if (i < n)
            nf_json_printf(j, "\"%s\"", names[i]);
        else
            nf_json_printf(j, "\"bit_%u\"", i);
    }
    nf_json_close(j, "]");
}

static void put_source(struct nf_json *j, const struct nf_source *s)
{
    nf_json_key(j, "source");
    nf_json_open(j, "{");
    if (s->host)
        nf_json_string(j, "host", s->host);
    if (s->vm)
        nf_json_string(j, "vm", s->vm);
    if (s->disk)
        nf_json_string(j, "disk", s->disk);
    nf_json_u64(j, "partition", s->partition);
    if (!nf_is_zero(s->fs_uuid, sizeof(s->fs_uuid)))
        nf_json_uuid(j, "fs_uuid", s->fs_uuid);
    nf_json_close(j, "}");
}

static void put_fs(struct nf_json *j, const struct nf_event *ev)
{
    static const char *const states[] = { "unspecified", "attached", "gone", "grown",
                                          "unsupported" };
    unsigned state = (unsigned)ev->fs.state;

    nf_json_string(j, "state", state < 5 ? states[state] : "unknown");
    if (ev->fs.reason)
        nf_json_string(j, "reason", ev->fs.reason);
    if (ev->fs.type)
        nf_json_string(j, "type", ev->fs.type);
    if (ev->fs.features)
        nf_json_string(j, "features", ev->fs.features);
    if (ev->fs.label.len)
        nf_json_bytes(j, "label", ev->fs.label);
    nf_json_u64(j, "block_size", ev->fs.block_size);
    nf_json_u64(j, "blocks", ev->fs.blocks);
    nf_json_u64(j, "inodes", ev->fs.inodes);
    nf_json_u64(j, "offset", ev->fs.offset);
}

static int put_write(struct nf_json *j, const struct nf_event *ev, bool content,
                     struct nf_error *err)
{
    struct nf_buffer scratch = { 0 };
    struct nf_bytes plain;
    int ret;

    nf_json_u64(j, "offset", ev->write.offset);
    nf_json_u64(j, "length", ev->write.length);
    nf_json_u64(j, "data_length",
            ev->write.codec == NF_CODEC_NONE ? ev->write.data.len : ev->write.plain_length);
    if (!content)
        return 0;
    ret = nf_event_content(ev, SIZE_MAX, &scratch, &plain, err);
    if (ret == 0)
        nf_json_base64(j, "data", plain);
    nf_buffer_release(&scratch);
    return ret;
}

static int put_body(struct nf_json *j, const struct nf_event *ev, bool content, struct nf_error *err)
{
    static const char *const attr_bits[] = { "mode",   "uid",   "gid",     "atime", "mtime", "ctime",
                                             "crtime", "flags", "project", "links", "rdev" };

    switch (ev->kind) {
    case NF_CREATE:
    case NF_ENTRY:
        put_attr(j, "attr", &ev->create.attr);
        if (S_ISLNK(ev->create.attr.mode))
            nf_json_bytes(j, "target", ev->create.target);
        if (ev->kind == NF_ENTRY)
            nf_json_u64(j, "valid_seq", ev->create.valid_seq);
        break;
    case NF_UNLINK:
        nf_json_bool(j, "last", ev->unlink.last);
        put_attr(j, "before", &ev->unlink.before);
        break;
    case NF_RENAME:
    case NF_EXCHANGE:
        if (ev->rename.new_path.len)
            nf_json_bytes(j, "new_path", ev->rename.new_path);
        if (ev->rename.other_inode) {
            nf_json_u64(j, "other_inode", ev->rename.other_inode);
            nf_json_u64(j, "other_generation", ev->rename.other_generation);
            if (ev->kind == NF_RENAME) {
                nf_json_bool(j, "other_last", ev->rename.other_last);
                put_attr(j, "other", &ev->rename.other);
            }
        }
        break;
    case NF_WRITE:
        return put_write(j, ev, content, err);
    case NF_TRUNCATE:
        nf_json_u64(j, "size_before", ev->truncate.size_before);
        nf_json_u64(j, "size_after", ev->truncate.size_after);
        break;
    case NF_ZERO:
    case NF_MOVE_RANGE:
        nf_json_u64(j, "offset", ev->range.offset);
        nf_json_u64(j, "length", ev->range.length);
        if (ev->kind == NF_MOVE_RANGE)
            nf_json_u64(j, "to", ev->range.to);
        break;
    case NF_ATTR:
        put_bits(j, "changed", ev->attr.mask, attr_bits, 11);
        put_attr(j, "before", &ev->attr.before);
        put_attr(j, "after", &ev->attr.after);
        break;
    case NF_XATTR:
        nf_json_bytes(j, "name", ev->xattr.name);
        nf_json_bool(j, "removed", ev->xattr.removed);
        if (!ev->xattr.removed)
            nf_json_bytes(j, "value", ev->xattr.value);
        break;
    case NF_COMMIT:
        nf_json_u64(j, "events", ev->commit.events);
        break;
    case NF_FS:
        put_fs(j, ev);
        break;
    case NF_GAP:
    case NF_RESYNC_BEGIN:
    case NF_RESYNC_END:
        if (ev->gap.scope)
            nf_json_string(j, "scope", ev->gap.scope);
        nf_json_u64(j, "lost_requests", ev->gap.lost_requests);
        nf_json_u64(j, "lost_bytes", ev->gap.lost_bytes);
        break;
    case NF_HEARTBEAT:
        nf_json_u64(j, "last_seq", ev->heartbeat.last_seq);
        if (ev->heartbeat.oldest_held_ns)
            nf_json_time_ns(j, "oldest_held", ev->heartbeat.oldest_held_ns);
        nf_json_u64(j, "ring_fill_permille", ev->heartbeat.ring_fill_permille);
        break;
    default:
        break;
    }
    return 0;
}

int nf_event_json(const struct nf_event *ev, bool content, struct nf_buffer *out,
                  struct nf_error *err)
{
    static const char *const flags[] = { "readback", "relocated", "unsettled", "unordered",
                                         "truncated", "encrypted" };
    const char *kind = nf_kind_name(ev->kind);
    struct nf_json j = { .out = out };
    size_t start = out->len;
    int ret;

    nf_json_open(&j, "{");
    put_source(&j, &ev->source);
    nf_json_u64(&j, "epoch", ev->epoch);
    nf_json_u64(&j, "seq", ev->seq);
    nf_json_u64(&j, "txn", ev->txn);
    nf_json_u64(&j, "index", ev->index);
    nf_json_time_ns(&j, "time", ev->time_ns);
    nf_json_u64(&j, "inode", ev->inode);
    nf_json_u64(&j, "generation", ev->generation);
    put_bits(&j, "flags", ev->flags, flags, 6);
    nf_json_key(&j, "kind");
    if (kind)
        nf_json_printf(&j, "\"%s\"", kind);
    else
        nf_json_printf(&j, "\"kind_%u\"", (unsigned)ev->kind);
    if (ev->npaths)
        nf_json_bytes(&j, "path", ev->paths[0]);
    if (ev->npaths > 1) {
        nf_json_key(&j, "links");
        nf_json_open(&j, "[");
        for (size_t i = 1; i < ev->npaths; i++) {
            nf_json_open(&j, "{");
            nf_json_bytes(&j, "path", ev->paths[i]);
            nf_json_close(&j, "}");
        }
        nf_json_close(&j, "]");
    }
    ret = put_body(&j, ev, content, err);
    nf_json_close(&j, "}");
    j.bad |= nf_buffer_puts(out, "\n") < 0;
    if (ret == 0 && j.bad)
        ret = nf_fail(err, NF_ENOMEM, "JSON: out of memory");
    if (ret < 0)
        out->len = start;
    return ret;
}
