#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Real trees extracted by tar: into nothing, over what is there, sparse files.
# oracle: size=256M --sample=10
set -eu

python=$(ls -d /usr/lib/python3.[0-9]* | head -n 1)
mkdir a b
tar -C "$python" -c --sort=name json email asyncio unittest | tar -C a -x -p
sync
# The same again, over it: by replacing, in place, after removing.
tar -C "$python" -c json email | tar -C a -x -p
tar -C "$python" -c json email | tar -C a -x -p --overwrite
sync
tar -C "$python" -c asyncio/base_events.py asyncio/tasks.py | tar -C a -x -p --unlink-first
tar -C "$python" -c unittest | tar -C a -x -p --recursive-unlink
sync
truncate -s 30M a/sparse
printf x | dd of=a/sparse bs=1 seek=20000000 conv=notrunc 2> /dev/null
setfattr -n user.tar -v value a/json
ln a/json/decoder.py a/link
sync
tar -C a -S --xattrs -c . | tar -C b -x -p --xattrs
sync
tar -C a -c -z -f a.tar.gz json asyncio
mkdir c
tar -C c -x -f a.tar.gz --keep-old-files
tar -C c -x -f a.tar.gz --keep-newer-files 2> /dev/null
rm -r a
sync
