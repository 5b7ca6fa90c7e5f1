#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A tree followed by rsync: new files beside, in place, sparse, deleted before
# and after, hard links.
# oracle: size=128M --sample=12
set -eu

mkdir from
cp -r /usr/include/linux/netfilter from/
head -c 3000000 /dev/zero | tr '\0' r > from/large
ln from/large from/second
mkfifo from/fifo
setfattr -n user.rsync -v 1 from/large
sync
rsync -aHAX from/ to/
sync
change() {
    for f in from/netfilter/*_[a-m]*.h; do echo "change $1" >> "$f"; done
    printf "$1" | dd of=from/large bs=1 seek=$(($1 * 100001)) conv=notrunc 2> /dev/null
    rm -f from/netfilter/nf_*"$1"*
    mv from/netfilter from/netfilter.$1
    mkdir from/netfilter
    cp from/netfilter.$1/x*.h from/netfilter/
    rm -rf from/netfilter.$(($1 - 1))
    sync
}
change 1
rsync -aHAX --no-whole-file --inplace --delete from/ to/
sync
change 2
rsync -aHAX --no-whole-file --delete-after --fsync from/ to/
change 3
rsync -aHAX --no-whole-file --delete-before --partial --backup --suffix=.bak from/ to/
sync
change 4
rsync -aHAX --whole-file --delay-updates --delete from/ to/
rsync -aS --append-verify from/large to/more
rsync -a --link-dest=../to from/ snapshot/
sync
rsync -a --delete "$(mktemp -d -p .)/" to/
sync
