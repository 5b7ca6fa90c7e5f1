#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Several exercisers and a logger at the same time.
set -eu

seed=${1:-1}
pids=
for n in 1 2 3; do
    mkdir w$n
    "$NF_EXERCISER" $((seed * 10 + n)) "${NF_STEPS:-400}" w$n &
    pids="$pids $!"
done
"$NF_SYSCALLS" append log 30 3000 &
pids="$pids $!"
for pid in $pids; do wait "$pid"; done
