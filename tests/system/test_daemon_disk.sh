#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# A disk that is full, and one that answers EIO: clients get an error, reads go on, nothing that was
# acknowledged is lost, and service returns by itself when the disk does.
# shellcheck source=tests/system/lib.sh
. "$(dirname "$0")/lib.sh"

# writes_again: one snapshot more. Each try has a name of its own.
tries=0
writes_again() { snaps prepare "again-$((++tries))" >>"$T/acks" 2>"$T/again.err"; }

# agrees: List is what was acknowledged.
agrees() { snaps check <"$T/acks" || fail "$1: what was acknowledged is lost"; }

# no_orphans: as many directories as snapshots, and the trash gets empty.
no_orphans() {
	local dirs names
	dirs=$(find "$ROOT/snapshots" -mindepth 1 -maxdepth 1 | wc -l)
	names=$(snaps list | wc -l)
	((dirs == names)) || fail "$dirs directories, $names snapshots"
	wait_until 20 eval "[[ -z \$(ls -A '$ROOT/trash') ]]" || fail "the trash is not emptied"
}

say "a full disk"
mkdir "$T/disk"
mount -t tmpfs -o size=64m tmpfs "$T/disk" || skip "cannot mount a tmpfs"
mounts+=("$T/disk")
ROOT=$T/disk/root
start
snaps fill a 10 0 >"$T/acks"
worker=$(worker)
! head -c 100M /dev/zero >"$T/disk/ballast" 2>/dev/null || fail "the disk does not get full"
! snaps fill f 5000 4000 >>"$T/acks" 2>"$T/full.err" || fail "a full disk takes everything"
grep -q '^ResourceExhausted: .*No space left on device' "$T/full.err" || fail "said: $(cat "$T/full.err")"
for i in 1 2 3; do
	! snaps prepare "more-$i" >>"$T/acks" 2>"$T/full.err" || fail "a prepare succeeded"
	grep -Eq '^(ResourceExhausted|Unavailable): ' "$T/full.err" || fail "said: $(cat "$T/full.err")"
done
snaps stat a0 || fail "no reads on a full disk"
agrees "full"
[[ $(worker) == "$worker" ]] || fail "the worker ended"
truncate -s -1M "$T/disk/ballast" # works, but the database would not open: reads are kept
for i in 1 2 3 4 5; do
	snaps prepare "little-$i" >>"$T/acks" 2>/dev/null || true
	sleep 0.6
done
snaps stat a0 || fail "no reads on an almost full disk"
[[ $(worker) == "$worker" ]] || fail "the worker ended on an almost full disk"
rm "$T/disk/ballast"
wait_until 30 writes_again || fail "no writes after space was freed: $(cat "$T/again.err")"
agrees "after space was freed"
no_orphans
stop
start
agrees "after a restart"
no_orphans
stop

say "a disk that answers EIO"
ROOT=$T/root
[[ -f $BUILD/tests/eio_preload.so ]] || fail "no $BUILD/tests/eio_preload.so"
wrap=(env "LD_PRELOAD=$BUILD/tests/eio_preload.so" "EIO_ROOT=$ROOT" "EIO_FLAG=$T/flag"
	"ASAN_OPTIONS=${ASAN_OPTIONS-}:verify_asan_link_order=0")
start
snaps load e 8 >"$T/acks" 2>"$T/load.err" &
load=$!
pids+=("$load")
sleep 2
touch "$T/flag"
sleep 1
! snaps prepare while-eio >>"$T/eio.acks" 2>"$T/eio.err" || fail "a failing disk is not noticed"
grep -Eq '^(Unavailable|Internal): ' "$T/eio.err" || fail "said: $(cat "$T/eio.err")"
snaps list >"$T/list" || fail "no reads while the disk fails"
[[ -s $T/list ]] || fail "an empty list while the disk fails"
rm "$T/flag"
wait "$load" || fail "the load failed"
cat "$T/load.err"
! grep -q ' 0 errors' "$T/load.err" || fail "the load saw no error: nothing is tested"
cat "$T/eio.acks" >>"$T/acks"
wait_until 20 writes_again || fail "no writes after the disk came back: $(cat "$T/again.err")"
logged 'restart reason='
agrees "after EIO"
no_orphans
stop
wrap=()
start
agrees "after a restart"
no_orphans
stop
say "done"
