#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Extended attributes in the inode, in a block of their own, shared; ACLs.
set -eu

mkdir d
echo f > f
setfattr -n user.small -v 1 f
setfattr -n trusted.secret -v yes d
sync
big=$(head -c 900 /dev/zero | tr '\0' v)
setfattr -n user.big -v "$big" f
sync
setfattr -n user.small -v 22222222222222222 f
setfattr -n user.more -v "$big" d
sync
# The same block shared by several files.
for i in 1 2 3 4; do
    echo $i > s$i
    setfattr -n user.same -v "$big" s$i
done
sync
setfattr -n user.same -v different s2
setfattr -x user.same s3
sync
setfattr -x user.big f
setfattr -x trusted.secret d
setfattr -n user.empty f
sync
setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 s1
setfattr -n user.binary -v 0x00ff0a3a00 s1
sync
echo more >> s4
sync
if command -v setfacl > /dev/null; then
    setfacl -m u:1000:rw,g:2000:r s2
    setfacl -d -m u:1001:rwx d
    sync
    # Inherited, then taken away.
    echo in > d/inherits
    mkdir d/sub
    sync
    setfacl -b d/inherits
    chmod 600 s2
    sync
    setfacl -k d
    echo plain > d/plain
    mv d/inherits d/sub/
    sync
fi
