#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
#
# Where io_uring is forbidden or missing the daemon says what to do, once, and ends.
# shellcheck source=tests/system/lib.sh
. "$(dirname "$0")/lib.sh"
[[ -x $BUILD/tests/no_uring ]] || fail "no $BUILD/tests/no_uring"
"$BUILD/tests/no_uring" EPERM /bin/true || skip "no seccomp here"

# ends_with TEXT ERRNO
ends_with() {
	: >"$LOG"
	wrap=("$BUILD/tests/no_uring" "$2")
	launch
	ended_badly 10
	logged "$1"
	(($(grep -c 'cannot start' "$LOG") == 1)) || fail "it was tried again"
}
ends_with 'io_uring is forbidden: sysctl kernel.io_uring_disabled must be 0 .*seccomp profile' EPERM
ends_with 'io_uring is not in this kernel .*seccomp' ENOSYS
wrap=()
start
stop
