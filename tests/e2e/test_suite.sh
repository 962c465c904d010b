#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# containerd's own snapshotter suite, spoken directly to firstlightd's socket.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/suite.sh"

# The daemon must not depend on the umask that it was started with.
umask 0
start_firstlightd
umask 022
run_suite FL_ADDRESS="$FIRSTLIGHT_SOCKET"
firstlight_is_empty
stop_firstlightd
say "ok"
