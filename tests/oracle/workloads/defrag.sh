#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Fragmented files, put in order by e4defrag: the same content elsewhere.
set -eu

# Written in turns, so that neither is in one piece; and one with holes.
i=0
while [ $i -lt 24 ]; do
    for f in f g; do
        "$NF_SYSCALLS" direct $f $((i * 16384)) 16384 "$(printf "\\$(printf %o $((65 + i)))")"
    done
    "$NF_SYSCALLS" direct sparse $((i * 65536)) 4096 s
    i=$((i + 1))
done
sync
mkdir d
cp f d/copy
ln f d/link
sync
before=$(filefrag f | sed 's/.*: \([0-9]*\) extent.*/\1/')
e4defrag -v f sparse > d/log 2>&1
sync
after=$(filefrag f | sed 's/.*: \([0-9]*\) extent.*/\1/')
# Without this, the workload would show nothing.
[ "$after" -lt "$before" ] || { cat d/log >&2; echo "defrag: f has $after extents, had $before" >&2; exit 1; }
# Written on while it is moved.
"$NF_SYSCALLS" write g 100 5000 x
e4defrag g > d/log2 2>&1
"$NF_SYSCALLS" write g 70000 5000 y
sync
