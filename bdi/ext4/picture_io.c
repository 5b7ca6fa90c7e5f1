/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An io_manager for libext2fs that reads the picture and never writes.
 *
 * libext2fs reads the superblock before it knows the block size (at offset
 * 1024, with a block size of 1024), so the channel addresses bytes and cuts
 * them into the picture's blocks itself.
 */
#include "bdi/ext4/picture.h"

#include <stdlib.h>
#include <string.h>

/* io_manager->open() gets only a name: the picture to open travels here. */
static __thread struct picture *opening;

static struct struct_io_manager picture_io_manager;

static errcode_t pio_open(const char *name, int flags, io_channel *channel)
{
    io_channel io;

    if (flags & IO_FLAG_RW)
        return EXT2_ET_RO_FILSYS;
    io = calloc(1, sizeof(*io));
    if (!io)
        return EXT2_ET_NO_MEMORY;
    io->magic = EXT2_ET_MAGIC_IO_CHANNEL;
    io->name = strdup(name);
    if (!io->name) {
        free(io);
        return EXT2_ET_NO_MEMORY;
    }
    io->block_size = 1024;
    io->refcount = 1;
    io->private_data = opening;
    io->manager = &picture_io_manager;
    *channel = io;
    return 0;
}

static errcode_t pio_close(io_channel io)
{
    if (--io->refcount > 0)
        return 0;
    free(io->name);
    free(io);
    return 0;
}

static errcode_t pio_set_blksize(io_channel io, int size)
{
    io->block_size = size;
    return 0;
}

static errcode_t pio_read64(io_channel io, unsigned long long block, int count, void *data)
{
    struct picture *p = io->private_data;
    uint64_t pos, len;
    uint8_t *out = data;

    /* A negative count is a length in bytes. */
    len = count < 0 ? (uint64_t)-(int64_t)count : (uint64_t)count * (uint64_t)io->block_size;
    if (__builtin_mul_overflow((uint64_t)block, (uint64_t)io->block_size, &pos))
        return EXT2_ET_SHORT_READ;
    while (len) {
        uint64_t b = pos / p->block_size;
        uint32_t in = (uint32_t)(pos % p->block_size);
        uint64_t n = p->block_size - in < len ? p->block_size - in : len;
        const uint8_t *src = picture_block(p, p->view, b, NULL);

        if (!src)
            return EXT2_ET_SHORT_READ;
        memcpy(out, src + in, n);
        out += n;
        pos += n;
        len -= n;
    }
    return 0;
}

static errcode_t pio_read(io_channel io, unsigned long block, int count, void *data)
{
    return pio_read64(io, block, count, data);
}

static errcode_t pio_write64(io_channel io, unsigned long long block, int count, const void *data)
{
    (void)io, (void)block, (void)count, (void)data;
    return EXT2_ET_RO_FILSYS;
}

static errcode_t pio_write(io_channel io, unsigned long block, int count, const void *data)
{
    return pio_write64(io, block, count, data);
}

static errcode_t pio_flush(io_channel io)
{
    (void)io;
    return 0;
}

static struct struct_io_manager picture_io_manager = {
    .magic = EXT2_ET_MAGIC_IO_MANAGER,
    .name = "nearfield picture",
    .open = pio_open,
    .close = pio_close,
    .set_blksize = pio_set_blksize,
    .read_blk = pio_read,
    .write_blk = pio_write,
    .flush = pio_flush,
    .read_blk64 = pio_read64,
    .write_blk64 = pio_write64,
};

int picture_open_fs(struct picture *p, ext2_filsys *out, struct nf_error *err)
{
    errcode_t rc;

    opening = p;
    rc = ext2fs_open2("picture", NULL,
                      EXT2_FLAG_64BITS | EXT2_FLAG_FORCE | EXT2_FLAG_SKIP_MMP, 0, 0,
                      &picture_io_manager, out);
    opening = NULL;
    if (rc)
        return nf_fail(err, NF_EFORMAT, "ext4: %s", error_message(rc));
    return 0;
}
