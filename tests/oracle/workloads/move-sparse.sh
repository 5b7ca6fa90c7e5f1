#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Collapsed and inserted ranges of sparse, preallocated and odd-sized files,
# several in one transaction, with other changes beside them.
set -eu

put() { "$NF_SYSCALLS" write "$1" "$2" "$3" "$4"; }
range() { "$NF_SYSCALLS" fallocate "$@"; }
# Unaligned end, holes, an unwritten part.
put f 0 20000 A
put f 65536 30001 B
range keep 100000 50000 f
put f 200000 7777 C
sync
range collapse 4096 8192 f
sync
range insert 8192 65536 f
sync
# Twice in one transaction, and the end grows.
range collapse 0 4096 f
range insert 40960 12288 f
put f 300000 5000 D
sync
# Collapsed and cut; inserted and written into the gap.
range collapse 16384 16384 f
truncate -s 100001 f
sync
range insert 16384 32768 f
put f 20000 9000 E
sync
# Behind the last block with data there is a hole.
truncate -s 500000 f
sync
range collapse 8192 4096 f
sync
range insert 4096 4096 f
sync
# The end of the file goes.
put g 0 40960 G
put g 40960 123 H
sync
range collapse 8192 16384 g
put g 24576 50 I
sync
range insert 0 4096 g
truncate -s 60000 g
sync
# Blocks swapped with another file's.
put h 0 65536 J
sync
cat g > i
range insert 0 8192 h
mv h g
sync
