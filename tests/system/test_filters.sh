#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
#
# Random filters, judged by containerd's own filter package and by snap/filter: no difference.
# FILTER_SEED and FILTER_CASES repeat and lengthen a run; seed 1 is always judged first.
set -euo pipefail
build=${BUILD:-build}
seed=${FILTER_SEED:-$(date +%s)}
for program in "$build/go/filters" "$build/tests/filter_oracle"; do
	[ -x "$program" ] || { echo "no $program"; exit 1; }
done
for s in 1 "$seed"; do
	echo "seed $s"
	"$build/go/filters" gen "$s" "${FILTER_CASES:-200000}" | "$build/tests/filter_oracle"
done
