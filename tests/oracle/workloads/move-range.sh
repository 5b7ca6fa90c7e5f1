#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Collapsed and inserted ranges.
set -eu

i=0
while [ $i -lt 32 ]; do
    "$NF_SYSCALLS" write f $((i * 4096)) 4096 "$(printf "\\$(printf %o $((65 + i)))")"
    i=$((i + 1))
done
sync
"$NF_SYSCALLS" fallocate collapse 8192 16384 f
sync
"$NF_SYSCALLS" fallocate insert 4096 8192 f
sync
"$NF_SYSCALLS" write f 6000 100 z
sync
"$NF_SYSCALLS" fallocate collapse 0 4096 f
"$NF_SYSCALLS" fallocate insert 40960 4096 f
sync
