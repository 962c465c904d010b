#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
#
# A whole life: pull an image of five layers, run python and redis on it, compare its tree with
# the one of containerd's overlayfs byte for byte, crash the daemon under a running container, and
# remove everything. SNAPSHOTTER=overlayfs tests the test itself (native differs: its copies lose
# the times of directories and the links between symlinks).
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

REFERENCE=${REFERENCE:-overlayfs}
START=$(date +%s)

with_firstlight() {
	[[ $SNAPSHOTTER == firstlight ]]
}

# expect WANTED GOT WHAT
expect() {
	[[ $1 == "$2" ]] || fail "$3: expected '$1', got '$2'"
}

run_programs() {
	local out
	out=$(run_container --rm "$IMAGE" "$NAME-python")
	expect '{"hello": "python", "files": 500, "total": 125250}' "$out" "python in a container"
	say "python runs"

	run_container --detach --null-io "$IMAGE" "$NAME-redis" \
		redis-server --port 0 --unixsocket /tmp/redis.sock --save "" >/dev/null
	wait_until 20 redis_answers || fail "redis does not answer"
	expect OK "$(exec_in "$NAME-redis" redis-cli -s /tmp/redis.sock set key "some value")" "redis set"
	expect "some value" "$(exec_in "$NAME-redis" redis-cli -s /tmp/redis.sock get key)" "redis get"
	say "redis answers"
	remove_container "$NAME-redis"
}

redis_answers() {
	[[ $(exec_in "$NAME-redis" redis-cli -s /tmp/redis.sock ping 2>/dev/null) == PONG ]]
}

# What a container writes is seen by itself and by nobody else.
write_in_container() {
	local out
	# shellcheck disable=SC2016 # for the shell inside
	out=$(run_container --rm "$IMAGE" "$NAME-writer" /bin/sh -c '
		set -e
		echo new >/app/new
		echo more >>/app/data/0001
		rm /app/data/0002
		mv /app/main.py /app/moved.py
		mv /app/data /app/data-moved 2>/dev/null || cp -a /app/data /app/data-moved
		chmod 0600 /odd/owners/file
		ln /odd/links/hard-a /odd/links/hard-d
		rm -r /odd/names
		mkdir /odd/names
		echo $(cat /app/new) $(cat /app/data-moved/0001) $(ls /app/data-moved | wc -l) \
			$(stat -c "%a %u" /odd/owners/file) $(ls /odd/names | wc -l)')
	expect "new 1 more 499 600 12345 0" "$out" "writes in a container"
	out=$(run_container --rm "$IMAGE" "$NAME-reader" /bin/sh -c \
		'ls -d /app/new /app/moved.py /odd/links/hard-d 2>/dev/null | wc -l; cat /app/data/000[12]')
	expect $'0\n1\n2' "$out" "an image after a container wrote to it"
	say "writes stay in their container"
}

# view_image SNAPSHOTTER IMAGE TARGET, or SNAPSHOTTER -u TARGET.
view_image() {
	"$BUILD/go/viewmount" -address "$CONTAINERD_SOCKET" -snapshotter "$@"
}

# dump SNAPSHOTTER: the tree of the whole image, mounted read-only, into $T/SNAPSHOTTER.tree.
dump() {
	local target=$T/mnt-$1
	mkdir "$target"
	view_image "$1" "$IMAGE" "$target"
	if (: >"$target/odd/written") 2>/dev/null; then
		fail "$1: a read-only mount can be written to"
	fi
	"$BUILD/go/treedump" -since "$START" "$target" >"$T/$1.tree" || fail "$1: the tree cannot be read"
	view_image "$1" -u "$target"
	rmdir "$target"
}

# line_of PATH: its line in the tree under test, without the path; PATH as treedump quotes it.
line_of() {
	path=$1 awk 'BEGIN { start = "\"" ENVIRON["path"] "\" " }
		index($0, start) == 1 { print substr($0, length(start) + 1) }' "$T/$SNAPSHOTTER.tree"
}

# has PATH PATTERN: the rest of its line starts like this.
has() {
	local line
	line=$(line_of "$1")
	# shellcheck disable=SC2053 # a pattern
	[[ $line == $2* ]] || fail "$1: expected '$2*', got '$line'"
}

hasnt() {
	[[ -z $(line_of "$1") ]] || fail "the image still has $1"
}

compare_trees() {
	local path
	dump "$REFERENCE"
	[[ $SNAPSHOTTER == "$REFERENCE" ]] || dump "$SNAPSHOTTER"
	if ! cmp -s "$T/$REFERENCE.tree" "$T/$SNAPSHOTTER.tree"; then
		diff -U0 "$T/$REFERENCE.tree" "$T/$SNAPSHOTTER.tree" | head -n 60 >&2 || true
		fail "the image's tree on $SNAPSHOTTER (+) is not the one on $REFERENCE (-)"
	fi

	# Both could be wrong in the same way, so say some of it outright.
	(($(wc -l <"$T/$SNAPSHOTTER.tree") > 1500)) || fail "the image's tree is too small"
	has . 'dir 0755 0 0 - recent 0:0 -' # containerd does not take a layer's root directory
	has odd/modes/capability 'file 0755 0 0 * "security.capability"='
	has odd/modes/file-4755 'file 4755 0 0 '
	has odd/links/sub/hard-c 'file 0644 0 0 15 1700000000.000000000 0:0 3 link="odd/links/hard-a" "user.on"='
	has odd/nodes/null 'char 0622 0 0 0 1700000000.000000000 1:3 1'
	has odd/owners/symlink 'symlink 0777 12345 54321 4 '
	has odd/times/file-2100 'file 0644 0 0 0 4105310706.987654321 '
	has odd/sizes/sparse 'file 0644 0 0 9000001 '
	has 'odd/names/latin-\xe9' 'file '
	has change/opaque/both 'file 0644 0 0 6 '
	has change/opaque/new 'file '
	has change/dir-to-file 'file '
	has change/file-to-dir/inside 'file '
	has change/symlink-to-dir 'dir '
	has change/chmod-file 'file 0600 '
	has change/chmod-dir 'dir 0711 '
	has change/chmod-dir/inside 'file '
	has change/chown-dir 'dir 0755 12345 54321 '
	has change/cap-removed 'file 0644 0 0 19 1700000000.000000000 0:0 1 sha256:'
	has srv/bare 'dir 0750 12345 54321 * "user.on"='
	has srv/bare/deep/file 'file '
	for path in change/file-removed change/dir-removed change/links/b change/opaque/old \
		change/dir-to-file/x usr/share/base-files etc/redis/redis.conf usr/bin/dircolors; do
		hasnt "$path"
	done
	not grep '/\.wh\.' "$T/$SNAPSHOTTER.tree" || fail "whiteouts are in the tree"
	say "the tree equals the one on $REFERENCE: $(wc -l <"$T/$SNAPSHOTTER.tree") paths"
}

snapshots_listed() {
	ctr snapshot --snapshotter "$SNAPSHOTTER" ls >"$T/snapshots" 2>/dev/null
}

# The daemon dies while a container runs; the container does not notice, and a new daemon on the
# same directories knows everything.
crash_daemon() {
	local before keeper worker
	# shellcheck disable=SC2016 # for the shell inside
	run_container --detach --null-io "$IMAGE" "$NAME-survivor" /bin/sh -c \
		'n=0; while cat /app/data/* >/dev/null; do n=$((n + 1)); echo $n >/tmp/n; sleep 0.1; done'
	snapshots_listed
	before=$(sort "$T/snapshots")

	keeper=$firstlightd_pid
	worker=$(firstlightd_workers)
	[[ -n $worker ]] || fail "the keeper has no worker"
	# shellcheck disable=SC2086 # a list of numbers
	kill -KILL $worker
	wait_until 15 snapshots_listed || fail "no answer 15 s after the worker was killed"
	running "$keeper" || fail "the keeper went with its worker"
	expect "$before" "$(sort "$T/snapshots")" "snapshots after the worker was killed"
	survivor_goes_on
	say "the worker was killed: the keeper started a new one"

	kill_firstlightd
	survivor_goes_on
	start_firstlightd
	wait_until 15 snapshots_listed || fail "no answer 15 s after the restart"
	expect "$before" "$(sort "$T/snapshots")" "snapshots after the restart"
	survivor_goes_on
	expect "after the restart" "$(run_container --rm "$IMAGE" "$NAME-after" echo after the restart)" \
		"a container after the restart"
	remove_container "$NAME-survivor"
	say "both processes were killed: the container went on, and a new one starts"
}

# The counter in the container must move.
survivor_goes_on() {
	local seen
	task_runs "$NAME-survivor" || fail "the container stopped with the daemon"
	seen=$(exec_in "$NAME-survivor" cat /tmp/n)
	wait_until 10 survivor_counted "$seen" || fail "the container stands still at $seen"
}

survivor_counted() {
	[[ $(exec_in "$NAME-survivor" cat /tmp/n) != "$1" ]]
}

is_empty() {
	[[ -d $1 && -z $(ls -A "$1") ]]
}

# nothing_listed SOCKET: "ctr" can speak to firstlightd as if it were containerd.
nothing_listed() {
	[[ $(timeout 20 ctr --address "$1" snapshot --snapshotter "$SNAPSHOTTER" ls | wc -l) == 1 ]]
}

remove_all() {
	expect "" "$(ctr container ls -q)" "containers left"
	wait_until 10 no_shims || fail "shims are left: $(our_shims)"
	# --sync waits for containerd's garbage collection.
	ctr image rm --sync "$IMAGE" >/dev/null
	wait_until 10 nothing_listed "$CONTAINERD_SOCKET" || fail "containerd still lists snapshots"
	with_firstlight || return 0
	wait_until 10 nothing_listed "$FIRSTLIGHT_SOCKET" || fail "firstlightd still lists snapshots"
	wait_until 30 is_empty "$FIRSTLIGHT_ROOT/snapshots" ||
		fail "directories are left: $(find "$FIRSTLIGHT_ROOT/snapshots" -maxdepth 1 | head -n 5)"
	wait_until 30 is_empty "$FIRSTLIGHT_ROOT/trash" || fail "the trash is not empty after 30 s"
}

need pgrep awk diff cmp
for tool in treedump viewmount; do
	[[ -x $BUILD/go/$tool ]] || fail "$BUILD/go/$tool is not built"
done
LAYOUT=$(cached_image full)
say "the image is built"
start_registry
push_image "$LAYOUT" test/full:1
IMAGE=$REGISTRY/test/full:1
! with_firstlight || start_firstlightd
start_containerd
say "servers run"
pull_image "$IMAGE"
say "pulled for $SNAPSHOTTER"
[[ $SNAPSHOTTER == "$REFERENCE" ]] || pull_image "$IMAGE" "$REFERENCE"
say "unpacked for $REFERENCE"

run_programs
write_in_container
compare_trees
! with_firstlight || crash_daemon
remove_all
say "removed: nothing is left"
if with_firstlight; then
	stop_firstlightd
	[[ -z $(mounts_below "$T") ]] || fail "mounts are left: $(mounts_below "$T")"
fi
say "ok"
