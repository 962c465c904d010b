# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# How both suite tests run containerd's snapshotter suite and judge its answer. Source lib.sh first.

# The suite's tests; Rename is skipped by the suite itself.
readonly SUITE_PASS="128LayersMount Basic Chown CloseTwice DeletedFilesInChildSnapshot
	DirectoryPermissionOnCommit LayerFileupdate MoveFileFromLowerLayer PreareViewFailingtest Remove
	RemoveDirectoryInLowerLayer RemoveIntermediateSnapshot RootPermission StatActive StatComitted
	StatInWalk TransitivityTest Update ViewReadonly Walk"
readonly SUITE_SKIP="Rename"

# suite_names WORD: the suite's tests whose line says WORD.
suite_names() {
	sed -n "s,^ *--- $1: TestSuite/\([^ ]*\) .*,\1,p" "$T/suite.out" | sort
}

# run_suite VARIABLE=VALUE...: the environment says which server.
run_suite() {
	local status=0 passed skipped failed
	need pgrep awk
	[[ -x $BUILD/go/suite ]] || fail "$BUILD/go/suite is not built"
	mkdir -p "$T/suite"
	env TMPDIR="$T/suite" "$@" "$BUILD/go/suite" -test.v -test.root -test.timeout 150s \
		>"$T/suite.out" 2>&1 || status=$?
	passed=$(suite_names PASS)
	skipped=$(suite_names SKIP)
	failed=$(suite_names FAIL)
	say "suite: $(wc -w <<<"$passed") passed, $(wc -w <<<"$skipped") skipped, $(wc -w <<<"$failed") failed"
	if ((status != 0)) || [[ $passed != "$(xargs -n1 <<<"$SUITE_PASS")" || $skipped != "$SUITE_SKIP" ||
		-n $failed ]] || ! grep -q '^--- PASS: TestRemoveAll ' "$T/suite.out"; then
		grep -v -e '^=== ' -e ': unmount ' "$T/suite.out" >&2
		fail "the suite ended with status $status; failed:" "${failed//$'\n'/ }"
	fi
	grep -o 'removed [0-9]* snapshots' "$T/suite.out"
	[[ -z $(mounts_below "$T/suite") ]] || fail "the suite left mounts behind"
}

is_empty() {
	[[ -d $1 && -z $(ls -A "$1") ]]
}

# firstlight_is_empty: neither records nor directories are left.
firstlight_is_empty() {
	local what
	for what in snapshots trash; do
		wait_until 30 is_empty "$FIRSTLIGHT_ROOT/$what" ||
			fail "$what is not empty: $(find "$FIRSTLIGHT_ROOT/$what" -mindepth 1 -maxdepth 1 | head -n 5)"
	done
}
