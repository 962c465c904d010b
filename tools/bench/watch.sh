#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make bench-watch: what watching accesses costs who is watched, and who is not. All caches are hot: a miss
# costs so much that nothing would be seen beside it.
#
#   randread-4k   random reads in one object of 256 MiB, through the overlay that containers have
#   other-4k      the same in a file beside the objects, outside of all containers: it does not count
#   exec          small static programs that are objects, again and again: the first ones are told
#   first-read    open, read and close small objects, in a new mount namespace: each is told
#
# One process does the same work all the time, and beneath it the mode changes: before the programs are
# loaded, loaded and detached, while somebody watches. So whatever differs from one process to the next, as
# where its memory lies, is no part of the result; the modes follow each other closely, and a round is held
# against itself only. A window counts with the median of intervals of 20 ms, which leaves out what else the
# machine did; a round with the mean of its windows.
# (first-read needs what was not read yet: a process each time.)
#
# Options: --quick       10 rounds instead of 50
#          --rounds N    --seconds S (0.2, of one window)    --turns N (5, windows of each mode in a round)
#          --tests "..."
# Samples: watch.jsonl in the run's directory (see lib.sh).
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

rounds=50 seconds=0.2 turns=5 tests="randread-4k other-4k exec first-read"
large=256 programs=100 small=2000
while (($# > 0)); do
	case $1 in
	--quick) rounds=10 ;;
	--rounds) rounds=$2; shift ;;
	--seconds) seconds=$2; shift ;;
	--turns) turns=$2; shift ;;
	--tests) tests=$2; shift ;;
	*) echo "usage: $0 [--quick] [--rounds N] [--seconds S] [--turns N] [--tests ...]" >&2; exit 2 ;;
	esac
	shift
done
# What is measured goes before what else the machine does, and stays on one processor.
first=(nice -n -15 taskset -c $(($(nproc) - 1)))

key_of() { sha256sum <<<"$1" | cut -c 1-64; }

# place NAME FILE: it becomes the object of that name, and a file of the image.
place() {
	local key
	key=$(key_of "$1")
	mkdir -p "$TEMP/objects/${key:0:2}" "$TEMP/meta/$(dirname "$1")"
	mv "$2" "$TEMP/objects/${key:0:2}/$key"
	truncate -s "$(stat -c %s "$TEMP/objects/${key:0:2}/$key")" "$TEMP/meta/$1"
	chmod 755 "$TEMP/meta/$1" "$TEMP/objects/${key:0:2}/$key"
	setfattr -n trusted.overlay.metacopy "$TEMP/meta/$1"
	setfattr -n trusted.overlay.redirect -v "/${key:0:2}/$key" "$TEMP/meta/$1"
}

make_image() {
	local i
	mkdir "$TEMP"/{objects,meta,upper,work,merged}
	head -c $((large << 20)) /dev/urandom >"$TEMP/other"
	cp "$TEMP/other" "$TEMP/new"
	place large "$TEMP/new"
	gcc -O1 -nostdlib -static -ffreestanding -x c -o "$TEMP/program" - <<-C
		void _start(void) { __asm__ volatile("syscall" : : "a"(60), "D"(0)); __builtin_unreachable(); }
	C
	for ((i = 0; i < programs; i++)); do
		{ cat "$TEMP/program"; echo $i; } >"$TEMP/new"
		place "bin/$i" "$TEMP/new"
	done
	for ((i = 0; i < small; i++)); do
		head -c 8000 /dev/urandom >"$TEMP/new"
		place "small/$i" "$TEMP/new"
	done
	sync -f "$TEMP"
	mount -t overlay overlay \
		-o "lowerdir=$TEMP/meta::$TEMP/objects,upperdir=$TEMP/upper,workdir=$TEMP/work,metacopy=on,redirect_dir=on,index=off" \
		"$TEMP/merged" || die "this kernel has no data-only layers"
	find "$TEMP/merged/bin" -type f >"$TEMP/paths.exec"
	find "$TEMP/merged/small" -type f >"$TEMP/paths.first"
	cat "$TEMP/merged/large" "$TEMP/other" >/dev/null
}

# --- the watcher ----------------------------------------------------------------------------------

answers() { grep -cx "$1" "$TEMP/events" || true; }

# wait_answer LINE N: until it was said N times.
wait_answer() {
	local end=$(($(now_ms) + 20000))
	until (($(answers "$1") >= $2)); do
		(($(now_ms) < end)) || die "the watcher says: $(tail -n 1 "$TEMP/watch.log")"
		sleep 0.02
	done
}

ask() {
	local n
	n=$(answers "ok $1")
	echo "$1" >&8
	wait_answer "ok $1" $((n + 1))
}

# What is told once is told when this returns.
watcher_start() {
	: >"$TEMP/events"
	setpriv --pdeathsig TERM "$BUILD/tests/access_watch" objects="$TEMP/objects" <"$TEMP/commands" >"$TEMP/events" \
		2>"$TEMP/watch.log" &
	PID[watch]=$!
	exec 8>"$TEMP/commands"
	wait_answer ready 1
	ask watch
	# What does not run cannot be measured.
	ask stats
	(($(grep -c '^program .* attached' "$TEMP/events") >= 4)) || die "not watched: $(grep '^program' "$TEMP/events")"
	sleep 0.3
}

watcher_stop() {
	[[ -n ${PID[watch]-} ]] || return 0
	exec 8>&-
	wait "${PID[watch]}" || die "the watcher ended badly"
	unset "PID[watch]"
	sleep 0.3
}

# mode before|off|on
current=before
mode() {
	[[ $1 != "$current" ]] || return 0
	if [[ $1 == before ]]; then
		watcher_stop
	elif [[ $current == before ]]; then
		watcher_start
		[[ $1 == on ]] || ask unwatch
	elif [[ $1 == on ]]; then
		ask watch
	else
		ask unwatch
	fi
	current=$1
	sleep 0.05
}

# --- measurements ---------------------------------------------------------------------------------

fio_log() {
	exec "$@" --name=watch --readonly --invalidate=0 --rw=randread --bs=4k --ioengine=psync --thread --time_based \
		--runtime=36000 --write_iops_log="$TEMP/log" --log_avg_msec=20 --log_unix_epoch=1 --output=/dev/null
}

# load TEST: works until it is told to end; then log_iops.1.log has a line "MS, IN A SECOND..." for every 20 ms.
load() {
	local contained=("${first[@]}" unshare -m)
	case $1 in
	randread-4k) fio_log "${contained[@]}" fio --filename="$TEMP/merged/large" ;;
	other-4k) fio_log "${first[@]}" fio --filename="$TEMP/other" ;;
	exec) exec "${contained[@]}" "$BUILD/bench/storm" exec 0 <"$TEMP/paths.exec" >"$TEMP/log_iops.1.log" ;;
	*) die "no test $1" ;;
	esac
}

# samples_of TEST: from windows (ROUND MODE FROM TO) and the log. What began before a window does not count.
samples_of() {
	jq -nc --arg test "$1" --rawfile windows "$TEMP/windows" --rawfile log "$TEMP/log_iops.1.log" '
		def numbers: split("\n") | map(select(. != "") | split(" ") | map(tonumber? // .));
		($log | gsub(","; "") | numbers | map({at: .[0], rate: .[1]})) as $log
		| [$windows | numbers[] | . as [$round, $mode, $from, $to]
		   | [$log[] | select(.at >= $from + 20 and .at <= $to).rate] as $rates
		   | if $rates | length < 3 then error("no measurements in round \($round)") else . end
		   | {$round, $mode, rate: ($rates | sort | .[length / 2 | floor])}]
		| group_by([.round, .mode])[] | {test: $test, mode: .[0].mode, round: .[0].round, rate: (map(.rate) | add / length)}'
}

# load_signal TEST SIGNAL
load_signal() {
	kill -"$2" "${PID[load]}" 2>/dev/null || die "the work of $1 ended: $(tail -n 1 "$TEMP/load.log")"
}

measure_loaded() {
	local test=$1 round mode from status=0
	rm -f "$TEMP/log_iops.1.log"
	: >"$TEMP/windows"
	mode before # the work shall not inherit the watcher's input
	load "$test" 2>"$TEMP/load.log" &
	PID[load]=$!
	sleep 1
	load_signal "$test" 0 # it runs
	for ((round = 1; round <= rounds; round++)); do
		for mode in $(modes_of $round); do
			mode "$mode"
			from=$(now_ms)
			sleep "$seconds"
			echo "$round $mode $from $(now_ms)" >>"$TEMP/windows"
		done
	done
	load_signal "$test" TERM
	wait "${PID[load]}" || status=$?
	unset "PID[load]"
	((status == 128 || status == 143)) || say "the work of $test ended with $status" # told to: fio 128
	samples_of "$test" >"$TEMP/samples"
	record watch <"$TEMP/samples"
}

# modes_of ROUND: off and on by turns; before is between those of two rounds.
modes_of() {
	local i
	for ((i = 0; i < turns; i++)); do echo before; done
	for ((i = 0; i < turns; i++)); do
		if (($1 % 2)); then echo off on; else echo on off; fi
	done
}

measure_first() {
	local round mode rate
	for ((round = 0; round <= rounds; round++)); do # the first warms up
		for mode in ${orders[round % 6]}; do
			mode "$mode"
			# A processor that stood still is slow at first, and has forgotten the files. What this
			# namespace reads is not told.
			"${first[@]}" "$BUILD/bench/storm" read 20 <"$TEMP/paths.first" >/dev/null
			rate=$("${first[@]}" unshare -m "$BUILD/bench/storm" read 1 <"$TEMP/paths.first")
			((round > 0)) || continue
			jq -nc --arg test first-read --arg mode "$mode" --argjson round $round --argjson rate "$rate" \
				'$ARGS.named' | record watch
		done
	done
}

orders=("before off on" "on before off" "off on before" "before on off" "off before on" "on off before")
bench_begin tests/access_watch bench/storm
for program in fio gcc setfattr taskset unshare; do
	type -P "$program" >/dev/null || die "$program is not installed (make deps)"
done
bench_open
trap 'status=$?; set +e; umount "$TEMP/merged" 2>/dev/null; (exit $status); bench_end' EXIT
mkfifo "$TEMP/commands"
make_image
say "the image is there, load $(cut -d ' ' -f 1 /proc/loadavg)"
for test in $tests; do
	say "$test"
	if [[ $test == first-read ]]; then
		measure_first
	else
		measure_loaded "$test"
	fi
done
watcher_stop
load=$(cut -d ' ' -f 1 /proc/loadavg)
jq -rs -L "$(dirname "$0")" --arg kernel "$(uname -r)" --arg cpus "$(nproc)" --arg load "$load" \
	-f "$(dirname "$0")/watch.jq" "$RUN/watch.jsonl"
echo "samples: $RUN/watch.jsonl"
