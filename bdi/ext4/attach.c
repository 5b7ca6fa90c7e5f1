/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Attaching: from an image to a picture, an owner map and a name index.
 */
#include "bdi/ext4/ext4.h"

#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/extents.h"
#include "bdi/ext4/inode.h"
#include "bdi/ext4/unsettled.h"

#define GROUP_BLOCKS_MIN 256u /* mke2fs -g takes no less */

/* Where the log is. */
static int open_journal(struct ext4_fs *fs, struct nf_error *err)
{
    const uint8_t *raw = ext4_inode_raw(fs, VIEW_OLD, fs->journal_ino);
    struct ext4_inode inode;
    struct block_map map;
    uint32_t next = 0;
    int ret;

    if (!raw)
        return nf_fail(err, NF_EFORMAT, "ext4: the journal's inode cannot be read");
    ext4_inode_decode(&inode, raw, fs->inode_size);
    ret = block_map_read(fs, VIEW_OLD, fs->journal_ino, &inode, &map, err);
    if (ret < 0)
        goto out;
    fs->pic.log = calloc(map.n ? map.n : 1, sizeof(*fs->pic.log));
    if (!fs->pic.log) {
        ret = nf_fail(err, NF_ENOMEM, "ext4: out of memory");
        goto out;
    }
    for (size_t i = 0; i < map.n; i++) {
        if (map.ext[i].lblk != next)
            break;
        fs->pic.log[fs->pic.nlog++] =
            (struct log_extent){map.ext[i].lblk, map.ext[i].len, map.ext[i].pblk};
        next += map.ext[i].len;
    }
    fs->pic.log_blocks = next;
    ret = journal_init(&fs->journal, fs->block_size, next, picture_log_block, &fs->pic, err);
    if (ret < 0)
        goto out;
    fs->journal_open = true;
    fs->journal.fc_inode_size = fs->inode_size;
    /* All of it now: what is read when it is reached may be newer than the writes
     * that we have seen by then. */
    for (uint32_t b = fs->journal.fc_first; b < fs->journal.fc_end; b++)
        (void)picture_log_block(&fs->pic, b);
out:
    block_map_release(&map);
    return ret;
}

/* Recovery, but into the overlay. */
static int recover(struct ext4_fs *fs, struct nf_error *err)
{
    struct journal_txn txn;
    int ret;

    while ((ret = journal_next(&fs->journal, &txn, err)) > 0) {
        ret = picture_stage_txn(&fs->pic, &txn, err);
        if (ret == 0)
            ret = picture_settle(&fs->pic, err);
        if (ret < 0)
            break;
    }
    return ret;
}

/* Writes to the log are known by their owner: all of it must be the journal's. */
static int check_log_owned(struct ext4_fs *fs, struct nf_error *err)
{
    for (size_t i = 0; i < fs->pic.nlog; i++) {
        uint64_t pos = fs->pic.log[i].pblk, end = pos + fs->pic.log[i].len;
        struct owner_extent now;

        while (ownermap_next(&fs->owners, &pos, end, &now)) {
            if (now.kind != OWN_JOURNAL)
                return nf_fail(err, NF_EFORMAT, "ext4: block %llu of the journal is something else too",
                               (unsigned long long)now.pblk);
        }
    }
    return 0;
}

/* Content that has a copy in the log may have been overwritten in place already;
 * when the copy ends its time, that is what counts. What was so when the engine
 * attached is in the shadow of one that is resumed. */
static int read_logged_data(struct ext4_fs *fs, struct nf_error *err)
{
    struct owner_extent owner;
    uint64_t block;
    size_t pos = 0;
    void *v;

    while (!fs->pic.resuming && u64map_next(&fs->pic.overlay, &pos, &block, &v)) {
        if (ownermap_get(&fs->owners, block, &owner) && owner.kind == OWN_DATA &&
            !picture_home(&fs->pic, block, err))
            return err ? err->code : NF_EIO;
    }
    return 0;
}

/* An image that could not be read must not pass for a damaged file system. */
int ext4_image_failure(const struct ext4_fs *fs, struct nf_error *err)
{
    const struct nf_error *f = &fs->pic.failure;

    return f->code ? nf_fail(err, f->code, "%s", f->text) : 0;
}

/* What libext2fs takes on trust when it reads all group descriptors at once: a
 * made-up size, or groups of a few blocks, would be gigabytes of them. */
static int check_size(const uint8_t *sb, uint32_t block_size, uint64_t size, struct nf_error *err)
{
    bool wide = nf_le32(sb + 0x60) & EXT4_FEATURE_INCOMPAT_64BIT;
    uint64_t blocks = nf_le32(sb + 0x04) | (wide ? (uint64_t)nf_le32(sb + 0x150) << 32 : 0);

    if (blocks > size / block_size)
        return nf_fail(err, NF_EFORMAT, "ext4: %llu blocks of %u bytes do not fit into %llu bytes",
                       (unsigned long long)blocks, block_size, (unsigned long long)size);
    if (nf_le32(sb + 0x20) < GROUP_BLOCKS_MIN)
        return nf_fail(err, NF_EFORMAT, "ext4: groups of %u blocks are too small",
                       nf_le32(sb + 0x20));
    return 0;
}

/* The picture of @fs, with what @before, which ended in the same place, had read. */
static int picture_start(struct ext4_fs *fs, struct ext4_fs *before, struct nf_error *err)
{
    bool moved = fs->pic.moved;
    int ret = picture_init(&fs->pic, &fs->ctx, fs->block_size, fs->ctx.size / fs->block_size, err);

    if (ret < 0)
        return ret;
    fs->pic.attaching = true;
    fs->pic.moved = moved;
    /* What @before knows of home is in the shadow. */
    if (before ? before->doubt || before->block_size != fs->block_size : fs->ctx.again)
        picture_forget(&fs->pic, 0, UINT64_MAX);
    return 0;
}

/* Read what a snapshot will need of metadata, before anything is said. */
static int rehearse_snapshot(struct ext4_fs *fs, struct nf_error *err)
{
    int ret;

    fs->quiet = true;
    ret = ext4_snapshot(fs, err);
    fs->quiet = false;
    return ret;
}

/* The superblock as it is in place: what @before has of it, else the image's. */
static int read_super(const struct fs_context *ctx, struct ext4_fs *before, uint8_t sb[1024],
                      struct nf_error *err)
{
    if (before && !before->doubt && picture_present(&before->pic, 1024 / before->block_size)) {
        memcpy(sb, before->pic.home + 1024, 1024);
        return 0;
    }
    return ctx->img->read(ctx->img, ctx->offset + 1024, sb, 1024, err);
}

/* What is ahead of the last full commit, too. Blocks that wait for a barrier have
 * no part in that. */
static int read_fast_commits(struct ext4_fs *fs, const struct nf_bytes *state,
                             struct nf_error *err)
{
    int ret;

    picture_drop_staged(&fs->pic);
    fs->quiet = true;
    ret = ext4_fast_commits(fs, err);
    fs->quiet = false;
    return ret == 0 && state ? picture_load(&fs->pic, *state, err) : ret;
}

/* Everything that is read from the picture: geometry, log, owners, names. @state:
 * blocks that wait for a barrier, or null. */
static int build(struct ext4_fs *fs, const struct nf_bytes *state, struct nf_error *err)
{
    /* As it is in place, or was before what waits, to find the journal... */
    int ret = state ? picture_load(&fs->pic, *state, err) : 0;

    if (ret == 0)
        ret = picture_open_fs(&fs->pic, &fs->fs, err);
    if (ret == 0)
        ret = ext4_read_geometry(fs, err);
    if (ret == 0 && fs->journal_ino)
        ret = open_journal(fs, err);
    picture_drop_staged(&fs->pic);
    if (ret == 0 && fs->journal_open)
        ret = recover(fs, err);
    if (ret == 0 && state)
        ret = picture_load(&fs->pic, *state, err);
    if (ret < 0)
        return ret;
    /* ...and again as it is with what the journal has committed. */
    ext2fs_free(fs->fs);
    fs->fs = NULL;
    ret = picture_open_fs(&fs->pic, &fs->fs, err);
    if (ret == 0)
        ret = ext4_read_geometry(fs, err);
    if (ret < 0)
        return ret;
    fs->inline_buf = calloc(2, fs->inode_size);
    if (!fs->inline_buf || ownermap_init(&fs->owners, fs->blocks) < 0)
        return nf_fail(err, NF_ENOMEM, "ext4: out of memory");
    ret = ext4_crawl(fs, err);
    if (ret == 0)
        ret = check_log_owned(fs, err);
    if (ret == 0)
        ret = read_logged_data(fs, err);
    if (ret == 0)
        ret = ext4_super_mark(fs, err);
    /* Half done: it is read again when it is whole. */
    fs->reshaped = fs->worked_on;
    return ret < 0 || !fs->journal_open ? ret : read_fast_commits(fs, state, err);
}

/* Are freed blocks used again before their release is committed? */
static bool content_unsettled(const struct ext4_fs *fs)
{
    enum bdi_data_mode mode = fs->ctx.emitter->opt.data_mode;
    uint32_t defaults = fs->fs->super->s_default_mount_opts & EXT3_DEFM_JMODE;

    if (!fs->journal_open)
        return true;
    return mode == BDI_DATA_WRITEBACK ||
           (mode == BDI_DATA_AUTO && defaults == EXT3_DEFM_JMODE_WBACK);
}

int ext4_attach(const struct fs_context *ctx, void **inout, struct nf_error *err)
{
    struct ext4_fs *before = *inout, *fs = calloc(1, sizeof(*fs));
    bool snapshot = ctx->emitter->opt.snapshot;
    uint8_t probe_sb[1024];
    uint32_t log_bs;
    int ret;

    if (!fs) {
        ret = nf_fail(err, NF_ENOMEM, "ext4: out of memory");
        goto fail;
    }
    fs->ctx = *ctx;
    pace_init(&fs->pace);
    if (ctx->size < 4096) {
        ret = nf_fail(err, NF_EFORMAT, "ext4: too small");
        goto fail;
    }
    /* The block size must be known before anything is cut into blocks. */
    ret = read_super(ctx, before, probe_sb, err);
    if (ret < 0)
        goto fail;
    fs->pic.moved = ret > 0;
    log_bs = nf_le32(probe_sb + 0x18);
    if (nf_le16(probe_sb + 0x38) != EXT2_SUPER_MAGIC || log_bs > 6) {
        ret = nf_fail(err, NF_EFORMAT, "ext4: no valid superblock");
        goto fail;
    }
    fs->block_size = 1024u << log_bs;
    ret = check_size(probe_sb, fs->block_size, ctx->size, err);
    if (ret == 0)
        ret = picture_start(fs, before, err);
    xattr_owners_init(&fs->xattr_owners);
    if (ret == 0 && names_init(&fs->names) < 0)
        ret = nf_fail(err, NF_ENOMEM, "ext4: out of memory");
    if (ret == 0)
        ret = build(fs, NULL, err);
    if (ret == 0 && ctx->again && snapshot)
        ret = rehearse_snapshot(fs, err);
    if (ret == 0)
        ret = ext4_image_failure(fs, err);
    if (ret < 0 || fs->pic.moved)
        goto fail;
    ret = ext4_emit_fs(fs, NF_FS_ATTACHED, NULL, err);
    if (ret == 0 && snapshot)
        ret = ext4_snapshot(fs, err);
    if (ret == 0 && content_unsettled(fs))
        ret = unsettled_init(fs, err);
    if (ret == 0)
        ext4_see_clean(fs);
    if (ret == 0)
        ret = ext4_image_failure(fs, err);
    if (ret < 0)
        goto fail;
    fs->pic.attaching = false;
    ext4_detach(before);
    *inout = fs;
    return 0;
fail:
    *inout = NULL;
    if (fs && ret == NF_EFORMAT && ext4_image_failure(fs, err) < 0)
        ret = fs->pic.failure.code;
    /* What looks broken in a disk that moves may be whole. */
    if (fs && fs->pic.moved && (ret >= 0 || ret == NF_EFORMAT || ret == NF_EUNSUPPORTED)) {
        ret = nf_fail(err, NF_EBUSY, "ext4: it is being written to");
        if (fs->pic.home) {
            ext4_retire(fs);
            *inout = fs;
            fs = NULL;
        }
    }
    ext4_detach(before);
    ext4_detach(fs);
    return ret;
}

/* --- saving and resuming -------------------------------------------------- */

/* What is not in the shadow, little-endian; then picture_save()'s. */
enum {
    S_VERSION = 0,
    S_BLOCK_SIZE = 4,
    S_DOUBT = 8,
    S_UNSETTLED = 12, /* bytes of unsettled_save()'s, which come next */
    S_HEADER = 16,

    STATE_VERSION = 2,
};

int ext4_save(const void *opaque, struct nf_buffer *out, struct nf_error *err)
{
    const struct ext4_fs *fs = opaque;
    uint8_t head[S_HEADER] = {0};

    nf_put_le32(head + S_VERSION, STATE_VERSION);
    nf_put_le32(head + S_BLOCK_SIZE, fs->block_size);
    nf_put_le32(head + S_DOUBT, fs->doubt);
    nf_put_le32(head + S_UNSETTLED, (uint32_t)unsettled_save_size(fs));
    if (nf_buffer_append(out, head, sizeof(head)) < 0 || unsettled_save(fs, out) < 0)
        return nf_fail(err, NF_ENOMEM, "state: out of memory");
    return picture_save(&fs->pic, out, err);
}

int ext4_resume(const struct fs_context *ctx, struct nf_bytes state, void **out,
                struct nf_error *err)
{
    const uint8_t *head = state.data;
    struct nf_bytes rest, unsettled;
    struct ext4_fs *fs;
    uint32_t block_size;
    int ret;

    if (state.len < S_HEADER || nf_le32(head + S_VERSION) != STATE_VERSION)
        return nf_fail(err, NF_EFORMAT, "state: ext4: not of this version");
    block_size = nf_le32(head + S_BLOCK_SIZE);
    if (block_size < 1024 || block_size > 65536 || (block_size & (block_size - 1)) ||
        ctx->size < 4096 || ctx->size < block_size)
        return nf_fail(err, NF_EFORMAT, "state: ext4: blocks of %u bytes", block_size);
    ret = check_size(ctx->shadow->map + ctx->offset + 1024, block_size, ctx->size, err);
    if (ret < 0)
        return ret;
    fs = calloc(1, sizeof(*fs));
    if (!fs)
        return nf_fail(err, NF_ENOMEM, "ext4: out of memory");
    fs->ctx = *ctx;
    pace_init(&fs->pace);
    fs->block_size = block_size;
    fs->doubt = nf_le32(head + S_DOUBT) & 1;
    unsettled = (struct nf_bytes){head + S_HEADER, nf_le32(head + S_UNSETTLED)};
    if (unsettled.len > state.len - S_HEADER) {
        ext4_detach(fs);
        return nf_fail(err, NF_EFORMAT, "state: ext4: cut short");
    }
    rest = (struct nf_bytes){head + S_HEADER + unsettled.len,
                             state.len - S_HEADER - unsettled.len};
    ret = picture_init(&fs->pic, &fs->ctx, block_size, ctx->size / block_size, err);
    if (ret == 0 && names_init(&fs->names) < 0)
        ret = nf_fail(err, NF_ENOMEM, "ext4: out of memory");
    fs->pic.resuming = true;
    fs->pic.attaching = true; /* what moved since is not kept... */
    if (ret == 0)
        ret = build(fs, &rest, err);
    fs->pic.resuming = false;
    fs->pic.attaching = false;
    if (ret == 0 && fs->pic.moved) /* ...and cannot be had any more */
        ret = nf_fail(err, NF_EFORMAT, "state: ext4: a block that it lacks was written since");
    fs->in_place_news = true;
    if (ret == 0 && unsettled.len)
        ret = unsettled_load(fs, unsettled, err);
    if (ret == 0)
        ext4_see_clean(fs);
    if (ret == 0 || ret == NF_EFORMAT) {
        int failure = ext4_image_failure(fs, err);

        ret = failure < 0 ? failure : ret;
    }
    if (ret < 0) {
        ext4_detach(fs);
        return ret;
    }
    *out = fs;
    return 0;
}
