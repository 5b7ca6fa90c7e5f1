/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the parts of the exerciser share: random choices that the seed alone
 * decides, and the calls, a function each, grouped by what they work on.
 */
#ifndef NF_EXERCISER_H
#define NF_EXERCISER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define EX_BUF (1u << 17)

struct ex_op {
    const char *name;
    unsigned weight;
    int (*run)(void); /* 0: done; negative: the call failed, errno says why */
    int full; /* not for a fast commit: ext4 then commits all that there is */
    uint64_t tried, done;
    int last_errno;
};

/* Ended by one without a name. */
extern struct ex_op ex_file_ops[], ex_name_ops[], ex_attr_ops[];

extern bool ex_small; /* mostly few bytes and few names */
extern char ex_buf[EX_BUF]; /* aligned for O_DIRECT */

void ex_seed(uint64_t seed);
uint64_t ex_random(void);
unsigned ex_below(unsigned n);

/* A path out of few, so that calls meet; up to two levels of directories.
 * Returns @out. */
const char *ex_pick(char out[64]);
const char *ex_pick_old(char out[64]); /* one that exists, mostly */
const char *ex_pick_dir(char out[64]);
off_t ex_pick_offset(void);
size_t ex_pick_length(void); /* at most EX_BUF */

/* Fill the buffer: never zeros, and not two pieces alike. */
void ex_content(size_t len);

/* pwrite() of anything anywhere, sometimes with fsync. */
int ex_write_some(int fd);

/* Keep @fd open beyond its names for a while; takes it over. */
int ex_hold(int fd);
int ex_held(void); /* one of them, or -1 */

/* The directories that paths are picked from. */
int ex_make_dirs(void);

/* One of @ops, by their weights, and its call; what became of it is counted. */
struct ex_op *ex_choose(struct ex_op *ops);
int ex_run(struct ex_op *op);

/* close() that leaves errno and returns @rc. */
int ex_close(int fd, int rc);

#endif
