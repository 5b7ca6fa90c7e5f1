/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The reader of dm-log-writes logs on any bytes.
 */
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/logwrites.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint64_t disk = 1u << 24;
    static uint8_t buf[4096];
    struct nf_error err = { 0 };
    int fd = memfd_create("log", MFD_CLOEXEC);

    if (fd < 0 || write(fd, data, size) != (ssize_t)size)
        abort();
    for (int trust = 0; trust <= 1; trust++) {
        struct nf_logwrites_reader *r = nf_logwrites_open(fd, disk, &err);
        struct nf_logwrites_entry e;

        if (!r)
            break;
        while (nf_logwrites_next(r, trust, &e, &err) == 1) {
            if (e.offset > disk || e.length > disk - e.offset)
                abort();
            /* What next() accepted is in the log. */
            for (uint64_t at = 0; e.has_data && at < e.length;) {
                size_t n = e.length - at < sizeof(buf) ? (size_t)(e.length - at) : sizeof(buf);

                if (nf_logwrites_read(r, &e, at, buf, n, &err) != NF_OK)
                    abort();
                at += n;
            }
        }
        nf_logwrites_close(r);
    }
    close(fd);
    return 0;
}
