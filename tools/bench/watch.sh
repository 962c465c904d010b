#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make bench-watch: what watching accesses costs who is watched, and who is not. The same work in interleaved
# rounds: before the programs are loaded, loaded and detached, and while somebody watches. All
# caches are hot: a miss costs so much that nothing would be seen beside it.
#
#   randread-4k   random reads in one object of 256 MiB, through the overlay that containers have
#   other-4k      the same in a file beside the objects, outside of all containers: it does not count
#   exec          small static programs that are objects, again and again: the first ones are told
#   first-read    open, read and close small objects, in a new mount namespace: each is told
#
# Options: --quick       5 rounds instead of 25
#          --rounds N    --seconds S (1, of one measurement with fio)    --tests "..."
# Samples: watch.jsonl in the run's directory (see lib.sh).
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

rounds=25 seconds=1 tests="randread-4k other-4k exec first-read"
large=256 programs=100 small=2000
while (($# > 0)); do
	case $1 in
	--quick) rounds=5 ;;
	--rounds) rounds=$2; shift ;;
	--seconds) seconds=$2; shift ;;
	--tests) tests=$2; shift ;;
	*) echo "usage: $0 [--quick] [--rounds N] [--seconds S] [--tests ...]" >&2; exit 2 ;;
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

answered() { grep -qx "$1" "$TEMP/events"; }

wait_answer() {
	local end=$(($(now_ms) + 20000))
	until answered "$1"; do
		(($(now_ms) < end)) || die "the watcher says: $(tail -n 1 "$TEMP/watch.log")"
		sleep 0.02
	done
}

watcher_start() {
	: >"$TEMP/events"
	setpriv --pdeathsig TERM "$BUILD/tests/access_watch" objects="$TEMP/objects" <"$TEMP/commands" >"$TEMP/events" \
		2>"$TEMP/watch.log" &
	PID[watch]=$!
	exec 8>"$TEMP/commands"
	wait_answer ready
}

watcher_stop() {
	[[ -n ${PID[watch]-} ]] || return 0
	exec 8>&-
	wait "${PID[watch]}" || die "the watcher ended badly"
	unset "PID[watch]"
}

# mode before|off|on
mode() {
	watcher_stop
	[[ $1 != before ]] || return 0
	watcher_start
	[[ $1 == on ]] || return 0
	echo watch >&8
	wait_answer "ok watch"
	# What does not run cannot be measured.
	echo stats >&8
	wait_answer "ok stats"
	(($(grep -c '^program .* attached' "$TEMP/events") >= 4)) || die "not watched: $(grep '^program' "$TEMP/events")"
}

# --- measurements: each prints how much in a second -----------------------------------------------

contained() { "${first[@]}" unshare -m "$@"; }

fio_rate() {
	"$@" --name=watch --readonly --invalidate=0 --rw=randread --bs=4k --ioengine=psync --thread --time_based \
		--runtime="$seconds" --output-format=json | jq '.jobs[0].read.iops'
}

measure() {
	case $1 in
	randread-4k) fio_rate contained fio --filename="$TEMP/merged/large" ;;
	other-4k) fio_rate "${first[@]}" fio --filename="$TEMP/other" ;;
	exec) contained "$BUILD/bench/storm" exec 10 <"$TEMP/paths.exec" ;;
	first-read) contained "$BUILD/bench/storm" read 1 <"$TEMP/paths.first" ;;
	*) die "no test $1" ;;
	esac
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
for ((round = 0; round <= rounds; round++)); do # the first warms up
	for mode in ${orders[round % 6]}; do
		mode "$mode"
		for test in $tests; do
			rate=$(measure "$test")
			((round > 0)) || continue
			jq -nc --arg test "$test" --arg mode "$mode" --argjson round $round --argjson rate "$rate" \
				'$ARGS.named' | record watch
		done
	done
done
watcher_stop
load=$(cut -d ' ' -f 1 /proc/loadavg)
jq -rs -L "$(dirname "$0")" --arg kernel "$(uname -r)" --arg cpus "$(nproc)" --arg load "$load" \
	-f "$(dirname "$0")/watch.jq" "$RUN/watch.jsonl"
echo "samples: $RUN/watch.jsonl"
