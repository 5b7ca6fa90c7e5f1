/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/xattrs.h"

#include <stdlib.h>
#include <string.h>

struct collect {
    struct xattrs *out;
    size_t cap;
    int ret;
    bool nameless; /* met an attribute that nobody could ask for */
};

/* The kernel lists and gives out these; attributes that ext4 keeps for itself
 * (encryption's context, verity's descriptor, inline data) have no such name. */
static bool is_visible(const char *name)
{
    static const char *const families[] = {"user.", "trusted.", "security.", "gnu."};

    for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
        if (strncmp(name, families[i], strlen(families[i])) == 0)
            return true;
    }
    return strcmp(name, "system.posix_acl_access") == 0 ||
           strcmp(name, "system.posix_acl_default") == 0;
}

static int collect_name(char *name, char *value, size_t len, void *priv)
{
    struct collect *c = priv;
    struct xattrs *x = c->out;
    struct xattr *bigger;

    (void)value, (void)len;
    if (!*name)
        c->nameless = true;
    if (!is_visible(name))
        return 0;
    if (x->n == c->cap) {
        c->cap = c->cap ? c->cap * 2 : 4;
        bigger = reallocarray(x->list, c->cap, sizeof(*bigger));
        if (!bigger)
            goto nomem;
        x->list = bigger;
    }
    x->list[x->n] = (struct xattr){.name = strdup(name)};
    if (!x->list[x->n].name)
        goto nomem;
    x->n++;
    return 0;
nomem:
    c->ret = NF_ENOMEM;
    return XATTR_ABORT;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct xattr *)a)->name, ((const struct xattr *)b)->name);
}

/* Most inodes have none, which takes no library to see. Anything odd does. */
static bool has_none(const struct ext4_fs *fs, const struct ext4_inode *inode)
{
    uint32_t extra, at;

    if (inode->file_acl)
        return false;
    if (fs->inode_size <= 128)
        return true;
    extra = nf_le16(inode->raw + 0x80);
    at = 128 + extra;
    if (extra < 4 || extra % 4 || at > fs->inode_size)
        return false;
    return at + 4 >= fs->inode_size || nf_le32(inode->raw + at) != EXT2_EXT_ATTR_MAGIC;
}

int xattrs_read(struct ext4_fs *fs, enum view view, uint32_t ino, const struct ext4_inode *inode,
                struct xattrs *out, struct nf_error *err)
{
    struct ext2_xattr_handle *handle;
    struct collect c = {.out = out};
    uint8_t *copy;
    errcode_t rc;

    memset(out, 0, sizeof(*out));
    if (!ext2fs_has_feature_xattr(fs->fs->super) || has_none(fs, inode))
        return 0;
    copy = calloc(1, fs->inode_size < sizeof(struct ext2_inode_large)
                         ? sizeof(struct ext2_inode_large)
                         : fs->inode_size);
    if (!copy)
        return nf_fail(err, NF_ENOMEM, "attributes of inode %u: out of memory", ino);
    memcpy(copy, inode->raw, fs->inode_size);
    fs->pic.view = view;
    /* Values in inodes of their own: not those of another view. */
    ext2fs_flush_icache(fs->fs);
    rc = ext2fs_xattrs_open(fs->fs, ino, &handle);
    if (rc == 0) {
        rc = ext2fs_xattrs_read_inode(handle, (struct ext2_inode_large *)copy);
        if (rc == 0)
            ext2fs_xattrs_iterate(handle, collect_name, &c);
        for (size_t i = 0; rc == 0 && c.ret == 0 && i < out->n; i++) {
            void *value = NULL;
            size_t len = 0;

            /* Not the raw value: POSIX ACLs have another form on disk. */
            if (ext2fs_xattr_get(handle, out->list[i].name, &value, &len) == 0) {
                out->list[i].value = value;
                out->list[i].len = len;
            } else {
                ext4_oddity(fs);
            }
        }
        ext2fs_xattrs_close(&handle);
    }
    fs->pic.view = VIEW_OLD;
    free(copy);
    if (c.nameless)
        ext4_oddity(fs);
    if (c.ret < 0) {
        xattrs_release(out);
        return nf_fail(err, c.ret, "attributes of inode %u: out of memory", ino);
    }
    if (rc) {
        xattrs_release(out);
        ext4_oddity(fs);
    }
    if (out->n)
        qsort(out->list, out->n, sizeof(*out->list), by_name);
    return 0;
}

void xattrs_release(struct xattrs *x)
{
    for (size_t i = 0; i < x->n; i++) {
        free(x->list[i].name);
        if (x->list[i].value)
            ext2fs_free_mem(&x->list[i].value);
    }
    free(x->list);
    memset(x, 0, sizeof(*x));
}

bool xattrs_may_differ(const struct ext4_fs *fs, const struct ext4_inode *a,
                       const struct ext4_inode *b, bool block_changed)
{
    if (block_changed || a->file_acl != b->file_acl)
        return true;
    /* In the inode, attributes follow i_extra_isize: a difference there also
     * shows up when only the fixed fields changed size. */
    return fs->inode_size > 160 && memcmp(a->raw + 160, b->raw + 160, fs->inode_size - 160) != 0;
}

static int emit_one(struct ext4_fs *fs, const struct nf_event *proto, const struct xattr *x,
                    bool removed, struct nf_error *err)
{
    struct nf_event ev = *proto;

    ev.kind = NF_XATTR;
    ev.xattr.name = (struct nf_bytes){(const uint8_t *)x->name, strlen(x->name)};
    ev.xattr.removed = removed;
    if (!removed)
        ev.xattr.value = (struct nf_bytes){x->value, x->len};
    return ext4_emit(fs, &ev, err);
}

int xattrs_emit_diff(struct ext4_fs *fs, const struct nf_event *ev, const struct xattrs *before,
                     const struct xattrs *after, struct nf_error *err)
{
    size_t i = 0, j = 0;
    int ret = 0;

    while (ret == 0 && (i < before->n || j < after->n)) {
        int order = i == before->n ? 1
                    : j == after->n
                        ? -1
                        : strcmp(before->list[i].name, after->list[j].name);

        if (order < 0) {
            ret = emit_one(fs, ev, &before->list[i++], true, err);
        } else if (order > 0) {
            ret = emit_one(fs, ev, &after->list[j++], false, err);
        } else {
            const struct xattr *a = &before->list[i++], *b = &after->list[j++];

            if (a->len != b->len || (a->len && memcmp(a->value, b->value, a->len) != 0))
                ret = emit_one(fs, ev, b, false, err);
        }
    }
    return ret;
}
