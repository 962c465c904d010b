#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 60
#
# tools/bench/report on samples of which the answers are known: medians, ratios and their mean, where ranges
# overlap, what is worse, what failed, two runs together, and that a wrong run is refused.
set -euo pipefail
type -P jq >/dev/null || { echo "SKIP: jq is not installed (make deps)"; exit 77; }
report=$(dirname "$(realpath "$0")")/../../tools/bench/report
T=$(mktemp -d)
trap 'rm -rf "$T"' EXIT

fail() {
	echo "FAIL: $*" >&2
	sed -n '1,60p' "$T/page/README.md" >&2 || true
	exit 1
}

# start MODE IMAGE SECONDS...: samples of cold starts.
start() {
	local s
	for s in "${@:3}"; do
		jq -nc --arg mode "$1" --arg image "$2" --argjson s "$s" '{bench: "cold", link: "50:100", measured: "RTT 50.1 ms, 95 Mbit/s",
			start: "scratch", $image, $mode, ready_ms: ($s * 1000), received_bytes: 4000000, needed: 3000000, requests: 7}'
	done
}

# has TEXT: a line of the page, as it stands.
has() {
	grep -qF -- "$1" "$T/page/README.md" || fail "the page lacks: $1"
}

mkdir "$T/first" "$T/second"
echo '{"bench": "host", "at": "2026-01-02T03:04:05Z", "cpus": 2, "cpu": "a processor", "memory_kb": 8388608, "kernel": "6.1.2", "fs": "ext4",
	"sync_us": 30, "load": 3.5, "firstlight": "0.1", "commit": "abcdef", "containerd": "1.6", "runc": "1.1", "stargz": "0.12",
	"registry": "2.8"}' | jq -c . >"$T/first/host.jsonl"
{
	start firstlight redis 2 4 3
	start overlayfs redis 9 12 # apart; with the second run 9, 12, 12
	start stargz redis 2.5 3.5 # the ranges overlap, the medians are equal
	start firstlight nginx 4
	start overlayfs nginx 2 # worse
	start curl redis 1
	echo '{"bench": "cold", "mode": "stargz", "image": "nginx", "link": "50:100", "failed": "no route | to the host"}'
} >"$T/first/cold.jsonl"
start overlayfs redis 12 >"$T/second/cold.jsonl"
printf '{"bench":"steady","test":"stat","cache":"hot","on":"%s","round":1,"rate":%s}\n' firstlight 50 overlayfs 100 >"$T/second/steady.jsonl"
# Nothing to divide by: neither is a loss. Who has read nothing has no longest read.
printf '{"bench":"chaos","fault":"500","mode":"%s","failed_reads":%s,"wrong_reads":0,"longest_ms":%s,"bytes":%s,"seconds":%s}\n' \
	firstlight 0 450 9000 11 overlayfs 12 0 0 1 >"$T/second/chaos.jsonl"

# Each round has its own rate before.
for round in "1 1000 990 960" "2 500 500 490" "3 100 98 97"; do
	read -r n before off on <<<"$round"
	printf '{"bench":"watch","test":"exec","round":%s,"mode":"%s","rate":%s}\n' $n before $before $n off $off $n on $on
done >"$T/second/watch.jsonl"

"$report" -o "$T/page" "$T/first" "$T/second" >"$T/out" 2>"$T/errors" || { cat "$T/errors" >&2; fail "no report"; }
[[ $(<"$T/out") == "$T/page/README.md" ]] || fail "the page's name is not told: $(<"$T/out")"
has "### 50 ms, 100 Mbit/s, scratch: pull to ready, s"
has "| | firstlight | overlayfs | stargz | curl |"
has "| redis | 3 [2–4] | 12 [9–12] **4×** | 3 [2.5–3.5] **1×** ≈ | 1 |"
has "| nginx | 4 | 2 **0.5×** | – | – |"
# The mean of 4 and 1/2 is the square root of 2; the floor has none.
has "| *geometric mean* |  | **1.41×** | **1×** |  |"
has "Medians of 1 to 3; less is better. Ranges overlap in 1 of 3 comparisons (≈)"
has "| redis | 4 | 4 **1×** ≈ | 4 **1×** ≈ | 3 | 4 |" # received, and what was needed
# More is better there.
has "| stat | 50 | 100 **0.5×** |"
has "- 50 ms, 100 Mbit/s, scratch: pull to ready: overlayfs is better in 1 of 2: nginx 0.5×"
has "- complete image, hot caches, rates: overlayfs is better in 1 of 1: stat 0.5×"
has "- cold stargz nginx 50:100: 1 times: no route   to the host"
has "a synced write of 4 KiB in 30 us, load 3.5 at the start (**busy**: trust the ratios only)"
has "- link (ms:Mbit/s) 50:100 measured as RTT 50.1 ms, 95 Mbit/s"
has "| 500 | 0 | 12 |"
has "| 500 | 450 |"
has "| exec of small programs | 1 [0–2] | 3 [2–4] |"
grep -q 'better in .*500' "$T/page/README.md" && fail "reads that did not fail count as worse"
grep -q 'better in .*redis' "$T/page/README.md" && fail "an equal median counts as worse"

# The plot, where there is gnuplot, has bars for both images.
if type -P gnuplot >/dev/null; then
	[[ ! -s $T/errors ]] || fail "$(<"$T/errors")"
	plot=$T/page/50-ms-100-mbit-s-scratch-pull-to-ready
	grep -q '>redis<' "$plot.svg" && grep -q '>nginx<' "$plot.svg" || fail "the plot lacks an image"
	[[ $(head -c 4 "$plot.png" | tail -c 3) == PNG ]] || fail "no PNG"
	has "](50-ms-100-mbit-s-scratch-pull-to-ready.svg)"
else
	grep -q 'gnuplot is not installed' "$T/errors" || fail "missing plots are not told"
fi

# Another reference turns the ratio round.
"$report" -o "$T/page" -r overlayfs "$T/first" "$T/second" >/dev/null 2>&1
has "| redis | 12 [9–12] | 3 [2–4] **0.25×** |"

mkdir "$T/empty"
status=0
"$report" "$T/empty" >"$T/out" 2>&1 || status=$?
[[ $status == 1 && $(<"$T/out") == "report: $T/empty holds no samples" ]] || fail "an empty run: status $status, $(<"$T/out")"
status=0
"$report" >"$T/out" 2>&1 || status=$?
[[ $status == 2 ]] || fail "no run: status $status"
