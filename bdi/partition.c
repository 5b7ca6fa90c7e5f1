/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "bdi/partition.h"

#include <blkid.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "common/bytes.h"
#include "common/cleanup.h"
#include "common/crc32c.h"
#include "common/pread_full.h"

#define SECTOR 512u
#define COPY_CHUNK (64u * 1024)

/* Both ends of a disk: MBR, both GPTs, and RAID superblocks. */
#define DISK_EDGE (1024u * 1024)
/* Superblocks lie in the first 256 KiB (the deepest: btrfs at 64 KiB, ZFS
 * labels); RAID and ZFS keep more in the last. */
#define PART_HEAD (256u * 1024)
#define PART_TAIL (256u * 1024)
/* UDF's anchor is at sector 256 of up to 4 KiB, iso9660 at 32 KiB: only a disk
 * without a table is an optical image, and there DISK_EDGE covers both. */

#define GPT_MAX_TABLE (1024u * 1024)

/* Where libblkid looks at a copy of the disk. It must begin where the file
 * does: libblkid 2.38 gets nested tables wrong otherwise. */
struct scratch {
    struct nf_image *img;
    int fd;
    struct bdi_sectors *sectors; /* null: nobody asks */
};

void bdi_sectors_release(struct bdi_sectors *s)
{
    free(s->list);
    memset(s, 0, sizeof(*s));
}

/* [offset, +len) is part of the table. */
static int note_table(const struct scratch *sc, uint64_t offset, uint64_t len,
                      struct nf_error *err)
{
    struct bdi_sectors *s = sc->sectors;

    if (!s)
        return 0;
    for (uint64_t at = offset / SECTOR; at * SECTOR < offset + len; at++) {
        if (s->n == s->room) {
            size_t room = s->room ? s->room * 2 : 64;
            struct bdi_sector *list = reallocarray(s->list, room, sizeof(*list));

            if (!list)
                return nf_fail(err, NF_ENOMEM, "partition scan: out of memory");
            s->list = list;
            s->room = room;
        }
        s->list[s->n++] = (struct bdi_sector){at, 0};
    }
    return 0;
}

static int copy_range(const struct scratch *sc, uint64_t offset, uint64_t len,
                      struct nf_error *err)
{
    struct nf_image *img = sc->img;
    NF_AUTO_FREE uint8_t *buf = malloc(COPY_CHUNK);

    if (!buf)
        return nf_fail(err, NF_ENOMEM, "partition scan: out of memory");
    if (offset >= img->size)
        return 0;
    if (len > img->size - offset)
        len = img->size - offset;
    while (len > 0) {
        size_t n = len < COPY_CHUNK ? (size_t)len : COPY_CHUNK;
        int rc = img->read(img, offset, buf, n, err);

        if (rc < 0)
            return rc;
        /* Zeros stay holes, so that a large empty disk costs nothing. */
        for (size_t done = 0; done < n && !nf_is_zero(buf, n);) {
            ssize_t w = pwrite(sc->fd, buf + done, n - done, (off_t)(offset + done));

            if (w < 0 && errno == EINTR)
                continue;
            if (w <= 0)
                return nf_fail(err, NF_EIO, "partition scan: write scratch file: %s",
                               w < 0 ? strerror(errno) : "no room");
            done += (size_t)w;
        }
        offset += n;
        len -= n;
    }
    return 0;
}

static int scratch_read(const struct scratch *sc, uint64_t offset, void *buf, size_t len,
                        struct nf_error *err)
{
    ssize_t n = nf_pread_full(sc->fd, buf, len, offset);

    if (n < 0)
        return nf_fail(err, NF_EIO, "partition scan: read scratch file: %s", strerror(errno));
    memset((uint8_t *)buf + n, 0, len - (size_t)n);
    return 0;
}

/* What the sectors hold that were noted; the disk may end before them. */
static int read_noted(const struct scratch *sc, struct nf_error *err)
{
    struct bdi_sectors *s = sc->sectors;
    uint8_t buf[SECTOR];
    int rc = 0;

    for (size_t i = 0; s && rc == 0 && i < s->n; i++) {
        rc = scratch_read(sc, s->list[i].number * SECTOR, buf, sizeof(buf), err);
        s->list[i].crc = nf_crc32c(0, buf, sizeof(buf));
    }
    return rc;
}

static int scratch_begin(struct scratch *sc, struct nf_image *img, struct bdi_sectors *sectors,
                         struct nf_error *err)
{
    *sc = (struct scratch){img, -1, sectors};
    if (img->size > INT64_MAX)
        return nf_fail(err, NF_EINVAL, "partition scan: disk of %llu bytes",
                       (unsigned long long)img->size);
    sc->fd = memfd_create("partitions", MFD_CLOEXEC);
    if (sc->fd < 0 || ftruncate(sc->fd, (off_t)img->size) < 0) {
        nf_fail(err, NF_EIO, "partition scan: make a scratch file: %s", strerror(errno));
        if (sc->fd >= 0)
            close(sc->fd);
        return NF_EIO;
    }
    return 0;
}

static int is_extended(uint8_t type)
{
    return type == 0x05 || type == 0x0f || type == 0x85;
}

/* Copy the chain of extended boot records that starts at sector @base. */
static int copy_ebr_chain(const struct scratch *sc, uint64_t base, struct nf_error *err)
{
    uint64_t next = base;

    for (unsigned i = 0; i < BDI_PARTITIONS_MAX; i++) {
        uint8_t s[SECTOR];
        uint64_t rel = 0;
        int rc = copy_range(sc, next * SECTOR, SECTOR, err);

        if (rc == 0)
            rc = note_table(sc, next * SECTOR, SECTOR, err);
        if (rc < 0)
            return rc;
        rc = scratch_read(sc, next * SECTOR, s, sizeof(s), err);
        if (rc < 0)
            return rc;
        if (s[510] != 0x55 || s[511] != 0xaa)
            return 0;
        for (unsigned e = 0; e < 4; e++) {
            const uint8_t *p = s + 446 + 16 * e;

            if (is_extended(p[4])) {
                rel = nf_le32(p + 8);
                break;
            }
        }
        /* Links are relative to the extended partition's start; one that does
         * not lead on would be a circle. */
        if (rel == 0 || base + rel <= next)
            return 0;
        next = base + rel;
    }
    return 0;
}

/* Copy the array of entries a GPT header at @header_at points to. */
static int copy_gpt_entries(const struct scratch *sc, uint64_t header_at, unsigned sector,
                            struct nf_error *err)
{
    uint8_t h[92];
    uint64_t lba, len;
    int rc = note_table(sc, header_at, sector, err);

    if (rc == 0)
        rc = scratch_read(sc, header_at, h, sizeof(h), err);
    if (rc < 0 || memcmp(h, "EFI PART", 8) != 0)
        return rc;
    lba = nf_le64(h + 72);
    len = (uint64_t)nf_le32(h + 80) * nf_le32(h + 84);
    if (lba >= sc->img->size / sector || len > GPT_MAX_TABLE)
        return 0;
    rc = note_table(sc, lba * sector, len, err);
    return rc < 0 ? rc : copy_range(sc, lba * sector, len, err);
}

/* Copy everything libblkid looks at to find tables. Returns the sector size. */
static int copy_tables(const struct scratch *sc, struct nf_error *err)
{
    struct nf_image *img = sc->img;
    uint64_t tail = img->size > DISK_EDGE ? img->size - DISK_EDGE : 0;
    unsigned sector = SECTOR;
    uint8_t mbr[SECTOR], magic[8];
    int rc;

    rc = note_table(sc, 0, SECTOR, err);
    if (rc == 0)
        rc = copy_range(sc, 0, DISK_EDGE, err);
    if (rc == 0)
        rc = copy_range(sc, tail, DISK_EDGE, err);
    if (rc == 0)
        rc = scratch_read(sc, 0, mbr, sizeof(mbr), err);
    if (rc == 0)
        rc = scratch_read(sc, 4096, magic, sizeof(magic), err);
    if (rc < 0)
        return rc;
    if (memcmp(magic, "EFI PART", 8) == 0)
        sector = 4096;
    rc = copy_gpt_entries(sc, sector, sector, err);
    if (rc == 0 && img->size >= 2 * sector)
        rc = copy_gpt_entries(sc, img->size / sector * sector - sector, sector, err);
    if (rc == 0 && mbr[510] == 0x55 && mbr[511] == 0xaa) {
        for (unsigned e = 0; e < 4 && rc == 0; e++) {
            const uint8_t *p = mbr + 446 + 16 * e;

            if (is_extended(p[4]) && nf_le32(p + 8) != 0)
                rc = copy_ebr_chain(sc, nf_le32(p + 8), err);
        }
    }
    return rc < 0 ? rc : (int)sector;
}

/* NTFS keeps the record that proves it (and its name) far inside. */
static int copy_ntfs_mft(const struct scratch *sc, const struct bdi_partition *p,
                         struct nf_error *err)
{
    uint8_t b[SECTOR];
    uint64_t cluster, mft;
    int rc = scratch_read(sc, p->offset, b, sizeof(b), err);

    if (rc < 0 || memcmp(b + 3, "NTFS    ", 8) != 0)
        return rc;
    /* Above 128 the byte is a negative power of two of sectors. */
    cluster = b[13] <= 128 ? b[13] : (b[13] >= 240 ? 1ull << (256 - b[13]) : 0);
    cluster *= nf_le16(b + 11);
    mft = nf_le64(b + 48);
    if (cluster == 0 || mft >= p->size / cluster)
        return 0;
    return copy_range(sc, p->offset + mft * cluster, COPY_CHUNK, err);
}

static int copy_partition(const struct scratch *sc, const struct bdi_partition *p,
                          struct nf_error *err)
{
    uint64_t tail = p->size > PART_TAIL ? p->size - PART_TAIL : 0;
    int rc = copy_range(sc, p->offset, p->size < PART_HEAD ? p->size : PART_HEAD, err);

    if (rc == 0)
        rc = copy_range(sc, p->offset + tail, p->size - tail, err);
    if (rc == 0)
        rc = copy_ntfs_mft(sc, p, err);
    return rc;
}

static void take_value(blkid_probe pr, const char *name, char *out, size_t room)
{
    const char *v = NULL;
    size_t len = 0;

    if (blkid_probe_lookup_value(pr, name, &v, &len) != 0 || !v)
        return;
    len = strnlen(v, len);
    if (len >= room)
        len = room - 1;
    memcpy(out, v, len);
    out[len] = '\0';
}

static void parse_uuid(const char *text, uint8_t out[16])
{
    uint8_t uuid[16];
    size_t n = 0;

    for (const char *c = text; *c;) {
        unsigned byte;

        if (*c == '-') {
            c++;
            continue;
        }
        if (n == sizeof(uuid) || !c[1] || sscanf(c, "%2x", &byte) != 1)
            return;
        uuid[n++] = (uint8_t)byte;
        c += 2;
    }
    if (n == sizeof(uuid))
        memcpy(out, uuid, sizeof(uuid));
}

/*
 * Name what @p holds.  A stale second signature must not hide an ext4 that the
 * guest mounts: where libblkid cannot decide, ext is asked about alone.
 */
static int identify(struct bdi_partition *p, const struct scratch *sc, struct nf_error *err)
{
    char ext2[] = "ext2", ext3[] = "ext3", ext4[] = "ext4";
    char *only_ext[] = {ext2, ext3, ext4, NULL};
    char uuid[64] = "";
    blkid_probe pr = blkid_new_probe();
    int rc;

    if (!pr)
        return nf_fail(err, NF_ENOMEM, "partition scan: out of memory");
    if (blkid_probe_set_device(pr, sc->fd, (blkid_loff_t)p->offset, (blkid_loff_t)p->size) < 0) {
        blkid_free_probe(pr);
        return nf_fail(err, NF_EIO, "partition scan: libblkid refuses partition %u", p->number);
    }
    blkid_probe_enable_partitions(pr, 0);
    blkid_probe_enable_superblocks(pr, 1);
    blkid_probe_set_superblocks_flags(pr, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_UUID |
                                              BLKID_SUBLKS_LABEL);
    rc = blkid_do_safeprobe(pr);
    if (rc == -2) {
        snprintf(p->type, sizeof(p->type), "ambivalent");
        blkid_reset_probe(pr);
        blkid_probe_filter_superblocks_type(pr, BLKID_FLTR_ONLYIN, only_ext);
        rc = blkid_do_safeprobe(pr);
    }
    if (rc == 0) {
        take_value(pr, "TYPE", p->type, sizeof(p->type));
        take_value(pr, "LABEL", p->label, sizeof(p->label));
        take_value(pr, "UUID", uuid, sizeof(uuid));
        parse_uuid(uuid, p->uuid);
    }
    blkid_free_probe(pr);
    return 0;
}

static int by_number(const void *a, const void *b)
{
    const struct bdi_partition *x = a, *y = b;

    return x->number < y->number ? -1 : x->number > y->number;
}

/* Fill @list with the partitions of the table, if there is one. */
static int read_table(const struct scratch *sc, unsigned sector, struct bdi_partition *list,
                      size_t *n, struct nf_error *err)
{
    uint64_t disk_size = sc->img->size;
    blkid_probe pr = blkid_new_probe();
    blkid_partlist ls;
    int count;

    *n = 0;
    if (!pr)
        return nf_fail(err, NF_ENOMEM, "partition scan: out of memory");
    if (blkid_probe_set_device(pr, sc->fd, 0, (blkid_loff_t)disk_size) < 0) {
        blkid_free_probe(pr);
        return nf_fail(err, NF_EIO, "partition scan: libblkid refuses the disk");
    }
    if (sector != SECTOR)
        blkid_probe_set_sectorsize(pr, sector);
    blkid_probe_enable_superblocks(pr, 0);
    blkid_probe_enable_partitions(pr, 1);
    ls = blkid_probe_get_partitions(pr);
    count = ls ? blkid_partlist_numof_partitions(ls) : 0;
    for (int i = 0; i < count && *n < BDI_PARTITIONS_MAX; i++) {
        blkid_partition par = blkid_partlist_get_partition(ls, i);
        struct bdi_partition *p = &list[*n];
        uint64_t start, sectors;
        int number;

        if (!par || blkid_partition_is_extended(par))
            continue;
        number = blkid_partition_get_partno(par);
        start = (uint64_t)blkid_partition_get_start(par);
        sectors = (uint64_t)blkid_partition_get_size(par);
        if (number <= 0 || sectors == 0 || start >= disk_size / SECTOR)
            continue;
        if (sectors > disk_size / SECTOR - start)
            sectors = disk_size / SECTOR - start;
        memset(p, 0, sizeof(*p));
        p->number = (uint32_t)number;
        p->offset = start * SECTOR;
        p->size = sectors * SECTOR;
        (*n)++;
    }
    blkid_free_probe(pr);
    qsort(list, *n, sizeof(*list), by_number);
    return 0;
}

/* *@found (owned by the caller, also after a failure) has *@n entries. */
static int find_partitions(const struct scratch *sc, struct bdi_partition **found, size_t *n,
                           struct nf_error *err)
{
    int sector, rc = 0;

    *n = 0;
    *found = calloc(BDI_PARTITIONS_MAX, sizeof(**found));
    if (!*found)
        return nf_fail(err, NF_ENOMEM, "partition scan: out of memory");
    sector = copy_tables(sc, err);
    if (sector < 0)
        return sector;
    if (sc->img->size >= SECTOR)
        rc = read_table(sc, (unsigned)sector, *found, n, err);
    if (rc == 0 && *n == 0) {
        (*found)[0].size = sc->img->size;
        *n = 1;
    }
    return rc;
}

static int look_into(const struct scratch *sc, struct bdi_partition *p, struct nf_error *err)
{
    int rc;

    p->type[0] = p->label[0] = '\0';
    memset(p->uuid, 0, sizeof(p->uuid));
    if (sc->img->size < SECTOR)
        return 0;
    rc = copy_partition(sc, p, err);
    return rc < 0 ? rc : identify(p, sc, err);
}

static int scan(struct nf_image *img, bool identify_all, struct bdi_partition **list,
                size_t *n, struct bdi_sectors *sectors, struct nf_error *err)
{
    NF_AUTO_FREE struct bdi_partition *found = NULL;
    struct scratch sc;
    size_t count = 0;
    int rc;

    *list = NULL;
    *n = 0;
    if (sectors)
        sectors->n = 0;
    rc = scratch_begin(&sc, img, sectors, err);
    if (rc < 0)
        return rc;
    rc = find_partitions(&sc, &found, &count, err);
    if (rc == 0)
        rc = read_noted(&sc, err);
    for (size_t i = 0; rc == 0 && identify_all && i < count; i++)
        rc = look_into(&sc, &found[i], err);
    close(sc.fd);
    if (rc < 0)
        return rc;
    *list = found;
    *n = count;
    found = NULL;
    return 0;
}

int bdi_table_read(struct nf_image *img, struct bdi_partition **list, size_t *n,
                   struct bdi_sectors *sectors, struct nf_error *err)
{
    return scan(img, false, list, n, sectors, err);
}

int bdi_partitions_scan(struct nf_image *img, struct bdi_partition **list,
                        size_t *n, struct nf_error *err)
{
    return scan(img, true, list, n, NULL, err);
}

int bdi_partition_identify(struct nf_image *img, struct bdi_partition *p,
                           struct nf_error *err)
{
    struct scratch sc;
    int rc = scratch_begin(&sc, img, NULL, err);

    if (rc < 0)
        return rc;
    rc = look_into(&sc, p, err);
    close(sc.fd);
    return rc;
}

int bdi_partition_is_ext(const struct bdi_partition *p)
{
    return strcmp(p->type, "ext2") == 0 || strcmp(p->type, "ext3") == 0 ||
           strcmp(p->type, "ext4") == 0 || strcmp(p->type, "ext4dev") == 0;
}
