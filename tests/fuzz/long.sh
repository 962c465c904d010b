#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# usage: tests/fuzz/long.sh SECONDS FUZZER…   New inputs are kept in build-fuzz/corpus/.
set -eu
seconds=$1
shift
for f in "$@"; do
	name=${f##*/fuzz_}
	mkdir -p "build-fuzz/corpus/$name"
	corpus=tests/data/fuzz/$name
	"$f" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -artifact_prefix="build-fuzz/crash-$name-" \
		"build-fuzz/corpus/$name" $([ -d "$corpus" ] && echo "$corpus")
done
