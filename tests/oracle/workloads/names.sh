#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Names of every kind of byte.
set -eu

long=$(head -c 255 /dev/zero | tr '\0' L)
for n in 'with space' ' leading' 'trailing ' 'colon:colon' 'star*' 'quest?' '[class]' 'a"b' \
    "a'b" 'back\slash' '-dash' '$dollar' '#hash' '%s%n' "$long" '...' '~' '{a,b}' \
    "$(printf 'new\nline')" "$(printf 'tab\ttab')" "$(printf 'esc\033[31m')" \
    "$(printf 'latin\351')" "$(printf '\377\376')" "$(printf 'utf8 \303\251\342\202\254')" \
    "$(printf 'bell\007')" "$(printf '\001\002')"; do
    printf '%s' "$n" > "./$n"
    mkdir "./$n.d" 2> /dev/null && printf x > "./$n.d/$n" || true
done
sync
for n in *; do
    case $n in LLL*|lost+found) ;; *) mv "./$n" "./$n+" ;; esac
done
sync
mkdir other
mv -- * other/ 2> /dev/null || true
sync
