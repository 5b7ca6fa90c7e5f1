/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Operations on an owner map and on a plain array; the two must agree.
 *
 * Input: two bytes for the number of blocks, then 8 bytes per operation: what
 * and whose, log2 of the largest length, 16 bits of position, 16 of length, 16
 * of logical position.
 */
#include "common/bytes.h"
#include "tests/models/ownermap-model.h"

enum { OPS_MAX = 400, BLOCKS_MAX = 3 * OWNERMAP_CHUNK };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct ownermap_model model = {0};
    struct ownermap m;
    uint64_t blocks;
    size_t ops = 0;

    if (len < 2)
        return 0;
    blocks = 1 + nf_le16(data) % BLOCKS_MAX;
    MODEL_CHECK(ownermap_init(&m, blocks) == 0);
    model_grow(&model, blocks);
    for (const uint8_t *p = data + 2; p + 8 <= data + len && ops < OPS_MAX; p += 8, ops++) {
        uint16_t logical = nf_le16(p + 6);
        struct owner_extent e = {
            .pblk = nf_le16(p + 2) % (blocks + 4),
            .len = nf_le16(p + 4) & ((1u << p[1] % 14) - 1),
            .owner = p[0] >> 4 & 3,
            .kind = (enum owner_kind)(1 + (p[0] >> 6 & 1)),
        };

        /* Tied to the position, so that pieces merge; or free; or at the end. */
        if (logical < 0xc000)
            e.logical = (uint32_t)e.pblk + logical % 3;
        else
            e.logical = logical < 0xf000 ? logical : UINT32_MAX - (logical & 0xff);
        switch (p[0] % 8) {
        case 0:
            e.kind = (enum owner_kind)(p[0] >> 4);
            e.len = logical % 5 ? e.len : UINT64_MAX - logical;
            MODEL_CHECK(ownermap_set(&m, &e) == model_set(&model, &e));
            break;
        case 1:
        case 2:
        case 3:
            MODEL_CHECK(ownermap_clear(&m, &e) == 0);
            model_clear(&model, &e);
            break;
        case 4:
            if (model.blocks < BLOCKS_MAX) {
                MODEL_CHECK(ownermap_grow(&m, model.blocks + e.len % 50) == 0);
                model_grow(&model, model.blocks + e.len % 50);
            }
            break;
        default:
            MODEL_CHECK(ownermap_set(&m, &e) == model_set(&model, &e));
        }
        model_compare_get(&model, &m, e.pblk);
        model_compare(&model, &m, e.pblk > 2 ? e.pblk - 2 : 0, e.pblk + 40);
    }
    model_compare(&model, &m, 0, UINT64_MAX);
    model_compare_pieces(&model, &m);
    free(model.block);
    ownermap_release(&m);
    return 0;
}
