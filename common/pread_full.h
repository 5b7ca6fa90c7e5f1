/* SPDX-License-Identifier: GPL-2.0-or-later */
/* pread(2) until it is done: interrupted and short reads go on. */
#ifndef NF_PREAD_FULL_H
#define NF_PREAD_FULL_H

#include <errno.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <unistd.h>

/* Bytes read at @offset: @len, or fewer at the end of the file; -1 with errno. */
static inline ssize_t nf_pread_full(int fd, void *buf, size_t len, uint64_t offset)
{
    size_t done = 0;

    while (done < len) {
        ssize_t n = pread(fd, (uint8_t *)buf + done, len - done, (off_t)(offset + done));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

#endif
