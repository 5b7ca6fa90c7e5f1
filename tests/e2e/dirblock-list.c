/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All directories of an ext4 image, read by our reader of directory blocks and
 * by libext2fs: the two lists must be equal, in order. Prints how many there were.
 *
 * usage: dirblock-list IMAGE
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <ext2fs/ext2fs.h>

#include "bdi/ext4/dirblock.h"

struct item {
    uint32_t ino;
    uint16_t offset;
    uint8_t type, name_len;
    bool dot, dotdot;
    uint8_t name[255];
};

struct list {
    struct item *item;
    size_t n, cap;
};

struct walk {
    ext2_filsys fs;
    struct list *out;
    bool filetype, broken;
};

static struct item *add(struct list *l)
{
    if (l->n == l->cap) {
        l->cap = l->cap ? l->cap * 2 : 1024;
        l->item = reallocarray(l->item, l->cap, sizeof(*l->item));
        if (!l->item)
            abort();
    }
    memset(&l->item[l->n], 0, sizeof(*l->item));
    return &l->item[l->n++];
}

static int theirs(ext2_ino_t dir, int entry, struct ext2_dir_entry *de, int offset, int blocksize,
                  char *buf, void *opaque)
{
    struct walk *w = opaque;
    struct item *i = add(w->out);

    (void)dir, (void)blocksize, (void)buf;
    i->ino = de->inode;
    i->offset = (uint16_t)offset;
    i->type = w->filetype ? (uint8_t)ext2fs_dirent_file_type(de) : 0;
    i->name_len = (uint8_t)ext2fs_dirent_name_len(de);
    i->dot = entry == DIRENT_DOT_FILE;
    i->dotdot = entry == DIRENT_DOT_DOT_FILE;
    memcpy(i->name, de->name, i->name_len);
    return 0;
}

static int ours(ext2_filsys fs, blk64_t *block, e2_blkcnt_t lblk, blk64_t ref, int ref_offset,
                void *opaque)
{
    struct walk *w = opaque;
    const struct dirblock_form form = {.filetype = w->filetype};
    uint8_t *buf = malloc(fs->blocksize);
    struct dirblock it;
    struct dirblock_entry e;
    int rc;

    (void)lblk, (void)ref, (void)ref_offset;
    if (!buf || io_channel_read_blk64(fs->io, *block, 1, buf) != 0)
        abort();
    dirblock_begin(&it, buf, fs->blocksize, form);
    while ((rc = dirblock_next(&it, &e)) > 0) {
        struct item *i = add(w->out);
        struct dirblock_entry again;

        i->ino = e.ino;
        i->offset = e.offset;
        i->type = e.type;
        i->name_len = (uint8_t)e.name.len;
        i->dot = e.dot;
        i->dotdot = e.dotdot;
        memcpy(i->name, e.name.data, e.name.len);
        if (e.bad_name || !dirblock_at(buf, fs->blocksize, form, e.offset, &again) ||
            again.ino != e.ino)
            w->broken = true;
    }
    if (rc < 0)
        w->broken = true;
    free(buf);
    return 0;
}

static bool compare(ext2_filsys fs, ext2_ino_t ino, unsigned long *entries)
{
    struct list a = {0}, b = {0};
    struct walk wa = {.fs = fs, .out = &a}, wb = {.fs = fs, .out = &b};
    bool same;

    wa.filetype = wb.filetype = ext2fs_has_feature_filetype(fs->super);
    if (ext2fs_dir_iterate2(fs, ino, 0, NULL, theirs, &wa) != 0 ||
        ext2fs_block_iterate3(fs, ino, BLOCK_FLAG_READ_ONLY | BLOCK_FLAG_DATA_ONLY, NULL, ours,
                              &wb) != 0) {
        fprintf(stderr, "directory %u cannot be read\n", ino);
        return false;
    }
    same = a.n == b.n && !wb.broken && memcmp(a.item, b.item, a.n * sizeof(*a.item)) == 0;
    if (!same)
        fprintf(stderr, "directory %u: %zu entries by libext2fs, %zu by us%s\n", ino, a.n, b.n,
                wb.broken ? ", broken" : "");
    *entries += b.n;
    free(a.item);
    free(b.item);
    return same;
}

int main(int argc, char **argv)
{
    unsigned long dirs = 0, entries = 0, indexed = 0;
    struct ext2_inode inode;
    ext2_inode_scan scan;
    ext2_filsys fs;
    ext2_ino_t ino;
    bool ok = true;

    if (argc != 2 || ext2fs_open(argv[1], EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs) != 0) {
        fprintf(stderr, "usage: dirblock-list IMAGE\n");
        return 2;
    }
    if (ext2fs_open_inode_scan(fs, 0, &scan) != 0)
        return 1;
    while (ext2fs_get_next_inode(scan, &ino, &inode) == 0 && ino != 0)
        if (LINUX_S_ISDIR(inode.i_mode) && inode.i_links_count > 0) {
            ok &= compare(fs, ino, &entries);
            dirs++;
            indexed += (inode.i_flags & EXT2_INDEX_FL) != 0;
        }
    ext2fs_close_inode_scan(scan);
    ext2fs_close(fs);
    printf("%lu directories, %lu indexed, %lu entries\n", dirs, indexed, entries);
    return ok && dirs > 0 ? 0 : 1;
}
