/* SPDX-License-Identifier: MIT */
/*
 * libbdi without anything around it: what do the writes in a dm-log-writes log
 * mean for the files of a disk?
 *
 *     cc follow-log.c $(pkg-config --cflags --libs libbdi) -o follow-log
 *     follow-log DISK LOG
 *
 * DISK is the disk as it was before the log; it is brought up to date as the
 * log is read, so give it a copy.
 */
#define _GNU_SOURCE
#include <bdi/bdi.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOG_FLUSH 1u
#define LOG_DISCARD 4u
#define LOG_MARK 8u

static int disk; /* descriptor */

/* The engine wants to see what is on the disk at this point of the log. */
static int disk_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                     struct nf_error *err)
{
    (void)img;
    if (pread(disk, buf, len, (off_t)offset) == (ssize_t)len)
        return 0;
    return nf_fail(err, NF_EIO, "the disk cannot be read at %llu", (unsigned long long)offset);
}

/* Something happened to a file. Here names are bytes: escape what you show. */
static int on_event(void *opaque, const struct nf_event *ev, struct nf_error *err)
{
    (void)opaque, (void)err;
    printf("%u %u", (unsigned)ev->kind, (unsigned)ev->inode);
    for (size_t i = 0; i < ev->npaths && ev->paths[i].len; i++) {
        putchar(' ');
        for (size_t k = 0; k < ev->paths[i].len; k++)
            printf(ev->paths[i].data[k] > ' ' && ev->paths[i].data[k] < 127 ? "%c" : "\\x%02x",
                   ev->paths[i].data[k]);
    }
    putchar('\n');
    return 0;
}

int main(int argc, char **argv)
{
    struct bdi_options opt = {.epoch = 1, .snapshot = 1, .event = on_event};
    struct nf_image image = {.read = disk_read};
    uint64_t super[3], entry[4]; /* little-endian, as the hosts that this is for */
    uint32_t sector;
    struct nf_error err = {0};
    struct stat st;
    FILE *log = argc == 3 ? fopen(argv[2], "rb") : NULL;
    struct bdi *bdi;
    int ret;

    if (!log || (disk = open(argv[1], O_RDWR)) < 0 || fstat(disk, &st) < 0 ||
        fread(super, sizeof(super), 1, log) != 1 || fread(&sector, 4, 1, log) != 1 || sector < 32)
        return fprintf(stderr, "usage: follow-log DISK LOG\n"), 2;
    image.size = (uint64_t)st.st_size;
    bdi = bdi_new(&image, memfd_create("shadow", 0), &opt, &err);
    ret = bdi ? bdi_attach(bdi, &err) : -1;
    for (uint64_t pos = sector; ret >= 0; pos += sector) {
        struct nf_record rec = {.type = NF_REC_WRITE, .seq = pos / sector};
        uint8_t *data = NULL;

        if (fseeko(log, (off_t)pos, SEEK_SET) < 0 || fread(entry, sizeof(entry), 1, log) != 1)
            break;
        rec.offset = entry[0] * sector;
        rec.length = entry[1] * sector;
        if (entry[2] & LOG_DISCARD) {
            rec.type = NF_REC_DISCARD;
        } else if (rec.length && !(entry[2] & LOG_MARK)) {
            rec.data = data = malloc(rec.length);
            if (!data || fseeko(log, (off_t)(pos + sector), SEEK_SET) < 0 ||
                fread(data, rec.length, 1, log) != 1 ||
                pwrite(disk, data, rec.length, (off_t)rec.offset) != (ssize_t)rec.length)
                break;
            pos += rec.length;
        }
        /* A flush that comes with a write concerns what was written before it. */
        if (entry[2] & LOG_FLUSH)
            ret = bdi_record(bdi, &(struct nf_record){.type = NF_REC_FLUSH}, &err);
        if (ret >= 0 && rec.length && !(entry[2] & LOG_MARK))
            ret = bdi_record(bdi, &rec, &err);
        free(data);
    }
    if (ret < 0)
        fprintf(stderr, "follow-log: %s\n", err.text);
    bdi_free(bdi);
    return ret < 0;
}
