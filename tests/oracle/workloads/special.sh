#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Devices, FIFOs, sockets, files without a name, flags.
set -eu

mknod char c 5 1
mknod block b 259 70000
mknod big c 300 1048575
mkfifo -m 622 fifo
"$NF_SYSCALLS" socket sock
sync
chmod 600 char
chown 5:6 fifo
mv block moved
sync
"$NF_SYSCALLS" tmpfile . linked 10000
sync
"$NF_SYSCALLS" orphan open-deleted 20000
sync
rm char
mv fifo sock
sync
echo x > flagged
"$NF_SYSCALLS" chattr flagged +10
sync
"$NF_SYSCALLS" chattr flagged -10
echo y >> flagged
# Its data goes through the journal, where that may be asked for.
echo z > journaled
"$NF_SYSCALLS" chattr journaled +4000 2> /dev/null || true
sync
"$NF_SYSCALLS" write journaled 0 10000 J
sync
"$NF_SYSCALLS" write journaled 5000 10 K
sync
chown 4000000000:3000000000 flagged
touch -d '2100-01-01 00:00:00.5 UTC' flagged
touch -d '1960-02-03 04:05:06.7 UTC' linked
sync
