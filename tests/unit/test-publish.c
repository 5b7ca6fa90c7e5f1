/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>
#include <cmocka.h>

#include "streamer/publish.h"

static struct nf_error err;
static const struct nf_hello from = { 1, "h", "v", "d", 5, 1 };

struct published {
    struct nf_request req;
    struct nf_published out;
    const redisReply *cmd[64]; /* the commands, as Redis would read them */
    unsigned ncmd;
};

/* A BATCH frame's payload of @n events with seqs from @first. */
static struct nf_bytes make_batch(struct nf_event *evs, size_t n, uint64_t first,
                                  struct nf_buffer *raw)
{
    int fd = memfd_create("batch", 0);
    struct nf_batch_writer *w = nf_batch_writer_new(
        &(struct nf_batch_writer_options){ .fd = fd, .epoch = 5, .next_seq = first }, &err);
    off_t size;

    for (size_t i = 0; i < n; i++) {
        evs[i].epoch = 5;
        evs[i].seq = first + i;
        assert_int_equal(nf_batch_writer_add(w, &evs[i], &err), 0);
    }
    assert_int_equal(nf_batch_writer_flush(w, &err), 0);
    nf_batch_writer_free(w);
    size = lseek(fd, 0, SEEK_CUR);
    nf_buffer_clear(raw);
    assert_non_null(nf_buffer_reserve(raw, (size_t)size));
    assert_int_equal(pread(fd, raw->data, (size_t)size, 0), size);
    raw->len = (size_t)size;
    close(fd);
    return (struct nf_bytes){ raw->data + 4, (size_t)size - 4 };
}

static void publish(struct nf_event *evs, size_t n, struct nf_publish_options opt,
                    struct published *p)
{
    struct nf_publisher *pub = nf_publisher_new(&opt, &err);
    redisReader *r = redisReaderCreate();
    struct nf_buffer raw = { 0 };
    void *reply;

    memset(p, 0, sizeof(*p));
    assert_int_equal(nf_publish_batch(pub, &from, 1, make_batch(evs, n, 1, &raw), &p->req, &p->out,
                                      &err), 0);
    redisReaderFeed(r, (const char *)p->req.commands.data, p->req.commands.len);
    while (redisReaderGetReply(r, &reply) == REDIS_OK && reply)
        p->cmd[p->ncmd++] = reply;
    assert_int_equal(p->ncmd, p->req.ncommands);
    redisReaderFree(r);
    nf_buffer_release(&raw);
    nf_publisher_free(pub);
}

static void release(struct published *p)
{
    for (unsigned i = 0; i < p->ncmd; i++)
        freeReplyObject((void *)p->cmd[i]);
    nf_buffer_release(&p->req.commands);
}

static const struct nf_publish_options both = { true, true, 10 };

static void channel_is(const redisReply *cmd, const char *name, size_t len)
{
    assert_string_equal(cmd->element[0]->str, "PUBLISH");
    assert_int_equal(cmd->element[1]->len, len);
    assert_memory_equal(cmd->element[1]->str, name, len);
}

static struct nf_bytes lit(const char *s)
{
    return (struct nf_bytes){ (const uint8_t *)s, strlen(s) };
}

static void test_commands(void **state)
{
    struct nf_bytes a[2] = { lit("/a:\n*"), lit("/b") };
    struct nf_event evs[3] = { { .kind = NF_RENAME }, { .kind = NF_LINK }, { .kind = NF_COMMIT } };
    struct published p;
    struct nf_event ev;
    struct nf_arena arena;

    (void)state;
    /* An engine may say anything about where it is; its opener's word counts. */
    evs[0].source = (struct nf_source){ .host = "evil", .vm = "evil", .disk = "evil" };
    evs[0].paths = a;
    evs[0].npaths = 1;
    evs[0].rename.new_path = lit("/new");
    evs[1].paths = a;
    evs[1].npaths = 2;
    evs[1].source.partition = 3;
    publish(evs, 3, both, &p);
    assert_int_equal(p.ncmd, 6);
    channel_is(p.cmd[0], "nearfield:h:v:d:/a:\n*", 21);
    channel_is(p.cmd[1], "nearfield:h:v:d:/new", 20);
    channel_is(p.cmd[2], "nearfield:h:v:d.p3:/a:\n*", 24);
    channel_is(p.cmd[3], "nearfield:h:v:d.p3:/b", 21);
    channel_is(p.cmd[4], "nearfield:h:v:d:", 16);
    assert_string_equal(p.cmd[5]->element[0]->str, "XADD");
    assert_string_equal(p.cmd[5]->element[1]->str, "nearfield:{h/v/d}");
    assert_string_equal(p.cmd[5]->element[5]->str, "5-3");
    assert_int_equal(p.cmd[5]->element[9]->len, p.out.z_len);
    assert_memory_equal(p.cmd[5]->element[9]->str, p.req.commands.data + p.out.z_at, p.out.z_len);
    assert_int_equal(p.out.last_seq, 3);

    nf_arena_init(&arena, 1 << 20);
    assert_int_equal(nf_event_decode(&arena, p.cmd[0]->element[2]->str,
                                     (size_t)p.cmd[0]->element[2]->len, &ev, &err), 0);
    assert_string_equal(ev.source.host, "h");
    assert_string_equal(ev.source.vm, "v");
    assert_string_equal(ev.source.disk, "d");
    nf_arena_release(&arena);
    release(&p);

    publish(evs, 3, (struct nf_publish_options){ true, false, 10 }, &p);
    assert_int_equal(p.ncmd, 5);
    assert_int_equal(p.out.z_len, 0);
    release(&p);
    publish(evs, 3, (struct nf_publish_options){ false, true, 10 }, &p);
    assert_int_equal(p.ncmd, 1);
    release(&p);
}

static void test_content(void **state)
{
    static const size_t sizes[] = { 0, 100, 4096, 4097, 100000 };
    uint8_t *text = malloc(100000);
    struct nf_bytes path = lit("/f");

    (void)state;
    memset(text, 'x', 100000);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        size_t want = sizes[i] < NF_CHANNEL_CONTENT_MAX ? sizes[i] : NF_CHANNEL_CONTENT_MAX;
        struct nf_event in = { .kind = NF_WRITE, .paths = &path, .npaths = 1 }, ev;
        struct published p;
        struct nf_arena arena;

        in.write.length = sizes[i];
        in.write.data = (struct nf_bytes){ text, sizes[i] };
        publish(&in, 1, both, &p);
        nf_arena_init(&arena, 1 << 20);
        assert_int_equal(nf_event_decode(&arena, p.cmd[0]->element[2]->str,
                                         (size_t)p.cmd[0]->element[2]->len, &ev, &err), 0);
        assert_int_equal(ev.write.codec, NF_CODEC_NONE);
        assert_int_equal(ev.write.length, sizes[i]);
        assert_int_equal(ev.write.data.len, want);
        assert_true(want == 0 || memcmp(ev.write.data.data, text, want) == 0);
        assert_int_equal(ev.flags, want < sizes[i] ? NF_EV_TRUNCATED : 0);
        nf_arena_release(&arena);
        release(&p);
    }
    free(text);
}

/* Many long names do not multiply a message without bound. */
static void test_many_names(void **state)
{
    static char names[NF_EVENT_PATHS_MAX][4000];
    struct nf_bytes paths[NF_EVENT_PATHS_MAX];
    struct nf_event ev = { .kind = NF_LINK, .paths = paths, .npaths = NF_EVENT_PATHS_MAX };
    struct published p;

    (void)state;
    for (size_t i = 0; i < NF_EVENT_PATHS_MAX; i++) {
        memset(names[i], 'a' + (int)i % 26, sizeof(names[i]));
        names[i][0] = '/';
        paths[i] = (struct nf_bytes){ (uint8_t *)names[i], sizeof(names[i]) };
    }
    publish(&ev, 1, both, &p);
    assert_in_range(p.req.commands.len, NF_CHANNEL_EVENT_MAX / 2, 2 * NF_CHANNEL_EVENT_MAX);
    release(&p);
}

static void test_refused(void **state)
{
    struct nf_publisher *pub = nf_publisher_new(&both, &err);
    struct nf_event ev = { .kind = NF_COMMIT };
    struct nf_hello other = from;
    struct nf_buffer raw = { 0 }, hello = { 0 };
    struct nf_request req = { 0 };
    struct nf_published out;
    struct nf_bytes batch = make_batch(&ev, 1, 7, &raw);

    (void)state;
    assert_int_equal(nf_publish_batch(pub, &from, 6, batch, &req, &out, &err), NF_EFORMAT);
    assert_int_equal(nf_publish_batch(pub, &from, 8, batch, &req, &out, &err), NF_EFORMAT);
    other.epoch = 4;
    assert_int_equal(nf_publish_batch(pub, &other, 7, batch, &req, &out, &err), NF_EFORMAT);
    assert_int_equal(nf_frame_put_hello(&hello, &from, &err), 0);
    assert_int_equal(nf_publish_batch(pub, &from, 7,
                                      (struct nf_bytes){ hello.data + 4, hello.len - 4 }, &req,
                                      &out, &err), NF_EFORMAT);
    assert_int_equal(nf_publish_batch(pub, &from, 7, batch, &req, &out, &err), 0);
    nf_buffer_release(&req.commands);
    nf_buffer_release(&raw);
    nf_buffer_release(&hello);
    nf_publisher_free(pub);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_commands),
        cmocka_unit_test(test_content),
        cmocka_unit_test(test_many_names),
        cmocka_unit_test(test_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
