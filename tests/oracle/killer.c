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
    return 1;
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
        rc = bdi_record(*bdi, &k->again[at], err);
    }
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
    if (k->every && bdi && k->taken > 0 && k->taken % k->every == 0)
        rc = kill_and_resume(k, bdi, err);
    if (rc < 0)
        return rc;
    k->taken++;
    if (k->first == k->n)
        return nf_trace_next(k->reader, rec, err);
    if (k->first > 0) /* The one before was lent out until now. */
        free((void *)(uintptr_t)k->again[k->first - 1].data);
    *rec = k->again[k->first++];
    if (k->first > 1)
        k->again[k->first - 2].data = NULL;
    return 1;
}
