#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Renames that cross: chains, cycles, exchanges, moved directories.
set -eu

mkdir a b c
echo 1 > a/1
echo 2 > b/2
echo 3 > c/3
sync
# Three names go round within one transaction.
mv a/1 t && mv b/2 a/1 && mv c/3 b/2 && mv t c/3
sync
"$NF_SYSCALLS" exchange a/1 b/2
sync
"$NF_SYSCALLS" exchange a b
sync
"$NF_SYSCALLS" exchange a c/3
sync
# A directory into its sibling, then out and its parent into it.
mv b c.d && mkdir -p c.d/deep && mv c.d/deep deep && mv c.d deep/
sync
mkdir x && mkdir x/y && echo f > x/y/f && sync
mv x/y y && mv x y/
sync
# Swapped by three renames, in one transaction and in several.
mkdir s && echo A > s/a && echo B > s/b && sync
mv s/a s/t && mv s/b s/a && mv s/t s/b
sync
mv s/a s/t && sync && mv s/b s/a && sync && mv s/t s/b
sync
# Over an existing file, an empty directory, a name of another file.
echo over > o1 && echo under > o2 && ln o2 o3 && mkdir e1 e2 && sync
mv o1 o2 && "$NF_SYSCALLS" rename e1 e2
sync
i=0
while [ $i -lt 60 ]; do
    echo $i > r$i
    i=$((i + 1))
done
sync
i=59
while [ $i -ge 0 ]; do
    mv r$i r$((i + 1))
    i=$((i - 1))
done
sync
