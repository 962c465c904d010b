#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make bench-images: builds the images of the benchmarks from Debian's packages (tests/e2e/image_apps.sh),
# each before and after an update, converts them, and prints what they are. What is there stays, so only
# the first time takes long (about a minute an image); E2E_CACHE is where ($BUILD/e2e).
#
# Of most kinds the update is a security update of the program and its libraries; of golang, of which Debian
# has one version, only the application differs. The layer below is the same in all.
#
# Options: --images "..."   kinds of tests/e2e/image.sh      --formats "..."  of tests/e2e/lazy.sh
# Samples: images.jsonl in the run's directory (see lib.sh), a line an image.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../../tests/e2e/lib.sh"
. "$(dirname "$0")/../../tests/e2e/lazy.sh"
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/links.sh"

images=$ALL_IMAGES formats="esgz opt"
while (($# > 0)); do
	case $1 in
	--images) images=$2; shift ;;
	--formats) formats=$2; shift ;;
	*) echo "usage: $0 [--images ...] [--formats ...]" >&2; exit 2 ;;
	esac
	shift
done

# facts_of LAYOUT: what the image says and what its layers are, as JSON.
facts_of() {
	jq -c -s '{packages: .[0].config.Labels["bench.packages"], ready: .[0].config.Labels["bench.ready"],
		layers: [.[1].layers[] | {digest, size}], bytes: ([.[1].layers[].size] | add)}' \
		"$(layout_blob "$1" config)" "$(layout_blob "$1" manifest)"
}

build_one() {
	local format
	for format in org $formats; do
		lazy_image "$1" "$format" >/dev/null || fail "no $1 as $format"
	done
	say "$1: built and converted"
}

need ctr-remote jq
bench_open
start_containerd
sample_failed() { :; }
for image in $images; do
	for kind in "$image-v1" "$image"; do
		sample images "{\"image\": \"$kind\"}" 900 build_one "$kind"
		layout=$(lazy_image "$kind" org) || continue
		facts_of "$layout" | jq -c --arg image "$image" --arg version "$(version_of_kind "$kind")" \
			'{$image, $version} + .' | record images
	done
done
jq -rs '[.[] | select(.layers)] | group_by(.image)[] | sort_by(.version) as [$a, $b] | select($b) |
	"\($a.image): \($a.bytes / 1e6 | round) MB, an update of \([$b.layers[] |
		select(.digest | IN($a.layers[].digest) | not).size] | add / 1e6 * 10 | round / 10) MB\n    \($a.packages)\n    \($b.packages)"' \
	"$RUN/images.jsonl"
