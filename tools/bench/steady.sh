#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make bench-steady: a lazy image of which all has arrived, against containerd's overlayfs with the
# same image unpacked, by the same programs in the same run, on the same disk. One view of each is
# mounted (of two layers: for one, overlayfs has no overlay); rounds are interleaved (A B B A ...). Hot: all
# has been read once before, into an empty page cache: how it was written does not count. Cold: the page
# cache, dentries and inodes are dropped before every measurement.
#
# The image: two large files, many files of 1 to 16 KiB, and small static programs. One of the large
# files ("fuse") is opened while the rest of the image still arrives, and a bind mount keeps its inode: that
# stays on the FUSE mount, whose kernel side reads the complete file by passthrough.
#
# Writes are to a snapshot of its own each time: a byte more for each of 1000 small files, which copies
# them up, and a new large file, synced.
#
# Options: --quick       2 rounds instead of 5
#          --rounds N    --large MiB (256)    --files N (10000, a multiple of 100)
#          --tests "..." --caches "..."  some of them
#          --image KIND  the files below usr of a kind of tests/e2e/image.sh instead; find, stat, open, slurp
# Samples: steady.jsonl in the run's directory (see lib.sh).
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../../tests/e2e/lib.sh"
. "$(dirname "$0")/../../tests/e2e/lazy.sh"
. "$(dirname "$0")/lib.sh"

rounds=5 caches="hot cold" large=256 files=10000 programs=200 seconds=1 image="" small=small
tests="read-4k read-128k randread-4k randread-128k mmap-4k fuse-read-4k fuse-read-128k fuse-randread-4k find"
tests+=" stat open slurp exec append write-128k"
while (($# > 0)); do
	case $1 in
	--quick) rounds=2 ;;
	--rounds) rounds=$2; shift ;;
	--large) large=$2; shift ;;
	--tests) tests=$2; shift ;;
	--caches) caches=$2; shift ;;
	--files) files=$2; shift ;;
	--image) image=$2 small=usr tests="find stat open slurp"; shift ;;
	*) echo "usage: $0 [--quick] [--rounds N] [--large MIB] [--files N] [--tests ...] [--caches ...] [--image KIND]" >&2; exit 2 ;;
	esac
	shift
done
first=(nice -n -15) # what is measured goes before what else the machine does

# make_tree DIRECTORY: nothing in it compresses, no two files are equal.
make_tree() {
	local i size
	mkdir -p "$1"/bin "$1"/large "$1"/small
	head -c $((large << 20)) /dev/urandom >"$1/large/plain"
	head -c $((large << 20)) /dev/urandom >"$1/zz-fuse"
	for ((i = 0; i < files / 100; i++)); do # a directory has files of one size
		size=$(((i * 7919) % 15361 + 1024))
		mkdir "$1/small/$i"
		head -c $((size * 100)) /dev/urandom | split -b $size -a 3 - "$1/small/$i/file-"
	done
	gcc -O1 -nostdlib -static -ffreestanding -x c -o "$1/bin/0" - <<-C
		void _start(void) { __asm__ volatile("syscall" : : "a"(60), "D"(0)); __builtin_unreachable(); }
	C
	for ((i = 1; i < programs; i++)); do
		{ cat "$1/bin/0"; echo "$i"; } >"$1/bin/$i"
		chmod 755 "$1/bin/$i"
	done
}

view_image() {
	"$BUILD/go/viewmount" -address "$CONTAINERD_SOCKET" -snapshotter "$@"
}

object_of() {
	local meta
	meta=$(sed -nE "s|.* $T/firstlight-mnt .*lowerdir=([^:,]*):.*|\1|p" /proc/self/mountinfo)
	echo "$FIRSTLIGHT_ROOT/objects$(getfattr -h --only-values -n trusted.overlay.redirect "$meta/$1" 2>/dev/null)"
}

# all_complete LAYERS
all_complete() {
	(($(grep 'layer complete' "$firstlightd_log" | sort -u | wc -l) == $1))
}

mount_both() {
	"$BUILD/go/synth" -registry "$REGISTRY" -name bench -tree "$T/tree"
	rm -r "$T/tree"
	mkdir "$T/firstlight-mnt" "$T/overlayfs-mnt"
	lazypull firstlight "$REGISTRY/bench:0" || fail "no pull: $(tail -n 2 "$T/lazypull.log")"
	[[ $(layers_that_are remote) == 2 ]] || fail "the image is not lazy"
	view_image firstlight "$REGISTRY/bench:0" "$T/firstlight-mnt"
	[[ ! -e $(object_of zz-fuse) ]] || fail "the large file had arrived before it could be opened: take --large"
	head -c 1 "$T/firstlight-mnt/zz-fuse" >/dev/null
	touch "$T/held"
	mount --bind "$T/firstlight-mnt/zz-fuse" "$T/held"
	wait_until 300 all_complete 2 || fail "the image does not become complete"
	[[ -e $(object_of zz-fuse) ]] || fail "complete, and not there"
	lazypull overlayfs "$REGISTRY/bench:0" || fail "no pull: $(tail -n 2 "$T/lazypull.log")"
	view_image overlayfs "$REGISTRY/bench:0" "$T/overlayfs-mnt"
	cmp "$T/firstlight-mnt/zz-fuse" "$T/overlayfs-mnt/zz-fuse" || fail "the trees differ"
	sync
}

mount_image() {
	local ref=$REGISTRY/bench/$image:esgz
	mkdir "$T/firstlight-mnt" "$T/overlayfs-mnt"
	push_image "$(lazy_image "$image" esgz)" "bench/$image:esgz"
	lazypull firstlight "$ref" || fail "no pull: $(tail -n 2 "$T/lazypull.log")"
	wait_until 300 all_complete "$(layers_that_are remote)" || fail "the image does not become complete"
	view_image firstlight "$ref" "$T/firstlight-mnt"
	lazypull overlayfs "$ref" || fail "no pull: $(tail -n 2 "$T/lazypull.log")"
	view_image overlayfs "$ref" "$T/overlayfs-mnt"
	files=$(find "$T/overlayfs-mnt/usr" | wc -l)
	sync
}

# --- measurements: each prints how much in a second, given the mount ----------------------------

# fio_mb OPTION...: MB in a second.
fio_mb() {
	"${first[@]}" fio --name=steady --readonly --invalidate=0 --thread --output-format=json "$@" |
		jq '.jobs[0].read.bw_bytes / 1e6'
}

# fio_of FILE CACHE RW BLOCK ENGINE: hot, for some time; cold, each byte once or some of them.
fio_of() {
	local how=(--time_based "--runtime=$seconds")
	if [[ $2 == cold ]]; then
		how=()
		[[ $3 == read ]] || how=(--io_size="$((large / 16))m" --randseed=1)
	fi
	fio_mb --filename="$1" --rw="$3" --bs="$4" --ioengine="$5" "${how[@]}"
}

# storm WHAT CACHE DIRECTORY ROUNDS
storm() {
	local n=$4
	[[ $2 == hot ]] || n=1
	find "$3" -type f | grep -v /stargz.index.json | sort >"$T/paths.all"
	[[ $2 == hot ]] || drop
	"${first[@]}" "$BUILD/bench/storm" "$1" "$n" <"$T/paths.all"
}

# writes TEST CACHE SNAPSHOTTER: in a container's mount.
writes() {
	local mnt=$T/rw
	mkdir -p "$mnt"
	view_image "$3" -rw "$REGISTRY/bench:0" "$mnt"
	case $1 in
	append)
		find "$mnt/$small" -type f | sort | head -n 1000 >"$T/paths.rw"
		[[ $2 == hot ]] || drop
		"${first[@]}" "$BUILD/bench/storm" append 1 <"$T/paths.rw"
		;;
	*)
		"${first[@]}" fio --name=steady --filename="$mnt/new" --rw=write --bs="${1#*-}" --size="$((large / 4))m" --end_fsync=1 \
			--thread --output-format=json | jq '.jobs[0].write.bw_bytes / 1e6'
		;;
	esac
	view_image "$3" -u "$mnt"
}

# find_rate CACHE DIRECTORY
find_rate() {
	local i n=10 start
	[[ $1 == hot ]] || n=1
	start=$(date +%s%N)
	for ((i = 0; i < n; i++)); do
		"${first[@]}" find "$2" -size +0 -printf '' # looks at every inode
	done
	awk -v n=$((n * files)) -v ns=$(($(date +%s%N) - start)) 'BEGIN { print n / ns * 1e9 }'
}

drop() {
	sync -f "$T"
	echo 3 >/proc/sys/vm/drop_caches
}

# measure TEST CACHE MOUNT SNAPSHOTTER
measure() {
	local part
	IFS=- read -r -a part <<<"$1"
	[[ $2 == hot ]] || drop
	case ${part[0]} in
	read | randread) fio_of "$3/large/plain" "$2" "${part[0]}" "${part[1]}" psync ;;
	mmap) fio_of "$3/large/plain" "$2" read 4k mmap ;;
	fuse) fio_of "$3/zz-fuse" "$2" "${part[1]}" "${part[2]}" psync ;;
	find) find_rate "$2" "$3/$small" ;;
	exec) storm exec "$2" "$3/bin" 10 ;;
	slurp) storm read "$2" "$3/$small" 10 ;;
	append | write) writes "$1" "$2" "$4" ;;
	*) storm "${part[0]}" "$2" "$3/$small" 10 ;;
	esac
}

one_test() {
	local name order round rate
	for ((round = 0; round <= rounds; round++)); do # the first warms up
		order="firstlight overlayfs"
		((round % 2)) || order="overlayfs firstlight"
		for name in $order; do
			((round > 0)) || [[ $2 == hot ]] || continue
			rate=$(measure "$1" "$2" "$T/$name-mnt" "$name")
			((round > 0)) || continue
			jq -nc --arg test "$1" --arg cache "$2" --arg on "$name" --argjson round "$round" \
				--argjson rate "$rate" '$ARGS.named' | record steady
		done
	done
}

need fio jq gcc getfattr
for tool in go/synth go/viewmount go/lazypull bench/storm firstlightd; do
	[[ -x $BUILD/$tool ]] || fail "$BUILD/$tool is not built"
done
bench_open
start_registry
registry_settings "$REGISTRY"
firstlightd_args+=(--log-level info)
start_firstlightd
start_containerd
if [[ -n $image ]]; then
	mount_image
else
	make_tree "$T/tree"
	mount_both
fi
say "both are mounted, load $(cut -d ' ' -f 1 /proc/loadavg)"
for cache in $caches; do
	drop
	for test in $tests; do
		one_test "$test" $cache
	done
done
[[ -n $image ]] || umount "$T/held"
load=$(cut -d ' ' -f 1 /proc/loadavg)
jq -rs -L "$(dirname "$0")" --arg kernel "$(uname -r)" --arg cpus "$(nproc)" --arg load "$load" --arg large "$large" \
	--arg files "$files" -f "$(dirname "$0")/steady.jq" "$RUN/steady.jsonl"
echo "samples: $RUN/steady.jsonl"
view_image firstlight -u "$T/firstlight-mnt"
view_image overlayfs -u "$T/overlayfs-mnt"
