/* SPDX-License-Identifier: GPL-2.0-or-later */
/* SHA-256 (FIPS 180-4) of short inputs: what encrypted names that are long are
 * shown by. Not fast. */
#ifndef BDI_SHA256_H
#define BDI_SHA256_H

#include <stdint.h>

#include "common/bytes.h"

void sha256(struct nf_bytes in, uint8_t out[32]);

#endif
