#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
#
# fs/fill.c on a real FUSE mount, with objects that fill_serve makes up: what is read, through an overlay too;
# passthrough; workers that die in the middle of reads; readers that are killed.
# shellcheck source=tests/system/lib.sh
. "$(dirname "$0")/lib.sh"

SERVE=$BUILD/tests/fill_serve
KILLS=${KILLS:-50}
[[ -x $SERVE ]] || fail "no $SERVE"
[[ -c /dev/fuse ]] || skip "no /dev/fuse"
mkdir "$T/objects" "$T/fill" "$T/meta" "$T/merged"

key() { printf '%s%062d' "$1" "$2"; }
path() { printf '%s/%s%062d' "$1" "$1" "$2"; }

# number FIELD: of fill_serve's statistics: 1 the worker's pid, 2 starts, 3 reads, 4 reads that waited.
number() { od -A n -t u8 -w32 "$T/stats" | awk -v i="$1" '{ print $i }'; }

serve() {
	"$SERVE" "$T/fill" "$T/objects" "$T/stats" "$@" >>"$LOG" 2>&1 &
	server=$!
	pids+=("$server")
	mounts=("$T/fill")
	wait_until 10 started 1 || { ! grep -q 'dev/fuse\|mount' "$LOG" || skip "$(tail -n 1 "$LOG")"; fail "no worker"; }
}

started() { [[ -s $T/stats ]] && (($(number 2) >= $1)); }

# ended: the server ends well and takes its mount away.
ended() {
	local status=0
	kill -TERM "$server"
	wait_until 10 not running "$server" || fail "the server does not end"
	wait "$server" || status=$?
	((status == 0)) || fail "the server ended with $status"
	! mountpoint -q "$T/fill" || fail "the mount stays"
	mounts=()
}

new_start() {
	local pid=$1 signal=$2 before
	before=$(number 2)
	kill -"$signal" "$pid"
	wait_until 10 started $((before + 1)) || fail "no new worker"
}

# forget FILE: its pages leave the cache.
forget() { dd if="$1" iflag=nocache count=0 status=none; }

same() { cmp "$1" "$2" || fail "$1 differs"; }

for kind in aa bb cc dd; do
	head -c 3000001 /dev/urandom >"$T/objects/$(key $kind 1)"
done
: >"$T/objects/$(key aa 2)"
for i in {10..17}; do
	head -c 1000000 /dev/urandom >"$T/objects/$(key bb "$i")"
done

say "the mount"
serve
[[ $(find "$T/fill" -maxdepth 1 | wc -l) == 257 ]] || fail "the root does not list its directories"
[[ -z $(ls "$T/fill/aa") ]] || fail "objects are listed"
[[ $(stat -c '%s %a %h %F' "$T/fill/$(path bb 1)") == '3000001 444 1 regular file' ]] || fail "stat of an object"
[[ $(stat -f -c %b "$T/fill") == $(stat -f -c %b "$T/objects") ]] || fail "statfs"
! cat "$T/fill/aa/$(key aa 77)" 2>/dev/null || fail "an object that is not there was read"
! touch "$T/fill/x" 2>/dev/null || fail "the mount can be written"
! (: >>"$T/fill/$(path bb 1)") 2>/dev/null || fail "an object can be written"
for kind in aa bb dd; do
	same "$T/fill/$(path $kind 1)" "$T/objects/$(key $kind 1)"
done
same "$T/fill/$(path aa 2)" /dev/null
(($(number 4) > 0)) || fail "nothing was waited for"

say "passthrough"
grep -q 'passthrough=1' "$LOG" && passthrough=1 || passthrough=0
# direct FILE: reading it does not ask the daemon.
direct() {
	local before
	((passthrough)) || return 0
	before=$(number 3)
	forget "$1"
	cat "$1" >/dev/null
	[[ $(number 3) == "$before" ]] || fail "$1: $(($(number 3) - before)) reads reached the daemon"
}
# soon_direct FILE: the kernel tells of the last close a moment later.
soon_direct() {
	sleep 0.5
	direct "$1"
}
direct "$T/fill/$(path aa 1)"
if ((passthrough)) && (trap - EXIT; direct "$T/fill/$(path dd 1)") 2>/dev/null; then
	fail "an incomplete object was read directly"
fi

say "opens before and after an object is complete"
exec 5<"$T/fill/$(path dd 1)"
cmp <(head -c 100000 <&5) <(head -c 100000 "$T/objects/$(key dd 1)") || fail "the first open"
touch "$T/objects/complete"
same "$T/fill/$(path dd 1)" "$T/objects/$(key dd 1)"
exec 6<"$T/fill/$(path dd 1)"
new_start "$(number 1)" KILL
exec 7<"$T/fill/$(path dd 1)"
forget "$T/fill/$(path dd 1)"
for fd in 6 7; do
	cmp - "$T/objects/$(key dd 1)" <&$fd || fail "descriptor $fd"
done
cmp - <(tail -c +100001 "$T/objects/$(key dd 1)") <&5 || fail "the first open, later"
exec 5<&- 6<&- 7<&-
soon_direct "$T/fill/$(path dd 1)"

say "an open with passthrough outlives the worker"
exec 5<"$T/fill/$(path aa 1)"
new_start "$(number 1)" KILL
exec 6<"$T/fill/$(path aa 1)" || fail "a second open after a new worker"
for fd in 5 6; do
	cmp - "$T/objects/$(key aa 1)" <&$fd || fail "descriptor $fd"
done
exec 5<&- 6<&-
direct "$T/fill/$(path aa 1)"

say "below an overlay"
for kind in aa bb cc dd; do
	truncate -s 3000001 "$T/meta/$kind"
	setfattr -n trusted.overlay.metacopy "$T/meta/$kind"
	setfattr -n trusted.overlay.redirect -v "/$(path $kind 1)" "$T/meta/$kind"
done
mkdir "$T/data" "$T/data/aa"
if mount -t overlay overlay -o "ro,lowerdir=$T/meta::$T/data::$T/fill,metacopy=on,redirect_dir=on" "$T/merged"; then
	mounts=("$T/merged" "${mounts[@]}")
	for kind in aa bb dd; do
		same "$T/merged/$kind" "$T/objects/$(key $kind 1)"
	done
	direct "$T/merged/aa"
	new_start "$(number 1)" KILL
	same "$T/merged/bb" "$T/objects/$(key bb 1)"
	umount "$T/merged"
	mounts=("${mounts[@]:1}")
else
	say "this kernel has no data-only layers"
fi

# gone SECONDS: the reader has ended, by a signal.
gone() {
	local status=0
	wait_until "$1" not running "$reader" || fail "the reader hangs"
	wait "$reader" || status=$?
	((status > 128)) || fail "the reader ended with $status"
}

say "a chunk that never comes"
for signal in KILL TERM INT; do
	for how in "cat" "dd iflag=direct bs=4096 status=none"; do
		(
			trap - INT
			exec $how <"$T/fill/$(path cc 1)" >"$T/out"
		) &
		reader=$!
		pids+=("$reader")
		sleep 0.3
		running "$reader" || fail "a read of what is not there ended"
		[[ $signal != INT ]] || { kill -TERM "$reader"; gone 1; continue; }
		kill -"$signal" "$reader"
		gone 1
		[[ ! -s $T/out ]] || fail "something was read"
	done
done

say "$KILLS workers die in the middle of reads"
# read_on I: reads its own object and one that all read, until stopped.
read_on() {
	local n=0 own="$T/fill/$(path bb "$1")" all="$T/fill/$(path bb 1)"
	while [[ ! -e $T/stop ]]; do
		cmp "$own" "$T/objects/$(key bb "$1")" || exit 1
		cmp "$all" "$T/objects/$(key bb 1)" || exit 1
		cmp "$T/fill/$(path aa 1)" "$T/objects/$(key aa 1)" || exit 1
		forget "$own"
		forget "$all"
		n=$((n + 1))
	done
	echo "$n" >"$T/rounds.$1"
}
readers=()
for i in {10..17}; do
	read_on "$i" >"$T/log.reader.$i" 2>&1 &
	readers+=($!)
done
pids+=("${readers[@]}")
before=$(number 4)
for ((i = 0; i < KILLS; i++)); do
	sleep 0.0$((i % 7 + 1))
	new_start "$(number 1)" $([[ $((i % 5)) == 4 ]] && echo TERM || echo KILL)
done
touch "$T/stop"
for pid in "${readers[@]}"; do
	wait_until 30 not running "$pid" || fail "a reader hangs"
	wait "$pid" || fail "a reader failed: $(cat "$T"/log.reader.*)"
done
say "$(cat "$T"/rounds.* | paste -sd+ | bc 2>/dev/null || cat "$T"/rounds.*) rounds, $(($(number 4) - before)) reads that waited"
soon_direct "$T/fill/$(path aa 1)"
ended

say "without passthrough"
rm "$T/stats"
serve nopassthrough
before=$(number 3)
same "$T/fill/$(path aa 1)" "$T/objects/$(key aa 1)"
(($(number 3) > before)) || fail "no read reached the daemon"
new_start "$(number 1)" KILL
forget "$T/fill/$(path aa 1)"
same "$T/fill/$(path aa 1)" "$T/objects/$(key aa 1)"
ended

say "no mount is left"
! grep -q "$T" /proc/self/mountinfo || fail "$(grep "$T" /proc/self/mountinfo)"
say "done"
