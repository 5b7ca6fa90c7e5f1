#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Small files, links and directories, which stand in their inodes where the file
# system can do that: growing out of them, shrinking, and attributes that
# compete for the space.
set -eu

text() { head -c "$1" /dev/zero | tr '\0' "$2"; }

# Files around the sizes of i_block (60), of what an inode holds, and beyond.
for n in 0 1 59 60 61 100 130 150 160 170 500; do text $n a > f$n; done
sync
for n in 0 1 59 60 61 100 130; do text 7 b >> f$n; done
sync
"$NF_SYSCALLS" write f100 10 3 x
"$NF_SYSCALLS" write f61 58 4 y
sync
# Shorter, within and out of the first part; longer again: zeros.
truncate -s 70 f100
truncate -s 20 f61
sync
truncate -s 90 f100
truncate -s 65 f61
sync
truncate -s 0 f130
sync
text 30 c > f130
truncate -s 40000 f59
sync
# Out of the inode by growing, by a hole, by preallocation, by a mapping.
text 3000 d >> f60
"$NF_SYSCALLS" write f1 9000 10 e
"$NF_SYSCALLS" fallocate alloc 0 5000 f61
"$NF_SYSCALLS" mmap f100 5 9 m
sync
text 5 f > f60
sync
"$NF_SYSCALLS" fallocate punch 10 20 f130
"$NF_SYSCALLS" direct f130 0 4096 g
sync
# Attributes want the same bytes.
for n in 1 2 3 4; do text 100 h > x$n; done
sync
setfattr -n user.small -v 12345678 x1
setfattr -n user.larger -v "$(text 60 v)" x2
setfattr -n user.large -v "$(text 600 v)" x3
sync
text 20 i >> x1
text 200 i >> x2
setfattr -x user.large x3
sync
text 10 j >> x3
setfattr -n user.larger -v "$(text 50 w)" x4
truncate -s 30 x4
sync
# Directories: in i_block, in both parts, in a block; and never back.
mkdir d e
sync
for n in 1 2 3; do echo $n > d/$n; done
sync
for n in 4 5 6 7 8; do echo $n > d/name-$n; done
sync
rm d/2
mv d/name-5 e/
mv d/name-6 d/six
sync
ln d/1 e/one
mkdir d/sub d/sub/sub
echo x > d/sub/sub/x
sync
for n in $(seq 30); do echo $n > d/a-longer-name-$n; done
sync
rm d/a-longer-name-* d/3
sync
mv d/sub e/sub
mkdir e/sub/another
sync
rm -r e/sub/sub
rmdir e/sub/another
sync
# Converted, filled and renamed in one transaction.
mkdir g
for n in 1 2 3; do echo $n > g/$n; done
sync
for n in $(seq 20); do echo $n > g/more-$n; done
mv g/1 g/first
rm g/2
mv g h
sync
setfattr -n user.note -v "$(text 80 n)" e
sync
rm -r h e
sync
mkdir i
ln -s "$(text 59 l)" i/l59
ln -s "$(text 60 l)" i/l60
ln -s "$(text 120 l)" i/l120
sync
mv i/l60 i/l
rm i/l59
sync
