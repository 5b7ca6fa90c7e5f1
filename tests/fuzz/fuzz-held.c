/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations on held blocks and on a plain array; what the cache says must be
 * what the array says, and with memory enough it must say all of it.
 *
 * Input: a byte for the limit (0: plenty), then 6 bytes per operation: what,
 * pattern, 16 bits of position and 16 of length in sectors.
 */
#include "common/bytes.h"
#include "tests/models/held-model.h"

enum { OPS_MAX = 200, WRITE_MAX = 160 * 512 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

static void fill(uint8_t *buf, size_t len, uint8_t pattern)
{
    /* Sectors of bytes and sectors of zeros, as the pattern's bits say. */
    for (size_t i = 0; i < len / 512; i++)
        memset(buf + i * 512, pattern >> i % 8 & 1 ? pattern : 0, 512);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct held_model m;
    static uint8_t buf[WRITE_MAX];
    size_t limit, ops = 0;
    struct held *h;

    if (len < 1)
        return 0;
    limit = data[0] ? (size_t)data[0] * 1500 : 64 << 20;
    memset(m.known, 0, sizeof(m.known));
    h = held_new(limit);
    MODEL_CHECK(h);
    for (const uint8_t *p = data + 1; p + 6 <= data + len && ops < OPS_MAX; p += 6, ops++) {
        uint64_t at = nf_le16(p + 2) % (MODEL_BYTES / 512) * 512;
        uint64_t n = (nf_le16(p + 4) % (p[0] & 8 ? 160 : 20) + 1) * 512;

        switch (p[0] % 8) {
        case 0:
            held_forget(h, at, p[1] == 0xff ? UINT64_MAX : n);
            model_forget(&m, at, p[1] == 0xff ? UINT64_MAX : n);
            break;
        case 1:
        case 2:
            held_write(h, at, n, NULL);
            model_write(&m, at, n, NULL);
            break;
        case 3: /* not whole sectors: those at the ends become unknown */
            held_write(h, at + p[1], n, NULL);
            model_write(&m, at, n + 512, NULL);
            if (p[1]) {
                model_forget(&m, at, 512);
                model_forget(&m, at + n, 512);
            } else {
                model_forget(&m, at + n, 512);
                held_forget(h, at + n, 512);
            }
            break;
        default:
            fill(buf, n, p[1]);
            held_write(h, at, n, buf);
            model_write(&m, at, n, buf);
        }
        MODEL_CHECK(held_bytes(h) <= limit);
        model_compare(&m, h, at > 4096 ? at - 4096 : 0, n + 8192, limit == 64 << 20);
    }
    model_compare(&m, h, 0, MODEL_BYTES, limit == 64 << 20);
    held_forget(h, 0, UINT64_MAX);
    MODEL_CHECK(held_bytes(h) == 0);
    held_free(h);
    return 0;
}
