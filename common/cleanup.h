/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scope-bound release of plain resources, by the compiler's cleanup
 * attribute: `NF_AUTO_FREE char *p = ...;`, `NF_AUTO_CLOSE int fd = -1;`.
 */
#ifndef NF_CLEANUP_H
#define NF_CLEANUP_H

#include <stdlib.h>
#include <unistd.h>

static inline void nf_cleanup_free(void *p)
{
    free(*(void **)p);
}

static inline void nf_cleanup_close(int *fd)
{
    if (*fd >= 0)
        close(*fd);
}

#define NF_AUTO_FREE __attribute__((cleanup(nf_cleanup_free)))
#define NF_AUTO_CLOSE __attribute__((cleanup(nf_cleanup_close)))

/* Give up ownership: `return nf_steal_fd(&fd);`. */
static inline int nf_steal_fd(int *fd)
{
    int v = *fd;

    *fd = -1;
    return v;
}

#endif
