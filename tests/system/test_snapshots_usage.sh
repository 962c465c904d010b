#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# Usage is what containerd's overlayfs snapshotter counts on the very same inodes; id mappings and
# volatile upper directories reach the mount options, and the kernel takes them.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../e2e/lib.sh"
need setfattr setcap getfattr findmnt jq
[[ -x $BUILD/go/snapcall && -x $BUILD/go/overlayserver ]] || fail "not built (make go)"

ours() { "$BUILD/go/snapcall" "$FIRSTLIGHT_SOCKET" "$@"; }
theirs() { "$BUILD/go/snapcall" "$T/overlay.sock" "$@"; }

# equal WHAT A B
equal() {
	[[ $2 == "$3" ]] || fail "$1: \"$2\" and \"$3\""
	say "$1: $2"
}

# same_usage KEY WHAT: both answer the same, and it is something.
same_usage() {
	local a b
	a=$(ours usage "$1")
	b=$(theirs usage "$1")
	[[ $a =~ ^[1-9][0-9]*\ [1-9][0-9]*$ ]] || fail "usage of $1 is \"$a\""
	equal "usage of $1, $2 (bytes inodes)" "$a" "$b"
}

# share KEY: the overlay server sees our upper directory in place of its own.
share() {
	local mine other
	mine=$(ours mounts "$1" | upper)
	other=$(theirs mounts "$1" | upper)
	mount --bind "$mine" "$other"
}

# upper: of a line that snapcall has printed.
upper() {
	sed -E 's/^bind ([^ ]+) .*/\1/; s/.*upperdir=([^,]+).*/\1/'
}

# set_settings LINE...: restarts the daemon with these.
set_settings() {
	[[ -z $firstlightd_pid ]] || stop_firstlightd
	printf '%s\n' "$@" >"$T/config.toml"
	start_firstlightd
}

# make_tree DIRECTORY: a real tree and everything that is hard to count.
make_tree() {
	local i
	cp -a /usr/share/zoneinfo /etc "$1"
	mkdir "$1/made"
	head -c 300000 /dev/urandom >"$1/made/full"
	ln "$1/made/full" "$1/made/again"
	ln "$1/made/full" "$1/etc/full"
	truncate -s 8G "$1/made/hole"
	dd if=/dev/urandom of="$1/made/islands" bs=4k count=1 seek=100000 status=none
	dd if=/dev/urandom of="$1/made/islands" bs=4k count=1 seek=5000 conv=notrunc status=none
	cp /bin/true "$1/made/capable"
	setcap cap_net_raw+ep "$1/made/capable"
	setfattr -n user.long -v "$(head -c 3000 /dev/zero | tr '\0' x)" "$1/made/full"
	setfattr -n trusted.overlay.opaque -v y "$1/made"
	mkfifo "$1/made/fifo"
	mknod "$1/made/whiteout" c 0 0
	mknod "$1/made/block" b 7 200
	cp -a "$T/overlay.sock" "$1/made/socket"
	ln -s /nowhere "$1/made/dangling"
	ln -s "$(printf 'long/%.0s' {1..300})" "$1/made/long"
	mkdir "$1/made/wide"
	for ((i = 0; i < 2000; i++)); do : >"$1/made/wide/name-$i"; done
	find "$1/made/wide" -name '*7' -delete # a directory does not shrink
}

firstlightd_args=(--config "$T/config.toml")
set_settings ''
"$BUILD/go/overlayserver" --root "$T/overlay" --address "$T/overlay.sock" >"$T/overlay.log" 2>&1 &
overlay_pid=$!
wait_until 20 test -S "$T/overlay.sock" || fail "overlayserver does not listen"

for key in empty base; do
	ours prepare $key '' >/dev/null
	theirs prepare $key '' >/dev/null
	share $key
done
same_usage empty "nothing in it"
make_tree "$(ours mounts base | upper)"
sync -f "$T"
same_usage base "a real tree"
ours commit base-done base
theirs commit base-done base
same_usage base-done "committed"

# A second layer, changed through a real overlay: copies, white-outs, opaque directories, renames.
ours prepare top base-done >/dev/null
theirs prepare top base-done >/dev/null
share top
mkdir "$T/merged"
ours mount top "$T/merged"
rm -r "$T/merged/made/wide" "$T/merged/made/full"
mkdir "$T/merged/made/wide"
echo more >>"$T/merged/etc/passwd"
mv "$T/merged/made/hole" "$T/merged/etc/hole"
chown 5:5 "$T/merged/made/islands"
same_usage top "mounted and changed"
umount "$T/merged"
ours view look base-done >/dev/null
equal "usage of a view" "$(ours usage look)" "0 0"
theirs view look base-done >/dev/null
equal "of the peer's view" "$(theirs usage look)" "0 0"
unmount_below "$T/overlay"

# --- id mappings -----------------------------------------------------------------------------------

maps=(containerd.io/snapshot/uidmapping=0:100000:65536 containerd.io/snapshot/gidmapping=0:200000:65536)
if grep -q 'kernel .*idmap=1' "$firstlightd_log"; then
	line=$(ours prepare mapped base-done "${maps[@]}")
	[[ $line == "overlay overlay uidmap=0:100000:65536,gidmap=0:200000:65536,"*lowerdir=* ]] ||
		fail "mapped: $line"
	equal "owner of a mapped upper directory" "$(stat -c %u:%g "$(upper <<<"$line")")" 100000:200000
	[[ $(ours prepare mapped-root '' "${maps[@]}") == bind*" uidmap=0:100000:65536,gidmap=0:200000:65536,rw,rbind" ]] ||
		fail "mapped without a parent"
	[[ $(ours prepare half base-done "${maps[0]}") != *idmap* ]] || fail "half a mapping was taken"
	set_settings ''
	equal "mounts after a restart" "$(ours mounts mapped)" "$line"
else
	say "this kernel has no idmapped layers: refused?"
	if ours prepare mapped base-done "${maps[@]}" 2>"$T/refused"; then fail "mapped was not refused"; fi
	grep -q '^FailedPrecondition: .*remap-ids' "$T/refused" || fail "$(cat "$T/refused")"
fi
bad=containerd.io/snapshot/uidmapping=rubbish
if ours prepare wrong base-done "$bad" "${maps[1]}" 2>"$T/refused"; then fail "rubbish was taken"; fi
grep -qE '^(InvalidArgument|FailedPrecondition)' "$T/refused" || fail "$(cat "$T/refused")"

# --- volatile --------------------------------------------------------------------------------------

[[ $(ours mounts top) != *volatile* ]] || fail "volatile was not asked for"
set_settings '[snapshot]' 'volatile = true' 'upperdir_label = true'
if ! grep -q 'kernel .*volatile=1' "$firstlightd_log"; then
	say "this kernel has no volatile upper directories"
	exit 0
fi
[[ $(ours prepare fast base-done) == overlay*",volatile,lowerdir="* ]] || fail "$(ours mounts fast)"
[[ $(ours view still base-done) != *volatile* ]] || fail "a view is volatile"
[[ $(ours prepare lone '') == bind*" rw,rbind" ]] || fail "a bind mount is volatile"
for try in 1 2; do # the mark of the first mount would make the kernel refuse the second
	ours mount fast "$T/merged" || fail "mount $try"
	findmnt -no OPTIONS "$T/merged" | grep -qw volatile || fail "mount $try is not volatile"
	echo "$try" >"$T/merged/file"
	umount "$T/merged"
done
label=$("$BUILD/firstlight" snapshots --json --address "$FIRSTLIGHT_SOCKET" \
	"labels.\"containerd.io/snapshot/overlay.upperdir\"==\"$(ours mounts fast | upper)\"" | jq -r '.[].name')
equal "the snapshot with fast's upper directory" "$label" fast

stop_process "$overlay_pid" 10 || true
stop_firstlightd
