#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# Metrics: the address, the text, what changes with real calls, a new worker, hostile clients; and that
# the dashboard names nothing else.
# shellcheck source=tests/system/lib.sh
. "$(dirname "$0")/lib.sh"
type -P curl >/dev/null && type -P jq >/dev/null || skip "no curl or jq (make deps)"
DASHBOARD=$(dirname "$0")/../../tools/grafana/firstlight.json

# bad TEXT ADDRESS: refused at start, exit code 2.
bad() {
	local status=0
	"$FIRSTLIGHTD" --root "$ROOT" --state "$T/state" --metrics "$2" >"$T/out" 2>&1 || status=$?
	((status == 2)) && grep -qF -- "$1" "$T/out" || fail "--metrics $2: exit code $status, said $(cat "$T/out")"
	[[ ! -e $ROOT ]] || fail "--metrics $2: did more than to complain"
}

say "only loopback and unix sockets"
bad 'must be a loopback address, and 0.0.0.0 is none' 0.0.0.0:9477
bad 'must be a loopback address, and 192.168.1.1 is none' 192.168.1.1:9477
bad 'must be a loopback address, and :: is none' '[::]:9477'
bad 'must be "unix:/PATH", "127.0.0.1:PORT" or "[::1]:PORT"' localhost:9477
bad 'must be "unix:/PATH"' unix:relative
printf '[metrics]\naddress = "0.0.0.0:9477"\n' >"$T/bad.toml"
status=0
"$FIRSTLIGHTD" --root "$ROOT" --config "$T/bad.toml" >"$T/out" 2>&1 || status=$?
((status == 2)) && grep -qF "$T/bad.toml:2: address: must be a loopback address" "$T/out" || fail "said $(cat "$T/out")"

METRICS=$T/metrics.sock
at=(--unix-socket "$METRICS" http://localhost/metrics)
scrape() { curl -sS --max-time 10 -f "${at[@]}" >"$T/metrics" 2>"$T/curl.err"; }
# value SERIES: of the last scrape; nothing if it is not told.
value() { awk -v s="$1 " 'index($0, s) == 1 { print substr($0, length(s) + 1) }' "$T/metrics"; }
# is SERIES VALUE: now.
is() { scrape && [[ $(value "$1") == "$2" ]]; }
# becomes SERIES VALUE
becomes() { wait_until 5 is "$1" "$2" || fail "$1 is $(value "$1"), not $2 $(cat "$T/curl.err")"; }

say "by a unix socket, as the settings say"
printf '[metrics]\naddress = "unix:%s"\n' "$METRICS" >"$T/good.toml"
flags=(--config "$T/good.toml")
start
flags=()
wait_until 5 scrape || fail "no metrics: $(cat "$T/curl.err")"
logged "metrics address=unix:$METRICS"
[[ $(stat -c '%F %a' "$METRICS") == 'socket 600' ]] || fail "the socket is $(stat -c '%F %a' "$METRICS")"
curl -sS --max-time 10 -o "$T/body" -D "$T/head" "${at[@]}"
grep -qi '^content-type: text/plain; version=0.0.4' "$T/head" || fail "head: $(cat "$T/head")"
[[ $(curl -sS -o /dev/null -w '%{http_code}' "${at[@]/%metrics/metric}") == 404 ]] || fail "not 404"
[[ $(curl -sS -o /dev/null -w '%{http_code}' -d x "${at[@]}") == 405 ]] || fail "not 405"
[[ $(curl -sS -I -o /dev/null -w '%{http_code} %{size_download}' "${at[@]}") == '200 0' ]] || fail "HEAD"

say "the text"
lazy=$(value firstlight_lazy_enabled)
awk '
	function bad(what) { print FILENAME ":" FNR ": " what ": " $0; failed = 1 }
	/^# HELP / { if ($3 in help) bad("told twice"); help[$3] = 1; if (NF < 4) bad("no help"); next }
	/^# TYPE / {
		if (!($3 in help) || $4 !~ /^(counter|gauge|histogram)$/) bad("no type")
		if (($4 == "counter") != ($3 ~ /_total$/)) bad("a name that does not fit the type")
		if ($3 !~ /^(firstlight|process)_[a-z_]+$/) bad("a strange name")
		family = $3; next
	}
	/^#/ || !/^[a-z_]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? [0-9]+(\.[0-9]+)?$/ { bad("no sample"); next }
	{ name = $1; sub(/\{.*/, "", name); sub(/_(bucket|sum|count)$/, "", name)
	  if (name != family) bad("outside of its family"); if ($1 in seen) bad("twice"); seen[$1] = 1 }
	END { exit failed }' "$T/metrics" || fail "the text"
[[ $(value firstlight_worker_restarts_total) == 0 ]] || fail "restarts"
version=$("$FIRSTLIGHTD" --version)
[[ $(value "firstlight_build_info{version=\"${version#* }\",format=\"1\"}") == 1 ]] || fail "no build_info"
now=$(date +%s)
for name in firstlight_keeper_start_time_seconds process_start_time_seconds; do
	(($(value $name) <= now && $(value $name) > now - 60)) || fail "$name is $(value $name)"
done
for name in process_resident_memory_bytes process_virtual_memory_bytes process_open_fds process_max_fds; do
	(($(value $name) > 9)) || fail "$name is $(value $name)"
done

say "the dashboard"
jq -e '.panels | length > 8' "$DASHBOARD" >/dev/null || fail "$DASHBOARD is no dashboard"
[[ $(jq '[.panels[].id] | length == (unique | length)' "$DASHBOARD") == true ]] || fail "ids of panels are not unique"
jq -r '.. | .expr? // empty, (.query?.query? // empty)' "$DASHBOARD" | grep -oE '\b(firstlight|process)_[a-z_]+' | sort -u >"$T/named"
(($(wc -l <"$T/named") > 20)) || fail "the dashboard names $(wc -l <"$T/named") metrics"
sed -n 's/^# TYPE \([a-z_]*\) histogram$/\1_bucket\n\1_sum\n\1_count/p; s/^# TYPE \([a-z_]*\) .*/\1/p' "$T/metrics" |
	sort -u >"$T/told"
if [[ $lazy == 1 ]]; then
	unknown=$(comm -23 "$T/named" "$T/told")
	[[ -z $unknown ]] || fail "the dashboard names what is not told: $unknown"
else
	say "no lazy layers here: what they tell is not looked for"
fi

PREPARE='firstlight_grpc_calls_total{method="/containerd.services.snapshots.v1.Snapshots/Prepare",code="OK"}'
STAT='firstlight_grpc_calls_total{method="/containerd.services.snapshots.v1.Snapshots/Stat",code="NotFound"}'
say "calls and snapshots"
[[ -z $(value "$PREPARE") && -z $(value "$STAT") ]] || fail "calls before the first"
snaps prepare one >/dev/null
snaps prepare two >/dev/null
refused 'does not exist' stat three
becomes "$PREPARE" 2
becomes "$STAT" 1
becomes 'firstlight_snapshots{kind="active"}' 2
snaps remove two >/dev/null
becomes 'firstlight_snapshots{kind="active"}' 1
becomes firstlight_connections 0
(($(value 'firstlight_connections_total{result="accepted"}') >= 4)) || fail "connections"
"$BUILD/firstlight" events --address "$SOCKET" >/dev/null &
events=$!
pids+=("$events")
becomes firstlight_event_followers 1
becomes firstlight_connections 1
kill "$events"
becomes firstlight_event_followers 0

say "another worker"
began=$(value firstlight_keeper_start_time_seconds)
for n in 1 2; do
	old=$(worker)
	kill -KILL "$old"
	wait_until 5 new_worker "$old" || fail "no new worker"
	becomes firstlight_worker_restarts_total $n
done
[[ $(value firstlight_keeper_start_time_seconds) == "$began" ]] || fail "another keeper"
becomes 'firstlight_snapshots{kind="active"}' 1
[[ -z $(value "$PREPARE") ]] || fail "a new worker tells calls of the old one"
stop
[[ ! -e $METRICS ]] || fail "the socket stays"

# free_port: one that nobody has now.
free_port() {
	local port
	for ((port = 20000 + RANDOM % 20000; ; port++)); do
		(exec 3<>"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
	done
	echo "$port"
}
port=$(free_port)
# v4, v6: where to ask.
v4() { at=("http://127.0.0.1:$port/metrics"); }
v6() { at=(-g "http://[::1]:$port/metrics"); }

say "by a port"
if [[ -e /proc/sys/net/ipv6 && $(cat /proc/sys/net/ipv6/conf/lo/disable_ipv6) == 0 ]]; then
	flags=(--metrics "[::1]:$port")
	start
	v6
	wait_until 5 scrape || fail "no metrics at ::1: $(cat "$T/curl.err")"
	stop
fi
printf '[start]\nbpf = false\n' >"$T/blind.toml" # its descriptors come some time after the start, and are counted below
flags=(--config "$T/blind.toml" --metrics "127.0.0.1:$port")
start
v4
wait_until 5 scrape || fail "no metrics: $(cat "$T/curl.err")"
listening=$(ss -Hltn "sport = :$port" | awk '{ print $4 }')
[[ $listening == "127.0.0.1:$port" ]] || fail "it listens at $listening"

say "garbage, halves, and a thousand connections"
ulimit -n 4096
fds_before=$(value process_open_fds)
for n in 1 2 3 4 5 6 7 8; do
	{ head -c $((n * 3000)) /dev/urandom >&3; } 3<>"/dev/tcp/127.0.0.1/$port" 2>/dev/null || true
	exec {half}<>"/dev/tcp/127.0.0.1/$port"
	printf 'GET /metrics HTTP/1.1\r\nHo' >&"$half"
done
scrape || fail "no metrics after garbage: $(cat "$T/curl.err")"
old=$(worker)
held=()
for ((n = 0; n < 1000; n++)); do
	exec {fd}<>"/dev/tcp/127.0.0.1/$port" || fail "connection $n is refused"
	held+=("$fd")
	((n % 200)) || snaps stat one
done
scrape || fail "no metrics beside 1000 connections: $(cat "$T/curl.err")"
(($(value process_open_fds) < fds_before + 200)) || fail "$(value process_open_fds) descriptors are open"
before=$(date +%s%N)
snaps stat one
took=$((($(date +%s%N) - before) / 1000000))
say "a call beside 1000 connections: $took ms"
((took < 2000)) || fail "a call took $took ms"
for fd in "${held[@]}"; do
	exec {fd}>&-
done
few_fds() { scrape && (($(value process_open_fds) <= fds_before + 10)); }
wait_until 15 few_fds || fail "$(value process_open_fds) descriptors stay open, of $fds_before"
[[ $(worker) == "$old" ]] || fail "another worker"

say "a port that is taken"
first=$keeper
LOG=$T/log2 ROOT=$T/root2 SOCKET=$T/socket2
start
logged "no metrics, tried again and again address=127.0.0.1:$port .*Address already in use"
snaps prepare there >/dev/null
kill -TERM "$first"
wait_until 20 not running "$first" || fail "the first one does not end"
wait_until 10 is 'firstlight_snapshots{kind="active"}' 1 || fail "the second one does not serve: $(cat "$T/curl.err")"
(($(grep -c 'no metrics' "$LOG") == 1)) || fail "said again and again"
stop
say "done"
