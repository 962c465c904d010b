#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 400
# 32 clients against a daemon whose worker and keeper are killed at random: nothing that was acknowledged is lost,
# nothing half-made is seen, no directory is left over. CHAOS_SECONDS = length of the storm.
set -eu
[ "$(id -u)" = 0 ] || { echo "needs root"; exit 77; }
exec "${BUILD:-build}/go/chaos" -server "${BUILD:-build}/firstlightd" -seconds "${CHAOS_SECONDS:-60}"
