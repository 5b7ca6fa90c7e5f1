/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An event as one line for people. Bytes from a guest are escaped: no control
 * character of theirs reaches a terminal.
 */
#ifndef NF_EVENT_LINE_H
#define NF_EVENT_LINE_H

#include <stdbool.h>

#include "common/buffer.h"
#include "common/event.h"

struct nf_line_style {
    bool color;   /* ANSI colours */
    bool source;  /* say host/vm/disk */
    bool content; /* the beginning of what was written */
};

/* Append the line, newline included. 0, NF_ENOMEM or NF_EFORMAT. */
int nf_event_line(const struct nf_event *ev, const struct nf_line_style *style,
                  struct nf_buffer *out, struct nf_error *err);

/* Append @b with everything that is not printable UTF-8 as \n, \t, \xNN. */
int nf_escape(struct nf_bytes b, struct nf_buffer *out);

#endif
