#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Files that are synced one by one, as databases, editors and package managers
# do it: with fast commits each is one, of names and ranges that came and went.
set -eu

sync_file() { python3 -c 'import os, sys; fd = os.open(sys.argv[1], os.O_RDONLY); os.fsync(fd)' "$1"; }

mkdir one two
echo first > one/a
echo second > one/b
head -c 40000 /dev/urandom > one/long
sync
# A transaction of its own, then fast ones.
echo x > one/c
sync_file one/c
echo more >> one/a
sync_file one/a
mv one/a two/a
sync_file two/a
ln two/a one/again
ln two/a one/third
sync_file two/a
# Over another file, and back and forth within one.
echo replaced > two/new
mv two/new one/b
sync_file one/b
mv one/b two/b
mv two/b one/b2
mv one/b2 one/b
sync_file one/b
# Names that come and go.
for i in 1 2 3 4 5 6 7 8; do echo $i > one/file$i; done
rm one/file2 one/file4
sync_file one/file1
rm one/file1 one/third
echo other > one/file1
sync_file one/file1
# Ranges: shorter, a hole, over what was there, beyond the end.
truncate -s 10000 one/long
sync_file one/long
fallocate -p -o 4096 -l 4096 one/long
sync_file one/long
head -c 5000 /dev/urandom | dd of=one/long bs=1k seek=3 conv=notrunc 2> /dev/null
sync_file one/long
head -c 3000 /dev/urandom | dd of=one/long bs=1k seek=500 conv=notrunc 2> /dev/null
sync_file one/long
fallocate -l 300000 one/long
sync_file one/long
fallocate -z -o 8192 -l 20000 one/long
sync_file one/long
truncate -s 0 one/long
sync_file one/long
head -c 70000 /dev/urandom > one/long
sync_file one/long
chmod 600 one/long
chown 12:34 two/a
touch -d '2001-02-03 04:05:06.789 UTC' one/c
sync_file one/c
# Nothing that a fast commit can hold: a full one.
ln -s a two/link
sync_file one/c
echo y >> one/c
sync_file one/c
# A file of many pieces, and a name that does not fit where it was.
for i in $(seq 0 2 40); do
    head -c 1024 /dev/urandom | dd of=two/pieces bs=1k seek=$((i * 8)) conv=notrunc 2> /dev/null
done
sync_file two/pieces
for i in $(seq 1 2 40); do
    head -c 1024 /dev/urandom | dd of=two/pieces bs=1k seek=$((i * 8)) conv=notrunc 2> /dev/null
    sync_file two/pieces
done
for i in $(seq 120); do : > "two/a-name-that-takes-its-place-$i"; done
sync_file "two/a-name-that-takes-its-place-7"
for i in $(seq 2 2 120); do rm "two/a-name-that-takes-its-place-$i"; done
sync_file "two/a-name-that-takes-its-place-7"
# New directories: the kernel's replay makes something else of them.
mkdir three three/four
echo z > three/four/z
sync_file three/four/z
rm three/four/z
rmdir three/four
sync_file one/c
