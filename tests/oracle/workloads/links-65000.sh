#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A file with as many names as ext4 allows, and the one that is too many.
# oracle: stages=equal --sample=3
set -eu

mkdir d
echo many > m
sync
"$NF_SYSCALLS" links m d/m 64999
sync
if ln m d/more 2> /dev/null; then exit 1; fi
echo more >> d/m64000
chmod 600 m
sync
rm m
find d -name 'm*7' -delete
sync
ln d/m1 back
rm -r d
sync
