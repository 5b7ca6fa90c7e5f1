/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The whole engine on a file system of 2 MiB with a little of everything, whose
 * structures the input changes: before the engine attaches, and by writes that
 * it follows.
 *
 * Input: patches of 4 + n bytes: a byte that chooses the block (below 0xf0 one
 * that is in use, in order of their place; else the next byte's multiple of 8),
 * a byte with the high bit for "a write that is followed" and 7 bits of n, and
 * the offset in the block, little-endian; then n bytes. A write of no bytes is
 * a FLUSH. A first patch that is a FLUSH with the offset 1: there is no journal,
 * and with 2, it is also mounted.
 *
 * Beside memory errors this finds: events that no consumer could use, and work
 * beyond what a disk of this size can account for.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <ext2fs/ext2fs.h>

#include "bdi/bdi.h"
#include "common/bytes.h"

enum { BLOCK = 1024, BLOCKS = 2048, PATCHES_MAX = 256, EVENTS_MAX = 100000 };
enum { INODE_SIZE = 256, JOURNAL_INO = 8 };

/* Is there a journal, and if not, does somebody write? */
enum kind { JOURNAL, NO_JOURNAL, NO_JOURNAL_MOUNTED };

#define CHECK(x)                                                                                   \
    do {                                                                                           \
        if (!(x)) {                                                                                \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                                \
            abort();                                                                               \
        }                                                                                          \
    } while (0)

static uint8_t base[BLOCK * BLOCKS], disk[BLOCK * BLOCKS];
static uint32_t used[BLOCKS];
static size_t nused;
static uint32_t itable; /* its first block */
static int shadow_fd = -1;

/* Of the run at hand. */
static uint64_t next_seq, events, content;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static int read_disk(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                     struct nf_error *err)
{
    (void)err;
    CHECK(offset <= img->size && len <= img->size - offset);
    memcpy(buf, disk + offset, len);
    return 0;
}

static struct nf_image img = { .size = sizeof(disk), .read = read_disk };

/* ---- the file system ---- */

static ext2_ino_t add(ext2_filsys fs, ext2_ino_t dir, const char *name, uint32_t flags,
                      size_t size)
{
    struct ext2_inode inode = { .i_mode = LINUX_S_IFREG | 0644, .i_links_count = 1,
                                .i_flags = flags };
    ext2_file_t file;
    unsigned int done;
    ext2_ino_t ino;

    CHECK(ext2fs_new_inode(fs, dir, 0, NULL, &ino) == 0);
    ext2fs_inode_alloc_stats2(fs, ino, 1, 0);
    CHECK(ext2fs_write_new_inode(fs, ino, &inode) == 0);
    CHECK(ext2fs_link(fs, dir, name, ino, EXT2_FT_REG_FILE) == 0);
    CHECK(ext2fs_file_open(fs, ino, EXT2_FILE_WRITE, &file) == 0);
    for (size_t at = 0; at < size; at += BLOCK) {
        char block[BLOCK];

        memset(block, 'a' + (int)(at / BLOCK % 26), sizeof(block));
        CHECK(ext2fs_file_write(file, block, sizeof(block), &done) == 0 && done == sizeof(block));
        /* Every second block only: more than the inode has extents for. */
        if (flags && at % (2 * BLOCK) == 0)
            CHECK(ext2fs_file_lseek(file, BLOCK, EXT2_SEEK_CUR, NULL) == 0);
    }
    CHECK(ext2fs_file_close(file) == 0);
    return ino;
}

/* A directory whose names, and a link's target, pass for ciphertext. */
static void add_encrypted(ext2_filsys fs)
{
    static const char cipher[] = "\x10\0sixteen bytes...";
    struct ext2_inode inode;
    ext2_ino_t dir, ino;

    CHECK(ext2fs_new_inode(fs, EXT2_ROOT_INO, 0, NULL, &dir) == 0);
    CHECK(ext2fs_mkdir(fs, EXT2_ROOT_INO, dir, "c") == 0);
    ino = add(fs, dir, "any bytes / and more", EXT4_EXTENTS_FL | EXT4_ENCRYPT_FL, 2 * BLOCK);
    CHECK(ext2fs_link(fs, dir, "a second name of it", ino, EXT2_FT_REG_FILE) == 0);
    CHECK(ext2fs_new_inode(fs, dir, 0, NULL, &ino) == 0);
    CHECK(ext2fs_symlink(fs, dir, ino, "an encrypted link", "short") == 0);
    CHECK(ext2fs_read_inode(fs, ino, &inode) == 0);
    inode.i_flags |= EXT4_ENCRYPT_FL;
    inode.i_size = sizeof(cipher) - 1;
    memcpy(inode.i_block, cipher, sizeof(cipher));
    CHECK(ext2fs_write_inode(fs, ino, &inode) == 0);
    CHECK(ext2fs_read_inode(fs, dir, &inode) == 0);
    inode.i_flags |= EXT4_ENCRYPT_FL;
    CHECK(ext2fs_write_inode(fs, dir, &inode) == 0);
}

static void make_base(void)
{
    struct ext2_super_block sb = { 0 };
    struct ext2_xattr_handle *xattrs;
    char path[64], target[200], value[300];
    int fd = memfd_create("image", MFD_CLOEXEC);
    ext2_ino_t dir, ino;
    ext2_filsys fs;

    CHECK(fd >= 0 && ftruncate(fd, sizeof(base)) == 0);
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    sb.s_rev_level = EXT2_DYNAMIC_REV;
    sb.s_inode_size = 256;
    sb.s_inodes_count = 64;
    sb.s_feature_compat = EXT2_FEATURE_COMPAT_EXT_ATTR | EXT2_FEATURE_COMPAT_DIR_INDEX;
    sb.s_feature_incompat = EXT2_FEATURE_INCOMPAT_FILETYPE | EXT3_FEATURE_INCOMPAT_EXTENTS |
                            EXT4_FEATURE_INCOMPAT_ENCRYPT;
    ext2fs_blocks_count_set(&sb, BLOCKS);
    CHECK(ext2fs_initialize(path, 0, &sb, unix_io_manager, &fs) == 0);
    fs->now = 1700000000;
    fs->super->s_hash_seed[0] = 1;
    memset(fs->super->s_uuid, 0x11, sizeof(fs->super->s_uuid));
    CHECK(ext2fs_allocate_tables(fs) == 0);
    for (ino = 1; ino < EXT2_FIRST_INO(fs->super); ino++)
        ext2fs_inode_alloc_stats2(fs, ino, 1, 0);
    CHECK(ext2fs_mkdir(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, NULL) == 0);
    CHECK(ext2fs_add_journal_inode(fs, 1024, 0) == 0);
    CHECK(fs->super->s_journal_inum == JOURNAL_INO);
    itable = (uint32_t)ext2fs_inode_table_loc(fs, 0);
    CHECK(ext2fs_new_inode(fs, EXT2_ROOT_INO, 0, NULL, &dir) == 0);
    CHECK(ext2fs_mkdir(fs, EXT2_ROOT_INO, dir, "dir") == 0);
    CHECK(ext2fs_new_inode(fs, dir, 0, NULL, &ino) == 0);
    CHECK(ext2fs_mkdir(fs, dir, ino, "sub") == 0);
    add(fs, ino, "deep", EXT4_EXTENTS_FL, 12 * BLOCK);
    add(fs, dir, "old", 0, 20 * BLOCK);
    ino = add(fs, dir, "file", EXT4_EXTENTS_FL, 2 * BLOCK);
    CHECK(ext2fs_link(fs, EXT2_ROOT_INO, "again", ino, EXT2_FT_REG_FILE) == 0);
    memset(value, 'v', sizeof(value));
    CHECK(ext2fs_xattrs_open(fs, ino, &xattrs) == 0);
    CHECK(ext2fs_xattrs_read(xattrs) == 0);
    CHECK(ext2fs_xattr_set(xattrs, "user.small", value, 10) == 0);
    CHECK(ext2fs_xattr_set(xattrs, "user.large", value, sizeof(value)) == 0);
    CHECK(ext2fs_xattrs_write(xattrs) == 0);
    CHECK(ext2fs_xattrs_close(&xattrs) == 0);
    CHECK(ext2fs_symlink(fs, dir, 0, "short", "file") == 0);
    memset(target, 't', sizeof(target));
    target[sizeof(target) - 1] = '\0';
    CHECK(ext2fs_symlink(fs, dir, 0, "long", target) == 0);
    add_encrypted(fs);
    CHECK(ext2fs_close_free(&fs) == 0);
    CHECK(pread(fd, base, sizeof(base), 0) == sizeof(base));
    close(fd);
    for (uint32_t i = 0; i < BLOCKS; i++)
        if (!nf_is_zero(base + (size_t)i * BLOCK, BLOCK))
            used[nused++] = i;
    memcpy(disk, base, sizeof(disk));
    shadow_fd = memfd_create("shadow", MFD_CLOEXEC);
    CHECK(shadow_fd >= 0);
}

/* What was the journal's belongs to nobody; the bitmap goes on saying that it is used. */
static void remove_journal(enum kind kind)
{
    uint8_t *sb = disk + 1024;

    nf_put_le32(sb + 0x5c, nf_le32(sb + 0x5c) & ~(uint32_t)EXT3_FEATURE_COMPAT_HAS_JOURNAL);
    nf_put_le32(sb + 0xe0, 0);
    nf_put_le16(sb + 0x3a, kind == NO_JOURNAL ? EXT2_VALID_FS : 0);
    memset(disk + (size_t)itable * BLOCK + (JOURNAL_INO - 1) * INODE_SIZE, 0, INODE_SIZE);
}

static void restore(uint32_t block)
{
    memcpy(disk + (size_t)block * BLOCK, base + (size_t)block * BLOCK, BLOCK);
}

/* ---- events ---- */

static void check_path(struct nf_bytes p)
{
    CHECK(p.len > 0 && p.data[0] == '/' && !memchr(p.data, '\0', p.len));
    for (size_t i = 0; i + 1 < p.len; i++)
        CHECK(p.data[i] != '/' || p.data[i + 1] != '/');
}

static int event(void *opaque, const struct nf_event *ev, struct nf_error *err)
{
    (void)opaque, (void)err;
    CHECK(ev->seq == next_seq++);
    CHECK(++events < EVENTS_MAX);
    for (size_t i = 0; i < ev->npaths; i++)
        check_path(ev->paths[i]);
    switch (ev->kind) {
    case NF_CREATE:
    case NF_ENTRY:
        CHECK(ev->create.target.len <= BLOCK);
        for (size_t i = 0; i < ev->create.target.len; i++)
            content += ev->create.target.data[i];
        break;
    case NF_RENAME:
    case NF_EXCHANGE:
        check_path(ev->rename.new_path);
        break;
    case NF_WRITE:
        for (size_t i = 0; i < ev->write.data.len; i++)
            content += ev->write.data.data[i];
        break;
    case NF_XATTR:
        CHECK(ev->xattr.name.len > 0);
        for (size_t i = 0; i < ev->xattr.value.len; i++)
            content += ev->xattr.value.data[i];
        break;
    default:
        break;
    }
    return 0;
}

/* ---- a run ---- */

static struct {
    bool followed;
    uint32_t block, offset;
    size_t len;
    const uint8_t *data;
} patch[PATCHES_MAX];

static size_t parse(const uint8_t *data, size_t len)
{
    size_t n = 0, at = 0;

    while (n < PATCHES_MAX && len - at >= 4) {
        const uint8_t *p = data + at;
        size_t room = len - at - 4, want = p[1] & 0x7f;
        uint32_t offset = nf_le16(p + 2);

        patch[n].followed = p[1] >> 7;
        /* The offset needs only ten bits: the others choose among all blocks. */
        patch[n].block = p[0] < 0xf0 ? used[p[0] % nused] : (offset >> 10) * 32 + (p[0] & 15);
        patch[n].offset = offset % BLOCK;
        patch[n].len = want < room ? want : room;
        if (patch[n].len > BLOCK - patch[n].offset)
            patch[n].len = BLOCK - patch[n].offset;
        patch[n].data = p + 4;
        at += 4 + (want < room ? want : room);
        n++;
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct bdi_options opt = {
        .epoch = 1, .content_limit = BDI_CONTENT_ALL, .snapshot = 1, .event = event };
    struct nf_record rec = { 0 };
    struct nf_error err = { 0 };
    enum kind kind = JOURNAL;
    struct bdi *bdi;
    size_t n;
    int ret;

    if (!nused)
        make_base();
    n = parse(data, len);
    if (n && patch[0].followed && patch[0].len == 0 && patch[0].offset <= NO_JOURNAL_MOUNTED)
        kind = patch[0].offset;
    if (kind != JOURNAL)
        remove_journal(kind);
    next_seq = 1;
    events = 0;
    for (size_t i = 0; i < n; i++)
        if (!patch[i].followed)
            memcpy(disk + (size_t)patch[i].block * BLOCK + patch[i].offset, patch[i].data,
                   patch[i].len);
    bdi = bdi_new(&img, shadow_fd, &opt, &err);
    CHECK(bdi);
    ret = bdi_attach(bdi, &err);
    if (ret != 0 && ret != NF_EUNSUPPORTED)
        fprintf(stderr, "attach: %s\n", err.text);
    /* Damage is the guest's, and must not end a process that follows others. */
    CHECK(ret == 0 || ret == NF_EUNSUPPORTED);
    for (size_t i = 0; ret == 0 && i < n; i++) {
        uint8_t *block = disk + (size_t)patch[i].block * BLOCK;

        if (!patch[i].followed)
            continue;
        memcpy(block + patch[i].offset, patch[i].data, patch[i].len);
        rec.seq++;
        rec.time_ns += kind == JOURNAL ? 1000 : 1000000000;
        rec.type = patch[i].len ? NF_REC_WRITE : NF_REC_FLUSH;
        rec.offset = patch[i].len ? (uint64_t)patch[i].block * BLOCK : 0;
        rec.length = patch[i].len ? BLOCK : 0;
        rec.data = patch[i].len ? block : NULL;
        ret = bdi_record(bdi, &rec, &err);
        if (ret != 0)
            fprintf(stderr, "record: %s\n", err.text);
        CHECK(ret == 0);
    }
    if (ret == 0) {
        rec = (struct nf_record){ .seq = rec.seq + 1, .type = NF_REC_FLUSH,
                                  .time_ns = rec.time_ns };
        CHECK(bdi_record(bdi, &rec, &err) == 0);
        CHECK(bdi_idle(bdi, INT64_MAX, &err) == 0);
    }
    bdi_free(bdi);
    for (size_t i = 0; i < n; i++)
        restore(patch[i].block);
    restore(1024 / BLOCK);
    restore(itable + (JOURNAL_INO - 1) * INODE_SIZE / BLOCK);
    return 0;
}
