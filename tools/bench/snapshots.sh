#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make bench-snapshots: firstlight against containerd's overlayfs snapshotter behind the same API
# (build/go/overlayserver), by the same client (build/go/snapload), in the same run, in directories side
# by side. Rounds are interleaved (A B B A ...), and one server works while the other is idle: before
# every measurement firstlight's trash is empty, both are idle, and the file system is synced. The
# time for that is reported too ("drain"), because putting deletion off is not free.
#
# What is on disk when a call is answered (strace, one call at a time; the table says it again):
#   firstlight  Prepare, View, Remove: one fdatasync of RocksDB's log, which calls that arrive together
#               share. Commit: before that one syncfs, so that the files of the layer are on disk too.
#   overlayfs   every change: two fdatasyncs of bbolt's file (pages, then root), one change at a time.
#               The files of a layer are not synced (containerd 1.6). Remove deletes before it answers
#               (async_remove is off, as in containerd's default configuration).
# Neither syncs the directories that Prepare makes. firstlight makes them again after a power cut, and
# gives the directories of a snapshot that nobody has used to the next one. Therefore the cycles are
# measured twice: as calls only, and "used", where the client puts a file and overlay's work directory
# into each snapshot, so that every directory is made and removed.
#
# The client has one connection, as containerd has, and shares the processors with the server.
#
# Options: --rounds N     (5)        --seconds N        of each round of cycles (4)
#          --many N       snapshots that are there (100000)    --clients "..."    (1 8 32 128)
#          --quick        about 4 minutes: 3 rounds of 2 seconds, 10,000 snapshots
# BENCH_DIR: where the roots are made (/var/tmp). Samples: snapshots.jsonl in the run's directory (see lib.sh).
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

readonly CHAIN=10 FEW=100
clients=(1 8 32 128)
rounds=5 ops_rounds=3 seconds=4 warmup=1 many=100000 ops=20 idle_seconds=5

while (($# > 0)); do
	case $1 in
	--quick) rounds=3 seconds=2 warmup=0.5 many=10000 idle_seconds=2 ;;
	--rounds) rounds=$2 ops_rounds=$2; shift ;;
	--seconds) seconds=$2 warmup=0.5 idle_seconds=2; shift ;;
	--many) many=$2; shift ;;
	--clients) read -r -a clients <<<"$2"; shift ;;
	*) echo "usage: $0 [--quick] [--rounds N] [--seconds N] [--many N] [--clients ...]" >&2; exit 2 ;;
	esac
	shift
done

# note JSON: a sample.
note() {
	record snapshots <<<"$1"
}

# ordered ROUND NAME NAME: this round's order.
ordered() {
	if (($1 % 2)); then echo "$2 $3"; else echo "$3 $2"; fi
}

# --- part 1: cycles of Prepare, Commit and Remove ----------------------------------------------

cycle_round() {
	local name=$1 n=$2 use=$3 round=$4 json
	json=$(load "$name" --mode cycle --clients "$n" --use="$use" --chain $CHAIN --seconds $seconds \
		--warmup $warmup)
	settle "$name"
	note "$(jq -c --arg server "$name" --argjson round "$round" --argjson warmup $warmup \
		--argjson drain "$DRAIN" --argjson sync "$SYNC" --argjson use "$use" \
		'{part: "cycle", used: $use, server: $server, round: $round, drain_s: $drain, sync_s: $sync,
		  warmup_s: $warmup} + .' <<<"$json")"
}

part_cycles() {
	local n use round name
	server_start firstlight firstlight
	server_start overlayfs overlayfs
	settle firstlight
	settle overlayfs
	for use in false true; do
		for n in "${clients[@]}"; do
			say "cycles, $n clients, used: $use"
			for ((round = 1; round <= rounds; round++)); do
				for name in $(ordered $round firstlight overlayfs); do
					cycle_round "$name" "$n" $use $round
				done
			done
		done
	done
	server_stop firstlight
	server_stop overlayfs
}

# --- part 2: one call at a time, with few and with many snapshots present ----------------------

# memory NAME STATE [PID]: a record of what the worker (that process) holds now.
memory() {
	local pid=${3:-${WORKER[$1]}}
	note "$(awk -v name="$1" -v state="$2" -v fds="$(find "/proc/$pid/fd" -type l | wc -l)" '
		/^(VmRSS|RssAnon|RssFile|Threads):/ { v[$1] = $2 }
		END { printf "{\"part\":\"memory\",\"server\":\"%s\",\"state\":\"%s\",\"rss_kb\":%d,", name, state, v["VmRSS:"]
		      printf "\"anon_kb\":%d,\"file_kb\":%d,\"threads\":%d,\"fds\":%d}", v["RssAnon:"],
			v["RssFile:"], v["Threads:"], fds }' "/proc/$pid/status")"
}

# fill_firstlight NAME COUNT: through the API, by many clients.
fill_firstlight() {
	local json
	json=$(load "$1" --mode fill --clients 128 --count "$2" --depth $CHAIN)
	settle "$1"
	note "$(jq -c --arg server "$1" '{part: "fill", server: $server} + .' <<<"$json")"
}

ops_round() {
	local name=$1 present=$2 round=$3 json
	json=$(load "$name" --mode ops --count $ops --lists 3)
	settle "$name"
	[[ $(jq .present <<<"$json") == "$present" ]] || die "$name lists $(jq .present <<<"$json"), not $present"
	note "$(jq -c --arg server "${name%-*}" --argjson round "$round" \
		'{part: "ops", server: $server, round: $round} + .' <<<"$json")"
}

part_ops() {
	local round name
	say "filling with $many snapshots"
	server_start firstlight-many firstlight
	fill_firstlight firstlight-many $many
	memory firstlight-many filled
	server_start firstlight-few firstlight
	fill_firstlight firstlight-few $FEW
	server_start overlayfs-many overlayfs --fill $many
	server_start overlayfs-few overlayfs --fill $FEW
	for name in "${!PID[@]}"; do
		settle "$name"
	done
	for ((round = 1; round <= ops_rounds; round++)); do
		say "one call at a time, round $round of $ops_rounds"
		for name in $(ordered $round firstlight-few firstlight-many) \
			$(ordered $round overlayfs-few overlayfs-many); do
			if [[ $name == *-many ]]; then ops_round "$name" $many $round; else ops_round "$name" $FEW $round; fi
		done
	done
	memory firstlight-many worked
	memory overlayfs-many worked
	server_stop firstlight-few
	server_stop overlayfs-few
}

# --- part 3: what the servers take when nothing happens ----------------------------------------

# idle_cpu NAME STATE
idle_cpu() {
	local before
	before=$(cpu_ns "${WORKER[$1]}")
	sleep $idle_seconds
	note "$(jq -nc --arg server "$1" --arg state "$2" --argjson seconds $idle_seconds \
		--argjson ns $(($(cpu_ns "${WORKER[$1]}") - before)) \
		'{part: "idle", server: $server, state: $state, seconds: $seconds, cpu_ms: ($ns / 1e6)}')"
}

# restarted NAME KIND STATE: after a fresh start, without a load.
restarted() {
	local start
	[[ -z ${PID[$1]-} ]] || server_stop "$1"
	start=$(now_ms)
	server_start "$1" "$2"
	note "$(jq -nc --arg server "$1" --arg state "$3" --argjson ms $(($(now_ms) - start)) \
		'{part: "start", server: $server, state: $state, ready_ms: $ms}')"
	settle "$1"
	memory "$1" "$3"
	idle_cpu "$1" "$3"
}

part_memory() {
	local kind
	say "memory"
	for kind in firstlight overlayfs; do
		restarted $kind-many $kind restarted
		server_stop $kind-many
		restarted $kind-empty $kind empty
		if [[ $kind == firstlight ]]; then
			restarted $kind-empty $kind empty-restarted
			memory $kind-empty keeper "${PID[$kind-empty]}"
		fi
		server_stop $kind-empty
	done
}

bench_begin firstlightd go/overlayserver go/snapload
bench_open
part_cycles
part_ops
part_memory
jq -rs -L "$(dirname "$0")" --argjson many $many --argjson few $FEW --slurpfile host "$RUN/host.jsonl" \
	-f "$(dirname "$0")/snapshots.jq" "$RUN/snapshots.jsonl"
echo "samples: $RUN/snapshots.jsonl"
