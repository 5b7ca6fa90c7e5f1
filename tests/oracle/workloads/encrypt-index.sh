#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# oracle: raw
#
# Encrypted directories whose names are all shown as others at once: their index is
# taken away by debugfs and made by e2fsck, and tune2fs has them hashed in another
# way. Needs a file system without checksums, for an index without its flag.
set -eu

start() {
    mount "$NF_DISK" "$NF_MNT"
    trap 'umount "$NF_MNT"' EXIT
}
finish() {
    umount "$NF_MNT"
    trap - EXIT
}
check() { e2fsck -fy "$@" "$NF_DISK" > /dev/null || [ $? -le 1 ]; }

start
mkdir "$NF_MNT/e" "$NF_MNT/small"
"$NF_SYSCALLS" encrypt "$NF_MNT/e" 2 i 0
"$NF_SYSCALLS" encrypt "$NF_MNT/small" 2 i 0
mkdir "$NF_MNT/e/sub"
echo 1 > "$NF_MNT/small/one"
echo 2 > "$NF_MNT/e/sub/two"
"$NF_SYSCALLS" many "$NF_MNT/e" "$(head -c 150 /dev/zero | tr '\0' a)" 20
sync
finish
# Read block by block from here on.
debugfs -w -R 'set_inode_field /e flags 0x80800' "$NF_DISK" 2> /dev/null
start
"$NF_SYSCALLS" encrypt "$NF_MNT/small" 2 i 0
rm "$NF_MNT/e/$(head -c 150 /dev/zero | tr '\0' a)7"
mv "$NF_MNT/e/$(head -c 150 /dev/zero | tr '\0' a)8" "$NF_MNT/e/sub/eight"
"$NF_SYSCALLS" many "$NF_MNT/e" b 10
sync
finish
check -D
start
"$NF_SYSCALLS" encrypt "$NF_MNT/small" 2 i 0
mv "$NF_MNT/e/b1" "$NF_MNT/e/b2"
"$NF_SYSCALLS" many "$NF_MNT/e/sub" "$(head -c 100 /dev/zero | tr '\0' c)" 30
sync
finish
check
tune2fs -E hash_alg=tea "$NF_DISK" > /dev/null
start
"$NF_SYSCALLS" encrypt "$NF_MNT/small" 2 i 0
echo three > "$NF_MNT/small/three"
sync
finish
check
yes | tune2fs -O ^dir_index "$NF_DISK" > /dev/null
check
start
"$NF_SYSCALLS" encrypt "$NF_MNT/small" 2 i 0
rm -r "$NF_MNT/e/sub"
echo four > "$NF_MNT/small/four"
sync
finish
