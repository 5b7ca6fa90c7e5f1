/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "streamer/log.h"

#include <stdarg.h>
#include <stdio.h>

void nf_log(const char *fmt, ...)
{
    char text[1024];
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    fprintf(stderr, "nearfield-streamer: %s\n", text);
}
