/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * CRC-32C (Castagnoli), as iSCSI and SSE 4.2 have it: inverted before and
 * after, so nf_crc32c(0, "123456789", 9) == 0xe3069283.
 */
#ifndef NF_CRC32C_H
#define NF_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Continue @crc (0 at the start) over @len bytes. */
uint32_t nf_crc32c(uint32_t crc, const void *data, size_t len);

#endif
