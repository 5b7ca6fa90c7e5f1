/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/event_json.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "common/event_pb.h"
#include "common/utf8.h"

/* Output so far, and whether a comma is due. Failures are remembered in @bad,
 * so that each key need not be checked. */
struct json {
    struct nf_buffer *out;
    bool comma;
    bool bad;
};

static void raw(struct json *j, const char *s, size_t n)
{
    if (nf_buffer_append(j->out, s, n) < 0)
        j->bad = true;
}

static void text(struct json *j, const char *s)
{
    raw(j, s, strlen(s));
}

#define number(j, ...)                                                                             \
    do {                                                                                           \
        if (nf_buffer_printf((j)->out, __VA_ARGS__) < 0)                                           \
            (j)->bad = true;                                                                       \
    } while (0)

static void key(struct json *j, const char *name)
{
    text(j, j->comma ? ",\"" : "\"");
    text(j, name);
    text(j, "\":");
    j->comma = true;
}

static void open_with(struct json *j, const char *bracket)
{
    text(j, bracket);
    j->comma = false;
}

static void close_with(struct json *j, const char *bracket)
{
    text(j, bracket);
    j->comma = true;
}

/* A JSON string of @b; returns false if some bytes were replaced. */
static bool string(struct json *j, struct nf_bytes b)
{
    size_t done = 0, i = 0;
    bool exact = true;

    raw(j, "\"", 1);
    while (i < b.len) {
        size_t n = nf_utf8_length(b.data + i, b.len - i);
        uint8_t c = b.data[i];

        /* DEL and the C1 controls (U+0080 to U+009F) are legal in JSON, but
         * they would reach a terminal. */
        if (n == 1 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            i++;
            continue;
        }
        if (n > 1 && !(n == 2 && c == 0xc2 && b.data[i + 1] < 0xa0)) {
            i += n;
            continue;
        }
        raw(j, (const char *)b.data + done, i - done);
        if (n == 0) {
            text(j, "\xef\xbf\xbd");
            exact = false;
            n = 1;
        } else if (c == '"' || c == '\\') {
            raw(j, c == '"' ? "\\\"" : "\\\\", 2);
        } else if (c == '\n') {
            raw(j, "\\n", 2);
        } else if (c == '\t') {
            raw(j, "\\t", 2);
        } else {
            number(j, "\\u%04x", n == 2 ? b.data[i + 1] : c);
        }
        i += n;
        done = i;
    }
    if (b.len)
        raw(j, (const char *)b.data + done, b.len - done);
    raw(j, "\"", 1);
    return exact;
}

static void hex(struct json *j, struct nf_bytes b)
{
    static const char digits[] = "0123456789abcdef";

    raw(j, "\"", 1);
    for (size_t i = 0; i < b.len; i++) {
        char two[2] = { digits[b.data[i] >> 4], digits[b.data[i] & 15] };

        raw(j, two, 2);
    }
    raw(j, "\"", 1);
}

/* "name": text, and "name_hex" when that is not all of it. */
static void put_bytes(struct json *j, const char *name, struct nf_bytes b)
{
    char hex_name[32];

    key(j, name);
    if (string(j, b))
        return;
    snprintf(hex_name, sizeof(hex_name), "%s_hex", name);
    key(j, hex_name);
    hex(j, b);
}

static void put_string(struct json *j, const char *name, const char *s)
{
    key(j, name);
    string(j, (struct nf_bytes){ (const uint8_t *)s, strlen(s) });
}

static void put_u64(struct json *j, const char *name, uint64_t v)
{
    key(j, name);
    number(j, "%" PRIu64, v);
}

static void put_bool(struct json *j, const char *name, bool v)
{
    key(j, name);
    text(j, v ? "true" : "false");
}

/* Days since 1970-01-01 to a civil date, for any 64-bit second: gmtime(3)
 * fails on years that do not fit an int, and a guest chooses its times. */
static void civil(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
    int64_t era, doe, yoe, doy, mp;

    days += 719468;
    era = (days >= 0 ? days : days - 146096) / 146097;
    doe = days - era * 146097;
    yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    mp = (5 * doy + 2) / 153;
    *day = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
    *month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    *year = yoe + era * 400 + (*month <= 2);
}

static void put_time(struct json *j, const char *name, int64_t sec, uint32_t nsec)
{
    int64_t days = sec / 86400, rest = sec % 86400, year;
    unsigned month, day;

    if (rest < 0) {
        rest += 86400;
        days--;
    }
    civil(days, &year, &month, &day);
    key(j, name);
    number(j, "\"%04" PRId64 "-%02u-%02uT%02d:%02d:%02d.%09" PRIu32 "Z\"", year, month, day,
           (int)(rest / 3600), (int)(rest / 60 % 60), (int)(rest % 60), nsec % 1000000000u);
}

static void put_time_ns(struct json *j, const char *name, int64_t ns)
{
    int64_t sec = ns / 1000000000, rest = ns % 1000000000;

    if (rest < 0) {
        rest += 1000000000;
        sec--;
    }
    put_time(j, name, sec, (uint32_t)rest);
}

static void put_base64(struct json *j, const char *name, struct nf_bytes b)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *to;
    size_t n = 0;

    key(j, name);
    raw(j, "\"", 1);
    to = (char *)nf_buffer_reserve(j->out, b.len / 3 * 4 + 4);
    if (!to) {
        j->bad = true;
        return;
    }
    for (size_t i = 0; i < b.len; i += 3) {
        size_t k = b.len - i < 3 ? b.len - i : 3;
        uint32_t v = (uint32_t)b.data[i] << 16 | (k > 1 ? (uint32_t)b.data[i + 1] << 8 : 0) |
                     (k > 2 ? b.data[i + 2] : 0);

        to[n++] = digits[v >> 18];
        to[n++] = digits[v >> 12 & 63];
        to[n++] = k > 1 ? digits[v >> 6 & 63] : '=';
        to[n++] = k > 2 ? digits[v & 63] : '=';
    }
    j->out->len += n;
    raw(j, "\"", 1);
}

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

static void put_attr(struct json *j, const char *name, const struct nf_attr *a)
{
    key(j, name);
    open_with(j, "{");
    put_string(j, "type", type_name(a->mode));
    key(j, "mode");
    number(j, "\"%04o\"", a->mode & 07777);
    put_u64(j, "uid", a->uid);
    put_u64(j, "gid", a->gid);
    put_u64(j, "links", a->links);
    put_u64(j, "size", a->size);
    put_time(j, "atime", a->atime.sec, a->atime.nsec);
    put_time(j, "mtime", a->mtime.sec, a->mtime.nsec);
    put_time(j, "ctime", a->ctime.sec, a->ctime.nsec);
    put_time(j, "crtime", a->crtime.sec, a->crtime.nsec);
    put_u64(j, "flags", a->flags);
    put_u64(j, "project", a->project);
    if (S_ISCHR(a->mode) || S_ISBLK(a->mode)) {
        put_u64(j, "rdev_major", a->rdev_major);
        put_u64(j, "rdev_minor", a->rdev_minor);
    }
    close_with(j, "}");
}

/* The names of the bits set in @bits; what has no name as "bit_N". */
static void put_bits(struct json *j, const char *name, uint32_t bits, const char *const *names,
                     unsigned n)
{
    key(j, name);
    open_with(j, "[");
    for (unsigned i = 0; i < 32; i++) {
        if (!(bits >> i & 1))
            continue;
        if (j->comma)
            raw(j, ",", 1);
        if (i < n)
            number(j, "\"%s\"", names[i]);
        else
            number(j, "\"bit_%u\"", i);
        j->comma = true;
    }
    close_with(j, "]");
}

static void put_source(struct json *j, const struct nf_source *s)
{
    key(j, "source");
    open_with(j, "{");
    if (s->host)
        put_string(j, "host", s->host);
    if (s->vm)
        put_string(j, "vm", s->vm);
    if (s->disk)
        put_string(j, "disk", s->disk);
    put_u64(j, "partition", s->partition);
    if (!nf_is_zero(s->fs_uuid, sizeof(s->fs_uuid))) {
        const uint8_t *u = s->fs_uuid;

        key(j, "fs_uuid");
        number(j,
               "\"%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\"", u[0],
               u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12], u[13],
               u[14], u[15]);
    }
    close_with(j, "}");
}

static void put_fs(struct json *j, const struct nf_event *ev)
{
    static const char *const states[] = { "unspecified", "attached", "gone", "grown",
                                          "unsupported" };
    unsigned state = (unsigned)ev->fs.state;

    put_string(j, "state", state < 5 ? states[state] : "unknown");
    if (ev->fs.reason)
        put_string(j, "reason", ev->fs.reason);
    if (ev->fs.type)
        put_string(j, "type", ev->fs.type);
    if (ev->fs.features)
        put_string(j, "features", ev->fs.features);
    if (ev->fs.label.len)
        put_bytes(j, "label", ev->fs.label);
    put_u64(j, "block_size", ev->fs.block_size);
    put_u64(j, "blocks", ev->fs.blocks);
    put_u64(j, "inodes", ev->fs.inodes);
    put_u64(j, "offset", ev->fs.offset);
}

static int put_write(struct json *j, const struct nf_event *ev, bool content,
                     struct nf_error *err)
{
    struct nf_buffer scratch = { 0 };
    struct nf_bytes plain;
    int ret;

    put_u64(j, "offset", ev->write.offset);
    put_u64(j, "length", ev->write.length);
    put_u64(j, "data_length",
            ev->write.codec == NF_CODEC_NONE ? ev->write.data.len : ev->write.plain_length);
    if (!content)
        return 0;
    ret = nf_event_content(ev, SIZE_MAX, &scratch, &plain, err);
    if (ret == 0)
        put_base64(j, "data", plain);
    nf_buffer_release(&scratch);
    return ret;
}

static int put_body(struct json *j, const struct nf_event *ev, bool content, struct nf_error *err)
{
    static const char *const attr_bits[] = { "mode",   "uid",   "gid",     "atime", "mtime", "ctime",
                                             "crtime", "flags", "project", "links", "rdev" };

    switch (ev->kind) {
    case NF_CREATE:
    case NF_ENTRY:
        put_attr(j, "attr", &ev->create.attr);
        if (S_ISLNK(ev->create.attr.mode))
            put_bytes(j, "target", ev->create.target);
        if (ev->kind == NF_ENTRY)
            put_u64(j, "valid_seq", ev->create.valid_seq);
        break;
    case NF_UNLINK:
        put_bool(j, "last", ev->unlink.last);
        put_attr(j, "before", &ev->unlink.before);
        break;
    case NF_RENAME:
    case NF_EXCHANGE:
        if (ev->rename.new_path.len)
            put_bytes(j, "new_path", ev->rename.new_path);
        if (ev->rename.other_inode) {
            put_u64(j, "other_inode", ev->rename.other_inode);
            put_u64(j, "other_generation", ev->rename.other_generation);
            if (ev->kind == NF_RENAME) {
                put_bool(j, "other_last", ev->rename.other_last);
                put_attr(j, "other", &ev->rename.other);
            }
        }
        break;
    case NF_WRITE:
        return put_write(j, ev, content, err);
    case NF_TRUNCATE:
        put_u64(j, "size_before", ev->truncate.size_before);
        put_u64(j, "size_after", ev->truncate.size_after);
        break;
    case NF_ZERO:
    case NF_MOVE_RANGE:
        put_u64(j, "offset", ev->range.offset);
        put_u64(j, "length", ev->range.length);
        if (ev->kind == NF_MOVE_RANGE)
            put_u64(j, "to", ev->range.to);
        break;
    case NF_ATTR:
        put_bits(j, "changed", ev->attr.mask, attr_bits, 11);
        put_attr(j, "before", &ev->attr.before);
        put_attr(j, "after", &ev->attr.after);
        break;
    case NF_XATTR:
        put_bytes(j, "name", ev->xattr.name);
        put_bool(j, "removed", ev->xattr.removed);
        if (!ev->xattr.removed)
            put_bytes(j, "value", ev->xattr.value);
        break;
    case NF_COMMIT:
        put_u64(j, "events", ev->commit.events);
        break;
    case NF_FS:
        put_fs(j, ev);
        break;
    case NF_GAP:
    case NF_RESYNC_BEGIN:
    case NF_RESYNC_END:
        if (ev->gap.scope)
            put_string(j, "scope", ev->gap.scope);
        put_u64(j, "lost_requests", ev->gap.lost_requests);
        put_u64(j, "lost_bytes", ev->gap.lost_bytes);
        break;
    case NF_HEARTBEAT:
        put_u64(j, "last_seq", ev->heartbeat.last_seq);
        if (ev->heartbeat.oldest_held_ns)
            put_time_ns(j, "oldest_held", ev->heartbeat.oldest_held_ns);
        put_u64(j, "ring_fill_permille", ev->heartbeat.ring_fill_permille);
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
    struct json j = { .out = out };
    size_t start = out->len;
    int ret;

    open_with(&j, "{");
    put_source(&j, &ev->source);
    put_u64(&j, "epoch", ev->epoch);
    put_u64(&j, "seq", ev->seq);
    put_u64(&j, "txn", ev->txn);
    put_u64(&j, "index", ev->index);
    put_time_ns(&j, "time", ev->time_ns);
    put_u64(&j, "inode", ev->inode);
    put_u64(&j, "generation", ev->generation);
    put_bits(&j, "flags", ev->flags, flags, 6);
    key(&j, "kind");
    if (kind)
        number(&j, "\"%s\"", kind);
    else
        number(&j, "\"kind_%u\"", (unsigned)ev->kind);
    if (ev->npaths)
        put_bytes(&j, "path", ev->paths[0]);
    if (ev->npaths > 1) {
        key(&j, "links");
        open_with(&j, "[");
        for (size_t i = 1; i < ev->npaths; i++) {
            text(&j, i > 1 ? ",{" : "{");
            j.comma = false;
            put_bytes(&j, "path", ev->paths[i]);
            text(&j, "}");
        }
        close_with(&j, "]");
    }
    ret = put_body(&j, ev, content, err);
    text(&j, "}\n");
    if (ret == 0 && j.bad)
        ret = nf_fail(err, NF_ENOMEM, "JSON: out of memory");
    if (ret < 0)
        out->len = start;
    return ret;
}
