#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 420
#
# Readers of a lazy image while the worker is killed again and again: every read ends, none fails, every
# byte is right. The registry is slow enough that contents are missing all the time; each round pulls
# the image anew, every second one into the root of the round before.
#
# KILLS: how many, all rounds together (20; 200 for a full run). READERS: views that are read at the
# same time (8).
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"
. "$(dirname "$0")/faults.sh"

KILLS=${KILLS:-20}
# Each death doubles the keeper's pause; a few for a keeper leave time to read.
readonly KILLS_A_ROUND=4

# kill_worker: counts only while reads are under way, before and after.
kill_worker() {
	local worker
	worker=$(firstlightd_workers | head -n 1)
	[[ -n $worker ]] && kill -KILL "$worker" 2>/dev/null || return 0
	! running "$reader" || killed=$((killed + 1))
}

one_round() {
	local before=$killed
	((rounds % 2)) || fresh
	faulty "mode=ok&rate=$RATE" >/dev/null
	mount_cold "$BAD/test/sink:1"
	read_views &
	reader=$!
	while running "$reader" && ((killed - before < KILLS_A_ROUND && killed < KILLS)); do
		sleep "0.$((RANDOM % 8))$((RANDOM % 10))"
		kill_worker
	done
	wait "$reader" || fail "reads did not end: $(tail -n 3 "$T/complaints")"
	row kills "$((killed - before))"
	no_errors kills
	unmount_cold
	((killed > before)) || fail "all was read before the worker could be killed"
	all_files=$((all_files + files))
	((longest <= longest_ms)) || longest_ms=$longest
}

start_faults
killed=0 rounds=0 all_files=0 longest_ms=0
while ((killed < KILLS)); do
	one_round
	rounds=$((rounds + 1))
done
say "$all_files files read while $killed workers were killed: no error, no wrong byte; longest read $longest_ms ms"
stop_firstlightd
