#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 400
#
# Lazy images are read while the registry misbehaves in one way after the other: every read ends, no
# wrong byte is shown, and what can be read in the end is. Each phase has a new root for firstlightd, so
# that contents are cold.
#
# READERS: views that are read at the same time (8). PHASES: which ones.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"
. "$(dirname "$0")/faults.sh"

PHASES=${PHASES:-drop cut 500 429 stall mix again wrong mirror full inodes dead}

# phase_fault MODE EVERY: all reads are right in the end.
phase_fault() {
	local hit
	fresh
	faulty "mode=$1&every=$2&rate=$RATE" >/dev/null
	mount_cold "$BAD/test/sink:1"
	read_views || fail "$1: $(tail -n 3 "$T/complaints")"
	hit=$(faulty mode=ok)
	row "$1" "${hit% *}"
	no_errors "$1"
	((${hit% *} > 0)) || fail "$1: no request was hit"
	unmount_cold
}

# The image is removed and pulled again: what the kernel remembers of its contents is not to be believed.
phase_again() {
	local READERS=2
	fresh
	read_once again
	# containerd says when the image is gone, not when the snapshotter knows. What was looked up for a
	# pull stays for a minute, but not in a new worker.
	wait_until 30 layers_removed || fail "again: the layers stay"
	kill -KILL "$(firstlightd_workers | head -n 1)"
	wait_until 20 snapshot_made || fail "again: containerd does not find the worker"
	wait_until 30 nothing_kept || fail "again: contents stay"
	read_once again
}

read_once() {
	faulty "mode=ok&rate=$RATE" >/dev/null
	mount_cold "$BAD/test/sink:1"
	read_views || fail "$1: $(tail -n 3 "$T/complaints")"
	row "$1" 0
	no_errors "$1"
	unmount_cold
}

layers_removed() {
	(($(find "$FIRSTLIGHT_ROOT/layers" -type f | wc -l) < $(jq '.layers | length' "$(layout_blob "$layout" manifest)")))
}

nothing_kept() {
	[[ -z $(find "$FIRSTLIGHT_ROOT/objects" "$FIRSTLIGHT_ROOT/layers" -type f -print -quit) ]]
}

# largest_layer: its digest and size.
largest_layer() {
	jq -r '.layers | max_by(.size) | "\(.digest) \(.size)"' "$(layout_blob "$layout" manifest)"
}

# One byte of the blob is always wrong: what needs it cannot be read, all else can.
phase_wrong() {
	local digest size hit bad
	read -r digest size < <(largest_layer)
	fresh
	faulty "mode=flip&blob=$digest&at=$((size / 2))&rate=$RATE" >/dev/null
	mount_cold "$BAD/test/sink:1"
	read_views || fail "wrong: $(tail -n 3 "$T/complaints")"
	hit=$(faulty mode=ok)
	row wrong "${hit% *}"
	((${hit% *} > 0 && errors > 0)) || fail "wrong: no read has failed"
	bad=$(sed -n "s|^error: $T/view-[0-9]*/\(.*\) [0-9]*: input/output error$|\1|p" "$T/complaints" | sort -u)
	[[ $(grep -c '^error:' "$T/complaints") == $(grep -c 'input/output error$' "$T/complaints") ]] ||
		fail "wrong: another error than EIO: $(grep -v 'input/output error$' "$T/complaints" | head -n 3)"
	[[ $(wc -l <<<"$bad") == 1 ]] || fail "wrong: more than one file cannot be read: $bad"
	grep -q "wrong bytes layer=$digest chunk=[0-9]* host=" "$T"/firstlightd.*.log || fail "wrong: nothing is logged"
	grep -qE "$(failed_line "${digest#*:}" "$bad" sink) error=\"wrong bytes from $BAD\"" "$firstlightd_log" ||
		fail "wrong: no line says which read failed: $(grep -h 'read failed' "$firstlightd_log" | head -n 3)"
	say "wrong: only $bad cannot be read; logged: $(grep -h 'wrong bytes' "$firstlightd_log" | head -n 1 | cut -c 1-200)"
	unmount_cold
}

# The same with every body, from a mirror that is asked first.
phase_mirror() {
	local hit
	fresh
	hosts "$REGISTRY" "$BAD" "$REGISTRY"
	faulty "mode=flip&every=1" >/dev/null
	mount_cold "$REGISTRY/test/sink:1"
	read_views || fail "mirror: $(tail -n 3 "$T/complaints")"
	hit=$(faulty mode=ok)
	row mirror "${hit% *}"
	no_errors mirror
	((${hit% *} > 0)) || fail "mirror: it was not asked"
	grep -q "wrong bytes layer=.* host=$BAD" "$firstlightd_log" || fail "mirror: nothing is logged"
	unmount_cold
}

# on_small_disk INODES: a new root for firstlightd, on a file system of its own.
on_small_disk() {
	[[ -z $firstlightd_pid ]] || stop_firstlightd
	unmount_below "$FIRSTLIGHT_ROOT"
	truncate -s 200M "$T/disk.img"
	mkfs.ext4 -q -m 0 -O ^has_journal -N "$1" "$T/disk.img"
	mkdir -p "$FIRSTLIGHT_ROOT"
	mount -o loop "$T/disk.img" "$FIRSTLIGHT_ROOT"
	start_firstlightd
	wait_until 20 snapshot_made || fail "containerd does not find firstlightd again"
}

all_here() {
	(($(grep -c 'layer complete' "$firstlightd_log") == $(jq '.layers | length' "$(layout_blob "$layout" manifest)")))
}

# no_room_left PHASE: the disk takes no byte, or no file, more.
no_room_left() {
	local n
	mkdir "$FIRSTLIGHT_ROOT/ballast"
	if [[ $1 == full ]]; then
		! head -c 1G /dev/zero >"$FIRSTLIGHT_ROOT/ballast/0" 2>/dev/null || fail "the disk does not get full"
		return
	fi
	for ((n = 0; n < 5000; n++)); do
		: 2>/dev/null >"$FIRSTLIGHT_ROOT/ballast/$n" || return 0
	done
	fail "the disk does not get full"
}

# The disk takes nothing more while most is missing: all is read, out of memory; with room again all is kept.
phase_no_room() {
	on_small_disk "$2"
	faulty "mode=ok&rate=$((RATE / 16))" >/dev/null
	mount_cold "$BAD/test/sink:1"
	no_room_left "$1"
	faulty mode=ok >/dev/null
	read_views || fail "$1: $(tail -n 3 "$T/complaints")"
	row "$1" 0
	no_errors "$1"
	grep -q 'contents cannot be written, reads get them from memory' "$firstlightd_log" || fail "$1: all could be written"
	all_here && fail "$1: all is here, they say"
	rm -r "$FIRSTLIGHT_ROOT/ballast"
	unmount_cold_views
	wait_until 90 all_here || fail "$1: with room again it does not come"
	"$BUILD/firstlight" verify --address "$FIRSTLIGHT_SOCKET" >/dev/null || fail "$1: contents are bad"
	ctr image rm --sync "$image" >/dev/null
	stop_firstlightd
	unmount_below "$FIRSTLIGHT_ROOT"
	rm "$T/disk.img"
}

phase_full() { phase_no_room full 20000; }

phase_inodes() { phase_no_room inodes 2000; }

# A registry that is dead: who waits can be killed, and who waits long enough gets EIO. That takes a
# minute: with a firstlightd and an image of its own (the labels of a config that both had would keep the
# others' snapshots), beside the other phases.
phase_dead() {
	local file began waiter reader ms status=0
	# The snapshotter that containerd knows besides. All files and names are apart.
	SNAPSHOTTER=stargz T=$T/dead NAME=$NAME-dead READERS=2
	FIRSTLIGHT_SOCKET=$STARGZ_SOCKET FIRSTLIGHT_ROOT=$T/firstlight FIRSTLIGHT_STATE=$T/firstlight-state
	firstlightd_pid="" firstlightd_starts=0
	mkdir -p "$T/fifo" "$T/runc"
	start_badregistry
	hosts "$BAD" "$BAD"
	fresh
	faulty "mode=ok&rate=$((RATE / 8))" >/dev/null
	mount_cold "$BAD/test/dead:1"
	faulty mode=dead >/dev/null
	file=$(find "$COPY" -type f -size +1M -printf '%s %P\n' | sort -rn | sed -n '1s/^[0-9]* //p')
	began=$(date +%s%N)
	cat "$T/view-0/$file" >"$T/dead.out" 2>"$T/dead.errors" &
	reader=$!
	cat "$T/view-1/$file" >/dev/null 2>&1 &
	waiter=$!
	sleep 1
	running "$waiter" || fail "dead: the reader does not wait"
	ms=$(($(date +%s%N) / 1000000))
	kill -KILL "$waiter"
	wait "$waiter" 2>/dev/null || true
	ms=$(($(date +%s%N) / 1000000 - ms))
	((ms < 1000)) || fail "dead: the killed reader took $ms ms to end"
	say "dead: a killed reader ended after $ms ms"
	wait "$reader" || status=$?
	ms=$((($(date +%s%N) - began) / 1000000))
	((status != 0)) || fail "dead: the file could be read"
	grep -q 'Input/output error' "$T/dead.errors" || fail "dead: $(<"$T/dead.errors")"
	((ms > 55000 && ms < 66000)) || fail "dead: EIO came after $ms ms"
	cmp -s "$T/dead.out" <(head -c "$(stat -c %s "$T/dead.out")" "$COPY/$file") || fail "dead: wrong bytes"
	grep -qE "$(failed_line "[0-9a-f]{64}" "$file" dead) error=\"not here after 60 s: .+\"" "$firstlightd_log" ||
		fail "dead: no line says why: $(grep 'read failed' "$firstlightd_log" | head -n 3)"
	say "dead: EIO after $ms ms; logged: $(grep -h 'read failed' "$firstlightd_log" | head -n 1)"
	faulty mode=ok >/dev/null
	sleep 2 # FETCH_FAILED_MS
	cmp "$T/view-0/$file" "$COPY/$file" || fail "dead: cannot be read when the registry lives again"
	unmount_cold
	stop_firstlightd
}

# failed_line DIGEST PATH NAME: what the log says of a read that failed, as an expression.
failed_line() {
	echo "read failed object=[0-9]+ chunk=[0-9]+ offset=[0-9]+ layer=sha256:$1 ref=$BAD/test/$3:1 path=\"$2\""
}

start_dead() {
	(
		trap 'status=$?; ((status == 0)) || show_logs; exit "$status"' EXIT
		phase_dead
	) &
	dead_pid=$!
}

end_dead() {
	wait "$dead_pid" || fail "dead: failed, see above"
	cp "$T/dead/firstlightd.1.log" "$T/firstlightd.dead.log"
}

start_faults
push_image "$(lazy_image sink zstd)" test/dead:1
[[ " $PHASES " != *" dead "* ]] || start_dead
for phase in $PHASES; do
	case $phase in
	stall) phase_fault stall 20 ;;
	drop | cut | 500 | 429 | mix) phase_fault "$phase" 3 ;;
	dead) end_dead ;;
	*) "phase_$phase" ;;
	esac
done
[[ -z $firstlightd_pid ]] || stop_firstlightd
kill "$bad_pid"
cat "$T/table"
say "ok"
