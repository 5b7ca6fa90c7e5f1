#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# oracle: raw size=96M final=33554432
#
# Partition tables come, change and go under file systems; one file system is
# followed at a time.
set -euo pipefail

loop=
cleanup() {
    if mountpoint -q "$NF_MNT"; then umount "$NF_MNT"; fi
    [ -z "$loop" ] || losetup -d "$loop"
    loop=
}
trap cleanup EXIT

table() { # the table is standard input
    sfdisk -q --no-reread --no-tell-kernel --wipe never --wipe-partitions never "$NF_DISK"
    sync "$NF_DISK"
}
part() { # start and size, MiB
    loop=$(losetup -f --show -o $(($1 << 20)) --sizelimit $(($2 << 20)) "$NF_DISK")
}
work() { # name
    mount "$loop" "$NF_MNT"
    mkdir "$NF_MNT/$1"
    seq 3000 > "$NF_MNT/$1/numbers"
    sync
    mv "$NF_MNT/$1/numbers" "$NF_MNT/$1/moved"
    echo "$1" > "$NF_MNT/$1/name"
    umount "$NF_MNT"
}

# The disk's own file system gives way to a table of the old kind.
printf 'label: dos\nstart=1MiB, size=20MiB\nstart=24MiB, size=30MiB, type=5\nstart=32MiB, size=20MiB\n' | table
part 1 20
mke2fs -q -F -t ext4 -b 1024 "$loop"
work primary
cleanup
# The first partition goes; the logical one gets a file system.
printf 'label: dos\n2: start=24MiB, size=30MiB, type=5\n5: start=32MiB, size=20MiB\n' | table
part 32 20
mke2fs -q -F -t ext4 -b 1024 "$loop"
work logical
cleanup
# The same place as the second of a GPT: another number.
printf 'label: gpt\n2: start=32MiB, size=20MiB\n' | table
part 32 20
work gpt
cleanup
# It grows, and then what is in it; what was there before the growth stays.
printf 'label: gpt\n2: start=32MiB, size=60MiB\n' | table
part 32 60
e2fsck -fy "$loop" > /dev/null || [ $? -le 1 ]
resize2fs "$loop" > /dev/null 2>&1
work grown
# Another partition beside it changes nothing for it.
mount "$loop" "$NF_MNT"
echo during > "$NF_MNT/during"
sync
printf 'label: gpt\n1: start=2MiB, size=20MiB\n2: start=32MiB, size=60MiB\n' | table
echo after > "$NF_MNT/after"
umount "$NF_MNT"
# Too small for what is in it, then as it was.
printf 'label: gpt\n1: start=2MiB, size=20MiB\n2: start=32MiB, size=10MiB\n' | table
printf 'label: gpt\n1: start=2MiB, size=20MiB\n2: start=32MiB, size=60MiB\n' | table
work last
cleanup
