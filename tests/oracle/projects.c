/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "tests/oracle/projects.h"

#include <stdlib.h>
#include <string.h>

#include <ext2fs/ext2fs.h>

int projects_event(struct projects *p, const struct nf_event *ev, struct nf_error *err)
{
    const struct nf_attr *a;

    if (ev->kind == NF_CREATE || ev->kind == NF_ENTRY)
        a = &ev->create.attr;
    else if (ev->kind == NF_ATTR && (ev->attr.mask & NF_ATTR_PROJECT))
        a = &ev->attr.after;
    else
        return 0;
    if (ev->inode >= p->room) {
        uint64_t room = 2 * (uint64_t)ev->inode + 1;
        uint32_t *of = reallocarray(p->of, room, sizeof(*of));

        if (!of)
            return nf_fail(err, NF_ENOMEM, "no memory for project ids");
        memset(of + p->room, 0, (room - p->room) * sizeof(*of));
        p->of = of;
        p->room = room;
    }
    p->of[ev->inode] = a->project;
    return 0;
}

void projects_release(struct projects *p)
{
    free(p->of);
    *p = (struct projects){ 0 };
}

static bool internal(ext2_filsys fs, ext2_ino_t ino)
{
    const struct ext2_super_block *sb = fs->super;

    return (ino != EXT2_ROOT_INO && ino < EXT2_FIRST_INO(sb)) || ino == sb->s_prj_quota_inum ||
           ino == sb->s_usr_quota_inum || ino == sb->s_grp_quota_inum ||
           ino == sb->s_orphan_file_inum;
}

int64_t projects_compare(const struct projects *p, const char *image, FILE *report,
                         struct nf_error *err)
{
    int64_t differ = 0;
    ext2_filsys fs;
    errcode_t rc = ext2fs_open(image, EXT2_FLAG_64BITS, 0, 0, unix_io_manager, &fs);

    if (rc != 0)
        return nf_fail(err, NF_EIO, "%s: libext2fs: %ld", image, (long)rc);
    if (ext2fs_has_feature_project(fs->super))
        rc = ext2fs_read_inode_bitmap(fs);
    for (ext2_ino_t ino = 1; rc == 0 && ext2fs_has_feature_project(fs->super) &&
                             ino <= fs->super->s_inodes_count; ino++) {
        struct ext2_inode_large inode;
        uint32_t told = ino < p->room ? p->of[ino] : 0;

        if (internal(fs, ino) || !ext2fs_fast_test_inode_bitmap2(fs->inode_map, ino))
            continue;
        rc = ext2fs_read_inode_full(fs, ino, (struct ext2_inode *)&inode, sizeof(inode));
        if (rc != 0 || inode.i_links_count == 0 || inode.i_projid == told)
            continue;
        differ++;
        if (report)
            fprintf(report, "  inode %u: project %u on the disk, %u told\n", ino, inode.i_projid,
                    told);
    }
    ext2fs_close_free(&fs);
    return rc != 0 ? nf_fail(err, NF_EIO, "%s: libext2fs: %ld", image, (long)rc) : differ;
}
