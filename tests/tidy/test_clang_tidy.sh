#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
# clang-tidy over the programs' sources, with the checks of .clang-tidy.
set -u
tidy=$(command -v clang-tidy-14 || command -v clang-tidy) || { echo "no clang-tidy"; exit 77; }
BUILD=${BUILD:-build}
# shellcheck disable=SC2016
printf '%s\n' daemon/*.c daemon/*/*.c tools/firstlight/*.c tools/replay/*.c |
	xargs -P "$(nproc)" -I{} sh -c '"$0" --quiet "$1" -- -std=gnu11 -D_GNU_SOURCE \
		-DFIRSTLIGHT_VERSION=\"0\" -Idaemon -Iinclude -I"$2"/gen 2>/dev/null || exit 1' \
		"$tidy" {} "$BUILD"
