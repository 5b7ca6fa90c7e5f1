#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Labels, capabilities, ACLs and flags by the tools that people use.
set -eu

mkdir -p bin etc var/log
for f in ping dumpcap tcpdump; do head -c 9000 /dev/zero | tr '\0' "${f%"${f#?}"}" > bin/$f; done
setcap cap_net_raw+ep bin/ping
setcap cap_net_raw,cap_net_admin=eip bin/dumpcap
sync
# As a first boot with SELinux labels everything.
for f in $(find . -xdev ! -name lost+found | sort); do
    setfattr -h -n security.selinux -v "system_u:object_r:default_t:s0" "$f"
done
sync
setfattr -n security.selinux -v "system_u:object_r:bin_t:s0" bin bin/*
setfattr -n security.selinux -v "system_u:object_r:var_log_t:s0" var/log
sync
setfacl -R -m u:1000:rx,g:1001:r,m::rwx bin
setfacl -d -m u:1000:rwX,g:adm:rX var/log
for n in 1 2 3; do echo $n > var/log/log$n; mkdir var/log/d$n; done
sync
# A write takes the capability away.
echo x >> bin/ping
cp -a bin/dumpcap bin/dumpcap.new
mv bin/dumpcap.new bin/dumpcap
setcap -r bin/dumpcap
setfacl -b bin/tcpdump
sync
# More entries than fit into the inode.
i=0
acl=
while [ $i -lt 60 ]; do acl=$acl,u:$((2000 + i)):rw; i=$((i + 1)); done
setfacl -m "${acl#,}" etc
sync
for flag in d A S D; do chattr +$flag var/log; done
chattr +i bin/tcpdump
chattr +a var/log/log1
echo more >> var/log/log1
chattr +j var/log/log2 2> /dev/null || true
echo more >> var/log/log2
sync
chattr -i bin/tcpdump
chattr -a var/log/log1
rm bin/tcpdump var/log/log1
chattr -S -D var/log
sync
