#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A tree of real files: copied, changed, moved, removed.
set -eu

mkdir -p usr
cp -a /usr/include/linux usr/linux
sync
cp -a usr/linux copy
find copy -type f -name 'n*' -delete
sync
find usr -name '*.h' -size -4k -exec chmod 600 {} +
mv usr/linux/netfilter moved
sync
tar -C copy -cf tree.tar .
mkdir out
tar -C out -xf tree.tar
sync
rm -r copy
find out -name 'a*.h' -exec sh -c 'cat "$1" >> "$1".new; mv "$1".new "$1"' - {} \;
sync
rm -r usr
sync
