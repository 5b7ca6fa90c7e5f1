/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/daemon/say.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

void say(const char *fmt, ...)
{
    static const char prefix[] = "nearfield-bdi: ";
    const size_t start = sizeof(prefix) - 1;
    char line[1200];
    size_t len;
    va_list ap;

    memcpy(line, prefix, sizeof(prefix));
    va_start(ap, fmt);
    vsnprintf(line + start, sizeof(line) - start - 1, fmt, ap);
    va_end(ap);
    len = strlen(line);
    for (size_t i = 0; i < len; i++) {
        if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
            line[i] = '?';
    }
    line[len++] = '\n';
    if (write(STDERR_FILENO, line, len) < 0)
        return; /* Nobody to tell. */
}
