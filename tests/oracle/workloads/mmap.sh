#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Stores through shared mappings of several processes, while others sync.
set -eu

for n in 1 2 3; do
    head -c 600000 /dev/zero | tr '\0' "$n" > m$n
done
truncate -s 900000 holes
sync
work() { # file, byte
    i=0
    while [ $i -lt 12 ]; do
        "$NF_SYSCALLS" mmap "$1" $(((i * 48271 + $2 * 7919) % 590000)) $((1 + i * 911)) "$2"
        i=$((i + 1))
    done
}
pids=
for n in 1 2 3; do
    work m$n $n &
    pids="$pids $!"
    work holes $n &
    pids="$pids $!"
done
for i in 1 2 3 4 5 6; do sync; sleep 0.05; done
for pid in $pids; do wait "$pid"; done
truncate -s 100001 m1
"$NF_SYSCALLS" mmap m1 99000 1001 z
truncate -s 200000 m1
sync
