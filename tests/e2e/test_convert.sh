#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 500
#
# firstlight convert: the same bytes on every run, whatever the number of threads; between layouts and
# registries; what it makes has the tree that the image had, under overlayfs, stargz and firstlight, and is
# read by skopeo and ctr-remote. Layers that are bombs or damaged, uploads that break.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"
. "$(dirname "$0")/faults.sh"

FIRSTLIGHT=$BUILD/firstlight
START=$(date +%s)
need jq skopeo ctr-remote curl

convert() {
	timeout --foreground 120 "$FIRSTLIGHT" convert "$@" >"$T/convert.out" 2>"$T/convert.err" || {
		cat "$T/convert.err" >&2
		return 1
	}
}

# wrong WORDS ARGUMENT...: fails in one line with the words.
wrong() {
	local words=$1 status=0
	shift
	timeout --foreground 120 "$FIRSTLIGHT" convert "$@" >/dev/null 2>"$T/convert.err" || status=$?
	((status == 1 || status == 2)) || fail "convert $*: status $status"
	[[ $(grep -cv -e '^hint: ' -e '^sha256:' "$T/convert.err") == 1 ]] || fail "convert $*: not one line: $(cat "$T/convert.err")"
	grep -q "$words" "$T/convert.err" || fail "convert $*: says $(cat "$T/convert.err")"
}

# layout_of DIR TAR...: an image whose layers are these tars, which are moved.
layout_of() {
	local dir=$1 tar digest layers="[]" ids="[]"
	shift
	cp -r "$(lazy_image small org)" "$dir"
	for tar in "$@"; do
		digest=sha256:$(sha256sum "$tar" | cut -d ' ' -f 1)
		layers=$(jq -c --arg digest "$digest" --argjson size "$(stat -c %s "$tar")" \
			'. + [{mediaType: "application/vnd.oci.image.layer.v1.tar", $digest, $size}]' <<<"$layers")
		ids=$(jq -c --arg id "$digest" '. + [$id]' <<<"$ids")
		mv "$tar" "$dir/blobs/sha256/${digest#*:}"
	done
	jq -c --argjson ids "$ids" '.rootfs.diff_ids = $ids | del(.history)' "$(layout_blob "$dir" config)" >"$T/config"
	digest=$(sha256sum "$T/config" | cut -d ' ' -f 1)
	jq -c --argjson layers "$layers" --arg config "sha256:$digest" --argjson size "$(stat -c %s "$T/config")" \
		'.config.digest = $config | .config.size = $size | .layers = $layers' \
		"$(layout_blob "$dir" manifest)" >"$T/manifest"
	mv "$T/config" "$dir/blobs/sha256/$digest"
	digest=$(sha256sum "$T/manifest" | cut -d ' ' -f 1)
	jq -c --arg digest "sha256:$digest" --argjson size "$(stat -c %s "$T/manifest")" \
		'.manifests[0].digest = $digest | .manifests[0].size = $size' "$dir/index.json" >"$T/index.json"
	mv "$T/manifest" "$dir/blobs/sha256/$digest"
	mv "$T/index.json" "$dir/index.json"
}

# uploads: how many blobs the registry has been sent since the last registry_forget.
uploads() {
	registry_requests | awk '$1 == "PUT" && $2 ~ /\/blobs\/uploads\// && $3 == 201 { n++ } END { print n + 0 }'
}

# cpu_used PID: a second of it.
cpu_used() {
	(($(awk '{ print $14 + $15 }' "/proc/$1/stat") >= $(getconf CLK_TCK) ))
}

start_registry
firstlightd_args=(--containerd "$CONTAINERD_SOCKET")
start_firstlightd
start_stargz "$REGISTRY" # before containerd: it would look for it again only after a while
start_containerd

for kind in small sink; do
	layout=$(lazy_image $kind org)
	for format in zstd:chunked estargz; do
		name=$kind-${format%%:*}
		say "$name: the same bytes twice"
		convert -f $format -j 1 "oci:$layout" "oci:$T/$name-1"
		convert -f $format -j 4 "oci:$layout" "oci:$T/$name-2"
		diff -r "$T/$name-1" "$T/$name-2" >/dev/null || fail "$name: two runs differ"
		convert -f $format --json "oci:$T/$name-1" "oci:$T/$name-3"
		jq -e '.layers | map(.action) | all(. == "kept")' "$T/convert.out" >/dev/null ||
			fail "$name: converted again, layers are not kept: $(cat "$T/convert.out")"
		diff -r "$T/$name-1" "$T/$name-3" >/dev/null || fail "$name: what is right was changed"
		find "$T/$name-1/blobs" -type f | while read -r blob; do
			[[ $(sha256sum "$blob" | cut -d ' ' -f 1) == "$(basename "$blob")" ]] || fail "$name: $blob is not its digest"
		done

		say "$name: through a registry, and what others make of it"
		convert -f $format --plain-http "oci:$layout" "$REGISTRY/t/$name:1"
		convert --plain-http -f $format "$REGISTRY/t/$name:1" "oci:$T/$name-4:there"
		skopeo --insecure-policy copy --quiet --src-tls-verify=false "docker://$REGISTRY/t/$name:1" "oci:$T/$name-5"
		[[ $(jq -r '.manifests[0].digest' "$T/$name-1/index.json") == "$(jq -r '.manifests[0].digest' "$T/$name-4/index.json")" ]] ||
			fail "$name: another digest through the registry"
		registry_forget
		"$FIRSTLIGHT" pull --address "$FIRSTLIGHT_SOCKET" --plain-http --json "$REGISTRY/t/$name:1" >"$T/pull.json"
		tail -n 1 "$T/pull.json" | jq -e '.layers | map(.state) | all(. == "lazy")' >/dev/null ||
			fail "$name: not lazy: $(tail -n 1 "$T/pull.json")"
		pull_image "$REGISTRY/t/$name:1" overlayfs
		if [[ $kind == sink ]]; then
			compare_trees "$REGISTRY/t/$name:1"
		else
			run_container --rm "$REGISTRY/t/$name:1" "$NAME-$name" | grep Hello >/dev/null || fail "$name: does not run"
			SNAPSHOTTER=overlayfs run_container --rm "$REGISTRY/t/$name:1" "$NAME-$name-o" | grep Hello >/dev/null ||
				fail "$name: does not run on overlayfs"
		fi
		ctr image rm --sync "$REGISTRY/t/$name:1" >/dev/null
	done
done

say "from the other dialect"
for format in zstd:chunked estargz; do
	convert -f $format "oci:$(lazy_image small cs)" "oci:$T/cs-${format%%:*}"
	jq -e '.layers | map(.annotations | keys) | flatten | all(startswith("io.github.containers.") | not)' \
		"$(layout_blob "$T/cs-${format%%:*}" manifest)" >/dev/null || fail "$format: annotations of the old format are left"
done

say "much behind the tar's end takes no memory"
head -c 1024 /dev/zero >"$T/long.tar"
truncate -s 600M "$T/long.tar"
layout_of "$T/long" "$T/long.tar"
# The layer itself is mapped, and not counted here. Sanitizers reserve more than any limit.
([[ -n ${SAN-} ]] || ulimit -d 400000 && convert -j 2 "oci:$T/long" "oci:$T/long-out") || fail "a long end of a tar needs much memory"

say "a bomb leaves room, and says what is wrong"
mkdir "$T/tmpfs"
mount -t tmpfs -o size=330m tmpfs "$T/tmpfs"
(export TMPDIR=$T/tmpfs && wrong 'no room for a layer' "oci:$T/long" "oci:$T/out")
[[ -z $(ls -A "$T/tmpfs") && $(df --output=used -m "$T/tmpfs" | tail -n 1) -lt 2 ]] || fail "files are left"
umount "$T/tmpfs"

say "sparse files"
mkdir "$T/tree"
truncate -s 5M "$T/tree/holes"
printf middle | dd of="$T/tree/holes" bs=1 seek=3000000 conv=notrunc status=none
echo plain >"$T/tree/plain"
for how in pax gnu; do
	tar -c -C "$T/tree" --sparse --format=$how -f "$T/sparse.tar" .
	[[ $(stat -c %s "$T/sparse.tar") -lt 100000 ]] || fail "tar has written the holes"
	layout_of "$T/sparse-$how" "$T/sparse.tar"
	for format in zstd:chunked estargz; do
		convert -f $format --json "oci:$T/sparse-$how" "oci:$T/sparse-$how-${format%%:*}"
		jq -e '.layers[0].action == "converted"' "$T/convert.out" >/dev/null || fail "$how: sparse files are not converted to $format"
	done
	mkdir "$T/unpacked"
	blob=$(jq -r '.layers[0].digest' "$(layout_blob "$T/sparse-$how-estargz" manifest)")
	gunzip -c "$T/sparse-$how-estargz/blobs/sha256/${blob#*:}" | tar -x -C "$T/unpacked"
	cmp "$T/tree/holes" "$T/unpacked/holes"
	cmp "$T/tree/plain" "$T/unpacked/plain"
	rm -r "$T/unpacked"
done

say "a layer that fails ends the others, and so does a signal"
mkdir "$T/big"
head -c 500M /dev/urandom >"$T/big/random"
tar -c -C "$T/big" -f "$T/big.tar" random
rm -r "$T/big"
head -c 10240 /dev/zero >"$T/bad.tar"
layout_of "$T/failing" "$T/big.tar" "$T/bad.tar"
# At this level the large layer would take many minutes.
"$FIRSTLIGHT" convert -j 1 -l 22 "oci:$T/failing" "oci:$T/out" >/dev/null 2>&1 &
pid=$!
wait_until 60 cpu_used $pid || fail "the conversion does not work"
kill -INT $pid
wait_until 30 not running $pid || { kill -KILL $pid; fail "SIGINT does not end a conversion"; }
status=0
wait $pid || status=$?
((status == 130)) || fail "status $status after SIGINT"
blob=$(jq -r '.layers[1].digest' "$(layout_blob "$T/failing" manifest)")
printf x | dd of="$T/failing/blobs/sha256/${blob#*:}" conv=notrunc status=none
wrong 'layer 1: a blob is not that of its digest' -j 1 -l 22 "oci:$T/failing" "oci:$T/out"
rm -r "$T/failing"

say "uploads that break are repeated, what is there is not sent again"
start_badregistry
one=$(jq -r '.manifests[0].digest' "$T/small-zstd-1/index.json")
for mode in upload-cut upload-lost; do
	faulty "mode=$mode&every=2" >/dev/null
	registry_forget
	convert --plain-http "oci:$(lazy_image small org)" "$BAD/$mode:1"
	read -r hit asked < <(faulty mode=ok)
	((hit > 0 && asked > hit)) || fail "$mode: $hit of $asked uploads were hit"
	convert --plain-http --json "$BAD/$mode:1" "oci:$T/$mode"
	[[ $(jq -r .digest "$T/convert.out") == "$one" ]] || fail "$mode: another image"
	jq -e '.layers | map(.action) | all(. == "kept")' "$T/convert.out" >/dev/null || fail "$mode: the layers are not right"
	registry_forget
	convert --plain-http "oci:$(lazy_image small org)" "$BAD/$mode:2"
	[[ $(uploads) == 0 ]] || fail "$mode: $(uploads) blobs were sent again"
done
faulty "mode=upload-cut&every=1" >/dev/null
wrong . --plain-http "oci:$(lazy_image small org)" "$BAD/never:1"
[[ $(registry_requests | grep -c '^PUT .*/manifests/') == 1 ]] || fail "a tag without its blobs"
stop_process "$bad_pid" 5 || true

say "blobs of other repositories are mounted, whatever their names"
long=t/$(printf 'n%.0s' {1..180})
convert --plain-http "oci:$(lazy_image small org)" "$REGISTRY/$long:1"
registry_forget
convert --plain-http "$REGISTRY/$long:1" "$REGISTRY/t/mounted:1"
[[ $(uploads) == 0 ]] || fail "$(uploads) blobs were sent, though they are there"
(($(registry_requests | grep -c "^POST .*from=$long 201") == 3)) || fail "nothing was mounted: $(registry_requests)"

say "stargz"
for name in small-zstd small-estargz; do
	ctr_remote image rpull --plain-http --snapshotter stargz "$REGISTRY/t/$name:1" >/dev/null
	registry_forget
	SNAPSHOTTER=stargz run_container --rm "$REGISTRY/t/$name:1" "$NAME-$name-s" | grep Hello >/dev/null || fail "$name: does not run on stargz"
	ctr snapshot --snapshotter stargz ls | grep Committed >/dev/null || fail "$name: no snapshots"
	ctr image rm --sync "$REGISTRY/t/$name:1" >/dev/null
done
stop_stargz

say "two platforms, and what is no image"
convert "oci:$(lazy_image small org)" "oci:$T/two:one"
one=$(jq -c '.manifests[0]' "$(lazy_image small org)/index.json")
mkdir -p "$T/index"
cp -r "$(lazy_image small org)/." "$T/index/"
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":%s,"layers":[]}' \
	"$(jq -c .config "$(layout_blob "$(lazy_image small org)" manifest)")" >"$T/attestation"
digest=$(sha256sum "$T/attestation" | cut -d ' ' -f 1)
size=$(stat -c %s "$T/attestation")
cp "$T/attestation" "$T/index/blobs/sha256/$digest"
jq -nc --argjson one "$one" --arg digest "sha256:$digest" --argjson size "$size" '
	{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: [
	($one | del(.annotations) + {platform: {os: "linux", architecture: "amd64"}}),
	($one | del(.annotations) + {platform: {os: "linux", architecture: "arm64"}}),
	{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $digest, size: $size, platform: {os: "unknown", architecture: "unknown"}}]}' >"$T/list"
digest=$(sha256sum "$T/list" | cut -d ' ' -f 1)
cp "$T/list" "$T/index/blobs/sha256/$digest"
jq -nc --arg digest "sha256:$digest" --argjson size "$(stat -c %s "$T/list")" '
	{schemaVersion: 2, manifests: [{mediaType: "application/vnd.oci.image.index.v1+json", digest: $digest, size: $size}]}' >"$T/index/index.json"
convert "oci:$T/index" "oci:$T/two:all"
[[ $(jq '.manifests | length' "$T/two/index.json") == 2 ]] || fail "the other image of the layout is gone"
list=$(jq -r '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == "all").digest' "$T/two/index.json")
jq -e '.manifests | length == 3 and .[0].digest == .[1].digest and .[2].platform.os == "unknown"' "$T/two/blobs/sha256/${list#*:}" >/dev/null ||
	fail "the index: $(cat "$T/two/blobs/sha256/${list#*:}")"
convert --platform linux/arm64 "oci:$T/index" "oci:$T/arm"
jq -e '.manifests[0].mediaType | endswith("manifest.v1+json")' "$T/arm/index.json" >/dev/null || fail "one platform is no manifest"

say "wrong uses"
wrong 'SRC\|DST\|argument' "oci:$T/index"
wrong 'no image' "oci:$T/index:none" "oci:$T/out"
wrong 'No such file' "oci:$T/none" "oci:$T/out"
wrong 'not there for' --platform linux/s390x "oci:$T/index" "oci:$T/out"
wrong 'format' -f tar "oci:$T/index" "oci:$T/out"
wrong 'level' -l 99 "oci:$T/index" "oci:$T/out"
wrong 'not a reference' "oci:$T/index" a//b
wrong '404\|unknown' --plain-http "$REGISTRY/t/none:1" "oci:$T/out"
cp -r "$(lazy_image small org)" "$T/damaged"
blob=$(find "$T/damaged/blobs" -type f -size +100k | head -n 1)
dd if=/dev/zero of="$blob" bs=1 seek=5000 count=50 conv=notrunc status=none
wrong 'not that of its digest' "oci:$T/damaged" "oci:$T/out"
[[ ! -e $T/out/index.json ]] || fail "a conversion that failed has left a tag"
stop_process "$registry_pid" 5 || true
registry_pid=""
wrong 'onnect' --plain-http "oci:$T/index" "$REGISTRY/t/dead:1"
[[ -z $(find /tmp -maxdepth 1 -name 'firstlight-plain.*' -newer "$T/registry.yml") ]] || fail "files are left in /tmp"
stop_firstlightd
