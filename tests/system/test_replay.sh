#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
#
# build/replay on recordings of which the answers were worked out by hand. The recordings are synthetic: nobody ever
# ran them. All on a link of 50 ms and 100 Mbit/s, which carries 125000 bytes in 10 ms and a unit of 131072 in 10.48576.
set -euo pipefail
type -P jq >/dev/null || { echo "SKIP: jq is not installed (make deps)"; exit 77; }
here=$(dirname "$(realpath "$0")")
data=$here/../data/replay
replay=$(realpath "${BUILD:-build}/replay")
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT

fail() {
	echo "FAIL: $*" >&2
	exit 1
}

# run RECORDING [OPTION…]: what it prints as JSON goes to $T/out.
run() {
	"$replay" --recording "$data/$1.json" --json "${@:2}" >"$T/out" || fail "replay $*"
}

# is FILTER: it holds of the last run.
is() {
	jq -e "$1" "$T/out" >/dev/null || { jq . "$T/out" >&2; fail "not so: $1"; }
}

# Three files one after the other, 5 ms apart, then 2 ms of work.
#   without: each waits for a round trip and 10 ms: 3 * 60 + 12.
#   foreseen as soon as it starts: here at 60, 70, 80; 80 + 2.
run chain
is '.without | .ready_ns == 192000000 and .waited_ns == 180000000 and .requests == 3 and .used.bytes == 375000'
is '.without | .missed.units == 3 and .wasted.units == 0 and .foreseen == 0'
is '.profile | .ready_ns == 82000000 and .waited_ns == 70000000 and .requests == 0 and .foreseen == 3'
is '.profile | .late.units == 3 and .hits.units == 0 and .missed.units == 0 and .wasted.units == 0'
is '.profile | .precision == 100 and .recall == 100 and .stopped == false'
is '.perfect | .ready_ns == 82000000 and .foreseen == 3'

# The prediction begins 100 ms earlier: all is here in time, and 12 ms of work are left.
run chain --lead 100
is '.without.ready_ns == 192000000 and .profile.ready_ns == 12000000 and .perfect.ready_ns == 12000000'
is '.profile | .hits.units == 3 and .hits.bytes == 375000 and .late.units == 0 and .waited_ns == 0'

# 65 ms earlier: the first is here, the second and third come at 70 and 80 and are read at 70 and 75.
run chain --lead 65
is '.profile | .ready_ns == 17000000 and .waited_ns == 5000000 and .hits.units == 2 and .late.units == 1'

# The same profile for a program that reads two other files: three units are wasted, none of them in its way (the
# link is idle while the second one's round trip lasts). 60 + 5 + 60.
run other --profile "$data/chain-profile.json"
is '.without.ready_ns == 125000000 and .profile.ready_ns == 125000000'
is '.profile | .requests == 2 and .foreseen == 3 and .wasted.units == 3 and .wasted.bytes == 393216 and .missed.units == 2'
is '.profile.recall == 0'
is '.perfect | .ready_ns == 70000000 and .waited_ns == 65000000'

# A file of 1250000 bytes at once, some of it again, then a small one.
#   without: 50 + 100, 20 of work, 60. Foreseen: the small one comes right behind the large one.
run large
is '.without | .ready_ns == 230000000 and .requests == 2 and .used.units == 11 and .used.bytes == 1375000'
is '.profile | .ready_ns == 170000000 and .foreseen == 2 and .late.bytes == 1250000 and .hits.bytes == 125000'
is '.perfect.ready_ns == 170000000'

# A second of wrong prediction, and two small reads: they go first, but what is being sent is sent. The second one is
# asked for at 160 and could be sent from 210 on; the 15th unit since 60 ends at 217.2864.
run contended --profile "$data/big-profile.json"
is '.without.ready_ns == 220000000'
is '.profile | .ready_ns == 227286400 and .waited_ns == 127286400 and .wasted.bytes == 12500000 and .wasted.units == 96'

# Other links.
run chain --rtt 0 --rate 1000
is '.without.ready_ns == 15000000 and .rate == 125000000 and .rtt_ns == 0'

# What a person reads, and what is refused.
"$replay" --help >"$T/text"
grep -q -- '--recording FILE' "$T/text" || fail "help"
"$replay" --recording "$data/large.json" >"$T/text"
grep -q '^of what was read: hit 9 %, late 90 %, missed 0 %; wasted 0.00 MiB$' "$T/text" || { cat "$T/text"; fail "text"; }
grep -q '^profile  *0\.170 ' "$T/text" || { cat "$T/text"; fail "text"; }

# refused CODE TEXT ARGUMENT…
refused() {
	local code=0
	"$replay" "${@:3}" >"$T/text" 2>&1 || code=$?
	[ $code = "$1" ] && grep -qF -- "$2" "$T/text" || { cat "$T/text" >&2; fail "${*:3}: exit $code"; }
}
refused 2 'is missing'
refused 2 'unexpected argument x' --recording "$data/chain.json" x
refused 2 '--rate 0' --recording "$data/chain.json" --rate 0
refused 2 'no option --rat-e' --rat-e
refused 2 'needs a value' --recording
refused 1 "$T/none" --recording "$T/none"
refused 1 'chain-profile.json' --recording "$data/chain-profile.json"
refused 1 'chain.json: ' --recording "$data/chain.json" --profile "$data/chain.json"
