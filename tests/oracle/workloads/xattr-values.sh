#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Large attributes, in inodes of their own where the file system can do that, and
# attributes that several files have in common, in one block or one such inode.
set -eu

text() { head -c "$1" /dev/zero | tr '\0' "$2"; }
# Larger values than the file system takes are not set, and that is all right.
try() { setfattr "$@" 2> /dev/null || true; }

mkdir d
for n in 1 2 3 4 5 6; do echo $n > f$n; done
sync
try -n user.v -v "$(text 5000 a)" f1
try -n user.v -v "$(text 20000 b)" f2
try -n user.w -v "$(text 60000 c)" f2
try -n user.v -v "$(text 40000 d)" d
sync
# Replaced by one as long; by a small one, and back; removed.
try -n user.v -v "$(text 5000 e)" f1
sync
try -n user.v -v small f1
sync
try -n user.v -v "$(text 9000 f)" f1
try -x user.w f2
sync
# Two replacements in one transaction may use the first value's inode again.
for c in g h i j; do try -n user.v -v "$(text 9000 $c)" f1; done
sync
for c in k l; do
    try -n user.v -v "$(text 12000 $c)" f1
    try -x user.v f1
done
try -n user.v -v "$(text 12000 m)" f1
sync
# The same value in many files; then others, one after another.
for n in 1 2 3 4 5 6; do try -n user.same -v "$(text 30000 n)" f$n; done
sync
try -x user.same f2
try -n user.same -v "$(text 30000 o)" f3
sync
rm f4
sync
try -n user.same -v "$(text 100 p)" f5
try -x user.same f6
sync
try -n user.v -v "$(text 45000 q)" f1
rm f1
sync
# One block for all; copied when one of them changes, in place for the last.
for n in 1 2 3 4 5 6 7 8; do
    echo $n > s$n
    try -n user.shared -v "$(text 700 r)" s$n
done
sync
try -n user.shared -v "$(text 700 s)" s8
sync
try -n user.more -v x s1
rm s2
try -x user.shared s3
sync
try -n user.shared -v "$(text 700 t)" s4
try -n user.shared -v "$(text 700 t)" s5
try -n user.shared -v "$(text 700 t)" s6
sync
# s7 is alone now: its block changes in place.
try -n user.shared -v "$(text 650 u)" s7
sync
try -n user.shared -v "$(text 640 v)" s7
sync
# Alone by the removal of the other in the same transaction.
rm s5 s6
try -n user.shared -v "$(text 700 w)" s4
sync
try -x user.shared s4
rm s7
sync
