/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/undo.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "bdi/u64map.h"
#include "common/bytes.h"
#include "common/crc32c.h"
#include "common/pread_full.h"

/* An entry: little-endian header, then the bytes. The checksum covers the
 * header after it and the bytes. */
enum {
    E_MAGIC = 0,
    E_CRC = 4,
    E_GENERATION = 8,
    E_OFFSET = 16,
    E_LEN = 24,
    E_AREA = 28,
    E_HEADER = 32,
};
#define MAGIC 0x6f646e75u /* "undo" */

struct undo {
    int fd;
    uint64_t generation; /* 0: keep nothing */
    uint64_t end;        /* of the log */
    struct u64map kept;  /* since the save: key to the length kept */
    uint64_t *keys;      /* the same keys, to be forgotten one by one */
    size_t nkeys, room;
};

struct undo *undo_new(int fd, struct nf_error *err)
{
    struct undo *u = calloc(1, sizeof(*u));

    if (!u) {
        nf_fail(err, NF_ENOMEM, "undo log: out of memory");
        return NULL;
    }
    u->fd = fd;
    u64map_init(&u->kept);
    return u;
}

void undo_free(struct undo *u)
{
    if (!u)
        return;
    u64map_release(&u->kept);
    free(u->keys);
    free(u);
}

void undo_restart(struct undo *u, uint64_t generation)
{
    /* Not u64map_clear(): one large step would make all later ones pay. */
    for (size_t i = 0; i < u->nkeys; i++)
        u64map_remove(&u->kept, u->keys[i]);
    u->nkeys = 0;
    u->end = 0;
    u->generation = generation;
}

static int note(struct undo *u, uint64_t key, uint32_t len, struct nf_error *err)
{
    if (u->nkeys == u->room) {
        size_t room = u->room ? 2 * u->room : 1024;
        uint64_t *keys = reallocarray(u->keys, room, sizeof(*keys));

        if (!keys)
            return nf_fail(err, NF_ENOMEM, "undo log: out of memory");
        u->keys = keys;
        u->room = room;
    }
    if (u64map_put(&u->kept, key, (void *)(uintptr_t)len) < 0)
        return nf_fail(err, NF_ENOMEM, "undo log: out of memory");
    u->keys[u->nkeys++] = key;
    return 0;
}

int undo_keep(struct undo *u, enum undo_area area, uint64_t offset, const uint8_t *data,
              uint32_t len, struct nf_error *err)
{
    uint64_t key = offset << 1 | (uint64_t)area;
    uint8_t head[E_HEADER] = {0};
    struct iovec iov[2] = {{head, sizeof(head)}, {(void *)(uintptr_t)data, len}};
    ssize_t n;

    if (u->generation == 0 || (uintptr_t)u64map_get(&u->kept, key) >= len)
        return 0;
    if (len > UNDO_ENTRY_MAX)
        return nf_fail(err, NF_EINVAL, "undo log: an entry of %u bytes", len);
    nf_put_le32(head + E_MAGIC, MAGIC);
    nf_put_le64(head + E_GENERATION, u->generation);
    nf_put_le64(head + E_OFFSET, offset);
    nf_put_le32(head + E_LEN, len);
    nf_put_le32(head + E_AREA, area);
    nf_put_le32(head + E_CRC,
                nf_crc32c(nf_crc32c(0, head + E_GENERATION, E_HEADER - E_GENERATION), data, len));
    do {
        n = pwritev(u->fd, iov, 2, (off_t)u->end);
    } while (n < 0 && errno == EINTR);
    if (n < 0)
        return nf_fail(err, NF_EIO, "state: undo log: %s", strerror(errno));
    if ((size_t)n != sizeof(head) + len) /* What a full disk leaves of a write. */
        return nf_fail(err, NF_EIO, "state: undo log: %s", strerror(ENOSPC));
    u->end += sizeof(head) + len;
    return note(u, key, len, err);
}

/* One entry of the log. 1: it is whole, of @generation, in @buf and starts at
 * *pos, which moves on; 0: there is none. */
static int read_entry(int fd, uint64_t generation, uint64_t *pos, uint8_t *buf,
                      struct nf_error *err)
{
    ssize_t n = nf_pread_full(fd, buf, E_HEADER, *pos);
    uint32_t len;

    if (n == E_HEADER && nf_le32(buf + E_MAGIC) == MAGIC &&
        nf_le64(buf + E_GENERATION) == generation && nf_le32(buf + E_LEN) <= UNDO_ENTRY_MAX)
        n = nf_pread_full(fd, buf + E_HEADER, nf_le32(buf + E_LEN), *pos + E_HEADER);
    else if (n >= 0)
        return 0;
    if (n < 0)
        return nf_fail(err, NF_EIO, "state: undo log: %s", strerror(errno));
    len = nf_le32(buf + E_LEN);
    if ((size_t)n < len ||
        nf_crc32c(0, buf + E_GENERATION, E_HEADER - E_GENERATION + len) != nf_le32(buf + E_CRC))
        return 0;
    *pos += E_HEADER + len;
    return 1;
}

int undo_roll_back(int fd, uint64_t generation, uint8_t *const areas[UNDO_AREAS],
                   const uint64_t sizes[UNDO_AREAS], struct nf_error *err)
{
    uint8_t *buf = malloc(E_HEADER + UNDO_ENTRY_MAX);
    uint64_t pos = 0, *starts = NULL;
    size_t n = 0, room = 0;
    int ret = buf ? 1 : nf_fail(err, NF_ENOMEM, "undo log: out of memory");

    while (ret > 0) {
        if (n == room) {
            uint64_t *more = reallocarray(starts, room += 4096, sizeof(*starts));

            if (!more) {
                ret = nf_fail(err, NF_ENOMEM, "undo log: out of memory");
                break;
            }
            starts = more;
        }
        starts[n] = pos;
        ret = read_entry(fd, generation, &pos, buf, err);
        n += ret > 0;
    }
    /* The last change goes first: a later entry may hold part of an earlier one. */
    while (ret == 0 && n-- > 0) {
        uint64_t offset;
        uint32_t len, area;

        pos = starts[n];
        ret = read_entry(fd, generation, &pos, buf, err);
        if (ret <= 0)
            break;
        len = nf_le32(buf + E_LEN);
        area = nf_le32(buf + E_AREA);
        offset = nf_le64(buf + E_OFFSET);
        ret = 0;
        if (area >= UNDO_AREAS || offset > sizes[area] || len > sizes[area] - offset)
            ret = nf_fail(err, NF_EFORMAT, "state: undo log: an entry lies outside the shadow");
        else
            memcpy(areas[area] + offset, buf + E_HEADER, len);
    }
    free(starts);
    free(buf);
    return ret;
}
