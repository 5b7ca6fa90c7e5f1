#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A directory of 100000 entries (or of the second argument): filled, changed,
# emptied in part, moved.
# oracle: size=256M inodes=120000 stages=equal --sample=1
set -eu

mkdir big
"$NF_SYSCALLS" many big entry- "${2:-100000}"
sync
mv big/entry-77777 big/renamed
ln big/entry-5 big/link
echo text > big/entry-99
mkdir big/directory
mv big/entry-4242 .
sync
cd big
find . -name "entry-1*" -delete
cd ..
sync
mv big bigger
find bigger -name "entry-2345*" -delete
sync
