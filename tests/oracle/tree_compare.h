/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Are two directory trees the same? Names, types, permission bits, owners,
 * device numbers, sizes, numbers of links and which names are links of one
 * file, modification times, extended attributes, link targets, contents.
 * Files of the first tree that are encrypted without the key being at hand must
 * be zeros of their size in the second one.
 * Not compared: sizes and link counts of directories, access and change
 * times, inode numbers. Needs root (xattrs of all namespaces).
 */
#ifndef NF_TREE_COMPARE_H
#define NF_TREE_COMPARE_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <time.h>

#include "common/error.h"

struct tree_compare_options {
    FILE *report;      /* a line per difference */
    unsigned max;      /* lines at most; what is beyond is only counted */
    const char *names[2]; /* what to call the two, "image" and "mirror" */

    /* Null, or since when the first has been in the hands of a recovery that sets
     * times, may lose new directories or leave some that it cannot read itself, and
     * leaves an inode's ACL to the next one with its number: such damage is counted,
     * and no difference. */
    const struct timespec *recovered;
    bool no_content; /* but everything else */
};

struct tree_compare_result {
    uint64_t paths;       /* met in both */
    uint64_t bytes;       /* of content compared */
    uint64_t differences;
    uint64_t damaged; /* directories, by such a recovery: what is in them is not compared */
    uint64_t acls;    /* ACLs that say another mode than their inode after it: the second
                         tree has the inode's mode, and the ACL that chmod makes of this one */
};

/* Compare the directories @a and @b. 0 (see @result), or negative if one of
 * them could not be read. */
int tree_compare(int a, int b, const struct tree_compare_options *opt,
                 struct tree_compare_result *result, struct nf_error *err);

#endif
