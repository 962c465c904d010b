#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 420
#
# Readers of a lazy image while the worker is killed again and again: every read ends, none fails, every
# byte is right. Each round pulls the image anew, so that its contents are cold.
#
# KILLS: how many, all rounds together (20). READERS: views that are read at the same time (8).
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"

KILLS=${KILLS:-20}
READERS=${READERS:-8}

view_image() {
	"$BUILD/go/viewmount" -address "$CONTAINERD_SOCKET" -snapshotter "$@"
}

# sums DIR: what is to be the same each time.
sums() {
	(cd "$1" && find . -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0 -r sha256sum)
}

# read_all N: the view N, from a place of its own in the list; its errors are kept.
read_all() {
	(cd "$T/mnt-$1" && tail -n "+$((1 + $1 * files / READERS))" "$T/names" | xargs -d '\n' -r sha256sum &&
		head -n "$(($1 * files / READERS))" "$T/names" | xargs -d '\n' -r sha256sum) >"$T/read-$1" 2>"$T/errors-$1"
}

kill_worker() {
	local worker
	worker=$(firstlightd_workers | head -n 1)
	[[ -z $worker ]] || kill -KILL "$worker" 2>/dev/null || return 0
	killed=$((killed + 1))
	sleep "0.$((RANDOM % 4))$((RANDOM % 10))"
}

pull() {
	lazypull "$SNAPSHOTTER" "$image" >/dev/null 2>&1
}

one_round() {
	local i pids=() pid
	# containerd needs a moment to find the last worker.
	wait_until 30 pull || fail "the image cannot be pulled"
	for ((i = 0; i < READERS; i++)); do
		mkdir -p "$T/mnt-$i"
		view_image "$SNAPSHOTTER" "$image" "$T/mnt-$i" || fail "no view"
	done
	for ((i = 0; i < READERS; i++)); do
		read_all "$i" &
		pids+=($!)
	done
	while pid=$(jobs -rp | grep -Fx -f <(printf '%s\n' "${pids[@]}") | head -n 1) && [[ -n $pid ]]; do
		kill_worker
	done
	for ((i = 0; i < READERS; i++)); do
		wait "${pids[i]}" || fail "reader $i: $(head -n 3 "$T/errors-$i")"
		LC_ALL=C sort -k2 "$T/read-$i" | cmp -s - "$T/wanted" || fail "reader $i has read something else"
		view_image "$SNAPSHOTTER" -u "$T/mnt-$i"
	done
	wait_until 30 ctr image rm --sync "$image" >/dev/null || fail "the image cannot be removed"
}

need awk cmp
start_registry
registry_settings "$REGISTRY"
start_firstlightd
start_containerd
image=$REGISTRY/test/sink:1-esgz
push_image "$(lazy_image sink esgz)" test/sink:1-esgz
lazypull overlayfs "$image" >/dev/null || fail "no image on overlayfs"
mkdir "$T/eager"
view_image overlayfs "$image" "$T/eager"
# sha256sum writes names with a backslash in another way.
sums "$T/eager" | grep -v "^\\\\" | grep -vE ' \./(stargz\.index\.json|\.prefetch\.landmark|\.no\.prefetch\.landmark)$' |
	LC_ALL=C sort -k2 >"$T/wanted"
view_image overlayfs -u "$T/eager"
sed 's/^[0-9a-f]*  //' "$T/wanted" >"$T/names"
files=$(wc -l <"$T/names")
ctr image rm --sync "$image" >/dev/null
killed=0 rounds=0
while ((killed < KILLS)); do
	one_round
	rounds=$((rounds + 1))
	say "$rounds rounds, $killed kills"
done
say "$((rounds * READERS * files)) files read while $killed workers were killed: no error, no wrong byte"
stop_firstlightd
