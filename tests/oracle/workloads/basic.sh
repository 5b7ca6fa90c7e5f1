#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every plain operation, with a sync between most.
set -eu

mkdir -p dir/sub
echo hello > dir/file
sync
echo more >> dir/file
ln dir/file dir/second
ln -s file dir/link
sync
mv dir/file dir/sub/moved
chmod 4711 dir/second
sync
chown 1234:4321 dir/second
touch -d '1999-12-31 23:59:59.123456789 UTC' dir/sub
sync
truncate -s 3 dir/second
setfattr -n user.note -v value dir/second
sync
mkdir -p one/two/three
cp dir/second one/two/three/copy
sync
rm dir/link
rm -r one
sync
# Born and gone within one transaction; made and renamed within one.
echo x > gone
rm gone
echo y > before
mv before after
sync
# An overwriting rename, and a name that changes its file.
echo 1 > p
echo 2 > q
sync
mv p q
rm after
mkdir after
sync
rmdir after
ln -s nowhere after
