/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "common/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int nf_fail(struct nf_error *err, int code, const char *fmt, ...)
{
    va_list ap;

    if (err) {
        /* Through a temporary: an argument may point into err->text. */
        char text[sizeof(err->text)];

        va_start(ap, fmt);
        vsnprintf(text, sizeof(text), fmt, ap);
        va_end(ap);
        err->code = code;
        memcpy(err->text, text, sizeof(text));
    }
    return code;
}

int nf_fail_prefix(struct nf_error *err, const char *fmt, ...)
{
    va_list ap;
    char prefix[sizeof(err->text)];
    char text[2 * sizeof(err->text) + 4];

    if (!err)
        return NF_EINVAL;
    va_start(ap, fmt);
    vsnprintf(prefix, sizeof(prefix), fmt, ap);
    va_end(ap);
    snprintf(text, sizeof(text), "%s: %s", prefix, err->text);
    text[sizeof(err->text) - 1] = '\0';
    memcpy(err->text, text, sizeof(err->text));
    return err->code;
}

const char *nf_status_name(int status)
{
    switch (status) {
    case NF_OK:
        return "success";
    case NF_EIO:
        return "I/O error";
    case NF_EFORMAT:
        return "malformed data";
    case NF_ENOMEM:
        return "out of memory";
    case NF_EINVAL:
        return "invalid argument";
    case NF_ENOTFOUND:
        return "not found";
    case NF_EUNSUPPORTED:
        return "not supported";
    case NF_ECLOSED:
        return "connection closed";
    case NF_ELOST:
        return "data lost";
    case NF_EBUSY:
        return "in use";
    }
    return "unknown error";
}
