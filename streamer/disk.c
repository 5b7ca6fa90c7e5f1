/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "streamer/disk.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "streamer/log.h"

/* A batch on its way. */
struct delivery {
    struct nf_request req; /* first: the link hands it back as this */
    struct delivery *next; /* of the same disk */
    struct nf_disk *disk;
    uint64_t epoch;
    struct nf_published what;
    bool duplicate; /* XADD says that the id is not new */
    bool verifying; /* the request now reads the id back */
    bool same;      /* and found the same content */
    bool trimmed;   /* or that the stream does not reach back so far */
    bool done;
};

/* The question what the newest entry of a disk's stream is. */
struct check {
    struct nf_request req;
    struct check *next; /* of all that are in the link's queue */
    struct nf_disk *disk;
    uint64_t epoch;
    uint64_t next_seq;
};

struct nf_disk {
    struct nf_disk *next;
    struct nf_disks *all;
    char name[3][NF_SOURCE_NAME_MAX + 1]; /* host, vm, disk */
    char key[NF_STREAM_KEY_MAX];
    struct nf_disk_sender *sender; /* null: nobody sends for it */
    struct check *check;           /* HELLO of the sender, being looked at */
    uint64_t epoch;                /* of the last accepted HELLO */
    uint64_t spoilt;               /* an epoch that must not go on; 0: none */
    struct delivery *head, *tail;  /* in order of seq */
};

struct nf_disks {
    struct nf_disk *list;
    struct nf_link *link;
    bool streams;
    struct check *checks; /* in the link's queue */
};

static struct nf_bytes text(const char *s)
{
    return (struct nf_bytes){ (const uint8_t *)s, strlen(s) };
}

struct nf_disks *nf_disks_new(struct nf_link *link, bool streams, struct nf_error *err)
{
    struct nf_disks *disks = calloc(1, sizeof(*disks));

    if (!disks) {
        nf_fail(err, NF_ENOMEM, "disks: out of memory");
        return NULL;
    }
    disks->link = link;
    disks->streams = streams;
    return disks;
}

static void free_delivery(struct delivery *d)
{
    nf_buffer_release(&d->req.commands);
    free(d);
}

static void free_check(struct check *c)
{
    nf_buffer_release(&c->req.commands);
    free(c);
}

void nf_disks_free(struct nf_disks *disks)
{
    if (!disks)
        return;
    while (disks->list) {
        struct nf_disk *disk = disks->list;

        disks->list = disk->next;
        while (disk->head) {
            struct delivery *d = disk->head;

            disk->head = d->next;
            free_delivery(d);
        }
        free(disk);
    }
    while (disks->checks) {
        struct check *c = disks->checks;

        disks->checks = c->next;
        free_check(c);
    }
    free(disks);
}

/* "epoch-seq" as Redis writes ids. */
static bool parse_id(const redisReply *r, uint64_t *epoch, uint64_t *seq)
{
    int n = 0;

    return r->type == REDIS_REPLY_STRING &&
           sscanf(r->str, "%" SCNu64 "-%" SCNu64 "%n", epoch, seq, &n) == 2 &&
           (size_t)n == (size_t)r->len;
}

/* The id of entry @i of an XRANGE reply. */
static bool entry_id(const redisReply *r, size_t i, uint64_t *epoch, uint64_t *seq)
{
    return r->type == REDIS_REPLY_ARRAY && i < r->elements &&
           r->element[i]->type == REDIS_REPLY_ARRAY && r->element[i]->elements == 2 &&
           parse_id(r->element[i]->element[0], epoch, seq);
}

/* ---- HELLO ---- */

static enum nf_reply_verdict check_reply(struct nf_request *req, unsigned i, const redisReply *r)
{
    struct check *c = (struct check *)req;
    uint64_t epoch, seq;

    (void)i;
    if (r->type != REDIS_REPLY_ARRAY)
        return NF_REPLY_RETRY;
    if (!entry_id(r, 0, &epoch, &seq))
        return NF_REPLY_FINE; /* an empty stream */
    if (epoch > c->disk->epoch)
        c->disk->epoch = epoch;
    if (epoch == c->epoch && c->next_seq > seq && c->next_seq - seq > 1)
        nf_log("%s: events %" PRIu64 ":%" PRIu64 " to %" PRIu64 " are missing", c->disk->key,
               epoch, seq + 1, c->next_seq - 1);
    return NF_REPLY_FINE;
}

static void check_done(struct nf_request *req)
{
    struct check *c = (struct check *)req;
    struct nf_disk *disk = c->disk;
    char refusal[200];

    if (disk->check == c) { /* else its sender went away meanwhile */
        disk->check = NULL;
        if (c->epoch < disk->epoch) {
            snprintf(refusal, sizeof(refusal),
                     "epoch %" PRIu64 " is older than %" PRIu64 ", which the stream has", c->epoch,
                     disk->epoch);
            disk->sender->checked(disk->sender, refusal);
        } else {
            disk->epoch = c->epoch;
            disk->sender->checked(disk->sender, NULL);
        }
    }
    for (struct check **at = &disk->all->checks; *at; at = &(*at)->next)
        if (*at == c) {
            *at = c->next;
            break;
        }
    free_check(c);
}

static struct nf_disk *find_disk(struct nf_disks *disks, const struct nf_hello *hello)
{
    struct nf_disk *d;

    for (d = disks->list; d; d = d->next)
        if (strcmp(d->name[0], hello->host) == 0 && strcmp(d->name[1], hello->vm) == 0 &&
            strcmp(d->name[2], hello->disk) == 0)
            return d;
    d = calloc(1, sizeof(*d));
    if (!d)
        return NULL;
    strcpy(d->name[0], hello->host);
    strcpy(d->name[1], hello->vm);
    strcpy(d->name[2], hello->disk);
    nf_stream_key(d->key, hello->host, hello->vm, hello->disk);
    d->all = disks;
    d->next = disks->list;
    disks->list = d;
    return d;
}

int nf_disk_open(struct nf_disks *disks, const struct nf_hello *hello,
                 struct nf_disk_sender *sender, struct nf_disk **disk,
                 struct nf_disk_sender **busy, struct nf_error *err)
{
    struct nf_disk *d = find_disk(disks, hello);
    struct check *c;

    if (!d)
        return nf_fail(err, NF_ENOMEM, "disks: out of memory");
    if (d->sender) {
        *busy = d->sender;
        return nf_fail(err, NF_EBUSY, "%s: somebody else sends for this disk", d->key);
    }
    if (hello->epoch < d->epoch || hello->epoch == d->spoilt)
        return nf_fail(err, NF_EINVAL, "%s: epoch %" PRIu64 " cannot go on; begin a new one",
                       d->key, hello->epoch);
    d->sender = sender;
    *disk = d;
    if (!disks->streams) {
        d->epoch = hello->epoch;
        sender->checked(sender, NULL);
        return 0;
    }
    c = calloc(1, sizeof(*c));
    if (!c || nf_request_command(&c->req, 6,
                                 (struct nf_bytes[]){ text("XREVRANGE"), text(d->key), text("+"),
                                                      text("-"), text("COUNT"), text("1") }) < 0) {
        if (c)
            free_check(c);
        d->sender = NULL;
        return nf_fail(err, NF_ENOMEM, "disks: out of memory");
    }
    c->req.reply = check_reply;
    c->req.done = check_done;
    c->disk = d;
    c->epoch = hello->epoch;
    c->next_seq = hello->next_seq;
    c->next = disks->checks;
    disks->checks = c;
    d->check = c;
    nf_link_submit(disks->link, &c->req);
    return 0;
}

void nf_disk_close(struct nf_disk *disk, struct nf_disk_sender *sender)
{
    if (disk->sender != sender)
        return;
    disk->sender = NULL;
    /* The request stays in the link's queue; nobody waits for it any more. */
    disk->check = NULL;
}

/* ---- batches ---- */

/* Tell the sender about what is delivered without a hole before it. */
static void advance(struct nf_disk *disk)
{
    uint64_t epoch = 0, last_seq = 0;

    while (disk->head && disk->head->done) {
        struct delivery *d = disk->head;

        epoch = d->epoch;
        last_seq = d->what.last_seq;
        disk->head = d->next;
        if (!disk->head)
            disk->tail = NULL;
        free_delivery(d);
    }
    if (epoch && disk->sender)
        disk->sender->delivered(disk->sender, epoch, last_seq);
}

static bool is_error(const redisReply *r, const char *part)
{
    return r->type == REDIS_REPLY_ERROR && strstr(r->str, part);
}

static enum nf_reply_verdict delivery_reply(struct nf_request *req, unsigned i,
                                            const redisReply *r)
{
    struct delivery *d = (struct delivery *)req;
    bool is_xadd = d->what.z_len && i == req->ncommands - 1;

    if (is_xadd && is_error(r, "equal or smaller")) {
        d->duplicate = true;
        return NF_REPLY_FINE;
    }
    if (is_xadd)
        d->duplicate = false;
    return r->type == REDIS_REPLY_ERROR ? NF_REPLY_RETRY : NF_REPLY_FINE;
}

/* Replies to: XRANGE key id id; XRANGE key - + COUNT 1. */
static enum nf_reply_verdict verify_reply(struct nf_request *req, unsigned i, const redisReply *r)
{
    struct delivery *d = (struct delivery *)req;
    uint64_t epoch, seq;

    if (r->type != REDIS_REPLY_ARRAY)
        return NF_REPLY_RETRY;
    if (!entry_id(r, 0, &epoch, &seq))
        return NF_REPLY_FINE;
    if (i == 0) {
        const redisReply *fields = r->element[0]->element[1];

        d->same = false;
        for (size_t k = 0; fields->type == REDIS_REPLY_ARRAY && k + 1 < fields->elements; k += 2) {
            const redisReply *f = fields->element[k], *v = fields->element[k + 1];

            if (f->type == REDIS_REPLY_STRING && v->type == REDIS_REPLY_STRING &&
                strcmp(f->str, "z") == 0)
                d->same = nf_publish_same(
                    (struct nf_bytes){ (const uint8_t *)v->str, (size_t)v->len },
                    (struct nf_bytes){ d->req.commands.data + d->what.z_at, d->what.z_len });
        }
    } else {
        d->trimmed = epoch > d->epoch || (epoch == d->epoch && seq > d->what.last_seq);
    }
    return NF_REPLY_FINE;
}

static void delivery_done(struct nf_request *req);

/*
 * Redis answers a batch that it has and an id from the past alike. The
 * delivery's commands stay where they are, since they hold the content to
 * compare with; the reading commands are appended and only they are sent.
 */
static int verify(struct delivery *d)
{
    char id[48];
    struct nf_buffer kept = d->req.commands;
    struct nf_request *req = &d->req;
    int ret;

    snprintf(id, sizeof(id), "%" PRIu64 "-%" PRIu64, d->epoch, d->what.last_seq);
    req->commands = (struct nf_buffer){ 0 };
    req->ncommands = 0;
    ret = nf_request_command(req, 4,
                             (struct nf_bytes[]){ text("XRANGE"), text(d->disk->key), text(id),
                                                  text(id) });
    if (ret == 0)
        ret = nf_request_command(req, 6,
                                 (struct nf_bytes[]){ text("XRANGE"), text(d->disk->key),
                                                      text("-"), text("+"), text("COUNT"),
                                                      text("1") });
    if (ret == 0) {
        /* The content moves behind the commands, out of what is sent. */
        size_t len = req->commands.len;

        ret = nf_buffer_append(&req->commands, kept.data + d->what.z_at, d->what.z_len);
        req->commands.len = len;
        d->what.z_at = len;
    }
    nf_buffer_release(&kept);
    if (ret < 0)
        return ret;
    d->verifying = true;
    req->reply = verify_reply;
    nf_link_submit(d->disk->all->link, req);
    return 0;
}

static void delivery_done(struct nf_request *req)
{
    struct delivery *d = (struct delivery *)req;
    struct nf_disk *disk = d->disk;

    if (d->duplicate && !d->verifying) {
        if (verify(d) == 0)
            return;
        nf_log("%s: out of memory; a duplicate was not checked", disk->key);
        d->same = true;
    }
    if (d->verifying && !d->same && !d->trimmed) {
        char what[200];

        snprintf(what, sizeof(what),
                 "the stream has other content than event %" PRIu64 ":%" PRIu64
                 " or none at its place; a new epoch is needed",
                 d->epoch, d->what.last_seq);
        if (disk->spoilt != d->epoch)
            nf_log("%s: %s", disk->key, what);
        disk->spoilt = d->epoch;
        if (disk->sender)
            disk->sender->conflict(disk->sender, what);
    }
    d->done = true;
    advance(disk);
}

int nf_disk_deliver(struct nf_disk *disk, struct nf_publisher *p, const struct nf_hello *from,
                    uint64_t *next_seq, struct nf_bytes payload, struct nf_error *err)
{
    struct delivery *d = calloc(1, sizeof(*d));
    int ret;

    if (!d)
        return nf_fail(err, NF_ENOMEM, "disks: out of memory");
    ret = nf_publish_batch(p, from, *next_seq, payload, &d->req, &d->what, err);
    if (ret < 0) {
        free_delivery(d);
        return ret;
    }
    d->req.reply = delivery_reply;
    d->req.done = delivery_done;
    d->disk = disk;
    d->epoch = from->epoch;
    if (disk->tail)
        disk->tail->next = d;
    else
        disk->head = d;
    disk->tail = d;
    *next_seq = d->what.last_seq + 1;
    nf_link_submit(disk->all->link, &d->req);
    return 0;
}
