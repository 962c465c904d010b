#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make bench-density: many containers at once, of one image and of several: what the snapshotter and containerd
# hold in memory, the page cache (what is shared is there once), kernel memory (inodes, dentries), mounts, open
# files, and how many start in a second. A container is a snapshot, its mount and a process in it, without runc and
# its shim (build/go/density). All of the images has come before; the page cache is dropped before the first.
#
# Options: --counts "..."  numbers of containers (1 10 100 500)
#          --images "..."  kinds of tests/e2e/image.sh: the first one alone, then all in turn
#          --modes "..."   overlayfs, stargz, firstlight
# Samples: density.jsonl in the run's directory (see lib.sh). Page cache and kernel memory are what is charged
# to a cgroup in which containers and daemons are, less what there was when the first container came.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../../tests/e2e/lib.sh"
. "$(dirname "$0")/../../tests/e2e/lazy.sh"
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/links.sh"

readonly SAMPLE_SECONDS=600 # for one mode and set of images
counts="1 10 100 500" modes="overlayfs stargz firstlight"
images="redis nginx python memcached mosquitto nodejs"
while (($# > 0)); do
	case $1 in
	--counts) counts=$2; shift ;;
	--images) images=$2; shift ;;
	--modes) modes=$2; shift ;;
	*) echo "usage: $0 [--counts ...] [--images ...] [--modes ...]" >&2; exit 2 ;;
	esac
	shift
done

format_of() {
	if [[ $1 == overlayfs ]]; then echo org; else echo esgz; fi
}

# own_group: a memory cgroup for this shell and all that it starts, GROUP.
own_group() {
	GROUP=/sys/fs/cgroup
	[[ ! -d $GROUP/memory ]] || GROUP+=/memory
	GROUP+=/$NAME-density-$BASHPID
	mkdir "$GROUP"
	echo "$BASHPID" >"$GROUP/cgroup.procs"
	[[ -r $GROUP/memory.stat ]] || fail "no memory controller for cgroups"
}

# cache_kb: file pages, each charged where it was first touched.
cache_kb() {
	awk '/^(cache|file) / { printf "%d", $2 / 1024 }' "$GROUP/memory.stat"
}

kernel_kb() {
	if [[ -r $GROUP/memory.kmem.usage_in_bytes ]]; then
		awk '{ printf "%d", $1 / 1024 }' "$GROUP/memory.kmem.usage_in_bytes"
	else
		awk '/^kernel / { printf "%d", $2 / 1024 }' "$GROUP/memory.stat"
	fi
}

# held MODE STAGE: a sample of what is held now, from the line that go/density has printed.
held() {
	local pid pss=0 fds=0 now
	for pid in ${WATCHED//,/ }; do
		now=$(awk '/^Pss:/ { print $2 }' "/proc/$pid/smaps_rollup")
		pss=$((pss + now))
		fds=$((fds + $(find "/proc/$pid/fd" -type l | wc -l)))
	done
	jq -c --arg mode "$1" --argjson pss_kb $pss --argjson fds $fds \
		--argjson cache_kb $(($(cache_kb) - cache_before)) --argjson kernel_kb $(($(kernel_kb) - kernel_before)) \
		--argjson mounts $(($(wc -l </proc/self/mountinfo) - mounts_before)) \
		'{$mode} + . + {$pss_kb, $fds, $cache_kb, $kernel_kb, $mounts}' <<<"$2" | record density
}

quiet() {
	local before now
	before=$(received_bytes)
	sleep 1
	now=$(received_bytes)
	((now - before < 20000))
}

# received_bytes: by the loopback device, over which all comes here.
received_bytes() {
	awk -F '[: ]+' '$2 == "lo" { print $3 }' /proc/net/dev
}

# containers MODE IMAGE...: a sample at each count.
containers() {
	local mode=$1 refs=() image line cache_before kernel_before mounts_before
	shift
	trap end_client EXIT
	trap 'exit 143' TERM
	own_group
	begin_client "$mode" "$REGISTRY"
	for image in "$@"; do
		refs+=("$REGISTRY/$(ref_of "$image" v2 "$(format_of "$mode")")")
		lazypull "$mode" "${refs[-1]}" || fail "no pull: $(tail -n 1 "$T/lazypull.log")"
	done
	wait_until 120 quiet || say "images still come after 120 s"
	cold_caches
	cache_before=$(cache_kb) kernel_before=$(kernel_kb) mounts_before=$(wc -l </proc/self/mountinfo)
	mkdir -p "$T/containers"
	coproc DENSITY { "$BUILD/go/density" -address "$CONTAINERD_SOCKET" -snapshotter "$mode" -dir "$T/containers" \
		-counts "${counts// /,}" "${refs[@]}" 2>"$T/density.err"; }
	for _ in $counts; do
		IFS= read -r line <&"${DENSITY[0]}" || fail "$(tail -n 1 "$T/density.err")"
		held "$mode" "$line"
		echo >&"${DENSITY[1]}"
	done
	# shellcheck disable=SC2154 # coproc sets it
	wait "$DENSITY_PID" || fail "$(tail -n 1 "$T/density.err")"
}

need ctr-remote jq
[[ -x $BUILD/go/density ]] || fail "$BUILD/go/density is not built"
bench_open
start_containerd
for image in $images; do
	for mode in $modes; do
		lazy_image "$image" "$(format_of "$mode")" >/dev/null
	done
done
end_client
start_memory_registry 127.0.0.1:0
for image in $images; do
	# shellcheck disable=SC2046 # a list of words
	for mode in $modes; do
		push_version "$image" v2 "$(format_of "$mode")"
	done
done
for mode in $modes; do
	for set in "${images%% *}" "$images"; do
		say "$mode: $set"
		# shellcheck disable=SC2086 # a list of words
		sample density "{\"mode\": \"$mode\", \"image\": \"$set\"}" $SAMPLE_SECONDS containers "$mode" $set
		[[ $images == *" "* ]] || break
	done
done
echo "samples: $RUN/density.jsonl"
