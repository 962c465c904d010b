#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 420
#
# Lazy images: for each format the image is pulled without fetching a layer, a container runs from
# it, and its whole tree is compared byte for byte with what containerd's overlayfs unpacks from the
# same image. Then all is removed, and nothing may be left. After that all formats are there together:
# some have chains in common.
#
# LAZY_IMAGES: kinds of image.sh ("sink"). LAZY_FORMATS: see lazy.sh.
# SNAPSHOTTER=overlayfs and SNAPSHOTTER=stargz test the test itself. stargz does not know "cs", and its
# trees differ: parents that no layer describes, trusted xattrs, times before 1970.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"

LAZY_IMAGES=${LAZY_IMAGES:-sink}
LAZY_FORMATS=${LAZY_FORMATS:-esgz zstd cs low high}
START=$(date +%s)

# check_foreseen IMAGE: its command's programs and libraries came ahead of the container.
check_foreseen() {
	local files
	with_firstlight || return 0
	wait_until 20 grep -qF "foreseen image=$1 " "$T"/firstlightd.*.log || fail "$1: nothing was foreseen"
	files=$(grep -hoP "foreseen image=\Q$1\E files=\K[0-9]+" "$T"/firstlightd.*.log | tail -n 1)
	((files >= 6)) || fail "$1: only $files files were foreseen"
	say "foreseen: $files files"
}

# lazily IMAGE: pulls it and runs its command; no lazy layer may be fetched.
lazily() {
	local layers fetched wanted found
	registry_forget
	lazypull "$SNAPSHOTTER" "$1" -run "${ends[@]}" >"$T/lazy.out" || fail "$1 does not run on $SNAPSHOTTER"
	layers=$(jq '.layers | length' "$T/report.json")
	say "ran on $SNAPSHOTTER: $(layers_that_are remote) of $layers layers remote," \
		"pulled in $(jq .pulled_ms "$T/report.json") ms, first line after $(jq .first_line_ms "$T/report.json") ms"
	say "blobs: $(blob_bytes | awk '{ n += $2; sum += $3 } END { print n + 0, "requests,", sum + 0, "bytes" }')" \
		"of $(jq '[.layers[].size] | add' "$T/report.json")"
	[[ $SNAPSHOTTER != overlayfs ]] || return 0
	case $1 in
	*-high) return 0 ;; # above the first layer that it unpacks, containerd fetches every one
	*-low) wanted=$LAZY_LAYERS ;;
	*) wanted=$layers ;;
	esac
	found=$(layers_that_are remote)
	# "present": another image has brought the same layer, for overlayfs.
	[[ $ALONE == yes ]] || found=$((found + $(layers_that_are present)))
	[[ $found == "$wanted" ]] || fail "$1: $found layers were not fetched by containerd, of $wanted"
	[[ $ALONE != yes ]] || check_foreseen "$1"
	# Belt and braces: the registry has not sent one to containerd's own client.
	fetched=$(blob_bytes | grep -F ' containerd/' |
		grep -F "$(jq -r '.layers[] | select(.state != "fetched") | .digest' "$T/report.json")" || true)
	[[ -z $fetched ]] || fail "$1: containerd's client has read layers: $fetched"
}

# one_image KIND FORMAT
one_image() {
	local image=$REGISTRY/test/$1:1-$2 ends=()
	[[ $1 == sink ]] || ends=(-stop) # servers do not end, and print what time it is
	push_image "$(lazy_image "$1" "$2")" "test/$1:1-$2"
	lazily "$image"
	if [[ $SNAPSHOTTER != overlayfs ]]; then
		lazypull overlayfs "$image" -run "${ends[@]}" >"$T/eager.out" || fail "$image does not run on overlayfs"
		[[ $1 != sink ]] || cmp "$T/lazy.out" "$T/eager.out" || fail "$image: its command prints something else"
	fi
	[[ -s $T/lazy.out ]] || fail "$image: its command printed nothing"
	compare_trees "$image"
}

check_erofs() { # KIND-FORMAT; above layers that are unpacked none is lazy
	[[ ${1-} != *-high ]] || return 0
	local file n=0
	need fsck.erofs
	for file in "$FIRSTLIGHT_ROOT"/meta/*; do
		[[ $file == *.erofs || $file == *.full ]] || continue
		fsck.erofs "$file" >"$T/fsck.out" 2>&1 || fail "$file: $(tail -n 3 "$T/fsck.out")"
		n=$((n + 1))
	done
	((n > 0)) || fail "there is no metadata image"
	say "fsck.erofs: $n metadata images are sound"
}

all_are_full() {
	not grep -q '\.erofs$' <<<"$(files_below "$FIRSTLIGHT_ROOT/meta")"
}

# full_images: what is complete gets metadata images that hold small files; the next mount takes them, and
# shows the same tree. One that is damaged is made again.
full_images() {
	local kind format damaged
	wait_until 180 all_are_full || fail "no full images: $(ls "$FIRSTLIGHT_ROOT/meta")"
	stop_firstlightd
	damaged=$(files_below "$FIRSTLIGHT_ROOT/meta" | sort -V | head -n 1)
	truncate -s 5000 "$damaged"
	start_firstlightd
	wait_until 20 ctr snapshot --snapshotter firstlight ls >"$T/connected" # containerd dials again
	for kind in $LAZY_IMAGES; do
		for format in $LAZY_FORMATS; do
			[[ $format != high ]] || continue
			say "--- $kind $format, full"
			compare_trees "$REGISTRY/test/$kind:1-$format"
		done
	done
	[[ -n $(mounts_below "$FIRSTLIGHT_ROOT/m") ]] || fail "nothing is mounted"
	not grep -q " $FIRSTLIGHT_ROOT/m/.* $FIRSTLIGHT_ROOT/meta/[0-9]*\.erofs " /proc/self/mountinfo ||
		fail "another image is mounted"
	grep -q "metadata image ${damaged##*/} is made again" "$firstlightd_log" || fail "nobody saw the damage"
	check_erofs
}

files_below() {
	find "$@" -type f 2>/dev/null
}

no_files_below() {
	[[ -z $(files_below "$@") ]]
}

nothing_listed() {
	[[ $(timeout 20 ctr --address "$1" snapshot --snapshotter "$SNAPSHOTTER" ls | wc -l) == 1 ]]
}

only_fill_mounted() {
	not grep -qvxF "$FIRSTLIGHT_ROOT/fill" <<<"$(mounts_below "$FIRSTLIGHT_ROOT")"
}

remove_all() {
	local what
	ctr image ls -q | xargs -r "$(type -P ctr)" --address "$CONTAINERD_SOCKET" image rm --sync >/dev/null
	wait_until 10 nothing_listed "$CONTAINERD_SOCKET" || fail "containerd still lists snapshots"
	with_firstlight || return 0
	wait_until 10 nothing_listed "$FIRSTLIGHT_SOCKET" || fail "firstlightd still lists snapshots"
	for what in layers meta objects snapshots trash; do
		wait_until 120 no_files_below "$FIRSTLIGHT_ROOT/$what" ||
			fail "$what still holds files: $(files_below "$FIRSTLIGHT_ROOT/$what" | head -n 5)"
	done
	wait_until 10 only_fill_mounted || fail "mounts are left: $(mounts_below "$FIRSTLIGHT_ROOT")"
}

need jq awk diff cmp
for tool in treedump viewmount lazypull; do
	[[ -x $BUILD/go/$tool ]] || fail "$BUILD/go/$tool is not built"
done
start_registry
registry_settings "$REGISTRY"
case $SNAPSHOTTER in
firstlight) start_firstlightd ;;
stargz) start_stargz "$REGISTRY" ;;
esac
start_containerd
say "servers run"
for kind in $LAZY_IMAGES; do
	for format in $LAZY_FORMATS; do
		say "--- $kind $format"
		ALONE=yes one_image "$kind" "$format"
		! with_firstlight || check_erofs "$kind-$format"
		remove_all
	done
done
say "each removed: nothing is left"
for kind in $LAZY_IMAGES; do
	for format in $LAZY_FORMATS; do
		say "--- $kind $format, with the others"
		ALONE=no one_image "$kind" "$format"
	done
done
if with_firstlight; then
	check_erofs
	full_images
fi
remove_all
say "removed: nothing is left"
if with_firstlight; then
	stop_firstlightd
	[[ -z $(mounts_below "$T") ]] || fail "mounts are left: $(mounts_below "$T")"
fi
stop_stargz
say "ok"
