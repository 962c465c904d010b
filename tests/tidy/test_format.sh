#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every C file is as .clang-format wants it.
set -u
format=$(command -v clang-format-14) || { echo "no clang-format-14"; exit 77; }
git ls-files '*.c' '*.h' 2>/dev/null | grep . >/dev/null || { echo "not a git checkout"; exit 77; }
git ls-files '*.c' '*.h' | xargs "$format" --dry-run -Werror 2>&1 | grep -m 20 'error:' && exit 1
exit 0
