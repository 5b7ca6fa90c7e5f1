/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/judge.h"

#include <stdlib.h>
#include <string.h>

#include "bdi/ext4/judge_private.h"
#include "bdi/ext4/shown.h"
#include "common/bytes.h"

/* Rounds until everything is found that hangs on what waits. A guest can tie longer
 * chains: then all of it waits. */
#define ROUNDS_MAX 64

static struct candidate *find(const struct judge *j, uint32_t ino)
{
    return u64map_get(&j->candidates, ino);
}

static int64_t waits_since(const struct ext4_fs *fs, uint32_t ino, int64_t now)
{
    size_t lo = 0, hi = fs->nwaiting;

    while (lo < hi) {
        size_t mid = (lo + hi) / 2;

        if (fs->waiting[mid].ino == ino)
            return fs->waiting[mid].since_ns;
        if (fs->waiting[mid].ino < ino)
            lo = mid + 1;
        else
            hi = mid;
    }
    return now;
}

struct candidate *judge_candidate(struct judge *j, uint32_t ino)
{
    struct candidate *c = find(j, ino);

    if (c)
        return c;
    c = calloc(1, sizeof(*c));
    if (!c || u64map_put(&j->candidates, ino, c) < 0) {
        free(c);
        return NULL;
    }
    c->ino = ino;
    c->si = step_inode_of(&j->step, ino);
    c->since_ns = waits_since(j->fs, ino, j->now_ns);
    c->forced = j->all || j->now_ns - c->since_ns >= JUDGE_WAIT_NS;
    return c;
}

/* True if that is news. */
static bool put_off(struct judge *j, struct candidate *c)
{
    if (!c || c->waits)
        return false;
    if (c->forced) {
        j->forced = true;
        return false;
    }
    c->waits = true;
    return true;
}

static bool put_off_ino(struct judge *j, uint32_t ino)
{
    return put_off(j, find(j, ino));
}

static bool ino_waits(const struct judge *j, uint32_t ino)
{
    const struct candidate *c = find(j, ino);

    return c && c->waits;
}

static bool waits_cb(void *opaque, uint32_t ino)
{
    return ino_waits(opaque, ino);
}

/* --- what hangs together ------------------------------------------------------------- */

static int by_key(const void *a, const void *b)
{
    const struct name_change *x = a, *y = b;

    if (x->key != y->key)
        return x->key < y->key ? -1 : 1;
    return (x->ino > y->ino) - (x->ino < y->ino);
}

static int by_block(const void *a, const void *b)
{
    const struct name_change *x = *(const struct name_change *const *)a;
    const struct name_change *y = *(const struct name_change *const *)b;

    return (x->block > y->block) - (x->block < y->block);
}

/* All that happens to one name of one directory happens at once, and with the
 * directory. */
static bool tie_names(struct judge *j)
{
    bool news = false;

    for (size_t i = 0, end; i < j->nchanges; i = end) {
        bool waits = false;

        for (end = i; end < j->nchanges && j->changes[end].key == j->changes[i].key; end++) {
            const struct name_change *ch = &j->changes[end];

            waits |= ino_waits(j, ch->ino) || ino_waits(j, ch->dir);
            /* A directory that gives up a block gives up all that is in it. */
            if (ch->lost && ino_waits(j, ch->ino))
                news |= put_off_ino(j, ch->dir);
        }
        for (size_t k = i; waits && k < end; k++)
            news |= put_off_ino(j, j->changes[k].ino);
    }
    return news;
}

static bool tie_blocks(struct judge *j)
{
    bool news = false;

    for (size_t i = 0; i < j->nneeds; i++) {
        if (ino_waits(j, j->needs[i].of))
            news |= put_off_ino(j, j->needs[i].ino);
    }
    return news;
}

/* The entries of one directory block, of which some wait: can there be a block that
 * has just the others? */
static int mix_block(struct judge *j, const struct name_change *ch, uint8_t **out,
                     struct nf_error *err)
{
    struct ext4_fs *fs = j->fs;
    const uint8_t *old = NULL, *new = picture_home(&fs->pic, ch->block, err);
    struct dirblock_form form;
    uint8_t *mixed;

    if (!new)
        return err ? err->code : NF_EIO;
    if (!ch->gained) {
        old = picture_block(&fs->pic, VIEW_OLD, ch->block, err);
        if (!old)
            return err ? err->code : NF_EIO;
    }
    mixed = malloc(fs->block_size);
    if (!mixed)
        return nf_fail(err, NF_ENOMEM, "step: out of memory");
    form = shown_form(fs, VIEW_NEW, ch->dir, &find(j, ch->dir)->si->new).block;
    if (dirblock_mix(old, new, mixed, fs->block_size, form, waits_cb, j)) {
        *out = mixed;
        return 0;
    }
    free(mixed);
    return 1;
}

/* Calls @fn with each group of changes in one block that has both kinds. */
typedef int group_fn(struct judge *j, struct name_change **list, size_t n, bool *news,
                     struct nf_error *err);

static int for_each_mixed(struct judge *j, group_fn *fn, bool *news, struct nf_error *err)
{
    int ret = 0;

    for (size_t i = 0, end; ret == 0 && i < j->nchanges; i = end) {
        bool waits = false;

        for (end = i; end < j->nchanges && j->by_block[end]->block == j->by_block[i]->block; end++)
            waits |= ino_waits(j, j->by_block[end]->ino);
        if (waits && !j->by_block[i]->lost && !ino_waits(j, j->by_block[i]->dir))
            ret = fn(j, j->by_block + i, end - i, news, err);
    }
    return ret;
}

static int tie_block_if_unmixable(struct judge *j, struct name_change **list, size_t n, bool *news,
                                  struct nf_error *err)
{
    uint8_t *mixed = NULL;
    int ret = mix_block(j, list[0], &mixed, err);

    free(mixed);
    for (size_t i = 0; ret == 1 && i < n; i++)
        *news |= put_off_ino(j, list[i]->ino);
    return ret < 0 ? ret : 0;
}

static int tie(struct judge *j, struct nf_error *err)
{
    bool news = true;
    int ret = 0;

    if (j->nchanges) {
        j->by_block = malloc(j->nchanges * sizeof(struct name_change *));
        if (!j->by_block)
            return nf_fail(err, NF_ENOMEM, "step: out of memory");
        qsort(j->changes, j->nchanges, sizeof(*j->changes), by_key);
        for (size_t i = 0; i < j->nchanges; i++)
            j->by_block[i] = &j->changes[i];
        qsort(j->by_block, j->nchanges, sizeof(struct name_change *), by_block);
    }
    for (int round = 0; ret == 0 && news && round < ROUNDS_MAX; round++) {
        j->fs->pace.looked += j->nchanges + j->nneeds;
        news = tie_names(j);
        news |= tie_blocks(j);
        if (!news)
            ret = for_each_mixed(j, tie_block_if_unmixable, &news, err);
    }
    if (ret == 0 && news) {
        size_t pos = 0;
        void *v;

        while (u64map_next(&j->candidates, &pos, NULL, &v))
            put_off(j, v);
    }
    return ret;
}

/* --- carrying it out ------------------------------------------------------------------- */

static uint8_t *copy_of(struct judge *j, const uint8_t *data)
{
    uint8_t *copy = malloc(j->fs->block_size);

    if (copy)
        memcpy(copy, data, j->fs->block_size);
    return copy;
}

/* The table's slots, or the bitmap's bits, of inodes that wait stay old. */
static int mix_inodes(struct judge *j, struct staged *s, const struct owner_extent *owner,
                      struct nf_error *err)
{
    struct ext4_fs *fs = j->fs;
    bool table = owner->kind == OWN_ITABLE;
    uint32_t per = table ? fs->block_size / fs->inode_size : fs->inodes_per_group;
    uint64_t first = (uint64_t)owner->owner * fs->inodes_per_group + 1 +
                     (table ? (uint64_t)owner->logical * per : 0);
    uint8_t *mixed = NULL;

    for (uint32_t i = 0; i < per && first + i <= fs->inodes; i++) {
        size_t at = (size_t)i * fs->inode_size;

        if (!ino_waits(j, (uint32_t)(first + i)))
            continue;
        if (!mixed)
            mixed = copy_of(j, s->new);
        if (!mixed)
            return nf_fail(err, NF_ENOMEM, "step: out of memory");
        if (table)
            memcpy(mixed + at, s->old + at, fs->inode_size);
        else if ((s->old[i / 8] >> (i % 8) & 1) != (mixed[i / 8] >> (i % 8) & 1))
            mixed[i / 8] ^= (uint8_t)(1u << (i % 8));
    }
    if (mixed)
        picture_stage_mixed(s, mixed);
    return 0;
}

static int mix_directory(struct judge *j, struct name_change **list, size_t n, bool *news,
                         struct nf_error *err)
{
    struct staged *s = picture_stage_unchanged(&j->fs->pic, list[0]->block, err);
    uint8_t *mixed = NULL;
    int ret;

    (void)n, (void)news;
    if (!s)
        return err ? err->code : NF_ENOMEM;
    ret = mix_block(j, list[0], &mixed, err);
    if (ret == 0)
        picture_stage_mixed(s, mixed);
    return ret < 0 ? ret : 0;
}

static int carry_out(struct judge *j, struct nf_error *err)
{
    struct ext4_fs *fs = j->fs;
    int ret = 0;

    for (size_t i = 0; ret == 0 && i < j->step.nblocks; i++) {
        struct staged *s = u64map_get(&fs->pic.staged, j->step.blocks[i]->fsblock);
        struct owner_extent owner;

        if (!s || !s->old || !ownermap_get(&fs->owners, s->fsblock, &owner))
            continue;
        if (owner.kind == OWN_ITABLE || owner.kind == OWN_INODE_BITMAP)
            ret = mix_inodes(j, s, &owner, err);
        else if ((owner.kind == OWN_DIR || owner.kind == OWN_NODE || owner.kind == OWN_XATTR) &&
                 ino_waits(j, owner.owner))
            picture_stage_mixed(s, NULL);
    }
    return ret < 0 ? ret : for_each_mixed(j, mix_directory, NULL, err);
}

static int by_ino(const void *a, const void *b)
{
    const struct ext4_waiting *x = a, *y = b;

    return (x->ino > y->ino) - (x->ino < y->ino);
}

static int remember_waiting(struct judge *j, struct nf_error *err)
{
    struct ext4_fs *fs = j->fs;
    size_t pos = 0, n = 0;
    struct ext4_waiting *list = calloc(j->candidates.used + 1, sizeof(*list));
    void *v;

    if (!list)
        return nf_fail(err, NF_ENOMEM, "step: out of memory");
    fs->overdue_ns = INT64_MAX;
    while (u64map_next(&j->candidates, &pos, NULL, &v)) {
        const struct candidate *c = v;

        if (!c->waits)
            continue;
        list[n++] = (struct ext4_waiting){c->ino, c->since_ns};
        if (c->since_ns + JUDGE_WAIT_NS < fs->overdue_ns)
            fs->overdue_ns = c->since_ns + JUDGE_WAIT_NS;
    }
    qsort(list, n, sizeof(*list), by_ino);
    free(fs->waiting);
    fs->waiting = list;
    fs->nwaiting = n;
    return 0;
}

static void judge_release(struct judge *j)
{
    size_t pos = 0;
    void *v;

    while (u64map_next(&j->candidates, &pos, NULL, &v))
        free(v);
    u64map_release(&j->candidates);
    step_release(&j->step);
    free(j->changes);
    free(j->by_block);
    free(j->claims);
    free(j->needs);
}

int judge_run(struct ext4_fs *fs, bool all, bool *forced, struct nf_error *err)
{
    struct judge j = {.fs = fs, .all = all, .now_ns = fs->ctx.emitter->time_ns};
    size_t pos = 0;
    void *v;
    int ret;

    j.hash_key = siphash_process_key();
    u64map_init(&j.candidates);
    ret = step_begin(fs, &j.step, err);
    if (fs->gone)
        goto out;
    for (size_t i = 0; ret == 0 && i < j.step.n; i++) {
        if (!judge_candidate(&j, j.step.order[i]->ino))
            ret = nf_fail(err, NF_ENOMEM, "step: out of memory");
    }
    if (ret == 0)
        ret = judge_see_names(&j, err);
    if (ret == 0)
        ret = judge_see_claims(&j, err);
    while (ret == 0 && u64map_next(&j.candidates, &pos, NULL, &v)) {
        struct candidate *c = v;

        if (c->damaged || !judge_inode_fits(&j, c))
            put_off(&j, c);
    }
    if (ret == 0)
        ret = tie(&j, err);
    if (ret == 0)
        ret = carry_out(&j, err);
    if (ret == 0)
        ret = remember_waiting(&j, err);
    *forced = j.forced;
out:
    judge_release(&j);
    return ret;
}
