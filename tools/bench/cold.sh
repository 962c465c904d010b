#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make bench-cold: cold starts over an emulated link, from the start of a pull to the first line that the
# container prints and to the moment when it is ready, as its image says (a line of its output, a port that
# answers, an HTTP request). The registry is on one side of the link; containerd, the snapshotters and the
# client are on the other. Every sample begins with new, empty directories and the page cache dropped (the
# client's and runc's programs are read again first); the registry keeps its blobs in memory.
#
#   scratch  the image before its update (v1), with nothing here
#   update   the image after it (v2), in the same daemons: all that wants to come of v1 has come (for that the
#            link has neither delay nor limit), its container has ended, connections are closed and
#            the page cache is dropped again
#   again    the updated image once more, in firstlight and overlayfs: all of it is on the disk, and nothing in
#            the page cache. In mode firstlight its profiles are removed before: nothing is foreseen
#
# Modes are the lines of the table below: a snapshotter and a format of tests/e2e/lazy.sh.
#   overlayfs   the image as it was built, unpacked by containerd; the client fetches three layers at a
#               time and unpacks each as soon as it is there
#   stargz      eStargz by "ctr-remote image convert", not optimized for the command
#   stargz-opt  by "ctr-remote image optimize", which has run the same command
#   firstlight, firstlight-opt: the same two images. The update follows a start that was learnt from
#   firstlight-learnt  stargz's image; v1 was started once before, over a link without delay or limit: the node has
#               its profile, but nothing else (the image is removed, its contents are gone)
#   curl        the floor, in the first round only: the same layers as overlayfs (an update: those that v1 has not), to nowhere
#   curl-opt    the first bytes of each layer, as far as its optimized image wants them fetched first
#   erofs       containerd 2.1's EROFS snapshotter; only with BENCH_CONTAINERD, a directory with its programs. Its own
#               differ needs a newer mkfs.erofs than Debian 12 has: layers are unpacked, then made into images
#
# Options: --runs N          rounds over all images (3)
#          --minutes N       no sample begins later than this after the first one (60)
#          --images "..."    kinds of tests/e2e/image.sh
#          --modes "..."
#          --links "..."     RTT_MS:RATE_MBIT[=IMAGE,...]; with images, only these
# Samples: cold.jsonl in the run's directory (see lib.sh).
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../../tests/e2e/lib.sh"
. "$(dirname "$0")/../../tests/e2e/lazy.sh"
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/links.sh"

declare -A MODE=(
	[overlayfs]="overlayfs org"
	[erofs]="erofs org"
	[stargz]="stargz esgz"
	[stargz-opt]="stargz opt"
	[firstlight]="firstlight esgz"
	[firstlight-opt]="firstlight opt"
	[firstlight-learnt]="firstlight esgz"
	[curl]="curl org"
	[curl-opt]="curl opt"
)
readonly SAMPLE_SECONDS=240 QUIET_SECONDS=60

runs=3 minutes=60 images=$ALL_IMAGES links="50:100"
modes="overlayfs stargz stargz-opt firstlight firstlight-learnt curl curl-opt"
while (($# > 0)); do
	case $1 in
	--runs) runs=$2; shift ;;
	--minutes) minutes=$2; shift ;;
	--images) images=$2; shift ;;
	--modes) modes=$2; shift ;;
	--links) links=$2; shift ;;
	*) echo "usage: $0 [--runs N] [--minutes N] [--images ...] [--modes ...] [--links ...]" >&2; exit 2 ;;
	esac
	shift
done

snapshotter_of() {
	echo "${MODE[$1]% *}"
}

format_of() {
	echo "${MODE[$1]#* }"
}

# formats: of all modes, each once.
formats() {
	local mode
	for mode in $modes; do
		format_of "$mode"
	done | sort -u
}

# check_modes: takes out, loudly, what cannot be here.
check_modes() {
	local mode kept=""
	for mode in $modes; do
		[[ -n ${MODE[$mode]-} ]] || fail "no such mode: $mode"
		if [[ $mode == erofs ]] && ! use_newer_containerd; then
			say "SKIP: mode erofs: BENCH_CONTAINERD is no directory with containerd 2.1's programs, or mkfs.erofs is missing"
			record cold <<<'{"mode": "erofs", "failed": "left out: no containerd 2.1 here"}'
			continue
		fi
		kept+=" $mode"
	done
	modes=$kept
}

use_newer_containerd() {
	[[ -x ${BENCH_CONTAINERD-}/containerd && -x $BENCH_CONTAINERD/containerd-shim-runc-v2 ]] &&
		type -P mkfs.erofs >/dev/null
}

# needed_bytes IMAGE VERSION: of the layers that its start needs.
needed_bytes() {
	local file
	file=$(lazy_image "$1$([[ $2 == v2 ]] || echo -v1)" opt)/needed
	awk '{ sum += $2 } END { print sum + 0 }' "$file" 2>/dev/null || echo null
}

# facts WHAT VERSION: the sample's head, as JSON. Reads the variables of one_image.
facts() {
	jq -nc --arg link "$link" --arg measured "$LINK" --arg image "$image" --arg mode "$mode" --argjson run "$run" \
		--arg start "$1" --arg cache dropped '$ARGS.named'
}

# start_image WHAT VERSION: one start, recorded.
start_image() {
	local log=$T/lazypull.log
	: >"$log"
	lazypull "$(snapshotter_of "$mode")" "$ADDRESS/$(ref_of "$image" "$2" "$(format_of "$mode")")" -run -stop \
		-ready label -interface link0 -watch "$WATCHED" -access "$T/registry.access" >"$T/run.out" ||
		fail "$1: $(tail -n 1 "$log") $(tail -n 1 "$T/run.out")"
	jq -c --argjson head "$(facts "$1")" --argjson needed "$(needed_bytes "$image" "$2")" \
		'$head + . + {image: $head.image, $needed, remote: ([.layers[] | select(.state == "remote")] | length)}' \
		"$T/report.json" >"$T/sample.json"
	record cold <"$T/sample.json"
}

is_learnt() {
	grep -q ' learnt ' "$firstlightd_log"
}

is_loaded() {
	grep -q 'watched by BPF' "$firstlightd_log"
}

no_contents() {
	[[ -z $(find "$FIRSTLIGHT_ROOT/objects" "$FIRSTLIGHT_ROOT/partial" -type f -print -quit) ]]
}

# learn_first: a start that leaves nothing but its profile.
learn_first() {
	local ref
	ref=$ADDRESS/$(ref_of "$image" v1 "$(format_of "$mode")")
	wait_until 20 is_loaded || fail "the programs of BPF are not loaded"
	link_fast
	lazypull firstlight "$ref" -run -stop -ready label >"$T/run.out" || fail "learning: $(tail -n 1 "$T/lazypull.log") $(tail -n 1 "$T/run.out")"
	wait_until 60 is_learnt || fail "the start was not learnt from"
	link_slow
	ctr image rm --sync "$ref" >/dev/null
	wait_until 60 no_contents || fail "contents stay"
	cold_caches
}

start_both() {
	trap end_client EXIT
	trap 'exit 143' TERM
	if [[ $mode == erofs ]]; then
		PATH=$BENCH_CONTAINERD:$PATH
	fi
	begin_client "$(snapshotter_of "$mode")" "$ADDRESS"
	[[ $mode != *-learnt ]] || learn_first
	start_image scratch v1
	link_fast
	link_quiet $QUIET_SECONDS
	link_slow
	cold_caches
	start_image update v2
	[[ $mode != firstlight* && $mode != overlayfs ]] || start_again
}

is_over() {
	(($(grep -c 'start over ' "$firstlightd_log") >= $1))
}

start_again() {
	local starts
	link_fast
	link_quiet $QUIET_SECONDS
	if [[ $mode == firstlight* ]]; then # the one before is learnt from
		starts=2
		[[ $mode != *-learnt ]] || starts=3
		wait_until 60 is_over $starts || fail "the start is not over"
	fi
	[[ $mode != firstlight ]] || "$BUILD/firstlight" profile rm --address "$FIRSTLIGHT_SOCKET" \
		"$ADDRESS/bench/$image" >/dev/null || fail "the profiles stay"
	link_slow
	cold_caches
	start_image again v2
}

# wanted VERSION FORMAT: the image's layers that are wanted: URL and how many bytes.
wanted() {
	local kind=$image layout name=$1-$2
	[[ $1 == v2 ]] || kind+=-v1
	layout=$(lazy_image "$kind" "$2")
	name=$(ref_of "$image" "$1" "$2")
	if [[ $2 == opt ]]; then
		awk '$2 > 0' "$layout/needed"
	else
		jq -r '.layers[] | "\(.digest) \(.size)"' "$(layout_blob "$layout" manifest)"
	fi | awk -v url="http://$ADDRESS/v2/${name%:*}/blobs/" '{ print url $1, $2 }'
}

# fetch_floor WHAT VERSION: asks for the layers, three at a time, and throws them away.
fetch_floor() {
	local format start before requests
	format=$(format_of "$mode")
	wanted "$2" "$format" >"$T/wanted"
	if [[ $1 == update ]]; then
		wanted v1 "$format" | awk 'NR == FNR { had[$1] = 1; next } !($1 in had)' - "$T/wanted" >"$T/new"
		mv "$T/new" "$T/wanted"
	fi
	requests=$(wc -l <"$T/wanted")
	before=$(link_bytes)
	start=$(now_ms)
	awk '{ print $1, "0-" $2 - 1 }' "$T/wanted" | "${client_net[@]}" xargs -r -P 3 -n 2 \
		sh -c 'exec curl -sSf --max-time 200 -r "$1" -o /dev/null "$0"' 2>"$T/curl.err" || fail "$1: $(tail -n 1 "$T/curl.err")"
	jq -c --argjson ms $(($(now_ms) - start)) --argjson bytes $(($(link_bytes) - before)) --argjson requests "$requests" \
		'. + {pulled_ms: $ms, ready_ms: $ms, received_bytes: $bytes, $requests}' <<<"$(facts "$1")" | record cold
}

floor_both() {
	fetch_floor scratch v1
	fetch_floor update v2
}

one_image() {
	local mode what
	for mode in $modes; do
		what=start_both
		if [[ $(snapshotter_of "$mode") == curl ]]; then
			((run == 1)) || continue
			what=floor_both
		fi
		((SECONDS < deadline)) || { late=1; return; }
		sample cold "$(facts both)" $SAMPLE_SECONDS $what
	done
}

one_link() {
	local link=${1%%=*} only="" image format run
	[[ $1 != *=* ]] || only=${1#*=}
	start_link "$link"
	say "link $link: $LINK"
	start_memory_registry "$ADDRESS"
	for image in ${only:+${only//,/ }} $([[ -n $only ]] || echo "$images"); do
		for format in $(formats); do
			push_version "$image" v1 "$format"
			push_version "$image" v2 "$format"
		done
	done
	for ((run = 1; run <= runs; run++)); do
		say "link $link, run $run of $runs"
		for image in ${only:+${only//,/ }} $([[ -n $only ]] || echo "$images"); do
			one_image
		done
	done
	stop_link
}

need ctr-remote jq nsenter ip curl
for tool in go/lazypull bench/link firstlightd; do
	[[ -x $BUILD/$tool ]] || fail "$BUILD/$tool is not built"
done
bench_open
check_modes
start_containerd
for image in $images $(grep -o '=[^ ]*' <<<"$links" | tr '=,' '  '); do
	for format in $(formats); do
		lazy_image "$image-v1" "$format" >/dev/null
		lazy_image "$image" "$format" >/dev/null
	done
done
end_client
late="" deadline=$((SECONDS + minutes * 60))
for spec in $links; do
	one_link "$spec"
done
[[ -z $late ]] || say "the time was over before all was measured: the report tells how many samples there are"
echo "samples: $RUN/cold.jsonl"
