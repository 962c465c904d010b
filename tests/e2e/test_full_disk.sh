#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
#
# Commands on a full disk, the daemon's and then containerd's: each that cannot do its work says so in one
# line with a hint, and does it when there is room again; what was here is not lost.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"

FIRSTLIGHT=$BUILD/firstlight
export FIRSTLIGHT_ADDRESS=$FIRSTLIGHT_SOCKET COLUMNS=80
need jq

fl() {
	timeout --foreground 120 "$FIRSTLIGHT" "$@"
}

# small_disk DIRECTORY MIB: a file system of its own, where overlay's upper directories can be.
small_disk() {
	mkdir -p "$1"
	mount -t tmpfs -o "size=$2m" tmpfs "$1" || skip "cannot mount a tmpfs"
}

# fill_up DIRECTORY [KIB]: but for so much.
fill_up() {
	local left=${2:-0}
	! head -c 2G /dev/zero >"$1/ballast" 2>/dev/null || fail "$1 does not get full"
	truncate -s "-${left}K" "$1/ballast"
}

# no_room COMMAND...: fails because of the disk, in one line and a hint.
no_room() {
	local status=0
	fl "$@" >"$T/out" 2>"$T/err" || status=$?
	[[ $status == 1 ]] || fail "$*: status $status: $(cat "$T/out" "$T/err")"
	[[ $(grep -c '^firstlight: ' "$T/err") == 1 ]] || fail "$*: not one line: $(cat "$T/err")"
	grep -qi 'no space left' "$T/err" || fail "$*: says $(cat "$T/err")"
	grep -q '^hint: .*\(room\|space\)' "$T/err" || fail "$*: no hint: $(cat "$T/err")"
	say "$1: $(sed -n 's/^firstlight: //p' "$T/err")"
}

works() {
	fl "$@" >"$T/out" 2>"$T/err" || return
}

# works_again COMMAND...: soon after there is room.
works_again() {
	wait_until 60 works "$@" || fail "$*: with room again: $(cat "$T/out" "$T/err")"
}

# runs IMAGE: a container reads its files.
runs() {
	run_container --rm --null-io "$1" "$NAME-run" /bin/sh -c 'cat /bin/* >/dev/null' || fail "$1 does not run"
}

start_registry
small_disk "$FIRSTLIGHT_ROOT" 160
small_disk "$T/containerd" 96
registry_settings "$REGISTRY"
firstlightd_args+=(--containerd "$CONTAINERD_SOCKET")
start_firstlightd
start_containerd
push_image "$(lazy_image small esgz)" t/lazy:1
push_image "$(lazy_image small org)" t/org:1
push_image "$(lazy_image small zstd)" t/other:1
fl pull --wait "$REGISTRY/t/lazy:1" >/dev/null || fail "pull"

say "the daemon's disk is full"
object=$(find "$FIRSTLIGHT_ROOT/objects" -type f -size +8k | sort | head -n 1)
fill_up "$FIRSTLIGHT_ROOT"
no_room pull "$REGISTRY/t/org:1"
no_room pull --wait "$REGISTRY/t/other:1"
fl verify >"$T/out" 2>"$T/err" || fail "verify only reads: $(cat "$T/err")"
fl images >/dev/null || fail "images only reads"
dd if=/dev/urandom of="$object" bs=1 count=64 seek=100 conv=notrunc status=none
status=0
fl verify --repair >"$T/out" 2>"$T/err" || status=$?
say "verify --repair: $status: $(tr '\n' ' ' <"$T/out") $(tr '\n' ' ' <"$T/err")"
((status == 0 || status == 1)) || fail "verify --repair: status $status"
if ((status)); then
	grep -qi 'no space left' "$T/out" "$T/err" || fail "verify --repair: $(cat "$T/out" "$T/err")"
fi
fl gc >"$T/out" 2>"$T/err" || grep -qi 'no space left' "$T/err" || fail "gc: $(cat "$T/err")"
say "gc: $(cat "$T/out" "$T/err")"
rm "$FIRSTLIGHT_ROOT/ballast"
works_again pull "$REGISTRY/t/org:1"
works_again pull --wait "$REGISTRY/t/other:1"
works_again verify --repair
works_again gc
[[ $(fl verify --json | jq -s '.[-1].bad') == 0 ]] || fail "what was bad is not repaired"
for image in lazy org other; do
	runs "$REGISTRY/t/$image:1"
done

say "containerd's disk is full"
for image in lazy org other; do
	ctr image rm --sync "$REGISTRY/t/$image:1" >/dev/null
done
fill_up "$T/containerd"
no_room pull "$REGISTRY/t/org:1"
no_room pull "$REGISTRY/t/lazy:1"
cp "$T/containerd.toml" "$T/containerd/config.toml" 2>/dev/null && fail "there is room on containerd's disk"
rm "$T/containerd/ballast"
cp "$T/containerd.toml" "$T/containerd/config.toml"
cp "$T/containerd.toml" "$T/before.toml"
works_again pull "$REGISTRY/t/org:1"
works_again pull "$REGISTRY/t/lazy:1"
fill_up "$T/containerd"
no_room containerd-config --address /run/other.sock --merge "$T/containerd/config.toml" --in-place --force
cmp "$T/before.toml" "$T/containerd/config.toml" || fail "the file is changed"
[[ $(ls "$T/containerd") == *ballast* && -z $(find "$T/containerd" -maxdepth 1 -name '*config.toml?*') ]] ||
	fail "something is left over: $(ls -a "$T/containerd")"
rm "$T/containerd/ballast"
works_again containerd-config --address /run/other.sock --merge "$T/containerd/config.toml" --in-place --force
cmp -s "$T/before.toml" "$T/containerd/config.toml" && fail "the file is not changed"
for image in lazy org; do
	runs "$REGISTRY/t/$image:1"
done
stop_firstlightd
