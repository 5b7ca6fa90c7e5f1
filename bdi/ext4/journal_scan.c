/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding the next transaction.
 *
 * A transaction is valid here exactly if the kernel's recovery would replay it
 * without an error: all its descriptor, revoke and commit blocks carry its id
 * and stand where the chain of tags puts them, and every checksum that the
 * journal has is right. For a copied block with a wrong checksum the kernel
 * replays the rest, then fails the mount; for us the whole transaction is not
 * valid until that block is. (The kernel does not look at the checksum of a
 * copy that is revoked; jbd2 never writes a wrong one there, and we do.)
 *
 * Three steps. The walk reads only headers and tags, from next_block to the
 * commit block. The checksums follow when the chain is complete, and last the
 * lists are made. What stopped a walk says which writes can change its
 * outcome, so journal_written() needs no scan.
 */
#include "bdi/ext4/journal_private.h"

#include <stdlib.h>

enum {
    TAG_CHECKSUM_V2 = 4, /* 16 bits; not used by v3 */
    TAG_FLAGS = 6,       /* 16 bits; the low half of v3's 32 */
    TAG_BLOCK_HIGH = 8,
    TAG_CHECKSUM_V3 = 12,

    COMMIT_SEC = 0x30,
    COMMIT_NSEC = 0x38,

    /* Revoked blocks one transaction may name. jbd2 keeps a transaction to a
     * quarter of the log, so even a full 128 MiB log stays far below. */
    MAX_REVOKES = 16 * 1024 * 1024,
    KEEP_ROOM = 128 * 1024,
};

static uint32_t span(const struct journal *j)
{
    return j->maxlen - j->first;
}

static uint32_t distance(const struct journal *j, uint32_t lblk)
{
    return lblk >= j->next_block ? lblk - j->next_block
                                 : j->maxlen - j->next_block + (lblk - j->first);
}

static uint32_t block_at(const struct journal *j, uint32_t dist)
{
    uint32_t to_end = j->maxlen - j->next_block;

    return dist < to_end ? j->next_block + dist : j->first + (dist - to_end);
}

static const uint8_t *read_at(const struct journal *j, uint32_t dist)
{
    return j->block(j->opaque, block_at(j, dist));
}

/* The type of a block that belongs to the expected transaction, else 0. */
static uint32_t control_type(const struct journal *j, const uint8_t *block)
{
    if (!block || nf_be32(block) != JBD_MAGIC || nf_be32(block + 8) != j->next_tid)
        return 0;
    return nf_be32(block + 4);
}

void journal_scan_reset(struct journal *j)
{
    struct journal_scratch *s = j->scratch;

    s->ncontrol = 0;
    s->stop = 0;
    s->stop_is_any = false;
    s->fresh = true;
    journal_cache_drop(j);
}

/* Room for one more element in an array that doubles. */
static int grow(void **array, size_t *room, size_t used, size_t size, struct nf_error *err)
{
    size_t more = *room ? *room * 2 : 64;
    void *p;

    if (used < *room)
        return 0;
    p = reallocarray(*array, more, size);
    if (!p)
        return nf_fail(err, NF_ENOMEM, "out of memory for a journal transaction");
    *array = p;
    *room = more;
    return 0;
}

/* One huge transaction shall not hold its memory for ever. */
static void trim(struct journal_scratch *s)
{
    if (s->tags_room > KEEP_ROOM) {
        free(s->tags);
        s->tags = NULL;
        s->tags_room = 0;
    }
    if (s->revokes_room > KEEP_ROOM) {
        free(s->revokes);
        s->revokes = NULL;
        s->revokes_room = 0;
    }
}

/* --- tags of a descriptor block --- */

struct tag_iter {
    const uint8_t *block;
    size_t pos, end;
    size_t tag_len;
    bool wide, last;
};

struct tag {
    uint64_t fsblock;
    uint32_t flags;
    const uint8_t *raw;
};

static void tags_begin(struct tag_iter *it, const struct journal *j, const uint8_t *block)
{
    uint32_t incompat = j->features_incompat;

    it->block = block;
    it->pos = JBD_HEADER_LEN;
    it->end = j->block_size - (journal_csum_v2or3(j) ? JBD_TAIL_LEN : 0);
    it->wide = incompat & JBD_INCOMPAT_64BIT;
    it->last = false;
    if (incompat & JBD_INCOMPAT_CSUM_V3)
        it->tag_len = 16;
    else /* v2 adds two bytes to the tag that nothing uses */
        it->tag_len = 8 + (it->wide ? 4 : 0) + (incompat & JBD_INCOMPAT_CSUM_V2 ? 2 : 0);
}

/* A descriptor may end by its last tag's flag or by being full. */
static bool tags_next(struct tag_iter *it, struct tag *tag)
{
    if (it->last || it->pos + it->tag_len > it->end)
        return false;
    tag->raw = it->block + it->pos;
    tag->flags = nf_be16(tag->raw + TAG_FLAGS);
    tag->fsblock = nf_be32(tag->raw);
    if (it->wide)
        tag->fsblock |= (uint64_t)nf_be32(tag->raw + TAG_BLOCK_HIGH) << 32;
    it->pos += it->tag_len;
    if (!(tag->flags & JBD_FLAG_SAME_UUID))
        it->pos += 16;
    it->last = tag->flags & JBD_FLAG_LAST_TAG;
    return true;
}

static uint32_t count_tags(const struct journal *j, const uint8_t *block)
{
    struct tag_iter it;
    struct tag tag;
    uint32_t n = 0;

    tags_begin(&it, j, block);
    while (tags_next(&it, &tag))
        n++;
    return n;
}

static bool revoke_length_ok(const struct journal *j, const uint8_t *block)
{
    uint32_t tail = journal_csum_v2or3(j) ? JBD_TAIL_LEN : 0;

    return nf_be32(block + JBD_HEADER_LEN) <= j->block_size - tail;
}

/* --- step 1: the walk --- */

/* 1 if the chain of the expected transaction reaches its commit block. Each
 * round goes at least one block further and the log is gone round at most
 * once, whatever the tags say. */
static int walk(struct journal *j, struct nf_error *err)
{
    struct journal_scratch *s = j->scratch;
    uint64_t dist = 0;

    s->ncontrol = 0;
    s->stop_is_any = s->fresh = false;
    while (dist < span(j)) {
        const uint8_t *block = read_at(j, (uint32_t)dist);
        uint32_t type = control_type(j, block);
        int ret;

        s->stop = (uint32_t)dist;
        if (type != JBD_DESCRIPTOR && type != JBD_REVOKE && type != JBD_COMMIT)
            return 0;
        if (type == JBD_REVOKE && !revoke_length_ok(j, block))
            return 0;
        ret = grow((void **)&s->control, &s->control_room, s->ncontrol, sizeof(*s->control), err);
        if (ret < 0) {
            s->fresh = true;
            return ret;
        }
        s->control[s->ncontrol++] = (uint32_t)dist;
        if (type == JBD_COMMIT) {
            return 1;
        }
        dist += 1;
        if (type == JBD_DESCRIPTOR)
            dist += count_tags(j, block);
    }
    s->stop = UINT32_MAX;
    return 0;
}

/* --- step 2: checksums --- */

static bool tag_csum_ok(struct journal *j, const struct tag *tag, uint32_t lblk,
                        const uint8_t *copy)
{
    uint32_t crc;

    if (!copy)
        return false;
    if (!journal_csum_v2or3(j))
        return true;
    crc = journal_data_csum(j, lblk, copy);
    if (j->features_incompat & JBD_INCOMPAT_CSUM_V3)
        return nf_be32(tag->raw + TAG_CHECKSUM_V3) == crc;
    return nf_be16(tag->raw + TAG_CHECKSUM_V2) == (uint16_t)crc;
}

/* Check the descriptor @block at @dist and the copies that follow it, up to
 * @end, and go on with the v1 checksum. False with stop at the first that is
 * not right. */
static bool check_descriptor(struct journal *j, const uint8_t *block, uint32_t dist, uint32_t end,
                             uint32_t *v1)
{
    struct journal_scratch *s = j->scratch;
    bool v1_used = j->features_compat & JBD_COMPAT_CHECKSUM;
    struct tag_iter it;
    struct tag tag;

    if (!journal_tail_csum_ok(j, block))
        return false;
    if (v1_used)
        *v1 = journal_v1_csum(j, *v1, block_at(j, dist), block);
    tags_begin(&it, j, block);
    while (++dist < end && tags_next(&it, &tag)) {
        uint32_t lblk = block_at(j, dist);
        const uint8_t *copy = j->block(j->opaque, lblk);

        s->stop = dist;
        if (!tag_csum_ok(j, &tag, lblk, copy))
            return false;
        if (v1_used)
            *v1 = journal_v1_csum(j, *v1, lblk, copy);
    }
    return true;
}

/* Are all checksums of the transaction just walked right? */
static bool check(struct journal *j)
{
    struct journal_scratch *s = j->scratch;
    bool v1_used = j->features_compat & JBD_COMPAT_CHECKSUM;
    uint32_t v1 = ~0u;

    for (size_t i = 0; i < s->ncontrol; i++) {
        uint32_t dist = s->control[i];
        const uint8_t *block = read_at(j, dist);

        s->stop = dist;
        switch (control_type(j, block)) {
        case JBD_DESCRIPTOR:
            if (!check_descriptor(j, block, dist, s->control[s->ncontrol - 1], &v1))
                return false;
            break;
        case JBD_REVOKE: /* not part of the v1 checksum */
            if (!journal_tail_csum_ok(j, block))
                return false;
            break;
        case JBD_COMMIT:
            if (!journal_commit_csum_ok(j, block))
                return false;
            s->stop_is_any = v1_used && !journal_v1_commit_ok(block, v1);
            return !s->stop_is_any;
        default: /* the log changed under the walk */
            return false;
        }
    }
    return false;
}

/* --- step 3: the lists --- */

static int compare_u64(const void *pa, const void *pb)
{
    uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;

    return a < b ? -1 : a > b;
}

static int add_revokes(struct journal *j, const uint8_t *block, struct nf_error *err)
{
    struct journal_scratch *s = j->scratch;
    size_t len = j->features_incompat & JBD_INCOMPAT_64BIT ? 8 : 4;
    size_t end = nf_be32(block + JBD_HEADER_LEN);

    for (size_t pos = JBD_REVOKE_HEADER_LEN; pos + len <= end; pos += len) {
        int ret;

        if (s->nrevokes == MAX_REVOKES)
            return nf_fail(err, NF_ENOMEM, "journal transaction %u revokes more than %d blocks",
                           j->next_tid, MAX_REVOKES);
        ret = grow((void **)&s->revokes, &s->revokes_room, s->nrevokes, sizeof(*s->revokes), err);
        if (ret < 0)
            return ret;
        s->revokes[s->nrevokes++] = len == 8 ? nf_be64(block + pos) : nf_be32(block + pos);
    }
    return 0;
}

/* All revokes of the transaction just walked, sorted, each once. */
static int collect_revokes(struct journal *j, struct nf_error *err)
{
    struct journal_scratch *s = j->scratch;
    size_t kept = 0;

    s->nrevokes = 0;
    for (size_t i = 0; i < s->ncontrol; i++) {
        const uint8_t *block = read_at(j, s->control[i]);
        int ret;

        if (control_type(j, block) != JBD_REVOKE || !revoke_length_ok(j, block))
            continue;
        ret = add_revokes(j, block, err);
        if (ret < 0)
            return ret;
    }
    if (s->nrevokes == 0)
        return 0;
    qsort(s->revokes, s->nrevokes, sizeof(*s->revokes), compare_u64);
    for (size_t i = 1; i < s->nrevokes; i++) {
        if (s->revokes[i] != s->revokes[kept])
            s->revokes[++kept] = s->revokes[i];
    }
    s->nrevokes = kept + 1;
    return 0;
}

static bool is_revoked(const struct journal_scratch *s, uint64_t fsblock)
{
    return s->nrevokes > 0 &&
           bsearch(&fsblock, s->revokes, s->nrevokes, sizeof(fsblock), compare_u64);
}

/* While collecting, log_block is the distance: later copies compare greater. */
static int compare_tags(const void *pa, const void *pb)
{
    const struct journal_tag *a = pa, *b = pb;

    if (a->fsblock != b->fsblock)
        return a->fsblock < b->fsblock ? -1 : 1;
    return a->log_block < b->log_block ? -1 : a->log_block > b->log_block;
}

static int collect_tags(struct journal *j, struct nf_error *err)
{
    struct journal_scratch *s = j->scratch;
    size_t kept = 0;

    s->ntags = 0;
    for (size_t i = 0; i < s->ncontrol; i++) {
        uint32_t dist = s->control[i];
        const uint8_t *block = read_at(j, dist);
        struct tag_iter it;
        struct tag tag;

        if (control_type(j, block) != JBD_DESCRIPTOR)
            continue;
        tags_begin(&it, j, block);
        while (tags_next(&it, &tag)) {
            int ret;

            dist++;
            if (is_revoked(s, tag.fsblock))
                continue;
            ret = grow((void **)&s->tags, &s->tags_room, s->ntags, sizeof(*s->tags), err);
            if (ret < 0)
                return ret;
            s->tags[s->ntags++] = (struct journal_tag){
                .fsblock = tag.fsblock,
                .log_block = dist,
                .escaped = tag.flags & JBD_FLAG_ESCAPE,
            };
        }
    }
    if (s->ntags == 0)
        return 0;
    qsort(s->tags, s->ntags, sizeof(*s->tags), compare_tags);
    for (size_t i = 0; i < s->ntags; i++) {
        if (i + 1 < s->ntags && s->tags[i + 1].fsblock == s->tags[i].fsblock)
            continue;
        s->tags[kept] = s->tags[i];
        s->tags[kept].log_block = block_at(j, s->tags[kept].log_block);
        kept++;
    }
    s->ntags = kept;
    return 0;
}

/* --- the interface --- */

bool journal_written(struct journal *j, uint32_t lblk, const uint8_t *data)
{
    struct journal_scratch *s = j->scratch;
    uint32_t dist;

    (void)data;
    if (j->next_block == 0 || lblk < j->first || lblk >= j->maxlen)
        return false;
    journal_cache_forget(j, lblk);
    if (s->fresh)
        return true;
    dist = distance(j, lblk);
    if (dist == s->stop)
        return true;
    if (s->ncontrol == 0 || dist > s->control[s->ncontrol - 1])
        return false;
    if (s->stop_is_any)
        return true;
    /* A rewritten descriptor changes the way the walk goes. */
    for (size_t lo = 0, hi = s->ncontrol; lo < hi;) {
        size_t mid = lo + (hi - lo) / 2;

        if (s->control[mid] == dist)
            return true;
        if (s->control[mid] < dist)
            lo = mid + 1;
        else
            hi = mid;
    }
    return false;
}

int journal_next(struct journal *j, struct journal_txn *out, struct nf_error *err)
{
    struct journal_scratch *s = j->scratch;
    const uint8_t *commit;
    uint32_t end;
    int ret;

    if (j->next_block == 0)
        return 0;
    trim(s);
    ret = walk(j, err);
    if (ret <= 0)
        return ret;
    if (!check(j)) {
        journal_cache_start(j);
        return 0;
    }
    ret = collect_revokes(j, err);
    if (ret == 0)
        ret = collect_tags(j, err);
    if (ret < 0) {
        s->fresh = true; /* the next write is worth another try */
        return ret;
    }

    end = s->control[s->ncontrol - 1];
    commit = read_at(j, end);
    *out = (struct journal_txn){
        .tid = j->next_tid,
        .first = j->next_block,
        .next = end + 1 < span(j) ? block_at(j, end + 1) : j->next_block,
        .tags = s->tags,
        .ntags = s->ntags,
        .revokes = s->revokes,
        .nrevokes = s->nrevokes,
        .commit_sec = commit ? (int64_t)nf_be64(commit + COMMIT_SEC) : 0,
        .commit_nsec = commit ? nf_be32(commit + COMMIT_NSEC) : 0,
    };
    j->next_tid++;
    j->next_block = out->next;
    journal_scan_reset(j);
    journal_fc_reset(j);
    return 1;
}
