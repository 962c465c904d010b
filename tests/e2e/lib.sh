# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# What the end-to-end tests share: source it first, from the repository's root or with BUILD set.
#
# Sourcing it starts the script once more inside a mount and a PID namespace of its own. The outer
# script only waits and then removes the temporary directory; when the inner one ends, however it
# ends, the kernel takes every process and every mount with it. Inside, cleanup() still stops all
# servers in order, so that a test also shows that they can be stopped.
#
# Sets: T              the temporary directory, on a disk (overlay's upper directories need that)
#       NAME           a unique prefix for container names
#       SNAPSHOTTER    the snapshotter under test (environment; "firstlight" unless told)
#       BUILD          where firstlightd and go/ are (environment; "build" unless told)
#       FIRSTLIGHTD    the daemon (environment; $BUILD/firstlightd unless told)
#
# E2E_KEEP=1 in the environment keeps the temporary directory.
set -euo pipefail
export LC_ALL=C

readonly E2E_SKIP=77

# say TEXT: with the seconds since the start.
say() {
	local ms=$(($(date +%s%N) / 1000000 - E2E_START))
	printf '%4d.%03d  %s\n' $((ms / 1000)) $((ms % 1000)) "$*"
}

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

skip() {
	echo "SKIP: $(basename "$0"): $*" >&2
	exit $E2E_SKIP
}

# need COMMAND...: skips, loudly, where something is not installed.
need() {
	local command
	for command in "$@"; do
		type -P "$command" >/dev/null || skip "$command is not installed (make deps)"
	done
}

outer() {
	[[ $(id -u) == 0 ]] || skip "must be root: it mounts and runs containers"
	need unshare setpriv
	E2E_DIR=$(mktemp -d /var/tmp/firstlight-e2e.XXXXXX)
	E2E_START=$(($(date +%s%N) / 1000000))
	export E2E_DIR E2E_START
	local inner="" status=0
	# shellcheck disable=SC2317 # called by the trap
	end_outer() {
		[[ -z $inner ]] || kill -KILL "$inner" 2>/dev/null || true
		if [[ -n ${E2E_KEEP-} ]]; then
			echo "kept: $E2E_DIR" >&2
			return
		fi
		local try
		for try in 1 2 3; do
			rm -rf --one-file-system "$E2E_DIR" && break
			sleep "$try"
		done
		find /sys/fs/cgroup -depth -type d -name "${E2E_DIR##*.}-*" -exec rmdir {} + 2>/dev/null || true
	}
	trap end_outer EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	# If this shell is killed, unshare is too, and then all inside.
	setpriv --pdeathsig KILL \
		unshare --mount --pid --fork --kill-child --mount-proc -- "$BASH" "$0" "$@" &
	inner=$!
	wait "$inner" || status=$?
	inner=""
	exit "$status"
}

[[ -n ${E2E_DIR-} ]] || outer "$@"

T=$E2E_DIR
unset E2E_DIR # a script started from here is not an inner one
NAME=${T##*.}
SNAPSHOTTER=${SNAPSHOTTER:-firstlight}
BUILD=$(realpath "${BUILD:-build}")
FIRSTLIGHTD=${FIRSTLIGHTD:-$BUILD/firstlightd}
E2E_CACHE=${E2E_CACHE:-$BUILD/e2e}
E2E_SOURCE=$(dirname "$(realpath "${BASH_SOURCE[0]}")")

CONTAINERD_SOCKET=$T/containerd.sock
FIRSTLIGHT_SOCKET=$T/firstlight.sock
FIRSTLIGHT_ROOT=$T/firstlight
FIRSTLIGHT_STATE=$T/firstlight-state

# The shim's socket directory /run/containerd/s is a constant in containerd 1.6: hide it.
mkdir -p /run/containerd
mount -t tmpfs -o size=16m tmpfs /run/containerd

containerd_pid=""
firstlightd_pid=""
registry_pid=""
firstlightd_starts=0
# In front of what runs on either side of an emulated link: nsenter --net=FILE.
server_net=()
client_net=()
firstlightd_args=()

# running PID: a zombie does not run.
running() {
	local state
	state=$(sed -n 's/^State:\t\(.\).*/\1/p' "/proc/$1/status" 2>/dev/null) || return 1
	[[ -n $state && $state != [ZX] ]]
}

# wait_until SECONDS COMMAND...: tries every 0.1 s; false when the time is over.
wait_until() {
	local end=$(($(date +%s%N) + $1 * 1000000000))
	shift
	until "$@"; do
		(($(date +%s%N) < end)) || return 1
		sleep 0.1
	done
}

not() {
	! "$@"
}

# stop_process PID SECONDS: TERM, then KILL when the time is over. Answers the exit status.
stop_process() {
	local status=0
	kill -TERM "$1" 2>/dev/null || true
	if ! wait_until "$2" not running "$1"; then
		echo "process $1 is still there $2 s after SIGTERM; killed" >&2
		kill -KILL "$1" 2>/dev/null || true
	fi
	wait "$1" 2>/dev/null || status=$?
	return "$status"
}

# start_registry [ADDRESS]: docker's registry on a free port of 127.0.0.1, or there; sets REGISTRY to
# host:port. Requests go to $T/registry.access, a line each.
start_registry() {
	need docker-registry
	mkdir -p "$T/registry"
	cat >"$T/registry.yml" <<-YAML
		version: 0.1
		log: {level: info}
		storage: {filesystem: {rootdirectory: $T/registry}, delete: {enabled: true}}
		http: {addr: "${1:-127.0.0.1:0}"}
	YAML
	: >"$T/registry.log" # not what one before has said
	"${server_net[@]}" docker-registry serve "$T/registry.yml" >"$T/registry.access" 2>"$T/registry.log" &
	registry_pid=$!
	wait_until 20 grep -q 'listening on' "$T/registry.log" || fail "the registry does not listen"
	REGISTRY=$(sed -n 's/.*listening on \([0-9.]*:[0-9]*\).*/\1/p' "$T/registry.log" | head -n1)
	[[ -n $REGISTRY ]] || fail "the registry does not say its port"
}

# start_containerd: with firstlight as a proxy plugin, whether or not firstlightd runs.
start_containerd() {
	need containerd ctr runc
	mkdir -p "$T/fifo" "$T/runc"
	cat >"$T/containerd.toml" <<-TOML
		version = 2
		root = "$T/containerd/root"
		state = "$T/containerd/state"
		disabled_plugins = [
		  "io.containerd.grpc.v1.cri",
		  "io.containerd.snapshotter.v1.aufs",
		  "io.containerd.snapshotter.v1.btrfs",
		  "io.containerd.snapshotter.v1.devmapper",
		  "io.containerd.snapshotter.v1.zfs",
		]
		[grpc]
		  address = "$CONTAINERD_SOCKET"
		[ttrpc]
		  address = "$CONTAINERD_SOCKET.ttrpc"
		[plugins."io.containerd.internal.v1.opt"]
		  path = "$T/containerd/opt"
		[proxy_plugins.firstlight]
		  type = "snapshot"
		  address = "$FIRSTLIGHT_SOCKET"
		[proxy_plugins.stargz]
		  type = "snapshot"
		  address = "$T/stargz.sock"
	TOML
	if [[ $(containerd --version) == *' '?([a-z])[2-9].* ]]; then # ctr pulls by the transfer service, which has a list
		"$BUILD/firstlight" containerd-config --root "$FIRSTLIGHT_ROOT" --address "$FIRSTLIGHT_SOCKET" \
			--merge "$T/containerd.toml" --in-place >/dev/null || fail "containerd's settings cannot be merged"
	fi
	"${client_net[@]}" containerd --config "$T/containerd.toml" >"$T/containerd.log" 2>&1 &
	containerd_pid=$!
	wait_until 30 containerd_answers || fail "containerd does not answer"
}

containerd_answers() {
	running "$containerd_pid" || fail "containerd ended"
	[[ -S $CONTAINERD_SOCKET ]] && ctr version >/dev/null 2>&1
}

# A call that hangs is a failure, not a reason to wait for the runner's own limit.
ctr() {
	timeout --foreground "${CTR_SECONDS:-60}" ctr --address "$CONTAINERD_SOCKET" "$@"
}

# start_firstlightd: with firstlightd_args too; returns when it has said that it is ready.
start_firstlightd() {
	[[ -x $FIRSTLIGHTD ]] || fail "$FIRSTLIGHTD is not built"
	mkdir -p "$FIRSTLIGHT_ROOT" "$FIRSTLIGHT_STATE"
	firstlightd_log=$T/firstlightd.$((++firstlightd_starts)).log
	"${client_net[@]}" "$FIRSTLIGHTD" --root "$FIRSTLIGHT_ROOT" --state "$FIRSTLIGHT_STATE" \
		--address "$FIRSTLIGHT_SOCKET" --log-level debug "${firstlightd_args[@]}" >"$firstlightd_log" 2>&1 &
	firstlightd_pid=$!
	wait_until 20 firstlightd_ready || fail "firstlightd is not ready after 20 s"
}

firstlightd_ready() {
	running "$firstlightd_pid" || fail "firstlightd ended while starting"
	grep -qw ready "$firstlightd_log"
}

# firstlightd_workers: the keeper's children.
firstlightd_workers() {
	pgrep -P "$firstlightd_pid" || true
}

# stop_firstlightd: SIGTERM, and then it must end well and leave nothing behind.
stop_firstlightd() {
	local workers pid status=0
	workers=$(firstlightd_workers)
	pid=$firstlightd_pid
	firstlightd_pid=""
	stop_process "$pid" 20 || status=$?
	((status == 0)) || fail "firstlightd ended with status $status after SIGTERM"
	for pid in $workers; do
		not running "$pid" || fail "firstlightd's worker $pid is left over"
	done
}

# kill_firstlightd: keeper and workers die at once, as in a crash.
kill_firstlightd() {
	local workers pid
	workers=$(firstlightd_workers)
	# shellcheck disable=SC2086 # a list of numbers
	kill -KILL "$firstlightd_pid" $workers 2>/dev/null || true # the worker may follow by itself
	wait "$firstlightd_pid" 2>/dev/null || true
	for pid in $workers; do
		wait_until 5 not running "$pid" || fail "worker $pid does not die"
	done
	firstlightd_pid=""
}

# cached_image KIND: prints the directory of an OCI layout, building it the first time.
cached_image() {
	local out
	need apt-get dpkg-deb jq setcap setfattr flock
	out=$E2E_CACHE/image-$1-$(cat "$E2E_SOURCE"/image*.sh | sha256sum | cut -c1-12)
	"$E2E_SOURCE/image.sh" "$1" "$E2E_CACHE/debs" "$out" || return
	echo "$out"
}

# push_image LAYOUT NAME:TAG: to the registry that start_registry started.
push_image() {
	need skopeo
	"${server_net[@]}" skopeo --insecure-policy copy --quiet --dest-tls-verify=false \
		"oci:$1:latest" "docker://$REGISTRY/$2"
}

# pull_image REF [SNAPSHOTTER]
pull_image() {
	ctr image pull --plain-http --snapshotter "${2:-$SNAPSHOTTER}" "$1" >"$T/pull.out" 2>&1 || {
		tail -n 5 "$T/pull.out" >&2
		return 1
	}
}

# run_container OPTION... IMAGE CONTAINER COMMAND...: on the snapshotter under test.
run_container() {
	ctr run --fifo-dir "$T/fifo" --runc-root "$T/runc" --snapshotter "$SNAPSHOTTER" "$@"
}

exec_number=0

# exec_in CONTAINER COMMAND...
exec_in() {
	ctr task exec --fifo-dir "$T/fifo" --exec-id "$NAME-exec-$((++exec_number))" "$@"
}

# remove_container CONTAINER: the task is killed first; the shim ends with it.
remove_container() {
	ctr task kill --signal SIGKILL "$1" 2>/dev/null || true
	ctr task delete --force "$1" >/dev/null 2>&1 || true
	ctr container delete "$1"
}

task_runs() {
	ctr task ls | awk -v name="$1" '$1 == name && $3 == "RUNNING" { found = 1 } END { exit !found }'
}

# our_shims: the shims of our containerd, which name its address.
our_shims() {
	pgrep -f -- "containerd-shim-runc-v2 .*-address $CONTAINERD_SOCKET" || true
}

no_shims() {
	[[ -z $(our_shims) ]]
}

# mounts_below DIRECTORY: deepest first.
mounts_below() {
	awk -v top="$1/" 'index($5 "/", top) == 1 { print $5 }' /proc/self/mountinfo | sort -r
}

unmount_below() {
	local target
	while read -r target; do
		umount -l "$(printf %b "$target")" || true
	done < <(mounts_below "$1")
}

show_logs() {
	local log
	for log in "$T"/*.log; do
		[[ -s $log ]] || continue
		echo "--- end of $(basename "$log")" >&2
		grep -v -e 'msg="loading plugin' -e 'msg="response completed' "$log" | tail -n 40 >&2
	done
}

stop_all() {
	local name pid
	if [[ -n $containerd_pid ]] && running "$containerd_pid"; then
		for name in $(CTR_SECONDS=5 ctr container ls -q 2>/dev/null); do
			CTR_SECONDS=10 remove_container "$name" >/dev/null 2>&1 || true
		done
	fi
	[[ -z $containerd_pid ]] || stop_process "$containerd_pid" 20 || true
	for pid in $(our_shims); do
		kill -KILL "$pid" 2>/dev/null || true
	done
	[[ -z $firstlightd_pid ]] || stop_process "$firstlightd_pid" 20 || true
	[[ -z ${stargz_pid-} ]] || stop_process "$stargz_pid" 20 || true
	[[ -z $registry_pid ]] || stop_process "$registry_pid" 5 || true
}

cleanup() {
	local status=$?
	trap - EXIT
	set +e
	if ((status != 0 && status != E2E_SKIP)); then
		echo "$(basename "$0"): failed with status $status" >&2
		show_logs
	fi
	stop_all
	unmount_below "$T"
	# In a build with sanitizers, what they say is a failure.
	if ((status == 0)) && grep -hE 'ERROR: [A-Za-z]*Sanitizer|: runtime error: ' "$T"/firstlightd.*.log >&2 2>/dev/null; then
		status=1
	fi
	exit "$status"
}
trap cleanup EXIT
trap 'exit 143' TERM INT HUP
