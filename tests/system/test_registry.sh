#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
#
# image/registry.c against real registries (docker-registry 2.8): one open, one with a password, one
# with TLS of an authority of its own. The bytes are compared with what was uploaded.
set -euo pipefail
export LC_ALL=C
BUILD=$(realpath "${BUILD:-build}")
get=$BUILD/tests/registry_get
for program in docker-registry curl openssl; do
	command -v $program >/dev/null || { echo "no $program"; exit 77; }
done
[[ -x $get ]] || { echo "no $get"; exit 1; }
T=$(mktemp -d /var/tmp/firstlight-test.XXXXXX)
pids=()
cleanup() {
	for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; wait "$pid" 2>/dev/null || true; done
	rm -rf "$T"
}
trap cleanup EXIT
trap 'exit 143' TERM INT HUP
fail() { echo "FAIL: $*" >&2; tail -n 5 "$T"/log* >&2; exit 1; }

# serve NAME EXTRA-YAML: a registry; sets port
serve() {
	local i
	for i in 1 2 3 4 5; do
		port=$((20000 + RANDOM % 20000))
		printf 'version: 0.1\nlog: {level: error}\nstorage:\n  filesystem: {rootdirectory: %s}\nhttp:\n  addr: 127.0.0.1:%s\n  secret: x\n%s' \
			"$T/data" $port "$2" >"$T/$1.yml"
		docker-registry serve "$T/$1.yml" >"$T/log.$1" 2>&1 &
		pids+=($!)
		for _ in $(seq 100); do
			kill -0 ${pids[-1]} 2>/dev/null || break
			curl -sk -o /dev/null "http://127.0.0.1:$port/v2/" && return 0
			sleep 0.1
		done
	done
	fail "no registry"
}

# bcrypt of "secret"
echo 'user:$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a' >"$T/htpasswd"
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost,IP:127.0.0.1 \
	-keyout "$T/key.pem" -out "$T/cert.pem" 2>/dev/null
serve open "" && open=$port
serve basic "auth:
  htpasswd: {realm: r, path: $T/htpasswd}
" && basic=$port
serve tls "  tls: {certificate: $T/cert.pem, key: $T/key.pem}
" && tls=$port

head -c 3000000 /dev/urandom >"$T/blob"
digest=sha256:$(sha256sum "$T/blob" | cut -d' ' -f1)
url=$(curl -sSi -X POST "http://127.0.0.1:$open/v2/a/b/blobs/uploads/" | tr -d '\r' | sed -n 's/^Location: //p')
curl -sSf -o /dev/null -X PUT --data-binary @"$T/blob" -H 'Content-Type: application/octet-stream' "$url&digest=$digest"
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json","size":3000000,"digest":"%s"},"layers":[]}' \
	"$digest" >"$T/manifest"
curl -sSf -o /dev/null -X PUT --data-binary @"$T/manifest" -H 'Content-Type: application/vnd.oci.image.manifest.v1+json' \
	"http://127.0.0.1:$open/v2/a/b/manifests/t"
manifest=sha256:$(sha256sum "$T/manifest" | cut -d' ' -f1)

# same DIRS CONFIG HOST: everything is the same there
same() {
	local ref=$3/a/b:t
	"$get" "$1" "$2" "$ref" manifest "$manifest" >"$T/out" || fail "manifest of $ref"
	cmp "$T/manifest" "$T/out"
	"$get" "$1" "$2" "$ref" "$digest" 0 3000000 >"$T/out" || fail "blob of $ref"
	cmp "$T/blob" "$T/out"
	"$get" "$1" "$2" "$ref" "$digest" 1234567 54321 >"$T/out" || fail "range of $ref"
	cmp <(tail -c +1234568 "$T/blob" | head -c 54321) "$T/out"
	"$get" "$1" "$2" "$ref" "$digest" tail 777 >"$T/out" 2>"$T/err" || fail "tail of $ref"
	cmp <(tail -c 777 "$T/blob") "$T/out"
	grep -q 'size=3000000$' "$T/err" || fail "$(cat "$T/err")"
}

# refused CODE DIRS CONFIG REF…
refused() {
	local code=$1
	shift
	! "$get" "$@" >"$T/out" 2>"$T/err" || fail "$* was answered"
	grep -q "^$code " "$T/err" || fail "$* said: $(cat "$T/err")"
	echo "refused as it should be: $(tail -n 1 "$T/err")"
}

same - "$T/none.json" 127.0.0.1:$open
refused -2 - "$T/none.json" 127.0.0.1:$open/a/b "sha256:$(printf %064d 0)" 0 1
refused -74 - "$T/none.json" 127.0.0.1:$open/a/b "$digest" 3000000 1
refused -13 - "$T/none.json" 127.0.0.1:$basic/a/b "$digest" 0 1
printf '{"auths":{"127.0.0.1:%s":{"auth":"%s"}}}' "$basic" "$(printf user:secret | base64)" >"$T/config.json"
same - "$T/config.json" 127.0.0.1:$basic
printf '{"auths":{"127.0.0.1:%s":{"auth":"%s"}}}' "$basic" "$(printf user:wrong | base64)" >"$T/wrong.json"
refused -13 - "$T/wrong.json" 127.0.0.1:$basic/a/b "$digest" 0 1

mkdir -p "$T/hosts/tls.test" "$T/hosts/bad.test" "$T/hosts/mirror.test"
printf 'server = "https://localhost:%s"\nca = "../../cert.pem"\n' "$tls" >"$T/hosts/tls.test/hosts.toml"
printf 'server = "https://localhost:%s"\n' "$tls" >"$T/hosts/bad.test/hosts.toml"
printf 'server = "http://127.0.0.1:%s"\n[host."http://127.0.0.1:1"]\n[host."https://127.0.0.1:%s"]\nskip_verify = true\n' \
	"$open" "$tls" >"$T/hosts/mirror.test/hosts.toml"
same "$T/hosts" "$T/none.json" tls.test
same "$T/hosts" "$T/none.json" mirror.test
grep -q "host=127.0.0.1:$tls " "$T/err" || fail "$(cat "$T/err")"
refused -129 "$T/hosts" "$T/none.json" bad.test/a/b "$digest" 0 1
same - "$T/none.json" 127.0.0.1:$tls # localhost: TLS, not verified
grep -q 'GET /v2/a/b/blobs/.* HTTP/2.0" 206' "$T/log.tls" || fail "no HTTP/2"
# What may be held does not share a connection of HTTP/2.
"$get" "$T/hosts" "$T/none.json" tls.test/a/b "$digest" 0 1000 twice >"$T/out" 2>"$T/err" || fail "$(cat "$T/err")"
cmp <(head -c 1000 "$T/blob"; head -c 1000 "$T/blob") "$T/out"
tail -n 1 "$T/log.tls" | grep -q 'HTTP/1.1" 206 1000 ' || fail "background over HTTP/2: $(tail -n 1 "$T/log.tls")"
echo "all bytes are the same"
