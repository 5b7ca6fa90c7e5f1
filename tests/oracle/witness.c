/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The exerciser with a witness: what fanotify says that really happened.
 *     witness SEED STEPS DIR LOG each|EVERY
 *
 * DIR is the top of a file system. After each call the events that the kernel
 * has queued for it are written to LOG; after each call ("each"), or after EVERY
 * of them, the file system is synced, the time of the file .step set to the number
 * of the step, and synced again: that mark ends the step in the journal, too. With
 * "each", only calls whose effect fanotify reports are made (it knows nothing of
 * stores through mappings nor of chattr), and of these such as are one system
 * call.
 *
 * LOG: "op NAME RESULT", then what it caused, with objects as INODE.GENERATION
 * and names in hex:
 *     create DIR NAME OBJECT      delete DIR NAME OBJECT
 *     rename DIR NAME DIR NAME OBJECT
 *     modify OBJECT               attrib OBJECT
 * and "step N".
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "common/bytes.h"
#include "tests/oracle/exerciser.h"

#define MARK ".step"
#define WHAT (FAN_CREATE | FAN_DELETE | FAN_RENAME | FAN_MODIFY | FAN_ATTRIB | FAN_ONDIR)

static int fail(const char *what)
{
    fprintf(stderr, "witness: %s: %s\n", what, strerror(errno));
    return 1;
}

struct object {
    uint32_t inode, generation;
    const char *name; /* null if it is not said */
};

/* One of the records behind an event. */
static struct object read_fid(const struct fanotify_event_info_fid *fid)
{
    const struct file_handle *h = (const struct file_handle *)fid->handle;
    uint8_t type = fid->hdr.info_type;
    struct object o = { 0 };

    /* FILEID_INO32_GEN, as ext4 makes them. */
    if (h->handle_bytes >= 8) {
        o.inode = nf_le32(h->f_handle);
        o.generation = nf_le32(h->f_handle + 4);
    }
    if (type != FAN_EVENT_INFO_TYPE_FID && type != FAN_EVENT_INFO_TYPE_DFID)
        o.name = (const char *)h->f_handle + h->handle_bytes;
    return o;
}

static void put(FILE *log, const struct object *o)
{
    fprintf(log, " %" PRIu32 ".%" PRIu32, o->inode, o->generation);
}

static void put_name(FILE *log, const struct object *dir)
{
    put(log, dir);
    fputc(' ', log);
    for (const char *p = dir->name ? dir->name : ""; *p; p++)
        fprintf(log, "%02x", (unsigned char)*p);
}

static void put_event(FILE *log, const struct fanotify_event_metadata *m, uint32_t mark)
{
    const char *p = (const char *)m + m->metadata_len, *end = (const char *)m + m->event_len;
    struct object from = { 0 }, to = { 0 }, self = { 0 };

    while (p + sizeof(struct fanotify_event_info_fid) <= end) {
        const struct fanotify_event_info_fid *fid = (const void *)p;
        struct object o = read_fid(fid);

        switch (fid->hdr.info_type) {
        case FAN_EVENT_INFO_TYPE_FID:
            self = o;
            break;
        case FAN_EVENT_INFO_TYPE_NEW_DFID_NAME:
            to = o;
            break;
        default:
            from = o;
        }
        p += fid->hdr.len;
    }
    /* A directory about itself. */
    if (!self.inode)
        self = from;
    if (self.inode == mark)
        return;
    if (m->mask & FAN_CREATE) {
        fputs("create", log);
        put_name(log, &from);
        put(log, &self);
        fputc('\n', log);
    }
    if (m->mask & FAN_RENAME) {
        fputs("rename", log);
        put_name(log, &from);
        put_name(log, &to);
        put(log, &self);
        fputc('\n', log);
    }
    if (m->mask & FAN_DELETE) {
        fputs("delete", log);
        put_name(log, &from);
        put(log, &self);
        fputc('\n', log);
    }
    if (m->mask & FAN_MODIFY) {
        fputs("modify", log);
        put(log, &self);
        fputc('\n', log);
    }
    if (m->mask & FAN_ATTRIB) {
        fputs("attrib", log);
        put(log, &self);
        fputc('\n', log);
    }
    if (m->mask & FAN_Q_OVERFLOW)
        fputs("overflow\n", log);
}

/* Everything that was caused so far is in the queue: it is put there by the call. */
static int drain(int fan, FILE *log, uint32_t mark)
{
    static char buf[1 << 16] __attribute__((aligned(8)));
    struct pollfd p = { .fd = fan, .events = POLLIN };

    while (poll(&p, 1, 0) == 1) {
        ssize_t n = read(fan, buf, sizeof(buf));
        struct fanotify_event_metadata *m = (void *)buf;

        if (n < 0)
            return -1;
        for (; FAN_EVENT_OK(m, n); m = FAN_EVENT_NEXT(m, n))
            put_event(log, m, mark);
    }
    return 0;
}

/* Calls that are not for @each. */
static void leave_out(struct ex_op *op, bool each)
{
    static const char *const never[] = { "mmap", "flags", "journal-data", "immutable" };
    static const char *const several[] = {
        "truncate-twice", "hold", "write-held", "unlink-open", "sync_file_range", "cycle", "tmpfile",
        "save", "freeze", "checkpoint", "trim",
    };

    for (; op->name; op++) {
        for (size_t i = 0; i < sizeof(never) / sizeof(never[0]); i++)
            if (strcmp(op->name, never[i]) == 0)
                op->weight = 0;
        for (size_t i = 0; each && i < sizeof(several) / sizeof(several[0]); i++)
            if (strcmp(op->name, several[i]) == 0)
                op->weight = 0;
    }
}

int main(int argc, char **argv)
{
    bool each = argc == 6 && strcmp(argv[5], "each") == 0;
    unsigned steps, every, step = 1;
    struct timespec ts[2] = { { .tv_nsec = UTIME_OMIT }, { 0 } };
    struct stat st;
    FILE *log;
    int fan, top, mark;

    every = each ? 1 : argc == 6 ? (unsigned)atoi(argv[5]) : 0;
    if (every == 0 || chdir(argv[3]) < 0) {
        fprintf(stderr, "Usage: witness SEED STEPS DIR LOG each|EVERY\n");
        return 2;
    }
    steps = (unsigned)atoi(argv[2]);
    ex_seed(strtoull(argv[1], NULL, 0));
    leave_out(ex_file_ops, each);
    leave_out(ex_name_ops, each);
    leave_out(ex_attr_ops, each);
    log = fopen(argv[4], "we");
    top = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    mark = open(MARK, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
    if (!log || top < 0 || mark < 0 || fstat(mark, &st) < 0 || ex_make_dirs() < 0 ||
        futimens(mark, ts) < 0 || syncfs(top) < 0)
        return fail(argv[3]);
    fan = fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_UNLIMITED_QUEUE |
                            FAN_REPORT_DFID_NAME_TARGET, O_RDONLY);
    if (fan < 0 || fanotify_mark(fan, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, WHAT, top, NULL) < 0)
        return fail("fanotify");
    fprintf(log, "step 0\n");
    for (unsigned i = 1; i <= steps; i++) {
        unsigned r = ex_below(100);
        struct ex_op *op = ex_choose(r < 40 ? ex_file_ops : r < 82 ? ex_name_ops : ex_attr_ops);
        int rc = ex_run(op);

        fprintf(log, "op %s %d\n", op->name, rc);
        if (drain(fan, log, (uint32_t)st.st_ino) < 0)
            return fail("fanotify");
        if (i % every != 0 && i != steps)
            continue;
        ts[1].tv_sec = step;
        /* Data first: its extents may take more than one transaction. */
        if (syncfs(top) < 0 || futimens(mark, ts) < 0 || syncfs(top) < 0 || drain(fan, log, (uint32_t)st.st_ino) < 0)
            return fail("the mark");
        fprintf(log, "step %u\n", step++);
    }
    return fclose(log) == 0 ? 0 : fail(argv[4]);
}
