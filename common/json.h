/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing JSON, piece by piece, into a buffer. Failures (memory) are remembered
 * in the writer, so that not each call need be checked.
 */
#ifndef NF_JSON_H
#define NF_JSON_H

#include <stdbool.h>
#include <stdint.h>

#include "common/buffer.h"

struct nf_json {
    struct nf_buffer *out; /* borrowed */
    bool comma; /* one is due before the next element */
    bool bad;   /* something could not be written */
};

/* The name of an object's member; its value must follow. */
void nf_json_key(struct nf_json *j, const char *name);
/* "{" or "[", also as an array's element; and "}" or "]". */
void nf_json_open(struct nf_json *j, const char *bracket);
void nf_json_close(struct nf_json *j, const char *bracket);
/* A value that needs no escaping, of under 128 bytes; also an array's element. */
void nf_json_printf(struct nf_json *j, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Whole members. */
void nf_json_string(struct nf_json *j, const char *name, const char *s);
void nf_json_u64(struct nf_json *j, const char *name, uint64_t v);
void nf_json_bool(struct nf_json *j, const char *name, bool v);
/* Text, and "<name>_hex" beside it if it is not wholly UTF-8. */
void nf_json_bytes(struct nf_json *j, const char *name, struct nf_bytes b);
void nf_json_base64(struct nf_json *j, const char *name, struct nf_bytes b);
void nf_json_uuid(struct nf_json *j, const char *name, const uint8_t uuid[16]);
/* RFC 3339, UTC, of Unix seconds (any) or nanoseconds. */
void nf_json_time(struct nf_json *j, const char *name, int64_t sec, uint32_t nsec);
void nf_json_time_ns(struct nf_json *j, const char *name, int64_t ns);

#endif
