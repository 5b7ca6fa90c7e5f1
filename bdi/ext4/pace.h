/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often what waits is looked at again.
 *
 * Each flush may let a step close, or content settle, and then everything that
 * waits is looked at. A guest can make much of it wait, and flush after each
 * write. So looking costs what was looked at (blocks, inodes, names, extents), and
 * is earned by records and by the time that passes. With debts, news waits until a
 * later flush or pause: a second at most.
 */
#ifndef BDI_EXT4_PACE_H
#define BDI_EXT4_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define PACE_RECORD 16
#define PACE_MS 500
#define PACE_MAX (1 << 20)
#define PACE_DEBT_MAX (PACE_MS * 900)

struct pace {
    int64_t credit;
    int64_t earned_ns; /* record time */
    uint64_t looked;   /* at so much, ever */
    bool owing;        /* something was not looked at, for want of credit */
};

void pace_init(struct pace *p);
/* A record, or a pause, at @now_ns. */
void pace_earn(struct pace *p, int64_t now_ns);
/* Can it be afforded to look now? If not, that is remembered. */
bool pace_may_look(struct pace *p);
/* Pay for what was looked at since there was @before of it. */
void pace_pay(struct pace *p, uint64_t before);

#endif
