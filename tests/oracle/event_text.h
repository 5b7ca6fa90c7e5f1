/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An event as a line for somebody who looks for a difference.
 */
#ifndef NF_EVENT_TEXT_H
#define NF_EVENT_TEXT_H

#include <stdio.h>

#include "common/event.h"

void event_text(FILE *out, const struct nf_event *ev);

/* The kind of that name ("move_range"); NF_KIND_UNSPECIFIED if there is none. */
enum nf_kind event_kind(const char *name);

#endif
