/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/unsettled.h"

#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/content.h"
#include "common/bytes.h"

struct unsettled_file {
    uint32_t ino;
    uint32_t tried; /* stamp at the last attempt */
    int64_t since_ns;
};

int unsettled_init(struct ext4_fs *fs, struct nf_error *err)
{
    struct unsettled *u = calloc(1, sizeof(*u));

    if (!u || ownermap_init(&u->written, fs->blocks) < 0) {
        free(u);
        return nf_fail(err, NF_ENOMEM, "ext4: out of memory");
    }
    u64map_init(&u->files);
    u->stamp = 1;
    fs->unsettled = u;
    return 0;
}

void unsettled_release(struct ext4_fs *fs)
{
    struct unsettled *u = fs->unsettled;
    size_t pos = 0;
    void *v;

    if (!u)
        return;
    while (u64map_next(&u->files, &pos, NULL, &v))
        free(v);
    u64map_release(&u->files);
    ownermap_release(&u->written);
    free(u);
    fs->unsettled = NULL;
}

bool unsettled_mode(const struct ext4_fs *fs)
{
    return fs->unsettled != NULL;
}

static int stamp(struct ext4_fs *fs, uint64_t pblk, uint64_t len, struct nf_error *err)
{
    /* The logical block only has to go on where the physical one does. */
    struct owner_extent e = {pblk, len, fs->unsettled->stamp, (uint32_t)(pblk & 0x3fffffff),
                             OWN_DATA};
    int ret = ownermap_set(&fs->unsettled->written, &e);

    return ret < 0 ? nf_fail(err, ret, "unsettled content: %s", nf_status_name(ret)) : 0;
}

int unsettled_wrote(struct ext4_fs *fs, uint64_t pblk, uint64_t len, struct nf_error *err)
{
    return stamp(fs, pblk, len, err);
}

int unsettled_wrote_table(struct ext4_fs *fs, uint64_t pblk, struct nf_error *err)
{
    fs->unsettled->stamp++;
    return stamp(fs, pblk, 1, err);
}

void unsettled_committed(struct ext4_fs *fs)
{
    fs->unsettled->stamp++;
}

int unsettled_forget(struct ext4_fs *fs, uint64_t pblk, uint64_t len, struct nf_error *err)
{
    struct ownermap *m = &fs->unsettled->written;
    uint64_t pos = pblk;
    struct owner_extent e;
    int ret = 0;

    while (ret == 0 && ownermap_next(m, &pos, pblk + len, &e)) {
        if (e.kind != OWN_NONE)
            ret = ownermap_clear(m, &e);
    }
    return ret < 0 ? nf_fail(err, ret, "unsettled content: %s", nf_status_name(ret)) : 0;
}

int unsettled_add_file(struct ext4_fs *fs, uint32_t ino, struct nf_error *err)
{
    struct unsettled *u = fs->unsettled;
    struct unsettled_file *f = u64map_get(&u->files, ino);

    if (f) {
        f->tried = 0;
        return 0;
    }
    f = calloc(1, sizeof(*f));
    if (!f || u64map_put(&u->files, ino, f) < 0) {
        free(f);
        return nf_fail(err, NF_ENOMEM, "unsettled content: out of memory");
    }
    f->ino = ino;
    f->since_ns = fs->ctx.emitter->time_ns;
    return 0;
}

/* The stamp of the last thing that vouches for @ino's blocks. */
static uint32_t vouched(struct ext4_fs *fs, uint32_t ino)
{
    struct unsettled *u = fs->unsettled;
    struct owner_extent e;
    uint64_t block;
    uint32_t offset;

    if (fs->journal_open)
        return u->stamp >= 2 ? u->stamp - 1 : 0;
    if (!ext4_inode_place(fs, VIEW_OLD, ino, &block, &offset) ||
        !ownermap_get(&u->written, block, &e))
        return 0;
    return e.owner;
}

enum unsettled_state unsettled_state(struct ext4_fs *fs, uint32_t ino,
                                     const struct ext4_inode *inode, uint64_t pblk, uint64_t *len)
{
    struct unsettled *u = fs->unsettled;
    struct owner_extent e;
    bool seen = ownermap_get(&u->written, pblk, &e);

    *len = e.len < *len ? e.len : *len;
    if (u->publishing_all)
        return UNSETTLED_NOT;
    /* An extent is marked as written when its bytes are; an indirect block is
     * mapped before. */
    if (!seen)
        return inode->raw_flags & EXT4_EXTENTS_FL ? UNSETTLED_NOT : UNSETTLED_NEVER;
    return e.owner < vouched(fs, ino) ? UNSETTLED_NOT : UNSETTLED_WAITS;
}

static int by_ino(const void *a, const void *b)
{
    const struct unsettled_file *x = *(struct unsettled_file *const *)a;
    const struct unsettled_file *y = *(struct unsettled_file *const *)b;

    return (x->ino > y->ino) - (x->ino < y->ino);
}

/* 1: some of it still waits. */
static int publish_file(struct ext4_fs *fs, struct unsettled_file *f, struct nf_error *err)
{
    const uint8_t *raw = ext4_inode_live(fs, VIEW_OLD, f->ino)
                             ? ext4_inode_raw(fs, VIEW_OLD, f->ino) : NULL;
    struct ext4_inode inode;
    struct block_map map = {0};
    struct paths paths = {0};
    struct nf_event ev = {.inode = f->ino};
    int ret;

    if (!raw)
        return 0;
    ext4_inode_decode(&inode, raw, fs->inode_size);
    if (!ext4_is_reg(&inode) || !ext4_has_map(&inode))
        return 0;
    ret = block_map_read(fs, VIEW_OLD, f->ino, &inode, &map, err);
    fs->pace.looked += map.n + map.nnodes;
    if (ret == 0) {
        paths_add_object(fs, &paths, f->ino);
        ev.generation = inode.generation;
        ev.paths = paths.list;
        ev.npaths = paths.n;
        ev.flags = paths_flags(&paths);
        ret = content_emit_settled(fs, &inode, &map, &ev, err);
    }
    block_map_release(&map);
    paths_release(&paths);
    return ret;
}

int unsettled_publish(struct ext4_fs *fs, bool all, struct nf_error *err)
{
    struct unsettled *u = fs->unsettled;
    int64_t now = fs->ctx.emitter->time_ns;
    struct unsettled_file **order;
    size_t n = 0, pos = 0;
    void *v;
    int ret = 0;

    if (!u || !u->files.used)
        return 0;
    fs->pace.looked += u->files.used;
    order = malloc(u->files.used * sizeof(struct unsettled_file *));
    if (!order)
        return nf_fail(err, NF_ENOMEM, "unsettled content: out of memory");
    while (u64map_next(&u->files, &pos, NULL, &v)) {
        struct unsettled_file *f = v;
        uint32_t by = vouched(fs, f->ino);

        if (!all && f->tried == by && now - f->since_ns < UNSETTLED_WAIT_NS)
            continue;
        f->tried = by;
        order[n++] = f;
    }
    if (n)
        qsort(order, n, sizeof(*order), by_ino);
    fs->txn = 0;
    fs->index = 0;
    for (size_t i = 0; ret >= 0 && i < n; i++) {
        bool late = now - order[i]->since_ns >= UNSETTLED_WAIT_NS;
        uint32_t before = fs->index;

        u->publishing_all = all || late;
        fs->step_flags = u->publishing_all && !fs->clean ? NF_EV_UNORDERED : 0;
        ret = publish_file(fs, order[i], err);
        if (ret == 0) {
            u64map_remove(&u->files, order[i]->ino);
            free(order[i]);
        } else if (ret > 0 && fs->index != before) {
            order[i]->since_ns = now;
        }
    }
    u->publishing_all = false;
    fs->step_flags = 0;
    free(order);
    if (ret >= 0 && fs->index) {
        struct nf_event ev = {.kind = NF_COMMIT, .commit.events = fs->index};

        fs->ctx.emitter->status.steps++;
        ret = ext4_emit(fs, &ev, err);
    }
    return ret < 0 ? ret : 0;
}

size_t unsettled_files(const struct ext4_fs *fs)
{
    return fs->unsettled ? fs->unsettled->files.used : 0;
}

/* --- saving and resuming -------------------------------------------------- */

/* Little-endian: the stamp and how many runs and files there are, then the runs (block,
 * length, stamp) and the files (inode, since). */
#define HEAD_SIZE 12u
#define RUN_SIZE 20u
#define FILE_SIZE 12u

static size_t count_runs(const struct ext4_fs *fs)
{
    uint64_t pos = 0;
    struct owner_extent e;
    size_t n = 0;

    while (ownermap_next(&fs->unsettled->written, &pos, fs->blocks, &e))
        n += e.kind != OWN_NONE;
    return n;
}

size_t unsettled_save_size(const struct ext4_fs *fs)
{
    return fs->unsettled ? HEAD_SIZE + count_runs(fs) * RUN_SIZE +
                               fs->unsettled->files.used * FILE_SIZE
                         : 0;
}

int unsettled_save(const struct ext4_fs *fs, struct nf_buffer *out)
{
    const struct unsettled *u = fs->unsettled;
    uint8_t *p = u ? nf_buffer_reserve(out, unsettled_save_size(fs)) : NULL;
    uint64_t pos = 0;
    struct owner_extent e;
    size_t at = 0;
    void *v;

    if (!u || !p)
        return u ? NF_ENOMEM : 0;
    out->len += unsettled_save_size(fs);
    nf_put_le32(p, u->stamp);
    nf_put_le32(p + 4, (uint32_t)count_runs(fs));
    nf_put_le32(p + 8, (uint32_t)u->files.used);
    p += HEAD_SIZE;
    while (ownermap_next(&u->written, &pos, fs->blocks, &e)) {
        if (e.kind == OWN_NONE)
            continue;
        nf_put_le64(p, e.pblk);
        nf_put_le64(p + 8, e.len);
        nf_put_le32(p + 16, e.owner);
        p += RUN_SIZE;
    }
    while (u64map_next(&u->files, &at, NULL, &v)) {
        const struct unsettled_file *f = v;

        nf_put_le32(p, f->ino);
        nf_put_le64(p + 4, (uint64_t)f->since_ns);
        p += FILE_SIZE;
    }
    return 0;
}

int unsettled_load(struct ext4_fs *fs, struct nf_bytes state, struct nf_error *err)
{
    const uint8_t *p = state.data;
    uint64_t runs, files;
    int ret = state.len < HEAD_SIZE ? NF_EFORMAT : unsettled_init(fs, err);

    if (ret == NF_ENOMEM)
        return ret;
    runs = ret == 0 ? nf_le32(p + 4) : 0;
    files = ret == 0 ? nf_le32(p + 8) : 0;
    if (ret < 0 || state.len != HEAD_SIZE + runs * RUN_SIZE + files * FILE_SIZE)
        return nf_fail(err, NF_EFORMAT, "state: ext4: unsettled content");
    p += HEAD_SIZE;
    for (; ret == 0 && runs; runs--, p += RUN_SIZE) {
        uint64_t pblk = nf_le64(p), len = nf_le64(p + 8);

        fs->unsettled->stamp = nf_le32(p + 16);
        if (pblk >= fs->blocks || len == 0 || len > fs->blocks - pblk)
            return nf_fail(err, NF_EFORMAT, "state: ext4: unsettled block %llu",
                           (unsigned long long)pblk);
        ret = stamp(fs, pblk, len, err);
    }
    for (; ret == 0 && files; files--, p += FILE_SIZE) {
        ret = unsettled_add_file(fs, nf_le32(p), err);
        if (ret == 0)
            ((struct unsettled_file *)u64map_get(&fs->unsettled->files, nf_le32(p)))->since_ns =
                (int64_t)nf_le64(p + 4);
    }
    fs->unsettled->stamp = nf_le32(state.data);
    return ret;
}
