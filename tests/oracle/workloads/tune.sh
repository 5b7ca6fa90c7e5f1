#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# oracle: raw
#
# What tune2fs and e2fsck change, on a file system that is not mounted and on
# one that is.
set -eu

work() { # name
    mount "$NF_DISK" "$NF_MNT"
    trap 'umount "$NF_MNT"' EXIT
    mkdir -p "$NF_MNT/$1"
    for i in $(seq 100); do echo "$1 $i" > "$NF_MNT/$1/file-with-a-name-$i"; done
    setfattr -n user.note -v "$1" "$NF_MNT/$1"
    sync
    rm "$NF_MNT/$1"/*3
    umount "$NF_MNT"
    trap - EXIT
}

# tune2fs wants a file system that was just checked.
tune() { e2fsck -fy "$NF_DISK" > /dev/null || [ $? -le 1 ]; yes | tune2fs "$@" "$NF_DISK" > /dev/null; }

work first
tune -L label
tune -U 11111111-2222-4333-8444-555555555555
work second
tune -O ^metadata_csum
work third
# On a mounted one: the kernel changes the superblock through its journal.
mount "$NF_DISK" "$NF_MNT"
trap 'umount "$NF_MNT"' EXIT
echo mounted > "$NF_MNT/mounted"
sync
tune2fs -L other "$NF_DISK" > /dev/null
tune2fs -U 99999999-2222-4333-8444-555555555555 "$NF_DISK" > /dev/null
sync
echo after > "$NF_MNT/after"
sync
rm "$NF_MNT/mounted"
umount "$NF_MNT"
trap - EXIT
e2fsck -fyD "$NF_DISK" > /dev/null || [ $? -le 1 ]
tune -O metadata_csum
e2fsck -fy "$NF_DISK" > /dev/null || [ $? -le 1 ]
work fourth
tune -O ^dir_index
work fifth
tune -O dir_index
e2fsck -fyD "$NF_DISK" > /dev/null || [ $? -le 1 ]
# No journal, and a new one.
tune -O ^has_journal
tune -j -J size=4
work sixth
work seventh
