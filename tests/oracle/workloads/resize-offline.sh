#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# oracle: raw size=300M
#
# A file system that is not mounted grows and shrinks, with files in it that
# have to move.
set -eu

case ${1:-1} in
1) set -- 1024 ;;
2) set -- 4096 ;;
3) set -- 1024 -O ^resize_inode,^64bit ;;
4) set -- 1024 -O ^flex_bg ;;
5) set -- 4096 -O ^metadata_csum,^64bit ;;
esac
block=$1
shift

work() { # name
    mount "$NF_DISK" "$NF_MNT"
    trap 'umount "$NF_MNT"' EXIT
    mkdir "$NF_MNT/$1"
    # Spread over the groups: directories go where there is room.
    for d in $(seq 20); do
        mkdir "$NF_MNT/$1/$d"
        seq $((d * 100)) $((d * 500)) > "$NF_MNT/$1/$d/numbers"
        ln -s "$(seq -s- 40)" "$NF_MNT/$1/$d/long-link"
    done
    sync
    rm "$NF_MNT/$1"/1*/numbers
    umount "$NF_MNT"
    trap - EXIT
}

resize() {
    e2fsck -fy "$NF_DISK" > /dev/null || [ $? -le 1 ]
    resize2fs "$NF_DISK" "$1" > /dev/null
}

mke2fs -q -F -t ext4 -b "$block" "$@" "$NF_DISK" 80M
work first
resize 200M
work second
resize 300M
work third
resize 90M
work fourth
resize 150M
work fifth
e2fsck -fy "$NF_DISK" > /dev/null || [ $? -le 1 ]
resize2fs -M "$NF_DISK" > /dev/null
mount "$NF_DISK" "$NF_MNT"
rm -r "$NF_MNT/second"
umount "$NF_MNT"
