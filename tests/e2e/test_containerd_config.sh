#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
#
# containerd-config against the real containerd: its default file with the settings merged starts it, and
# firstlight is its snapshotter, of CRI too; nothing else differs. CONTAINERDS: directories of other
# containerd, ctr to be tried as well. Then what is refused, and how files are written.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"

FIRSTLIGHT=$BUILD/firstlight
need containerd ctr jq
export FIRSTLIGHT_ADDRESS=$FIRSTLIGHT_SOCKET COLUMNS=80
unset CONTAINERD_ADDRESS

config() { timeout 20 "$FIRSTLIGHT" containerd-config --root "$FIRSTLIGHT_ROOT" "$@"; }

# wrong STATUS WORDS OPTION...: ends so, with one line that has the words and with no output.
wrong() {
	local want=$1 words=$2 status=0
	shift 2
	config "$@" >"$T/out" 2>"$T/err" || status=$?
	[[ $status == "$want" ]] || fail "$*: status $status, not $want: $(cat "$T/err")"
	[[ $(grep -cv '^hint: ' "$T/err") == 1 ]] || fail "$*: not one line: $(cat "$T/err")"
	grep -qF -- "$words" "$T/err" || fail "$*: says $(cat "$T/err")"
	[[ ! -s $T/out ]] || fail "$*: printed $(cat "$T/out")"
}

# same FILE FILE
same() { cmp "$1" "$2" || fail "$1 and $2 differ: $(diff "$1" "$2" | head -n 20)"; }

# private FILE: a default file, with directories and sockets of this test.
private() {
	sed -E -e "s|^(root = ).*|\\1\"$T/containerd/root\"|" -e "s|^(state = ).*|\\1\"$T/containerd/state\"|" \
		-e "/^\\[grpc\\]/,/^\\[/s|( address = ).*|\\1\"$CONTAINERD_SOCKET\"|" \
		-e "/^\\[ttrpc\\]/,/^\\[/s|( address = ).*|\\1\"$CONTAINERD_SOCKET.ttrpc\"|" \
		-e "s|(['\"])/opt/containerd(['\"])|\\1$T/containerd/opt\\2|" \
		-e "s|(['\"])/etc/containerd/certs.d(['\"])|\\1$T/certs.d\\2|" >"$1"
}

answers() {
	running "$containerd_pid" || fail "containerd ended: $(tail -n 3 "$T/containerd.log")"
	[[ -S $CONTAINERD_SOCKET ]] && ctr version >/dev/null 2>&1
}

# serves FILE: containerd starts with it and knows the plugin.
serves() {
	rm -rf "$T/containerd"
	containerd --config "$1" >"$T/containerd.log" 2>&1 &
	containerd_pid=$!
	wait_until 30 answers || fail "containerd does not answer"
	ctr plugins ls | awk '$2 == "firstlight" && $4 == "ok" { n++ } END { exit n != 1 }' ||
		fail "no plugin: $(ctr plugins ls | grep -e firstlight -e cri -e transfer)"
	ctr snapshot --snapshotter firstlight ls >/dev/null || fail "containerd cannot ask the plugin"
	! grep -E 'level=(error|fatal).*(config|toml)' "$T/containerd.log" | grep -v cni || fail "containerd complains"
}

stop_containerd() {
	stop_process "$containerd_pid" 20 || true
	containerd_pid=""
}

mount --make-rshared / # only here, in this test's namespace
start_firstlightd
for dir in "$(dirname "$(type -P containerd)")" ${CONTAINERDS-}; do
	export PATH=$dir:$PATH
	say "$(containerd --version)"
	rm -f "$T"/c.*
	containerd config default 2>/dev/null | private "$T/c.toml"
	chmod 640 "$T/c.toml"
	chown 12:34 "$T/c.toml"
	cp -p "$T/c.toml" "$T/c.before"

	status=0
	config --check "$T/c.toml" >"$T/out" || status=$?
	[[ $status == 1 ]] && grep -q '^missing .*proxy_plugins.firstlight' "$T/out" || fail "--check: $status $(cat "$T/out")"
	config --merge "$T/c.toml" >"$T/c.plain" || fail "merge without CRI"
	diff "$T/c.before" "$T/c.plain" | grep '^<' && fail "merge takes something away"
	config --check "$T/c.plain" >/dev/null || fail "what was merged is not all"
	serves "$T/c.plain"
	stop_containerd

	wrong 1 'not "firstlight"' --cri --merge "$T/c.toml"
	wrong 1 'not "firstlight"' --cri --merge "$T/c.toml" --in-place
	same "$T/c.toml" "$T/c.before"
	config --cri --force --merge "$T/c.toml" --output "$T/c.output" || fail "--output"
	same "$T/c.toml" "$T/c.before"
	config --cri --force --merge "$T/c.toml" --in-place >/dev/null || fail "--in-place"
	same "$T/c.toml" "$T/c.output"
	same "$T/c.toml.bak" "$T/c.before"
	[[ $(stat -c '%a %u %g' "$T/c.toml") == "640 12 34" ]] || fail "mode and owner: $(stat -c '%a %u %g' "$T/c.toml")"
	[[ $(ls "$T"/c.toml.*) == "$T/c.toml.bak" ]] || fail "left over: $(ls "$T"/c.toml.*)"
	changed=$(diff "$T/c.before" "$T/c.toml" | grep -c '^<' || true)
	((changed == $(diff "$T/c.before" "$T/c.toml" | grep '^<' | grep -cE '^<  +(snapshotter|disable_snapshot_annotations) = '))) ||
		fail "other lines are changed: $(diff "$T/c.before" "$T/c.toml")"
	config --cri --merge "$T/c.toml" --in-place | grep -q 'already' || fail "not the same once more"
	[[ $(config --cri --check "$T/c.toml") == "all is set" ]] || fail "--check after the merge"
	serves "$T/c.toml"
	containerd --config "$T/c.toml" config dump >"$T/dump" 2>/dev/null
	[[ $(grep -cE "^ +snapshotter = ['\"]firstlight['\"]" "$T/dump") -ge 1 ]] || fail "dump: $(grep -n snapshotter "$T/dump")"
	"$FIRSTLIGHT" doctor --json --root "$FIRSTLIGHT_ROOT" --containerd "$CONTAINERD_SOCKET" \
		--containerd-config "$T/c.toml" >"$T/doctor.json" || fail "doctor: $(cat "$T/doctor.json")"
	jq -e '[.checks[] | select(.name == ("plugin", "config", "config-cri", "mount-ns")) | .state] == ["ok", "ok", "ok", "ok"]' \
		"$T/doctor.json" >/dev/null || fail "doctor: $(jq -c '.checks[]' "$T/doctor.json")"
	stop_containerd

	if [[ $(containerd --version) == *' '[2-9].* ]]; then
		say "files of version 2, where it takes CRI's old settings over and where not"
		for runtimes in '' '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]'; do
			printf 'version = 2\n[plugins."io.containerd.grpc.v1.cri".containerd]\n  no_pivot = false\n%s\n' "$runtimes" >"$T/c.two"
			config --cri --merge "$T/c.two" >"$T/c.three" || fail "version 2"
			containerd --config "$T/c.three" config dump 2>/dev/null |
				sed -n "/^  \[plugins.'io.containerd.cri.v1.images'\]/,/^\$/p" >"$T/dump"
			grep -q "snapshotter = 'firstlight'" "$T/dump" || fail "version 2, $runtimes: $(cat "$T/dump")"
		done
	fi

	say "what it prints by itself is a file that works"
	config --cri >"$T/c.own"
	{
		printf 'root = "%s"\nstate = "%s"\n' "$T/containerd/root" "$T/containerd/state"
		cat "$T/c.own"
		printf '[grpc]\naddress = "%s"\n[ttrpc]\naddress = "%s"\n' "$CONTAINERD_SOCKET" "$CONTAINERD_SOCKET.ttrpc"
	} >"$T/c.alone"
	serves "$T/c.alone"
	stop_containerd
	: >"$T/c.empty"
	config --cri --merge "$T/c.empty" >"$T/c.filled" || fail "an empty file"
	[[ $(config --cri --check "$T/c.filled") == "all is set" ]] || fail "an empty file, merged"
done

say "a containerd that does not see our mounts"
for propagation in private slave; do
	rm -rf "$T/containerd"
	unshare --mount --propagation $propagation containerd --config "$T/c.toml" >"$T/containerd.log" 2>&1 &
	containerd_pid=$!
	wait_until 30 answers || fail "containerd does not answer"
	status=0
	"$FIRSTLIGHT" doctor --root "$FIRSTLIGHT_ROOT" --containerd "$CONTAINERD_SOCKET" --containerd-config "$T/c.toml" \
		>"$T/out" || status=$?
	if [[ $propagation == private ]]; then
		[[ $status == 1 ]] && grep -q '^FAIL mount-ns' "$T/out" || fail "doctor: status $status: $(cat "$T/out")"
	else
		[[ $status == 0 ]] && grep -q '^ok   mount-ns .*passed on' "$T/out" || fail "doctor: status $status: $(cat "$T/out")"
	fi
	stop_containerd
done
status=0
"$FIRSTLIGHT" doctor --root "$FIRSTLIGHT_ROOT" --containerd "$T/none" --containerd-config "$T/c.toml" >"$T/out" || status=$?
[[ $status == 1 ]] && grep -q '^ok   config ' "$T/out" || fail "doctor without containerd: $status $(cat "$T/out")"

say "versions"
config --containerd 1.6 | grep -qx 'version = 2' || fail "1.6 is not version 2"
config --containerd 2.x --cri >"$T/out"
grep -qx 'version = 3' "$T/out" || fail "2.x is not version 3"
grep -q 'enable_remote_snapshot_annotations = "true"' "$T/out" || fail "2.x: no annotations"
status=0
PATH=$T/none "$FIRSTLIGHT" containerd-config >"$T/out" 2>"$T/err" || status=$?
[[ $status == 0 ]] && grep -q '^note: .*1\.6' "$T/err" && grep -qx 'version = 2' "$T/out" || fail "no containerd: $(cat "$T/err")"
mkdir "$T/slow"
printf '#!/bin/sh\nexec sleep 1000\n' >"$T/slow/containerd"
chmod 755 "$T/slow/containerd"
PATH=$T/slow:$PATH config >"$T/out" 2>/dev/null || fail "a containerd that does not say its version"

say "refused"
printf 'version = 2\n[proxy_plugins.firstlight]\naddress = "/other"\n' >"$T/f"
wrong 1 'line 3: ' --containerd 1.6 --merge "$T/f"
printf 'version = 2\nproxy_plugins = { }\n' >"$T/f"
wrong 1 'line 2: ' --containerd 1.6 --merge "$T/f" --force --in-place
printf 'version = 3\n' >"$T/f"
wrong 1 'version = 3' --containerd 1.7 --merge "$T/f"
printf 'root = "/x"\n' >"$T/f"
wrong 1 'no version' --containerd 1.6 --cri --merge "$T/f"
printf 'version = 2\nx = """\ny"""\n' >"$T/f"
wrong 1 'line 2: ' --containerd 1.6 --merge "$T/f"
head -c 5000000 /dev/zero | tr '\0' '#' >"$T/f"
wrong 1 "$T/f" --containerd 1.6 --merge "$T/f"
mkfifo "$T/fifo1"
wrong 1 "$T/fifo1" --containerd 1.6 --merge "$T/fifo1"
wrong 1 "No such file" --containerd 1.6 --merge "$T/none"
wrong 2 'exclude' --merge "$T/f" --check "$T/f"
wrong 2 '--merge' --in-place
wrong 2 '--output' --check "$T/f" --output "$T/g"
wrong 2 'not a version' --containerd new
wrong 2 'paths' --containerd 1.6 --address '/a"b'
cp "$T/c.plain" "$T/f"
! config --containerd 1.6 --merge "$T/f" >/dev/full 2>/dev/null || fail "a full disk is not told"

say "imports"
mkdir "$T/conf.d"
printf 'version = 2\nimports = ["conf.d/*.toml"]\n' >"$T/main.toml"
config --containerd 1.6 --merge "$T/main.toml" >/dev/null || fail "imports of nothing"
printf '[proxy_plugins.firstlight]\n  address = "/other"\n' >"$T/conf.d/a.toml"
wrong 1 "conf.d/a.toml:2: " --containerd 1.6 --merge "$T/main.toml"
wrong 1 "line 2: imports" --containerd 1.6 --merge "$T/main.toml" --force
printf 'x = [\n' >"$T/conf.d/a.toml"
wrong 1 "conf.d/a.toml" --containerd 1.6 --merge "$T/main.toml"
printf 'version = 2\nimports = ["%s"]\n' "$T/main.toml" >"$T/conf.d/a.toml"
wrong 1 "imports" --containerd 1.6 --merge "$T/main.toml"
config --containerd 1.6 >"$T/conf.d/a.toml"
[[ $(config --containerd 1.6 --check "$T/main.toml") == "all is set" ]] || fail "what is imported does not count"
printf 'version = 2\nimports = ["none.toml"]\n' >"$T/main.toml"
wrong 1 "none.toml" --containerd 1.6 --merge "$T/main.toml"

say "links, and no place"
cp "$T/c.plain" "$T/real.toml"
sed -i '/firstlight/d' "$T/real.toml"
mkdir "$T/etc"
ln -s ../real.toml "$T/etc/config.toml"
printf 'version = 2\n' >"$T/real.toml"
config --containerd 1.6 --merge "$T/etc/config.toml" --in-place >/dev/null || fail "through a link"
[[ -L $T/etc/config.toml ]] && grep -q firstlight "$T/real.toml" || fail "the link is gone"
mkdir "$T/small"
mount -t tmpfs -o size=64k,nr_inodes=8 tmpfs "$T/small"
printf 'version = 2\n' >"$T/small/c.toml"
head -c 65536 /dev/zero >"$T/small/fill" 2>/dev/null || true
status=0
config --containerd 1.6 --merge "$T/small/c.toml" --in-place >"$T/out" 2>"$T/err" || status=$?
[[ $status == 1 && $(cat "$T/small/c.toml") == "version = 2" ]] || fail "a full disk: $status $(cat "$T/err")"
[[ $(ls "$T/small" | sort | tr '\n' ' ') == "c.toml fill " ]] || fail "left over: $(ls "$T/small")"
stop_firstlightd
say "ok"
