#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make bench-convert: how long a conversion takes, by `firstlight convert` and by stargz-snapshotter's
# `ctr-remote image convert`, in one run on the same images.
#
# What is measured is local source to local result: an OCI layout to a new OCI layout for firstlight, an image
# in containerd's content store to a new one there for ctr-remote. Both verify what they read, write every
# blob and sync it. Importing and removing is not measured. The source is in the page cache; results are
# removed and the file system is synced between runs; runs alternate, and so does who goes first. Memory: the peak
# resident sizes of the program and, for ctr-remote, of containerd in that run, added; firstlight's has the
# mapped source in it.
#
# Equal: the images, both processors, gzip's level (6, ctr-remote is told so), zstd's (3, its default, which
# in Go's library is the setting of that name). Not equal: chunks of zstd:chunked are 1 MiB in firstlight's,
# 4 MiB in ctr-remote's, and more and smaller frames cost a little size.
#
# Options: --quick, --runs N  2 or N runs of each instead of 5
#          --images "..."     kinds of tests/e2e/image.sh
#          --formats "..."    zstd:chunked, estargz
# Samples: convert.jsonl in the run's directory (see lib.sh). E2E_CACHE: where images are kept ($BUILD/e2e).
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../../tests/e2e/lib.sh"
. "$(dirname "$0")/../../tests/e2e/lazy.sh"
. "$(dirname "$0")/lib.sh"

runs=5 images="python nodejs redis" formats="zstd:chunked estargz"
while (($# > 0)); do
	case $1 in
	--quick) runs=2 ;;
	--runs) runs=$2; shift ;;
	--images) images=$2; shift ;;
	--formats) formats=$2; shift ;;
	*) echo "usage: $0 [--quick] [--runs N] [--images ...] [--formats ...]" >&2; exit 2 ;;
	esac
	shift
done
readonly GZIP_LEVEL=6

from() {
	echo "bench.invalid/$1:from"
}

# timed COMMAND...: elapsed seconds, processor seconds and the peak in KiB are in $T/time.
timed() {
	/usr/bin/time -o "$T/time" -f '%e %U %S %M' timeout 600 "$@" >"$T/command.out" 2>&1 ||
		fail "$1: $(tail -n 3 "$T/command.out")"
}

# containerd_cpu: seconds so far.
containerd_cpu() {
	awk -v hz="$(getconf CLK_TCK)" '{ print ($14 + $15) / hz }' "/proc/$containerd_pid/stat"
}

# note BY IMAGE FORMAT RUN SIZE CPU PEAK_KB: a sample, with what timed has left; CPU and PEAK_KB are containerd's.
note() {
	local elapsed user system peak
	read -r elapsed user system peak <"$T/time"
	jq -nc --arg by "$1" --arg image "$2" --arg format "$3" --argjson run "$4" --argjson size "$5" \
		--argjson s "$elapsed" --argjson user "$user" --argjson system "$system" --argjson client_kb "$peak" \
		--argjson server_cpu "$6" --argjson server_kb "$7" \
		'{$by, $image, $format, $run, seconds: $s, cpu_seconds: ($user + $system + $server_cpu), $size,
		  peak_kb: ($client_kb + $server_kb)}' | record convert
}

layers_size() {
	jq '[.layers[].size] | add'
}

# by_firstlight IMAGE FORMAT RUN
by_firstlight() {
	local layout
	layout=$(lazy_image "$1" org)
	rm -rf "$T/made"
	sync -f "$T"
	timed "$BUILD/firstlight" convert -f "$2" "oci:$layout" "oci:$T/made"
	note firstlight "$1" "$2" "$3" "$(layers_size <"$(layout_blob "$T/made" manifest)")" 0 0
	rm -rf "$T/made"
}

# by_ctr_remote IMAGE FORMAT RUN
by_ctr_remote() {
	local to=bench.invalid/$1:to options=(--zstdchunked) cpu digest
	[[ $2 != estargz ]] || options=(--estargz --estargz-compression-level "$GZIP_LEVEL")
	sync -f "$T"
	echo 5 >"/proc/$containerd_pid/clear_refs"
	cpu=$(containerd_cpu)
	timed ctr-remote --address "$CONTAINERD_SOCKET" image convert "${options[@]}" --oci "$(from "$1")" "$to"
	digest=$(ctr image ls "name==$to" | awk 'NR == 2 { print $3 }')
	note ctr-remote "$1" "$2" "$3" "$(ctr content get "$digest" | layers_size)" \
		"$(containerd_cpu | awk -v before="$cpu" '{ print $1 - before }')" \
		"$(awk '/^VmHWM/ { print $2 }' "/proc/$containerd_pid/status")"
	ctr image rm --sync "$to" >/dev/null
}

need ctr-remote jq /usr/bin/time
[[ -x $BUILD/firstlight ]] || fail "$BUILD/firstlight is not built"
bench_open
start_containerd
for image in $images; do
	layout=$(lazy_image "$image" org)
	tar -c -C "$layout" . | ctr image import --no-unpack --base-name "bench.invalid/$image" - >/dev/null
	ctr image tag "bench.invalid/$image:latest" "$(from "$image")" >/dev/null
	cat "$layout"/blobs/sha256/* >/dev/null
done
for ((run = 1; run <= runs; run++)); do
	say "run $run of $runs"
	for image in $images; do
		for format in $formats; do
			order="firstlight ctr_remote"
			((run % 2)) || order="ctr_remote firstlight"
			for by in $order; do
				"by_$by" "$image" "$format" "$run"
			done
		done
	done
done
jq -rs --arg kernel "$(uname -r)" --arg cpus "$(nproc)" --arg load "$(cut -d ' ' -f 1 /proc/loadavg)" \
	-L "$(dirname "$0")" -f "$(dirname "$0")/convert.jq" "$RUN/convert.jsonl"
echo "samples: $RUN/convert.jsonl"
