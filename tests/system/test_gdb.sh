#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
#
# tools/dev/gdb.py lists the suspended tasks of a live daemon and of its core, with stacks that reach
# from the wait to the task's own function.
set -euo pipefail
export LC_ALL=C
build=${BUILD:-build}

skip() {
	echo "$*"
	exit 77
}

fail() {
	echo "FAIL: $*"
	cat "$dir"/*.out "$dir/log"
	exit 1
}

[ "$(id -u)" = 0 ] || skip "needs root: the daemon tries mounts"
type -P gdb >/dev/null || skip "gdb is not installed"
gdb -nx -batch -ex 'python import gdb.unwinder' >/dev/null 2>&1 || skip "this gdb has no Python"

dir=$(mktemp -d /var/tmp/firstlight-gdb.XXXXXX)
keeper=
# shellcheck disable=SC2317 # called by the trap
end() {
	[ -z "$keeper" ] || kill -TERM "$keeper" 2>/dev/null || true
	[ -z "$keeper" ] || wait "$keeper" 2>/dev/null || true
	rm -rf "$dir"
}
trap end EXIT
trap 'exit 143' INT TERM HUP

: >"$dir/config.toml"
mkdir "$dir/root"
"$build/firstlightd" --config "$dir/config.toml" --root "$dir/root" --state "$dir/state" \
	>"$dir/log" 2>&1 &
keeper=$!
for ((i = 0; i < 200; i++)); do
	grep -qw ready "$dir/log" && break
	sleep 0.1
done
worker=$(sed -n 's/.* ready .*worker=\([0-9]*\).*/\1/p' "$dir/log")
[ -n "$worker" ] || fail "firstlightd is not ready"

# look NAME ARGUMENT...: gdb with our commands; its output goes to NAME.out.
look() {
	local name=$1
	shift
	timeout 60 gdb -nx -batch -iex 'set debuginfod enabled off' "$@" >"$dir/$name.out" 2>&1 || true
}

# check NAME: both tasks are there, and each stack runs from task_suspend to task_main.
check() {
	local task between
	for task in accept_task:io_accept reaper:waitq_wait; do
		between=${task#*:}
		task=${task%:*}
		grep -q "^0x[0-9a-f]* suspended  <$task> daemon/" "$dir/$1.out" || fail "$1: $task is not listed"
		awk -v task="<$task>" '$3 == task { show = 1 } show { print } /^$/ { show = 0 }' "$dir/$1.out" |
			sed -E 's/^#[0-9]+ +(0x[0-9a-f]+ in )?//; s/ \(.*//' >"$dir/stack"
		tr '\n' ' ' <"$dir/stack" | grep -Eq " task_suspend .*$between .*${task} .*task_main " ||
			fail "$1: the stack of $task: $(tr '\n' ' ' <"$dir/stack")"
	done
	if grep -q 'Python Exception' "$dir/$1.out"; then fail "$1: an exception"; fi
}

look live -p "$worker" -x tools/dev/gdb.py -ex 'task list' -ex 'task apply all bt'
if grep -qi 'ptrace: operation not permitted' "$dir/live.out"; then skip "ptrace is not allowed here"; fi
check live
kill -0 "$worker" || fail "the worker did not survive"

# One stack, by address.
address=$(awk '$3 == "<reaper>" { print $1; exit }' "$dir/live.out")
look one -p "$worker" -x tools/dev/gdb.py -ex "task bt $address" -ex 'task nonsense'
grep -q ' reaper (' "$dir/one.out" || fail "task bt $address"
grep -q 'task list | task bt' "$dir/one.out" || fail "wrong use is not explained"

# The shadow memory of sanitizers makes cores of terabytes.
if [ -z "${SAN-}" ]; then
	look save -p "$worker" -ex "generate-core-file $dir/core"
	[ -s "$dir/core" ] || fail "no core"
	look core "$build/firstlightd" "$dir/core" -x tools/dev/gdb.py -ex 'task apply all bt'
	check core
fi
