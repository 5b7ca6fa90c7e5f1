#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# oracle: raw
#
# Crashes in the middle of work, and recovery: by the kernel when it mounts, by e2fsck.
set -eu

seed=${1:-1}
for round in 1 2 3 4 5 6; do
    mount -o commit=1 "$NF_DISK" "$NF_MNT"
    trap 'umount "$NF_MNT"' EXIT
    mkdir "$NF_MNT/round-$round"
    "$NF_EXERCISER" $((seed * 10 + round)) $((50 + 37 * (seed + round) % 150)) "$NF_MNT/round-$round"
    echo "last words of $round" > "$NF_MNT/last"
    [ $((round % 3)) = 0 ] || sleep 1.$round # committed, but not checkpointed
    "$NF_SYSCALLS" shutdown "$NF_MNT"
    umount "$NF_MNT"
    trap - EXIT
    [ $((round % 2)) = 0 ] || e2fsck -fy "$NF_DISK" > /dev/null || [ $? -le 1 ]
done
mount "$NF_DISK" "$NF_MNT"
trap 'umount "$NF_MNT"' EXIT
rm -rf "$NF_MNT/round-2"
mkdir "$NF_MNT/end"
umount "$NF_MNT"
trap - EXIT
