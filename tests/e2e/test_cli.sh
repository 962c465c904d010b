#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
#
# Every command on a live daemon with images, as a person and as a script use it; then its wrong uses: no
# daemon, no containerd, no permission, nonsense, a closed output. Each failure is one line and a hint.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"

FIRSTLIGHT=$BUILD/firstlight
export FIRSTLIGHT_ADDRESS=$FIRSTLIGHT_SOCKET COLUMNS=80
need jq setpriv tmux

fl() {
	timeout --foreground 60 "$FIRSTLIGHT" "$@"
}

# json COMMAND... : its output is JSON in which the filter in $1 is true.
json() {
	local filter=$1
	shift
	fl "$@" --json >"$T/out.json" || fail "$*: status $?"
	jq -es "$filter" "$T/out.json" >/dev/null || fail "$*: not $filter: $(head -c 600 "$T/out.json")"
}

# narrow COMMAND...: its output fits 80 columns.
narrow() {
	fl "$@" >"$T/out" || fail "$*: status $?: $(cat "$T/out")"
	[[ -s $T/out ]] || fail "$*: says nothing"
	sed 's/…/./g' "$T/out" | awk -v c="$*" 'length > 80 { print c ": " $0; found = 1 } END { exit found }' >&2 ||
		fail "$*: wider than 80 columns"
}

# wrong STATUS WORDS COMMAND...: fails with that status and one line that has the words.
wrong() {
	local want=$1 words=$2 status=0
	shift 2
	fl "$@" >"$T/wrong.out" 2>"$T/wrong.err" || status=$?
	[[ $status == "$want" ]] || fail "$*: status $status, not $want: $(cat "$T/wrong.err")"
	[[ $(grep -cv -e '^hint: ' -e '^note: ' "$T/wrong.err") == 1 ]] || fail "$*: not one line: $(cat "$T/wrong.err")"
	grep -q "$words" "$T/wrong.err" || fail "$*: says $(cat "$T/wrong.err")"
	[[ ! -s $T/wrong.out ]] || fail "$*: printed $(cat "$T/wrong.out")"
}

start_registry
firstlightd_args=(--containerd "$CONTAINERD_SOCKET")
start_firstlightd
start_containerd
push_image "$(lazy_image small esgz)" t/lazy:1
push_image "$(lazy_image small org)" t/org:1

say "events and pulls"
fl events --json --count 3 >"$T/events.json" & events=$!
sleep 0.3
fl pull --plain-http --wait "$REGISTRY/t/lazy:1" >"$T/out" 2>"$T/err" || fail "pull: $(cat "$T/err")"
grep -q 'ready after .* 2 of 2 layers lazy' "$T/out" || fail "pull says $(cat "$T/out")"
grep -q 'all of it is local' "$T/out" || fail "pull --wait says $(cat "$T/out")"
[[ $(grep -c ' lazy ' "$T/err") == 2 ]] || fail "pull says of its layers: $(cat "$T/err")"
json '.[-1].phase == "ready" and (.[-1].layers | map(.state) | all(. == "unpacked"))' pull --plain-http "$REGISTRY/t/org:1"
wait $events || fail "events ended with $?"
jq -es '.[0].kind == "layer-lazy" and (.[0].layer | startswith("sha256:")) and .[0].image' "$T/events.json" >/dev/null ||
	fail "events: $(cat "$T/events.json")"
run_container --detach --null-io "$REGISTRY/t/lazy:1" "$NAME-up" sleep 1000 >/dev/null

say "images, inspect, snapshots, mounts, status, top"
narrow images
json '(.[0] | length == 2) and (.[0] | map(select(.name | endswith("lazy:1")))[0] | .ready and .complete and .lazy == 2 and .bytes == .bytes_local and .bytes > 0)' images
json '.[0] | length == 0' images --namespace none
narrow inspect "$REGISTRY/t/lazy:1"
json '.[0] | .image.ready and (.layers | length == 2) and (.layers[0] | .lazy and .complete and (.path | length > 0) and .files == .files_local and (.refs | length == 1))' inspect "$REGISTRY/t/lazy:1"
path=$(jq -r '.layers[0].path' "$T/out.json")
[[ -e $path ]] || fail "inspect: there is no $path"
mount=$(jq -r '.layers[1].mount' "$T/out.json")
mountpoint -q "$mount" || fail "inspect: $mount is no mount point"
json '.[0] | .layers | map(.path) | all(length > 0)' inspect "$REGISTRY/t/org:1"
path=$(jq -r '.layers[0].path' "$T/out.json")
[[ -d $path ]] || fail "inspect: there is no directory $path"
key=$(fl snapshots --json kind==active | jq -r '.[0].name')
narrow inspect "$key"
json '.[0] | .snapshot.kind == "active" and (.mounts[0].type == "overlay") and (.layers | length == 3)' inspect --snapshot "$key"
narrow snapshots
json '.[0] | length == 5' snapshots
narrow mounts
json '.[0] | map(.kind) | contains(["container", "fill", "meta"])' mounts
narrow status
json '.[0] | .snapshots == 5 and .active == 1 and .lazy == 2 and .runs == 1 and .layers_complete == 2 and (.queues | length == 3) and .store_complete > 0' status
fl top --interval 1 --count 2 >"$T/out" || fail "top: status $?"
[[ $(grep -c '^up' "$T/out") == 2 ]] || fail "top --count 2: $(cat "$T/out")"
json '.[0].daemon | .version and (.features | map(select(.name == "lazy"))[0].on)' version
narrow version
status=0
fl doctor --root "$FIRSTLIGHT_ROOT" --containerd "$CONTAINERD_SOCKET" >"$T/out" || status=$?
[[ $status == 0 ]] && grep -q 'lazy images work here' "$T/out" || fail "doctor: status $status: $(cat "$T/out")"

say "verify finds what is wrong, and repairs it"
json '.[-1] | .bad == 0 and .objects > 0' verify
object=$(find "$FIRSTLIGHT_ROOT/objects" -type f -size +8k | sort | head -n 1)
dd if=/dev/urandom of="$object" bs=1 count=64 seek=100 conv=notrunc status=none
wrong_status=0
fl verify >"$T/out" || wrong_status=$?
[[ $wrong_status == 1 ]] && grep -q '^bad ' "$T/out" || fail "verify: status $wrong_status: $(cat "$T/out")"
fl verify --repair >"$T/out" || fail "verify --repair: status $?: $(cat "$T/out")"
grep -q '^repaired ' "$T/out" || fail "verify --repair: $(cat "$T/out")"
json '.[-1].bad == 0' verify

say "drain, gc, scan"
fl drain --wait >"$T/out" || fail "drain: status $?"
grep -q '2 of 2 layers complete' "$T/out" || fail "drain: $(cat "$T/out")"
push_image "$(lazy_image small zstd)" t/late:1
json '.[-1].layers | map(.state) | all(. == "unpacked")' pull --plain-http "$REGISTRY/t/late:1"
json '.[0].draining == false' drain --undo
ctr image rm "$REGISTRY/t/late:1" >/dev/null
json '.[0].trash_left == 0' gc --containerd
json '.[0] | .snapshots == 5 and .missing == 0' scan

say "in a terminal"
tmux -L "$NAME" new-session -d -x 80 -y 24 "FIRSTLIGHT_ADDRESS=$FIRSTLIGHT_SOCKET $FIRSTLIGHT top --interval 1"
sleep 2.5
tmux -L "$NAME" capture-pane -p >"$T/screen"
tmux -L "$NAME" send-keys q
wait_until 5 not tmux -L "$NAME" has-session 2>/dev/null || fail "top does not end at q"
grep -q '^up .*resident' "$T/screen" || fail "top shows: $(cat "$T/screen")"
grep -q 't/lazy:1' "$T/screen" || fail "top shows no image: $(cat "$T/screen")"

say "wrong uses"
wrong 2 'no command "pul"' pul
wrong 2 'REF' pull
wrong 2 'nonsense' images --nonsense
wrong 2 'unexpected\|argument' status extra
wrong 1 'not a reference' pull a//b
wrong 1 'not a reference' pull "$(printf 'x%.0s' {1..3000})"
wrong 2 'REF is empty' pull ''
wrong 2 'has no name' pull --user :x "$REGISTRY/t/lazy:1"
wrong 2 'no secret' pull --user me: "$REGISTRY/t/lazy:1"
wrong 1 'no terminal' pull --user me "$REGISTRY/t/lazy:1" </dev/null
wrong 1 'no password' pull --user me --password-stdin "$REGISTRY/t/lazy:1" </dev/null
wrong 1 'MANIFEST_UNKNOWN' pull --plain-http "$REGISTRY/t/none:1"
wrong 1 'connect' pull 127.0.0.1:1/x:1
wrong 1 'filter' snapshots 'kind=='
wrong 2 'no kind of event' events --kind nonsense
wrong 2 'at least 1' events --count 0
wrong 2 '3600' top --interval 3601
wrong 2 'unexpected' --version extra
wrong 1 'must match' images --namespace 'a b'
wrong 1 'longer than' status --address "/$(printf 'x%.0s' {1..3000})"
wrong 1 'not a platform' pull --platform x "$REGISTRY/t/lazy:1"
wrong 1 'no image and no snapshot' inspect nothing:1
wrong 1 'does not exist' inspect --snapshot nothing
wrong 2 'exclude' drain --undo --wait
wrong 1 'digest' prepare nonsense
wrong 1 'no daemon at' status --address "$T/none.sock"
wrong 1 'is not a socket' status --address "$T/registry.yml"
fl snapshots >/dev/full 2>"$T/wrong.err" && fail "snapshots: a full disk is not told"
fl snapshots | head -n 1 >/dev/null || true
chmod 755 "$T"
wrong_status=0
setpriv --reuid=65534 --clear-groups "$FIRSTLIGHT" status 2>"$T/wrong.err" || wrong_status=$?
[[ $wrong_status == 1 ]] && grep -q 'no permission' "$T/wrong.err" || fail "not root: $wrong_status $(cat "$T/wrong.err")"
remove_container "$NAME-up"
stop_process "$containerd_pid" 20 || true
containerd_pid=""
wrong 1 'containerd' images
wrong 1 'containerd' images --json # and no half of a list
wrong 1 'containerd' pull --plain-http "$REGISTRY/t/lazy:1"
wrong 1 'containerd' scan
narrow snapshots
kill -STOP $(firstlightd_workers)
status=0
timeout 90 "$FIRSTLIGHT" version >"$T/out" 2>&1 || status=$?
grep -q 'not reached' "$T/out" || fail "a daemon that hangs: $status $(cat "$T/out")"
kill -CONT $(firstlightd_workers)
stop_firstlightd
