#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# make demo: a private registry, a private containerd and firstlightd in a temporary directory; a
# container runs from an image that is not here yet. Everything is gone afterwards.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/../../tests/e2e/lib.sh"
. "$(dirname "$0")/../../tests/e2e/lazy.sh"

step() {
	printf '\n\033[1m%s\033[0m\n' "$*"
}

# say_command TEXT: what one would type.
say_command() {
	printf '$ %s\n' "$*"
}

# brief: digests to 12 digits, this run's directory as DIR, two columns further in.
brief() {
	sed -E -e 's/(sha256:[0-9a-f]{12})[0-9a-f]{52}/\1/g' -e "s,$T,DIR,g" -e 's/^/  /'
}

step "Starting a registry, containerd and $SNAPSHOTTER in $T (DIR below)"
need pgrep awk
start_registry
firstlightd_args=(--containerd "$CONTAINERD_SOCKET")
start_firstlightd
start_containerd
push_image "$(lazy_image small esgz)" demo/hello:1
image=$REGISTRY/demo/hello:1
echo "ready; the image, in the format eStargz, is $image"

step "Pulling it: its tables of contents, no layer"
say_command "firstlight pull --plain-http $image"
"$BUILD/firstlight" pull --address "$FIRSTLIGHT_SOCKET" --plain-http "$image" 2>&1 | brief

step "Running a container on it"
say_command "ctr run --rm --snapshotter $SNAPSHOTTER $image $NAME-hello"
run_container --rm "$image" "$NAME-hello" | brief

step "Its layers and the root of a running container, as snapshots"
run_container --detach --null-io "$image" "$NAME-sleeper" sleep 1000 >/dev/null
say_command "ctr snapshot --snapshotter $SNAPSHOTTER ls"
# A root has no parent: its two columns are name and kind.
ctr snapshot --snapshotter "$SNAPSHOTTER" ls | brief |
	awk '{ printf "  %-22s %-22s %s\n", $1, (NF > 2 ? $2 : ""), $NF }'

step "What that container's root is mounted from"
awk -v name="/$NAME-sleeper/rootfs" 'index($2, name) { print "type " $3; gsub(",", "\n", $4); print $4 }' \
	/proc/mounts | brief

step "How much of it is here by now"
say_command "firstlight images"
"$BUILD/firstlight" images --address "$FIRSTLIGHT_SOCKET" | brief

step "Cleaning up"
remove_container "$NAME-sleeper"
ctr image rm --sync "$image" >/dev/null
echo "$(ctr snapshot --snapshotter "$SNAPSHOTTER" ls | tail -n +2 | wc -l) snapshots are left"
stop_firstlightd
