/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Content that stands in the inode: both versions are at hand, and compared. */
#include "bdi/ext4/content_private.h"

#include "bdi/ext4/inline.h"

static uint64_t smaller(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

int content_emit_inline(struct ext4_fs *fs, const struct step_inode *si,
                        const struct nf_event *ev, struct nf_error *err)
{
    const uint8_t *old = fs->inline_buf + fs->inode_size, *new = fs->inline_buf;
    uint64_t old_size = si->same ? si->old.attr.size : 0, new_size = si->new.attr.size;
    uint64_t kept = smaller(old_size, new_size); /* as much as was there before and still is */
    uint64_t old_len = 0, new_len, first, last, end;
    bool known = si->same && ext4_is_inline(&si->old);
    int ret = 0;

    new_len = inline_data_copy(&si->new, fs->inode_size, fs->inline_buf);
    if (known)
        old_len = inline_data_copy(&si->old, fs->inode_size, fs->inline_buf + fs->inode_size);
    /* The first and last byte that readers find changed, or for the first time. */
    first = 0;
    last = new_len;
    if (known) {
        while (first < smaller(new_len, kept) && new[first] == (first < old_len ? old[first] : 0))
            first++;
        while (last > first && last <= kept &&
               new[last - 1] == (last - 1 < old_len ? old[last - 1] : 0))
            last--;
    }
    if (new_size < old_size)
        ret = content_emit_truncate(fs, ev, old_size, new_size, err);
    if (ret == 0 && last > first)
        ret = content_emit_bytes(fs, ev, &si->new, first, new + first, last - first, err);
    /* Behind what the inode holds a file reads as zeros. */
    if (ret == 0 && new_len < kept && (!known || old_len > new_len))
        ret = content_emit_zero(fs, ev, new_len, (known ? smaller(old_len, kept) : kept) - new_len,
                                err);
    end = last > first && last > old_size ? last : old_size;
    if (ret == 0 && si->same && new_size > end)
        ret = content_emit_truncate(fs, ev, end, new_size, err);
    return ret;
}
