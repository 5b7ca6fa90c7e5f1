/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/logwrites.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/pread_full.h"

typedef unsigned long long ull;

#define ENTRY_BYTES 32 /* of the sector that an entry has */
#define SUPER_BYTES 28
#define MAX_SECTOR 65536u

struct nf_logwrites_reader {
    int fd;
    uint64_t size, disk_size;
    uint64_t counted;
    uint32_t sector;
    uint64_t pos;    /* of the next entry */
    uint64_t number; /* of the next entry */
    bool ended;
};

struct nf_logwrites_writer {
    int fd;
    uint32_t sector;
    uint64_t pos, entries;
    uint64_t data_left; /* of the current entry */
};

static int read_at(struct nf_logwrites_reader *r, uint64_t pos, void *buf, size_t len,
                   struct nf_error *err)
{
    ssize_t n = nf_pread_full(r->fd, buf, len, pos);

    if (n < 0)
        return nf_fail(err, NF_EIO, "read write log: %s", strerror(errno));
    if ((size_t)n < len)
        return nf_fail(err, NF_EFORMAT, "write log: became shorter while being read");
    return NF_OK;
}

struct nf_logwrites_reader *nf_logwrites_open(int fd, uint64_t disk_size, struct nf_error *err)
{
    struct nf_logwrites_reader *r;
    uint8_t super[SUPER_BYTES];
    off_t end = lseek(fd, 0, SEEK_END);

    if (end < 0) {
        nf_fail(err, NF_EIO, "size of the write log: %s", strerror(errno));
        return NULL;
    }
    r = calloc(1, sizeof(*r));
    if (!r) {
        nf_fail(err, NF_ENOMEM, "read write log: no memory");
        return NULL;
    }
    r->fd = fd;
    r->size = (uint64_t)end;
    r->disk_size = disk_size;
    if (r->size < sizeof(super)) {
        nf_fail(err, NF_EFORMAT, "not a write log (too short)");
        goto fail;
    }
    if (read_at(r, 0, super, sizeof(super), err) < 0)
        goto fail;
    if (nf_le64(super) != NF_LOGWRITES_MAGIC) {
        nf_fail(err, NF_EFORMAT, "not a write log (dm-log-writes, blklogwrites)");
        goto fail;
    }
    if (nf_le64(super + 8) != NF_LOGWRITES_VERSION) {
        nf_fail(err, NF_EUNSUPPORTED, "write log: version %llu, only %d is known",
                (ull)nf_le64(super + 8), NF_LOGWRITES_VERSION);
        goto fail;
    }
    r->counted = nf_le64(super + 16);
    r->sector = nf_le32(super + 24);
    if (r->sector < 512 || r->sector > MAX_SECTOR || (r->sector & (r->sector - 1))) {
        nf_fail(err, NF_EFORMAT, "write log: impossible sector size %u", r->sector);
        goto fail;
    }
    r->pos = r->sector;
    return r;
fail:
    free(r);
    return NULL;
}

void nf_logwrites_close(struct nf_logwrites_reader *r)
{
    free(r);
}

uint32_t nf_logwrites_sector_size(const struct nf_logwrites_reader *r)
{
    return r->sector;
}

uint64_t nf_logwrites_counted(const struct nf_logwrites_reader *r)
{
    return r->counted;
}

uint64_t nf_logwrites_size(const struct nf_logwrites_reader *r)
{
    return r->size;
}

/* The entry at r->pos: 1, or negative with what is wrong with it. */
static int parse(struct nf_logwrites_reader *r, struct nf_logwrites_entry *e, uint64_t *after,
                 struct nf_error *err)
{
    uint8_t b[ENTRY_BYTES];
    uint64_t sector, sectors, flags, inline_len, data;
    int ret;

    if (r->pos > r->size || r->size - r->pos < r->sector)
        return nf_fail(err, NF_EFORMAT, "write log: ends before entry %llu, says it has %llu",
                       (ull)r->number, (ull)r->counted);
    ret = read_at(r, r->pos, b, sizeof(b), err);
    if (ret < 0)
        return ret;
    sector = nf_le64(b);
    sectors = nf_le64(b + 8);
    flags = nf_le64(b + 16);
    inline_len = nf_le64(b + 24);

    if (flags & ~(uint64_t)NF_LOG_KNOWN)
        return nf_fail(err, NF_EFORMAT, "write log: entry %llu: unknown flags 0x%llx",
                       (ull)r->number, (ull)flags);
    memset(e, 0, sizeof(*e));
    e->number = r->number;
    e->flags = (uint32_t)flags;
    e->data_pos = r->pos + r->sector;
    *after = e->data_pos;
    if (flags & NF_LOG_MARK) {
        size_t n = sizeof(e->mark) - 1;

        if (inline_len > r->sector - ENTRY_BYTES)
            return nf_fail(err, NF_EFORMAT, "write log: entry %llu: mark of %llu bytes",
                           (ull)r->number, (ull)inline_len);
        if (inline_len < n)
            n = (size_t)inline_len;
        ret = read_at(r, r->pos + ENTRY_BYTES, e->mark, n, err);
        return ret < 0 ? ret : 1;
    }
    if (sectors > r->disk_size / r->sector || sector > r->disk_size / r->sector - sectors)
        return nf_fail(err, NF_EFORMAT,
                       "write log: entry %llu: %llu sectors at %llu are beyond the disk's %llu "
                       "bytes (wrong base image?)",
                       (ull)r->number, (ull)sectors, (ull)sector, (ull)r->disk_size);
    e->offset = sector * r->sector;
    e->length = sectors * r->sector;
    if (!(flags & NF_LOG_DISCARD) && sectors > 0) {
        e->has_data = true;
        data = e->length;
        if (data > r->size - e->data_pos)
            return nf_fail(err, NF_EFORMAT, "write log: ends within the data of entry %llu",
                           (ull)r->number);
        *after += data;
    }
    return 1;
}

int nf_logwrites_next(struct nf_logwrites_reader *r, bool trust_count,
                      struct nf_logwrites_entry *e, struct nf_error *err)
{
    struct nf_error local = { 0 };
    bool counted = r->number < r->counted;
    uint64_t after = 0;
    int ret;

    if (r->ended || (!counted && trust_count))
        return 0;
    ret = parse(r, e, &after, &local);
    if (ret == NF_EFORMAT && !counted)
        ret = 0;
    /* A sector of zeros is space, not an empty write. */
    if (ret == 1 && !counted && !e->flags && !e->length)
        ret = 0;
    if (ret < 0)
        return nf_fail(err, ret, "%s", local.text);
    if (ret == 0) {
        r->ended = true;
        return 0;
    }
    r->pos = after;
    r->number++;
    return 1;
}

int nf_logwrites_read(struct nf_logwrites_reader *r, const struct nf_logwrites_entry *e,
                      uint64_t skip, void *buf, size_t len, struct nf_error *err)
{
    if (!e->has_data || skip > e->length || len > e->length - skip)
        return nf_fail(err, NF_EINVAL, "write log: read beyond the data of entry %llu",
                       (ull)e->number);
    return read_at(r, e->data_pos + skip, buf, len, err);
}

/* --- writing ------------------------------------------------------------ */

static int write_at(struct nf_logwrites_writer *w, const void *data, uint64_t len, uint64_t pos,
                    struct nf_error *err)
{
    const uint8_t *p = data;

    while (len > 0) {
        ssize_t n = pwrite(w->fd, p, len < (1u << 30) ? (size_t)len : 1u << 30, (off_t)pos);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return nf_fail(err, NF_EIO, "write the log: %s", strerror(n < 0 ? errno : ENOSPC));
        p += n;
        pos += (uint64_t)n;
        len -= (uint64_t)n;
    }
    return NF_OK;
}

static int write_super(struct nf_logwrites_writer *w, struct nf_error *err)
{
    uint8_t b[4096] = { 0 };

    nf_put_le64(b, NF_LOGWRITES_MAGIC);
    nf_put_le64(b + 8, NF_LOGWRITES_VERSION);
    nf_put_le64(b + 16, w->entries);
    nf_put_le32(b + 24, w->sector);
    return write_at(w, b, w->sector, 0, err);
}

struct nf_logwrites_writer *nf_logwrites_create(int fd, uint32_t sector_size, struct nf_error *err)
{
    struct nf_logwrites_writer *w;

    if (sector_size != 512 && sector_size != 4096) {
        nf_fail(err, NF_EINVAL, "a log's sector size is 512 or 4096, not %u", sector_size);
        return NULL;
    }
    w = calloc(1, sizeof(*w));
    if (!w) {
        nf_fail(err, NF_ENOMEM, "write the log: no memory");
        return NULL;
    }
    w->fd = fd;
    w->sector = sector_size;
    w->pos = sector_size;
    if (write_super(w, err) < 0) {
        free(w);
        return NULL;
    }
    return w;
}

int nf_logwrites_entry(struct nf_logwrites_writer *w, uint32_t flags, uint64_t offset,
                       uint64_t length, struct nf_error *err)
{
    uint8_t b[4096] = { 0 };
    int ret;

    if (offset % w->sector || length % w->sector)
        return nf_fail(err, NF_EINVAL, "%llu bytes at %llu are not whole sectors of %u bytes",
                       (ull)length, (ull)offset, w->sector);
    if (w->data_left)
        return nf_fail(err, NF_EINVAL, "the log's last entry lacks %llu bytes of data",
                       (ull)w->data_left);
    nf_put_le64(b, offset / w->sector);
    nf_put_le64(b + 8, length / w->sector);
    nf_put_le64(b + 16, flags);
    ret = write_at(w, b, w->sector, w->pos, err);
    if (ret < 0)
        return ret;
    w->pos += w->sector;
    w->entries++;
    w->data_left = flags & (NF_LOG_DISCARD | NF_LOG_MARK) ? 0 : length;
    return NF_OK;
}

int nf_logwrites_data(struct nf_logwrites_writer *w, const void *data, uint64_t len,
                      struct nf_error *err)
{
    int ret;

    if (len > w->data_left)
        return nf_fail(err, NF_EINVAL, "more data than the log's entry has");
    if (data)
        ret = write_at(w, data, len, w->pos, err);
    else /* the file is empty behind pos: a hole will do */
        ret = ftruncate(w->fd, (off_t)(w->pos + len)) < 0
                  ? nf_fail(err, NF_EIO, "write the log: %s", strerror(errno))
                  : NF_OK;
    if (ret == NF_OK) {
        w->pos += len;
        w->data_left -= len;
    }
    return ret;
}

int nf_logwrites_finish(struct nf_logwrites_writer *w, struct nf_error *err)
{
    int ret = NF_OK;

    if (w->data_left)
        ret = nf_fail(err, NF_EINVAL, "the log's last entry lacks %llu bytes of data",
                      (ull)w->data_left);
    if (ret == NF_OK)
        ret = write_super(w, err);
    if (ret == NF_OK && fdatasync(w->fd) < 0)
        ret = nf_fail(err, NF_EIO, "write the log: fdatasync: %s", strerror(errno));
    free(w);
    return ret;
}

void nf_logwrites_discard(struct nf_logwrites_writer *w)
{
    free(w);
}
