/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The command line of nearfield-bdi, and its NBD URIs. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bdi/bdi.h"
#include "bdi/daemon/nbd_uri.h"
#include "bdi/daemon/options.h"

/* Split @line at spaces and parse it. What is said goes to @said. */
static enum options_result parse(const char *line, struct options *opt, char *said, size_t room)
{
    static char copy[1000];
    char *argv[40] = {(char[]){"nearfield-bdi"}};
    int argc = 1, saved = dup(STDERR_FILENO), out[2];
    enum options_result r;
    ssize_t n;

    snprintf(copy, sizeof(copy), "%s", line);
    for (char *w = strtok(copy, " "); w; w = strtok(NULL, " "))
        argv[argc++] = w;
    assert_int_equal(pipe2(out, O_NONBLOCK), 0);
    dup2(out[1], STDERR_FILENO);
    r = options_parse(argc, argv, opt);
    dup2(saved, STDERR_FILENO);
    close(saved);
    close(out[1]);
    n = read(out[0], said, room - 1);
    said[n > 0 ? n : 0] = '\0';
    close(out[0]);
    return r;
}

static void defaults_for_a_trace(void **state)
{
    struct options opt;
    char said[600];

    (void)state;
    assert_int_equal(parse("--trace t --image i", &opt, said, sizeof(said)), OPTIONS_RUN);
    assert_string_equal(said, "");
    assert_int_equal(opt.data_mode, BDI_DATA_AUTO);
    assert_string_equal(opt.trace, "t");
    assert_string_equal(opt.image, "i");
    assert_null(opt.tap);
    assert_null(opt.out);
    assert_null(opt.streamer);
    assert_string_equal(opt.vm, "vm");
    assert_string_equal(opt.disk, "disk");
    assert_true(nf_source_name_valid(opt.host));
    assert_true(opt.snapshot);
    assert_false(opt.json);
    assert_int_equal(opt.content_limit, BDI_CONTENT_NONE);
    assert_int_equal(opt.epoch, 0);
}

static void everything_for_a_tap(void **state)
{
    struct options opt;
    char said[600];

    (void)state;
    assert_int_equal(parse("--tap s --image nbd://h/x --host h.1 --vm v_2 --disk d-3 "
                           "--out unix:/run/s --content 64K --snapshot --epoch 77",
                           &opt, said, sizeof(said)),
                     OPTIONS_RUN);
    assert_string_equal(opt.tap, "s");
    assert_string_equal(opt.host, "h.1");
    assert_string_equal(opt.vm, "v_2");
    assert_string_equal(opt.disk, "d-3");
    assert_string_equal(opt.streamer, "/run/s");
    assert_int_equal(opt.content_limit, 65536);
    assert_true(opt.snapshot);
    assert_int_equal(opt.epoch, 77);
    assert_int_equal(parse("--tap s --image i", &opt, said, sizeof(said)), OPTIONS_RUN);
    assert_false(opt.snapshot);
    assert_int_equal(parse("--trace s --image i --no-snapshot --content all --out f --data-mode writeback "
                           "--format json",
                           &opt, said, sizeof(said)),
                     OPTIONS_RUN);
    assert_false(opt.snapshot);
    assert_true(opt.content_limit == BDI_CONTENT_ALL);
    assert_string_equal(opt.out, "f");
    assert_true(opt.json);
}

static void data_modes(void **state)
{
    struct options opt;
    char said[600];

    (void)state;
    assert_int_equal(parse("--trace t --image i --data-mode ordered", &opt, said, sizeof(said)),
                     OPTIONS_RUN);
    assert_int_equal(opt.data_mode, BDI_DATA_ORDERED);
    assert_int_equal(parse("--trace t --image i --data-mode writeback", &opt, said, sizeof(said)),
                     OPTIONS_RUN);
    assert_int_equal(opt.data_mode, BDI_DATA_WRITEBACK);
    assert_int_equal(parse("--trace t --image i --data-mode journal", &opt, said, sizeof(said)),
                     OPTIONS_USAGE);
    assert_non_null(strstr(said, "--data-mode journal: neither auto, ordered nor writeback"));
}

static void wrong_usage_is_one_line(void **state)
{
    static const struct {
        const char *line, *text;
    } cases[] = {
        {"", "--tap or --trace"},
        {"--tap a --trace b --image i", "--tap or --trace"},
        {"--tap a", "--image"},
        {"--tap a --image", "--image needs a value"},
        {"--tap a --image i --wrong", "--wrong"},
        {"--tap a --image i extra", "extra"},
        {"--tap a --image i --host a/b", "a/b"},
        {"--tap a --image i --vm a:b", "a:b"},
        {"--tap a --image i --disk *", "*"},
        {"--tap a --image i --content x", "--content x"},
        {"--tap a --image i --content -1", "--content -1"},
        {"--tap a --image i --content 99999999999G", "99999999999G"},
        {"--tap a --image i --format xml", "xml"},
        {"--tap a --image i --out unix:", "unix:"},
        {"--tap a --image i --out unix:s --format json", "json"},
        {"--tap a --image i --epoch 0", "--epoch 0"},
        {"--tap a --image i --epoch 1x", "1x"},
        {"--trace a --image i --state d", "--state is of use with --tap only"},
        {"--tap a --image i --state d --format json", "--state needs --format proto"},
        {"--tap a --image i --state=", "--state: the directory's name is empty"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct options opt;
        char said[600];

        assert_int_equal(parse(cases[i].line, &opt, said, sizeof(said)), OPTIONS_USAGE);
        if (!strstr(said, cases[i].text))
            fail_msg("'%s' says: %s", cases[i].line, said);
        assert_ptr_equal(strchr(said, '\n'), said + strlen(said) - 1);
    }
}

static void uris(void **state)
{
    struct nbd_uri u;
    struct nf_error err;

    (void)state;
    assert_int_equal(nbd_uri_parse("nbd+unix:///a%20b?socket=/run/x.sock", &u, &err), 0);
    assert_string_equal(u.export_name, "a b");
    assert_string_equal(u.socket, "/run/x.sock");
    assert_int_equal(nbd_uri_parse("nbd+unix://?socket=s", &u, &err), 0);
    assert_string_equal(u.export_name, "");
    assert_int_equal(nbd_uri_parse("nbd://host", &u, &err), 0);
    assert_string_equal(u.host, "host");
    assert_string_equal(u.port, "10809");
    assert_string_equal(u.socket, "");
    assert_int_equal(nbd_uri_parse("nbd://[::1]:99/x/y", &u, &err), 0);
    assert_string_equal(u.host, "::1");
    assert_string_equal(u.port, "99");
    assert_string_equal(u.export_name, "x/y");
    assert_int_equal(nbd_uri_parse("nbd+unix:///%41%e4?socket=%2ftmp/s", &u, &err), 0);
    assert_string_equal(u.export_name, "A\xe4");
    assert_string_equal(u.socket, "/tmp/s");
}

static void broken_uris(void **state)
{
    static const char *const bad[] = {
        "nbd+unix:///x",
        "nbd+unix:///x?socket=",
        "nbd+unix:///x?sock=a",
        "nbd+unix:///x?socket=a&b=c",
        "nbd+unix://host/x?socket=a",
        "nbd+unix:///%0?socket=a",
        "nbd+unix:///%00?socket=a",
        "nbd+unix:///%?socket=a",
        "nbd://",
        "nbd:///x",
        "nbd://:10/x",
        "nbd://[::1/x",
        "nbd://h:port/x",
        "nbd://h:1234567/x",
        "nbd://h/x?socket=a",
    };
    struct nbd_uri u;
    struct nf_error err;
    char big[5000];

    (void)state;
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        if (nbd_uri_parse(bad[i], &u, &err) != NF_EINVAL)
            fail_msg("%s is taken", bad[i]);
    }
    assert_int_equal(nbd_uri_parse("nbds://h/x", &u, &err), NF_EUNSUPPORTED);
    snprintf(big, sizeof(big), "nbd+unix:///x?socket=%0200d", 1);
    assert_int_equal(nbd_uri_parse(big, &u, &err), NF_EINVAL);
    snprintf(big, sizeof(big), "nbd://h/%04097d", 1);
    assert_int_equal(nbd_uri_parse(big, &u, &err), NF_EINVAL);
    assert_true(nbd_uri_is("nbd://x"));
    assert_true(nbd_uri_is("nbds://x"));
    assert_true(nbd_uri_is("https://x"));
    assert_true(nbd_uri_is("nbd:unix:x"));
    assert_false(nbd_uri_is("disk.img"));
    assert_false(nbd_uri_is("/a/nbd://x"));
    assert_false(nbd_uri_is("nbdisk"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_for_a_trace), cmocka_unit_test(everything_for_a_tap),
        cmocka_unit_test(data_modes),
        cmocka_unit_test(wrong_usage_is_one_line), cmocka_unit_test(uris),
        cmocka_unit_test(broken_uris),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
