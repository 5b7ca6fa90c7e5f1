/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "bdi/ext4/shown.h"
#include "bdi/sha256.h"

static struct nf_bytes lit(const char *s)
{
    return (struct nf_bytes){(const uint8_t *)s, strlen(s)};
}

static void digest_is(struct nf_bytes in, const char *want)
{
    uint8_t out[32];
    char hex[65];

    sha256(in, out);
    for (int i = 0; i < 32; i++)
        sprintf(hex + 2 * i, "%02x", out[i]);
    assert_string_equal(hex, want);
}

/* As sha256sum has them; lengths around the padding's edges. */
static void digests(void **state)
{
    static const uint8_t zeros[130];

    (void)state;
    digest_is(lit(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest_is(lit("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_is((struct nf_bytes){zeros, 55},
              "02779466cdec163811d078815c633f21901413081449002f24aa3e80f0b88ef7");
    digest_is((struct nf_bytes){zeros, 56},
              "d4817aa5497628e7c77e6b606107042bbba3130888c5f47a375e6179be789fbb");
    digest_is((struct nf_bytes){zeros, 63},
              "c7723fa1e0127975e49e62e753db53924c1bd84b8ac1ac08df78d09270f3d971");
    digest_is((struct nf_bytes){zeros, 64},
              "f5a5fd42d16a20302798ef6ed309979b43003d2320d9f0e8ea9831a92759fb4b");
    digest_is((struct nf_bytes){zeros, 119},
              "f616b0d54e78571a9611f343c9f8e022e859e920381ab0e4d3da01e193a7bd7e");
    digest_is((struct nf_bytes){zeros, 120},
              "6edd9f6f9cc92cded36e6c4a580933f9c9f1b90562b46903b806f21902a1a54f");
    digest_is((struct nf_bytes){zeros, 130},
              "e55a5c27736a8761c8e96acec072102325e08cb2d0dbb4d4702cfe38f8ab0709");
}

/* Ciphertext as it was on a disk, and what the kernel showed without the key. */
static const char short_cipher[] = "\xf2\x4a\xde\x2a\x58\xbf\xa6\xa9\x06\xd9\x8b\xe0\x0d\x6b\xa4\x06";
static const char short_shown[] = "BFCQeDyUBCPySt4qWL-mqQbZi-ANa6QG";
static const char long_cipher[] =
    "\x43\xe8\x88\x98\x19\x2d\xa6\x17\xe8\xf7\x54\x72\x72\x93\x46"
    "\xc6\x7f\xc6\x6b\x8c\xd3\x78\x0f\x2e\x65\x2b\xc0\x32\x05\xd4"
    "\xae\xf3\x23\x47\x13\x32\x9a\x29\x02\x25\x83\xba\xe6\x99\x62"
    "\x14\x82\xa2\xaa\x42\xca\x2f\xdd\x63\xa6\x10\x36\xb2\x13\xda"
    "\x99\x95\x87\x0e\xfa\xd8\xeb\xbd\xb2\x63\x0d\x5f\xa0\xea\x9d"
    "\x74\xca\xf6\x34\x07\x9a\xcd\xf7\x3e\x12\xa7\xef\xf2\x04\x66"
    "\x9e\x5f\xec\xd4\xa5\x1e\xb4\x78\x84\x43\x6b\xe8\x78\x8c\xff"
    "\xbc\xb3\x37\xfd\xaf\x63\xba\xca\x07\x76\xbc\x0e\x09\x35\x96"
    "\x5f\x19\xc4\x40\xbe\xd8\xfe\xe0\x87\xaa\x07\x5a\x71\x9d\x64"
    "\xe2\xb2\x14\xe5\x2d\x2b\xb0\xc5\xee\xf3\xc6\xd5\x2f\xd5\x82"
    "\x5b\x21";
static const char long_shown[] =
    "kCu8m7y-zEJD6IiYGS2mF-j3VHJyk0bGf8ZrjNN4Dy5lK8AyBdSu8yNHEzKaKQIlg7rmmWIUgqKqQsov3WOm"
    "EDayE9qZlYcO-tjrvbJjDV-g6p10yvY0B5rN9z4Sp-_yBGaeX-zUpR60eIRDa-h4jP-8szf9r2O6ygd2vA4J"
    "NZZfGcRAvtj-4IeqB1pxnWTishTlLSuwxe7zxtUv1etV3k5LdK5Xud_MEL9mbcnIrSNcmSYNu_DrqI3Blrao";

static void names_without_the_key(void **state)
{
    static const uint8_t seed[16] = {0x28, 0x70, 0x23, 0xeb, 0x4a, 0x7b, 0x4b, 0x72, 0x82, 0x4f, 0xac, 0xe8, 0xa4, 0xf0, 0x50, 0x47};
    static const struct {
        const char *cipher;
        size_t len;
        const char *shown;
    } cases[] = {
        {short_cipher, sizeof(short_cipher) - 1, short_shown},
        {long_cipher, sizeof(long_cipher) - 1, long_shown},
    };
    struct ext2_super_block super = {0};
    struct struct_ext2_filsys filsys = {.super = &super};
    struct ext4_fs fs = {.fs = &filsys};
    struct shown_form form = {.block = {.encrypted = true}, .hash = 1};

    (void)state;
    memcpy(super.s_hash_seed, seed, sizeof(seed));
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct dirblock_entry e = {.ino = 12,
                                   .name = {(const uint8_t *)cases[i].cipher, cases[i].len}};
        uint8_t buf[SHOWN_NAME_MAX];
        struct nf_bytes name;

        assert_true(shown_name(&fs, &form, &e, buf, &name));
        assert_int_equal(name.len, strlen(cases[i].shown));
        assert_memory_equal(name.data, cases[i].shown, name.len);
    }
}

static void other_forms(void **state)
{
    struct ext4_fs fs = {0};
    struct shown_form linear = {.block = {.encrypted = true}, .hash = -1};
    struct shown_form hashed = {.block = {.encrypted = true, .hashed = true}, .hash = -1};
    struct shown_form plain = {.hash = -1};
    struct dirblock_entry e = {.name = {(const uint8_t *)short_cipher, 16}};
    uint8_t buf[SHOWN_NAME_MAX];
    struct nf_bytes name;

    (void)state;
    /* Read block by block: no hash. Whatever the bytes, nothing but base64url. */
    assert_true(shown_name(&fs, &linear, &e, buf, &name));
    assert_memory_equal(name.data, "AAAAAAAAAAD", 10);
    assert_int_equal(name.len, 32);
    for (size_t i = 0; i < name.len; i++)
        assert_non_null(strchr("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
                               name.data[i]));
    /* Behind the name. */
    e.hash[0] = 0x78905004;
    e.hash[1] = 0x2304943c;
    assert_true(shown_name(&fs, &hashed, &e, buf, &name));
    assert_int_equal(name.len, 32);
    assert_memory_equal(name.data, short_shown, 32);
    /* What is not encrypted is said as it is. */
    e.name = lit("plain");
    assert_true(shown_name(&fs, &plain, &e, buf, &name));
    assert_ptr_equal(name.data, e.name.data);
    e.bad_name = true;
    assert_false(shown_name(&fs, &plain, &e, buf, &name));
}

static void targets(void **state)
{
    uint8_t raw[256] = {0}, buf[SHOWN_NAME_MAX];
    struct ext4_fs fs = {.block_size = 1024, .encrypt = true};
    struct ext4_inode inode = {.raw = raw, .attr = {.mode = 0120777, .size = 18},
                               .raw_flags = EXT4_ENCRYPT_FL};
    struct block_map map = {0};
    struct nf_bytes target;

    (void)state;
    raw[0x28] = 16;
    memcpy(raw + 0x2a, short_cipher, 16);
    target = shown_target(&fs, VIEW_OLD, &inode, &map, buf, NULL);
    assert_int_equal(target.len, 32);
    assert_memory_equal(target.data, "AAAAAAAAAAD", 10);
    assert_memory_equal(target.data + 11, short_shown + 11, 21);
    /* As much as there is room for, and no more; as little as a cipher block. */
    raw[0x28] = 58;
    assert_int_equal(shown_target(&fs, VIEW_OLD, &inode, &map, buf, NULL).len, 88);
    raw[0x28] = 59;
    assert_int_equal(shown_target(&fs, VIEW_OLD, &inode, &map, buf, NULL).len, 0);
    raw[0x28] = 15;
    assert_int_equal(shown_target(&fs, VIEW_OLD, &inode, &map, buf, NULL).len, 0);
    inode.raw_flags = 0;
    memcpy(raw + 0x28, "elsewhere", 9);
    inode.attr.size = 9;
    target = shown_target(&fs, VIEW_OLD, &inode, &map, buf, NULL);
    assert_int_equal(target.len, 9);
    assert_memory_equal(target.data, "elsewhere", 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(digests),
        cmocka_unit_test(names_without_the_key),
        cmocka_unit_test(other_forms),
        cmocka_unit_test(targets),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
