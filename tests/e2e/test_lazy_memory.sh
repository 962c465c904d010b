#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
#
# Many lazy images at once: each of 10,000 files that no other image has, each mounted by a view. What
# the worker holds in memory, while the background works and afterwards, and what is mounted: one FUSE
# for all and one EROFS an image.
#
# LAZY_MEMORY_IMAGES (5), LAZY_MEMORY_FILES (10000). The limit of 64 MiB is for 100 images; fewer have
# the same limit, less 128 KiB for each that is not there (an image's share must stay below that).
# LAZY_MEMORY_SETTLE: seconds that the background has to fetch all (0: it is not waited for).
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"

IMAGES=${LAZY_MEMORY_IMAGES:-5}
FILES=${LAZY_MEMORY_FILES:-10000}
SETTLE=${LAZY_MEMORY_SETTLE:-0}
LIMIT_KB=$((65536 - (IMAGES < 100 ? 100 - IMAGES : 0) * 128))

# memory WHAT: prints it, and notes the resident size as RSS_KB.
memory() {
	local pid
	pid=$(firstlightd_workers)
	RSS_KB=$(sed -n 's/^VmRSS:[^0-9]*\([0-9]*\).*/\1/p' "/proc/$pid/status")
	say "$1: $(awk '/^(VmRSS|VmHWM|RssAnon|RssFile|Threads):/ { printf "%s %s  ", $1, $2 }' "/proc/$pid/status")"
}

mounted() {
	awk -v type="$1" -v top="$FIRSTLIGHT_ROOT/" '{ for (i = 7; $i != "-"; i++) ; if ($(i + 1) == type && index($5, top) == 1) n++ }
		END { print n + 0 }' /proc/self/mountinfo
}

view_image() {
	"$BUILD/go/viewmount" -address "$CONTAINERD_SOCKET" -snapshotter firstlight "$@"
}

below_limit() {
	((RSS_KB <= LIMIT_KB)) || fail "$1: the worker has $RSS_KB KiB, more than $LIMIT_KB, for $IMAGES images of $FILES files"
}

all_complete() {
	(($(grep -c 'layer complete' "$firstlightd_log") >= IMAGES))
}

[[ -z ${SAN-} ]] || skip "sanitizers take memory of their own"
need jq
for tool in synth viewmount lazypull; do
	[[ -x $BUILD/go/$tool ]] || fail "$BUILD/go/$tool is not built"
done
[[ $SNAPSHOTTER == firstlight ]] || skip "only for firstlight"
start_registry
"$BUILD/go/synth" -registry "$REGISTRY" -name synth -images "$IMAGES" -files "$FILES"
say "$IMAGES images of $FILES files are in the registry"
registry_settings "$REGISTRY"
start_firstlightd
start_containerd
memory "empty"
for ((i = 0; i < IMAGES; i++)); do
	lazypull firstlight "$REGISTRY/synth:$i" || fail "image $i: $(tail -n 2 "$T/lazypull.log")"
	[[ $(layers_that_are remote) == 1 ]] || fail "image $i is not lazy"
	mkdir "$T/mnt-$i"
	view_image "$REGISTRY/synth:$i" "$T/mnt-$i"
	(((i + 1) % 10)) || memory "$((i + 1)) images mounted"
done
below_limit "mounted"
[[ $(mounted fuse) == 1 && $(mounted erofs) == "$IMAGES" ]] ||
	fail "mounted are $(mounted fuse) fuse and $(mounted erofs) erofs for $IMAGES images"
say "mounted: 1 fuse, $IMAGES erofs"
for ((i = 0; i < IMAGES; i++)); do
	[[ $(find "$T/mnt-$i" -type f | wc -l) == "$FILES" ]] || fail "image $i lacks files"
	[[ $(<"$T/mnt-$i/d0000/file-000007.txt") == "file 7 of image $i" ]] || fail "image $i has wrong bytes"
done
memory "all looked through, one file of each read"
below_limit "looked through"
if ((SETTLE > 0)); then
	wait_until "$SETTLE" all_complete || say "after $SETTLE s $(grep -c 'layer complete' "$firstlightd_log") are complete"
	memory "background"
	below_limit "background"
fi
for ((i = 0; i < IMAGES; i++)); do
	view_image -u "$T/mnt-$i"
done
memory "unmounted"
say "ok"
