/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The outbox: what an engine has said and where it stands, written down before
 * anybody hears of it.  Two files, one in use: appended to record by record,
 * and when it has grown large replaced by the other one, begun with all that is
 * still needed.
 *
 * It survives the death of processes at any instant, not that of the host
 * (nothing is synced).  All that is read back is checked; what is cut short at
 * the end was never relied on.
 */
#ifndef BDI_DAEMON_OUTBOX_H
#define BDI_DAEMON_OUTBOX_H

#include <stdbool.h>
#include <stdint.h>

#include "common/error.h"
#include "common/frame.h"

/* Whose state it is. */
struct outbox_owner {
    char host[NF_SOURCE_NAME_MAX + 1], vm[NF_SOURCE_NAME_MAX + 1], disk[NF_SOURCE_NAME_MAX + 1];
    uint64_t disk_size;
};

/* Where an engine stands after a record's events. */
struct outbox_mark {
    uint64_t generation; /* of bdi_save(); larger than all before */
    uint64_t epoch, next_seq;
    uint64_t acked;      /* of the epoch; the events behind it are in the outbox */
    uint64_t position;   /* seq of the tap's next record */
    uint8_t tap_uuid[16];
    uint64_t out_offset; /* length of the output before this record's frames; files */
    bool picture;        /* @state is bdi_save()'s; else the epoch ends here */
};

struct outbox;

/*
 * Read what is in @fds (regular files, borrowed).  1: there is a state of
 * @owner, see outbox_last(); 0: they are empty; 2: there is something, but not
 * whole, as @why says: it counts as empty.  NF_EINVAL: it is another disk's, or
 * of another version of this program: nothing was changed.  NF_EIO, NF_ENOMEM.
 * *@boot_same: it was written since the host's start that @boot_id names.
 */
int outbox_open(const int fds[2], const struct outbox_owner *owner, const char boot_id[37],
                struct outbox **out, bool *boot_same, struct nf_error *why);
void outbox_free(struct outbox *o);

/* What the last whole record says, and bdi_save()'s bytes (until the next append). */
const struct outbox_mark *outbox_last(const struct outbox *o);
struct nf_bytes outbox_state(const struct outbox *o);
/* The frames behind the mark's acked, oldest first, from *@pos (0 at first) on. */
bool outbox_frame(const struct outbox *o, size_t *pos, struct nf_stored_frame *frame);
/* They are not needed any more. */
void outbox_forget(struct outbox *o);

/*
 * Append a record: @mark, @state (if mark->picture) and the frames of @w that
 * are not stored yet.  NF_EIO (a full disk): the outbox is as it was before.
 */
int outbox_append(struct outbox *o, const struct outbox_mark *mark, struct nf_bytes state,
                  const struct nf_batch_writer *w, struct nf_error *err);
/* Begin the other file with it instead, all frames of @w in it. */
int outbox_rewrite(struct outbox *o, const struct outbox_mark *mark, struct nf_bytes state,
                   const struct nf_batch_writer *w, struct nf_error *err);
/* True if outbox_rewrite() would make it much smaller. */
bool outbox_large(const struct outbox *o);

#endif
