#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Cold starts: from the start of a pull to the first line that the container prints, over an emulated link.
# The registry is on one side of it; containerd, the snapshotters and the client are on the other. Every
# run begins with new, empty directories and with the page cache dropped (the client's and runc's programs
# are read again first); the registry keeps its blobs in memory.
#
#   overlayfs:org   the image as it was built, unpacked by containerd; the client fetches three layers at a
#                   time and unpacks each as soon as it is there
#   stargz:esgz     eStargz by "ctr-remote image convert", not optimized for the command
#   firstlight:esgz the same image
#
# Options: --quick, --runs N  2 or N runs of each instead of 5
#          --images "..."    kinds of tests/e2e/image.sh
#          --modes "..."     SNAPSHOTTER:FORMAT as above; the first is what ratios refer to
#          --links "..."     RTT_MS:RATE_MBIT
# Every run goes to $BUILD/bench/cold.jsonl. E2E_CACHE: where images are kept ($BUILD/e2e).
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../../tests/e2e/lib.sh"
. "$(dirname "$0")/../../tests/e2e/lazy.sh"

runs=5
images="python redis nodejs nginx postgresql openjdk"
modes="overlayfs:org stargz:esgz firstlight:esgz"
links="1:1000 50:100"
while (($# > 0)); do
	case $1 in
	--quick) runs=2 ;;
	--runs) runs=$2; shift ;;
	--images) images=$2; shift ;;
	--modes) modes=$2; shift ;;
	--links) links=$2; shift ;;
	*) echo "usage: $0 [--quick] [--runs N] [--images ...] [--modes ...] [--links ...]" >&2; exit 2 ;;
	esac
	shift
done
readonly ADDRESS=10.77.0.1:5000
OUT=$BUILD/bench/cold.jsonl
link_pid=""

# prepare_images: converts what is missing, with servers outside of any link.
prepare_images() {
	local image mode
	start_containerd
	for image in $images; do
		for mode in $modes; do
			lazy_image "$image" "${mode#*:}" >/dev/null
		done
	done
	stop_client
}

start_link() {
	mkdir -p "$T/link"
	"$BUILD/bench/link" "$T/link" "${1%:*}" "${1#*:}" >"$T/link.log" 2>&1 &
	link_pid=$!
	wait_until 30 grep -qw ready "$T/link.log" || fail "no link: $(cat "$T/link.log")"
	LINK=$(sed -n 's/^ready: //p' "$T/link.log")
	server_net=(nsenter --net="$T/link/server")
	client_net=(nsenter --net="$T/link/client")
}

stop_link() {
	stop_process "$registry_pid" 5 || true
	registry_pid=""
	stop_process "$link_pid" 5 || true
	server_net=() client_net=()
}

push_images() {
	local image mode
	mountpoint -q "$T/registry" || { mkdir -p "$T/registry"; mount -t tmpfs tmpfs "$T/registry"; }
	start_registry "$ADDRESS"
	for image in $images; do
		for mode in $modes; do
			push_image "$(lazy_image "$image" "${mode#*:}")" "bench/$image:${mode#*:}"
		done
	done
}

# stop_client: containerd and the snapshotters end, and all that they had goes.
stop_client() {
	local pid
	[[ -z $containerd_pid ]] || stop_process "$containerd_pid" 20 || true
	containerd_pid=""
	for pid in $(our_shims); do
		kill -KILL "$pid" 2>/dev/null || true
	done
	stop_stargz
	[[ -z $firstlightd_pid ]] || stop_firstlightd
	unmount_below "$T/containerd"
	unmount_below "$T/stargz"
	unmount_below "$FIRSTLIGHT_ROOT"
	rm -rf --one-file-system "$T/containerd" "$T/stargz" "$STARGZ_SOCKET" "$FIRSTLIGHT_ROOT" "$FIRSTLIGHT_STATE"
}

start_client() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
	cat "$(type -P runc)" "$(type -P containerd-shim-runc-v2)" "$BUILD/go/lazypull" >/dev/null
	case $1 in
	stargz) start_stargz "$ADDRESS" ;;
	firstlight)
		registry_settings "$ADDRESS"
		firstlightd_args+=(--log-level ${COLD_LOG:-info})
		start_firstlightd
		;;
	esac
	start_containerd
}

# one_run LINK IMAGE MODE NUMBER
one_run() {
	local mode=$3
	start_client "${mode%:*}"
	lazypull "${mode%:*}" "$ADDRESS/bench/$2:${mode#*:}" -run -stop -interface link0 >"$T/run.out" ||
		fail "$2 does not run on $mode: $(tail -n 2 "$T/lazypull.log")"
	jq -c --arg link "$1" --arg measured "$LINK" --arg image "$2" --arg mode "$mode" --argjson run "$4" \
		'{$link, $measured, $run, $mode} + . + {image: $image, remote: ([.layers[] | select(.state == "remote")] | length)}' \
		"$T/report.json" >>"$OUT"
	stop_client
}

need ctr-remote jq nsenter ip
for tool in go/lazypull bench/link firstlightd; do
	[[ -x $BUILD/$tool ]] || fail "$BUILD/$tool is not built"
done
mkdir -p "$(dirname "$OUT")"
: >"$OUT"
prepare_images
for link in $links; do
	start_link "$link"
	say "link $link: $LINK"
	push_images
	for ((run = 1; run <= runs; run++)); do
		say "run $run of $runs"
		for image in $images; do
			for mode in $modes; do
				one_run "$link" "$image" "$mode" $run
			done
		done
	done
	stop_link
done
jq -rs --arg base "${modes%% *}" -f "$(dirname "$0")/cold.jq" "$OUT"
echo "runs: $OUT"
