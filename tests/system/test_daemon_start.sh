#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
#
# firstlightd's command line, settings, start, and what stands in its way.
# shellcheck source=tests/system/lib.sh
. "$(dirname "$0")/lib.sh"

say "command line"
[[ $("$FIRSTLIGHTD" --version) == "firstlightd "[0-9]*.*.* ]] || fail "--version"
"$FIRSTLIGHTD" --help | grep -q -- '--address SOCKET' || fail "--help"

# bad TEXT ARGUMENT…: exit code 2, and the text on stderr.
bad() {
	local text=$1 status=0
	shift
	"$FIRSTLIGHTD" --root "$ROOT" --state "$T/state" "$@" >"$T/out" 2>"$T/err" || status=$?
	((status == 2)) || fail "$*: exit code $status"
	grep -qF -- "$text" "$T/err" || fail "$*: said $(cat "$T/err")"
	[[ ! -s $T/out && ! -e $ROOT ]] || fail "$*: did more than to complain"
}
bad '--frobnicate is not a flag' --frobnicate
bad '-x is not a flag' -x
bad 'unexpected argument now' now
bad '--root needs a value' --root
bad 'must be an absolute path' --root relative
bad '--log-level must be error, warn, info or debug' --log-level loud
bad "$T/none.toml" --config "$T/none.toml"
bad 'longer than a socket' --address "/$(printf 'x%.0s' {1..120})"

printf 'root = "/r"\n\n[snapshot]\nsnyc = true\n' >"$T/bad.toml"
bad "$T/bad.toml:4: unknown key snyc" --config "$T/bad.toml"
printf '# one\nlog_level = 3\n' >"$T/bad.toml"
bad "$T/bad.toml:2: log_level must be" --config "$T/bad.toml"
printf '[snapshot]\nsync = "yes"\n' >"$T/bad.toml"
bad "$T/bad.toml:2: sync must be" --config "$T/bad.toml"
printf 'root = "/r"\n[nonsense]\n' >"$T/bad.toml"
bad "$T/bad.toml:2: unknown table nonsense" --config "$T/bad.toml"
printf 'root = "/r\n' >"$T/bad.toml"
bad "$T/bad.toml:1: " --config "$T/bad.toml"

say "ready, and said so"
"$SNAPS_PROGRAM" "$T/notify" notify >"$T/notified" &
pids+=($!)
wait_until 5 test -S "$T/notify" || fail "nobody listens at NOTIFY_SOCKET"
export NOTIFY_SOCKET=$T/notify
printf 'log_level = "debug"\n[snapshot]\nsync = false\n' >"$T/good.toml"
flags=(--config "$T/good.toml")
start
flags=()
logged " ready address=$SOCKET root=$ROOT"
wait_until 5 grep -qx 'READY=1' "$T/notified" || fail "no READY=1: $(cat "$T/notified")"
[[ $(stat -c '%F %a' "$SOCKET") == 'socket 600' ]] || fail "the socket is $(stat -c '%F %a' "$SOCKET")"
[[ $(stat -c %a "$ROOT") == 700 ]] || fail "the root has mode $(stat -c %a "$ROOT")"
snaps prepare one
"$BUILD/firstlight" snapshots --address "$SOCKET" | awk 'NR == 2 { print $1, $3, $4 }' >"$T/out"
[[ $(cat "$T/out") == "active one -" ]] || fail "firstlight snapshots: $(cat "$T/out")"
first=$keeper first_socket=$SOCKET first_root=$ROOT

say "a second daemon"
LOG=$T/log2 SOCKET=$T/socket2
launch
ended_badly 15
logged "another firstlightd (pid $first) runs on $ROOT"
LOG=$T/log3 SOCKET=$first_socket ROOT=$T/root3
launch
ended_badly 15
logged "another server answers at $SOCKET"
keeper=$first ROOT=$first_root LOG=$T/log
running "$first" || fail "the first one ended"
snaps stat one
stop
wait_until 5 grep -qx 'STOPPING=1' "$T/notified" || fail "no STOPPING=1"
[[ ! -e $SOCKET ]] || fail "the socket stays"
unset NOTIFY_SOCKET

say "what lies at the socket's path"
start
kill -KILL "$keeper"
wait_until 5 not running "$keeper"
[[ -S $SOCKET ]] || fail "no socket is left over: nothing is tested"
start
snaps stat one
stop
echo precious >"$SOCKET"
launch
ended_badly 15
logged "$SOCKET is there and is not a socket"
[[ $(cat "$SOCKET") == precious ]] || fail "the file is gone"
rm "$SOCKET"

say "a socket of systemd's"
wrap=("$SNAPS_PROGRAM" "$SOCKET" activate)
start
snaps stat one
stop
[[ -S $SOCKET ]] || fail "systemd's socket was removed"
rm "$SOCKET"
wrap=()

# sums: of all files, their names and modes.
sums() {
	(
		cd "$ROOT"
		find . -type f -print0 | sort -z | xargs -0 sha256sum
		find . -printf '%p %m %T@\n' | sort
	)
}

# untouched TEXT: the daemon refuses this root and changes nothing in it.
untouched() {
	sums >"$T/before"
	: >"$LOG"
	launch
	ended_badly 15
	logged "$1"
	sums >"$T/after"
	cmp "$T/before" "$T/after" || fail "the root was changed: $(diff "$T/before" "$T/after")"
}

say "formats"
cp "$ROOT/format" "$T/format"
echo 'firstlight 2' >"$ROOT/format"
untouched 'was written by a newer firstlight (format 2; this one knows 1)'
echo 'something else' >"$ROOT/format"
untouched "$ROOT/format is damaged"
: >"$ROOT/format"
untouched "$ROOT/format is damaged"
cp "$T/format" "$ROOT/format"
start
snaps stat one
stop
say "done"
