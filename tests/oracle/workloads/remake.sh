#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# oracle: raw
#
# File systems made over others, by mke2fs and by what makes others.
set -eu

work() { # name
    mount "$NF_DISK" "$NF_MNT"
    trap 'umount "$NF_MNT"' EXIT
    mkdir "$NF_MNT/$1"
    seq 5000 > "$NF_MNT/$1/numbers"
    sync
    echo more >> "$NF_MNT/$1/numbers"
    mv "$NF_MNT/$1/numbers" "$NF_MNT/$1/moved"
    cp "$NF_MNT/$1/moved" "$NF_MNT/copy-of-$1"
    ln "$NF_MNT/copy-of-$1" "$NF_MNT/$1/link"
    sync
    rm "$NF_MNT/$1/moved"
    umount "$NF_MNT"
    trap - EXIT
}

work first
# Another one of the same kind, one with other blocks, one without what it had.
mke2fs -q -F -t ext4 -b 4096 "$NF_DISK"
work second
mke2fs -q -F -t ext4 -b 1024 -E nodiscard "$NF_DISK"
work third
mke2fs -q -F -t ext4 -b 4096 -O ^metadata_csum,^64bit -E lazy_itable_init=0 "$NF_DISK"
work fourth
# What is not followed, and back.
mkswap -f "$NF_DISK" > /dev/null
sync "$NF_DISK"
mke2fs -q -F -t ext4 -b 4096 "$NF_DISK"
work fifth
wipefs -q -a "$NF_DISK"
sync "$NF_DISK"
mke2fs -q -F -t ext3 -b 1024 "$NF_DISK"
work sixth
