/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * write-tap filter driver
 *
 * Passes every request on to its child and hands the stream of writes,
 * zero writes, discards, flushes and resizes to one consumer process through
 * shared memory (see nf_ring.h). Data is copied once, into the ring, and
 * written to the child from there: what the consumer gets is what is on the
 * disk, even if the guest changes its buffer meanwhile.
 *
 * The consumer can never delay the guest: without room in the ring requests
 * are passed on unrecorded, and a GAP record says how many.
 */
#include "qemu/osdep.h"

#include "qapi/error.h"
#include "qemu/error-report.h"
#include "qemu/main-loop.h"
#include "qemu/module.h"
#include "qemu/option.h"
#include "qemu/units.h"
#include "qemu/uuid.h"
#include "block/block_int.h"
#include "block/block-io.h"
#include "trace.h"

#include "write-tap-ring.h"
#include "write-tap-server.h"

/* The block graph has a lock since QEMU 8.0. */
#ifndef GRAPH_RDLOCK
#define GRAPH_RDLOCK
#define GRAPH_RDLOCK_GUARD_MAINLOOP()
#define WRITE_TAP_OLD_CALLBACKS
#endif

#define WRITE_TAP_OPT_SOCKET "socket"
#define WRITE_TAP_OPT_RING_SIZE "ring-size"
#define WRITE_TAP_OPT_ON_FULL "on-full"
#define WRITE_TAP_DEFAULT_RING_SIZE (32 * MiB)

typedef struct BDRVWriteTapState {
    /*
     * @lock protects @ring, what it points to, and the connection of @server. It is
     * never held across a yield, a copy of data or I/O, except that a
     * doorbell is sent under it without blocking.
     */
    QemuMutex lock;
    WriteTapRing *ring; /* NULL while the node was never active */

    /* Main loop only. */
    WriteTapServer server;
    char *socket;
    uint64_t ring_size;
} BDRVWriteTapState;

static QemuOptsList runtime_opts = {
    .name = "write-tap",
    .head = QTAILQ_HEAD_INITIALIZER(runtime_opts.head),
    .desc = {
        {
            .name = WRITE_TAP_OPT_SOCKET,
            .type = QEMU_OPT_STRING,
            .help = "path of the Unix socket to listen on",
        },
        {
            .name = WRITE_TAP_OPT_RING_SIZE,
            .type = QEMU_OPT_SIZE,
            .help = "memory for data that the consumer has not taken yet, "
                "default 32M",
        },
        {
            .name = WRITE_TAP_OPT_ON_FULL,
            .type = QEMU_OPT_STRING,
            .help = "what to do when that memory is full, default bitmap",
        },
        { /* end of list */ }
    },
};

static int write_tap_absorb_opts(BDRVWriteTapState *s, QDict *options,
                                 Error **errp)
{
    QemuOpts *opts = qemu_opts_create(&runtime_opts, NULL, 0, &error_abort);
    const char *on_full;
    int ret = -EINVAL;

    if (!qemu_opts_absorb_qdict(opts, options, errp)) {
        goto out;
    }
    s->socket = g_strdup(qemu_opt_get(opts, WRITE_TAP_OPT_SOCKET));
    if (!s->socket || !*s->socket) {
        error_setg(errp, "write-tap needs the option '" WRITE_TAP_OPT_SOCKET "'");
        goto out;
    }
    s->ring_size = qemu_opt_get_size(opts, WRITE_TAP_OPT_RING_SIZE,
                                     WRITE_TAP_DEFAULT_RING_SIZE);
    if (s->ring_size < NF_RING_MIN_SIZE || s->ring_size > NF_RING_MAX_SIZE) {
        error_setg(errp, WRITE_TAP_OPT_RING_SIZE " must be from 1 MiB to 16 GiB");
        goto out;
    }
    s->ring_size = QEMU_ALIGN_UP(s->ring_size, NF_RING_PAGE);
    on_full = qemu_opt_get(opts, WRITE_TAP_OPT_ON_FULL);
    if (on_full && strcmp(on_full, "bitmap")) {
        error_setg(errp, WRITE_TAP_OPT_ON_FULL "=%s is not supported by this "
                   "version of write-tap, only " WRITE_TAP_OPT_ON_FULL
                   "=bitmap is", on_full);
        ret = -ENOTSUP;
        goto out;
    }
    ret = 0;
out:
    qemu_opts_del(opts);
    return ret;
}

/* Begin an epoch: a new ring, and a socket to get it from. Main loop. */
static int write_tap_start(BlockDriverState *bs, int64_t disk_size, Error **errp)
{
    BDRVWriteTapState *s = bs->opaque;
    const char *name = bdrv_get_node_name(bs);
    g_autofree char *uuid_text = NULL;
    WriteTapRing *ring, *old;
    WriteTapRingInfo info;
    const char *what;
    QemuUUID uuid;
    int ret, err;

    qemu_uuid_generate(&uuid);
    uuid_text = qemu_uuid_unparse_strdup(&uuid);
    info = (WriteTapRingInfo) {
        .epoch_uuid = uuid.data,
        .disk_id = name,
        .disk_size = disk_size,
        .payload_size = s->ring_size,
    };
    ring = write_tap_ring_new(&info, &err, &what);
    if (!ring) {
        error_setg_errno(errp, err, "Could not create the ring: %s", what);
        return -err;
    }
    write_tap_ring_append(ring, NF_RING_OPEN, 0, disk_size, 0);

    ret = write_tap_server_start(&s->server, s->socket, name, &s->lock, ring, errp);
    if (ret < 0) {
        write_tap_ring_unref(ring);
        return ret;
    }
    WITH_QEMU_LOCK_GUARD(&s->lock) {
        old = s->ring;
        s->ring = ring;
        write_tap_ring_unref(old);
    }
    trace_write_tap_start(name, s->socket, uuid_text, s->ring_size);
    return 0;
}

/* End the epoch. The ring stays until the node is closed or active again. */
static void write_tap_stop(BlockDriverState *bs)
{
    BDRVWriteTapState *s = bs->opaque;

    if (!s->ring) {
        return;
    }
    WITH_QEMU_LOCK_GUARD(&s->lock) {
        if (write_tap_ring_close(s->ring, 0)) {
            write_tap_server_bell(&s->server);
        }
    }
    write_tap_server_stop(&s->server);
    trace_write_tap_stop(bdrv_get_node_name(bs));
}

static int write_tap_open(BlockDriverState *bs, QDict *options, int flags,
                          Error **errp)
{
    BDRVWriteTapState *s = bs->opaque;
    int64_t size;
    int ret;

    qemu_mutex_init(&s->lock);
    s->ring = NULL;
    ret = bdrv_open_file_child(NULL, options, "file", bs, errp);
    if (ret < 0) {
        goto fail;
    }
    GRAPH_RDLOCK_GUARD_MAINLOOP();

    ret = write_tap_absorb_opts(s, options, errp);
    if (ret < 0) {
        goto fail;
    }

    bs->supported_write_flags = BDRV_REQ_WRITE_UNCHANGED |
        (BDRV_REQ_FUA & bs->file->bs->supported_write_flags);
    bs->supported_zero_flags = BDRV_REQ_WRITE_UNCHANGED |
        ((BDRV_REQ_FUA | BDRV_REQ_MAY_UNMAP | BDRV_REQ_NO_FALLBACK) &
            bs->file->bs->supported_zero_flags);
    bs->supported_truncate_flags = BDRV_REQ_ZERO_WRITE &
        bs->file->bs->supported_truncate_flags;

    if (!(flags & (BDRV_O_INACTIVE | BDRV_O_NO_IO))) {
        size = bdrv_getlength(bs->file->bs);
        if (size < 0) {
            error_setg_errno(errp, -size, "Could not get the size of the disk");
            ret = size;
            goto fail;
        }
        ret = write_tap_start(bs, size, errp);
        if (ret < 0) {
            goto fail;
        }
    }
    return 0;

fail:
    /* Loading an internal snapshot opens the same state again after a close. */
    g_clear_pointer(&s->socket, g_free);
    qemu_mutex_destroy(&s->lock);
    return ret;
}

static void write_tap_close(BlockDriverState *bs)
{
    BDRVWriteTapState *s = bs->opaque;

    write_tap_stop(bs);
    write_tap_ring_unref(s->ring);
    s->ring = NULL;
    g_clear_pointer(&s->socket, g_free);
    qemu_mutex_destroy(&s->lock);
}

static int write_tap_inactivate(BlockDriverState *bs)
{
    write_tap_stop(bs);
    return 0;
}

static void coroutine_fn GRAPH_RDLOCK
write_tap_co_invalidate_cache(BlockDriverState *bs, Error **errp)
{
    BDRVWriteTapState *s = bs->opaque;
#ifdef WRITE_TAP_OLD_CALLBACKS
    int64_t size = bdrv_getlength(bs->file->bs);
#else
    int64_t size = bdrv_co_getlength(bs->file->bs);
#endif

    if (size < 0) {
        error_setg_errno(errp, -size, "Could not get the size of the disk");
        return;
    }
    if (!s->ring || write_tap_ring_closed(s->ring)) {
        write_tap_start(bs, size, errp);
    }
}

/*
 * All options stay as they are: the generic code refuses others. The callback
 * has to exist, or the nodes above could not be reopened.
 */
static int write_tap_reopen_prepare(BDRVReopenState *reopen_state,
                                    BlockReopenQueue *queue, Error **errp)
{
    return 0;
}

static uint32_t ring_flags(BdrvRequestFlags flags)
{
    return (flags & BDRV_REQ_FUA ? NF_RING_FUA : 0) |
           (flags & BDRV_REQ_MAY_UNMAP ? NF_RING_UNMAP : 0);
}

/*
 * Enter @req in the ring that it belongs to and return that in *@ring (NULL:
 * the node is not active). See write_tap_ring_begin().
 */
static void *write_tap_begin(BDRVWriteTapState *s, WriteTapRing **ring,
                             WriteTapReq *req, uint32_t type,
                             BdrvRequestFlags flags, int64_t offset,
                             int64_t bytes)
{
    QEMU_LOCK_GUARD(&s->lock);
    void *buf = NULL;

    *ring = s->ring;
    if (s->ring) {
        buf = write_tap_ring_begin(s->ring, req, type, ring_flags(flags), offset,
                                   bytes);
        if (req->gap) {
            trace_write_tap_lost(s, offset, bytes);
        }
        write_tap_server_check(&s->server);
    }
    return buf;
}

static void write_tap_end(BDRVWriteTapState *s, WriteTapRing *ring,
                          WriteTapReq *req, int ret, int64_t disk_size)
{
    QEMU_LOCK_GUARD(&s->lock);

    if (!ring) {
        return;
    }
    if (write_tap_ring_end(ring, req, ret, disk_size)) {
        write_tap_server_bell(&s->server);
    }
    write_tap_server_check(&s->server);
}

static int coroutine_fn GRAPH_RDLOCK
write_tap_co_preadv_part(BlockDriverState *bs, int64_t offset, int64_t bytes,
                         QEMUIOVector *qiov, size_t qiov_offset,
                         BdrvRequestFlags flags)
{
    return bdrv_co_preadv_part(bs->file, offset, bytes, qiov, qiov_offset, flags);
}

static int coroutine_fn GRAPH_RDLOCK
write_tap_co_pwritev_part(BlockDriverState *bs, int64_t offset, int64_t bytes,
                          QEMUIOVector *qiov, size_t qiov_offset,
                          BdrvRequestFlags flags)
{
    BDRVWriteTapState *s = bs->opaque;
    WriteTapRing *ring;
    WriteTapReq req;
    void *buf;
    int ret;

    if (flags & BDRV_REQ_WRITE_UNCHANGED) {
        return bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset,
                                    flags);
    }
    buf = write_tap_begin(s, &ring, &req, NF_RING_WRITE, flags, offset, bytes);
    if (buf) {
        QEMUIOVector from_ring = QEMU_IOVEC_INIT_BUF(from_ring, buf, bytes);

        qemu_iovec_to_buf(qiov, qiov_offset, buf, bytes);
        ret = bdrv_co_pwritev_part(bs->file, offset, bytes, &from_ring, 0,
                                   flags & ~BDRV_REQ_REGISTERED_BUF);
    } else {
        ret = bdrv_co_pwritev_part(bs->file, offset, bytes, qiov, qiov_offset,
                                   flags);
    }
    write_tap_end(s, ring, &req, ret, 0);
    return ret;
}

static int coroutine_fn GRAPH_RDLOCK
write_tap_co_pwritev_compressed(BlockDriverState *bs, int64_t offset,
                                int64_t bytes, QEMUIOVector *qiov)
{
    return write_tap_co_pwritev_part(bs, offset, bytes, qiov, 0,
                                     BDRV_REQ_WRITE_COMPRESSED);
}

static int coroutine_fn GRAPH_RDLOCK
write_tap_co_pwrite_zeroes(BlockDriverState *bs, int64_t offset, int64_t bytes,
                           BdrvRequestFlags flags)
{
    BDRVWriteTapState *s = bs->opaque;
    WriteTapRing *ring;
    WriteTapReq req;
    int ret;

    if (flags & BDRV_REQ_WRITE_UNCHANGED) {
        return bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
    }
    write_tap_begin(s, &ring, &req, NF_RING_ZERO, flags, offset, bytes);
    ret = bdrv_co_pwrite_zeroes(bs->file, offset, bytes, flags);
    write_tap_end(s, ring, &req, ret, 0);
    return ret;
}

static int coroutine_fn GRAPH_RDLOCK
write_tap_co_pdiscard(BlockDriverState *bs, int64_t offset, int64_t bytes)
{
    BDRVWriteTapState *s = bs->opaque;
    WriteTapRing *ring;
    WriteTapReq req;
    int ret;

    write_tap_begin(s, &ring, &req, NF_RING_DISCARD, 0, offset, bytes);
    ret = bdrv_co_pdiscard(bs->file, offset, bytes);
    write_tap_end(s, ring, &req, ret, 0);
    return ret;
}

static int coroutine_fn GRAPH_RDLOCK write_tap_co_flush(BlockDriverState *bs)
{
    BDRVWriteTapState *s = bs->opaque;
    WriteTapRing *ring;
    uint64_t head = 0;
    int ret;

    WITH_QEMU_LOCK_GUARD(&s->lock) {
        ring = s->ring;
        if (ring) {
            head = write_tap_ring_head(ring);
        }
    }
    ret = bdrv_co_flush(bs->file->bs);
    if (ret < 0) {
        return ret; /* no barrier */
    }
    WITH_QEMU_LOCK_GUARD(&s->lock) {
        if (ring && ring == s->ring) {
            if (write_tap_ring_append(ring, NF_RING_FLUSH, 0, 0, head)) {
                write_tap_server_bell(&s->server);
            }
            write_tap_server_check(&s->server);
        }
    }
    return 0;
}

static int64_t coroutine_fn GRAPH_RDLOCK
write_tap_co_getlength(BlockDriverState *bs)
{
#ifdef WRITE_TAP_OLD_CALLBACKS
    return bdrv_getlength(bs->file->bs);
#else
    return bdrv_co_getlength(bs->file->bs);
#endif
}

static int coroutine_fn GRAPH_RDLOCK
write_tap_co_truncate(BlockDriverState *bs, int64_t offset, bool exact,
                      PreallocMode prealloc, BdrvRequestFlags flags, Error **errp)
{
    BDRVWriteTapState *s = bs->opaque;
    WriteTapRing *ring;
    WriteTapReq req;
    int64_t size;
    int ret;

    write_tap_begin(s, &ring, &req, NF_RING_RESIZE, 0, 0, offset);
    ret = bdrv_co_truncate(bs->file, offset, exact, prealloc, flags, errp);
    size = write_tap_co_getlength(bs);
    write_tap_end(s, ring, &req, ret, size < 0 ? offset : size);
    return ret;
}

/* As copy-before-write: once in use, nobody else may write underneath. */
static void GRAPH_RDLOCK
write_tap_child_perm(BlockDriverState *bs, BdrvChild *c, BdrvChildRole role,
                     BlockReopenQueue *reopen_queue, uint64_t perm,
                     uint64_t shared, uint64_t *nperm, uint64_t *nshared)
{
    bdrv_default_perms(bs, c, role, reopen_queue, perm, shared, nperm, nshared);
    if (!QLIST_EMPTY(&bs->parents)) {
        *nshared &= ~(BLK_PERM_WRITE | BLK_PERM_RESIZE);
    }
}

static BlockStatsSpecific *write_tap_get_specific_stats(BlockDriverState *bs)
{
    BDRVWriteTapState *s = bs->opaque;
    BlockStatsSpecific *stats = g_new0(BlockStatsSpecific, 1);
    struct nf_ring_producer p = { 0 };
    bool connected = false;

    WITH_QEMU_LOCK_GUARD(&s->lock) {
        if (s->ring) {
            write_tap_ring_stats(s->ring, &p);
            connected = s->server.path && s->server.conn_fd >= 0;
        }
    }
    stats->driver = BLOCKDEV_DRIVER_WRITE_TAP;
    stats->u.write_tap = (BlockStatsSpecificWriteTap) {
        .connected = connected,
        .records = p.records,
        .data_bytes = p.payload_bytes,
        .gaps = p.gaps,
        .lost_requests = p.lost_requests,
        .lost_bytes = p.lost_bytes,
        .wakeups = p.wakeups,
        .touched_bytes = p.touched_bytes,
    };
    return stats;
}

static BlockDriver bdrv_write_tap = {
    .format_name                = "write-tap",
    .instance_size              = sizeof(BDRVWriteTapState),

    .bdrv_open                  = write_tap_open,
    .bdrv_close                 = write_tap_close,
    .bdrv_inactivate            = write_tap_inactivate,
    .bdrv_co_invalidate_cache   = write_tap_co_invalidate_cache,
    .bdrv_reopen_prepare        = write_tap_reopen_prepare,
    .bdrv_child_perm            = write_tap_child_perm,
    .bdrv_get_specific_stats    = write_tap_get_specific_stats,

    .bdrv_co_preadv_part        = write_tap_co_preadv_part,
    .bdrv_co_pwritev_part       = write_tap_co_pwritev_part,
    .bdrv_co_pwritev_compressed = write_tap_co_pwritev_compressed,
    .bdrv_co_pwrite_zeroes      = write_tap_co_pwrite_zeroes,
    .bdrv_co_pdiscard           = write_tap_co_pdiscard,
    .bdrv_co_flush              = write_tap_co_flush,
    .bdrv_co_truncate           = write_tap_co_truncate,
#ifdef WRITE_TAP_OLD_CALLBACKS
    .bdrv_getlength             = write_tap_co_getlength,
    .has_variable_length        = true,
#else
    .bdrv_co_getlength          = write_tap_co_getlength,
#endif

    .is_filter                  = true,
};

static void bdrv_write_tap_init(void)
{
    bdrv_register(&bdrv_write_tap);
}

block_init(bdrv_write_tap_init);
