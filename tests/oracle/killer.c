/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/oracle/killer.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/buffer.h"

static uint64_t next_random(struct killer *k)
{
    k->seed ^= k->seed << 13;
    k->seed ^= k->seed >> 7;
    k->seed ^= k->seed << 17;
    return k->seed;
}

static int on_event(void *opaque, const struct nf_event *ev, struct nf_error *err)
{
    struct killer *k = opaque;

    return k->deaf ? 0 : k->options.event(k->options.opaque, ev, err);
}

static struct bdi *start(struct killer *k, uint64_t first_seq, struct nf_error *err)
{
    struct bdi_options opt = k->options;

    opt.first_seq = first_seq;
    opt.event = on_event;
    opt.opaque = k;
    opt.state = k->every ? &k->state : NULL;
    return bdi_new(k->image, k->shadow, &opt, err);
}

struct bdi *killer_start(struct killer *k, struct nf_error *err)
{
    k->state.present = memfd_create("present", MFD_CLOEXEC);
    k->state.undo = memfd_create("undo", MFD_CLOEXEC);
    k->open = true;
    if (k->state.present < 0 || k->state.undo < 0) {
        nf_fail(err, NF_EIO, "memfd_create: %s", strerror(errno));
        return NULL;
    }
    return start(k, 1, err);
}

void killer_release(struct killer *k)
{
    if (!k->open)
        return;
    for (size_t i = 0; i < k->n; i++)
        free((void *)(uintptr_t)k->again[i].data);
    free(k->again);
    close(k->state.present);
    close(k->state.undo);
}

/* Take one more record from the reader for later. As nf_trace_next(). */
static int take_early(struct killer *k, struct nf_error *err)
{
    struct nf_record rec;
    int rc = nf_trace_next(k->reader, &rec, err);

    if (rc != 1)
        return rc;
    if (k->n == k->room) {
        struct nf_record *more = reallocarray(k->again, k->room + 64, sizeof(*more));

        if (!more)
            return nf_fail(err, NF_ENOMEM, "out of memory");
        k->again = more;
        k->room += 64;
    }
    if (rec.data) {
        uint8_t *copy = malloc(rec.length ? rec.length : 1);

        if (!copy)
            return nf_fail(err, NF_ENOMEM, "out of memory");
        memcpy(copy, rec.data, rec.length);
        rec.data = copy;
    }
    k->again[k->n++] = rec;
    if (k->ahead) {
        rc = k->early(k->options.opaque, &rec, err);
        if (rc < 0)
            return rc;
    }
    return 1;
}

/* As the daemon's image_settled.c has it for a tap. */
static bool touches(const struct nf_record *rec, uint64_t offset, uint64_t len)
{
    switch (rec->type) {
    case NF_REC_WRITE:
    case NF_REC_ZERO:
    case NF_REC_DISCARD:
    case NF_REC_READBACK:
        if (rec->offset >= offset)
            return rec->length > 0 && rec->offset - offset < len;
        return offset - rec->offset < rec->length;
    case NF_REC_FLUSH:
    case NF_REC_CLOSE:
        return false;
    default:
        return true;
    }
}

bool killer_ahead(const struct killer *k, uint64_t offset, uint64_t len)
{
    for (size_t i = k->position; i < k->n; i++)
        if (touches(&k->again[i], offset, len))
            return true;
    return false;
}

uint64_t killer_image(const struct killer *k)
{
    return k->taken + (k->n - k->first);
}

/* The disk goes on, now far and now not at all, while the engine has stopped. */
static int run_ahead(struct killer *k, struct nf_error *err)
{
    uint64_t more = k->n == k->first ? 1 + next_random(k) % k->ahead : 0;
    int rc = 1;

    while (rc == 1 && k->n - k->first < more)
        rc = take_early(k, err);
    return rc < 0 ? rc : 0;
}

/* Those that were passed on are gone, but for the last one, which is lent out. */
static void forget_taken(struct killer *k)
{
    size_t gone = k->first > 1 ? k->first - 1 : 0;

    if (gone < k->n - gone) /* not a few at a time */
        return;
    for (size_t i = 0; i < gone; i++)
        free((void *)(uintptr_t)k->again[i].data);
    memmove(k->again, k->again + gone, (k->n - gone) * sizeof(*k->again));
    k->first -= gone;
    k->n -= gone;
    k->position -= gone;
}

static int kill_and_resume(struct killer *k, struct bdi **bdi, struct nf_error *err)
{
    uint64_t seq = bdi_next_seq(*bdi), more = next_random(k) % (2 * k->every);
    struct nf_bytes bytes;
    struct nf_buffer saved = {0};
    int rc = bdi_save(*bdi, ++k->generation, &bytes, err);

    if (rc == 0 && nf_buffer_append(&saved, bytes.data, bytes.len) < 0)
        rc = nf_fail(err, NF_ENOMEM, "out of memory");
    if (rc < 0)
        goto out;
    bdi_saved(*bdi, k->generation);
    k->deaf = true;
    for (size_t at = k->first; rc == 0 && more > 0; at++, more--) {
        if (at == k->n && (rc = take_early(k, err)) != 1)
            break;
        k->position = at + 1;
        rc = bdi_record(*bdi, &k->again[at], err);
    }
    k->position = k->first;
    k->deaf = false;
    if (rc < 0)
        goto out;
    bdi_free(*bdi);
    *bdi = start(k, seq, err);
    rc = *bdi ? bdi_resume(*bdi, k->generation, nf_buffer_bytes(&saved), err) : NF_ENOMEM;
    if (rc == 0 && bdi_next_seq(*bdi) != seq)
        rc = nf_fail(err, NF_EINVAL, "resuming emitted events");
    k->kills++;
out:
    nf_buffer_release(&saved);
    return rc < 0 ? nf_fail_prefix(err, "kill %llu", (unsigned long long)k->kills) : 0;
}

int killer_next(struct killer *k, struct nf_trace_reader *reader, struct bdi **bdi,
                struct nf_record *rec, struct nf_error *err)
{
    int rc = 0;

    k->reader = reader;
    forget_taken(k);
    if (k->ahead && bdi)
        rc = run_ahead(k, err);
    if (rc == 0 && k->every && bdi && k->taken > 0 && k->taken % k->every == 0)
        rc = kill_and_resume(k, bdi, err);
    if (rc < 0)
        return rc;
    k->taken++;
    if (k->first == k->n) {
        rc = take_early(k, err);
        if (rc != 1)
            return rc;
    }
    *rec = k->again[k->first++];
    k->position = k->first;
    return 1;
}
