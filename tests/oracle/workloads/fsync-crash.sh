#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Files synced one by one, then the file system is shut down at once, as by a crash:
# the next mount replays the log and the fast commits behind it, in place. The kernel
# then counts its fast commits anew.
set -eu

sync_file() { python3 -c 'import os, sys; fd = os.open(sys.argv[1], os.O_RDONLY); os.fsync(fd)' "$1"; }
crash() { # EXT4_IOC_SHUTDOWN, without flushing the log
    python3 -c 'import fcntl, os, struct
fcntl.ioctl(os.open(".", os.O_RDONLY), 0x8004587d, struct.pack("I", 2))'
    cat "/proc/fs/ext4/${NF_DISK##*/}/fc_info" >> "$NF_FC_INFO"
    cd /
    umount "$NF_MNT"
    mount ${NF_MOUNT:+-o "$NF_MOUNT"} "$NF_DISK" "$NF_MNT"
    cd "$NF_MNT"
}

mkdir one two
for i in 1 2 3 4 5 6 7 8 9; do echo "first $i" > one/file$i; done
head -c 50000 /dev/urandom > one/long
sync
echo x > one/first
sync_file one/first
for round in 1 2 3; do
    echo "$round" > "one/new$round"
    ln one/file1 "two/link$round"
    sync_file "one/new$round"
    mv one/file$((round + 1)) two/
    head -c 20000 /dev/urandom >> one/long
    sync_file one/long
    truncate -s $((30000 + round * 1000)) one/long
    rm one/file$((round + 5))
    sync_file one/long
    echo "not synced" > "one/lost$round"
    crash
    # The first commit of a mount is a full one.
    echo "after $round" > "two/after$round"
    sync_file "two/after$round"
    echo "again $round" >> "two/after$round"
    sync_file "two/after$round"
done
