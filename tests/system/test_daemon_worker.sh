#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# The keeper and its worker: killed, killed again and again, orphaned, drained.
# shellcheck source=tests/system/lib.sh
. "$(dirname "$0")/lib.sh"

# kill_worker: sets the old one's id, killed.
kill_worker() {
	killed=$(worker)
	[[ -n $killed ]] || fail "there is no worker"
	kill -KILL "$killed"
}

say "a worker is killed under load"
start
inode=$(stat -c %i "$SOCKET")
snaps load w 6 >"$T/acks" 2>"$T/load.err" &
load=$!
pids+=("$load")
sleep 1
old=$(worker)
kill_worker
wait_until 2 new_worker "$old" || fail "no new worker"
sleep 2.5
kill_worker
wait "$load" || fail "the load failed: $(cat "$T/load.err")"
cat "$T/load.err"
logged 'worker ended signal=9 .* failures=1 restart_in_ms=0'
[[ $(stat -c %i "$SOCKET") == "$inode" ]] || fail "the socket is another one"
snaps check <"$T/acks"
(($(grep -vc '^[?]' "$T/acks") > 300)) || fail "the load did little"

say "a client that dials while there is no worker waits"
stop
start
for _ in 1 2 3 4; do # into the back-off
	kill_worker
	wait_until 5 new_worker "$killed" || fail "no new worker"
done
kill_worker
snaps stat w0-1 || fail "a client was turned away"

say "back-off"
pauses=$(sed -n 's/.*worker ended .* restart_in_ms=\([0-9]*\)$/\1/p' "$LOG" | tail -n 5 | tr '\n' ' ')
[[ $pauses == '0 50 100 200 400 ' ]] || fail "the pauses are $pauses"

say "a worker that lasts is started again without delay"
sleep 10.2
kill_worker
wait_until 2 new_worker "$killed" || fail "no new worker"
tail -n 20 "$LOG" | grep -q 'worker ended signal=9 .* failures=0 restart_in_ms=0' || fail "the back-off stays"

say "the keeper is killed: its worker ends too"
old=$(worker)
kill -KILL "$keeper"
wait_until 5 not running "$old" || fail "worker $old lives on"
start
snaps check <"$T/acks"

say "SIGTERM with calls in flight"
snaps load d 3 >"$T/acks2" 2>"$T/load.err" &
load=$!
pids+=("$load")
sleep 0.5
stop
[[ -z $(worker) ]] || fail "a worker is left"
start
wait "$load" || fail "the load failed"
grep -q ' acknowledged, 0 errors' "$T/load.err" || fail "calls in flight were lost: $(cat "$T/load.err")"
cat "$T/acks" "$T/acks2" | snaps check

say "SIGTERM while the worker is dead"
for _ in 1 2 3 4 5 6 7; do
	kill_worker
	wait_until 5 new_worker "$killed" || fail "no new worker"
done
kill_worker
stop

say "a worker that never becomes ready: the keeper gives up"
mv "$ROOT/snapshots" "$T/aside"
echo "not a directory" >"$ROOT/snapshots"
before=$(grep -c 'worker ended' "$LOG")
launch
ended_badly 20
logged 'giving up reason="no worker has become ready"'
tries=$(($(grep -c 'worker ended' "$LOG") - before))
((tries >= 3 && tries <= 10)) || fail "$tries tries"
rm "$ROOT/snapshots"
mv "$T/aside" "$ROOT/snapshots"
start
cat "$T/acks" "$T/acks2" | snaps check
stop
say "done"
