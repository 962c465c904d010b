# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Views of a lazy image that are read through a registry which can misbehave (tests/go/badregistry), and
# compared with a copy that is right. Source lib.sh and lazy.sh first.
#
# READERS: views that are read at the same time (environment; 8).

READERS=${READERS:-8}
RATE=$((4 << 20)) # bytes a second, so that the background does not win
COPY=$T/copy
bad_pid=""

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

# copy_right: what test/sink:1 has to look like, as COPY.
copy_right() {
	lazypull overlayfs "$REGISTRY/test/sink:1" >/dev/null || fail "no image on overlayfs"
	mkdir "$T/eager" "$COPY"
	view_image overlayfs "$REGISTRY/test/sink:1" "$T/eager"
	cp -a "$T/eager/." "$COPY/"
	find "$COPY" \( -name stargz.index.json -o -name '.prefetch.landmark' -o -name '.no.prefetch.landmark' \) -delete
	view_image overlayfs -u "$T/eager"
	ctr image rm --sync "$REGISTRY/test/sink:1" >/dev/null
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

unmount_cold_views() {
	local i
	for ((i = 0; i < READERS; i++)); do
		view_image "$SNAPSHOTTER" -u "$T/view-$i"
	done
}

unmount_cold() {
	unmount_cold_views
	ctr image rm --sync "$image" >/dev/null
}

# read_views: each read ends in time, or this fails.
read_views() {
	local i views=()
	for ((i = 0; i < READERS; i++)); do
		views+=("$T/view-$i")
	done
	timeout --foreground 300 "$BUILD/go/readcheck" "$COPY" "${views[@]}" >"$T/counts" 2>"$T/complaints"
}

table_head() {
	printf '%-8s %6s %6s %7s %10s %7s %6s %8s\n' phase faults trees files bytes errors wrong longest >"$T/table"
}

# row PHASE HITS: a line the table; reads counts.
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

# start_faults: an image in a registry behind the proxy, and all servers.
start_faults() {
	local tool
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
	table_head
}
