# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the tests of the daemon share: source it first, from the repository's root. Each daemon has a
# root, state and socket of its own below T; at the end, however it comes, all of them are killed by
# their ids, what was mounted below T is unmounted, and T is removed.
#
# Sets: T  the temporary directory, on a disk      BUILD, FIRSTLIGHTD, SNAPS  the programs
#       ROOT, SOCKET, LOG, keeper                  of the daemon that start() started last
set -euo pipefail
export LC_ALL=C
BUILD=$(realpath "${BUILD:-build}")
FIRSTLIGHTD=$BUILD/firstlightd
SNAPS_PROGRAM=$BUILD/go/snaps
T=$(mktemp -d /var/tmp/firstlight-test.XXXXXX)
ROOT=$T/root SOCKET=$T/socket LOG=$T/log
keeper=""
pids=()   # all that we started
mounts=() # all that we mounted
wrap=()   # comes before the daemon's program
flags=()  # come behind the daemon's own

say() { printf '%4d s  %s\n' $SECONDS "$*"; }

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

skip() {
	echo "SKIP: $*" >&2
	exit 77
}

running() {
	local state
	state=$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 1
	[[ -n $state && $state != [ZX] ]]
}

not() { ! "$@"; }

# wait_until SECONDS COMMAND…
wait_until() {
	local end=$(($(date +%s%N) + $1 * 1000000000))
	shift
	until "$@"; do
		(($(date +%s%N) < end)) || return 1
		sleep 0.05
	done
}

cleanup() {
	local status=$? pid dir
	trap - EXIT
	set +e
	if grep -hE 'ERROR: [A-Za-z]*Sanitizer|: runtime error: ' "$T"/log* >&2 2>/dev/null && ((status == 0)); then
		status=1
	fi
	if ((status != 0 && status != 77)); then
		for dir in "$T"/log*; do
			echo "--- $dir" >&2
			sed -n "1,20p" "$dir" >&2
			echo ... >&2
			tail -n 15 "$dir" >&2
		done
	fi
	for pid in "${pids[@]}"; do
		kill -KILL "$pid" 2>/dev/null
		wait "$pid" 2>/dev/null
	done
	for dir in "${mounts[@]}"; do
		wait_until 5 umount "$dir" 2>/dev/null || umount -l "$dir"
	done
	while read -r dir; do # FUSE mounts of keepers that were killed
		umount -l "$dir"
	done < <(awk -v t="$T/" 'index($5, t) == 1 && / - fuse / { print $5 }' /proc/self/mountinfo)
	rm -rf --one-file-system "$T"
	exit "$status"
}
trap cleanup EXIT
trap 'exit 143' TERM INT HUP PIPE

for program in "$FIRSTLIGHTD" "$SNAPS_PROGRAM"; do
	[[ -x $program ]] || fail "no $program"
done
[[ $(id -u) == 0 ]] || skip "must be root"

# launch: starts the daemon and does not wait; it dies with this script. Sets keeper.
launch() {
	setpriv --pdeathsig KILL "${wrap[@]}" "$FIRSTLIGHTD" --root "$ROOT" --state "$T/state" --address "$SOCKET" \
		--containerd "$T/containerd.sock" "${flags[@]}" >>"$LOG" 2>&1 &
	keeper=$!
	pids+=("$keeper")
}

# is_ready N: the log has said so N times.
is_ready() { (($(grep -c ' ready address=' "$LOG") >= $1)); }

times_ready() { grep -c ' ready address=' "$LOG" || true; }

# start: launches it, and waits until it is ready.
start() {
	local before=0
	[[ ! -e $LOG ]] || before=$(times_ready)
	launch
	wait_until 20 is_ready $((before + 1)) || fail "the daemon does not become ready"
}

# stop: SIGTERM; it ends well and soon, and leaves no worker.
stop() {
	local status=0 worker
	worker=$(worker)
	kill -TERM "$keeper"
	wait_until 20 not running "$keeper" || fail "the daemon does not end"
	wait "$keeper" || status=$?
	((status == 0)) || fail "the daemon ended with $status"
	[[ -z $worker ]] || not running "$worker" || fail "worker $worker is left over"
}

# ended_badly SECONDS: the daemon ends by itself, with an error.
ended_badly() {
	local status=0
	wait_until "$1" not running "$keeper" || fail "the daemon does not end"
	wait "$keeper" || status=$?
	((status != 0 && status < 128)) || fail "the daemon ended with $status"
}

worker() { pgrep -P "$keeper" || true; }

# new_worker OLD: another one than OLD is there.
new_worker() {
	local now
	now=$(worker)
	[[ -n $now && $now != "$1" ]]
}

logged() { grep -q -- "$1" "$LOG" || fail "the log does not say \"$1\""; }

# snaps COMMAND…: see tests/go/snaps
snaps() { timeout 60 "$SNAPS_PROGRAM" "$SOCKET" "$@"; }

# refused TEXT COMMAND…: a snaps command fails with this.
refused() {
	local text=$1
	shift
	! snaps "$@" >"$T/refused" 2>&1 || fail "snaps $* succeeded"
	grep -q -- "$text" "$T/refused" || fail "snaps $* said: $(cat "$T/refused")"
}

rss_kb() { sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$1/status"; }
