/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The undo log: what is kept goes back, at whatever byte a kill cut the log,
 * and only what is of the save that is asked for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <signal.h>
#include <unistd.h>

#include <cmocka.h>

#include "bdi/bdi.h"
#include "bdi/shadow.h"
#include "bdi/undo.h"

#define SIZE 65536u
#define ENTRY (32u + 512u) /* a header, and so many bytes */

struct test {
    int fd;
    struct undo *undo;
    uint8_t saved[2][SIZE], now[2][SIZE];
};

static int setup(void **state)
{
    struct test *t = calloc(1, sizeof(*t));

    assert_non_null(t);
    t->fd = memfd_create("undo", MFD_CLOEXEC);
    t->undo = undo_new(t->fd, NULL);
    assert_true(t->fd >= 0 && t->undo);
    for (size_t i = 0; i < SIZE; i++) {
        t->now[0][i] = (uint8_t)(i * 7 + i / 256);
        t->now[1][i] = (uint8_t)(i * 5 + i / 256);
    }
    memcpy(t->saved, t->now, sizeof(t->now));
    *state = t;
    return 0;
}

static int teardown(void **state)
{
    struct test *t = *state;

    undo_free(t->undo);
    close(t->fd);
    free(t);
    return 0;
}

static void change(struct test *t, enum undo_area area, uint64_t offset, uint32_t len, int with)
{
    assert_int_equal(undo_keep(t->undo, area, offset, t->now[area] + offset, len, NULL), 0);
    memset(t->now[area] + offset, with, len);
}

static int roll_back(struct test *t, uint64_t generation)
{
    uint8_t *const areas[] = {t->now[0], t->now[1]};

    return undo_roll_back(t->fd, generation, areas, (const uint64_t[]){SIZE, SIZE}, NULL);
}

static off_t size_of(int fd)
{
    struct stat st;

    assert_int_equal(fstat(fd, &st), 0);
    return st.st_size;
}

static void test_all_goes_back(void **state)
{
    struct test *t = *state;

    undo_restart(t->undo, 1);
    for (int round = 0; round < 3; round++) {
        for (uint64_t at = 0; at < SIZE; at += 4096) {
            change(t, UNDO_HOME, at, 4096, round);
            change(t, UNDO_PRESENT, at, 1024, round + 9);
        }
    }
    /* Each was kept once, however often it changed. */
    assert_int_equal(size_of(t->fd), 16 * (32 + 4096 + 32 + 1024));
    assert_int_equal(roll_back(t, 1), 0);
    assert_memory_equal(t->now, t->saved, sizeof(t->now));
    /* Killed while it went back: once more. */
    assert_int_equal(roll_back(t, 1), 0);
    assert_memory_equal(t->now, t->saved, sizeof(t->now));
}

/* A longer range from the same place on: the log has the first part twice. */
static void test_longer_later(void **state)
{
    struct test *t = *state;

    undo_restart(t->undo, 4);
    change(t, UNDO_HOME, 8192, 1024, 1);
    change(t, UNDO_HOME, 8192, 4096, 2);
    change(t, UNDO_HOME, 8192, 1024, 3);
    assert_int_equal(roll_back(t, 4), 0);
    assert_memory_equal(t->now, t->saved, sizeof(t->now));
}

static void test_only_since_the_save(void **state)
{
    struct test *t = *state;
    uint8_t second[2][SIZE];

    change(t, UNDO_HOME, 0, 512, 1); /* before the first save nothing is kept */
    assert_int_equal(size_of(t->fd), 0);
    undo_restart(t->undo, 1);
    for (uint64_t at = 0; at < SIZE; at += 512)
        change(t, UNDO_HOME, at, 512, 2);
    undo_restart(t->undo, 2);
    memcpy(second, t->now, sizeof(second));
    change(t, UNDO_HOME, 1024, 512, 3);
    /* The log still has most of the first save's entries, behind. */
    assert_int_equal(size_of(t->fd), SIZE / 512 * ENTRY);
    assert_int_equal(roll_back(t, 2), 0);
    assert_memory_equal(t->now, second, sizeof(second));
    /* And a save that was not followed by a change leaves nothing to undo. */
    assert_int_equal(roll_back(t, 3), 0);
    assert_memory_equal(t->now, second, sizeof(second));
}

/* The kill comes within the write of the last entry: its range was not changed
 * yet. All bytes of the log's end, and damage at each of them. */
static void test_torn(void **state)
{
    struct test *t = *state;
    uint8_t *log, want[2][SIZE];

    undo_restart(t->undo, 7);
    change(t, UNDO_HOME, 0, 512, 1);
    change(t, UNDO_PRESENT, 512, 512, 2);
    memcpy(want, t->saved, sizeof(want));
    change(t, UNDO_HOME, 4096, 512, 3);
    log = malloc(3 * ENTRY);
    assert_non_null(log);
    assert_int_equal(pread(t->fd, log, 3 * ENTRY, 0), 3 * ENTRY);
    for (uint32_t cut = 2 * ENTRY; cut < 3 * ENTRY; cut++) {
        memcpy(t->now, want, sizeof(want));
        memset(t->now[0], 1, 512);
        memset(t->now[1] + 512, 2, 512);
        assert_int_equal(ftruncate(t->fd, cut), 0);
        assert_int_equal(roll_back(t, 7), 0);
        assert_memory_equal(t->now, want, sizeof(want));
        /* The same, with the byte there but not the right one. */
        memset(t->now[0], 1, 512);
        memset(t->now[1] + 512, 2, 512);
        log[cut] ^= 0x40;
        assert_int_equal(pwrite(t->fd, log, 3 * ENTRY, 0), 3 * ENTRY);
        log[cut] ^= 0x40;
        assert_int_equal(roll_back(t, 7), 0);
        assert_memory_equal(t->now, want, sizeof(want));
    }
    free(log);
}

static void test_outside(void **state)
{
    struct test *t = *state;

    undo_restart(t->undo, 1);
    assert_int_equal(undo_keep(t->undo, UNDO_HOME, SIZE - 511, t->now[0], 512, NULL), 0);
    assert_int_equal(roll_back(t, 1), NF_EFORMAT);
    undo_restart(t->undo, 2);
    assert_int_equal(undo_keep(t->undo, UNDO_HOME, UINT64_MAX >> 1, t->now[0], 512, NULL), 0);
    assert_int_equal(roll_back(t, 2), NF_EFORMAT);
    assert_memory_equal(t->now, t->saved, sizeof(t->now));
}

/* What cannot be kept must not change; a file that cannot grow stands for a
 * full disk. */
static void test_no_room(void **state)
{
    struct test *t = *state;
    struct rlimit old, small;
    struct nf_error err = {0};

    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = ENTRY + 100;
    undo_restart(t->undo, 1);
    change(t, UNDO_HOME, 0, 512, 1);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    assert_int_equal(undo_keep(t->undo, UNDO_HOME, 512, t->now[0] + 512, 512, &err), NF_EIO);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
    assert_non_null(strstr(err.text, "undo log"));
    /* It does not count as kept: with room again it is. */
    change(t, UNDO_HOME, 512, 512, 2);
    assert_int_equal(roll_back(t, 1), 0);
    assert_memory_equal(t->now, t->saved, sizeof(t->now));
}

/* The shadow: bytes and presence, in place, dropped and filled again. */
static void test_shadow(void **state)
{
    struct test *t = *state;
    int home = memfd_create("home", MFD_CLOEXEC), present = memfd_create("present", MFD_CLOEXEC);
    struct bdi_state_fds fds = {present, t->fd};
    struct shadow s;
    uint8_t *was;

    assert_true(home >= 0 && present >= 0);
    assert_int_equal(shadow_init(&s, home, &fds, 1u << 20, NULL), 0);
    was = malloc(1u << 20);
    assert_non_null(was);
    for (uint64_t at = 0; at < 40960; at += 4096) {
        assert_int_equal(shadow_touch(&s, at, 4096, NULL), 0);
        memset(s.map + at, (int)(at / 4096 + 1), 4096);
        assert_int_equal(shadow_set_present(&s, at, NULL), 0);
    }
    memcpy(was, s.map, 1u << 20);
    undo_restart(s.undo, 5);
    assert_int_equal(shadow_touch(&s, 0, 4096, NULL), 0);
    memset(s.map, 0xee, 4096);
    assert_int_equal(shadow_drop(&s, 8192, 4096, NULL), 0);
    assert_false(shadow_present(&s, 8192));
    assert_true(nf_is_zero(s.map + 8192, 4096));
    assert_int_equal(shadow_drop(&s, 12288, 4096, NULL), 0);
    assert_int_equal(shadow_touch(&s, 12288, 4096, NULL), 0);
    memset(s.map + 12288, 0xdd, 4096);
    assert_int_equal(shadow_set_present(&s, 12288, NULL), 0);
    assert_int_equal(shadow_touch(&s, 65536, 4096, NULL), 0);
    memset(s.map + 65536, 0xcc, 4096);
    assert_int_equal(shadow_set_present(&s, 65536, NULL), 0);
    shadow_release(&s);

    assert_int_equal(shadow_check_kept(home, &fds, 1u << 20, NULL), 0);
    assert_int_equal(shadow_check_kept(home, &fds, 1u << 21, NULL), NF_EFORMAT);
    assert_int_equal(shadow_init(&s, home, &fds, 1u << 20, NULL), 0);
    assert_false(shadow_present(&s, 8192));
    assert_int_equal(undo_roll_back(t->fd, 5, (uint8_t *const[]){s.map, s.present},
                                    (const uint64_t[]){s.size, s.present_size}, NULL), 0);
    for (uint64_t at = 0; at < 1u << 20; at += 4096) {
        assert_int_equal(shadow_present(&s, at), at < 40960);
        if (at < 40960)
            assert_memory_equal(s.map + at, was + at, 4096);
    }
    shadow_release(&s);
    /* Somebody cut one of the files. */
    assert_int_equal(ftruncate(present, 10), 0);
    assert_int_equal(shadow_check_kept(home, &fds, 1u << 20, NULL), NF_EFORMAT);
    assert_int_equal(ftruncate(present, (off_t)s.present_size), 0);
    assert_int_equal(shadow_check_kept(home, &fds, 1u << 20, NULL), 0);
    assert_int_equal(ftruncate(home, 0), 0);
    assert_int_equal(shadow_check_kept(home, &fds, 1u << 20, NULL), NF_EFORMAT);
    free(was);
    close(home);
    close(present);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_all_goes_back, setup, teardown),
        cmocka_unit_test_setup_teardown(test_longer_later, setup, teardown),
        cmocka_unit_test_setup_teardown(test_only_since_the_save, setup, teardown),
        cmocka_unit_test_setup_teardown(test_torn, setup, teardown),
        cmocka_unit_test_setup_teardown(test_outside, setup, teardown),
        cmocka_unit_test_setup_teardown(test_no_room, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shadow, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
