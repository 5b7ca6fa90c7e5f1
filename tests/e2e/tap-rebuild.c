/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A consumer that rebuilds a disk image from a tap's records, for the test of
 * byte equality:
 *
 *   tap-rebuild [-v] [-k SEQ] SOCKET IMAGE
 *
 * IMAGE holds what the disk held when the tap's epoch began. Runs until the
 * stream ends (CLOSE, or the producer is gone); prints one summary line. Exit 0;
 * 1 after an error; 3 if there was a GAP; 4 if the content of some range is
 * unknown (failed or discarded bytes are printed, so that the test can leave them
 * out).
 *
 * -k SEQ: kill ourselves with SIGKILL after record SEQ was applied and released.
 * A record is released only after it is applied, and applying is idempotent, so
 * a later run over the same IMAGE continues without loss.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/tap.h"

struct counts {
    uint64_t records, writes, zeroes, discards, flushes, resizes, gaps, failed, ambiguous;
    uint64_t lost_requests, lost_bytes;
    bool opened, closed;
};

static int write_all(int fd, const void *data, uint64_t len, uint64_t offset)
{
    const char *p = data;

    while (len) {
        ssize_t n = pwrite(fd, p, len, (off_t)offset);

        if (n < 0)
            return -1;
        p += n;
        len -= (uint64_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

static int write_zeroes(int fd, uint64_t len, uint64_t offset)
{
    static const char zeroes[1 << 16];

    while (len) {
        uint64_t n = len < sizeof(zeroes) ? len : sizeof(zeroes);

        if (write_all(fd, zeroes, n, offset) < 0)
            return -1;
        len -= n;
        offset += n;
    }
    return 0;
}

static int apply(int fd, const struct nf_record *rec, struct counts *c)
{
    c->records++;
    if (rec->flags & NF_REC_AMBIGUOUS)
        c->ambiguous++;
    if (rec->flags & NF_REC_FAILED) {
        c->failed++;
        printf("unknown %" PRIu64 " %" PRIu64 "\n", rec->offset, rec->length);
        return 0;
    }
    switch (rec->type) {
    case NF_REC_WRITE:
        c->writes++;
        return write_all(fd, rec->data, rec->length, rec->offset);
    case NF_REC_ZERO:
        c->zeroes++;
        return write_zeroes(fd, rec->length, rec->offset);
    case NF_REC_DISCARD:
        /* A raw file reads zeros after a discard that was carried out. */
        c->discards++;
        return write_zeroes(fd, rec->length, rec->offset);
    case NF_REC_FLUSH:
        c->flushes++;
        return 0;
    case NF_REC_RESIZE:
        c->resizes++;
        return ftruncate(fd, (off_t)rec->length);
    case NF_REC_GAP:
        c->gaps++;
        c->lost_requests += rec->offset;
        c->lost_bytes += rec->length;
        return 0;
    case NF_REC_OPEN:
        c->opened = true;
        return ftruncate(fd, (off_t)rec->length);
    case NF_REC_CLOSE:
        c->closed = true;
        return 0;
    case NF_REC_READBACK:
        break;
    }
    errno = EPROTO;
    return -1;
}

int main(int argc, char **argv)
{
    struct nf_tap_fds fds;
    struct nf_tap *tap = NULL;
    struct nf_record rec;
    struct nf_error err;
    struct counts c = {0};
    uint64_t kill_at = UINT64_MAX;
    bool verbose = false;
    int fd, opt, ret;

    while ((opt = getopt(argc, argv, "vk:")) != -1) {
        if (opt == 'v')
            verbose = true;
        else if (opt == 'k')
            kill_at = strtoull(optarg, NULL, 0);
        else
            return 2;
    }
    if (argc - optind != 2) {
        fprintf(stderr, "usage: tap-rebuild [-v] [-k SEQ] SOCKET IMAGE\n");
        return 2;
    }
    fd = open(argv[optind + 1], O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        perror(argv[optind + 1]);
        return 1;
    }
    if (nf_tap_connect(argv[optind], &fds, &err) || !(tap = nf_tap_new(&fds, &err))) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    fprintf(stderr, "connected\n");

    while ((ret = nf_tap_next(tap, &rec, &err)) >= 0) {
        if (ret == 0) {
            ret = nf_tap_wait(tap, -1, &err);
            if (ret < 0)
                break;
            continue;
        }
        if (verbose)
            printf("%" PRIu64 " type %d flags %u offset %" PRIu64 " length %" PRIu64 " aux %" PRIu64
                   "\n", rec.seq, rec.type, rec.flags, rec.offset, rec.length, rec.aux);
        if (apply(fd, &rec, &c) < 0) {
            fprintf(stderr, "record %" PRIu64 ": %s\n", rec.seq, strerror(errno));
            return 1;
        }
        nf_tap_release(tap, rec.seq);
        if (rec.seq >= kill_at)
            kill(getpid(), SIGKILL);
    }
    if (ret != NF_ECLOSED) {
        fprintf(stderr, "%s\n", err.text);
        return 1;
    }
    nf_tap_free(tap);
    if (close(fd) < 0) {
        perror("close");
        return 1;
    }
    printf("records %" PRIu64 " writes %" PRIu64 " zeroes %" PRIu64 " discards %" PRIu64
           " flushes %" PRIu64 " resizes %" PRIu64 " gaps %" PRIu64 " failed %" PRIu64
           " ambiguous %" PRIu64 " lost-requests %" PRIu64 " lost-bytes %" PRIu64
           " opened %d closed %d\n",
           c.records, c.writes, c.zeroes, c.discards, c.flushes, c.resizes, c.gaps, c.failed,
           c.ambiguous, c.lost_requests, c.lost_bytes, c.opened, c.closed);
    return c.gaps ? 3 : c.failed ? 4 : 0;
}
