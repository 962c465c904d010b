#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 1200
#
# Lazy images are read while things go wrong: the worker is killed, or the registry misbehaves in one
# way after the other. Every read ends, no wrong byte is shown, and what can be read in the end is.
# Each phase has a new root for firstlightd, so that contents are cold.
#
# KILLS: of the worker (30; 200 for a full run). READERS: views that are read at the same time (8).
# PHASES: which ones.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"

KILLS=${KILLS:-30}
readonly KILLS_A_ROUND=5
READERS=${READERS:-8}
PHASES=${PHASES:-kills drop cut 500 429 stall mix wrong mirror dead}
RATE=$((4 << 20)) # bytes a second, so that the background does not win

view_image() {
	"$BUILD/go/viewmount" -address "$CONTAINERD_SOCKET" -snapshotter "$@"
}

# faulty QUERY: prints how often the last faults hit, and how many blobs were asked for.
faulty() {
	curl -sS --max-time 5 "http://$BAD/_control?$1"
}

start_badregistry() {
	"$BUILD/go/badregistry" "$REGISTRY" >"$T/bad.address" 2>"$T/bad.log" &
	bad_pid=$!
	wait_until 10 test -s "$T/bad.address" || fail "the proxy does not listen"
	BAD=$(<"$T/bad.address")
}

# hosts NAMESPACE HOST...: hosts are asked in this order.
hosts() {
	local namespace=$1 host
	registry_settings "$namespace"
	printf 'server = "http://%s"\n' "${*: -1}" >"$T/certs.d/$namespace/hosts.toml"
	for host in "${@:2}"; do
		printf '[host."http://%s"]\n  capabilities = ["pull", "resolve"]\n' "$host"
	done >>"$T/certs.d/$namespace/hosts.toml"
}

# mount_cold IMAGE: pulls it without contents, and mounts its views.
mount_cold() {
	local i
	image=$1
	lazypull "$SNAPSHOTTER" "$image" >/dev/null || fail "$image cannot be pulled"
	(($(layers_that_are remote) > 0)) || fail "$image: no layer is lazy"
	for ((i = 0; i < READERS; i++)); do
		mkdir -p "$T/view-$i"
		view_image "$SNAPSHOTTER" "$image" "$T/view-$i" || fail "no view"
	done
}

unmount_cold() {
	local i
	for ((i = 0; i < READERS; i++)); do
		view_image "$SNAPSHOTTER" -u "$T/view-$i"
	done
	ctr image rm --sync "$image" >/dev/null
}

# fresh: nothing that an earlier phase has fetched is left.
fresh() {
	[[ -z $firstlightd_pid ]] || stop_firstlightd
	unmount_below "$FIRSTLIGHT_ROOT"
	rm -rf --one-file-system "$FIRSTLIGHT_ROOT" "$FIRSTLIGHT_STATE"
	start_firstlightd
	# containerd waits a little before it dials again.
	wait_until 20 snapshot_made || fail "containerd does not find firstlightd again"
}

snapshot_made() {
	CTR_SECONDS=5 ctr snapshot --snapshotter "$SNAPSHOTTER" prepare "$NAME-probe" >/dev/null 2>&1 &&
		ctr snapshot --snapshotter "$SNAPSHOTTER" rm "$NAME-probe"
}

read_views() {
	"$BUILD/go/readcheck" "$T/copy" "$T"/view-? >"$T/counts" 2>"$T/complaints"
}

kill_worker() {
	local worker
	sleep "0.0$((RANDOM % 10))"
	worker=$(firstlightd_workers | head -n 1)
	[[ -n $worker ]] && kill -KILL "$worker" 2>/dev/null || return 0
	killed=$((killed + 1))
}

# row PHASE HITS: of the table; reads counts.
row() {
	read -r trees files bytes errors wrong longest <"$T/counts"
	printf '%-8s %6s %6s %7s %10s %7s %6s %8s\n' "$1" "$2" "$trees" "$files" "$bytes" "$errors" "$wrong" "$longest" \
		>>"$T/table"
	say "$1: $2 faults, $files files, $errors errors, $wrong wrong, longest read $longest ms"
	((wrong == 0)) || fail "$1: wrong bytes: $(grep '^wrong' "$T/complaints" | head -n 5)"
}

no_errors() {
	((errors == 0)) || fail "$1: reads failed: $(head -n 5 "$T/complaints")"
}

phase_kills() {
	local killed=0 reader before
	while ((killed < KILLS)); do
		before=$killed
		fresh
		faulty "mode=ok&rate=$RATE" >/dev/null
		mount_cold "$BAD/test/sink:1"
		read_views &
		reader=$!
		# Each death doubles the keeper's pause; a few a round leave time to read.
		while running "$reader" && ((killed - before < KILLS_A_ROUND && killed < KILLS)); do
			kill_worker
			sleep "0.$((1 + RANDOM % 8))"
		done
		wait "$reader" || fail "kills: $(tail -n 3 "$T/complaints")"
		row kills "$((killed - before))"
		no_errors kills
		unmount_cold
		((killed > before)) || fail "kills: all was read before the worker could be killed"
	done
	say "$killed workers were killed"
}

# phase_fault MODE EVERY: all reads are right in the end.
phase_fault() {
	local hit
	fresh
	faulty "mode=$1&every=$2&rate=$RATE" >/dev/null
	mount_cold "$BAD/test/sink:1"
	read_views || fail "$1: $(tail -n 3 "$T/complaints")"
	hit=$(faulty mode=ok)
	row "$1" "${hit% *}"
	no_errors "$1"
	((${hit% *} > 0)) || fail "$1: no request was hit"
	unmount_cold
}

# largest_layer: its digest and size.
largest_layer() {
	jq -r '.layers | max_by(.size) | "\(.digest) \(.size)"' "$(layout_blob "$layout" manifest)"
}

# One byte of the blob is always wrong: what needs it cannot be read, all else can.
phase_wrong() {
	local digest size hit bad
	read -r digest size < <(largest_layer)
	fresh
	faulty "mode=flip&blob=$digest&at=$((size / 2))&rate=$RATE" >/dev/null
	mount_cold "$BAD/test/sink:1"
	read_views || fail "wrong: $(tail -n 3 "$T/complaints")"
	hit=$(faulty mode=ok)
	row wrong "${hit% *}"
	((${hit% *} > 0 && errors > 0)) || fail "wrong: no read has failed"
	bad=$(sed -n "s|^error: $T/view-[0-9]*/\(.*\) [0-9]*: input/output error$|\1|p" "$T/complaints" | sort -u)
	[[ $(grep -c '^error:' "$T/complaints") == $(grep -c 'input/output error$' "$T/complaints") ]] ||
		fail "wrong: another error than EIO: $(grep -v 'input/output error$' "$T/complaints" | head -n 3)"
	[[ $(wc -l <<<"$bad") == 1 ]] || fail "wrong: more than one file cannot be read: $bad"
	grep -q "wrong bytes layer=$digest chunk=[0-9]* host=" "$T"/firstlightd.*.log || fail "wrong: nothing is logged"
	say "wrong: only $bad cannot be read; logged: $(grep -h 'wrong bytes' "$firstlightd_log" | head -n 1 | cut -c 1-200)"
	unmount_cold
}

# The same with every body, from a mirror that is asked first.
phase_mirror() {
	local hit
	fresh
	hosts "$REGISTRY" "$BAD" "$REGISTRY"
	faulty "mode=flip&every=1" >/dev/null
	mount_cold "$REGISTRY/test/sink:1"
	read_views || fail "mirror: $(tail -n 3 "$T/complaints")"
	hit=$(faulty mode=ok)
	row mirror "${hit% *}"
	no_errors mirror
	((${hit% *} > 0)) || fail "mirror: it was not asked"
	grep -q "wrong bytes layer=.* host=$BAD" "$firstlightd_log" || fail "mirror: nothing is logged"
	unmount_cold
}

# A registry that is dead: who waits can be killed, and who waits long enough gets EIO.
phase_dead() {
	local file began waiter reader ms status=0 READERS=2
	fresh
	faulty "mode=ok&rate=$((RATE / 8))" >/dev/null
	mount_cold "$BAD/test/sink:1"
	faulty mode=dead >/dev/null
	file=$(find "$T/copy" -type f -size +1M -printf '%s %P\n' | sort -rn | sed -n '1s/^[0-9]* //p')
	began=$(date +%s%N)
	cat "$T/view-0/$file" >"$T/dead.out" 2>"$T/dead.errors" &
	reader=$!
	cat "$T/view-1/$file" >/dev/null 2>&1 &
	waiter=$!
	sleep 1
	running "$waiter" || fail "dead: the reader does not wait"
	ms=$(($(date +%s%N) / 1000000))
	kill -KILL "$waiter"
	wait "$waiter" 2>/dev/null || true
	ms=$(($(date +%s%N) / 1000000 - ms))
	((ms < 1000)) || fail "dead: the killed reader took $ms ms to end"
	say "dead: a killed reader ended after $ms ms"
	wait "$reader" || status=$?
	ms=$((($(date +%s%N) - began) / 1000000))
	((status != 0)) || fail "dead: the file could be read"
	grep -q 'Input/output error' "$T/dead.errors" || fail "dead: $(<"$T/dead.errors")"
	((ms > 50000 && ms < 75000)) || fail "dead: EIO came after $ms ms"
	cmp -s "$T/dead.out" <(head -c "$(stat -c %s "$T/dead.out")" "$T/copy/$file") || fail "dead: wrong bytes"
	grep -qE 'read failed .*layer sha256:[0-9a-f]{64} chunk [0-9]+: .+' "$firstlightd_log" ||
		fail "dead: no line says why: $(grep 'read failed' "$firstlightd_log" | head -n 3)"
	say "dead: EIO after $ms ms: $(grep -hE 'read failed' "$firstlightd_log" | head -n 1)"
	faulty mode=ok >/dev/null
	printf '%-8s killed reader ended at once, EIO after %s ms\n' dead "$ms" >>"$T/table"
	cmp "$T/view-0/$file" "$T/copy/$file" || fail "dead: cannot be read when the registry lives again"
	unmount_cold
}

copy_right() {
	lazypull overlayfs "$REGISTRY/test/sink:1" >/dev/null || fail "no image on overlayfs"
	mkdir "$T/eager" "$T/copy"
	view_image overlayfs "$REGISTRY/test/sink:1" "$T/eager"
	cp -a "$T/eager/." "$T/copy/"
	find "$T/copy" \( -name stargz.index.json -o -name '.prefetch.landmark' -o -name '.no.prefetch.landmark' \) -delete
	view_image overlayfs -u "$T/eager"
	ctr image rm --sync "$REGISTRY/test/sink:1" >/dev/null
}

need curl jq cmp
for tool in badregistry readcheck viewmount lazypull; do
	[[ -x $BUILD/go/$tool ]] || fail "$BUILD/go/$tool is not built"
done
# shellcheck disable=SC2119
start_registry
start_badregistry
hosts "$BAD" "$BAD"
start_firstlightd
start_containerd
layout=$(lazy_image sink esgz)
push_image "$layout" test/sink:1
copy_right
printf '%-8s %6s %6s %7s %10s %7s %6s %8s\n' phase faults trees files bytes errors wrong longest >"$T/table"
for phase in $PHASES; do
	case $phase in
	stall) phase_fault stall 12 ;;
	drop | cut | 500 | 429 | mix) phase_fault "$phase" 3 ;;
	*) "phase_$phase" ;;
	esac
done
stop_firstlightd
kill "$bad_pid"
cat "$T/table"
say "ok"
