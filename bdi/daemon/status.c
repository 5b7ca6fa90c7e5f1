/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the daemon says of itself when asked (SIGUSR1). The keys are described
 * in nearfield-bdi(8).
 */
#include "bdi/daemon/engine_private.h"

#include <malloc.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/json.h"

static int64_t now_ns(void)
{
    struct timespec ts;

    clock_gettime(CLOCK_REALTIME, &ts);
    return (int64_t)ts.tv_sec * 1000000000 + ts.tv_nsec;
}

static void put_lag(struct nf_json *j, struct engine *e)
{
    struct nf_tap_status st;
    uint64_t head = nf_tap_head(e->tap);
    struct nf_record next;
    int64_t ns = 0;

    nf_tap_status(e->tap, &st);
    /* Behind since the oldest record that waits was completed. */
    if (head > e->position && nf_tap_peek(e->tap, e->position, &next, NULL) == 1)
        ns = now_ns() - next.time_ns;
    nf_json_key(j, "lag");
    nf_json_open(j, "{");
    nf_json_u64(j, "records", head > e->position ? head - e->position : 0);
    nf_json_u64(j, "ms", ns > 0 ? (uint64_t)ns / 1000000 : 0);
    nf_json_u64(j, "ring_permille", st.fill_permille);
    if (e->setup->output == OUTPUT_STREAMER && output_epoch(e->out)) {
        nf_json_u64(j, "unacknowledged", e->next_seq - 1 - output_acked(e->out));
        nf_json_bool(j, "streamer_lost", output_lost(e->out));
    }
    nf_json_close(j, "}");
    nf_json_key(j, "tap");
    nf_json_open(j, "{");
    nf_json_bool(j, "connected", st.connected);
    nf_json_u64(j, "records", st.records);
    nf_json_u64(j, "gaps", st.gaps);
    nf_json_u64(j, "lost_requests", st.lost_requests);
    nf_json_u64(j, "lost_bytes", st.lost_bytes);
    nf_json_close(j, "}");
}

static void put_memory(struct nf_json *j, const struct engine *e)
{
    struct mallinfo2 m = mallinfo2();
    struct stat st;

    nf_json_key(j, "memory");
    nf_json_open(j, "{");
    nf_json_u64(j, "allocated", m.uordblks + m.hblkhd);
    nf_json_u64(j, "heap", m.arena + m.hblkhd);
    nf_json_u64(j, "shadow",
                fstat(e->setup->shadow_fd, &st) == 0 ? (uint64_t)st.st_blocks * 512 : 0);
    nf_json_close(j, "}");
}

static void put_places(struct nf_json *j, struct engine *e)
{
    const struct bdi_place *p;

    nf_json_key(j, "places");
    nf_json_open(j, "[");
    for (size_t i = 0; e->bdi && (p = bdi_get_place(e->bdi, i)); i++) {
        nf_json_open(j, "{");
        nf_json_u64(j, "partition", p->partition);
        nf_json_u64(j, "offset", p->offset);
        nf_json_u64(j, "size", p->size);
        nf_json_string(j, "type", p->type);
        nf_json_bytes(j, "label",
                      (struct nf_bytes){(const uint8_t *)p->label, strlen(p->label)});
        nf_json_uuid(j, "uuid", p->uuid);
        nf_json_bool(j, "followed", !p->reason);
        if (p->reason)
            nf_json_string(j, "reason", p->reason);
        if (p->features)
            nf_json_string(j, "features", p->features);
        if (!p->reason) {
            nf_json_u64(j, "memory", p->memory);
            nf_json_u64(j, "overlay_blocks", p->overlay);
            nf_json_u64(j, "staged_blocks", p->staged);
        }
        nf_json_close(j, "}");
    }
    nf_json_close(j, "]");
}

static void put_counters(struct nf_json *j, struct engine *e)
{
    static const struct bdi_status none;
    const struct bdi_status *st = e->bdi ? bdi_get_status(e->bdi) : &none;

    nf_json_u64(j, "filesystems", st->filesystems);
    nf_json_u64(j, "records", st->records);
    nf_json_u64(j, "steps", st->steps);
    nf_json_u64(j, "events", st->events);
    nf_json_u64(j, "held_bytes", st->held_bytes);
    nf_json_u64(j, "unmapped_writes", st->unmapped_writes);
    nf_json_u64(j, "readbacks", st->readbacks);
    nf_json_u64(j, "fetched", st->fetched);
    nf_json_u64(j, "unsettled", st->unsettled);
    nf_json_u64(j, "oddities", st->oddities);
    nf_json_u64(j, "waiting", st->waiting);
    nf_json_u64(j, "waiting_content", st->waiting_content);
    nf_json_u64(j, "fast_commits", st->fast_commits);
}

void engine_say_status(struct engine *e)
{
    const struct options *opt = e->setup->opt;
    struct nf_buffer out = {0};
    struct nf_json j = {.out = &out};
    size_t done = 0;

    nf_json_open(&j, "{");
    nf_json_string(&j, "host", opt->host);
    nf_json_string(&j, "vm", opt->vm);
    nf_json_string(&j, "disk", opt->disk);
    nf_json_string(&j, "source", opt->tap ? opt->tap : opt->trace);
    nf_json_string(&j, "image", opt->image);
    nf_json_u64(&j, "disk_size", e->img ? e->img->size : 0);
    nf_json_u64(&j, "epoch", e->epoch);
    nf_json_u64(&j, "next_seq", e->next_seq);
    if (e->tap)
        put_lag(&j, e);
    put_memory(&j, e);
    put_counters(&j, e);
    put_places(&j, e);
    nf_json_close(&j, "}");
    /* Without memory for a line there is none. */
    if (nf_buffer_puts(&out, "\n") == 0 && !j.bad) {
        ssize_t n;

        while (done < out.len && (n = write(STDERR_FILENO, out.data + done, out.len - done)) > 0)
            done += (size_t)n;
    }
    nf_buffer_release(&out);
}
