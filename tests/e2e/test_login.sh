#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
#
# The credentials of a pull: what is read later is asked for with them, also by the worker after one that
# was killed; they are in no file, in no log, and gone when the daemon is.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"
. "$(dirname "$0")/faults.sh"

FIRSTLIGHT=$BUILD/firstlight
export FIRSTLIGHT_ADDRESS=$FIRSTLIGHT_SOCKET
SECRET=open-sesame-$NAME
need jq curl
for tool in badregistry viewmount; do
	[[ -x $BUILD/go/$tool ]] || fail "$BUILD/go/$tool is not built"
done

fl() {
	timeout --foreground 60 "$FIRSTLIGHT" "$@"
}

other_worker() {
	local now
	now=$(firstlightd_workers)
	[[ -n $now && $now != "$1" ]] && fl status >/dev/null 2>&1
}

failed_reads() {
	fl status --json | jq .failed_reads
}

start_registry
start_badregistry
hosts "$BAD" "$BAD"
firstlightd_args+=(--containerd "$CONTAINERD_SOCKET")
start_firstlightd
start_containerd
push_image "$(lazy_image sink esgz)" t/private:1
image=$BAD/t/private:1
faulty "mode=ok&login=me:$SECRET&rate=400000" >/dev/null
fl pull "$image" >/dev/null 2>"$T/err" && fail "pulled without credentials"
grep -q '401\|password' "$T/err" || fail "pull says $(cat "$T/err")"
echo wrong | fl pull --user me --password-stdin "$image" >/dev/null 2>"$T/err" && fail "pulled with wrong credentials"
[[ $(grep -cv '^hint: ' "$T/err") == 1 ]] || fail "not one line: $(cat "$T/err")"
echo "$SECRET" | fl pull --user me --password-stdin "$image" >"$T/out" 2>"$T/err" || fail "pull: $(cat "$T/err")"
fl images --json | jq -e '.[0].complete == false' >/dev/null || fail "nothing is left to be read"

say "the worker is killed"
worker=$(firstlightd_workers)
kill -KILL "$worker"
wait_until 20 other_worker "$worker" || fail "no other worker"
faulty "mode=ok&login=me:$SECRET" >/dev/null
mkdir "$T/view"
view_image "$SNAPSHOTTER" "$image" "$T/view"
find "$T/view" -xdev -type f -exec cat {} + >/dev/null || fail "reads fail after the worker was killed"
view_image "$SNAPSHOTTER" -u "$T/view"
[[ $(failed_reads) == 0 ]] || fail "reads failed"
fl images --json | jq -e '.[0].lazy > 0' >/dev/null || fail "no layer is lazy"

say "the secret is in no file"
if grep -rqsF -- "$SECRET" "$FIRSTLIGHT_ROOT" "$FIRSTLIGHT_STATE" "$T"/firstlightd.*.log; then
	fail "the secret is in $(grep -rlsF -- "$SECRET" "$FIRSTLIGHT_ROOT" "$FIRSTLIGHT_STATE" "$T"/firstlightd.*.log)"
fi
stop_firstlightd
start_firstlightd
push_image "$(lazy_image small esgz)" t/other:1
fl pull "$BAD/t/other:1" >/dev/null 2>"$T/err" && fail "credentials outlive the daemon"
stop_firstlightd
