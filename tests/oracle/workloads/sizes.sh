#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Sparse files, truncation, preallocation, punched and zeroed ranges.
set -eu

fill() { head -c "$2" /dev/zero | tr '\0' "$3" > "$1"; }
fill f 50000 A
sync
truncate -s 20000 f
sync
truncate -s 40000 f
sync
truncate -s 0 f
sync
fill f 9000 B
sync
# Shorter and longer within one transaction: the bytes between are zeros.
truncate -s 5000 f
truncate -s 9000 f
sync
truncate -s 10000000 sparse
sync
"$NF_SYSCALLS" write sparse 5000000 3000 S
sync
"$NF_SYSCALLS" write sparse 123 1 s
sync
truncate -s 100000000000 enormous
"$NF_SYSCALLS" write enormous 99999990000 5000 E
sync
"$NF_SYSCALLS" fallocate alloc 0 200000 pre
sync
"$NF_SYSCALLS" write pre 50000 30000 P
sync
"$NF_SYSCALLS" fallocate keep 200000 100000 pre
sync
"$NF_SYSCALLS" write pre 199000 5000 Q
sync
fill hole 100000 H
sync
"$NF_SYSCALLS" fallocate punch 10000 50000 hole
sync
"$NF_SYSCALLS" fallocate zero 70000 20000 hole
sync
"$NF_SYSCALLS" fallocate zero 95000 20000 hole
sync
"$NF_SYSCALLS" write hole 20000 100 h
sync
"$NF_SYSCALLS" fallocate punch 0 200000 hole
sync
