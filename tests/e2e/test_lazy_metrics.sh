#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
#
# What metrics tell of lazy layers: what is fetched, for whom, from where; reads that wait while the
# registry stands still; registries that refuse or are gone.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"
need jq curl skopeo

fl() {
	local command=$1
	shift
	timeout --foreground 120 "$BUILD/firstlight" "$command" --address "$FIRSTLIGHT_SOCKET" "$@"
}

METRICS=$T/metrics.sock
scrape() { curl -s --max-time 10 -f --unix-socket "$METRICS" http://localhost/metrics >"$T/metrics"; }
# value SERIES: of the last scrape, 0 if it is not told.
value() { awk -v s="$1 " 'index($0, s) == 1 { v = substr($0, length(s) + 1) } END { print v + 0 }' "$T/metrics"; }
# total FAMILY: over all labels.
total() { awk -v s="$1{" 'index($0, s) == 1 { sum += $NF } END { printf "%d\n", sum }' "$T/metrics"; }
# grows SERIES THAN
grows() { scrape && (($(value "$1") > $2)); }
is() { scrape && [[ $(value "$1") == "$2" ]]; }

# The kernel's readahead may still be under way.
all_waits_are_told() {
	scrape && [[ $(value firstlight_fuse_read_wait_seconds_count) == "$(value firstlight_fuse_reads_waited_total)" ]]
}

start_registry
registry_settings "$REGISTRY"
mkdir -p "$T/certs.d/mirrored.invalid"
printf '[host."http://%s"]\n  capabilities = ["pull", "resolve"]\n' "$REGISTRY" >"$T/certs.d/mirrored.invalid/hosts.toml"
firstlightd_args+=(--metrics "unix:$METRICS" --containerd "$CONTAINERD_SOCKET")
start_firstlightd
start_containerd
image=$REGISTRY/test/sink:1-esgz
push_image "$(lazy_image sink esgz)" test/sink:1-esgz
say "servers run"

scrape
[[ $(total firstlight_fetch_chunks_total) == 0 && $(total firstlight_registry_bytes_total) == 0 ]] || fail "fetched before the first pull"
mkdir "$T/mnt"
fl pull --plain-http "$image" >/dev/null
kill -STOP "$registry_pid"
view_image firstlight "$image" "$T/mnt"
find "$T/mnt" -xdev -type f -size +8k -print0 | xargs -0 cat >/dev/null &
reader=$!
wait_until 10 grows firstlight_fuse_reads_waited_total 0 || fail "no read waits"
wait_until 10 grows firstlight_fetch_waiting 0 || fail "nobody waits"
sleep 1.5
scrape
running=$(total firstlight_registry_requests_running)
((running > 0)) || fail "no request is under way"
say "the registry stands still: $(value firstlight_fetch_waiting) wait, $running requests"
kill -CONT "$registry_pid"
wait "$reader" || fail "the files cannot be read"
scrape
count=$(value firstlight_fuse_read_wait_seconds_count)
((count > $(value 'firstlight_fuse_read_wait_seconds_bucket{le="1"}'))) || fail "no wait of more than 1 s: $(grep wait "$T/metrics")"
wait_until 10 all_waits_are_told || fail "$(value firstlight_fuse_read_wait_seconds_count) waits of $(value firstlight_fuse_reads_waited_total)"
[[ $(value firstlight_fuse_reads_failed_total) == 0 ]] || fail "failed reads"
(($(value firstlight_fuse_requests_total) > $(value firstlight_fuse_reads_total))) || fail "requests"
(($(value firstlight_fuse_opens_total) > 0)) || fail "opens"
(($(value 'firstlight_fetch_compressed_bytes_total{class="demand"}') > 0)) || fail "no bytes on demand"

layers=$(fl inspect --json "$image" | jq '[.layers[] | select(.lazy)] | length')
((layers > 0)) || fail "no layer is lazy"
wait_until 60 is firstlight_lazy_layers_complete "$layers" || fail "$(value firstlight_lazy_layers_complete) of $layers layers are complete"
[[ $(value firstlight_lazy_layers) == "$layers" && $(value firstlight_lazy_snapshots) == "$layers" ]] || fail "layers"
[[ $(value firstlight_mounted_runs) == 1 ]] || fail "$(value firstlight_mounted_runs) runs are mounted"
wait_until 20 is 'firstlight_objects{state="partial"}' 0 || fail "partial contents"
(($(value 'firstlight_objects{state="complete"}') > 10 && $(value firstlight_store_bytes) > 10000)) || fail "the store"
(($(value 'firstlight_fetch_chunks_total{class="background"}') > 0)) || fail "no chunk by the background"
(($(total firstlight_fetch_content_bytes_total) > $(total firstlight_fetch_compressed_bytes_total))) || fail "contents"
(($(value 'firstlight_registry_bytes_total{source="registry"}') > $(total firstlight_fetch_compressed_bytes_total))) || fail "the registry"
[[ $(value 'firstlight_registry_bytes_total{source="mirror"}') == 0 ]] || fail "a mirror"
(($(value "firstlight_registry_requests_total{host=\"$REGISTRY\",outcome=\"ok\"}") > 1)) || fail "requests"
say "fetched: $(total firstlight_fetch_chunks_total) chunks, $count reads waited"

say "another worker counts anew, and sees the same store"
complete=$(value 'firstlight_objects{state="complete"}')
kill -KILL "$(firstlightd_workers)"
wait_until 10 is firstlight_worker_restarts_total 1 || fail "$(value firstlight_worker_restarts_total) restarts"
[[ $(total firstlight_fetch_chunks_total) == 0 ]] || fail "it tells what the old one has fetched"
wait_until 20 is 'firstlight_objects{state="complete"}' "$complete" || fail "another store"
is firstlight_lazy_layers_complete "$layers" || fail "other layers"
view_image firstlight -u "$T/mnt"

say "a mirror, a refusal, nobody"
fl pull "mirrored.invalid/test/sink:1-esgz" >/dev/null || fail "no pull by a mirror"
scrape
(($(value 'firstlight_registry_bytes_total{source="mirror"}') > 0)) || fail "the mirror's bytes are not told: $(grep '^firstlight_registry' "$T/metrics")"
[[ $(value 'firstlight_registry_bytes_total{source="registry"}') == 0 ]] || fail "the mirror's bytes are another's"
not fl pull "$REGISTRY/test/none:1" >/dev/null 2>&1 || fail "what is not there was pulled"
scrape
(($(value "firstlight_registry_requests_total{host=\"$REGISTRY\",outcome=\"4xx\"}") > 0)) || fail "no refusal"
[[ $(value "firstlight_registry_requests_total{host=\"$REGISTRY\",outcome=\"network\"}") == 0 ]] || fail "no answer"
stop_process "$registry_pid" 5 || true
registry_pid=""
not fl pull "$REGISTRY/test/none:1" >/dev/null 2>&1 || fail "nobody was there"
scrape
(($(value "firstlight_registry_requests_total{host=\"$REGISTRY\",outcome=\"network\"}") > 0)) || fail "an answer"
stop_firstlightd
[[ ! -e $METRICS ]] || fail "the socket stays"
say "ok"
