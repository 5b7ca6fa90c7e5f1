#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Real packages unpacked, configured, upgraded, removed and purged by dpkg.
# oracle: size=256M --sample=12 prepare=packages
set -eu

mkdir -p r/var/lib/dpkg/info r/var/lib/dpkg/updates r/var/lib/dpkg/triggers r/var/log
: > r/var/lib/dpkg/status
: > r/var/lib/dpkg/available
run() {
    dpkg --root="$PWD/r" --log="$PWD/r/var/log/dpkg.log" --force-depends --force-confdef \
        --force-remove-essential --force-remove-protected --no-triggers "$@" < /dev/null
}
run --install "$NF_PREPARED"/old/*.deb
echo changed by hand >> r/etc/bash.bashrc
sync
run --force-confnew --unpack "$NF_PREPARED/new/bash.deb" "$NF_PREPARED/new/e2fsprogs.deb"
run --force-confnew --configure --pending
run --force-confold --install "$NF_PREPARED"/new/*.deb
sync
run --remove util-linux e2fsprogs
run --purge util-linux
run --install "$NF_PREPARED/new/util-linux.deb"
run --force-downgrade --install "$NF_PREPARED/old/perl-base.deb"
run --purge bash perl-base libc-bin
sync
