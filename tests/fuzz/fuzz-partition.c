/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Partition tables: whatever is on the disk, the scan ends, within bounds,
 * with ranges that lie on the disk.
 *
 * Input: u16 size of the disk in units of 32 KiB, then pieces of
 * {u16 sector, 512 bytes}; the other sectors are zeros.  Sector numbers from
 * 0x8000 count from the end of the disk.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "bdi/partition.h"
#include "common/bytes.h"

#define SECTOR 512u
#define PIECE (2 + SECTOR)
#define UNIT (32u * 1024)
#define MAX_UNITS 1024

struct disk {
    struct nf_image img;
    const uint8_t *pieces;
    size_t n;
    uint64_t bytes_read;
};

static int disk_read(struct nf_image *img, uint64_t offset, void *buf, size_t len,
                     struct nf_error *err)
{
    struct disk *d = (struct disk *)img;

    (void)err;
    if (offset > img->size || len > img->size - offset)
        abort();
    d->bytes_read += len;
    memset(buf, 0, len);
    for (size_t i = 0; i < d->n; i++) {
        uint64_t sector = nf_le16(d->pieces + i * PIECE);
        const uint8_t *data = d->pieces + i * PIECE + 2;
        uint64_t at, lo, hi;

        if (sector >= 0x8000)
            sector = img->size / SECTOR - (0x10000 - sector);
        if (sector >= img->size / SECTOR)
            continue;
        at = sector * SECTOR;
        lo = at > offset ? at : offset;
        hi = at + SECTOR < offset + len ? at + SECTOR : offset + len;
        if (lo < hi)
            memcpy((uint8_t *)buf + (lo - offset), data + (lo - at), hi - lo);
    }
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct bdi_partition *list = NULL;
    struct disk d = {.img.read = disk_read};
    struct nf_error err;
    size_t n = 0;

    if (size < 2)
        return 0;
    d.img.size = (uint64_t)(nf_le16(data) % MAX_UNITS) * UNIT;
    d.pieces = data + 2;
    d.n = (size - 2) / PIECE;
    if (bdi_partitions_scan(&d.img, &list, &n, &err) != 0)
        abort(); /* This disk gives no errors. */
    if (n == 0 || n > BDI_PARTITIONS_MAX || !list)
        abort();
    for (size_t i = 0; i < n; i++) {
        const struct bdi_partition *p = &list[i];

        if (p->offset > d.img.size || p->size > d.img.size - p->offset)
            abort();
        if (!memchr(p->type, 0, sizeof(p->type)) || !memchr(p->label, 0, sizeof(p->label)))
            abort();
        if (p->number == 0 && n != 1)
            abort();
    }
    if (d.bytes_read > (uint64_t)(BDI_PARTITIONS_MAX + 8) * 1024 * 1024)
        abort();
    free(list);
    return 0;
}
