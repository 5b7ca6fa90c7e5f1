/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What write-tap-ring.c takes from QEMU's header of this name, so that the unit
 * tests compile the driver's own file.
 */
#ifndef QEMU_OSDEP_H
#define QEMU_OSDEP_H

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

/* GLib's allocation never fails; here too it ends the program. */
static inline void *producer_alloc(size_t n, size_t size)
{
    void *p = calloc(n, size);

    if (!p)
        abort();
    return p;
}

#define g_new0(type, n) ((type *)producer_alloc(n, sizeof(type)))
#define g_free(p) free(p)

#endif
