#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
#
# The FUSE mount ROOT/fill: made by the keeper, handed to each worker, taken away or left to the next keeper.
# shellcheck source=tests/system/lib.sh
. "$(dirname "$0")/lib.sh"
[[ -c /dev/fuse ]] || skip "no /dev/fuse"

# fill_mounts: the ids of the mounts there.
fill_mounts() { awk -v dir="$ROOT/fill" '$5 == dir && / - fuse firstlight / { print $1 }' /proc/self/mountinfo; }
one_mount() { [[ $(fill_mounts | wc -l) == 1 ]] || fail "mounts at fill: $(fill_mounts | tr '\n' ' ')"; }
no_mount() { [[ -z $(fill_mounts) ]] || fail "the mount stays"; }

# has_fds PID: the FUSE device and the memory are open there.
has_fds() {
	local fds
	fds=$(readlink "/proc/$1/fd/"* 2>/dev/null || true)
	grep -qx /dev/fuse <<<"$fds" && grep -q '^/memfd:firstlight-fill' <<<"$fds"
}

say "the keeper mounts, and a new worker gets the same"
start
if grep -q 'no lazy layers' "$LOG"; then
	skip "$(grep 'no lazy layers' "$LOG")"
fi
one_mount
mounted=$(fill_mounts)
options=$(awk -v id="$mounted" '$1 == id { print $6 "," $NF }' /proc/self/mountinfo)
for option in ro nosuid nodev allow_other default_permissions; do
	[[ ,$options, == *,$option,* ]] || fail "the mount is not $option: $options"
done
has_fds "$(worker)" || fail "the worker has not got it"
old=$(worker)
kill -KILL "$old"
wait_until 5 new_worker "$old" || fail "no new worker"
has_fds "$(worker)" || fail "the new worker has not got it"
[[ $(fill_mounts) == "$mounted" ]] || fail "another mount"
stop
no_mount

say "no worker lasts: who waits gets an error in the end"
start
old=$(worker)
mv "$ROOT/snapshots" "$T/aside"
echo "not a directory" >"$ROOT/snapshots"
kill -KILL "$old"
since=$SECONDS
stat "$ROOT/fill/0a" >"$T/waits" 2>&1 &
waits=$!
pids+=("$waits")
wait_until 80 not running "$waits" || fail "it waits for ever"
((SECONDS - since >= 59)) || fail "it failed after $((SECONDS - since)) s"
grep -q 'Input/output error' "$T/waits" || fail "it got: $(cat "$T/waits")"
logged 'reads failed requests=1 reason="no worker lasts"'
ready=$(times_ready)
rm "$ROOT/snapshots"
mv "$T/aside" "$ROOT/snapshots"
wait_until 10 is_ready $((ready + 1)) || fail "no worker becomes ready"
timeout 10 stat "$ROOT/fill/0a" >"$T/waits" || fail "the mount does not serve again"
stop
no_mount

say "what a killed keeper leaves"
for _ in 1 2; do
	start
	one_mount
	kill -KILL "$keeper"
	wait_until 5 not running "$keeper"
done
mount -t tmpfs tmpfs "$ROOT/fill"
one_mount
start
one_mount
! grep -q " $ROOT/fill .* - tmpfs " /proc/self/mountinfo || fail "what was above it stays"
stop
no_mount

say "no FUSE"
wrap=(unshare --mount --propagation private sh -c 'mount --bind /dev/null /dev/fuse && exec "$@"' sh)
before=$(grep -c 'no lazy layers' "$LOG" || true)
start
wrap=()
(($(grep -c 'no lazy layers error=' "$LOG") == before + 1)) || fail "it was not said once"
snaps prepare one
stop

# restarted N: the Nth start of the daemon is ready.
restarted() { (($(grep -c '^READY=1' "$T/notified") >= $1)); }
stored() { grep -c "^FDSTORE=1 FDNAME=$1 FDPOLL=0" "$T/notified" || true; }
program() { sed -n 's/^start //p' "$T/notified" | tail -n 1; }

say "systemd keeps it"
"$BUILD/tests/fd_store" "$T/notify" "$FIRSTLIGHTD" --root "$ROOT" --state "$T/state" --address "$SOCKET" \
	--containerd "$T/containerd.sock" \
	>"$T/notified" 2>>"$LOG" &
systemd=$!
pids+=("$systemd")
wait_until 20 restarted 1 || fail "not ready"
[[ $(stored fuse) == 1 && $(stored fill-state) == 1 ]] || fail "not stored: $(cat "$T/notified")"
mounted=$(fill_mounts)
one_mount
kill -KILL "$(program)"
wait_until 20 restarted 2 || fail "not ready after SIGKILL"
logged "fill taken-over path=$ROOT/fill"
[[ $(fill_mounts) == "$mounted" ]] || fail "another mount after SIGKILL"
kill -HUP "$systemd"
wait_until 20 restarted 3 || fail "not ready after SIGTERM"
[[ $(fill_mounts) == "$mounted" ]] || fail "another mount after SIGTERM"
[[ $(grep -c 'fill taken-over' "$LOG") == 2 ]] || fail "it was not taken over twice"
[[ $(stored fuse) == 1 && $(stored logins) == 1 ]] || fail "stored again"
keeper=$(program)
has_fds "$(worker)" || fail "the worker has not got it"
snaps prepare two

say "the store has one that is dead"
umount -l "$ROOT/fill"
kill -HUP "$systemd"
wait_until 20 restarted 4 || fail "not ready after the mount was taken away"
one_mount
[[ $(stored fuse) == 2 && $(stored fill-state) == 2 ]] || fail "no new mount"
[[ $(grep -c '^FDSTOREREMOVE=1 FDNAME=fuse' "$T/notified") == 2 ]] || fail "the dead one stays in the store"
kill -TERM "$systemd"
wait_until 20 not running "$systemd" || fail "no end"
one_mount # left to the next, which does not come
[[ $(tail -n 1 "$T/notified") == 'end 0' ]] || fail "the daemon ended with $(tail -n 1 "$T/notified")"
start
stop
no_mount
say "done"
