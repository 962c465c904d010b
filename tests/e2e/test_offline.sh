#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
#
# What works without a registry: images that are complete, images from containerd's content store, other
# manifests of the same layers; and the scan, which takes out what was lost and nothing that is used.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"

FIRSTLIGHT=${FIRSTLIGHT:-$BUILD/firstlight}
need jq curl

fl() {
	local command=$1
	shift
	timeout --foreground 120 "$FIRSTLIGHT" "$command" --address "$FIRSTLIGHT_SOCKET" "$@"
}

# pull OPTION... REF
pull() {
	fl pull --plain-http "$@" >"$T/pull.out" 2>"$T/pull.err" || fail "pull $*: $(cat "$T/pull.err")"
}

# runs IMAGE: a container that reads every file of it.
runs() {
	local out
	out=$(run_container --rm "$1" "$NAME-$((++containers))" /bin/busybox sh -c \
		'find / -xdev -type f -exec cat {} + >/dev/null && echo all read') || fail "$1 does not run"
	[[ $out = *"all read"* ]] || fail "$1 says: $out"
}
containers=0

# in_namespace NAME COMMAND...: of ctr.
in_namespace() {
	local ns=$1
	shift
	ctr -n "$ns" "$@"
}

snapshots() {
	in_namespace "$1" snapshot --snapshotter firstlight ls | awk 'NR > 1 { print $1 }'
}

# drop_snapshots NAMESPACE: a parent goes when its child has gone.
drop_snapshots() {
	local one
	for ((round = 0; round < 20; round++)); do
		for one in $(snapshots "$1"); do
			in_namespace "$1" snapshot --snapshotter firstlight rm "$one" 2>/dev/null || true
		done
	done
	[[ -z $(snapshots "$1") ]] || fail "snapshots stay: $(snapshots "$1")"
}

manifest_of() {
	in_namespace "$1" image ls | awk -v name="$2" '$1 == name { print $3 }'
}

# variant_of LAYOUT TO: the same layers under another config and manifest.
variant_of() {
	local config manifest
	cp -a "$1" "$2"
	jq -c '.config.Labels.variant = "yes"' "$(layout_blob "$1" config)" >"$T/variant.config"
	config=$(sha256sum "$T/variant.config" | cut -d ' ' -f 1)
	jq -c --arg digest "sha256:$config" --argjson size "$(stat -c %s "$T/variant.config")" \
		'.config.digest = $digest | .config.size = $size' "$(layout_blob "$1" manifest)" >"$T/variant.manifest"
	manifest=$(sha256sum "$T/variant.manifest" | cut -d ' ' -f 1)
	mv "$T/variant.config" "$2/blobs/sha256/$config"
	jq -c --arg digest "sha256:$manifest" --argjson size "$(stat -c %s "$T/variant.manifest")" \
		'.manifests[0].digest = $digest | .manifests[0].size = $size' "$1/index.json" >"$T/variant.index"
	mv "$T/variant.manifest" "$2/blobs/sha256/$manifest"
	mv "$T/variant.index" "$2/index.json"
}

# refused WORDS COMMAND...
refused() {
	local words=$1
	shift
	! fl "$@" >"$T/wrong.out" 2>"$T/wrong.err" || fail "$*: done"
	grep -q "$words" "$T/wrong.err" || fail "$*: says $(cat "$T/wrong.err")"
}

# scan WANTED: exits as told, the report is $T/scan.json.
scan() {
	local status=0
	fl scan --json >"$T/scan.json" 2>"$T/scan.err" || status=$?
	[[ $status == "$1" ]] || fail "scan: status $status: $(cat "$T/scan.json" "$T/scan.err")"
}

scan_says() {
	jq -e "$1" "$T/scan.json" >/dev/null || fail "not $1: $(cat "$T/scan.json")"
}

lose_root() {
	kill_firstlightd
	unmount_below "$FIRSTLIGHT_ROOT"
	rm -rf --one-file-system "$FIRSTLIGHT_ROOT"
}

start_registry
firstlightd_args=(--containerd "$CONTAINERD_SOCKET")
start_firstlightd
start_containerd
for format in esgz cs high; do
	push_image "$(lazy_image sink $format)" t/sink:$format
done
variant_of "$(lazy_image sink esgz)" "$T/variant"
push_image "$T/variant" t/sink:variant
push_image "$(lazy_image small org)" t/small:org
lazy=$REGISTRY/t/sink:esgz
cs=$REGISTRY/t/sink:cs
high=$REGISTRY/t/sink:high
variant=$REGISTRY/t/sink:variant


say "a pull by containerd: the manifest is taken from its content store"
pull "$REGISTRY/t/small:org" # and its host is known to speak plain HTTP
registry_forget
lazypull firstlight "$cs" >/dev/null || fail "lazypull: $(tail -n 3 "$T/lazypull.log")"
[[ $(layers_that_are remote) -gt 0 ]] || fail "no layer is lazy: $(cat "$T/report.json")"
asked=$(registry_requests | grep /manifests/ | grep -c firstlight || true)
[[ $asked == 0 ]] || fail "firstlight asked for $asked manifests"
ctr image rm --sync "$cs" >/dev/null

say "an image that the registry has no more is not taken from here"
push_image "$(lazy_image small esgz)" t/gone:1
pull "$REGISTRY/t/gone:1"
curl -sf -X DELETE "http://$REGISTRY/v2/t/gone/manifests/$(manifest_of default "$REGISTRY/t/gone:1")"
refused 404 pull --plain-http "$REGISTRY/t/gone:1"
ctr image rm --sync "$REGISTRY/t/gone:1" >/dev/null

say "images that are here, and then no registry"
pull --wait "$lazy"
pull --wait "$high"
for namespace in third fourth; do
	pull --namespace $namespace "$lazy"
	pull --namespace $namespace "$variant"
	pull --namespace $namespace "$high"
done
ctr image rm --sync "$REGISTRY/t/small:org" >/dev/null
in_namespace bare content fetch --plain-http "$REGISTRY/t/small:org" >/dev/null
stop_process "$registry_pid" 5 || true
registry_pid=""

say "complete images are pulled again, run after a restart, and are all here"
pull --wait "$lazy"
grep -q "^note: .*taken as it was here" "$T/pull.err" || fail "the pull says nothing: $(cat "$T/pull.err")"
runs "$lazy"
kill_firstlightd
start_firstlightd
pull "$high" # containerd finds us again meanwhile
runs "$high"
runs "$lazy"

say "registered again from the content store, and kept"
for image in "$lazy" "$high"; do
	drop_snapshots third
	fl prepare --namespace third --json "$(manifest_of third "$image")" >"$T/prepare.json" || fail "$image is not prepared"
	layers=$(jq .layers "$T/prepare.json")
	[[ $(snapshots third | grep -c sha256) == "$layers" ]] || fail "not $layers snapshots: $(snapshots third)"
	fl gc >/dev/null || fail "gc"
	[[ $(snapshots third | grep -c sha256) == "$layers" ]] || fail "collected: $(snapshots third)"
done
[[ $(jq .lazy "$T/prepare.json") == 0 ]] || fail "lazy above an ordinary layer: $(cat "$T/prepare.json")"

say "a manifest whose content does not say where it is from"
manifest=$(manifest_of third "$lazy")
in_namespace third content label "$manifest" "containerd.io/distribution.source.$REGISTRY=" >/dev/null
drop_snapshots third
fl prepare --namespace third "$manifest" >/dev/null || fail "not prepared by the image's name"

say "another manifest that has the layers"
drop_snapshots fourth
config=$(jq -r .config.digest "$(layout_blob "$(lazy_image sink esgz)" manifest)")
in_namespace fourth content rm "$config" >/dev/null
fl prepare --namespace fourth --json "$(manifest_of fourth "$lazy")" >"$T/prepare.json" || fail "not prepared from the other"
[[ $(jq -r .manifest "$T/prepare.json") == "$(manifest_of fourth "$variant")" ]] || fail "another one: $(cat "$T/prepare.json")"
in_namespace fourth image rm --sync "$variant" "$high" >/dev/null
refused "config $config is not in containerd's content store" prepare --namespace fourth "$(manifest_of fourth "$lazy")"

say "an image that firstlight has never seen, and then one of its layers is missing"
manifest=$(jq -r '.manifests[0].digest' "$(lazy_image small org)/index.json")
fl prepare --namespace bare "$manifest" >/dev/null || fail "not prepared from blobs"
drop_snapshots bare
layer=$(jq -r '.layers[1].digest' "$(layout_blob "$(lazy_image small org)" manifest)")
in_namespace bare content rm "$layer" >/dev/null
refused "layer 1 ($layer): neither its index nor its blob" prepare --namespace bare "$manifest"

say "scans beside pulls and removals take nothing out"
stop_firstlightd # what it knows of the registry's absence is forgotten
start_registry "$REGISTRY"
start_firstlightd
pull "$lazy"
! grep -q note: "$T/pull.err" || fail "the registry is back: $(cat "$T/pull.err")"
scan 0
scan_says '.missing == 0 and .unknown == 0 and .snapshots > 0 and .namespaces >= 4'
(
	while [[ ! -e $T/enough ]]; do
		fl scan --json || exit 1
	done >"$T/scans.json"
) & scans=$!
for ((i = 0; i < 6; i++)); do
	ctr image rm --sync "$high" "$lazy" >/dev/null
	pull "$high"
	pull "$lazy"
	runs "$lazy"
done
touch "$T/enough"
wait $scans || fail "a scan failed"
jq -es 'length > 5 and all(.missing == 0 and .repaired == 0)' "$T/scans.json" >/dev/null || fail "scans: $(cat "$T/scans.json")"

say "all is lost, but a container hangs on its layers"
run_container --detach --null-io "$lazy" "$NAME-holder" /bin/busybox sleep 1000
lose_root
start_firstlightd
for ((i = 0; i < 3; i++)); do
	scan 1
	scan_says '.missing > .repaired and .unknown == 0'
	scan_says '[.lines[] | select(test("holder: .*remove the container"))] | length == 1'
done
task_runs "$NAME-holder" || fail "the container was ended"
ctr snapshot --snapshotter firstlight ls >/dev/null || fail "snapshots cannot be listed"
remove_container "$NAME-holder"
scan 0
pull "$lazy"
runs "$lazy"
pull --namespace third "$high"

say "the index of a layer is lost"
pull --wait "$lazy"
kill_firstlightd
rm "$(find "$FIRSTLIGHT_ROOT/layers" -type f | sort | head -n 1)"
start_firstlightd
scan 1
scan_says '.missing == 1 and (.lines[0] | test("index of this layer is lost"))'
for namespace in default third fourth; do
	for image in $(in_namespace $namespace image ls -q); do
		in_namespace $namespace image rm --sync "$image" >/dev/null
	done
done
fl gc >/dev/null
scan 0
pull "$lazy"
runs "$lazy"

say "containerd is new: what we have it does not know"
stop_process "$containerd_pid" 20 || true # its collector takes the last container's snapshot at its own time
have=$(fl status --json | jq .snapshots)
rm -rf "$T/containerd"
start_containerd
scan 0
scan_says ".snapshots == 0 and .unknown == $have"
