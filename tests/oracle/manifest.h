/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A directory tree as text, a line for each name in byte order, for trees that
 * cannot be held side by side: types, permission bits, owners, device numbers,
 * sizes, numbers of links and which names are links of one file, modification
 * times, link targets, extended attributes, SHA-256 of the contents that are not
 * zeros. An encrypted file whose key is not at hand looks like zeros. Not in
 * it: what tree_compare.h leaves out.
 */
#ifndef NF_MANIFEST_H
#define NF_MANIFEST_H

#include <stdio.h>

/* 0, or -1 with errno if some of it could not be read. */
int manifest_write(int dir, FILE *out);

#endif
