/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SipHash-2-4 (Aumasson and Bernstein, 2012): for tables whose keys are bytes
 * that a guest chose. Without the key nobody can make names that collide, so
 * chains stay short. It must not decide any order that an event shows.
 */
#ifndef BDI_SIPHASH_H
#define BDI_SIPHASH_H

#include <stddef.h>
#include <stdint.h>

struct siphash_key {
    uint64_t k0, k1;
};

/* The kernel's random bytes of this process: no system call, no file. */
struct siphash_key siphash_process_key(void);

uint64_t siphash(struct siphash_key key, const void *data, size_t len);

#endif
