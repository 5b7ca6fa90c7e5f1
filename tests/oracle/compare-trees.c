/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Are two trees the same in all that tree_compare.h names?
 *     compare-trees A B [OFFSET]
 * Each is a directory or a disk's image, whose file system (at OFFSET, bytes)
 * is recovered in a copy and mounted read-only. Needs root. Exit status: 0 same, 1 not, 2 it
 * could not be said.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/cleanup.h"
#include "tests/oracle/checkpoint.h"
#include "tests/oracle/tree_compare.h"

struct side {
    const char *path;
    char dir[100]; /* for the mount; "" if it is a directory */
    struct checkpoint cp;
    int fd;
};

static int open_side(struct side *s, uint64_t offset, struct nf_error *err)
{
    NF_AUTO_CLOSE int fd = open(s->path, O_RDONLY | O_CLOEXEC);
    const char *tmp = getenv("TMPDIR");
    struct stat st;
    int rc;

    if (fd < 0 || fstat(fd, &st) < 0)
        return nf_fail(err, NF_EIO, "%s: %s", s->path, strerror(errno));
    if (S_ISDIR(st.st_mode)) {
        s->fd = nf_steal_fd(&fd);
        return 0;
    }
    snprintf(s->dir, sizeof(s->dir), "%s/nf-compare.XXXXXX", tmp ? tmp : "/tmp");
    if (!mkdtemp(s->dir)) {
        s->dir[0] = '\0';
        return nf_fail(err, NF_EIO, "mkdtemp: %s", strerror(errno));
    }
    rc = checkpoint_init(&s->cp, s->dir, err);
    if (rc == 0)
        rc = checkpoint_take(&s->cp, fd, offset, err);
    s->fd = s->cp.root;
    return rc;
}

static void close_side(struct side *s)
{
    if (!s->dir[0])
        return;
    checkpoint_release(&s->cp);
    rmdir(s->dir);
}

int main(int argc, char **argv)
{
    struct side a = { .fd = -1, .cp = { .root = -1 } }, b = a;
    struct tree_compare_options opt = { .report = stdout, .max = 50 };
    struct tree_compare_result res = { 0 };
    struct nf_error err = { 0 };
    uint64_t offset = 0;
    int rc;

    if (argc < 3 || argc > 4) {
        fputs("Usage: compare-trees A B [OFFSET]\n", stderr);
        return 2;
    }
    if (argc == 4)
        offset = strtoull(argv[3], NULL, 0);
    opt.names[0] = a.path = argv[1];
    opt.names[1] = b.path = argv[2];
    rc = open_side(&a, offset, &err);
    if (rc == 0)
        rc = open_side(&b, offset, &err);
    if (rc == 0)
        rc = tree_compare(a.fd, b.fd, &opt, &res, &err);
    close_side(&a);
    close_side(&b);
    if (rc < 0) {
        fprintf(stderr, "compare-trees: %s\n", err.text);
        return 2;
    }
    if (res.differences == 0)
        printf("equal: %" PRIu64 " paths, %" PRIu64 " bytes\n", res.paths, res.bytes);
    return res.differences != 0;
}
