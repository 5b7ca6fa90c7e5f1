#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# oracle: raw
#
# What is written in place, outside a journal: by debugfs, tune2fs, e2label and e2fsck;
# mounts and umounts between. A sync marks where nothing is half done.
set -eu

edit() { debugfs -w -f - "$NF_DISK" > /dev/null 2>&1; }
change() { edit; sync; }
check() { e2fsck -fy "$@" "$NF_DISK" > /dev/null || [ $? -le 1 ]; sync; }
work() { # name
    mount -o init_itable=0 "$NF_DISK" "$NF_MNT"
    trap 'umount "$NF_MNT"' EXIT
    mkdir -p "$NF_MNT/$1/sub"
    for i in $(seq 60); do echo "$1 $i" > "$NF_MNT/$1/file-$i"; done
    ln "$NF_MNT/$1/file-1" "$NF_MNT/$1/second"
    ln -s "$(printf '%0200d' 7)" "$NF_MNT/$1/long"
    setfattr -n user.note -v "$1" "$NF_MNT/$1"
    sync
    umount "$NF_MNT"
    trap - EXIT
    sync
}

work a
printf 'written by debugfs' > "${TMPDIR:-/tmp}/nf-in-place.$$"
change << END
cd a
mkdir made
write ${TMPDIR:-/tmp}/nf-in-place.$$ written
symlink short target
ln file-2 made/linked
set_inode_field made/linked links_count 2
END
rm "${TMPDIR:-/tmp}/nf-in-place.$$"
check
change << 'END'
set_inode_field a/file-3 mode 0100600
set_inode_field a/file-3 uid 77
set_inode_field a/file-4 mtime @1000000000
set_inode_field a/file-4 ctime @1000000000
ea_set a/file-5 user.by debugfs
END
edit << 'END'
rm a/file-6
unlink a/file-7
kill_file a/file-8
rmdir a/sub
END
check # what has no name any more goes to lost+found
tune2fs -L label -c 17 -i 30d -e remount-ro -r 100 "$NF_DISK" > /dev/null
sync
work b
e2label "$NF_DISK" other
tune2fs -o acl,user_xattr -E hash_alg=tea "$NF_DISK" > /dev/null
sync
check -D
# Damage that e2fsck repairs by moving and dropping things; the kernel cannot read it.
edit << 'END'
clri b/file-10
set_inode_field b/file-11 links_count 5
set_inode_field b/file-12 size 100000
freei b/file-13
unlink b/file-14
END
check
work c
check
