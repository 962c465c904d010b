#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# Every fuzzer for a short while, on its corpus. FUZZ_SHORT = seconds each.
set -eu
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
found=0
for f in build-fuzz/fuzz_*; do
	[ -x "$f" ] && [ ! -d "$f" ] || continue
	found=$((found + 1))
	name=${f##*/fuzz_}
	mkdir -p "$tmp/$name"
	corpus=tests/data/fuzz/$name
	echo "fuzz $name"
	"$f" -max_total_time="${FUZZ_SHORT:-10}" -timeout=10 -rss_limit_mb=2048 -verbosity=0 -print_final_stats=1 \
		-artifact_prefix="$tmp/" "$tmp/$name" $([ -d "$corpus" ] && echo "$corpus") ||
		exit 1 # libFuzzer's own code, 77, would be a skip
done
[ $found -gt 0 ] || { echo "no fuzzer was built"; exit 1; }
