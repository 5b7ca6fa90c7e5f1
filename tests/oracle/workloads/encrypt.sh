#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# ext4's encryption: v1 and v2 policies beside plain directories, names of every
# length, links, renames, a directory that grows an index.
set -eu

mkdir plain v1 v2 pad
echo plain > plain/file
"$NF_SYSCALLS" encrypt v1 1 a 0
"$NF_SYSCALLS" encrypt v2 2 b 3
"$NF_SYSCALLS" encrypt pad 2 c 1
sync
for d in v1 v2 pad; do
    echo secret > $d/file
    mkdir $d/dir
    echo deeper > $d/dir/file
    ln -s target $d/short-link
    ln -s "$(head -c 200 /dev/zero | tr '\0' t)" $d/long-link
    mkfifo $d/fifo
    sync
    # Around where the name is shown by its hash, and the longest there is.
    for n in 1 15 16 17 31 32 33 127 128 129 143 144 145 148 149 150 159 160 161 200 255; do
        echo $n > "$d/$(head -c $n /dev/zero | tr '\0' n)"
    done
    sync
    ln $d/file $d/second
    mv $d/file $d/dir/moved
    mv $d/dir $d/renamed
    sync
    "$NF_SYSCALLS" exchange $d/second $d/renamed/file
    mv $d/second $d/renamed/file
    sync
    # Contents: written, appended to, written over, with holes, cut.
    "$NF_SYSCALLS" write $d/content 0 100000 A
    sync
    "$NF_SYSCALLS" append $d/content 5 700
    "$NF_SYSCALLS" write $d/content 5000 20 B
    "$NF_SYSCALLS" direct $d/content 8192 4096 D
    sync
    "$NF_SYSCALLS" mmap $d/content 300 9000 M
    "$NF_SYSCALLS" fallocate punch 16384 8192 $d/content
    sync
    "$NF_SYSCALLS" fallocate zero 40960 10000 $d/content
    truncate -s 70001 $d/content
    truncate -s 3000000 $d/content
    sync
    setfattr -n user.plain -v 'not encrypted' $d/content
    chmod 600 $d/content
    "$NF_SYSCALLS" tmpfile $d $d/linked 10000
    "$NF_SYSCALLS" orphan $d/orphan 20000
    sync
done
# Out of an encrypted directory by a further name; in again it may not come.
ln v1/content plain/shared
mv v1/fifo plain/fifo
! mv -T --no-copy plain/file v2/file 2> /dev/null || true
sync
rm v1/content
mv plain/shared v1/back 2> /dev/null || true
sync
# From one block to an index, and back to nothing.
mkdir v2/many
"$NF_SYSCALLS" many v2/many "$(head -c 150 /dev/zero | tr '\0' x)" 100
sync
"$NF_SYSCALLS" many v2/many short 200
sync
rm -r v2/many
rm -r v1
sync
