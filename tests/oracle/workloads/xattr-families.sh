#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every family of extended attributes: ACLs that are inherited, SELinux labels,
# capabilities; in the inode, in a block, in a shared block, and moving between
# these.
set -eu
PATH=$PATH:/usr/sbin:/sbin

value() { head -c "$1" /dev/zero | tr '\0' "$2"; }

# SELinux labels, as setfiles gives them to a whole system.
mkdir -p etc/conf.d
echo root > etc/passwd
ln -s passwd etc/link
mkfifo etc/fifo
mknod etc/null c 1 3
sync
for f in etc etc/conf.d etc/passwd etc/link etc/fifo etc/null; do
    setfattr -h -n security.selinux -v 0x73797374656d5f753a6f626a6563745f723a6574635f743a733000 $f
done
sync
setfattr -n security.selinux -v 0x73797374656d5f753a6f626a6563745f723a736861646f775f743a733000 \
    etc/passwd
mv etc/passwd etc/conf.d/
setfattr -h -x security.selinux etc/link
sync

# Capabilities; a new owner and a write take them away.
for f in ping tcpdump lost; do echo program > $f; done
setcap cap_net_raw=ep ping
setcap cap_net_raw,cap_net_admin=eip tcpdump
setcap cap_sys_admin=p lost
sync
setcap -r tcpdump
chown 7:7 ping
echo more >> lost
sync
# With the user namespace's root in it (version 3).
setcap -n 1000 cap_chown=ep tcpdump
sync

# ACLs: given, inherited over levels, masked by chmod, taken away.
mkdir acl
setfacl -m u:1000:rwx,g:2000:r-x acl
setfacl -d -m u:1001:rw-,g:2001:---,o::r-- acl
sync
echo 1 > acl/file
mkdir -p acl/sub/deeper
echo 2 > acl/sub/deeper/file
ln -s file acl/link
mkfifo acl/fifo
sync
chmod 640 acl/file
chmod g-rwx acl/sub
setfacl -m u:1002:r acl/sub/deeper/file
sync
setfacl -x u:1002 acl/sub/deeper/file
setfacl -k acl/sub/deeper
echo 3 > acl/sub/deeper/without
mv acl/file acl/sub/deeper/
sync
setfacl -R -b acl
sync
# More entries than the inode has room for.
setfacl -m "$(for i in $(seq 40); do printf 'u:%d:r,' $((5000 + i)); done)u:1:r" acl/sub
sync
setfacl -b acl/sub

# From the inode into a block and back; replaced by longer and shorter values.
echo x > grows
for n in 1 20 60 100 300 900 300 60 1; do
    setfattr -n user.grows -v "$(value $n g)" grows
    sync
done
setfattr -n user.second -v "$(value 50 s)" grows
setfattr -n trusted.third -v "$(value 200 t)" grows
setfattr -n security.fourth -v "$(value 100 f)" grows
setfattr -n user.second -v "$(value 300 s)" grows
sync
setfattr -x user.grows grows
sync
setfattr -x trusted.third grows
setfattr -n user.fifth -v '' grows
sync
setfattr -n "user.$(value 250 n)" -v long-name grows
sync
for n in user.second security.fourth user.fifth "user.$(value 250 n)"; do setfattr -x $n grows; done
sync

# One block for many; each in turn leaves it, and the last one writes it in place.
for i in 1 2 3 4 5; do
    echo $i > shared$i
    setfattr -n user.shared -v "$(value 400 h)" shared$i
done
sync
setfattr -n user.shared -v "$(value 400 i)" shared5
sync
setfattr -x user.shared shared4
sync
rm shared3
sync
setfattr -n user.more -v "$(value 100 m)" shared2
sync
setfattr -n user.more -v "$(value 100 n)" shared1
sync
setfattr -n user.more -v "$(value 100 o)" shared1
setfattr -n user.shared -v "$(value 10 p)" shared1
sync
# The same in one transaction: joined and left.
cp shared5 shared6
setfattr -n user.shared -v "$(value 400 i)" shared6
setfattr -x user.shared shared5
sync
setfattr -n user.shared -v "$(value 400 q)" shared6
sync

# On the root, on what a rename replaces, on what is removed with them.
setfattr -n user.root -v yes .
setfacl -m u:1000:rx .
mv grows shared6
rm -r acl etc
sync
setfattr -x user.root .
setfacl -b .
sync
