/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * nearfield mirror as a command, on streams that are written here: where it
 * stops, goes on, and refuses.
 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "common/frame.h"
#include "consumers/commands.h"

/* What consumers/main.c has, here to be read back. */
static char said[2000];

int nf_cmd_error(const char *name, const char *fmt, ...)
{
    va_list ap;

    assert_string_equal(name, "mirror");
    va_start(ap, fmt);
    vsnprintf(said, sizeof(said), fmt, ap);
    va_end(ap);
    return NF_EXIT_FAILURE;
}

int nf_cmd_usage_error(const char *name, const char *fmt, ...)
{
    (void)name;
    (void)fmt;
    return NF_EXIT_USAGE;
}

int nf_cmd_close_stdout(const char *name, int status)
{
    (void)name;
    return status;
}

struct fixture {
    char dir[64], stream[100], to[100];
    int fd;
    struct nf_batch_writer *w;
    uint64_t epoch, seq;
};

static struct nf_error err;

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));

    strcpy(f->dir, "/tmp/nf-test-mirror.XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    snprintf(f->stream, sizeof(f->stream), "%s/stream", f->dir);
    snprintf(f->to, sizeof(f->to), "%s/to", f->dir);
    f->fd = -1;
    said[0] = '\0';
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[100];

    nf_batch_writer_free(f->w);
    if (f->fd >= 0)
        close(f->fd);
    snprintf(command, sizeof(command), "rm -rf %s", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* Begin a stream of @epoch; the next event will have @seq. */
static void begin(struct fixture *f, const char *disk, uint64_t epoch, uint64_t seq, bool append)
{
    struct nf_hello hello = { .version = NF_FRAME_VERSION, .host = "h", .vm = "v",
                              .epoch = epoch, .next_seq = seq };

    strcpy(hello.disk, disk);
    nf_batch_writer_free(f->w);
    if (f->fd >= 0)
        close(f->fd);
    f->fd = open(f->stream, O_CREAT | O_WRONLY | (append ? O_APPEND : O_TRUNC), 0600);
    assert_int_equal(nf_frame_write_hello(f->fd, &hello, &err), 0);
    f->w = nf_batch_writer_new(
        &(struct nf_batch_writer_options){ .fd = f->fd, .epoch = epoch, .next_seq = seq }, &err);
    assert_non_null(f->w);
    f->epoch = epoch;
    f->seq = seq;
}

static void add(struct fixture *f, struct nf_event *ev)
{
    ev->epoch = f->epoch;
    ev->seq = f->seq++;
    assert_int_equal(nf_batch_writer_add(f->w, ev, &err), 0);
}

static void create(struct fixture *f, uint32_t partition, uint32_t inode, const char *path)
{
    struct nf_bytes p = { (const uint8_t *)path, strlen(path) };
    struct nf_event ev = { .source = { .partition = partition }, .txn = 7, .inode = inode,
                           .kind = NF_CREATE, .paths = &p, .npaths = 1,
                           .create = { .attr = { .mode = S_IFREG | 0644 } } };

    add(f, &ev);
}

static void commit(struct fixture *f, uint32_t partition, uint32_t txn)
{
    struct nf_event ev = { .source = { .partition = partition }, .txn = txn, .kind = NF_COMMIT };

    add(f, &ev);
    assert_int_equal(nf_batch_writer_flush(f->w, &err), 0);
}

static int run(struct fixture *f, const char *a, const char *b)
{
    char *argv[9] = { (char *)"mirror", (char *)"--from", f->stream, (char *)"--to", f->to,
                      (char *)a, (char *)b, NULL };

    assert_int_equal(nf_batch_writer_flush(f->w, &err), 0);
    optind = 0;
    said[0] = '\0';
    return nf_cmd_mirror(b ? 7 : a ? 6 : 5, argv);
}

static bool exists(struct fixture *f, const char *name)
{
    char path[200];

    snprintf(path, sizeof(path), "%s/%s", f->dir, name);
    return access(path, F_OK) == 0;
}

static void assert_said(const char *what)
{
    if (!strstr(said, what))
        fail_msg("\"%s\" does not say \"%s\"", said, what);
}

static void test_stop_and_go_on(void **state)
{
    struct fixture *f = *state;

    begin(f, "d", 5, 1, false);
    create(f, 0, 12, "/one");
    commit(f, 0, 7);
    create(f, 0, 13, "/two");
    commit(f, 0, 8);
    create(f, 0, 14, "/three");
    commit(f, 0, 9);
    assert_int_equal(run(f, "--until-commit", "1"), 0);
    assert_true(exists(f, "to/one") && !exists(f, "to/two"));
    assert_int_equal(run(f, "--stop-at-txn", "8"), 0);
    assert_true(exists(f, "to/two") && !exists(f, "to/three"));
    assert_int_equal(run(f, NULL, NULL), 0);
    assert_true(exists(f, "to/three"));
    assert_int_equal(run(f, NULL, NULL), 0); /* nothing new */
    assert_int_equal(run(f, "--stop-at-txn", "10"), 1);
    /* The rest comes in a stream of its own; what is sent twice is skipped. */
    begin(f, "d", 5, 5, false);
    create(f, 0, 14, "/three");
    commit(f, 0, 9);
    create(f, 0, 15, "/four");
    commit(f, 0, 10);
    assert_int_equal(run(f, NULL, NULL), 0);
    assert_true(exists(f, "to/four"));
    /* Too late a part, and another epoch. */
    begin(f, "d", 5, 10, false);
    commit(f, 0, 12);
    assert_int_equal(run(f, NULL, NULL), 1);
    assert_said("events lost between 8");
    begin(f, "d", 6, 1, false);
    commit(f, 0, 1);
    assert_int_equal(run(f, NULL, NULL), 1);
    assert_said("empty directory");
}

static void test_within_a_step(void **state)
{
    struct fixture *f = *state;

    begin(f, "d", 5, 1, false);
    commit(f, 0, 6);
    create(f, 0, 12, "/one");
    assert_int_equal(run(f, NULL, NULL), 1);
    assert_said("within a step");
    assert_int_equal(run(f, NULL, NULL), 1);
    assert_said("not empty");
}

static void test_loss(void **state)
{
    struct fixture *f = *state;
    struct nf_event gap = { .kind = NF_GAP };

    begin(f, "d", 5, 1, false);
    commit(f, 0, 6);
    begin(f, "d", 5, 3, true);
    commit(f, 0, 7);
    assert_int_equal(run(f, NULL, NULL), 1);
    assert_said("events lost between 1 and 3");

    begin(f, "d", 5, 1, false);
    add(f, &gap);
    commit(f, 0, 6);
    strcat(f->to, "2");
    assert_int_equal(run(f, NULL, NULL), 1);
    assert_said("lost events");

    begin(f, "d", 5, 1, false);
    commit(f, 0, 6);
    begin(f, "d", 6, 1, true);
    commit(f, 0, 6);
    strcat(f->to, "3");
    assert_int_equal(run(f, NULL, NULL), 1);
    assert_said("new epoch");
}

static void test_several_sources(void **state)
{
    struct fixture *f = *state;

    begin(f, "a", 5, 1, false);
    create(f, 1, 12, "/a-one");
    commit(f, 1, 7);
    create(f, 2, 12, "/a-two");
    commit(f, 2, 7);
    begin(f, "b", 9, 1, true);
    create(f, 0, 12, "/b");
    commit(f, 0, 7);
    assert_int_equal(run(f, NULL, NULL), 1);
    assert_said("--partition");
    strcat(f->to, "2");
    assert_int_equal(run(f, "--partition", "2"), 1);
    assert_said("--disk");
    strcat(f->to, "3");
    assert_int_equal(run(f, "--disk", "b"), 0);
    assert_true(exists(f, "to23/b"));
    assert_false(exists(f, "to23/a-one"));
    begin(f, "a", 5, 1, false);
    create(f, 1, 12, "/a-one");
    commit(f, 1, 7);
    create(f, 2, 12, "/a-two");
    commit(f, 2, 7);
    strcat(f->to, "4");
    assert_int_equal(run(f, "--partition", "2"), 0);
    assert_true(exists(f, "to234/a-two"));
    assert_false(exists(f, "to234/a-one"));
    strcat(f->to, "5");
    assert_int_equal(run(f, "--disk", "none"), 1);
    assert_said("no events");
    assert_false(exists(f, "to2345"));
    assert_int_equal(run(f, "--partition", "9"), 1);
    assert_said("no events of partition 9");
}

static void test_other_directories(void **state)
{
    struct fixture *f = *state;
    char path[200];

    begin(f, "d", 5, 1, false);
    create(f, 0, 12, "/one");
    commit(f, 0, 7);
    /* Somebody's files are left alone, unless one asks for it. */
    assert_int_equal(mkdir(f->to, 0755), 0);
    snprintf(path, sizeof(path), "%s/mine", f->to);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(run(f, NULL, NULL), 1);
    assert_said("not empty");
    assert_false(exists(f, "to/one"));
    assert_false(exists(f, ".to.nearfield"));
    assert_int_equal(run(f, "--adopt", NULL), 0);
    assert_true(exists(f, "to/one") && exists(f, "to/mine"));
    strcpy(f->to, "/");
    assert_int_equal(run(f, "--adopt", NULL), 1);
}

static void test_content(void **state)
{
    struct fixture *f = *state;
    static uint8_t data[100000];
    struct nf_bytes p = { (const uint8_t *)"/big", 4 };
    struct nf_event ev = { .txn = 7, .inode = 12, .kind = NF_WRITE, .paths = &p, .npaths = 1,
                           .write = { .length = sizeof(data), .data = { data, sizeof(data) },
                                      .plain_length = sizeof(data) } };
    static uint8_t got[sizeof(data) + 1];
    char path[200];
    int fd;

    /* Compressed on its way, for its size. */
    for (size_t i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i / 1000 + 1);
    begin(f, "d", 5, 1, false);
    create(f, 0, 12, "/big");
    add(f, &ev);
    commit(f, 0, 7);
    assert_int_equal(run(f, NULL, NULL), 0);
    snprintf(path, sizeof(path), "%s/big", f->to);
    fd = open(path, O_RDONLY);
    assert_int_equal(read(fd, got, sizeof(got)), sizeof(data));
    assert_memory_equal(got, data, sizeof(data));
    close(fd);
    /* Without its content: said by the exit status. */
    ev.write.data.len = 0;
    ev.write.plain_length = 0;
    ev.flags = NF_EV_TRUNCATED;
    begin(f, "d", 5, 1, false);
    create(f, 0, 12, "/big");
    add(f, &ev);
    commit(f, 0, 7);
    strcat(f->to, "2");
    assert_int_equal(run(f, NULL, NULL), 1);
}

static void test_usage(void **state)
{
    struct fixture *f = *state;

    begin(f, "d", 5, 1, false);
    assert_int_equal(run(f, "--until-commit", "0"), 2);
    assert_int_equal(run(f, "--until-commit", "-1"), 2);
    assert_int_equal(run(f, "--partition", "99999999999"), 2);
    assert_int_equal(run(f, "--max-file-size", "1x"), 2);
    assert_int_equal(run(f, "extra", NULL), 2);
    assert_false(exists(f, "to"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_stop_and_go_on),  TEST(test_within_a_step),     TEST(test_loss),
        TEST(test_several_sources), TEST(test_other_directories), TEST(test_content),
        TEST(test_usage),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
