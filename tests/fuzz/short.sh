#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# Every fuzzer for a short while, on its corpus. FUZZ_SHORT = seconds each.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

one() {
	name=${1##*/fuzz_}
	mkdir -p "$tmp/$name"
	set -- "$1" "$tmp/$name"
	[ ! -d "tests/data/fuzz/$name" ] || set -- "$@" "tests/data/fuzz/$name"
	status=0
	"$@" -max_total_time="${FUZZ_SHORT:-10}" -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
		-artifact_prefix="$tmp/" >"$tmp/$name.log" 2>&1 || status=1
	printf 'fuzz %s\n%s\n' "$name" "$(cat "$tmp/$name.log")"
	return $status
}

if [ $# = 1 ]; then
	one "$1"
	exit
fi
found=$(find build-fuzz -maxdepth 1 -name 'fuzz_*' -type f -executable | sort)
[ -n "$found" ] || { echo "no fuzzer was built"; exit 1; }
# As many at once as there are processors. libFuzzer's own code of a failure, 77, would be a skip.
echo "$found" | xargs -P "$(nproc)" -n 1 "$0" || exit 1
