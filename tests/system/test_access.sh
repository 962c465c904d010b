#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
#
# trace/access.c and bpf/access.bpf.c on the real kernel: known accesses, each in a mount namespace of its own,
# through the overlay that containers have, on the fill mount and on an EROFS mount; and what does not
# count. Then a full ring, programs that cannot run, and the end of it.
# shellcheck source=tests/system/lib.sh
. "$(dirname "$0")/lib.sh"

WATCH=$BUILD/tests/access_watch
WORK=$BUILD/tests/access_work
SERVE=$BUILD/tests/fill_serve
CYCLES=${CYCLES:-100}
for program in "$WATCH" "$WORK" "$SERVE"; do
	[[ -x $program ]] || fail "no $program"
done
UNIT=131072

# --- objects, and what looks like them ------------------------------------------------------------
random_key() { head -c 32 /dev/urandom | od -A n -t x1 | tr -d ' \n'; }

# object SIZE|FILE: makes one; prints its key.
object() {
	local key
	key=$(random_key)
	mkdir -p "$T/objects/${key:0:2}"
	if [[ -f $1 ]]; then
		cp "$1" "$T/objects/${key:0:2}/$key"
	else
		head -c "$1" /dev/zero >"$T/objects/${key:0:2}/$key"
	fi
	echo "$key"
}

path() { echo "$T/objects/${1:0:2}/$1"; }

# file NAME KEY [DIR]: a file of the image whose content is the object; DIR: where that is found.
file() {
	truncate -s "$(stat -c %s "${3:-$T/objects}/${2:0:2}/$2")" "$T/meta/$1"
	chmod 755 "$T/meta/$1"
	setfattr -n trusted.overlay.metacopy "$T/meta/$1"
	setfattr -n trusted.overlay.redirect -v "/${2:0:2}/$2" "$T/meta/$1"
}

mkdir "$T"/{objects,meta,upper,work,merged,fill,served,erofs,small,partial}
mkdir "$T/objects/aa"
A=$(object 3000001) B=$(object $((40 << 20))) P=$(object "$(type -P true)") X=$(object 200000)
truncate -s 64G "$(path "$(object 1)")"
W=$(basename "$(find "$T/objects" -size +1G)")
for pair in "a $A" "b $B" "true $P" "w $W"; do
	# shellcheck disable=SC2086 # a name and a key
	file $pair
done
aa=aa$(random_key | cut -c 3-) bb=bb$(random_key | cut -c 3-)
for key in "$aa" "$bb"; do
	head -c 3000001 /dev/urandom >"$T/served/$key"
done
ln "$T/served/$aa" "$T/objects/aa/$aa" # complete: a plain file below the mount
sync -f "$T"

# --- the watcher ----------------------------------------------------------------------------------
# watcher OPTION...: starts it; its lines go to $T/events.
watcher() {
	rm -f "$T/commands" "$T/events"
	mkfifo "$T/commands"
	: >"$T/events"
	"${wrap[@]}" "$WATCH" objects="$T/objects" "$@" <"$T/commands" >"$T/events" 2>"$T/log.watch" &
	watcher=$!
	pids+=("$watcher")
	exec 8>"$T/commands"
	wait_until 20 grep -q '^ready' "$T/events" || fail "the watcher does not start"
}

# tell COMMAND...: and waits for the answer.
tell() {
	local before
	before=$(grep -cx "ok $*" "$T/events" || true)
	echo "$*" >&8
	wait_until 30 answered $((before + 1)) "$*" || fail "no answer to $*"
}

answered() {
	! grep -qx "failed $2" "$T/events" || fail "$2 failed"
	(($(grep -cx "ok $2" "$T/events") >= $1))
}

watcher_end() {
	local status=0
	exec 8>&-
	wait_until 20 not running "$watcher" || fail "the watcher does not end"
	wait "$watcher" || status=$?
	((status == 0)) || fail "the watcher ended with $status"
}

# mark: what comes now is seen by told.
mark() {
	tell sync
	MARK=$(wc -l <"$T/events")
}

# told: the events since mark(), a line a unit: KEY or DEVICE:INO, and the unit.
told() {
	tell sync
	tail -n +$((MARK + 1)) "$T/events" | awk '
		$1 == "object" { for (i = 0; i < $7; i++) print $5, $6 + i }
		$1 == "file" { for (i = 0; i < $8; i++) print $5 ":" $6, $7 + i }' | sort
}

# units NAME FIRST LAST: as told() prints them.
units() { seq "$2" "$3" | sed "s/^/$1 /"; }

# expect WHAT FILE: what was told is what the file says, and nothing else: a repeat is an error too.
expect() {
	told >"$T/told"
	sort "$2" >"$T/expected"
	cmp -s "$T/told" "$T/expected" || {
		diff "$T/expected" "$T/told" | head -n 20 >&2 || true
		fail "$1: expected and told differ"
	}
}

# contained STEP...: in a new mount namespace.
contained() { unshare -m "$WORK" "$@" || fail "$*"; }

# seen WHAT "NAME FIRST LAST"... -- STEP...: these steps, in a namespace of their own, are told as these units.
seen() {
	local what=$1 list=()
	shift
	while [[ $1 != -- ]]; do
		list+=("$1")
		shift
	done
	shift
	mark
	contained "$@"
	for range in "${list[@]}"; do
		# shellcheck disable=SC2086 # three words
		units $range
	done >"$T/want"
	expect "$what" "$T/want"
}

# stat_of NAME: one of the watcher's numbers.
stat_of() {
	tell stats
	grep '^stats ' "$T/events" | tail -n 1 | grep -oE "\b$1=[0-9]+" | cut -d = -f 2
}

# program TRACEPOINT: "attached" or "off", and the reason.
program() {
	tell stats
	grep "^program $1 " "$T/events" | tail -n 1 | cut -d ' ' -f 3-
}

# loaded: how many of the programs in $T/ids there are.
loaded() { "$WORK" programs | tr ' ' '\n' | grep -cxFf "$T/ids" || true; }

mount -t overlay overlay -o "lowerdir=$T/meta::$T/objects,upperdir=$T/upper,workdir=$T/work,metacopy=on,redirect_dir=on,index=off" \
	"$T/merged" || skip "this kernel has no data-only layers"
mounts=("$T/merged")
M=$T/merged

watcher
if ! [[ $(program sched_process_exec) =~ ^off\ *$ ]]; then
	skip "BPF: $(program sched_process_exec)"
fi
modern=1
[[ -z $(program mm_filemap_get_pages | cut -d ' ' -f 2-) ]] || modern=0
((modern)) || say "this kernel has only the tracepoint of pages that come into the cache: $(program mm_filemap_get_pages)"

say "nobody watches: nothing is told"
mark
contained read "$M/a" 0 4096 run "$M/true"
[[ $(stat_of told) == 0 ]] || fail "something was told"
watcher_end
((modern)) || { say "the rest needs Linux 6.12"; exit 0; }

# --- what counts ----------------------------------------------------------------------------------
mkdir -p "$T/other/${X:0:2}" "$T/objects/deeper/${X:0:2}"
head -c 200000 /dev/urandom | tee "$T/other/${X:0:2}/$X" "$T/partial/$X" "$T/objects/$X" \
	"$T/objects/deeper/${X:0:2}/$X" "$T/objects/${X:0:2}/${X:0:63}" "$T/objects/${X:0:2}/${X:0:63}g" \
	>"$T/objects/${X:0:2}/${X:0:63}A"
sync -f "$T"

say "reads"
watcher
tell watch
seen "a page" "$A 0 0" -- read "$M/a" 5000 100
seen "two bytes over a unit's end" "$A 0 1" -- read "$M/a" $((UNIT - 1)) 2
seen "a unit" "$A 3 3" -- read "$M/a" $((3 * UNIT)) $UNIT
seen "odd places" "$A 2 4" -- read "$M/a" 300001 300001
seen "behind the end" "$A 22 22" -- read "$M/a" 2999999 1048576
seen "at the end" -- read "$M/a" 3000001 10
seen "40 MiB in one call" "$B 0 319" -- read "$M/b" 0 $((40 << 20))
seen "40 MiB out of a cold cache" "$B 0 319" -- cold "$M/b" 0 read "$M/b" 0 $((40 << 20))
seen "between what was read" "$B 0 47" -- read "$M/b" 0 $((16 * UNIT)) read "$M/b" $((32 * UNIT)) $((16 * UNIT)) \
	read "$M/b" 0 $((48 * UNIT))
seen "sendfile" "$A 1 1" -- sendfile "$M/a" 200000 10000
seen "splice" "$A 4 4" -- splice "$M/a" $((4 * UNIT + 100)) 1000

say "memory maps"
seen "a page in the cache" "$A 5 5" -- map "$M/a" $((5 * UNIT + 65536))
seen "a page that is not" "$A 9 9" -- cold "$M/a" $((9 * UNIT + 65536))
seen "a page of one's own" "$A 6 6" -- write "$M/a" $((6 * UNIT + 65536))

say "exec"
mark
contained run "$M/true"
units "$P" 0 0 >"$T/want"
expect "a program that is an object" "$T/want"
mapfile -t lines < <(tail -n +$((MARK + 1)) "$T/events" | grep '^exec ')
[[ ${#lines[@]} == 1 && ${lines[0]} == *" $M/true $M/true one two" ]] || fail "exec: ${lines[*]}"
[[ $(cut -d ' ' -f 5 <<<"${lines[0]}") == $(mountpoint -d "$M") ]] || fail "exec: another device: ${lines[0]}"
tail -n +$((MARK + 1)) "$T/events" | grep -E '^(object|exec) ' | awk '{ print $2, $3, $4 }' | sort -u >"$T/who"
[[ $(wc -l <"$T/who") == 1 ]] || fail "a process is told as several: $(cat "$T/who")"

say "not every exec of a loop"
mark
steps=()
for _ in {1..20}; do
	steps+=(run "$M/true")
done
contained "${steps[@]}"
sleep 0.3
n=$(tail -n +$((MARK + 1)) "$T/events" | grep -c '^exec ')
((n == 16)) || fail "$n of 20 were told"

say "who it was"
mark
unshare -m "$WORK" read "$M/a" 0 10 &
worker=$!
pids+=("$worker")
wait "$worker"
tell sync
[[ $(tail -n +$((MARK + 1)) "$T/events" | awk '$1 == "object" { print $4 }') == "$worker" ]] ||
	fail "the process was $worker: $(tail -n 1 "$T/events")"

say "once for each namespace"
seen "what was touched before" "$A 0 2" "$A 7 7" -- read "$M/a" 0 100 read "$M/a" 0 300000 \
	read "$M/a" 100 200000 map "$M/a" 65536 read "$M/a" $((7 * UNIT)) 10 sendfile "$M/a" 0 4096
seen "through another path" "$A 0 0" -- read "$M/a" 0 1 read "$(path "$A")" 0 1
seen "read at random, 100,000 times" "$B 0 319" -- random "$M/b" 100000
seen "two objects at the same places" "$A 0 22" "$B 0 22" -- read "$M/a" 0 3000001 read "$M/b" 0 3000000 \
	read "$M/a" 0 3000001 read "$M/b" 0 3000000

say "what does not count"
seen "what is read ahead" "$A 15 15" -- cold "$M/a" $((15 * UNIT + 65536)) advise "$M/a" 0 1000000 \
	ahead "$M/a" 1000000 1000000
seen "past the cache" -- direct "$M/a" 0 65536
seen "other directories of the file system" -- read "$T/other/${X:0:2}/$X" 0 1000 read "$T/partial/$X" 0 1000 \
	read "$T/objects/$X" 0 1000 read "$T/objects/deeper/${X:0:2}/$X" 0 1000
seen "other names in objects" -- read "$T/objects/${X:0:2}/${X:0:63}" 0 1000 \
	read "$T/objects/${X:0:2}/${X:0:63}g" 0 1000 read "$T/objects/${X:0:2}/${X:0:63}A" 0 1000
mark
"$WORK" read "$M/a" 0 3000001 run "$M/true" map "$M/a" 65536
expect "the watcher's own namespace" /dev/null
! tail -n +$((MARK + 1)) "$T/events" | grep '^exec ' || fail "its own exec was told"

say "names that come and go"
Y=$(random_key)
mkdir -p "$T/objects/${Y:0:2}"
ln "$(path "$A")" "$(path "$Y")"
mark
contained read "$(path "$Y")" 0 10 read "$M/a" 0 10
case $(told) in "$A 0" | "$Y 0") ;; *) fail "two keys of one content: $(told)" ;; esac
rm "$(path "$Y")"
Z=$(object 300000)
mark
unshare -m "$WORK" open "$(path "$Z")" await "$T/removed" read - 0 10 &
pids+=($!)
sleep 0.2
rm "$(path "$Z")"
touch "$T/removed"
wait $!
units "$Z" 0 0 >"$T/want"
expect "an object that is deleted while it is open" "$T/want"
rm "$T/removed"
mark
cp "$(path "$A")" "$T/partial/$Z"
unshare -m "$WORK" open "$T/partial/$Z" read - 0 10 await "$T/removed" read - 200000 10 await "$T/gone" read - 400000 10 &
pids+=($!)
sleep 0.2
mv "$T/partial/$Z" "$(path "$Z")"
touch "$T/removed"
sleep 0.2
mv "$(path "$Z")" "$T/partial/$Z"
touch "$T/gone"
wait $!
units "$Z" 1 1 >"$T/want"
expect "an object that is moved into its place and away" "$T/want"

say "namespaces that are ignored"
rm "$T/removed" "$T/gone"
mark
unshare -m "$WORK" read "$M/a" 0 10 await "$T/go" read "$M/a" 1000000 10 run "$M/true" &
pids+=($!)
contained read "$M/b" 0 10
sleep 0.2
tell sync
ns=$(tail -n +$((MARK + 1)) "$T/events" | awk -v key="$A" '$5 == key { print $2 }')
other=$(tail -n +$((MARK + 1)) "$T/events" | awk -v key="$B" '$5 == key { print $2 }')
[[ -n $ns && -n $other && $ns != "$other" ]] || fail "namespaces $ns and $other"
tell ignore "$ns"
mark
touch "$T/go"
wait $!
expect "an ignored namespace" /dev/null
! tail -n +$((MARK + 1)) "$T/events" | grep '^exec ' || fail "its exec was told"
seen "a later one" "$A 0 0" -- read "$M/a" 0 10

say "many threads of many namespaces"
mark
for i in {1..20}; do
	unshare -m "$WORK" read "$M/b" 0 $((20 << 20)) random "$M/b" 20000 read "$M/a" 0 3000001 &
	pids+=($!)
	jobs[i]=$!
done
wait "${jobs[@]}"
for i in {1..20}; do
	units "$A" 0 22
	units "$B" 0 319
done >"$T/want"
expect "20 namespaces" "$T/want"
mark
for i in {1..500}; do
	unshare -m "$WORK" read "$M/a" 0 3000001 run "$M/true" &
	jobs[i % 50]=$!
	((i % 50)) || wait "${jobs[@]}"
done
for i in {1..500}; do
	units "$A" 0 22
	units "$P" 0 0
done >"$T/want"
expect "500 namespaces" "$T/want"
[[ $(stat_of lost) == 0 ]] || fail "$(stat_of lost) records were lost"
watcher_end

say "more than the kernel remembers"
watcher ring=$((32 << 20))
tell watch
mark
for i in {1..10}; do
	contained words "$M/w" 8192
done
[[ $(stat_of lost) == 0 ]] || fail "$(stat_of lost) records were lost"
tell sync
tail -n +$((MARK + 1)) "$T/events" | awk '$1 == "object" { print $2, $5, $6 }' | sort -u >"$T/told"
[[ $(wc -l <"$T/told") == 81920 ]] || fail "$(wc -l <"$T/told") of 81920 places were told"
watcher_end

say "in a PID namespace"
: >"$T/events"
# shellcheck disable=SC2016 # the inner shell's
unshare -m -p -f --mount-proc bash -euc '
	"$0" objects="$2" <"$3" >"$4" &
	exec 8>"$3"
	echo watch >&8
	until grep -q "^ok watch" "$4"; do sleep 0.05; done
	unshare -m "$1" read "$5" 0 10 &
	echo "$!" >"$6"
	wait "$!"
	unshare -m -p -f "$1" read "$5" 200000 10
	echo sync >&8
	until grep -q "^ok sync" "$4"; do sleep 0.05; done
	exec 8>&-
	wait
' "$WATCH" "$WORK" "$T/objects" "$T/commands" "$T/events" "$M/a" "$T/inner"
[[ $(awk -v key="$A" '$1 == "object" && $5 == key && $6 == 0 { print $4 }' "$T/events") == $(cat "$T/inner") ]] ||
	fail "the process was $(cat "$T/inner"): $(cat "$T/events")"
(($(awk -v key="$A" '$1 == "object" && $5 == key && $6 == 1 { print $4 }' "$T/events") > $(cat "$T/inner"))) ||
	fail "a process in a namespace below: $(cat "$T/events")"

# --- other file systems ---------------------------------------------------------------------------
say "the fill mount"
if "$SERVE" "$T/fill" "$T/served" "$T/stats" >"$T/log.serve" 2>&1 & then
	server=$!
	pids+=("$server")
fi
if wait_until 10 test -s "$T/stats"; then
	mounts=("$T/merged" "$T/fill")
	watcher fill="$T/fill"
	tell watch
	for key in "$bb" "$aa"; do
		F=$T/fill/${key:0:2}/$key
		seen "$key, a read" "$key 0 1" -- read "$F" $((UNIT - 1)) 2
		seen "$key, its end" "$key 22 22" -- read "$F" 2999999 1048576
		seen "$key, a memory map" "$key 4 4" -- map "$F" $((4 * UNIT + 65536))
	done
	! grep -q passthrough=1 "$T/log.serve" || say "$aa was read by passthrough"
	watcher_end
	kill -TERM "$server"
	wait "$server" || fail "fill_serve ended with $?"
	mounts=("$T/merged")
else
	say "no FUSE here: $(tail -n 1 "$T/log.serve")"
fi

say "small files of an EROFS image"
head -c 300 /dev/urandom >"$T/small/s"
head -c 500000 /dev/urandom >"$T/small/b"
if mkfs.erofs "$T/image" "$T/small" >"$T/log.mkfs" 2>&1 && mount -t erofs "$T/image" "$T/erofs"; then
	mounts=("$T/erofs" "${mounts[@]}")
	dev=$(mountpoint -d "$T/erofs")
	s=$(stat -c %i "$T/erofs/s") b=$(stat -c %i "$T/erofs/b")
	watcher
	tell watch
	seen "a device that nobody asked for" -- read "$T/erofs/s" 0 300
	tell device "$T/erofs" on
	tell device "$T/erofs" on
	seen "a small file" "$dev:$s 0 0" -- read "$T/erofs/s" 0 100000 read "$T/erofs/s" 5 10
	seen "a larger one" "$dev:$b 1 3" -- read "$T/erofs/b" 200000 200000 map "$T/erofs/b" 200000
	tell device "$T/erofs" off
	seen "a device that nobody asks for any more" -- read "$T/erofs/s" 0 300
	watcher_end
else
	say "no EROFS here"
fi

# --- a full ring ----------------------------------------------------------------------------------
say "a ring that is full"
watcher ring=4096
tell watch
mark
echo "stall 2000" >&8
contained words "$M/w" 8192
tell sync
told=$(stat_of told) lost=$(stat_of lost)
((told + lost == 8192 && lost > 8000)) || fail "$told records were told and $lost lost, of 8192"
[[ $(told | wc -l) == "$told" ]] || fail "$told records, $(told | wc -l) units"
seen "after that" "$A 0 0" -- read "$M/a" 0 10
tell unwatch
grep -q "the ring was full lost=$lost" "$T/log.watch" || fail "the log does not say so"
watcher_end

say "a ring that is read in time"
watcher
tell watch
mark
contained words "$M/w" 8192
seq 0 64 524287 | sed "s/^/$W /" >"$T/want"
expect "8192 places" "$T/want"
[[ $(stat_of lost) == 0 ]] || fail "$(stat_of lost) records were lost"
watcher_end

# --- programs that do not run -----------------------------------------------------------------------
say "without a tracepoint"
watcher tracepoint=0:mm_filemap_nothing tracepoint=4:sched_nothing
tell watch
[[ $(program mm_filemap_nothing) == "off this kernel has no tracepoint mm_filemap_nothing" ]] ||
	fail "$(program mm_filemap_nothing)"
[[ $(program mm_filemap_fault) =~ ^attached\ *$ ]] || fail "$(program mm_filemap_fault)"
[[ $(program mm_filemap_add_to_page_cache) =~ ^attached\ *$ ]] || fail "$(program mm_filemap_add_to_page_cache)"
(($(grep -c 'is not watched: this kernel has no tracepoint' "$T/log.watch") == 2)) || fail "the log: $(cat "$T/log.watch")"
seen "a memory map" "$A 5 5" -- map "$M/a" $((5 * UNIT + 65536))
mark
contained cold "$M/a" $((9 * UNIT + 65536)) read "$M/a" 2000000 1000000
told >"$T/told"
for unit in 9 {16..22}; do
	grep -qx "$A $unit" "$T/told" || fail "a read of unit $unit that came into the cache was not told"
done
[[ -z $(uniq -d "$T/told") ]] || fail "repeats: $(uniq -d "$T/told")"
watcher_end

say "without what the verifier refuses"
watcher refused=1
tell watch
[[ $(program mm_filemap_fault) == "off refused by the kernel's verifier: "* ]] || fail "$(program mm_filemap_fault)"
say "$(program mm_filemap_fault)"
[[ $(program mm_filemap_get_pages) =~ ^attached\ *$ ]] || fail "$(program mm_filemap_get_pages)"
seen "a read" "$A 0 1" -- read "$M/a" 0 200000
watcher_end

say "without the capability"
without=-bpf,-perfmon,-sys_admin
wrap=(setpriv "--bounding-set=$without" "--inh-caps=$without")
watcher
wrap=()
tell watch
for program in mm_filemap_get_pages mm_filemap_fault mm_filemap_map_pages sched_process_exec; do
	[[ $(program $program) == "off not permitted"* ]] || fail "$program: $(program $program)"
done
contained read "$M/a" 0 10
tell ignore 1
tell unwatch
tell cycle 3
[[ $(stat_of events) == 0 ]] || fail "events without programs"
watcher_end

# --- coming and going -----------------------------------------------------------------------------
say "$CYCLES times attached and detached"
watcher
tell cycle 5
tell reload 3
fds=$(stat_of fds) kb=$(stat_of kb)
tell cycle "$CYCLES"
tell reload 20
(($(stat_of fds) == fds)) || fail "$fds descriptors before, $(stat_of fds) after"
# Sanitizers keep what is freed.
[[ -n ${SAN-} ]] || (($(stat_of kb) < kb + 2048)) || fail "$kb KiB before, $(stat_of kb) after"
say "$fds descriptors, $kb KiB before, $(stat_of kb) KiB after"
tell watch
tell watch
tell unwatch
seen "while one still watches" "$A 0 0" -- read "$M/a" 0 10
tell unwatch
mark
contained read "$M/a" 0 10
expect "nobody watches any more" /dev/null
tell watch
seen "again" "$A 0 0" -- read "$M/a" 0 10

say "killed, and started again"
sed -n 's/^prog_id:[^0-9]*//p' "/proc/$watcher/fdinfo"/* | sort -u >"$T/ids"
(($(loaded) == 5)) || fail "$(loaded) programs are loaded"
unshare -m "$WORK" random "$M/b" 2000000 &
worker=$!
pids+=("$worker")
sleep 0.2
kill -KILL "$watcher"
wait "$watcher" 2>/dev/null || true
exec 8>&-
gone() { (($(loaded) == 0)); }
wait_until 10 gone || fail "programs are left: $(loaded)"
watcher
tell watch
seen "after that" "$A 0 0" -- read "$M/a" 0 10
wait "$worker" || fail "the process that was watched failed"
sed -n 's/^prog_id:[^0-9]*//p' "/proc/$watcher/fdinfo"/* | sort -u >"$T/ids"
watcher_end
wait_until 10 gone || fail "programs are left: $(loaded)"
say "done"
