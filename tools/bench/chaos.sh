#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make bench-chaos: an image is pulled, and then READERS views of it are read and compared with what is right,
# while something goes wrong: reads that fail, reads that are wrong, the longest read, and how long it took.
# When there is no pull in a minute, or no mount, all reads have failed; after another minute those that
# have not been made.
#
#   none      nothing
#   kill      kill -9 of the snapshotter (overlayfs: of containerd) two seconds after the reading begins;
#             a second later it is started again, as a service manager does
#   500, drop, stall, mix
#             the registry's answers (tests/go/badregistry), every third one (stall: every 20th)
#   disk      the file system of all daemons is full before the image is all there
#
# Options: --faults "..."   --modes "..."   overlayfs, stargz, firstlight   --image KIND (nginx)
# READERS: how many (environment; 4). Samples: chaos.jsonl in the run's directory (see lib.sh).
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../../tests/e2e/lib.sh"
. "$(dirname "$0")/../../tests/e2e/lazy.sh"
READERS=${READERS:-4}
. "$(dirname "$0")/../../tests/e2e/faults.sh"
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/links.sh"

readonly SAMPLE_SECONDS=200 READ_SECONDS=60 PULL_SECONDS=60
RATE=$((8 << 20)) # bytes a second from the registry
faults="none kill 500 drop stall mix disk" modes="overlayfs stargz firstlight" image=nginx
while (($# > 0)); do
	case $1 in
	--faults) faults=$2; shift ;;
	--modes) modes=$2; shift ;;
	--image) image=$2; shift ;;
	*) echo "usage: $0 [--faults ...] [--modes ...] [--image KIND]" >&2; exit 2 ;;
	esac
	shift
done

format_of() {
	if [[ $1 == overlayfs ]]; then echo org; else echo esgz; fi
}

# right_copy: what the image has to look like, as COPY.
right_copy() {
	lazypull overlayfs "$REGISTRY/$(ref_of "$image" v2 org)" || fail "no image on overlayfs"
	mkdir "$T/eager" "$COPY"
	view_image overlayfs "$REGISTRY/$(ref_of "$image" v2 org)" "$T/eager"
	cp -a "$T/eager/." "$COPY/"
	view_image overlayfs -u "$T/eager"
	files=$(find "$COPY" -type f | wc -l)
}

# small_disk: the daemons' directories on a file system that has room for a part of the image.
small_disk() {
	local mb
	mb=$(($(jq '[.layers[].size] | add' "$(layout_blob "$(lazy_image "$image" "$(format_of "$mode")")" manifest)") / 1048576))
	truncate -s $((mb * 2 / 3 + 8))M "$T/disk.img"
	mkfs.ext4 -q -m 0 -O ^has_journal "$T/disk.img"
	mkdir -p "$T/disk"
	mount -o loop "$T/disk.img" "$T/disk"
	mkdir -p "$T/disk/containerd" "$T/disk/stargz" "$T/disk/firstlight" "$T/containerd" "$T/stargz" "$FIRSTLIGHT_ROOT"
	mount --bind "$T/disk/containerd" "$T/containerd"
	mount --bind "$T/disk/stargz" "$T/stargz"
	mount --bind "$T/disk/firstlight" "$FIRSTLIGHT_ROOT"
}

end_chaos() {
	local i
	if [[ -n $killer ]]; then # what it has started is ours
		wait "$killer" || true
		# shellcheck source=/dev/null
		. <(sed 's/^declare -- //' "$T/restarted")
	fi
	for ((i = 0; i < READERS; i++)); do
		umount -l "$T/view-$i" 2>/dev/null || true
	done
	end_client
	umount -l "$T/disk" 2>/dev/null || true
	rm -f "$T/disk.img"
}

# kill_and_restart: what "kill" does.
kill_and_restart() {
	sleep 2
	case $mode in
	overlayfs) kill -KILL "$containerd_pid" ;;
	stargz) kill -KILL "$stargz_pid" ;;
	firstlight) kill -KILL $(firstlightd_workers) ;; # the keeper is its service manager
	esac
	sleep 1
	case $mode in
	overlayfs) start_containerd ;;
	stargz) rm -f "$STARGZ_SOCKET"; start_stargz "$BAD" ;;
	esac
	declare -p containerd_pid stargz_pid >"$T/restarted"
}

# read_all: pull, mount, read: sets COUNTS as go/readcheck prints them.
read_all() {
	local i trees=()
	COUNTS="$READERS $((READERS * files)) 0 $((READERS * files)) 0 0"
	lazypull "$mode" "$BAD/$(ref_of "$image" v2 "$(format_of "$mode")")" -timeout ${PULL_SECONDS}s || return 0
	for ((i = 0; i < READERS; i++)); do
		mkdir -p "$T/view-$i"
		view_image "$mode" "$BAD/$(ref_of "$image" v2 "$(format_of "$mode")")" "$T/view-$i" || return 0
		trees+=("$T/view-$i")
	done
	if [[ $fault == kill ]]; then
		kill_and_restart &
		killer=$!
	fi
	"$BUILD/go/readcheck" -limit ${READ_SECONDS}s "$COPY" "${trees[@]}" >"$T/counts" 2>"$T/complaints" ||
		fail "readcheck: $(tail -n 1 "$T/complaints")"
	COUNTS=$(<"$T/counts")
}

# bad_day: one sample. Reads the variables of the loop below.
bad_day() {
	local start ms every=3 trees files_read bytes errors wrong longest
	killer=""
	trap end_chaos EXIT
	trap 'exit 143' TERM
	[[ $fault != disk ]] || small_disk
	[[ $fault != stall ]] || every=20
	faulty "mode=ok&rate=$RATE" >/dev/null
	begin_client "$mode" "$BAD"
	case $fault in
	500 | drop | stall | mix) faulty "mode=$fault&every=$every&rate=$RATE&all=1" >/dev/null ;;
	esac
	start=$(now_ms)
	read_all
	ms=$(($(now_ms) - start))
	faulty mode=ok >/dev/null
	# shellcheck disable=SC2034 # the order is readcheck's
	read -r trees files_read bytes errors wrong longest <<<"$COUNTS"
	jq -nc --arg mode "$mode" --arg fault "$fault" --arg image "$image" --argjson files "$files_read" --argjson bytes "$bytes" \
		--argjson failed_reads "$errors" --argjson wrong_reads "$wrong" --argjson longest_ms "$longest" \
		--argjson seconds "$(jq -n "$ms / 1000")" '$ARGS.named' | record chaos
}

need ctr-remote jq curl mkfs.ext4
for tool in go/readcheck go/viewmount go/badregistry go/lazypull firstlightd; do
	[[ -x $BUILD/$tool ]] || fail "$BUILD/$tool is not built"
done
bench_open
start_containerd
for mode in $modes; do
	lazy_image "$image" "$(format_of "$mode")" >/dev/null
done
start_memory_registry 127.0.0.1:0
push_version "$image" v2 org
push_version "$image" v2 esgz
right_copy
end_client
start_badregistry
for fault in $faults; do
	for mode in $modes; do
		say "$fault: $mode"
		sample chaos "{\"mode\": \"$mode\", \"fault\": \"$fault\"}" $SAMPLE_SECONDS bad_day
	done
done
echo "samples: $RUN/chaos.jsonl"
