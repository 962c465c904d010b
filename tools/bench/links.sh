# shellcheck shell=bash
# shellcheck disable=SC2034,SC2086,SC2046 # variables of and for those who source this; lists of words
# SPDX-License-Identifier: Apache-2.0
#
# Images behind an emulated link, and clients that begin with nothing. Source tests/e2e/lib.sh, lazy.sh and
# lib.sh first.

ALL_IMAGES="python redis nodejs nginx apache2 postgresql mariadb openjdk golang memcached mosquitto rabbitmq php-fpm"
readonly ADDRESS=10.77.0.1:5000
link_pid=""

# version_of_kind KIND: the tag's first half.
version_of_kind() {
	case $1 in *-v1) echo v1 ;; *) echo v2 ;; esac
}

# ref_of IMAGE VERSION FORMAT: its name in the registry.
ref_of() {
	echo "bench/$1:$2-$3"
}

# start_link RTT_MS:RATE_MBIT: sets LINK, what it was measured to be.
start_link() {
	mkdir -p "$T/link"
	"$BUILD/bench/link" "$T/link" "${1%:*}" "${1#*:}" >"$T/link.log" 2>&1 &
	link_pid=$!
	wait_until 30 grep -qw ready "$T/link.log" || fail "no link: $(cat "$T/link.log")"
	LINK=$(sed -n 's/^ready: //p' "$T/link.log")
	server_net=(nsenter --net="$T/link/server")
	client_net=(nsenter --net="$T/link/client")
}

stop_link() {
	stop_process "$registry_pid" 5 || true
	registry_pid=""
	stop_process "$link_pid" 5 || true
	link_pid=""
	server_net=() client_net=()
}

# start_memory_registry ADDRESS: its blobs are in memory, so that no disk is measured on that side.
start_memory_registry() {
	mountpoint -q "$T/registry" || { mkdir -p "$T/registry"; mount -t tmpfs tmpfs "$T/registry"; }
	start_registry "$1"
}

# push_version IMAGE VERSION FORMAT: once.
push_version() {
	local kind=$1
	[[ $2 == v2 ]] || kind=$1-v1
	[[ ! -e $T/pushed-$1-$2-$3 ]] || return 0
	push_image "$(lazy_image "$kind" "$3")" "$(ref_of "$@")"
	touch "$T/pushed-$1-$2-$3"
}

# end_client: containerd and the snapshotters end, and all that they had goes.
end_client() {
	local pid
	[[ -z $containerd_pid ]] || stop_process "$containerd_pid" 20 || true
	containerd_pid=""
	for pid in $(our_shims); do
		kill -KILL "$pid" 2>/dev/null || true
	done
	stop_stargz
	[[ -z $firstlightd_pid ]] || stop_firstlightd
	clear_client
}

clear_client() {
	unmount_below "$T/containerd"
	unmount_below "$T/stargz"
	unmount_below "$FIRSTLIGHT_ROOT"
	rm -rf --one-file-system "$T/containerd" "$T/stargz" "$STARGZ_SOCKET" "$FIRSTLIGHT_ROOT" "$FIRSTLIGHT_STATE"
}

# sample_failed: what a sample has left behind, for lib.sh.
sample_failed() {
	end_others $registry_pid $link_pid ${bad_pid-}
	containerd_pid="" firstlightd_pid="" stargz_pid=""
	clear_client
}

# cold_caches: nothing of any image is in the page cache; the programs that start it are.
cold_caches() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
	cat "$(type -P runc)" "$(type -P containerd-shim-runc-v2)" "$BUILD/go/lazypull" >/dev/null
}

# begin_client SNAPSHOTTER REGISTRY: sets WATCHED, the daemons' PIDs with commas.
begin_client() {
	cold_caches
	case $1 in
	stargz) start_stargz "$2" ;;
	firstlight)
		registry_settings "$2"
		firstlightd_args+=(--containerd "$CONTAINERD_SOCKET" --log-level "${COLD_LOG:-info}")
		start_firstlightd
		;;
	esac
	start_containerd
	WATCHED=$(printf '%s\n' $containerd_pid $stargz_pid $firstlightd_pid \
		$([[ -z $firstlightd_pid ]] || firstlightd_workers) | paste -sd ,)
}

# link_bytes: received by the client's side so far.
link_bytes() {
	"${client_net[@]}" awk -F '[: ]+' '/link0:/ { print $3 }' /proc/net/dev
}

# link_fast: no delay and no limit, for what nobody measures.
link_fast() {
	kill -USR1 "$link_pid"
}

# link_slow: as it was. Connections do not carry over what they have seen of the fast link: with a round trip
# of microseconds in mind, BBR sends next to nothing for ten seconds, and CUBIC does not go on fast.
link_slow() {
	kill -USR2 "$link_pid"
	"${client_net[@]}" ss -K dst "${ADDRESS%:*}" >/dev/null 2>&1 || true
	wait_until 5 no_connections || fail "connections over the link stay: ss -K does nothing here (CONFIG_INET_DIAG_DESTROY)"
}

no_connections() {
	[[ -z $("${client_net[@]}" ss -H -t state established dst "${ADDRESS%:*}") ]]
}

# link_quiet SECONDS: waits until less than 20 kB have come in a second, at most so long. firstlight's background
# begins when nothing has been read for two seconds.
link_quiet() {
	local end=$((SECONDS + $1)) before now
	[[ -z $firstlightd_pid ]] || sleep 2.5
	before=$(link_bytes)
	while ((SECONDS < end)); do
		sleep 1
		now=$(link_bytes)
		((now - before >= 20000)) || return 0
		before=$now
	done
	say "the link is still busy after $1 s"
}
