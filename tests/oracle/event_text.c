/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/oracle/event_text.h"

#include <inttypes.h>
#include <string.h>

#include "consumers/beneath.h"

static const char *const kinds[NF_KIND_MAX + 1] = {
    "?", "create", "link", "unlink", "rename", "exchange", "write", "truncate", "zero",
    "move_range", "attr", "xattr", "commit", "fs", "gap", "resync_begin", "resync_end", "entry",
    "heartbeat",
};

enum nf_kind event_kind(const char *name)
{
    for (int i = 1; i <= NF_KIND_MAX; i++)
        if (strcmp(kinds[i], name) == 0)
            return (enum nf_kind)i;
    return NF_KIND_UNSPECIFIED;
}

void event_text(FILE *out, const struct nf_event *ev)
{
    char text[2000];

    fprintf(out, "%" PRIu64 " txn=%u.%u %s ino=%u/%u flags=%x", ev->seq, ev->txn, ev->index,
            ev->kind <= NF_KIND_MAX ? kinds[ev->kind] : "?", ev->inode, ev->generation,
            ev->flags);
    for (size_t i = 0; i < ev->npaths; i++)
        fprintf(out, " %s", nf_beneath_text(ev->paths[i], text, sizeof(text)));
    switch (ev->kind) {
    case NF_CREATE:
    case NF_ENTRY:
        fprintf(out, " mode=%o size=%" PRIu64 " links=%u mtime=%" PRId64 ".%09u",
                ev->create.attr.mode, ev->create.attr.size, ev->create.attr.links,
                ev->create.attr.mtime.sec, ev->create.attr.mtime.nsec);
        break;
    case NF_UNLINK:
        fprintf(out, " last=%d", ev->unlink.last);
        break;
    case NF_RENAME:
    case NF_EXCHANGE:
        fprintf(out, " -> %s other=%u last=%d",
                nf_beneath_text(ev->rename.new_path, text, sizeof(text)), ev->rename.other_inode,
                ev->rename.other_last);
        break;
    case NF_WRITE:
        fprintf(out, " [%" PRIu64 " +%" PRIu64 "] has %zu", ev->write.offset, ev->write.length,
                ev->write.data.len);
        break;
    case NF_TRUNCATE:
        fprintf(out, " %" PRIu64 " -> %" PRIu64, ev->truncate.size_before,
                ev->truncate.size_after);
        break;
    case NF_ZERO:
    case NF_MOVE_RANGE:
        fprintf(out, " [%" PRIu64 " +%" PRIu64 "] to %" PRIu64, ev->range.offset,
                ev->range.length, ev->range.to);
        break;
    case NF_ATTR:
        fprintf(out, " mask=%x mode=%o %u:%u mtime=%" PRId64 ".%09u", ev->attr.mask,
                ev->attr.after.mode, ev->attr.after.uid, ev->attr.after.gid,
                ev->attr.after.mtime.sec, ev->attr.after.mtime.nsec);
        break;
    case NF_XATTR:
        fprintf(out, " %s %s(%zu bytes)", nf_beneath_text(ev->xattr.name, text, sizeof(text)),
                ev->xattr.removed ? "removed " : "", ev->xattr.value.len);
        break;
    case NF_FS:
        fprintf(out, " state=%d %s", ev->fs.state, ev->fs.reason ? ev->fs.reason : "");
        break;
    default:
        break;
    }
    fputc('\n', out);
}
