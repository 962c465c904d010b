# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Images in lazy formats, and the snapshotters that can offer them. Source lib.sh first.
#
# Formats: esgz  eStargz, by ctr-remote
#          opt   the same, with what the image's command reads in the first seconds in front; its directory
#                has a file "needed" beside the layout: how many bytes that is
#          zstd  zstd:chunked, by ctr-remote
#          cs    zstd:chunked in the dialect of Podman and CRI-O, by tests/go/chunked (the writers
#                in Debian 12's skopeo and buildah end with "short write")
#          low   the lowest LAZY_LAYERS layers in eStargz, those above as they were built
#          high  the other way round

readonly LAZY_LAYERS=3

ctr_remote() {
	timeout --foreground "${CTR_SECONDS:-300}" ctr-remote --address "$CONTAINERD_SOCKET" "$@"
}

# registry_settings HOST:PORT: makes firstlightd speak plain HTTP there, by containerd's hosts.toml.
registry_settings() {
	mkdir -p "$T/certs.d/$1"
	printf 'server = "http://%s"\n[host."http://%s"]\n  capabilities = ["pull", "resolve"]\n' \
		"$1" "$1" >"$T/certs.d/$1/hosts.toml"
	echo '{}' >"$T/docker.json"
	printf '[registry]\nhosts_dirs = "%s"\ndocker_config = "%s"\n' "$T/certs.d" "$T/docker.json" >"$T/firstlight.toml"
	firstlightd_args=(--config "$T/firstlight.toml")
}

# lazy_image KIND FORMAT: prints the directory of an OCI layout, converting it the first time ("org" is
# the image as it was built). Needs start_containerd; leaves nothing there.
lazy_image() {
	local org out new
	org=$(cached_image "$1") || return
	out=$org-$2
	[[ $2 != org ]] || out=$org
	if [[ ! -e $out ]]; then
		[[ -n $containerd_pid ]] || fail "lazy_image needs start_containerd"
		new=$(mktemp -d "$E2E_CACHE/convert.XXXXXX")
		case $2 in
		cs) "$BUILD/go/chunked" "$org" "$new" ;;
		low) mix_layouts "$(lazy_image "$1" esgz)" "$org" "$new" ;;
		opt) optimize_layout "$org" "$new" ;;
		high) mix_layouts "$org" "$(lazy_image "$1" esgz)" "$new" ;;
		*) convert_layout "$org" "$2" "$new" ;;
		esac
		[[ -e $new/index.json ]] || { rm -rf "$new"; return 1; }
		# Another script may have been faster.
		mv -T "$new" "$out" 2>/dev/null || rm -rf "$new"
	fi
	echo "$out"
}

# convert_layout FROM esgz|zstd TO: "import" and "export" take OCI layouts in a tar.
convert_layout() {
	local from=convert.invalid/from:latest to=convert.invalid/to:latest option=(--estargz --estargz-compression-level 5)
	[[ $2 == esgz ]] || option=(--zstdchunked)
	need ctr-remote
	tar -c -C "$1" . | ctr image import --no-unpack --base-name "${from%:*}" - >/dev/null
	ctr_remote image convert "${option[@]}" --oci "$from" "$to" >/dev/null
	ctr image export --platform linux/amd64 "$T/converted.tar" "$to"
	tar -x -C "$3" -f "$T/converted.tar"
	rm "$T/converted.tar"
	ctr image rm --sync "$from" "$to" >/dev/null
}

OPTIMIZE_SECONDS=10 # that the command runs for the record

# optimize_layout FROM TO: the container has the network of who calls.
optimize_layout() {
	local from=optimize.invalid/from:latest to=optimize.invalid/to:latest
	need ctr-remote
	tar -c -C "$1" . | ctr image import --no-unpack --base-name "${from%:*}" - >/dev/null
	ctr_remote image optimize --oci --estargz-compression-level 5 --period $OPTIMIZE_SECONDS "$from" "$to" \
		>"$T/optimize.log" 2>&1 || { tail -n 3 "$T/optimize.log" >&2; return 1; }
	ctr image export --platform linux/amd64 "$T/converted.tar" "$to"
	tar -x -C "$2" -f "$T/converted.tar"
	rm "$T/converted.tar"
	ctr image rm --sync "$from" "$to" >/dev/null
	layout_needed "$2" >"$2/needed"
}

# layout_needed LAYOUT: "DIGEST BYTES" of each layer: how far its index says that it should be fetched first.
layout_needed() {
	local digest
	for digest in $(jq -r '.layers[].digest' "$(layout_blob "$1" manifest)"); do
		tar -xOzf "$1/blobs/sha256/${digest#*:}" stargz.index.json | jq -r --arg digest "$digest" \
			'"\($digest) \([.entries[] | select(.name == ".prefetch.landmark") | .offset] | add // 0)"'
	done
}

# layout_blob LAYOUT manifest|config: prints its path.
layout_blob() {
	local digest
	digest=$(jq -r '.manifests[0].digest' "$1/index.json")
	[[ $2 == manifest ]] || digest=$(jq -r .config.digest "$1/blobs/sha256/${digest#*:}")
	echo "$1/blobs/sha256/${digest#*:}"
}

# mix_layouts LOW HIGH TO: the lowest LAZY_LAYERS layers of one image, the rest of the other.
mix_layouts() {
	local digest
	mkdir -p "$3/blobs/sha256"
	cp -l -f "$1"/blobs/sha256/* "$2"/blobs/sha256/* "$3/blobs/sha256/"
	jq -c -s --argjson n $LAZY_LAYERS '(.[0].rootfs.diff_ids[:$n] + .[1].rootfs.diff_ids[$n:]) as $ids |
		.[0] | .rootfs.diff_ids = $ids | del(.history)' \
		"$(layout_blob "$1" config)" "$(layout_blob "$2" config)" >"$3/config"
	digest=$(sha256sum "$3/config" | cut -d ' ' -f 1)
	jq -c -s --argjson n $LAZY_LAYERS --arg config "sha256:$digest" --argjson size "$(stat -c %s "$3/config")" '
		(.[0].layers[:$n] + .[1].layers[$n:]) as $layers | .[0] | .layers = $layers |
		.config.digest = $config | .config.size = $size' \
		"$(layout_blob "$1" manifest)" "$(layout_blob "$2" manifest)" >"$3/manifest"
	mv "$3/config" "$3/blobs/sha256/$digest"
	digest=$(sha256sum "$3/manifest" | cut -d ' ' -f 1)
	jq -c --arg digest "sha256:$digest" --argjson size "$(stat -c %s "$3/manifest")" \
		'.manifests[0].digest = $digest | .manifests[0].size = $size' "$1/index.json" >"$3/index.json"
	mv "$3/manifest" "$3/blobs/sha256/$digest"
	cp "$1/oci-layout" "$3/"
}

STARGZ_SOCKET=$T/stargz.sock
stargz_pid=""

# start_stargz HOST:PORT: for a registry that speaks plain HTTP there.
start_stargz() {
	"$E2E_SOURCE/../../tools/bench/stargz.sh" "$BUILD/stargz/containerd-stargz-grpc" ||
		skip "the stargz snapshotter cannot be built"
	printf '[[resolver.host."%s".mirrors]]\nhost = "%s"\ninsecure = true\n' "$1" "$1" >"$T/stargz.toml"
	"${client_net[@]}" "$BUILD/stargz/containerd-stargz-grpc" --root "$T/stargz" --address "$STARGZ_SOCKET" \
		--config "$T/stargz.toml" >"$T/stargz.log" 2>&1 &
	stargz_pid=$!
	wait_until 20 grep -qw ready "$T/stargz.log" || fail "the stargz snapshotter is not ready"
}

stop_stargz() {
	local pid=$stargz_pid
	stargz_pid=""
	[[ -z $pid ]] || stop_process "$pid" 20 || true
}

# lazypull SNAPSHOTTER IMAGE OPTION...: the report is $T/report.json. The container's output is printed.
lazypull() {
	"${client_net[@]}" "$BUILD/go/lazypull" -address "$CONTAINERD_SOCKET" -snapshotter "$1" -report "$T/report.json" \
		-runc-root "$T/runc" -fifo-dir "$T/fifo" -name "$NAME-lazy" "${@:3}" "$2" 2>>"$T/lazypull.log"
}

# layers_that_are STATE: how many of the last pull's layers.
layers_that_are() {
	jq --arg state "$1" '[.layers[] | select(.state == $state)] | length' "$T/report.json"
}

# registry_requests: what the registry was asked since the last call of registry_forget, a line each:
# method, path, status, bytes, client.
registry_requests() {
	tail -n "+$((registry_seen + 1))" "$T/registry.access" |
		sed -nE 's/^[^"]*"([A-Z]+) ([^ ]+) [^"]*" ([0-9]+) ([0-9-]+) "[^"]*" "([^"]*)".*/\1 \2 \3 \4 \5/p'
}

registry_seen=0
registry_forget() {
	registry_seen=$(wc -l <"$T/registry.access")
}

# blob_bytes: how much of blobs the registry has sent since then, a line for each blob and client:
# digest, requests, bytes, client.
blob_bytes() {
	registry_requests | awk '$1 == "GET" && $2 ~ /\/blobs\/sha256:/ {
		sub(/.*\/blobs\//, "", $2)
		key = $2; who[key " " $5] = $5; n[key " " $5]++; sum[key " " $5] += $4
	} END { for (k in n) { split(k, part, " "); print part[1], n[k], sum[k], who[k] } }' | sort
}

# --- whole trees; START is the time (seconds) after which a time is "recent" ---

with_firstlight() {
	[[ $SNAPSHOTTER == firstlight ]]
}

view_image() {
	"$BUILD/go/viewmount" -address "$CONTAINERD_SOCKET" -snapshotter "$@"
}

# dump SNAPSHOTTER IMAGE OPTION...: the whole tree, mounted read-only, into $T/SNAPSHOTTER.tree. Files
# that only the converter added are left out: unpacking shows them, a lazy layer hides them.
dump() {
	local target=$T/mnt-$1
	mkdir "$target"
	view_image "$1" "$2" "$target"
	"$BUILD/go/treedump" -since "$START" "${@:3}" "$target" >"$T/all.tree" || fail "$1: the tree cannot be read"
	view_image "$1" -u "$target"
	rmdir "$target"
	grep -vE '^"(stargz\.index\.json|\.prefetch\.landmark|\.no\.prefetch\.landmark)" ' "$T/all.tree" >"$T/$1.tree"
}

# hide_implied_times: no layer tells the time of a directory that is only a parent of what it holds.
# Those are "recent" where the image was unpacked; the others' time of them is hidden too.
hide_implied_times() {
	awk -v reference="$T/overlayfs.tree" '
		function path_of(line) { match(line, /^"([^"\\]|\\.)*" /); return substr(line, 1, RLENGTH) }
		BEGIN { while ((getline line < reference) > 0) { p = path_of(line)
				split(substr(line, length(p) + 1), f, " ")
				if (f[1] == "dir" && f[6] == "recent") implied[p] = 1 } }
		{ p = path_of($0)
		  if (p in implied) { rest = substr($0, length(p) + 1); n = split(rest, f, " "); f[6] = "recent"
			rest = f[1]; for (i = 2; i <= n; i++) rest = rest " " f[i]
			print p rest } else print }' "$T/$SNAPSHOTTER.tree" >"$T/hidden.tree"
	mv "$T/hidden.tree" "$T/$SNAPSHOTTER.tree"
}

compare_trees() {
	local image=$1 options=()
	# The index of stargz' formats has whole seconds.
	[[ $image == *-cs ]] || options=(-seconds)
	dump "$SNAPSHOTTER" "$image" "${options[@]}"
	[[ $SNAPSHOTTER == overlayfs ]] || dump overlayfs "$image" "${options[@]}"
	hide_implied_times
	if ! cmp -s "$T/overlayfs.tree" "$T/$SNAPSHOTTER.tree"; then
		diff -U0 "$T/overlayfs.tree" "$T/$SNAPSHOTTER.tree" | head -n 60 | cut -c 1-300 >&2 || true
		[[ $SNAPSHOTTER != stargz ]] || return 0
		fail "the tree of $image on $SNAPSHOTTER (+) is not the one on overlayfs (-)"
	fi
	(($(wc -l <"$T/overlayfs.tree") > 800)) || fail "the tree of $image is too small"
	say "the trees are equal: $(wc -l <"$T/overlayfs.tree") paths"
}
