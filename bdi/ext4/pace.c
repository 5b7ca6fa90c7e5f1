/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/ext4/pace.h"

void pace_init(struct pace *p)
{
    *p = (struct pace){.credit = PACE_MAX};
}

void pace_earn(struct pace *p, int64_t now_ns)
{
    int64_t ms = now_ns / 1000000 - p->earned_ns / 1000000;

    p->credit += PACE_RECORD;
    /* An imported trace has no times: it stands still between pauses. */
    if (ms > 0)
        p->credit += ms < PACE_MAX / PACE_MS ? ms * PACE_MS : PACE_MAX;
    p->earned_ns = now_ns;
    if (p->credit > PACE_MAX)
        p->credit = PACE_MAX;
}

bool pace_may_look(struct pace *p)
{
    p->owing = p->credit <= 0;
    return !p->owing;
}

void pace_pay(struct pace *p, uint64_t before)
{
    uint64_t cost = p->looked - before;

    p->credit -= cost < 2 * PACE_MAX ? (int64_t)cost : 2 * PACE_MAX;
    if (p->credit < -PACE_DEBT_MAX)
        p->credit = -PACE_DEBT_MAX;
}
