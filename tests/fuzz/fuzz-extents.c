/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The block map of one inode in a file system of 1024 blocks of 1 KiB.
 *
 * Input: a mode byte, the 60 bytes of i_block, then writes of 102 bytes: a
 * block's number and its first 100 bytes; the rest of the block is zero. Mode
 * bit 0: an extent tree, else an indirect map; bit 1 puts magic numbers, counts
 * and block numbers into their ranges, so that maps become deep.
 *
 * The second half of the writes is a step: staged, and with mode bit 2 the root
 * becomes other too.
 *
 * Beside memory errors this finds: maps that break their header's promises, work
 * or memory beyond what the blocks can account for, extent trees that libext2fs
 * reads in another way, and differences that are not those of the whole maps.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "bdi/ext4/extents.h"
#include "common/bytes.h"

enum { BLOCK = 1024, BLOCKS = 1024, PART = 100, RECORD = 2 + PART, WRITES_MAX = 64 };
enum { MODE_EXTENTS = 1, MODE_REPAIR = 2, MODE_ROOT = 4 };

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static uint8_t image[BLOCK * BLOCKS];
static struct emitter emitter;
static struct shadow shadow;
static struct ext4_fs fs;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int read_image(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                      struct nf_error *err)
{
    (void)err;
    CHECK(offset <= img->size && len <= img->size - offset);
    memcpy(buf, image + offset, len);
    return 0;
}

static struct nf_image img = {.size = sizeof(image), .read = read_image};

/* An empty file system, made by libext2fs in memory. */
static void make_image(void)
{
    struct ext2_super_block sb = {0};
    char path[64];
    ext2_filsys made;
    int fd = memfd_create("image", MFD_CLOEXEC);

    CHECK(fd >= 0 && ftruncate(fd, sizeof(image)) == 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    sb.s_rev_level = EXT2_DYNAMIC_REV;
    sb.s_inode_size = 256;
    sb.s_inodes_count = 128;
    sb.s_feature_incompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS;
    ext2fs_blocks_count_set(&sb, BLOCKS);
    CHECK(ext2fs_initialize(path, 0, &sb, unix_io_manager, &made) == 0);
    CHECK(ext2fs_allocate_tables(made) == 0);
    CHECK(ext2fs_close_free(&made) == 0);
    CHECK(pread(fd, image, sizeof(image), 0) == sizeof(image));
    close(fd);
}

static void set_up(void)
{
    int fd = memfd_create("shadow", MFD_CLOEXEC);

    make_image();
    CHECK(fd >= 0 && shadow_init(&shadow, fd, NULL, sizeof(image), NULL) == 0);
    fs.ctx = (struct fs_context){
        .img = &img, .shadow = &shadow, .emitter = &emitter, .size = sizeof(image)};
    CHECK(picture_init(&fs.pic, &fs.ctx, BLOCK, BLOCKS, NULL) == 0);
    CHECK(picture_open_fs(&fs.pic, &fs.fs, NULL) == 0);
    fs.block_size = BLOCK;
    fs.blocks = BLOCKS;
    fs.inodes = 128;
    fs.inode_size = 256;
}

/* Make @p, @room bytes of a node, one that is looked into. */
static void repair(uint8_t *p, size_t room, uint16_t max, bool extents)
{
    if (!extents) {
        for (size_t i = 0; i + 4 <= room; i += 4)
            nf_put_le32(p + i, nf_le32(p + i) % BLOCKS);
        return;
    }
    nf_put_le16(p, 0xf30a);
    nf_put_le16(p + 2, (uint16_t)(nf_le16(p + 2) % (room / 12)));
    nf_put_le16(p + 4, max);
    nf_put_le16(p + 6, nf_le16(p + 6) % 6);
    for (size_t i = 12; i + 12 <= room; i += 12) {
        if (nf_le16(p + 6) == 0) {
            nf_put_le16(p + i + 6, 0);
            nf_put_le32(p + i + 8, nf_le32(p + i + 8) % BLOCKS);
        } else {
            nf_put_le32(p + i + 4, nf_le32(p + i + 4) % BLOCKS);
            nf_put_le16(p + i + 8, 0);
        }
    }
}

static void check_map(const struct block_map *m)
{
    bool seen[BLOCKS] = {0};
    uint32_t hole_end;
    uint64_t end = 0;

    /* A node stands in one place of a map: without that a few blocks could
     * pretend to be a map of any size. */
    for (size_t i = 0; i < m->nnodes; i++) {
        uint64_t node = m->nodes[i].pblk;

        CHECK(node > 0 && node < BLOCKS && !seen[node]);
        seen[node] = true;
    }
    CHECK(m->n <= (m->nnodes + 1) * (BLOCK / 4));
    for (size_t i = 0; i < m->n; i++) {
        const struct map_extent *e = &m->ext[i];

        CHECK(e->len > 0 && e->lblk >= end && (uint64_t)e->lblk + e->len <= UINT32_MAX);
        CHECK(e->pblk > 0 && e->pblk < BLOCKS && e->len <= BLOCKS - e->pblk);
        CHECK(block_map_find(m, e->lblk, NULL) == e);
        CHECK(block_map_find(m, e->lblk + e->len - 1, NULL) == e);
        if (end < e->lblk)
            CHECK(!block_map_find(m, (uint32_t)end, &hole_end) && hole_end == e->lblk);
        end = (uint64_t)e->lblk + e->len;
    }
    if (end < UINT32_MAX)
        CHECK(!block_map_find(m, (uint32_t)end, &hole_end) && hole_end == UINT32_MAX);
}

/* What libext2fs makes of a tree that we find no fault with must be the same. */
static void check_libext2fs(const struct ext4_inode *inode, const struct block_map *m)
{
    struct ext2_inode_large copy;
    struct ext2fs_extent e;
    struct map_extent got[BLOCKS + 1];
    ext2_extent_handle_t handle;
    size_t n = 0;
    errcode_t rc;

    memset(&copy, 0, sizeof(copy));
    memcpy(&copy, inode->raw, sizeof(copy) < 256 ? sizeof(copy) : 256);
    if (ext2fs_extent_open2(fs.fs, 12, (struct ext2_inode *)&copy, &handle) != 0)
        return;
    for (int op = EXT2_EXTENT_ROOT; (rc = ext2fs_extent_get(handle, op, &e)) == 0;
         op = EXT2_EXTENT_NEXT) {
        struct map_extent *last = n ? &got[n - 1] : NULL;
        bool unwritten = e.e_flags & EXT2_EXTENT_FLAGS_UNINIT;

        if (!(e.e_flags & EXT2_EXTENT_FLAGS_LEAF))
            continue;
        if (last && last->unwritten == unwritten && last->lblk + last->len == e.e_lblk &&
            last->pblk + last->len == e.e_pblk) {
            last->len += e.e_len;
            continue;
        }
        CHECK(n < BLOCKS);
        got[n++] = (struct map_extent){(uint32_t)e.e_lblk, e.e_len, e.e_pblk, unwritten};
    }
    ext2fs_extent_free(handle);
    if (rc != EXT2_ET_EXTENT_NO_NEXT && rc != EXT2_ET_NO_CURRENT_NODE)
        return;
    CHECK(n == m->n);
    for (size_t i = 0; i < n; i++)
        CHECK(got[i].lblk == m->ext[i].lblk && got[i].len == m->ext[i].len &&
              got[i].pblk == m->ext[i].pblk && got[i].unwritten == m->ext[i].unwritten);
}

static uint64_t at(const struct block_map *m, uint32_t lblk, bool *same)
{
    const struct map_extent *e = block_map_find(m, lblk, NULL);

    *same = e && map_extent_same(e);
    return e ? (e->pblk + (lblk - e->lblk)) * 2 + e->unwritten : 0;
}

/* @whole and @diff: each of both sides. */
static void check_diff(const struct block_map whole[2], const struct block_map diff[2],
                       uint32_t lblk)
{
    bool same[2], ignored;
    uint64_t a = at(&whole[0], lblk, &ignored), b = at(&whole[1], lblk, &ignored);
    uint64_t c = at(&diff[0], lblk, &same[0]), d = at(&diff[1], lblk, &same[1]);

    CHECK(same[0] == same[1]);
    CHECK(same[0] ? a == b : a == c && b == d);
}

static void check_step(const struct ext4_inode *old, const struct ext4_inode *new)
{
    struct block_map whole[2], diff[2];
    uint32_t dirty[BLOCKS];
    struct map_hint hint = {.dirty = dirty};

    CHECK(block_map_read(&fs, VIEW_OLD, 12, old, &whole[0], NULL) == 0);
    CHECK(block_map_read(&fs, VIEW_NEW, 12, new, &whole[1], NULL) == 0);
    /* In the order of the tree, which is that of file blocks, if it is sound. */
    for (size_t i = 0; i < whole[0].nnodes; i++) {
        if (u64map_get(&fs.pic.staged, whole[0].nodes[i].pblk))
            dirty[hint.ndirty++] = whole[0].nodes[i].lblk;
    }
    CHECK(block_map_diff(&fs, 12, old, new, &hint, &diff[0], &diff[1], NULL) == 0);
    for (int m = 0; m < 4 && !whole[0].damaged && !whole[1].damaged; m++) {
        const struct block_map *map = m < 2 ? &whole[m] : &diff[m - 2];

        CHECK(!map->damaged);
        for (size_t i = 0; i < map->n; i++) {
            check_diff(whole, diff, map->ext[i].lblk);
            check_diff(whole, diff, map->ext[i].lblk + map->ext[i].len - 1);
            check_diff(whole, diff, map->ext[i].lblk + map->ext[i].len);
        }
    }
    for (int side = 0; side < 2; side++) {
        block_map_release(&whole[side]);
        block_map_release(&diff[side]);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    uint16_t written[WRITES_MAX];
    uint8_t raw[256] = {0}, new_raw[256], block[BLOCK];
    struct ext4_inode inode, new_inode;
    struct block_map map;
    size_t n = 0, writes;
    bool extents;

    if (!fs.fs)
        set_up();
    if (len < 61)
        return 0;
    extents = data[0] & MODE_EXTENTS;
    memcpy(raw + 0x28, data + 1, 60);
    if (data[0] & MODE_REPAIR)
        repair(raw + 0x28, 60, 4, extents);
    nf_put_le16(raw, 0100644);
    nf_put_le32(raw + 0x20, extents ? EXT4_EXTENTS_FL : 0);
    memcpy(new_raw, raw, sizeof(raw));
    ext4_inode_decode(&inode, raw, sizeof(raw));
    writes = (len - 61) / RECORD < WRITES_MAX ? (len - 61) / RECORD : WRITES_MAX;
    for (const uint8_t *p = data + 61; n < writes; p += RECORD) {
        memset(block, 0, sizeof(block));
        memcpy(block, p + 2, PART);
        if (data[0] & MODE_REPAIR)
            repair(block, PART, (BLOCK - 12) / 12, extents);
        written[n] = nf_le16(p) % BLOCKS;
        if (n >= writes / 2) {
            CHECK(picture_stage_in_place(&fs.pic, written[n], NULL) == 0);
            if (n == writes / 2 && (data[0] & MODE_ROOT)) {
                memcpy(new_raw + 0x28, p + 2, 60);
                if (data[0] & MODE_REPAIR)
                    repair(new_raw + 0x28, 60, 4, extents);
            }
        }
        CHECK(picture_write_home(&fs.pic, written[n++], 0, BLOCK, block, NULL) == 0);
    }
    ext4_inode_decode(&new_inode, new_raw, sizeof(new_raw));

    CHECK(block_map_read(&fs, VIEW_OLD, 12, &inode, &map, NULL) == 0);
    check_map(&map);
    if (extents && !map.damaged)
        check_libext2fs(&inode, &map);
    block_map_release(&map);
    check_step(&inode, &new_inode);

    picture_drop_staged(&fs.pic);
    while (n-- > 0)
        CHECK(picture_write_home(&fs.pic, written[n], 0, BLOCK, image + written[n] * BLOCK, NULL) ==
              0);
    return 0;
}
