/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "consumers/event_line.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "common/event_pb.h"

#define CONTENT_SHOWN 48

/* Length of the printable UTF-8 sequence at @p, or 0. */
static size_t printable(const uint8_t *p, size_t n)
{
    uint32_t c;
    size_t len;

    if (p[0] >= 0x20 && p[0] < 0x7f)
        return p[0] == '\\' ? 0 : 1;
    if (p[0] >= 0xc2 && p[0] <= 0xdf)
        len = 2, c = p[0] & 0x1f;
    else if ((p[0] & 0xf0) == 0xe0)
        len = 3, c = p[0] & 0x0f;
    else if (p[0] >= 0xf0 && p[0] <= 0xf4)
        len = 4, c = p[0] & 0x07;
    else
        return 0;
    if (len > n)
        return 0;
    for (size_t i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        c = c << 6 | (p[i] & 0x3f);
    }
    if ((len == 3 && c < 0x800) || (len == 4 && (c < 0x10000 || c > 0x10ffff)) ||
        (c >= 0xd800 && c <= 0xdfff) || c < 0xa0)
        return 0;
    /* Marks that turn the direction of a line can make it read as another. */
    if ((c >= 0x200b && c <= 0x200f) || (c >= 0x2028 && c <= 0x202e) ||
        (c >= 0x2060 && c <= 0x206f) || c == 0xfeff)
        return 0;
    return len;
}

int nf_escape(struct nf_bytes b, struct nf_buffer *out)
{
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < b.len;) {
        size_t n = printable(b.data + i, b.len - i);

        if (n)
            ret = nf_buffer_append(out, b.data + i, n);
        else if (b.data[i] == '\n')
            ret = nf_buffer_puts(out, "\\n");
        else if (b.data[i] == '\t')
            ret = nf_buffer_puts(out, "\\t");
        else if (b.data[i] == '\\')
            ret = nf_buffer_puts(out, "\\\\");
        else
            ret = nf_buffer_printf(out, "\\x%02x", b.data[i]);
        i += n ? n : 1;
    }
    return ret;
}

static const char *color_of(enum nf_kind kind)
{
    switch (kind) {
    case NF_CREATE:
    case NF_LINK:
        return "\033[32m";
    case NF_UNLINK:
        return "\033[31m";
    case NF_RENAME:
    case NF_EXCHANGE:
        return "\033[36m";
    case NF_ATTR:
    case NF_XATTR:
        return "\033[33m";
    case NF_GAP:
    case NF_RESYNC_BEGIN:
    case NF_RESYNC_END:
        return "\033[1;31m";
    case NF_COMMIT:
    case NF_ENTRY:
    case NF_HEARTBEAT:
        return "\033[2m";
    default:
        return "";
    }
}

static char type_letter(uint32_t mode)
{
    switch (mode & 0170000) {
    case 0040000:
        return 'd';
    case 0120000:
        return 'l';
    case 0020000:
        return 'c';
    case 0060000:
        return 'b';
    case 0010000:
        return 'p';
    case 0140000:
        return 's';
    }
    return '-';
}

static void attributes(const struct nf_attr *a, struct nf_buffer *out)
{
    nf_buffer_printf(out, "  %c%04o %u:%u", type_letter(a->mode), a->mode & 07777, a->uid, a->gid);
    if (type_letter(a->mode) == '-')
        nf_buffer_printf(out, " %llu bytes", (unsigned long long)a->size);
    if ((a->mode & 0170000) == 0020000 || (a->mode & 0170000) == 0060000)
        nf_buffer_printf(out, " device %u:%u", a->rdev_major, a->rdev_minor);
}

static void attr_changes(const struct nf_event *ev, struct nf_buffer *out)
{
    const struct nf_attr *b = &ev->attr.before, *a = &ev->attr.after;
    uint32_t mask = ev->attr.mask;
    static const struct {
        uint32_t bit;
        const char *name;
    } times[] = {{NF_ATTR_ATIME, "atime"}, {NF_ATTR_MTIME, "mtime"}, {NF_ATTR_CTIME, "ctime"},
                 {NF_ATTR_CRTIME, "crtime"}};

    if (mask & NF_ATTR_MODE)
        nf_buffer_printf(out, "  mode %04o -> %04o", b->mode & 07777, a->mode & 07777);
    if (mask & NF_ATTR_UID)
        nf_buffer_printf(out, "  uid %u -> %u", b->uid, a->uid);
    if (mask & NF_ATTR_GID)
        nf_buffer_printf(out, "  gid %u -> %u", b->gid, a->gid);
    if (mask & NF_ATTR_LINKS)
        nf_buffer_printf(out, "  links %u -> %u", b->links, a->links);
    if (mask & NF_ATTR_FLAGS)
        nf_buffer_printf(out, "  flags 0x%x -> 0x%x", b->flags, a->flags);
    if (mask & NF_ATTR_PROJECT)
        nf_buffer_printf(out, "  project %u -> %u", b->project, a->project);
    if (mask & NF_ATTR_RDEV)
        nf_buffer_printf(out, "  device %u:%u -> %u:%u", b->rdev_major, b->rdev_minor,
                         a->rdev_major, a->rdev_minor);
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        if (mask & times[i].bit)
            nf_buffer_printf(out, "  %s", times[i].name);
    }
}

static int content(const struct nf_event *ev, struct nf_buffer *out, struct nf_error *err)
{
    struct nf_buffer scratch = {0};
    struct nf_bytes plain;
    int ret = nf_event_content(ev, CONTENT_SHOWN, &scratch, &plain, err);

    if (ret == 0 && plain.len) {
        nf_buffer_puts(out, "  \"");
        nf_escape(plain, out);
        nf_buffer_puts(out, plain.len < ev->write.length ? "\"..." : "\"");
    }
    nf_buffer_release(&scratch);
    return ret;
}

static int details(const struct nf_event *ev, const struct nf_line_style *style,
                   struct nf_buffer *out, struct nf_error *err)
{
    int ret = 0;

    switch (ev->kind) {
    case NF_CREATE:
    case NF_ENTRY:
        if (ev->create.target.len) {
            nf_buffer_puts(out, " -> ");
            nf_escape(ev->create.target, out);
        }
        attributes(&ev->create.attr, out);
        break;
    case NF_LINK:
        if (ev->npaths > 1) {
            nf_buffer_puts(out, "  same file as ");
            nf_escape(ev->paths[1], out);
        }
        break;
    case NF_UNLINK:
        if (!ev->unlink.last)
            nf_buffer_puts(out, "  other names remain");
        break;
    case NF_RENAME:
    case NF_EXCHANGE:
        nf_buffer_puts(out, ev->kind == NF_RENAME ? " -> " : " <-> ");
        nf_escape(ev->rename.new_path, out);
        if (ev->kind == NF_RENAME && ev->rename.other_inode)
            nf_buffer_puts(out, "  (replaced)");
        break;
    case NF_WRITE:
        nf_buffer_printf(out, "  %llu bytes at %llu", (unsigned long long)ev->write.length,
                         (unsigned long long)ev->write.offset);
        if (style->content)
            ret = content(ev, out, err);
        break;
    case NF_TRUNCATE:
        nf_buffer_printf(out, "  %llu -> %llu bytes", (unsigned long long)ev->truncate.size_before,
                         (unsigned long long)ev->truncate.size_after);
        break;
    case NF_ZERO:
        nf_buffer_printf(out, "  %llu bytes at %llu", (unsigned long long)ev->range.length,
                         (unsigned long long)ev->range.offset);
        break;
    case NF_MOVE_RANGE:
        nf_buffer_printf(out, "  %llu bytes from %llu to %llu",
                         (unsigned long long)ev->range.length, (unsigned long long)ev->range.offset,
                         (unsigned long long)ev->range.to);
        break;
    case NF_ATTR:
        attr_changes(ev, out);
        break;
    case NF_XATTR:
        nf_buffer_puts(out, "  ");
        nf_escape(ev->xattr.name, out);
        if (ev->xattr.removed) {
            nf_buffer_puts(out, " removed");
        } else {
            struct nf_bytes v = ev->xattr.value;

            v.len = v.len < CONTENT_SHOWN ? v.len : CONTENT_SHOWN;
            nf_buffer_puts(out, " = \"");
            nf_escape(v, out);
            nf_buffer_puts(out, v.len < ev->xattr.value.len ? "\"..." : "\"");
        }
        break;
    case NF_COMMIT:
        nf_buffer_printf(out, "transaction %u, %llu events", ev->txn,
                         (unsigned long long)ev->commit.events);
        break;
    case NF_FS: {
        static const char *const states[] = {"?", "attached", "gone", "grown", "unsupported"};

        nf_buffer_printf(out, "%s %s", ev->fs.type ? ev->fs.type : "unknown",
                         ev->fs.state < 5 ? states[ev->fs.state] : "?");
        if (ev->source.partition)
            nf_buffer_printf(out, " on partition %u", ev->source.partition);
        if (ev->fs.reason)
            nf_buffer_printf(out, ": %s", ev->fs.reason);
        break;
    }
    case NF_GAP:
    case NF_RESYNC_BEGIN:
    case NF_RESYNC_END:
        if (ev->gap.scope)
            nf_buffer_puts(out, ev->gap.scope);
        if (ev->gap.lost_requests)
            nf_buffer_printf(out, " (%llu writes)", (unsigned long long)ev->gap.lost_requests);
        break;
    default:
        break;
    }
    return ret;
}

int nf_event_line(const struct nf_event *ev, const struct nf_line_style *style,
                  struct nf_buffer *out, struct nf_error *err)
{
    time_t sec = (time_t)(ev->time_ns / 1000000000);
    const char *kind = nf_kind_name(ev->kind);
    struct tm tm;
    char text[32];
    int ret;

    if (localtime_r(&sec, &tm) && strftime(text, sizeof(text), "%H:%M:%S", &tm))
        nf_buffer_printf(out, "%s.%03d  ", text, (int)(ev->time_ns % 1000000000 / 1000000));
    if (style->source && ev->source.host) {
        nf_buffer_printf(out, "%s/%s/%s", ev->source.host, ev->source.vm, ev->source.disk);
        if (ev->source.partition)
            nf_buffer_printf(out, ".p%u", ev->source.partition);
        nf_buffer_puts(out, "  ");
    }
    nf_buffer_printf(out, "%s%-9s%s ", style->color ? color_of(ev->kind) : "", kind ? kind : "?",
                     style->color ? "\033[0m" : "");
    if (ev->npaths) {
        nf_escape(ev->paths[0], out);
    } else if (ev->inode) {
        nf_buffer_printf(out, "(inode %u, no name)", ev->inode);
    }
    ret = details(ev, style, out, err);
    if (ev->flags & NF_EV_READBACK)
        nf_buffer_puts(out, "  [read back]");
    if (ev->flags & NF_EV_ENCRYPTED)
        nf_buffer_puts(out, "  [encrypted]");
    if (ret == 0)
        ret = nf_buffer_puts(out, "\n");
    return ret;
}
