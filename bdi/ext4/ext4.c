/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ext4 driver: where each write goes.
 */
#include "bdi/ext4/ext4.h"

#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/content.h"
#include "bdi/ext4/extents.h"
#include "bdi/ext4/fastcommit.h"
#include "bdi/ext4/inode.h"
#include "bdi/ext4/judge.h"
#include "bdi/ext4/step.h"
#include "bdi/ext4/unsettled.h"
#include "common/bytes.h"

/* Copies of blocks changed in place that may wait for a barrier. */
#define STAGED_MAX (64u << 20)

int ext4_emit(struct ext4_fs *fs, struct nf_event *ev, struct nf_error *err)
{
    if (fs->quiet)
        return 0;
    ev->source.partition = fs->ctx.partition;
    memcpy(ev->source.fs_uuid, fs->uuid, 16);
    ev->txn = fs->txn;
    ev->index = fs->index++;
    ev->flags |= fs->step_flags;
    return emit(fs->ctx.emitter, ev, err);
}

void ext4_oddity(struct ext4_fs *fs)
{
    fs->ctx.emitter->status.oddities++;
}

static bool probe(const char *type)
{
    return strncmp(type, "ext", 3) == 0;
}

static bool is_metadata(enum owner_kind kind)
{
    return ((kind >= OWN_DIR && kind <= OWN_SUPER) || kind == OWN_EA) && kind != OWN_JOURNAL;
}

/* What is known of the file system goes. */
static void drop_reading(struct ext4_fs *fs)
{
    if (fs->journal_open)
        journal_release(&fs->journal);
    fs->journal_open = false;
    if (fs->fs)
        ext2fs_free(fs->fs);
    fs->fs = NULL;
    ownermap_release(&fs->owners);
    names_release(&fs->names);
    fastcommit_free(fs->fast);
    fs->fast = NULL;
    xattr_owners_release(&fs->xattr_owners);
    picture_drop_overlay(&fs->pic);
    unsettled_release(fs);
    free(fs->waiting);
    fs->waiting = NULL;
    fs->nwaiting = 0;
    free(fs->desc_blocks);
    fs->desc_blocks = NULL;
    fs->ndesc_blocks = 0;
    free(fs->content_buf);
    fs->content_buf = NULL;
    free(fs->inline_buf);
    fs->inline_buf = NULL;
}

/* Home stays, where it is the disk's. */
void ext4_retire(void *opaque)
{
    struct ext4_fs *fs = opaque;
    uint64_t pos = 0;
    struct owner_extent run;

    if (fs->doubt)
        picture_forget(&fs->pic, 0, UINT64_MAX);
    while (ownermap_next(&fs->owners, &pos, fs->owners.blocks, &run)) {
        if (!is_metadata(run.kind) && run.kind != OWN_JOURNAL)
            picture_forget(&fs->pic, run.pblk, run.len);
    }
    if (fs->owners.blocks)
        picture_forget(&fs->pic, fs->owners.blocks, UINT64_MAX);
    drop_reading(fs);
    fs->gone = FS_ENDED;
    fs->doubt = false;
}

void ext4_detach(void *opaque)
{
    struct ext4_fs *fs = opaque;

    if (!fs)
        return;
    drop_reading(fs);
    picture_release(&fs->pic);
    free(fs);
}

static enum retiring what_retires(void *opaque, uint64_t block)
{
    struct ext4_fs *fs = opaque;
    struct owner_extent owner;

    if (!ownermap_get(&fs->owners, block, &owner))
        return RETIRE_FORGET;
    if (is_metadata(owner.kind))
        return RETIRE_STAGE;
    return owner.kind == OWN_DATA ? RETIRE_DATA : RETIRE_FORGET;
}

/* Content went through the log once (data=journal, or out of an inode), and was
 * overwritten in place since: recovery would have undone that until now. */
static int data_retires(void *opaque, uint64_t block, const uint8_t *copy, const uint8_t *home,
                        struct nf_error *err)
{
    struct ext4_fs *fs = opaque;
    uint32_t first = 0, last = fs->block_size;
    struct owner_extent owner;

    ownermap_get(&fs->owners, block, &owner);
    owner.len = 1;
    while (first < last && home[first] == copy[first])
        first++;
    while (last > first && home[last - 1] == copy[last - 1])
        last--;
    return content_overwrite(fs, &owner, block * fs->block_size + first, last - first,
                             home + first, err);
}

/* What was changed in place, outside the journal, becomes a step of its own, as far
 * as it is consistent; all of it if @all. */
static int in_place_step(struct ext4_fs *fs, bool all, struct nf_error *err)
{
    bool forced = false;
    int ret;

    if (!fs->pic.staged.used || (fs->worked_on && fs->pic.staged_bytes <= STAGED_MAX))
        return 0;
    if (fs->reshaped && !fs->worked_on)
        return ext4_end(fs, FS_CHANGED, "its content was moved", err);
    fs->in_place_news = false;
    fs->txn = 0;
    ext4_see_clean(fs);
    ret = judge_run(fs, all, &forced, err);
    if (ret < 0 || fs->gone)
        return ret;
    fs->step_flags = forced ? NF_EV_UNORDERED : 0;
    if (ret == 0)
        ret = step_run(fs, false, err);
    fs->step_flags = 0;
    return ret;
}

/* Content that settles, if it can be afforded to look for it; @end: in any case. */
static int publish(struct ext4_fs *fs, bool end, struct nf_error *err)
{
    uint64_t before = fs->pace.looked;
    int ret;

    if (unsettled_files(fs) == 0 || (!end && !pace_may_look(&fs->pace)))
        return 0;
    ret = unsettled_publish(fs, end || fs->clean, err);
    pace_pay(&fs->pace, before);
    return ret;
}

/* The picture goes back to what is committed: not by a transaction. */
static int end_fast_commits(struct ext4_fs *fs, struct nf_error *err)
{
    int ret = fastcommit_stage_end(fs, err);

    if (ret < 0 || !fastcommit_active(fs))
        return ret;
    fs->txn = 0;
    fs->step_flags = NF_EV_UNORDERED;
    ret = step_run(fs, false, err);
    fs->step_flags = 0;
    return ret;
}

int ext4_fast_commits(struct ext4_fs *fs, struct nf_error *err)
{
    struct journal_fc fc;
    int ret = 0;

    while (ret == 0 && !fs->gone && journal_fc_next(&fs->journal, &fc)) {
        /* The first one: what was changed in place until now is older. */
        if (!fastcommit_active(fs))
            ret = in_place_step(fs, true, err);
        if (ret == 0 && !fs->gone)
            ret = fastcommit_stage(fs, &fc, err);
        if (ret > 0) {
            ext4_oddity(fs);
            journal_fc_ignore(&fs->journal);
            ret = end_fast_commits(fs, err);
        } else if (ret == 0 && !fs->gone) {
            fs->txn = fc.tid;
            fs->ctx.emitter->status.fast_commits++;
            ret = step_run(fs, true, err);
        }
    }
    return ret;
}

static int run_commits(struct ext4_fs *fs, struct nf_error *err)
{
    struct journal_txn txn;
    int ret;

    while (!fs->gone && (ret = journal_next(&fs->journal, &txn, err)) != 0) {
        if (ret < 0)
            return ret;
        /* What was done in place meanwhile has waited: it is one with this. */
        ret = fastcommit_active(fs) ? 0 : in_place_step(fs, true, err);
        if (ret == 0 && !fs->gone)
            ret = picture_stage_txn(&fs->pic, &txn, err);
        if (ret == 0 && !fs->gone)
            ret = fastcommit_stage_end(fs, err);
        if (ret == 0 && !fs->gone) {
            fs->txn = txn.tid;
            ret = step_run(fs, true, err);
        }
        if (ret == 0 && !fs->gone && unsettled_mode(fs)) {
            unsettled_committed(fs);
            ret = publish(fs, false, err);
        }
        if (ret < 0)
            return ret;
    }
    return ext4_fast_commits(fs, err);
}

static int reload_journal(struct ext4_fs *fs, struct nf_error *err)
{
    struct nf_error ignored;
    const struct retire_ops ops = {what_retires, data_retires, fs};
    int what = journal_reload(&fs->journal, &ignored);
    int ret = 0;

    if (what < 0) {
        ext4_oddity(fs);
        return 0;
    }
    if (what == JOURNAL_TAIL)
        ret = picture_retire(&fs->pic, fs->journal.tail_tid, false, &ops, err);
    else if (what == JOURNAL_EMPTY)
        ret = picture_retire(&fs->pic, 0, true, &ops, err);
    else if (what == JOURNAL_RESTART)
        ret = picture_retire(&fs->pic, fs->journal.tail_tid, false, &ops, err);
    /* The log begins anew: what they said is home by now, or void. */
    if (ret == 0 && what != JOURNAL_TAIL && what != JOURNAL_SAME && fastcommit_active(fs))
        ret = end_fast_commits(fs, err);
    fs->in_place_news |= fs->pic.staged.used != 0;
    return ret < 0 ? ret : run_commits(fs, err);
}

static int write_log(struct ext4_fs *fs, uint64_t block, uint32_t lblk, uint32_t in, uint32_t len,
                     const uint8_t *data, struct nf_error *err)
{
    int ret = picture_write_home(&fs->pic, block, in, len, data, err);

    if (ret < 0)
        return ret;
    if (lblk == 0)
        return reload_journal(fs, err);
    if (journal_written(&fs->journal, lblk, picture_log_block(&fs->pic, lblk)))
        return run_commits(fs, err);
    switch (journal_fc_written(&fs->journal, lblk)) {
    case JOURNAL_FC_REWRITTEN:
        ret = end_fast_commits(fs, err);
        return ret < 0 ? ret : ext4_fast_commits(fs, err);
    case JOURNAL_FC_MORE:
        return ext4_fast_commits(fs, err);
    default:
        return 0;
    }
}

static int write_metadata(struct ext4_fs *fs, const struct owner_extent *owner, uint32_t in,
                          uint32_t len, const uint8_t *data, struct nf_error *err)
{
    bool super = owner->kind == OWN_SUPER && owner->pblk == 1024 / fs->block_size;
    uint64_t block = owner->pblk;
    struct overlay_entry *e = picture_overlay(&fs->pic, block);
    const uint8_t *home;
    int ret;

    if (unsettled_mode(fs) && !fs->journal_open) {
        ret = owner->kind == OWN_ITABLE ? unsettled_wrote_table(fs, block, err)
                                        : unsettled_wrote(fs, block, 1, err);
        if (ret < 0)
            return ret;
    }
    if (e || picture_made(&fs->pic, block)) {
        /* Only home changes: the picture is the log's copy until it retires. */
        ret = picture_write_home(&fs->pic, block, in, len, data, err);
        if (ret == 0 && e)
            e->home_written = picture_is_home(&fs->pic, e);
        return ret == 0 && super ? ext4_super_written(fs, err) : ret;
    }
    if (!picture_present(&fs->pic, block)) {
        /* Never read: nothing in the picture depends on what was there. A
         * table being zeroed by lazy initialisation is the common case. */
        if (!data || (len == fs->block_size && nf_is_zero(data, len)))
            return 0;
        ret = len < fs->block_size ? picture_exact(&fs->pic, block, &home, err) : 1;
        if (ret <= 0)
            return ret;
    } else {
        home = picture_home(&fs->pic, block, err);
        if (home && (data ? memcmp(home + in, data, len) == 0 : nf_is_zero(home + in, len)))
            return 0;
    }
    ret = picture_stage_in_place(&fs->pic, block, err);
    if (ret == 0)
        ret = picture_write_home(&fs->pic, block, in, len, data, err);
    if (ret == 0 && super)
        ret = ext4_super_written(fs, err);
    fs->in_place_news = true;
    if (ret == 0 && !fs->gone && fs->pic.staged_bytes > STAGED_MAX) {
        ret = in_place_step(fs, false, err);
        if (ret == 0 && !fs->gone && fs->pic.staged_bytes > STAGED_MAX / 2)
            ret = in_place_step(fs, true, err);
    }
    return ret;
}

/* A block with a committed copy in the log, written in place: its checkpoint
 * (metadata whose owner is gone, or file data under data=journal). */
static int write_checkpoint(struct ext4_fs *fs, struct overlay_entry *e, uint32_t in, uint32_t len,
                            const uint8_t *data, struct nf_error *err)
{
    int ret = picture_write_home(&fs->pic, e->fsblock, in, len, data, err);

    if (ret == 0)
        e->home_written = picture_is_home(&fs->pic, e);
    return ret;
}

/* How much of [@offset, +@len) lies in blocks without a copy in the log. */
static uint64_t without_copy(const struct ext4_fs *fs, uint64_t offset, uint64_t len)
{
    uint32_t bs = fs->block_size;
    uint64_t n = bs - offset % bs;

    while (n < len && !picture_overlay(&fs->pic, (offset + n) / bs))
        n += bs;
    return n < len ? n : len;
}

static void hold(struct ext4_fs *fs, uint64_t offset, uint64_t len, const uint8_t *data)
{
    held_write(fs->ctx.held, fs->ctx.offset + offset, len, data);
}

/* Blocks that mean nothing now, but may later: reserved for descriptors, or
 * behind the file system's end. What of them is in the picture stays right. */
static int write_aside(struct ext4_fs *fs, uint64_t offset, uint64_t len, const uint8_t *data,
                       struct nf_error *err)
{
    uint32_t bs = fs->block_size;
    int ret = picture_follow(&fs->pic, offset, len, data, err);

    for (uint64_t b = offset / bs; ret == 0 && fs->pic.overlay.used && b * bs < offset + len; b++) {
        struct overlay_entry *e = picture_overlay(&fs->pic, b);
        uint64_t lo = b * bs > offset ? b * bs : offset;
        uint64_t hi = (b + 1) * bs < offset + len ? (b + 1) * bs : offset + len;

        if (e)
            ret = write_checkpoint(fs, e, (uint32_t)(lo % bs), (uint32_t)(hi - lo),
                                   data ? data + (lo - offset) : NULL, err);
    }
    return ret;
}

/* While things are moved, a block's owner is not what the metadata say. */
static int overwrite(struct ext4_fs *fs, const struct owner_extent *run, uint64_t offset,
                     uint64_t len, const uint8_t *data, struct nf_error *err)
{
    if (!fs->worked_on)
        return content_overwrite(fs, run, offset, len, data, err);
    fs->reshaped = true;
    return 0;
}

/* Data, or what may become some. */
static int write_data(struct ext4_fs *fs, const struct owner_extent *run, uint64_t offset,
                      uint64_t len, const uint8_t *data, struct nf_error *err)
{
    uint32_t bs = fs->block_size;
    int ret;

    if (!unsettled_mode(fs)) {
        if (run->kind == OWN_DATA)
            return overwrite(fs, run, offset, len, data, err);
        hold(fs, offset, len, data);
        return 0;
    }
    hold(fs, offset, len, data);
    ret = unsettled_wrote(fs, offset / bs, (offset + len - 1) / bs - offset / bs + 1, err);
    if (ret == 0 && run->kind == OWN_DATA)
        ret = unsettled_add_file(fs, run->owner, err);
    /* What an inode that waits calls its metadata was read already. */
    fs->in_place_news |= fs->nwaiting > 0;
    return ret < 0 ? ret : picture_follow(&fs->pic, offset, len, data, err);
}

/* [offset, +len) lies in @run: one owner, or nobody. */
static int write_run(struct ext4_fs *fs, const struct owner_extent *run, uint64_t offset,
                     uint64_t len, const uint8_t *data, struct nf_error *err)
{
    uint32_t bs = fs->block_size;
    bool whole = run->kind == OWN_DATA || run->kind == OWN_UNWRITTEN || run->kind == OWN_NONE;
    int ret = 0;

    if (run->kind == OWN_OTHER)
        return write_aside(fs, offset, len, data, err);
    if (whole && !fs->pic.overlay.used)
        return write_data(fs, run, offset, len, data, err);
    while (ret == 0 && len && !fs->gone) {
        uint32_t in = (uint32_t)(offset % bs);
        uint32_t n = bs - in < len ? bs - in : (uint32_t)len;
        uint64_t skip = offset / bs - run->pblk;
        struct owner_extent one = {run->pblk + skip, 1, run->owner,
                                   run->logical + (uint32_t)skip, run->kind};
        struct overlay_entry *e = whole ? picture_overlay(&fs->pic, one.pblk) : NULL;

        if (whole && !e) {
            uint64_t plain = without_copy(fs, offset, len);

            one.len = run->len - skip;
            ret = write_data(fs, &one, offset, plain, data, err);
            offset += plain;
            len -= plain;
            data = data ? data + plain : NULL;
            continue;
        }
        if (e)
            ret = write_checkpoint(fs, e, in, n, data, err);
        else if (run->kind == OWN_JOURNAL)
            ret = write_log(fs, one.pblk, one.logical, in, n, data, err);
        else
            ret = write_metadata(fs, &one, in, n, data, err);
        offset += n;
        len -= n;
        data = data ? data + n : NULL;
    }
    return ret;
}

static int ext4_write(void *opaque, uint64_t offset, uint64_t len, const uint8_t *data,
                      struct nf_error *err)
{
    struct ext4_fs *fs = opaque;
    uint32_t bs = fs->block_size;
    uint64_t end = offset + len, pos = offset / bs;
    uint64_t last = (end + bs - 1) / bs, beyond = fs->blocks * bs;
    struct owner_extent run;
    int ret = 0;

    if (fs->gone)
        return picture_follow(&fs->pic, offset, len, data, err);
    pace_earn(&fs->pace, fs->ctx.emitter->time_ns);
    beyond = beyond > offset ? beyond : offset;
    if (beyond < end) {
        const uint8_t *rest = data ? data + (beyond - offset) : NULL;

        hold(fs, beyond, end - beyond, rest);
        ret = write_aside(fs, beyond, end - beyond, rest, err);
    }

    last = last < fs->blocks ? last : fs->blocks;
    while (ret == 0 && !fs->gone && ownermap_next(&fs->owners, &pos, last, &run)) {
        uint64_t lo = run.pblk * bs > offset ? run.pblk * bs : offset;
        uint64_t hi = (run.pblk + run.len) * bs < end ? (run.pblk + run.len) * bs : end;

        ret = write_run(fs, &run, lo, hi - lo, data ? data + (lo - offset) : NULL, err);
    }
    return ret < 0 ? ret : ext4_image_failure(fs, err);
}

static int unknown(void *opaque, uint64_t offset, uint64_t len, struct nf_error *err)
{
    struct ext4_fs *fs = opaque;
    uint64_t first = offset / fs->block_size;

    (void)err;
    if (fs->gone)
        picture_forget(&fs->pic, first, (offset + len - 1) / fs->block_size - first + 1);
    else
        fs->doubt = true;
    held_forget(fs->ctx.held, fs->ctx.offset + offset, len);
    return 0;
}

/* Has something that waits done so for long enough? */
static bool overdue(const struct ext4_fs *fs)
{
    return fs->nwaiting && fs->ctx.emitter->time_ns >= fs->overdue_ns;
}

static int barrier(void *opaque, bool end, struct nf_error *err)
{
    struct ext4_fs *fs = opaque;
    uint64_t before = fs->pace.looked;
    int ret = 0;

    if (fs->gone)
        return ext4_image_failure(fs, err);
    pace_earn(&fs->pace, fs->ctx.emitter->time_ns);
    if (!fastcommit_active(fs) &&
        (end || ((fs->in_place_news || overdue(fs)) && pace_may_look(&fs->pace)))) {
        ret = in_place_step(fs, end, err);
        pace_pay(&fs->pace, before);
    }
    if (ret == 0 && !fs->gone && unsettled_mode(fs))
        ret = publish(fs, end, err);
    return ret < 0 ? ret : ext4_image_failure(fs, err);
}

static void get_status(const void *opaque, struct bdi_status *st)
{
    const struct ext4_fs *fs = opaque;

    st->waiting += fs->nwaiting + (fs->pace.owing ? fs->pic.staged.used : 0);
    st->looked += fs->pace.looked;
    st->waiting_content += unsettled_files(fs);
}

static int resize(void *opaque, uint64_t size, struct nf_error *err)
{
    struct ext4_fs *fs = opaque;

    picture_remap(&fs->pic);
    fs->ctx.size = size;
    if (!fs->gone && fs->blocks > size / fs->block_size)
        return ext4_end(fs, FS_ENDED, "its partition became smaller than it is", err);
    if (picture_grow(&fs->pic, size / fs->block_size) < 0)
        return nf_fail(err, NF_ENOMEM, "ext4: out of memory");
    return 0;
}

static enum fs_end gone(const void *opaque)
{
    return ((const struct ext4_fs *)opaque)->gone;
}

static int end(void *opaque, const char *reason, struct nf_error *err)
{
    struct ext4_fs *fs = opaque;

    return fs->gone ? 0 : ext4_end(fs, FS_ENDED, reason, err);
}

static void describe(const void *opaque, struct bdi_place *out, char *text, size_t size)
{
    const struct ext4_fs *fs = opaque;

    ext4_feature_names(fs->sb, text, size);
    out->features = text;
    out->uuid = fs->uuid;
    out->memory = ownermap_memory(&fs->owners) + names_memory(&fs->names) + fs->pic.staged_bytes;
    out->overlay = fs->pic.overlay.used;
    out->staged = fs->pic.staged.used;
}

const struct fs_driver ext4_driver = {
    .name = "ext4",
    .probe = probe,
    .attach = ext4_attach,
    .save = ext4_save,
    .resume = ext4_resume,
    .write = ext4_write,
    .unknown = unknown,
    .barrier = barrier,
    .resize = resize,
    .status = get_status,
    .gone = gone,
    .retire = ext4_retire,
    .describe = describe,
    .end = end,
    .detach = ext4_detach,
};
