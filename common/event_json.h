/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Events as JSON, one a line.
 *
 * Keys are lower_snake and in a fixed order; kinds in lower case; times RFC
 * 3339 in UTC with nanoseconds.  Bytes that are not UTF-8 appear twice: "path"
 * with U+FFFD for what cannot be shown, and "path_hex" with all of them;
 * likewise new_path, target, name, value and label.  Content is base64 under
 * "data", always plain.  docs/events.md lists the keys of each kind.
 */
#ifndef NF_EVENT_JSON_H
#define NF_EVENT_JSON_H

#include <stdbool.h>

#include "common/buffer.h"
#include "common/error.h"
#include "common/event.h"

/* Append @ev as one JSON object and a newline. @content: with "data" (WRITE).
 * Works for any event, also of unknown kinds ("kind":"kind_99").
 * 0, NF_ENOMEM, or NF_EFORMAT if content does not decompress. */
int nf_event_json(const struct nf_event *ev, bool content, struct nf_buffer *out,
                  struct nf_error *err);

#endif
