#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# Peers of ill will: garbage, silence, very many connections, very many calls that nobody reads. The
# daemon goes on serving, its worker is the same one, and its memory stays bounded.
# shellcheck source=tests/system/lib.sh
. "$(dirname "$0")/lib.sh"

# Of a connection's 256 streams each may have GRPC_STREAM_OUT_MAX and a block of the list.
# The sanitizers keep what was freed.
STREAMS_KB=$((256 * 1024))
[[ -z ${SAN-} && $BUILD != *-san ]] || STREAMS_KB=$((STREAMS_KB * 4))

# hold COMMAND…: a peer that stays until release; its first line must come.
hold() {
	mkfifo "$T/hold"
	"$SNAPS_PROGRAM" "$SOCKET" "$@" <"$T/hold" >"$T/held" 2>&1 &
	held=$!
	pids+=("$held")
	exec 7>"$T/hold"
	wait_until 60 test -s "$T/held" || fail "snaps $* says nothing"
	running "$held" || fail "snaps $*: $(cat "$T/held")"
}

release() {
	exec 7>&-
	wait "$held" || fail "$(cat "$T/held")"
	rm "$T/hold"
}

served_by() {
	snaps stat l0 || fail "the daemon does not serve"
	[[ $(worker) == "$1" ]] || fail "the worker died"
}

start
snaps fill l 500 1000 >"$T/acks"
worker=$(worker)

say "garbage"
snaps garbage
served_by "$worker"

say "an unknown method"
refused 'Unimplemented: unknown method /containerd.services.snapshots.v1.Snapshots/Explode' unknown

say "a connection that says nothing"
snaps silent >"$T/silent" &
silent=$!
pids+=("$silent")

say "many connections"
hold idle 2000
# 512 connections; `silent` has one of them, and others may just be ending
[[ $(cat "$T/held") =~ ^served\ (50[0-9]|51[0-2])\ refused ]] || fail "idle: $(cat "$T/held")"
! timeout 2 "$SNAPS_PROGRAM" "$SOCKET" stat l0 >"$T/out" 2>&1 || fail "more connections than the limit are served"
(($(grep -c 'connection refused' "$LOG") < 10)) || fail "the log is flooded"
logged 'connection refused: EBUSY connections=512'
release
wait_until 10 snaps stat l0 || fail "no connection is served afterwards"
served_by "$worker"
wait "$silent" || fail "silent"
grep -Eq '^sent away after (9\.[5-9]|1[0-2])' "$T/silent" || fail "silent: $(cat "$T/silent")"

say "very many calls that nobody reads"
before=$(rss_kb "$worker")
hold streams 1000
sleep 3
served_by "$worker"
during=$(rss_kb "$worker")
say "worker: $before kB before, $during kB while they wait"
((during - before < STREAMS_KB)) || fail "the worker grew by $((during - before)) kB"
release
sleep 1
served_by "$worker"
snaps check <"$T/acks"
stop
say "done"
