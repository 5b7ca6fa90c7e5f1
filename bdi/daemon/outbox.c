/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/buffer.h"
#include "common/bytes.h"
#include "common/crc32c.h"
#include "common/pread_full.h"

/* A file: a header, then records. Little-endian; a checksum covers what stands
 * behind it, of the header or of the record. */
enum {
    H_MAGIC = 0,
    H_VERSION = 8,
    H_CRC = 12,
    H_NUMBER = 16, /* of the file: the larger one of two counts */
    H_SIZE = 24,   /* of the disk */
    H_BOOT = 32,
    H_HOST = 72,
    H_VM = H_HOST + 136,
    H_DISK = H_VM + 136,
    H_LEN = 512,

    R_MAGIC = 0,
    R_CRC = 4,
    R_LEN = 8, /* of all of it */
    R_GENERATION = 16,
    R_EPOCH = 24,
    R_NEXT_SEQ = 32,
    R_ACKED = 40,
    R_POSITION = 48,
    R_UUID = 56,
    R_OUT_OFFSET = 72,
    R_FLAGS = 80,
    R_FRAMES = 84, /* their number */
    R_STATE = 88,  /* bytes of the state, which comes first; then the frames */
    R_HEADER = 96,

    F_LAST_SEQ = 0,
    F_LEN = 8,
    F_HEADER = 16,

    VERSION = 1,
    PICTURE = 1,
};
#define FILE_MAGIC "nfoutbox"
#define RECORD_MAGIC 0x62786f6eu /* "noxb" */

#define LARGE (16ull << 20)
#define RECORD_MAX (16ull << 30)

struct outbox {
    int fds[2];
    int current;     /* the file in use; -1: none */
    uint64_t number; /* of it */
    uint64_t end;    /* where the next record goes */
    uint64_t first;  /* bytes that it began with */
    uint8_t header[H_LEN];
    struct nf_buffer build;

    struct outbox_mark last;
    struct nf_buffer state;
    struct nf_buffer frames; /* each with its header, as in a record */
};

static int fail(const char *what, struct nf_error *err)
{
    return nf_fail(err, NF_EIO, "state: outbox: %s: %s", what, strerror(errno));
}

/* --- reading -------------------------------------------------------------- */

/* A whole record at @pos of @fd, in o->build. 1, or 0 if there is none. */
static int read_record(struct outbox *o, int fd, uint64_t pos, uint64_t size,
                       struct nf_error *err)
{
    uint8_t head[R_HEADER];
    uint64_t len;
    ssize_t n;

    if (size - pos < R_HEADER)
        return 0;
    n = nf_pread_full(fd, head, sizeof(head), pos);
    if (n < 0)
        return fail("read", err);
    len = nf_le64(head + R_LEN);
    if (n < R_HEADER || nf_le32(head + R_MAGIC) != RECORD_MAGIC || len < R_HEADER ||
        len > size - pos || len > RECORD_MAX || nf_le64(head + R_STATE) > len - R_HEADER)
        return 0;
    nf_buffer_clear(&o->build);
    if (!nf_buffer_reserve(&o->build, (size_t)len))
        return nf_fail(err, NF_ENOMEM, "state: outbox: out of memory");
    n = nf_pread_full(fd, o->build.data, (size_t)len, pos);
    if (n < 0)
        return fail("read", err);
    o->build.len = (size_t)len;
    return (uint64_t)n == len &&
           nf_crc32c(0, o->build.data + R_LEN, (size_t)len - R_LEN) == nf_le32(head + R_CRC);
}

/* The record in o->build is the newest so far. 1, or 0 if it makes no sense. */
static int take_record(struct outbox *o, struct nf_error *err)
{
    const uint8_t *r = o->build.data, *end = r + o->build.len;
    struct outbox_mark m = {
        .generation = nf_le64(r + R_GENERATION),
        .epoch = nf_le64(r + R_EPOCH),
        .next_seq = nf_le64(r + R_NEXT_SEQ),
        .acked = nf_le64(r + R_ACKED),
        .position = nf_le64(r + R_POSITION),
        .out_offset = nf_le64(r + R_OUT_OFFSET),
        .picture = nf_le32(r + R_FLAGS) & PICTURE,
    };
    uint64_t state = nf_le64(r + R_STATE), seq;
    size_t start = o->frames.len;

    memcpy(m.tap_uuid, r + R_UUID, sizeof(m.tap_uuid));
    nf_buffer_clear(&o->state);
    if (m.epoch != o->last.epoch) { /* an epoch ends with all of it acknowledged */
        nf_buffer_clear(&o->frames);
        start = 0;
    }
    if (nf_buffer_append(&o->state, r + R_HEADER, (size_t)state) < 0 ||
        nf_buffer_append(&o->frames, r + R_HEADER + state,
                         (size_t)(end - r) - R_HEADER - (size_t)state) < 0)
        return nf_fail(err, NF_ENOMEM, "state: outbox: out of memory");
    /* The frames must be whole, and lead without a hole to the mark. */
    seq = m.acked;
    for (size_t at = start; at < o->frames.len;) {
        const uint8_t *f = o->frames.data + at;
        uint64_t len = o->frames.len - at < F_HEADER ? UINT64_MAX : nf_le64(f + F_LEN);

        if (len > o->frames.len - at - F_HEADER || nf_le64(f + F_LAST_SEQ) <= (at > start ? seq : 0))
            return 0;
        seq = nf_le64(f + F_LAST_SEQ);
        at += F_HEADER + (size_t)len;
    }
    if (m.next_seq == 0 || m.acked >= m.next_seq || (start < o->frames.len && seq + 1 != m.next_seq))
        return 0;
    o->last = m;
    /* What was acknowledged since goes. */
    while (o->frames.len >= F_HEADER && nf_le64(o->frames.data + F_LAST_SEQ) <= m.acked)
        nf_buffer_consume(&o->frames, F_HEADER + (size_t)nf_le64(o->frames.data + F_LEN));
    return 1;
}

/* The newest whole record of file @i. 1, or 0 if it has none. */
static int read_file(struct outbox *o, int i, struct nf_error *err)
{
    struct stat st;
    uint64_t pos = H_LEN;
    bool any = false;
    int rc;

    if (fstat(o->fds[i], &st) < 0)
        return fail("stat", err);
    o->last = (struct outbox_mark){0};
    nf_buffer_clear(&o->frames);
    while ((rc = read_record(o, o->fds[i], pos, (uint64_t)st.st_size, err)) == 1) {
        rc = take_record(o, err);
        if (rc != 1)
            break;
        any = true;
        pos += o->build.len;
    }
    o->end = pos;
    return rc < 0 ? rc : any;
}

/* The header of file @i. 1; 0: empty; 2: damaged, as @err says. */
static int read_header(const struct outbox *o, int i, uint8_t *head, struct nf_error *err)
{
    ssize_t n = nf_pread_full(o->fds[i], head, H_LEN, 0);

    if (n < 0)
        return fail("read", err);
    /* A file that is begun gets its header last. */
    if (n == 0 || nf_is_zero(head, (size_t)n))
        return 0;
    if (n < H_LEN || memcmp(head + H_MAGIC, FILE_MAGIC, 8) != 0) {
        nf_fail(err, NF_EFORMAT, "state: outbox: not one, or damaged");
        return 2;
    }
    if (nf_le32(head + H_VERSION) != VERSION)
        return nf_fail(err, NF_EINVAL, "state: outbox: version %u, this program knows version %d",
                       nf_le32(head + H_VERSION), VERSION);
    if (nf_crc32c(0, head + H_NUMBER, H_LEN - H_NUMBER) != nf_le32(head + H_CRC)) {
        nf_fail(err, NF_EFORMAT, "state: outbox: its header is damaged");
        return 2;
    }
    return 1;
}

static int check_owner(const struct outbox *o, const uint8_t *head, struct nf_error *err)
{
    if (memcmp(head + H_SIZE, o->header + H_SIZE, 8) == 0 &&
        memcmp(head + H_HOST, o->header + H_HOST, H_LEN - H_HOST) == 0)
        return 0;
    return nf_fail(err, NF_EINVAL,
                   "state: it is of %.128s/%.128s/%.128s with %llu bytes, not of this disk",
                   (const char *)head + H_HOST, (const char *)head + H_VM,
                   (const char *)head + H_DISK, (unsigned long long)nf_le64(head + H_SIZE));
}

static void make_header(struct outbox *o, const struct outbox_owner *owner,
                        const char boot_id[37])
{
    memcpy(o->header + H_MAGIC, FILE_MAGIC, 8);
    nf_put_le32(o->header + H_VERSION, VERSION);
    nf_put_le64(o->header + H_SIZE, owner->disk_size);
    strncpy((char *)o->header + H_BOOT, boot_id, 36);
    strcpy((char *)o->header + H_HOST, owner->host);
    strcpy((char *)o->header + H_VM, owner->vm);
    strcpy((char *)o->header + H_DISK, owner->disk);
}

int outbox_open(const int fds[2], const struct outbox_owner *owner, const char boot_id[37],
                struct outbox **out, bool *boot_same, struct nf_error *why)
{
    struct outbox *o = calloc(1, sizeof(*o));
    uint8_t head[2][H_LEN];
    int have[2] = {0}, rc = 0;
    bool damaged = false;

    *out = o;
    *boot_same = false;
    if (!o)
        return nf_fail(why, NF_ENOMEM, "state: outbox: out of memory");
    o->fds[0] = fds[0];
    o->fds[1] = fds[1];
    o->current = -1;
    make_header(o, owner, boot_id);
    for (int i = 0; i < 2; i++) {
        have[i] = read_header(o, i, head[i], why);
        rc = have[i] == 1 ? check_owner(o, head[i], why) : have[i];
        if (rc < 0)
            goto fail;
        damaged |= have[i] == 2;
        if (have[i] == 1 && nf_le64(head[i] + H_NUMBER) > o->number)
            o->number = nf_le64(head[i] + H_NUMBER);
    }
    for (int k = 0; k < 2; k++) { /* the newer one first */
        int newer = have[1] == 1 && (have[0] != 1 || nf_le64(head[1] + H_NUMBER) >
                                                         nf_le64(head[0] + H_NUMBER));
        int i = k == 0 ? newer : !newer;

        if (have[i] != 1)
            continue;
        rc = read_file(o, i, why);
        if (rc < 0)
            goto fail;
        if (rc == 1) {
            o->current = i;
            *boot_same = memcmp(head[i] + H_BOOT, o->header + H_BOOT, H_HOST - H_BOOT) == 0;
            return 1;
        }
        damaged = true;
        nf_fail(why, NF_EFORMAT, "state: outbox: it has no whole record");
    }
    o->last = (struct outbox_mark){0};
    nf_buffer_clear(&o->frames);
    nf_buffer_clear(&o->state);
    return damaged ? 2 : 0;
fail:
    outbox_free(o);
    *out = NULL;
    return rc;
}

void outbox_free(struct outbox *o)
{
    if (!o)
        return;
    nf_buffer_release(&o->build);
    nf_buffer_release(&o->state);
    nf_buffer_release(&o->frames);
    free(o);
}

const struct outbox_mark *outbox_last(const struct outbox *o)
{
    return &o->last;
}

struct nf_bytes outbox_state(const struct outbox *o)
{
    return nf_buffer_bytes(&o->state);
}

bool outbox_frame(const struct outbox *o, size_t *pos, struct nf_stored_frame *frame)
{
    const uint8_t *f = o->frames.data + *pos;

    if (*pos >= o->frames.len)
        return false;
    *frame = (struct nf_stored_frame){nf_le64(f + F_LAST_SEQ),
                                      {f + F_HEADER, (size_t)nf_le64(f + F_LEN)}};
    *pos += F_HEADER + frame->bytes.len;
    return true;
}

void outbox_forget(struct outbox *o)
{
    nf_buffer_release(&o->frames);
    nf_buffer_release(&o->state);
}

/* --- writing -------------------------------------------------------------- */

static int write_at(int fd, const uint8_t *data, size_t len, uint64_t pos, struct nf_error *err)
{
    while (len > 0) {
        ssize_t n = pwrite(fd, data, len, (off_t)pos);

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return fail("write", err);
        data += n, pos += (uint64_t)n, len -= (size_t)n;
    }
    return 0;
}

/* The record in o->build: @mark, @state, the frames of @w, all or those not stored. */
static int build(struct outbox *o, const struct outbox_mark *mark, struct nf_bytes state,
                 const struct nf_batch_writer *w, bool fresh, struct nf_error *err)
{
    struct nf_stored_frame frame;
    const void *pos = NULL;
    uint8_t head[R_HEADER] = {0};
    uint32_t n = 0;
    int rc;

    nf_buffer_clear(&o->build);
    rc = nf_buffer_append(&o->build, head, sizeof(head));
    if (rc == 0)
        rc = nf_buffer_append(&o->build, state.data, state.len);
    for (; rc == 0 && w && nf_batch_writer_next(w, &pos, fresh, &frame); n++) {
        uint8_t h[F_HEADER];

        nf_put_le64(h + F_LAST_SEQ, frame.last_seq);
        nf_put_le64(h + F_LEN, frame.bytes.len);
        rc = nf_buffer_append(&o->build, h, sizeof(h));
        if (rc == 0)
            rc = nf_buffer_append(&o->build, frame.bytes.data, frame.bytes.len);
    }
    if (rc < 0)
        return nf_fail(err, NF_ENOMEM, "state: outbox: out of memory");
    nf_put_le32(head + R_MAGIC, RECORD_MAGIC);
    nf_put_le64(head + R_LEN, o->build.len);
    nf_put_le64(head + R_GENERATION, mark->generation);
    nf_put_le64(head + R_EPOCH, mark->epoch);
    nf_put_le64(head + R_NEXT_SEQ, mark->next_seq);
    nf_put_le64(head + R_ACKED, mark->acked);
    nf_put_le64(head + R_POSITION, mark->position);
    memcpy(head + R_UUID, mark->tap_uuid, sizeof(mark->tap_uuid));
    nf_put_le64(head + R_OUT_OFFSET, mark->out_offset);
    nf_put_le32(head + R_FLAGS, mark->picture ? PICTURE : 0);
    nf_put_le32(head + R_FRAMES, n);
    nf_put_le64(head + R_STATE, state.len);
    memcpy(o->build.data, head, sizeof(head));
    nf_put_le32(o->build.data + R_CRC,
                nf_crc32c(0, o->build.data + R_LEN, o->build.len - R_LEN));
    return 0;
}

int outbox_append(struct outbox *o, const struct outbox_mark *mark, struct nf_bytes state,
                  const struct nf_batch_writer *w, struct nf_error *err)
{
    int rc;

    if (o->current < 0)
        return outbox_rewrite(o, mark, state, w, err);
    rc = build(o, mark, state, w, true, err);
    if (rc == 0)
        rc = write_at(o->fds[o->current], o->build.data, o->build.len, o->end, err);
    if (rc < 0)
        return rc;
    o->end += o->build.len;
    o->last = *mark;
    return 0;
}

int outbox_rewrite(struct outbox *o, const struct outbox_mark *mark, struct nf_bytes state,
                   const struct nf_batch_writer *w, struct nf_error *err)
{
    int to = o->current == 0 ? 1 : 0;
    int rc = build(o, mark, state, w, false, err);

    if (rc == 0 && ftruncate(o->fds[to], 0) < 0)
        rc = fail("truncate", err);
    if (rc == 0)
        rc = write_at(o->fds[to], o->build.data, o->build.len, H_LEN, err);
    if (rc < 0)
        return rc;
    nf_put_le64(o->header + H_NUMBER, o->number + 1);
    nf_put_le32(o->header + H_CRC, nf_crc32c(0, o->header + H_NUMBER, H_LEN - H_NUMBER));
    rc = write_at(o->fds[to], o->header, H_LEN, 0, err);
    if (rc < 0)
        return rc;
    /* From here on it is this one that counts. */
    if (o->current >= 0 && ftruncate(o->fds[o->current], 0) < 0)
        return fail("truncate", err);
    o->current = to;
    o->number++;
    o->end = H_LEN + o->build.len;
    o->first = o->build.len;
    o->last = *mark;
    return 0;
}

bool outbox_large(const struct outbox *o)
{
    return o->current >= 0 && o->end > LARGE + 2 * o->first;
}
