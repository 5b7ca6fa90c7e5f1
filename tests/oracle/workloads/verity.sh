#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Files under verity: their hash trees lie behind their ends and are no content.
# Runs in a guest: busybox and our helpers are all there is.
set -eu

mkdir d
: > d/empty
echo small > d/small
"$NF_SYSCALLS" write d/block 0 4096 B
"$NF_SYSCALLS" write d/odd 0 100001 O
"$NF_SYSCALLS" write d/large 0 3000000 L
"$NF_SYSCALLS" write d/sparse 5000000 100 S
sync
for f in empty small block odd large; do
    "$NF_SYSCALLS" verity d/$f 4096
done
sync
"$NF_SYSCALLS" verity d/sparse 4096
# Written and sealed within one transaction.
"$NF_SYSCALLS" write d/fresh 0 50000 F
"$NF_SYSCALLS" verity d/fresh 4096
sync
ln d/odd d/link
mv d/small d/renamed
chmod 640 d/large
touch -d '2001-02-03 04:05:06' d/block
sync
# A try that fails leaves nothing.
! "$NF_SYSCALLS" verity d/odd 4096 2> /dev/null
! "$NF_SYSCALLS" write d/odd 0 10 X 2> /dev/null
rm d/large
"$NF_SYSCALLS" write d/large 0 20000 N
sync
mv d/renamed d/large
rm d/odd
sync
if mkdir e && "$NF_SYSCALLS" encrypt e 2 v 0; then
    "$NF_SYSCALLS" write e/both 0 70000 E
    sync
    "$NF_SYSCALLS" verity e/both 4096
    sync
fi
