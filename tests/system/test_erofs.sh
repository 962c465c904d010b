#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
#
# Metadata images on the real kernel: fsck.erofs accepts them, and a walk of a mount (from the file,
# through a loop device, and of an overlay with data-only layers) shows the tree that they were made
# from. SEEDS: how many random trees fsck.erofs sees.
# shellcheck source=tests/system/lib.sh
. "$(dirname "$0")/lib.sh"
MAKE=$BUILD/tests/erofs_make
[[ $(id -u) = 0 ]] || skip "needs root"
command -v fsck.erofs >/dev/null || skip "needs fsck.erofs (erofs-utils)"
grep -q erofs /proc/filesystems || modprobe erofs 2>/dev/null || skip "this kernel has no EROFS"
: >"$LOG"
mkdir "$T"/{mnt,objects,fill,upper,work,merged}

linux() { [[ $(printf '%s\n' "$1" "$(uname -r)" | sort -V | head -n 1) = "$1" ]]; }

source_of() { awk -v d="$1" '$5 == d { for (i = 6; i < NF; i++) if ($i == "-") print $(i + 2) }' /proc/self/mountinfo; }

in_loop() { losetup -j "$T/image" | grep -q .; }

unmount() {
	umount "$1" || fail "unmount $1"
	unset 'mounts[-1]'
}

# walk SEED HOW: mounts and compares.
walk() {
	"$MAKE" mount "$T/image" "$T/mnt" "$2"
	mounts+=("$T/mnt")
	"$MAKE" check "$1" "$T/mnt" >"$T/out" || fail "seed $1, $2: differs"
}

# stacked SEED: an overlay above the image; the content is found in the second data layer.
stacked() {
	mount -t overlay overlay -o "lowerdir=$T/mnt::$T/fill::$T/objects,upperdir=$T/upper,workdir=$T/work,\
metacopy=on,redirect_dir=on,index=off" "$T/merged"
	mounts+=("$T/merged")
	"$MAKE" overlay "$1" "$T/merged" >"$T/out" || fail "seed $1, overlay: differs"
	unmount "$T/merged"
	rm -rf "$T"/{upper,work}
	mkdir "$T"/{upper,work}
}

for seed in 0 1 2 3 5 7; do
	rm -rf "$T"/objects/*
	"$MAKE" make $seed "$T/image" "$T/objects" >"$T/out"
	say "seed $seed: $(cat "$T/out")"
	fsck.erofs "$T/image" >"$T/out" 2>&1 || fail "seed $seed: fsck.erofs: $(cat "$T/out")"
	if linux 6.12; then
		walk $seed file
		[[ $(source_of "$T/mnt") = "$T/image" ]] || fail "not mounted from the file"
		unmount "$T/mnt"
	fi
	walk $seed loop
	[[ $(source_of "$T/mnt") = /dev/loop* ]] || fail "not mounted through a loop device"
	if linux 6.5; then stacked $seed; fi
	unmount "$T/mnt"
	wait_until 5 not in_loop || fail "a loop device stays set up"
done

say "fsck.erofs of ${SEEDS:=220} random images"
for ((seed = 100; seed < 100 + SEEDS; seed++)); do
	"$MAKE" make $seed "$T/image" - >"$T/out"
	fsck.erofs "$T/image" >"$T/out" 2>&1 || fail "seed $seed: fsck.erofs: $(cat "$T/out")"
done

say "a damaged image is not mounted"
printf 'X' | dd of="$T/image" bs=1 seek=2000 conv=notrunc status=none
not "$MAKE" mount "$T/image" "$T/mnt" file 2>"$T/out" || fail "a damaged image was mounted"
grep -q mount "$T/out" || fail "no reason: $(cat "$T/out")"
say "done"
