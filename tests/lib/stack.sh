# SPDX-License-Identifier: GPL-2.0-or-later
# shellcheck shell=bash
#
# Functions for bash scripts that run the whole pipeline with private sockets
# in one directory. The caller sets stack_dir (private, removed by the caller),
# sources tests/guest/guest.sh first if it has a guest, and calls stack_stop.
#
#   stack_redis         a Redis on a Unix socket, without files; URI: $stack_redis
#   stack_streamer      nearfield-streamer on $stack_dir/streamer.sock
#   stack_export NODE NAME
#                       read-only NBD export of a block node of the guest
#   stack_bdi NAME OPTIONS...
#                       nearfield-bdi on $stack_dir/NAME.tap and the export NAME
#   stack_stop          ends all of them, by process id
#   stack_logs          the end of every log
#   wait_until SECONDS COMMAND...
#
# What a program says is in $stack_dir/PROGRAM.log; $stack_pid is the last one.

stack_bin=${NF_BUILD:-$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)/build}/bin
stack_pids=()
stack_exporting=

# wait_until SECONDS COMMAND...: polls; false when time is up.
wait_until() {
    local tries=$(($1 * 50))
    shift
    until "$@"; do
        tries=$((tries - 1))
        [ $tries -gt 0 ] || return 1
        sleep 0.02
    done
}

stack_fail() {
    echo "$(basename "$0"): $*" >&2
    return 1
}

stack_redis_answers() {
    [ "$(redis-cli -s "$stack_dir/redis.sock" ping 2> /dev/null)" = PONG ]
}

stack_redis() {
    stack_redis=unix:$stack_dir/redis.sock
    redis-server --port 0 --unixsocket "$stack_dir/redis.sock" --unixsocketperm 700 --save '' \
        --appendonly no --dir "$stack_dir" --loglevel warning > "$stack_dir/redis.log" 2>&1 \
        < /dev/null &
    stack_pid=$!
    stack_pids+=("$stack_pid")
    wait_until 10 stack_redis_answers || stack_fail "Redis does not start"
}

stack_streamer() {
    "$stack_bin/nearfield-streamer" --listen "unix:$stack_dir/streamer.sock" \
        --redis "$stack_redis" > "$stack_dir/streamer.log" 2>&1 < /dev/null &
    stack_pid=$!
    stack_pids+=("$stack_pid")
    wait_until 10 test -S "$stack_dir/streamer.sock" || stack_fail "the streamer does not start"
}

stack_export() {
    if [ -z "$stack_exporting" ]; then
        qmp '{"execute": "nbd-server-start", "arguments":
              {"addr": {"type": "unix", "data": {"path": "'"$stack_dir/nbd.sock"'"}}}}' > /dev/null
        stack_exporting=yes
    fi
    qmp '{"execute": "block-export-add", "arguments":
          {"type": "nbd", "id": "nf-'"$2"'", "node-name": "'"$1"'", "name": "'"$2"'"}}' > /dev/null
}

stack_bdi() {
    local name=$1
    shift
    "$stack_bin/nearfield-bdi" --tap "$stack_dir/$name.tap" --disk "$name" \
        --image "nbd+unix:///$name?socket=$stack_dir/nbd.sock" "$@" \
        > "$stack_dir/bdi-$name.log" 2>&1 < /dev/null &
    stack_pid=$!
    stack_pids+=("$stack_pid")
}

stack_gone() {
    ! kill -0 "$1" 2> /dev/null
}

stack_stop() {
    local pid
    for pid in "${stack_pids[@]}"; do
        kill "$pid" 2> /dev/null || true
    done
    for pid in "${stack_pids[@]}"; do
        wait_until 5 stack_gone "$pid" || kill -KILL "$pid" 2> /dev/null || true
        wait "$pid" 2> /dev/null || true
    done
    stack_pids=()
}

stack_logs() {
    local log
    for log in "$stack_dir"/*.log; do
        if [ -s "$log" ]; then
            grep -v -e oO0Oo -e 'Redis version' -e 'overcommit_memory' "$log" | tail -n 8 |
                sed "s|^|$(basename "$log" .log): |"
        fi
    done
}
