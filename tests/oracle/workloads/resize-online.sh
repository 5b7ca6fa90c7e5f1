#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# oracle: lane=guest size=600M
#
# A mounted file system grows in steps while files are written, and what it got
# is used at once. In a guest: here, root may not be allowed to.
set -eu

n=0
for mib in $((40 + ${1:-1})) 50 130 131 300 590; do
    n=$((n + 1))
    mkdir "step$n"
    # Something is being written all the time: also in the transactions that grow it.
    (
        i=0
        while [ ! -e stop ]; do
            i=$((i + 1))
            mkdir -p "step$n/dir$((i % 7))"
            seq 100 $((400 + i)) > "step$n/dir$((i % 7))/file$i"
            [ $((i % 5)) != 0 ] || rm -f "step$n/dir$(((i - 3) % 7))/file$((i - 3))"
            [ $((i % 20)) != 0 ] || sync
        done
    ) &
    writer=$!
    sleep 0.3
    guest-tool resize . "$mib"
    sleep 0.3
    : > stop
    wait $writer
    rm stop
    # Most of the new space is used, and given back.
    dd if=/dev/urandom of="step$n/large" bs=1M count=2 2> /dev/null
    fallocate -l $((mib * 60 / 100))M reserve 2> /dev/null ||
        guest-tool fallocate reserve alloc 0 $((mib * 60 / 100 * 1048576))
    i=0
    while [ $i -lt 60 ]; do
        i=$((i + 1))
        mkdir "step$n/d$i"
        echo "$i" > "step$n/d$i/small"
    done
    sync
    rm reserve
    rm -r "step$n"/d*5
    sync
done
