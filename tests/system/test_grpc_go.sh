#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 90
#
# Our gRPC, both sides, against Go's google.golang.org/grpc as its peer.
set -euo pipefail
build=${BUILD:-build}
native=$build/tests/grpc_echo probe=$build/go/grpcprobe
for program in "$native" "$probe"; do
	[ -x "$program" ] || { echo "no $program"; exit 1; }
done
tmp=$(mktemp -d)
pids=()
cleanup() {
	local pid
	for pid in "${pids[@]}"; do
		kill -KILL "$pid" 2>/dev/null || true
	done
	rm -rf "$tmp"
}
trap cleanup EXIT

# start SOCKET COMMAND…: waits until it listens; sets pid.
start() {
	local socket=$1
	shift
	"$@" &
	pid=$!
	pids+=("$pid")
	for _ in $(seq 100); do
		[ -S "$socket" ] && return
		sleep 0.05
	done
	echo "$* does not listen"
	exit 1
}

# ends PID: well, and by itself.
ends() {
	local status=0
	wait "$1" || status=$?
	[ "$status" = 0 ] || { echo "the server ended with $status"; exit 1; }
}

start "$tmp/ours" "$native" serve "$tmp/ours"
ours=$pid
"$probe" keepalive "$tmp/ours" &
keepalive=$!
pids+=("$keepalive")

start "$tmp/go" "$probe" serve "$tmp/go"
"$native" call "$tmp/go"
"$native" drain "$tmp/go" "$pid"
ends "$pid"

start "$tmp/zip" "$probe" servezip "$tmp/zip"
"$native" callzip "$tmp/zip"
kill -TERM "$pid"
ends "$pid"

"$probe" client "$tmp/ours"
wait "$keepalive" || { echo "keepalive failed"; exit 1; }
"$probe" drain "$tmp/ours" "$ours"
ends "$ours"
