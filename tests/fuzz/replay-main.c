/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs a fuzz target over every file of a corpus directory, so that ordinary
 * test builds, with any compiler and sanitizer, replay what fuzzing found.
 * Also tries each file's prefixes at a few lengths: truncation is the most
 * common damage.
 */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replay(const char *path)
{
    FILE *f = fopen(path, "rb");
    uint8_t *buf = NULL;
    size_t len = 0, cap = 0, n;

    if (!f) {
        perror(path);
        return -1;
    }
    do {
        if (len == cap) {
            cap = cap ? cap * 2 : 4096;
            buf = realloc(buf, cap);
            if (!buf)
                abort();
        }
        n = fread(buf + len, 1, cap - len, f);
        len += n;
    } while (n > 0);
    fclose(f);

    for (unsigned i = 0; i <= 8; i++) {
        /* An exact-size copy, so that ASan sees the first byte beyond. */
        size_t cut = len * i / 8;
        uint8_t *copy = malloc(cut ? cut : 1);

        if (!copy)
            abort();
        memcpy(copy, buf, cut);
        LLVMFuzzerTestOneInput(copy, cut);
        free(copy);
    }
    free(buf);
    return 0;
}

int main(int argc, char **argv)
{
    unsigned done = 0;

    for (int i = 1; i < argc; i++) {
        DIR *d = opendir(argv[i]);
        struct dirent *e;

        if (!d) {
            perror(argv[i]);
            return 1;
        }
        while ((e = readdir(d))) {
            char path[4096];

            if (e->d_name[0] == '.')
                continue;
            snprintf(path, sizeof(path), "%s/%s", argv[i], e->d_name);
            if (replay(path) < 0)
                return 1;
            done++;
        }
        closedir(d);
    }
    printf("%u inputs\n", done);
    return done == 0; /* an empty corpus checks nothing */
}
