#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 480
#
# Starts are learnt from and foreseen, with a real containerd and registry: a program gets a profile, which
# outlives its image's content, is asked for with the next pull, and serves the next version; two programs of
# one image, and two scripts of one interpreter, have their own; what an image's author has recorded;
# recordings, export and import; the daemon killed in the middle; no BPF.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"

FIRSTLIGHT=${FIRSTLIGHT:-$BUILD/firstlight}
[[ $SNAPSHOTTER == firstlight ]] || skip "only for firstlight"
need jq ctr-remote curl

fl() {
	local command=$1
	shift
	timeout --foreground 400 "$FIRSTLIGHT" "$command" --address "$FIRSTLIGHT_SOCKET" "$@"
}

# settings BPF: of the daemon.
settings() {
	registry_settings "$REGISTRY"
	printf '[start]\nbpf = %s\nquiet_s = 2\nwatch_s = 20\n[metrics]\naddress = "unix:%s/metrics.sock"\n' "$1" "$T" \
		>>"$T/firstlight.toml"
}

# logged TEXT: how many lines of all logs have it.
logged() {
	cat "$T"/firstlightd.*.log | grep -c -- "$1" || true
}

more_logged() {
	(($(logged "$1") > $2))
}

# pull_and_run OPTION... IMAGE [COMMAND...]
pull_and_run() {
	"$BUILD/go/lazypull" -address "$CONTAINERD_SOCKET" -snapshotter firstlight -runc-root "$T/runc" -fifo-dir "$T/fifo" \
		-name "$NAME-lazy" "$@" 2>>"$T/lazypull.log"
}

# start IMAGE [COMMAND...]: pulls, runs until it is ready or ends, and waits until it has been watched.
start() {
	local before options=(-run)
	before=$(logged 'start over ')
	(($# > 1)) || options+=(-stop -ready label)
	pull_and_run "${options[@]}" "$@" >"$T/run.out" 2>&1 || fail "$*: $(tail -n 2 "$T/lazypull.log" "$T/run.out")"
	wait_until 40 more_logged 'start over ' "$before" || fail "$*: the start is not over"
}

# over KEY: a number of the last start that is over.
over() {
	cat "$T"/firstlightd.*.log | grep 'start over ' | tail -n 1 | grep -oE "\b$1=[0-9]+" | cut -d = -f 2
}

# early KEY: a number of what was last asked for before its tables of contents.
early() {
	cat "$T"/firstlightd.*.log | grep 'asked for early ' | tail -n 1 | grep -oE "\b$1=[0-9]+" | cut -d = -f 2
}

# metric NAME: as the daemon says.
metric() {
	curl -sS --max-time 5 --unix-socket "$T/metrics.sock" http://localhost/metrics | awk -v name="firstlight_$1" '$1 == name { print $2 }'
}

no_contents() {
	[[ -z $(find "$FIRSTLIGHT_ROOT/objects" "$FIRSTLIGHT_ROOT/partial" -type f -print -quit) ]]
}

# forget IMAGE: the node keeps the profile, and nothing else.
forget() {
	ctr image rm --sync "$1" >/dev/null
	wait_until 30 no_contents || fail "contents of $1 stay: $(find "$FIRSTLIGHT_ROOT/objects" "$FIRSTLIGHT_ROOT/partial" -type f | wc -l) files"
}

# profile REPOSITORY PROGRAM KEY
profile() {
	fl profile list --json "$REGISTRY/$1" | jq -r --arg p "$2" --arg k "$3" '.[] | select(.executable == $p) | .[$k]'
}

none_attached() {
	! cat "/proc/$(firstlightd_workers)/fdinfo"/* 2>/dev/null | grep -q '^link_type:.*raw_tracepoint'
}

is_watching() {
	(($(logged 'accesses: ') + $(logged 'are not watched by BPF') > 0))
}

start_registry
settings true
start_firstlightd
start_containerd
push_image "$(lazy_image redis-v1 esgz)" t/redis:1
push_image "$(lazy_image redis-v1 opt)" t/recorded:1
push_image "$(lazy_image redis esgz)" t/redis:2
push_image "$(lazy_image python esgz)" t/python:1
wait_until 5 is_watching || fail "the programs of BPF are not loaded"
redis=$REGISTRY/t/redis:1
server=/usr/bin/redis-server

say "what an image's author has recorded comes with the pull"
foreseen_chunks() { metric 'fetch_chunks_total{class="predicted"}'; }
some_foreseen() { (($(foreseen_chunks) > 0)); }
pull_and_run "$REGISTRY/t/recorded:1" >"$T/run.out" 2>&1 || fail "$(tail -n 2 "$T/lazypull.log" "$T/run.out")"
wait_until 10 some_foreseen || fail "nothing that lies before the landmarks was fetched"
say "$(foreseen_chunks) chunks"
forget "$REGISTRY/t/recorded:1"

say "a first start is learnt from"
start "$redis"
seen=true
if (($(logged 'are not watched by BPF')  > 0)); then
	seen=""
	say "NO BPF HERE: $(grep -h 'not watched by BPF' "$T"/firstlightd.*.log | head -n 1)"
fi
[[ $(profile t/redis $server starts) == 1 ]] || fail "no profile: $(fl profile list)"
[[ -z $seen || $(profile t/redis $server whole) == 1 ]] || fail "the start was not seen whole"
fl profile show "$REGISTRY/t/redis" $server >"$T/show"
for path in $server libc.so.6 ld-linux-x86-64.so.2; do
	grep -qF "$path" "$T/show" || fail "the profile lacks $path: $(head -n 20 "$T/show")"
done
[[ -z $seen ]] || wait_until 20 none_attached || fail "programs are attached, and nobody is watched"

say "the node keeps the profile only: the next start is foreseen"
forget "$redis"
start "$redis"
(($(over asked) > 0 && $(over hits) + $(over late) > 0)) || fail "nothing was foreseen: $(grep -h 'start over' "$T"/firstlightd.*.log | tail -n 1)"
(($(over unforeseen) * 10 <= $(over hits) + $(over late) + $(over missed) + $(over local))) ||
	fail "much was not foreseen: $(grep -h 'start over' "$T"/firstlightd.*.log | tail -n 1)"
(($(over wasted) * 4 <= $(over asked))) || fail "much was fetched in vain: $(grep -h 'start over' "$T"/firstlightd.*.log | tail -n 1)"
[[ $(profile t/redis $server starts) == 2 ]] || fail "the second start was not learnt from"
(($(logged 'asked for early ') == 1 && $(early programs) == 1)) || fail "it was not asked for before the tables were here"
came=$(metric early_bytes_total)
used=$(metric early_used_bytes_total)
say "early: asked for $(early bytes) bytes, $came came, $used were used"
((came <= $(early bytes) && used * 10 >= came * 9)) || fail "of $came bytes that came early $used were used"
all=$(early bytes)

say "another version of the image"
forget "$redis"
start "$REGISTRY/t/redis:2"
(($(over hits) + $(over late) > 0)) || fail "the other version was not foreseen"
(($(logged 'read-failed') == 0)) || fail "reads failed"

say "another program of the same image has its own"
start "$REGISTRY/t/redis:2" /usr/bin/redis-cli --version
[[ $(profile t/redis /usr/bin/redis-cli starts) == 1 ]] || fail "no profile of redis-cli: $(fl profile list)"
fl profile show "$REGISTRY/t/redis" /usr/bin/redis-cli | grep -qF $server && fail "redis-cli is said to read $server"
forget "$REGISTRY/t/redis:2"
start "$REGISTRY/t/redis:2" /usr/bin/redis-cli --version
own=$(profile t/redis /usr/bin/redis-cli content)
say "redis-cli: asked for $(over asked) bytes, its profile has $own, the server's $(profile t/redis $server content)"
say "early: $(early bytes) bytes, those of the server were $all"
(($(early programs) == 2 && $(early bytes) < all)) || fail "what only one of two programs reads was asked for early"

say "the first program counts, and not what it executes"
before=$(profile t/redis /usr/bin/redis-cli starts)
start "$REGISTRY/t/redis:2" /bin/sh -c 'exec /usr/bin/redis-cli --version'
[[ -z $seen || $(profile t/redis /bin/sh starts) == 1 ]] || fail "no profile of the shell: $(fl profile list)"
[[ -z $seen || $(profile t/redis /usr/bin/redis-cli starts) == "$before" ]] || fail "redis-cli has learnt from the shell's start"

say "two scripts of one interpreter"
start "$REGISTRY/t/python:1"
[[ $(profile t/python /app/main.py starts) == 1 ]] || fail "no profile of the script: $(fl profile list)"
start "$REGISTRY/t/python:1" python3 /usr/lib/python3.11/this.py
[[ $(profile t/python /usr/lib/python3.11/this.py starts) == 1 ]] || fail "no profile of the other: $(fl profile list)"
(($(profile t/python /usr/lib/python3.11/this.py content) * 2 < $(profile t/python /app/main.py content))) ||
	fail "the small script has the large one's profile"

say "out, forgotten, and in again"
fl profile export "$REGISTRY/t/redis" $server >"$T/profile.json"
fl profile rm "$REGISTRY/t/redis" $server >/dev/null
[[ -z $(profile t/redis $server starts) ]] || fail "it is still there"
! fl profile export "$REGISTRY/t/redis" $server >/dev/null 2>&1 || fail "it can be exported"
fl profile import "$T/profile.json" >/dev/null
fl profile export "$REGISTRY/t/redis" $server | cmp - "$T/profile.json" || fail "it came back as another one"
for wrong in '{' '{}' '[1]' "$(jq -c '.uses[0].unit = -1' "$T/profile.json")"; do
	printf '%s' "$wrong" >"$T/wrong.json"
	! fl profile import "$T/wrong.json" >/dev/null 2>"$T/err" || fail "imported: $wrong"
	[[ $(grep -cv '^hint: ' "$T/err") == 1 ]] || fail "not one line: $(cat "$T/err")"
done

say "a recording"
ctr image rm --sync "$REGISTRY/t/python:1" >/dev/null
forget "$REGISTRY/t/redis:2"
fl record "$REGISTRY/t/redis:1" >"$T/recording.json" &
recorder=$!
sleep 0.5
start "$redis"
wait $recorder || fail "no recording"
jq -e --arg server $server '.executable == $server and (.events | length) > 20 and (.files | length) > 5' \
	"$T/recording.json" >/dev/null || fail "the recording: $(head -c 300 "$T/recording.json")"
"$BUILD/replay" --recording "$T/recording.json" --rtt 50 --rate 100 >"$T/replay" || fail "replay: $(cat "$T/replay")"
sed 's/^/    /' "$T/replay"

say "killed in the middle of starts"
forget "$redis"
for delay in 0.05 0.2 0.5; do
	pull_and_run -run -stop -ready label "$redis" >"$T/run.out" 2>&1 &
	pull=$!
	sleep $delay
	kill -KILL $(firstlightd_workers)
	wait $pull || say "after $delay s: the pull ended with its daemon"
	wait_until 20 fl status >/dev/null 2>&1 || fail "the daemon does not come back"
	remove_container "$NAME-lazy" >/dev/null 2>&1 || true
done
start "$redis"
[[ -n $(profile t/redis $server starts) ]] || fail "the profile is gone"
[[ -z $seen ]] || wait_until 20 none_attached || fail "programs are attached, and nobody is watched"

say "without BPF: what comes through FUSE"
stop_firstlightd
settings false
start_firstlightd
wait_until 20 ctr snapshot --snapshotter firstlight ls >/dev/null 2>&1 || fail "containerd does not find the new daemon"
fl profile rm "$REGISTRY/t/redis" >/dev/null
for _ in {1..5}; do # what comes before it is read is not seen by FUSE: here that may be all
	forget "$redis"
	start "$redis"
	[[ $(fl profile list --json "$REGISTRY/t/redis") == '[]' ]] || break
done
# The program is what /proc calls it: the server is one of several names of that file.
fl profile list --json "$REGISTRY/t/redis" | jq -e 'length == 1 and .[0].starts == 1 and .[0].whole == 0 and .[0].files > 0' >/dev/null ||
	fail "not learnt, or said to be whole: $(fl profile list --json)"
forget "$redis"
start "$redis"
(($(over asked) > 0)) || fail "nothing was foreseen"
[[ -n $seen ]] || skip "BPF cannot be used here"
say "ok"
