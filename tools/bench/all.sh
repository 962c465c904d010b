#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make bench, make bench-smoke: all parts in one run, and its page. The full set takes at most 60 minutes and
# the smoke set 5 once the images are there (make bench-images; the first time they are built first). A part
# that fails or takes too long is told, and the others go on.
#
# Options: --smoke
# BENCH_RUN: the run's directory ($BUILD/bench/TIME). BENCH_CONTAINERD: for the EROFS snapshotter (see cold.sh; Debian
# sid's, when it is not set).
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

here=$(dirname "$(realpath "$0")")
broken=()
export BENCH_RUN=${BENCH_RUN:-$BUILD/bench/$(date -u +%Y-%m-%dT%H%M%S)}

# part MINUTES SCRIPT OPTION...
part() {
	local name=${2%.sh} log
	mkdir -p "$BENCH_RUN"
	log=$BENCH_RUN/$name.log
	say "$name, at most $1 minutes: $log"
	# In the foreground only the script is told to end: it cleans up with what it has started.
	timeout --foreground --kill-after=60 "$1m" "$here/$2" "${@:3}" >>"$log" 2>&1 && return
	say "$name did not end well: $(tail -n 1 "$log")"
	broken+=("$name")
}

full() {
	# EROFS snapshotters begin with containerd 2.1. Without one that mode is left out, and the page says so.
	[[ -v BENCH_CONTAINERD ]] || BENCH_CONTAINERD=$("$here/../dev/containerds.sh" "$BUILD/containerds" sid) || BENCH_CONTAINERD=""
	export BENCH_CONTAINERD
	part 240 images.sh
	start=$SECONDS
	part 36 cold.sh --runs 2 --minutes 34
	part 8 cold.sh --runs 1 --minutes 6 --modes "overlayfs erofs stargz stargz-opt firstlight" \
		--links "1:1000=python,redis,nginx 150:50=python,redis,nginx"
	part 3 steady.sh --rounds 2
	part 3 density.sh
	part 4 chaos.sh --faults "none kill 500 stall disk"
	part 5 snapshots.sh --rounds 3 --seconds 2 --clients "1 32"
	part 1 convert.sh --runs 1 --images redis
}

smoke() {
	part 60 images.sh --images redis --formats esgz
	start=$SECONDS
	part 3 cold.sh --runs 1 --minutes 2 --images redis --modes "overlayfs stargz firstlight curl"
	part 2 steady.sh --rounds 1 --large 32 --files 1000 --tests "read-128k stat open exec"
	part 2 density.sh --counts "1 10" --images redis
	part 2 chaos.sh --image redis --faults "kill 500" --modes "overlayfs firstlight"
	part 2 snapshots.sh --rounds 1 --seconds 1 --many 1000 --clients 8
}

case $* in
"") full ;;
--smoke) smoke ;;
*) echo "usage: $0 [--smoke]" >&2; exit 2 ;;
esac
say "measured in $(((SECONDS - start) / 60)) min $(((SECONDS - start) % 60)) s"
"$here/report" "$BENCH_RUN"
((${#broken[@]} == 0)) || die "did not end well: ${broken[*]}"
