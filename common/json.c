/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/json.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "common/utf8.h"

static void raw(struct nf_json *j, const char *s, size_t n)
{
    if (nf_buffer_append(j->out, s, n) < 0)
        j->bad = true;
}

static void text(struct nf_json *j, const char *s)
{
    raw(j, s, strlen(s));
}

/* A value or a key begins here. */
static void begin(struct nf_json *j)
{
    if (j->comma)
        raw(j, ",", 1);
    j->comma = true;
}

void nf_json_key(struct nf_json *j, const char *name)
{
    begin(j);
    raw(j, "\"", 1);
    text(j, name);
    text(j, "\":");
    j->comma = false;
}

void nf_json_open(struct nf_json *j, const char *bracket)
{
    begin(j);
    text(j, bracket);
    j->comma = false;
}

void nf_json_close(struct nf_json *j, const char *bracket)
{
    text(j, bracket);
    j->comma = true;
}

void nf_json_printf(struct nf_json *j, const char *fmt, ...)
{
    char small[128];
    va_list ap;
    int n;

    begin(j);
    va_start(ap, fmt);
    n = vsnprintf(small, sizeof(small), fmt, ap);
    va_end(ap);
    if (n < 0 || (size_t)n >= sizeof(small))
        j->bad = true;
    else
        raw(j, small, (size_t)n);
}

/* A JSON string of @b; returns false if some bytes were replaced. */
static bool string(struct nf_json *j, struct nf_bytes b)
{
    size_t done = 0, i = 0;
    bool exact = true;

    begin(j);
    raw(j, "\"", 1);
    while (i < b.len) {
        size_t n = nf_utf8_length(b.data + i, b.len - i);
        uint8_t c = b.data[i];

        /* DEL and the C1 controls (U+0080 to U+009F) are legal in JSON, but
         * they would reach a terminal. */
        if (n == 1 && c >= 0x20 && c != '"' && c != '\\' && c != 0x7f) {
            i++;
            continue;
        }
        if (n > 1 && !(n == 2 && c == 0xc2 && b.data[i + 1] < 0xa0)) {
            i += n;
            continue;
        }
        raw(j, (const char *)b.data + done, i - done);
        if (n == 0) {
            text(j, "\xef\xbf\xbd");
            exact = false;
            n = 1;
        } else if (c == '"' || c == '\\') {
            raw(j, c == '"' ? "\\\"" : "\\\\", 2);
        } else if (c == '\n') {
            raw(j, "\\n", 2);
        } else if (c == '\t') {
            raw(j, "\\t", 2);
        } else {
            char escape[7];

            snprintf(escape, sizeof(escape), "\\u%04x", n == 2 ? b.data[i + 1] : c);
            text(j, escape);
        }
        i += n;
        done = i;
    }
    if (b.len)
        raw(j, (const char *)b.data + done, b.len - done);
    raw(j, "\"", 1);
    return exact;
}

static void hex(struct nf_json *j, struct nf_bytes b)
{
    static const char digits[] = "0123456789abcdef";

    begin(j);
    raw(j, "\"", 1);
    for (size_t i = 0; i < b.len; i++) {
        char two[2] = { digits[b.data[i] >> 4], digits[b.data[i] & 15] };

        raw(j, two, 2);
    }
    raw(j, "\"", 1);
}

/* "name": text, and "name_hex" when that is not all of it. */
void nf_json_bytes(struct nf_json *j, const char *name, struct nf_bytes b)
{
    char hex_name[32];

    nf_json_key(j, name);
    if (string(j, b))
        return;
    snprintf(hex_name, sizeof(hex_name), "%s_hex", name);
    nf_json_key(j, hex_name);
    hex(j, b);
}

void nf_json_string(struct nf_json *j, const char *name, const char *s)
{
    nf_json_key(j, name);
    string(j, (struct nf_bytes){ (const uint8_t *)s, strlen(s) });
}

void nf_json_u64(struct nf_json *j, const char *name, uint64_t v)
{
    nf_json_key(j, name);
    nf_json_printf(j, "%" PRIu64, v);
}

void nf_json_bool(struct nf_json *j, const char *name, bool v)
{
    nf_json_key(j, name);
    begin(j);
    text(j, v ? "true" : "false");
}

/* Days since 1970-01-01 to a civil date, for any 64-bit second: gmtime(3)
 * fails on years that do not fit an int, and a guest chooses its times. */
static void civil(int64_t days, int64_t *year, unsigned *month, unsigned *day)
{
    int64_t era, doe, yoe, doy, mp;

    days += 719468;
    era = (days >= 0 ? days : days - 146096) / 146097;
    doe = days - era * 146097;
    yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    mp = (5 * doy + 2) / 153;
    *day = (unsigned)(doy - (153 * mp + 2) / 5 + 1);
    *month = (unsigned)(mp < 10 ? mp + 3 : mp - 9);
    *year = yoe + era * 400 + (*month <= 2);
}

void nf_json_time(struct nf_json *j, const char *name, int64_t sec, uint32_t nsec)
{
    int64_t days = sec / 86400, rest = sec % 86400, year;
    unsigned month, day;

    if (rest < 0) {
        rest += 86400;
        days--;
    }
    civil(days, &year, &month, &day);
    nf_json_key(j, name);
    nf_json_printf(j, "\"%04" PRId64 "-%02u-%02uT%02d:%02d:%02d.%09" PRIu32 "Z\"", year, month, day,
           (int)(rest / 3600), (int)(rest / 60 % 60), (int)(rest % 60), nsec % 1000000000u);
}

void nf_json_time_ns(struct nf_json *j, const char *name, int64_t ns)
{
    int64_t sec = ns / 1000000000, rest = ns % 1000000000;

    if (rest < 0) {
        rest += 1000000000;
        sec--;
    }
    nf_json_time(j, name, sec, (uint32_t)rest);
}

void nf_json_base64(struct nf_json *j, const char *name, struct nf_bytes b)
{
    static const char digits[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *to;
    size_t n = 0;

    nf_json_key(j, name);
    begin(j);
    raw(j, "\"", 1);
    to = (char *)nf_buffer_reserve(j->out, b.len / 3 * 4 + 4);
    if (!to) {
        j->bad = true;
        return;
    }
    for (size_t i = 0; i < b.len; i += 3) {
        size_t k = b.len - i < 3 ? b.len - i : 3;
        uint32_t v = (uint32_t)b.data[i] << 16 | (k > 1 ? (uint32_t)b.data[i + 1] << 8 : 0) |
                     (k > 2 ? b.data[i + 2] : 0);

        to[n++] = digits[v >> 18];
        to[n++] = digits[v >> 12 & 63];
        to[n++] = k > 1 ? digits[v >> 6 & 63] : '=';
        to[n++] = k > 2 ? digits[v & 63] : '=';
    }
    j->out->len += n;
    raw(j, "\"", 1);
}

void nf_json_uuid(struct nf_json *j, const char *name, const uint8_t u[16])
{
    nf_json_key(j, name);
    nf_json_printf(j, "\"%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\"", u[0],
                   u[1], u[2], u[3], u[4], u[5], u[6], u[7], u[8], u[9], u[10], u[11], u[12],
                   u[13], u[14], u[15]);
}
