/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk that the streamer knows: who sends for it, what is on its way to
 * Redis, and what Redis already has.
 */
#ifndef NF_DISK_H
#define NF_DISK_H

#include <stdbool.h>
#include <stdint.h>

#include "common/frame.h"
#include "streamer/link.h"
#include "streamer/publish.h"

struct nf_disk;

/* What the disk tells whoever sends for it. */
struct nf_disk_sender {
    /* HELLO was looked at: 0, or a reason to refuse. */
    void (*checked)(struct nf_disk_sender *s, const char *refusal);
    /* Everything up to @last_seq is delivered. */
    void (*delivered)(struct nf_disk_sender *s, uint64_t epoch, uint64_t last_seq);
    /* The stream holds something else under the same number. */
    void (*conflict)(struct nf_disk_sender *s, const char *what);
};

struct nf_disks;

/* @link and @streams: where and whether streams are kept. Null without memory. */
struct nf_disks *nf_disks_new(struct nf_link *link, bool streams, struct nf_error *err);
/* After the link: frees what was queued in it, too. */
void nf_disks_free(struct nf_disks *disks);

/*
 * Let @sender send for the disk that @hello names, from then on until
 * nf_disk_close(). NF_EBUSY: another sender does; *@busy is that one.
 * NF_EINVAL: the epoch goes back. Else 0, and later the sender's checked() is
 * called, possibly at once.
 */
int nf_disk_open(struct nf_disks *disks, const struct nf_hello *hello,
                 struct nf_disk_sender *sender, struct nf_disk **disk,
                 struct nf_disk_sender **busy, struct nf_error *err);
void nf_disk_close(struct nf_disk *disk, struct nf_disk_sender *sender);

/* Deliver a BATCH frame. Returns as nf_publish_batch(). */
int nf_disk_deliver(struct nf_disk *disk, struct nf_publisher *p, const struct nf_hello *from,
                    uint64_t *next_seq, struct nf_bytes payload, struct nf_error *err);

#endif
