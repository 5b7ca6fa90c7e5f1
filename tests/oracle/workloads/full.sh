#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A disk that fills up, is cleared and fills again.
set -eu

mkdir a b
for round in 1 2 3; do
    i=0
    while head -c $((300000 + i * 1000)) /dev/zero | tr '\0' $((round + 3)) > a/f$round-$i; do
        i=$((i + 1))
        [ $((i % 20)) != 0 ] || sync
    done 2> /dev/null
    sync
    # Pieces of what was freed, in files that are to be kept.
    rm -f a/f$round-*[13579]
    sync
    i=0
    while [ $i -lt 20 ]; do
        head -c 50000 /dev/zero | tr '\0' $round > b/k$round-$i
        i=$((i + 1))
    done
    sync
    rm -f a/*
done
sync
