#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
#
# firstlight doctor where things are missing: each is told, with the right exit code, and nothing stays
# behind, however it ends. With containerd it is tried in tests/e2e.
# shellcheck source=tests/system/lib.sh
. "$(dirname "$0")/lib.sh"

FIRSTLIGHT=$BUILD/firstlight
chmod 755 "$T"
front=() # comes before the program

# left: what doctor has left behind; does not ask the FUSE mount below the root.
left() { compgen -G "$T/.firstlight-doctor*" || compgen -G "$T/*/.firstlight-doctor*" || compgen -G "$T/o/m/.firstlight-doctor*" || true; }

# doctor STATUS OPTION…: ends so; the report is in $T/out, as wide as $width.
doctor() {
	local want=$1 status=0
	shift
	COLUMNS=${width:-400} timeout 60 "${front[@]}" "$FIRSTLIGHT" doctor --root "$ROOT" --address "$SOCKET" \
		--containerd "$T/none.sock" --config "$T/settings" "$@" >"$T/out" 2>"$T/err" || status=$?
	((status == want)) || fail "doctor $*: status $status, not $want: $(cat "$T/out" "$T/err")"
	[[ -z $(left) ]] || fail "doctor $*: left $(left)"
	[[ -z $(grep firstlight-doctor /proc/self/mountinfo) ]] || fail "doctor $*: left a mount"
}

# says STATE NAME [WORDS]: a line of the last report.
says() {
	grep -qE "^$1 +$2 +.*${3-}" "$T/out" || fail "no line $*: $(cat "$T/out")"
}

verdict() {
	sed -n '/^$/,$p' "$T/out" | tr '\n' ' ' | grep -qE "^ $1" || fail "the verdict is not \"$1\": $(cat "$T/out")"
}

: >"$T/settings"
say "no daemon, no containerd"
doctor 1
[[ ! -s $T/err ]] || fail "stderr: $(cat "$T/err")"
for name in rights io_uring root space unnamed-file xattr overlay data-only erofs-loop fuse clock; do
	says ok $name
done
says off daemon "not running: there is no $SOCKET"
says off containerd 'not running'
verdict 'lazy images do not work yet: daemon: '
width=80 doctor 1
awk 'length > 80 { print; n++ } END { exit n }' "$T/out" >&2 || fail "wider than 80 columns"
grep -q '^       costs: ' "$T/out" && grep -q '^       fix:   ' "$T/out" || fail "no advice"
[[ $(grep -c $'\033' "$T/out") == 0 ]] || fail "colours in a file"
doctor 1 --json
if type -P jq >/dev/null; then
	jq -e '.exit == 1 and (.checks | map(select(.name == "fuse"))[0] | .state == "ok" and .needed_for == "lazy")' "$T/out" >/dev/null ||
		fail "JSON: $(cat "$T/out")"
fi

say "a daemon, and one that hangs"
start
doctor 1
says ok daemon "firstlightd .* at $SOCKET"
says ok daemon-lazy
verdict 'lazy images do not work yet: containerd: '
doctor 1 --root "$T/elsewhere"
says off daemon-root
kill -STOP "$(worker)"
doctor 1
says FAIL daemon 'somebody listens'
before=$SECONDS
timeout 60 "$FIRSTLIGHT" doctor --root "$ROOT" --address "$SOCKET" >"$T/out" &
pid=$!
sleep 1
kill -TERM $pid
status=0
wait $pid || status=$?
((status == 143 && SECONDS - before < 5)) || fail "SIGTERM while it waits: status $status after $((SECONDS - before)) s"
kill -CONT "$(worker)"

say "ended by a signal anywhere"
for ((i = 0; i < 24; i++)); do
	"$FIRSTLIGHT" doctor --root "$ROOT" --address "$SOCKET" >/dev/null 2>&1 &
	pid=$!
	sleep "0.$(printf '%03d' $((i * 9)))"
	kill -TERM $pid 2>/dev/null || true
	status=0
	wait $pid || status=$?
	((status == 143 || status == 1)) || fail "SIGTERM: status $status"
	[[ -z $(left) ]] || fail "SIGTERM: left $(left)"
done

say "as somebody else"
front=(setpriv --reuid=65534 --regid=65534 --clear-groups)
doctor 1
says -- rights 'not root'
says -- daemon 'no permission'
verdict 'lazy images do not work yet: containerd: '
! grep -q '^FAIL' "$T/out" || fail "not root: $(grep '^FAIL' "$T/out")"
front=()
stop
touch "$T/plain"
doctor 1 --address "$T/plain"
says off daemon 'not a socket'
doctor 1 --address "$SOCKET"
says off daemon 'not running'

say "root without rights"
front=(setpriv --bounding-set=-sys_admin --inh-caps=-sys_admin)
doctor 3
says FAIL rights CAP_SYS_ADMIN
verdict 'firstlightd cannot run: '
front=("$BUILD/tests/no_uring" EPERM)
doctor 3
says FAIL io_uring
verdict 'firstlightd cannot run: io_uring: '
front=(bash -c 'ulimit -n 1024; exec "$@"' bash)
doctor 1
says off descriptors 1024
front=()

say "without /dev/fuse, without loop devices"
mkdir "$T/dev"
without='mount -t tmpfs tmpfs "$0/dev"; cp -a /dev/null /dev/zero /dev/urandom /dev/fuse /dev/loop* "$0/dev"; rm -f "$0/dev/$1"
	mount --bind "$0/dev" /dev; shift; exec "$@"'
front=(unshare --mount bash -c "$without" "$T" fuse)
doctor 1
says off fuse '/dev/fuse: No such file'
verdict 'images are unpacked: fuse: '
front=(unshare --mount bash -c "$without" "$T" loop-control)
doctor 1
says off erofs-loop 'loop-control'
grep -q '^ok   erofs-file' "$T/out" || verdict 'images are unpacked: erofs-loop: '
front=()

say "roots of all kinds"
mkdir "$T/tmpfs"
mount -t tmpfs -o size=4g tmpfs "$T/tmpfs"
mounts+=("$T/tmpfs")
doctor 1 --root "$T/tmpfs/root"
says off root 'not there yet. is on tmpfs'
mkdir "$T/small"
mount -t tmpfs -o size=8m tmpfs "$T/small"
mounts+=("$T/small")
doctor 3 --root "$T/small"
says FAIL space
verdict 'firstlightd cannot run: space: '
mount -o remount,ro "$T/small"
doctor 3 --root "$T/small"
says FAIL root read-only
mkdir -p "$T/o/l" "$T/o/u" "$T/o/w" "$T/o/m"
mount -t overlay -o "lowerdir=$T/o/l,upperdir=$T/o/u,workdir=$T/o/w" overlay "$T/o/m"
mounts+=("$T/o/m")
doctor 3 --root "$T/o/m/root"
says ok root overlayfs
says FAIL overlay
doctor 3 --root "$T/plain/root"
says FAIL root
doctor 3 --root relative
long=$T/$(printf 'x%.0s' {1..200})/$(printf 'y%.0s' {1..200})
doctor 1 --root "$long"

say "settings"
printf '[lazy]\nenabled = false\n' >"$T/settings"
doctor 1
says off lazy 'switched off'
verdict 'images are unpacked: lazy: '
printf '[lazy]\nenbaled = false\n' >"$T/settings"
doctor 3
says FAIL settings 'settings:2: '
printf 'root = "%s"\n' "$T/tmpfs" >"$T/settings"
"$FIRSTLIGHT" doctor --config "$T/settings" --address "$SOCKET" >"$T/out" || true
says off root "$T/tmpfs is on tmpfs"
: >"$T/settings"

say "containerd's settings"
printf 'version = 2\n[proxy_plugins.firstlight]\ntype = "snapshot"\naddress = "/other"\n' >"$T/c.toml"
doctor 1 --containerd-config "$T/c.toml"
says off config "$T/c.toml:4: address is not"
printf 'version = 2\nx = [\n' >"$T/c.toml"
doctor 1 --containerd-config "$T/c.toml"
says off config 'line'
doctor 1 --containerd-config "$T/none.toml"
says -- config 'No such file'

say "the unit"
mkdir "$T/bin"
printf '#!/bin/sh\ncat %s/show\n' "$T" >"$T/bin/systemctl"
chmod 755 "$T/bin/systemctl"
front=(unshare --mount bash -c 'mount -t tmpfs tmpfs /run; mkdir -p /run/systemd/system; PATH=$0/bin:$PATH exec "$@"' "$T")
good=$'LoadState=loaded\nActiveState=active\nPrivateTmp=no\nProtectSystem=no\nMountFlags=\nLimitNOFILE=1048576\nFileDescriptorStoreMax=8'
echo "$good" >"$T/show"
doctor 1
says ok unit active
for bad in PrivateTmp=yes ProtectSystem=strict MountFlags=slave ReadOnlyPaths=/etc; do
	echo "${good/${bad%%=*}=/Old=}"$'\n'"$bad" >"$T/show"
	doctor 1
	says FAIL unit "$bad"
	verdict 'images are unpacked: unit: '
done
echo "${good/Max=8/Max=0}" >"$T/show"
doctor 1
says off unit 'FileDescriptorStoreMax=0'
printf '#!/bin/sh\nexec sleep 1000\n' >"$T/bin/systemctl"
doctor 1
says -- unit
front=()

say "registries"
doctor 1 --registry 127.0.0.1:1
says off registry '127.0.0.1:1'
if type -P docker-registry >/dev/null; then
	printf 'version: 0.1\nstorage: {inmemory: {}}\nhttp: {addr: "127.0.0.1:0"}\n' >"$T/registry.yml"
	docker-registry serve "$T/registry.yml" >/dev/null 2>"$T/registry" &
	pids+=($!)
	wait_until 20 grep -q 'listening on' "$T/registry" || fail "no registry"
	host=$(sed -n 's/.*listening on \([0-9.]*:[0-9]*\).*/\1/p' "$T/registry" | head -n 1)
	doctor 1 --registry "$host"
	says ok registry "$host answers"
fi
if type -P openssl >/dev/null; then
	openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=127.0.0.1 -keyout "$T/key" -out "$T/cert" 2>/dev/null
	openssl s_server -accept 127.0.0.1:0 -www -cert "$T/cert" -key "$T/key" >"$T/tls" 2>&1 </dev/null &
	pids+=($!)
	wait_until 10 grep -q '^ACCEPT' "$T/tls" || fail "no TLS server: $(cat "$T/tls")"
	host=$(sed -n 's/^ACCEPT //p' "$T/tls" | head -n 1)
	doctor 1 --registry "$host"
	says ok registry "$host" # nobody verifies a loopback address
	mkdir -p "$T/hosts/example.org"
	printf 'server = "https://%s"\n' "$host" >"$T/hosts/example.org/hosts.toml"
	printf '[registry]\nhosts_dirs = "%s"\n' "$T/hosts" >"$T/settings"
	doctor 1 --registry example.org
	: >"$T/settings"
	says off registry "$host"
	grep -q 'the clock; or its CA' "$T/out" || fail "TLS: $(cat "$T/out")"
fi

say "wrong uses"
for wrong in --nonsense extra '--registry=a b' --registry= '--registry=http://x/y'; do
	status=0
	"$FIRSTLIGHT" doctor "$wrong" >"$T/out" 2>"$T/err" || status=$?
	((status == 2)) && [[ ! -s $T/out ]] || fail "$wrong: status $status"
done
status=0
"$FIRSTLIGHT" doctor --root "$ROOT" >/dev/full 2>"$T/err" || status=$?
((status == 1)) && [[ -s $T/err ]] || fail "a full disk: status $status"
say "ok"
