# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the benchmarks share: the directory of a run and its samples, samples that may fail; for those that
# do not source tests/e2e/lib.sh a directory on a disk, servers that end with the script, waiting until a
# server has nothing left to do. Source it first, or behind those.
#
# A run is a directory: BENCH_RUN, or $BUILD/bench/TIME. It holds host.jsonl, one line of facts about the
# host, and for each benchmark NAME.jsonl, a line a sample: {"bench": NAME, "at": TIME, ...}, with "failed"
# and a reason if there is no result. tools/bench/report makes a page of any set of runs.
set -euo pipefail
export LC_ALL=C

BUILD=$(realpath "${BUILD:-build}")
declare -A PID WORKER # of the servers, by name; the worker is the process that serves
TEMP=""

die() {
	echo "$(basename "$0"): $*" >&2
	exit 1
}

say() {
	printf '%s  %s\n' "$(date +%T)" "$*" >&2
}

now_ms() {
	echo $(($(date +%s%N) / 1000000))
}

bench_end() {
	local status=$? name
	trap - EXIT
	set +e
	for name in "${!PID[@]}"; do
		server_stop "$name"
	done
	if [[ -n $TEMP && $status != 0 ]]; then
		tail -n 5 "$TEMP"/*.log 2>/dev/null >&2
	fi
	if [[ -n $TEMP ]]; then # many at a time: with the discard option every rmdir waits for the disk
		find "$TEMP" -mindepth 3 -maxdepth 3 -print0 | xargs -0 -r -P 16 -n 200 rm -rf --one-file-system
		rm -rf --one-file-system "$TEMP"
	fi
	exit "$status"
}

# bench_begin PROGRAM...: makes TEMP, on a disk.
bench_begin() {
	local program type
	[[ $(id -u) == 0 ]] || die "must be root, as a snapshotter is"
	for program in jq findmnt setpriv pgrep; do
		type -P "$program" >/dev/null || die "$program is not installed (make deps)"
	done
	for program in "$@"; do
		[[ -x $BUILD/$program ]] || die "$BUILD/$program is not built (make all go)"
	done
	trap bench_end EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	TEMP=$(mktemp -d "${BENCH_DIR:-/var/tmp}/firstlight-bench.XXXXXX")
	type=$(stat -f -c %T "$TEMP")
	[[ $type != tmpfs && $type != ramfs ]] ||
		die "$TEMP is on $type, where a synced write costs nothing: set BENCH_DIR to a disk's directory"
	: >"$TEMP/config.toml" # the host's own settings stay out
}

# server_start NAME firstlight|overlayfs [OPTION...]: root and socket are TEMP/NAME and TEMP/NAME.sock.
# The kernel stops it when this script dies.
server_start() {
	local name=$1 kind=$2 end command
	shift 2
	if [[ $kind == firstlight ]]; then
		mkdir -p "$TEMP/$name" "$TEMP/$name.state"
		command=("$BUILD/firstlightd" --config "$TEMP/config.toml" --state "$TEMP/$name.state")
	else
		command=("$BUILD/go/overlayserver")
	fi
	setpriv --pdeathsig TERM "${command[@]}" --root "$TEMP/$name" --address "$TEMP/$name.sock" "$@" \
		>"$TEMP/$name.log" 2>&1 &
	PID[$name]=$!
	end=$(($(now_ms) + 300000))
	until grep -qw ready "$TEMP/$name.log"; do
		kill -0 "${PID[$name]}" 2>/dev/null || die "$name ended: $(tail -n 1 "$TEMP/$name.log")"
		(($(now_ms) < end)) || die "$name is not ready after 300 s"
		sleep 0.1
	done
	WORKER[$name]=${PID[$name]}
	[[ $kind != firstlight ]] || WORKER[$name]=$(pgrep -P "${PID[$name]}")
}

server_stop() {
	local pid=${PID[$1]} end
	kill -TERM "$pid" 2>/dev/null || true
	end=$(($(now_ms) + 20000))
	while kill -0 "$pid" 2>/dev/null; do
		if (($(now_ms) > end)); then
			echo "$1 does not stop: killed" >&2
			kill -KILL "$pid" 2>/dev/null || true
		fi
		sleep 0.05
	done
	wait "$pid" 2>/dev/null || true
	unset "PID[$1]" "WORKER[$1]"
}

# cpu_ns PID: processor time of its threads so far.
cpu_ns() {
	cat "/proc/$1/task"/*/schedstat 2>/dev/null | awk '{ sum += $1 } END { printf "%.0f", sum }'
}

# idle NAME: nothing left to delete, and less than 2 % of a processor used in 0.2 s.
idle() {
	local before
	before=$(cpu_ns "${WORKER[$1]}")
	sleep 0.2
	(($(cpu_ns "${WORKER[$1]}") - before < 4000000)) || return 1
	[[ ! -d $TEMP/$1/trash || -z $(ls -A "$TEMP/$1/trash") ]]
}

# settle NAME: waits until it is idle, then until the file system is clean. Sets DRAIN and SYNC,
# the seconds that both took.
# shellcheck disable=SC2034 # read by the caller
settle() {
	local start at
	start=$(now_ms)
	at=$start
	# Directories that are kept for reuse go too.
	[[ ! -d $TEMP/$1/trash ]] || load "$1" --mode cleanup >/dev/null
	until idle "$1"; do
		at=$(now_ms)
		((at - start < 300000)) || die "$1 is still busy 300 s after its load"
	done
	DRAIN=$(awk -v ms=$((at - start)) 'BEGIN { print ms / 1000 }')
	at=$(now_ms)
	sync -f "$TEMP"
	SYNC=$(awk -v ms=$(($(now_ms) - at)) 'BEGIN { print ms / 1000 }')
}

# load NAME OPTION...: prints the JSON line of snapload; a failed call ends the script.
load() {
	local name=$1
	shift
	"$BUILD/go/snapload" --address "$TEMP/$name.sock" --json "$@" >"$TEMP/load.json" || {
		cat "$TEMP/load.json" >&2
		die "calls to $name failed"
	}
	cat "$TEMP/load.json"
}

# sync_us: what one synced write of 4 KiB takes on TEMP's file system.
sync_us() {
	local start
	start=$(date +%s%N)
	dd if=/dev/zero of="$TEMP/probe" bs=4k count=200 oflag=dsync status=none
	echo $((($(date +%s%N) - start) / 200000))
}

# bench_open: sets RUN.
bench_open() {
	RUN=${BENCH_RUN:-$BUILD/bench/$(date -u +%Y-%m-%dT%H%M%S)}
	mkdir -p "$RUN"
	RUN=$(realpath "$RUN")
	[[ -s $RUN/host.jsonl ]] || host_facts | record host
}

# record BENCH: the JSON objects of standard input are samples.
record() {
	jq -c --arg bench "$1" --arg at "$(date -u +%FT%TZ)" '{$bench, $at} + .' >>"$RUN/$1.jsonl"
}

# sample BENCH WHAT SECONDS COMMAND...: in a shell of its own, with an own EXIT trap if it sets one. If that
# fails or takes too long, the sample WHAT (a JSON object) is recorded as failed, the caller's
# sample_failed cleans up, and the run goes on.
sample() {
	local status=0 end=$((SECONDS + $3)) pid
	("${@:4}") 2>"$T/sample.err" &
	pid=$!
	while running $pid && ((SECONDS < end)); do
		sleep 0.05
	done
	if running $pid; then
		kill -KILL $pid
		echo "FAIL: no end within $3 s" >>"$T/sample.err"
	fi
	wait $pid 2>/dev/null || status=$?
	((status)) || return 0
	say "failed: $2: $(failure "$T/sample.err")"
	record "$1" < <(jq -c --arg failed "$(failure "$T/sample.err")" '. + {$failed}' <<<"$2")
	cp "$T/sample.err" "$RUN/failed-$1.log" || true
	sample_failed
}

failure() {
	sed -n 's/^FAIL: //p' "$1" | tail -n 1 | grep . || tail -n 1 "$1" | grep . || echo "no reason given"
}

# end_others PID...: in the PID namespace of tests/e2e/lib.sh, all but these, their children and this shell.
end_others() {
	local keep=" $* $$ $BASHPID " dir pid parent
	for dir in /proc/[0-9]*; do
		pid=${dir#/proc/}
		parent=$(awk '/^PPid:/ { print $2 }' "$dir/status" 2>/dev/null) || continue
		[[ $keep == *" $pid "* || ($parent != 1 && $keep == *" $parent "*) ]] || kill -KILL "$pid" 2>/dev/null || true
	done
}

package() {
	dpkg-query -W -f '${Version}' "$1" 2>/dev/null || echo none
}

# version_of PROGRAM [OPTION...]: the first thing like a version that it prints.
version_of() {
	"$@" 2>/dev/null | grep -oE '[0-9]+\.[0-9]+[0-9a-z.+~-]*' | head -n 1 || echo none
}

# host_facts: one JSON object.
host_facts() {
	local TEMP=${TEMP:-$T}
	jq -nc --arg date "$(date -u +%FT%TZ)" --arg kernel "$(uname -r)" --argjson cpus "$(nproc)" \
		--arg cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
		--argjson memory_kb "$(awk '/^MemTotal/ { print $2 }' /proc/meminfo)" \
		--arg fs "$(findmnt -no FSTYPE -T "$TEMP" | tail -n 1)" \
		--arg fs_options "$(findmnt -no OPTIONS -T "$TEMP" | tail -n 1)" \
		--arg firstlight "$("$BUILD/firstlightd" --version | cut -d ' ' -f 2)" \
		--arg commit "$(git describe --always --dirty 2>/dev/null || echo unknown)" \
		--arg containerd_library "$(package golang-github-containerd-containerd-dev)" \
		--arg containerd "$(version_of containerd --version)" --arg runc "$(version_of runc --version)" \
		--arg stargz "$(package golang-github-containerd-stargz-snapshotter-dev)" \
		--arg registry "$(package docker-registry)" \
		--arg erofs_containerd "$(version_of "${BENCH_CONTAINERD:-/nonexistent}/containerd" --version)" \
		--arg tcp "$(sysctl -n net.ipv4.tcp_congestion_control)" \
		--arg load "$(cut -d ' ' -f 1 /proc/loadavg)" --argjson sync_us "$(sync_us)" \
		'$ARGS.named | .load |= tonumber'
}
