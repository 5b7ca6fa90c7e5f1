#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Files replaced by new ones under their name, as editors and package managers do.
set -eu

seed=${1:-1}
mkdir etc
for i in 1 2 3 4 5; do
    printf 'version 0 of %s, seed %s\n' "$i" "$seed" > etc/conf$i
done
sync
for round in 1 2 3 4; do
    for i in 1 2 3 4 5; do
        head -c $((i * round * 700)) /dev/zero | tr '\0' "$round" > etc/.conf$i.tmp
        "$NF_SYSCALLS" fsync etc/.conf$i.tmp
        mv etc/.conf$i.tmp etc/conf$i
    done
    # A backup under another name, as vim does.
    mv etc/conf1 etc/conf1~
    echo "round $round" > etc/conf1
    "$NF_SYSCALLS" fsync etc/conf1
    rm etc/conf1~
done
