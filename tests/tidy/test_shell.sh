#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# Shell scripts as shellcheck wants them, warnings and worse. Left out is what it cannot know: variables of the
# files that source, or are sourced; and that lists of words are meant to be split.
set -u
type -P shellcheck >/dev/null || { echo "no shellcheck"; exit 77; }
mapfile -t scripts < <(git ls-files '*.sh' tests/run tools/bench/report 2>/dev/null)
((${#scripts[@]} > 0)) || { echo "not a git checkout"; exit 77; }
shellcheck -S warning -e SC1090,SC1091,SC2034,SC2046,SC2128,SC2154,SC2155,SC2178 "${scripts[@]}"
