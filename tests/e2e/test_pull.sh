#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
#
# firstlight pull against a real containerd and registry: every kind of image runs, is asked for in few
# round trips, is collected by containerd with nothing else; killed anywhere and repeated it completes.
# KILLS=N: how often (12).
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"

FIRSTLIGHT=${FIRSTLIGHT:-$BUILD/firstlight}
readonly LINK_ADDRESS=10.77.0.1:5000 RTT_MS=50 RATE_MBIT=100 PIECE=$((4 << 20))
need jq nsenter ip ctr-remote

fl() {
	local command=$1
	shift
	timeout --foreground 120 "${client_net[@]}" "$FIRSTLIGHT" "$command" --address "$FIRSTLIGHT_SOCKET" "$@"
}

# pull OPTION... REF
pull() {
	fl pull --plain-http "$@" >"$T/pull.out" 2>"$T/pull.err" || {
		cat "$T/pull.err" >&2
		return 1
	}
}

ids() {
	ctr content ls -q | sort
	ctr snapshot --snapshotter firstlight ls | awk 'NR > 1 { print $1 }' | sort
	ctr leases ls -q
}

requests() {
	registry_requests | grep -c "$1" || true
}

hello() {
	local out
	out=$(run_container --rm "$1" "$NAME-hello-$((++hellos))" /bin/busybox echo Hello) || fail "$1 does not run"
	[[ $out = *Hello* ]] || fail "$1 says: $out"
}
hellos=0

# big_image OUT BYTES: a layout whose one layer does not compress.
big_image() {
	local digest size
	mkdir -p "$1/blobs/sha256" "$T/big.root"
	head -c "$2" /dev/urandom >"$T/big.root/bytes"
	tar -C "$T/big.root" -c bytes | tee >(sha256sum | cut -d ' ' -f 1 >"$T/big.diff") | gzip -1 >"$1/blob"
	store() {
		digest=$(sha256sum "$1/$2" | cut -d ' ' -f 1)
		size=$(stat -c %s "$1/$2")
		mv "$1/$2" "$1/blobs/sha256/$digest"
		printf '{"mediaType":"application/vnd.oci.image.%s","digest":"sha256:%s","size":%d}' "$3" "$digest" "$size"
	}
	store "$1" blob layer.v1.tar+gzip >"$T/big.layer"
	jq -n -c --arg id "sha256:$(cat "$T/big.diff")" \
		'{architecture: "amd64", os: "linux", rootfs: {type: "layers", diff_ids: [$id]}}' >"$1/config"
	store "$1" config config.v1+json >"$T/big.config"
	jq -n -c --slurpfile layer "$T/big.layer" --slurpfile config "$T/big.config" '{schemaVersion: 2,
		mediaType: "application/vnd.oci.image.manifest.v1+json", config: $config[0], layers: $layer}' >"$1/manifest"
	store "$1" manifest manifest.v1+json >"$T/big.manifest"
	jq -n -c --slurpfile m "$T/big.manifest" '{schemaVersion: 2, manifests: [$m[0] +
		{annotations: {"org.opencontainers.image.ref.name": "latest"}}]}' >"$1/index.json"
	echo '{"imageLayoutVersion":"1.0.0"}' >"$1/oci-layout"
}

restart_containerd() {
	start_containerd
}

start_registry
firstlightd_args=(--containerd "$CONTAINERD_SOCKET")
start_firstlightd
start_containerd

say "an image that stays: what is removed later must leave it alone"
push_image "$(lazy_image sink esgz)" t/keep:1
pull "$REGISTRY/t/keep:1"
kept=$(ids)
[[ -n $kept ]] || fail "nothing is there after a pull"

# requests_allowed LAYOUT FORMAT: for blobs, up to the moment when a container can start: the config, the
# end of each lazy layer, an ordinary one piece by piece. Of "high" no layer is lazy, but that is not
# known when the ends are asked for.
requests_allowed() {
	jq --argjson piece $PIECE --arg format "$2" '[.layers[] |
		(if .annotations != null then 1 else 0 end) +
		(if .annotations == null or $format == "high" then .size / $piece | ceil else 0 end)] | add + 1' \
		"$(layout_blob "$1" manifest)"
}

for format in esgz zstd cs org low high; do
	say "format $format"
	kind=small
	[[ $format != low && $format != high ]] || kind=sink # it has more layers than are mixed
	image=$REGISTRY/t/$kind:$format
	layout=$(lazy_image $kind "$format")
	push_image "$layout" "t/$kind:$format"
	allowed=$(requests_allowed "$layout" $format)
	for try in 1 2 3; do # on a busy host the background has begun before they are counted
		registry_forget
		pull "$image"
		asked=$(requests /blobs/)
		[[ $(requests /manifests/) == 1 ]] || fail "$format: $(requests /manifests/) manifests were asked for"
		# The lazy layers of "low" fill while the upper ones are unpacked.
		[[ $format != low && $asked -gt $allowed ]] || break
		((try < 3)) || fail "$format: $asked requests for blobs, not $allowed"
		ctr image rm --sync "$image" >/dev/null
	done
	hello "$image"
	pull --wait "$image"
	registry_forget
	pull "$image"
	[[ $(requests /blobs/) == 0 ]] || fail "$format: pulled again, it fetched blobs"
	ctr image check "name==$image" | grep "$image" >/dev/null || fail "containerd does not know $image"
	ctr image rm --sync "$image" >/dev/null
	[[ $(ids) == "$kept" ]] || fail "$format: left over or too much gone: $(diff <(echo "$kept") <(ids))"
done

say "two at once fetch once"
image=$REGISTRY/t/small:org
registry_forget
fl pull --plain-http "$image" >/dev/null 2>&1 & one=$!
fl pull --plain-http "$image" >/dev/null 2>&1 & two=$!
wait $one && wait $two || fail "pulled twice at once, one failed"
[[ $(requests /manifests/) == 1 ]] || fail "the manifest was fetched $(requests /manifests/) times"
twice=$(blob_bytes | awk '$2 > 1')
[[ -z $twice ]] || fail "fetched more than once: $twice"
hello "$image"

say "another namespace, the same layers"
CTR_NAMESPACE=other
fl pull --plain-http --namespace other "$REGISTRY/t/keep:1" >/dev/null 2>&1
ctr -n other snapshot --snapshotter firstlight ls | grep sha256 >/dev/null || fail "no snapshots in the other namespace"
ctr -n other image rm --sync "$REGISTRY/t/keep:1" >/dev/null

say "refused: wrong names, what is not there, no registry"
for wrong in "UPPER/case" "$REGISTRY/t/none:1" "$REGISTRY/t/keep:none" "127.0.0.1:1/t/keep:1"; do
	! fl pull --plain-http "$wrong" >/dev/null 2>"$T/wrong.err" || fail "$wrong was pulled"
	[[ $(grep -cv '^hint: ' "$T/wrong.err") == 1 ]] || fail "not one line: $(cat "$T/wrong.err")"
done
! fl pull --plain-http --platform linux/s390x "$REGISTRY/t/small:org" >/dev/null 2>"$T/wrong.err" || fail "pulled for s390x"
grep -q 'not there for linux/s390x; it is for linux/amd64' "$T/wrong.err" || fail "says: $(cat "$T/wrong.err")"
ctr image rm --sync "$image" >/dev/null
[[ $(ids) == "$kept" ]] || fail "left over: $(diff <(echo "$kept") <(ids))"

say "killed and repeated"
push_image "$(lazy_image sink esgz)" t/sink:esgz
push_image "$(lazy_image sink org)" t/sink:org
for ((i = 0; i < ${KILLS:-12}; i++)); do
	formats=(esgz org low high)
	image=$REGISTRY/t/sink:${formats[i % 4]}
	fl pull --plain-http "$image" >/dev/null 2>&1 & one=$!
	sleep "0.$(printf %03d $((RANDOM % (i % 4 ? 700 : 120))))" # the lazy one is faster
	case $((i % 3)) in
	0)
		kill -KILL "$containerd_pid"
		wait "$containerd_pid" 2>/dev/null || true
		restart_containerd
		;;
	1)
		kill_firstlightd
		start_firstlightd
		;;
	2) kill -KILL $one 2>/dev/null || true ;;
	esac
	wait $one 2>/dev/null || true
	pull "$image" || fail "killed ($i) and repeated, $image is not pulled"
	hello "$image"
	ctr image check "name==$image" | grep "$image" >/dev/null || fail "killed ($i) and repeated, $image is not whole"
	ctr image rm --sync "$image" >/dev/null
done
[[ $(ctr image ls -q) == "$REGISTRY/t/keep:1" ]] || fail "images: $(ctr image ls -q)"
for lease in $(ctr leases ls -q); do # of pulls that were killed; they expire
	ctr leases rm --sync "$lease" >/dev/null
done
[[ $(ids) == "$kept" ]] || fail "left over after kills: $(diff <(echo "$kept") <(ids))"
[[ -z $(ctr content active | awk 'NR > 1') ]] || fail "ingests are left: $(ctr content active)"

say "what was lost here is taken out of containerd"
kill_firstlightd
unmount_below "$FIRSTLIGHT_ROOT"
rm -rf --one-file-system "$FIRSTLIGHT_ROOT"
start_firstlightd
fl scan --json >"$T/scan.json" || fail "scan: $(cat "$T/scan.json")"
sleep 3 # the daemon's own, at its start, may have been faster
ctr snapshot --snapshotter firstlight ls >/dev/null || fail "containerd cannot list its snapshots"
pull "$REGISTRY/t/keep:1" || fail "not pulled again after the loss"
run_container --rm "$REGISTRY/t/keep:1" "$NAME-again" /bin/true 2>/dev/null || run_container --rm "$REGISTRY/t/keep:1" "$NAME-again2" >/dev/null || fail "does not run after the loss"

say "from the content store, without a registry"
pull --namespace third "$REGISTRY/t/keep:1"
manifest=$(ctr -n third image ls | awk 'NR == 2 { print $3 }')
top=$(ctr -n third snapshot --snapshotter firstlight ls | awk 'NR > 1 { print $1 }')
stop_process "$registry_pid" 5 || true
registry_pid=""
for ((i = 0; i < 20; i++)); do # a parent goes when its child has gone
	for one in $top; do
		ctr -n third snapshot --snapshotter firstlight rm "$one" 2>/dev/null || true
	done
done
[[ -z $(ctr -n third snapshot --snapshotter firstlight ls | awk 'NR > 1') ]] || fail "snapshots stay"
fl prepare --namespace third "$manifest" >/dev/null || fail "not prepared from the content store"
ctr -n third snapshot --snapshotter firstlight ls | grep sha256 >/dev/null || fail "no snapshots after prepare"
! fl prepare --namespace third "sha256:$(printf '0%.0s' {1..64})" 2>"$T/wrong.err" || fail "prepared from nothing"
grep -q "not in containerd's content store" "$T/wrong.err" || fail "says: $(cat "$T/wrong.err")"
stop_firstlightd
stop_process "$containerd_pid" 20 || true
containerd_pid=""

say "over a link of $RTT_MS ms and $RATE_MBIT Mbit/s"
mkdir -p "$T/link"
"$BUILD/bench/link" "$T/link" $RTT_MS $RATE_MBIT >"$T/link.log" 2>&1 &
link_pid=$!
wait_until 30 grep -qw ready "$T/link.log" || fail "no link: $(cat "$T/link.log")"
server_net=(nsenter --net="$T/link/server")
client_net=(nsenter --net="$T/link/client")
start_registry $LINK_ADDRESS
start_containerd
start_firstlightd
for format in esgz zstd; do
	push_image "$(lazy_image small $format)" t/small:$format
	for try in {1..6}; do # the machine may be busy
		registry_forget
		pull --json "$LINK_ADDRESS/t/small:$format"
		ms=$(tail -n 1 "$T/pull.out" | jq .elapsed_ms)
		bytes=$(registry_requests | awk '{ sum += $4 } END { print sum + 0 }')
		limit=$((6 * RTT_MS + bytes * 8 / RATE_MBIT / 1000))
		[[ -z ${SAN-} ]] || limit=$((limit * 2))
		say "$format: ready after $ms ms, $bytes bytes; the limit is $limit ms"
		((ms > limit && try < 6)) || break
		ctr image rm --sync "$LINK_ADDRESS/t/small:$format" >/dev/null
		# Its connections too. containerd would dial a daemon that was away only after a pause.
		stop_process "$containerd_pid" 20 || true
		stop_firstlightd
		start_firstlightd
		start_containerd
	done
	((ms <= limit)) || fail "$format: ready after $ms ms, not $limit"
done

say "a download that was interrupted goes on where it was"
big_image "$T/big" $((48 << 20))
push_image "$T/big" t/big:1
layer=$(jq -r '.layers[0] | "\(.digest) \(.size)"' "$(layout_blob "$T/big" manifest)")
size=${layer#* } layer=${layer% *}
registry_forget
fl pull --plain-http "$LINK_ADDRESS/t/big:1" >/dev/null 2>&1 & one=$!
sleep 2.5
kill_firstlightd
wait $one 2>/dev/null || true
held=$(ctr content active | awk -v ref="layer-$layer" '$1 == ref { print $2 }')
start_firstlightd
pull "$LINK_ADDRESS/t/big:1"
sent=$(blob_bytes | awk -v layer="$layer" '$1 == layer { sum += $3 } END { print sum + 0 }')
say "held $held; sent $sent bytes of a layer of $size"
[[ -n $held ]] || fail "nothing was held of the interrupted download"
((sent < size + 3 * PIECE)) || fail "$sent bytes were sent of a layer of $size"
stop_firstlightd
stop_process "$link_pid" 5 || true
