/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/redis_uri.h"

static struct nf_error err;

static void accepts(const char *text, const char *path, const char *host, int port,
                    const char *user, const char *pass, int db, const char *shown)
{
    const char *want[5] = { path, host, user, pass, shown };
    struct nf_redis_uri uri;
    const char *got[5];

    assert_int_equal(nf_redis_uri_parse(&uri, text, &err), 0);
    memcpy(got, (const char *[5]){ uri.path, uri.host, uri.user, uri.pass, uri.shown },
           sizeof(got));
    for (int i = 0; i < 5; i++) {
        assert_int_equal(got[i] != NULL, want[i] != NULL);
        if (got[i])
            assert_string_equal(got[i], want[i]);
    }
    assert_int_equal(uri.db, db);
    if (host)
        assert_int_equal(uri.port, port);
    nf_redis_uri_release(&uri);
}

static void test_good(void **state)
{
    (void)state;
    accepts("unix:/run/r.sock", "/run/r.sock", NULL, 0, NULL, NULL, 0, "unix:/run/r.sock");
    accepts("redis://h:1", NULL, "h", 1, NULL, NULL, 0, "redis://h:1/0");
    accepts("redis://h:6379/", NULL, "h", 6379, NULL, NULL, 0, "redis://h:6379/0");
    accepts("redis://h:6379/12", NULL, "h", 6379, NULL, NULL, 12, "redis://h:6379/12");
    accepts("redis://u:p%40%3a@h:65535", NULL, "h", 65535, "u", "p@:", 0, "redis://h:65535/0");
    accepts("redis://:p@h:1", NULL, "h", 1, NULL, "p", 0, "redis://h:1/0");
    accepts("redis://[::1]:6379/1", NULL, "::1", 6379, NULL, NULL, 1, "redis://[::1]:6379/1");
}

static void test_bad(void **state)
{
    static const char *const bad[] = {
        "",
        "unix:",
        "h:1",
        "http://h:1",
        "redis://",
        "redis://h",
        "redis://:1",
        "redis://h:",
        "redis://h:0",
        "redis://h:65536",
        "redis://h:1x",
        "redis://h:-1",
        "redis://h:1/x",
        "redis://h:1/99999999999",
        "redis://[::1:1",
        "redis://h/a:1",
        "redis://secret@h:1",
        "redis://u:secret%zz@h:1",
        "redis://u:secret%00@h:1",
        "redis://u:secret@h",
    };
    char longest[300] = "unix:/";
    struct nf_redis_uri uri;

    (void)state;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        assert_int_equal(nf_redis_uri_parse(&uri, bad[i], &err), NF_EINVAL);
        assert_null(strstr(err.text, "secret"));
        assert_null(uri.host);
    }
    memset(longest + 6, 'x', sizeof(longest) - 7);
    assert_int_equal(nf_redis_uri_parse(&uri, longest, &err), NF_EINVAL);
}

static void test_handshake(void **state)
{
    struct nf_redis_command cmd[3];
    struct nf_redis_uri uri;
    char db[16];

    (void)state;
    assert_int_equal(nf_redis_uri_parse(&uri, "redis://u:p@h:1/3", &err), 0);
    assert_int_equal(nf_redis_uri_handshake(&uri, cmd, db), 3);
    assert_int_equal(cmd[0].argc, 3);
    assert_string_equal(cmd[0].argv[1], "u");
    assert_string_equal(cmd[0].argv[2], "p");
    assert_string_equal(cmd[1].argv[0], "SELECT");
    assert_string_equal(cmd[1].argv[1], "3");
    assert_string_equal(cmd[2].argv[0], "PING");
    nf_redis_uri_release(&uri);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_handshake),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
