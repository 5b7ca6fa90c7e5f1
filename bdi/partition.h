/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where file systems lie on a disk: the whole disk, MBR partitions (logical
 * ones included) and GPT partitions, each with what its superblock says it is.
 *
 * Knowledge of tables and superblocks is libblkid's; it reads a scratch file
 * into which only the places where such things are kept have been copied, so
 * that it never needs the disk itself.  Every byte of the tables is hostile:
 * counts and chains are bounded, and every range returned lies on the disk.
 */
#ifndef BDI_PARTITION_H
#define BDI_PARTITION_H

#include <stddef.h>
#include <stdint.h>

#include "common/error.h"
#include "common/image.h"

/* More partitions than this on one disk are not looked at. */
#define BDI_PARTITIONS_MAX 256

struct bdi_partition {
    uint32_t number; /* as the guest's kernel numbers it; 0: the whole disk */
    uint64_t offset; /* bytes, from the start of the disk */
    uint64_t size;   /* bytes, > 0 unless the disk has none; within the disk */
    char type[32];   /* blkid's name: "ext4", "xfs", "crypto_LUKS", "swap", ...;
                        "ambivalent": several contradicting signatures;
                        "": nothing known is there */
    char label[128]; /* of the file system; NUL-terminated, may be cut, not text */
    uint8_t uuid[16]; /* of the file system; zeros if it has none in this form */
};

/* Sectors of 512 bytes on which a table depends, and what they held. */
struct bdi_sector {
    uint64_t number;
    uint32_t crc; /* nf_crc32c() of it */
};
struct bdi_sectors {
    struct bdi_sector *list; /* owned */
    size_t n, room;
};
void bdi_sectors_release(struct bdi_sectors *s);

/*
 * All of these take some MiB of anonymous memory, as a file (memfd_create), for
 * the time of the call.  That @img answers 1 ("may be newer") is not looked at:
 * the caller does.  They return 0, NF_EIO, NF_ENOMEM, or what the image
 * returned.
 */

/*
 * Read the partition table of the disk behind @img.  On success *@list is an
 * array of *@n >= 1 entries, in order of number, to be released with free():
 * one entry per partition if there is a table with any, else exactly one with
 * number 0 for the whole disk.  What they hold is not looked at.  @sectors, if
 * not null, becomes the sectors that may make it another table when written, in
 * any order.
 */
int bdi_table_read(struct nf_image *img, struct bdi_partition **list, size_t *n,
                   struct bdi_sectors *sectors, struct nf_error *err);

/* Find out what @p, an entry of such a list, holds: type, label and uuid. */
int bdi_partition_identify(struct nf_image *img, struct bdi_partition *p,
                           struct nf_error *err);

/* Both: the table, and what each partition holds. */
int bdi_partitions_scan(struct nf_image *img, struct bdi_partition **list,
                        size_t *n, struct nf_error *err);

/* Whether @type is one that the ext4 driver is to be asked about. */
int bdi_partition_is_ext(const struct bdi_partition *p);

#endif
