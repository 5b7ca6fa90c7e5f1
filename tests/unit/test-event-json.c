/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <cmocka.h>

#include "common/event_json.h"
#include "tests/unit/event-samples.h"

static struct nf_buffer out;
static struct nf_error err;

static const char *json(const struct nf_event *ev, bool content)
{
    nf_buffer_clear(&out);
    assert_int_equal(nf_event_json(ev, content, &out, &err), 0);
    assert_int_equal(nf_buffer_append(&out, "", 1), 0);
    return (const char *)out.data;
}

static struct nf_bytes lit(const char *s)
{
    return (struct nf_bytes){ (const uint8_t *)s, strlen(s) };
}

#define HEAD(flags, kind)                                                                          \
    "{\"source\":{\"host\":\"h\",\"vm\":\"v\",\"disk\":\"d\",\"partition\":1,"                      \
    "\"fs_uuid\":\"30313233-3435-3637-3839-616263646566\"},\"epoch\":7,\"seq\":9,\"txn\":3,"        \
    "\"index\":2,\"time\":\"2023-11-14T22:13:20.000000123Z\",\"inode\":12,\"generation\":4,"        \
    "\"flags\":[" flags "],\"kind\":\"" kind "\""

static struct nf_event base(enum nf_kind kind)
{
    struct nf_event ev = { .source = { "h", "v", "d", 1, "" },
                           .epoch = 7,
                           .seq = 9,
                           .txn = 3,
                           .index = 2,
                           .time_ns = 1700000000000000123,
                           .inode = 12,
                           .generation = 4,
                           .kind = kind };

    memcpy(ev.source.fs_uuid, "0123456789abcdef", 16);
    return ev;
}

static void test_write(void **state)
{
    struct nf_event ev = base(NF_WRITE);
    struct nf_bytes paths[2] = { lit("/a b"), lit("/c\"\\\n\x01") };

    (void)state;
    ev.paths = paths;
    ev.npaths = 2;
    ev.flags = NF_EV_READBACK | NF_EV_TRUNCATED;
    ev.write.offset = 4096;
    ev.write.length = 10;
    ev.write.data = lit("hell");
    assert_string_equal(json(&ev, true),
                        HEAD("\"readback\",\"truncated\"", "write")
                        ",\"path\":\"/a b\",\"links\":[{\"path\":\"/c\\\"\\\\\\n\\u0001\"}],"
                        "\"offset\":4096,\"length\":10,\"data_length\":4,\"data\":\"aGVsbA==\"}\n");
    assert_null(strstr(json(&ev, false), "\"data\""));
    ev.flags = NF_EV_ENCRYPTED;
    assert_non_null(strstr(json(&ev, false), "\"flags\":[\"encrypted\"]"));
    ev.write.data = lit("hello");
    assert_non_null(strstr(json(&ev, true), "\"data\":\"aGVsbG8=\""));
    ev.write.data = lit("hellos");
    assert_non_null(strstr(json(&ev, true), "\"data\":\"aGVsbG9z\""));
}

static void path_gives(const char *path, const char *want)
{
    struct nf_event ev = base(NF_LINK);
    struct nf_bytes b = lit(path);
    char line[1000];

    ev.paths = &b;
    ev.npaths = 1;
    strcpy(line, HEAD("", "link") ",");
    strcat(line, want);
    strcat(line, "}\n");
    assert_string_equal(json(&ev, true), line);
}

static void test_paths(void **state)
{
    (void)state;
    path_gives("/gr\xc3\xbc\xc3\x9f/\xf0\x9f\x90\x9f",
               "\"path\":\"/gr\xc3\xbc\xc3\x9f/\xf0\x9f\x90\x9f\"");
    path_gives("/\xff", "\"path\":\"/\xef\xbf\xbd\",\"path_hex\":\"2fff\"");
    path_gives("/\xc3", "\"path\":\"/\xef\xbf\xbd\",\"path_hex\":\"2fc3\"");
    path_gives("/\xc0\xaf", "\"path\":\"/\xef\xbf\xbd\xef\xbf\xbd\",\"path_hex\":\"2fc0af\"");
    path_gives("/\xed\xa0\x80", "\"path\":\"/\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\","
                                "\"path_hex\":\"2feda080\"");
    path_gives("/\xf4\x90\x80\x80", "\"path\":\"/\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\","
                                    "\"path_hex\":\"2ff4908080\"");
    /* Control characters never reach a terminal as they are. */
    path_gives("/\x1b[2J\x7f\xc2\x9b", "\"path\":\"/\\u001b[2J\\u007f\\u009b\"");
}

static void test_times(void **state)
{
    static const struct {
        int64_t sec;
        const char *text;
    } cases[] = {
        { 0, "1970-01-01T00:00:00.000000000Z" },
        { -1, "1969-12-31T23:59:59.000000000Z" },
        { 951782400, "2000-02-29T00:00:00.000000000Z" },
        { 4107542400, "2100-03-01T00:00:00.000000000Z" },
        { -62135596800, "0001-01-01T00:00:00.000000000Z" },
        { 15032385535, "2446-05-10T22:38:55.000000000Z" },
    };
    struct nf_event ev = base(NF_CREATE);

    (void)state;
    for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char want[80] = "\"mtime\":\"";

        ev.create.attr.mtime.sec = cases[i].sec;
        strcat(want, cases[i].text);
        assert_non_null(strstr(json(&ev, true), want));
    }
    /* A guest may choose any second there is. */
    ev.create.attr.mtime.sec = INT64_MIN;
    json(&ev, true);
    ev.create.attr.mtime.sec = INT64_MAX;
    json(&ev, true);
}

static void test_kinds(void **state)
{
    struct nf_event ev = base(NF_CREATE);
    struct nf_bytes path = lit("/l");

    (void)state;
    ev.paths = &path;
    ev.npaths = 1;
    ev.create.attr.mode = 0120777;
    ev.create.target = lit("/t");
    assert_non_null(strstr(json(&ev, true), "\"kind\":\"create\",\"path\":\"/l\",\"attr\":{"
                                            "\"type\":\"symlink\",\"mode\":\"0777\",\"uid\":0,"));
    assert_non_null(strstr((char *)out.data, "\"target\":\"/t\"}\n"));

    ev = base(NF_RENAME);
    ev.paths = &path;
    ev.npaths = 1;
    ev.rename.new_path = lit("/n");
    assert_string_equal(json(&ev, true),
                        HEAD("", "rename") ",\"path\":\"/l\",\"new_path\":\"/n\"}\n");

    ev = base(NF_ATTR);
    ev.attr.mask = NF_ATTR_MODE | NF_ATTR_CTIME | 1u << 20;
    ev.attr.before.mode = 0100755;
    ev.attr.after.mode = 0100644;
    assert_non_null(strstr(json(&ev, true), "\"changed\":[\"mode\",\"ctime\",\"bit_20\"],"
                                            "\"before\":{\"type\":\"file\",\"mode\":\"0755\","));
    assert_non_null(strstr((char *)out.data, "\"after\":{\"type\":\"file\",\"mode\":\"0644\","));

    ev = base((enum nf_kind)99);
    assert_string_equal(json(&ev, true), HEAD("", "kind_99") "}\n");
}

/* Whatever the event: one line, and the braces close. */
static void test_shape(void **state)
{
    static struct samples samples = { .state = 5 };

    (void)state;
    for (unsigned round = 0; round < 50; round++) {
        for (int kind = 1; kind <= NF_KIND_MAX; kind++) {
            struct nf_event ev;
            const char *s;
            int depth = 0;
            bool quoted = false;

            samples_event(&samples, (enum nf_kind)kind, &ev);
            s = json(&ev, true);
            for (; *s && *s != '\n'; s++) {
                assert_true((unsigned char)*s >= 0x20);
                if (quoted && *s == '\\')
                    s++;
                else if (*s == '"')
                    quoted = !quoted;
                else if (!quoted)
                    depth += (*s == '{' || *s == '[') - (*s == '}' || *s == ']');
            }
            assert_false(quoted);
            assert_int_equal(depth, 0);
            assert_string_equal(s, "\n");
        }
    }
}

static int release(void **state)
{
    (void)state;
    nf_buffer_release(&out);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write), cmocka_unit_test(test_paths), cmocka_unit_test(test_times),
        cmocka_unit_test(test_kinds), cmocka_unit_test(test_shape),
    };

    return cmocka_run_group_tests(tests, NULL, release);
}
