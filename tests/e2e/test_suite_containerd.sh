#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
#
# containerd's own snapshotter suite through a containerd, whose metadata store stands before the
# snapshotter and removes from it by garbage collection. SNAPSHOTTER=overlayfs tests the test.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/suite.sh"

if [[ $SNAPSHOTTER == firstlight ]]; then
	umask 077
	start_firstlightd
	umask 022
fi
start_containerd
run_suite CONTAINERD_ADDRESS="$CONTAINERD_SOCKET" SNAPSHOTTER="$SNAPSHOTTER"
if [[ $SNAPSHOTTER == firstlight ]]; then
	firstlight_is_empty
	stop_firstlightd
fi
say "ok"
