/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Project ids of inodes: those that events tell, and those on the disk. A mirror has
 * no place for them.
 */
#ifndef TESTS_ORACLE_PROJECTS_H
#define TESTS_ORACLE_PROJECTS_H

#include <stdint.h>
#include <stdio.h>

#include "common/error.h"
#include "common/event.h"

struct projects {
    uint32_t *of; /* by inode */
    uint64_t room;
};

/* 0, or NF_ENOMEM. */
int projects_event(struct projects *p, const struct nf_event *ev, struct nf_error *err);
void projects_release(struct projects *p);

/* How many inodes in use have another in @image, a recovered file system without
 * anything around it, as libext2fs reads it; each is a line on @report (may be null).
 * 0 without the feature "project". Negative: could not be said. */
int64_t projects_compare(const struct projects *p, const char *image, FILE *report,
                         struct nf_error *err);

#endif
