#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the test image as an OCI layout from Debian packages, without a container engine.
#
#   tests/e2e/image.sh KIND DEBS OUT
#
# DEBS keeps the downloaded packages; OUT is the layout to make (tag "latest"), and nothing is
# done when it is there. Kinds:
#   small  two layers: busybox and a script
#   full   five layers: a base system, python, redis, an application with every kind of file that a
#          layer can hold, and a layer of changes: whiteouts, an opaque directory, replaced and
#          chmod'ed paths
#   sink   the same without python and redis, and one more layer of changes
#   python redis nodejs nginx apache2 postgresql mariadb openjdk golang memcached mosquitto rabbitmq php-fpm
#          (image_apps.sh) a base system, a program that the image starts, a small application. With
#          "-v1" behind its name: what came before, from an older release of Debian's
set -euo pipefail
export LC_ALL=C
umask 022

# One time for everything that this script makes itself, so that the layers stay the same.
readonly EPOCH=1700000000

BASE_PACKAGES="base-files libc6 dash coreutils libacl1 libattr1 libgmp10 libselinux1 libpcre2-8-0
	libgcc-s1 busybox-static"
PYTHON_PACKAGES="python3.11-minimal libpython3.11-minimal libpython3.11-stdlib libexpat1 zlib1g
	libssl3 libbz2-1.0 libffi8 liblzma5 libncursesw6 libtinfo6 libreadline8 libsqlite3-0 libuuid1
	libcrypt1 libnsl2 libtirpc3"
REDIS_PACKAGES="redis-server redis-tools libatomic1 libjemalloc2 liblzf1 libstdc++6 libsystemd0
	libcap2 libgcrypt20 libgpg-error0 liblz4-1 libzstd1"
SINK_PACKAGES="zlib1g libzstd1 libexpat1 liblzma5 xz-utils mawk"

die() {
	echo "image.sh: $*" >&2
	exit 1
}

fetch() {
	: >"$work/no-status"
	(cd "$debs" && apt-get -qq -o APT::Sandbox::User=root -o Dir::State::status="$work/no-status" \
		download "$@" >&2)
}

# deb_pattern PACKAGE[=VERSION]: of its file in the cache.
deb_pattern() {
	local version="*"
	[[ $1 != *=* ]] || version="${1#*=}_*"
	echo "$debs/${1%%=*}_${version//:/%3a}.deb"
}

# download PACKAGE[=VERSION]...: what is not in the cache yet, in one go. A second try, should the lists be old.
download() {
	local missing=() package
	exec 8>"$debs/.lock"
	flock 8
	for package in "$@"; do
		compgen -G "$(deb_pattern "$package")" >/dev/null || missing+=("$package")
	done
	if ((${#missing[@]} > 0)); then
		echo "image.sh: downloading ${missing[*]}" >&2
		fetch "${missing[@]}" || { apt-get -qq update >&2 && fetch "${missing[@]}"; } || die "download failed"
	fi
	exec 8>&-
}

# unpack PACKAGE[=VERSION]... DIRECTORY: onto a tree whose /bin, /sbin, /lib and /lib64 are links into /usr.
unpack() {
	local dir=${!#} package files name
	mkdir -p "$dir"/usr/{bin,sbin,lib,lib64}
	for name in bin sbin lib lib64; do
		[[ -L $dir/$name ]] || ln -s "usr/$name" "$dir/$name"
	done
	for package in "${@:1:$#-1}"; do
		mapfile -t files < <(compgen -G "$(deb_pattern "$package")" | sort)
		dpkg-deb --fsys-tarfile "${files[-1]}" |
			tar -x -p --numeric-owner --keep-directory-symlink -C "$dir"
	done
	rm -rf "$dir"/usr/share/{doc,man,info,locale,lintian,bug}
}

# same_time DIRECTORY: gives EPOCH to all that was made or touched by this run.
same_time() {
	find "$1" -newer "$work/start" -print0 | xargs -0 -r touch -h -d "@$EPOCH"
}

# add_layer DIRECTORY [FIND-EXPRESSION...]: packs what find selects, and appends the layer.
# The order is by name; hard links, xattrs and nanoseconds are kept, and in the full image holes
# (converters to lazy formats cannot read them). tar writes its process ID into the name of a file
# with holes: in a PID namespace that is always 1.
add_layer() {
	local dir=$1 tar="$work/layer.tar" blob="$work/layer.tar.gz" diff_id digest
	local sparse=()
	shift
	[[ $kind != full ]] || sparse=(--sparse)
	(cd "$dir" && find . "$@" -print0) | sort -z |
		unshare --pid --fork tar -c -f "$tar" -C "$dir" --null --no-recursion -T - --numeric-owner "${sparse[@]}" \
			--format=pax --pax-option=delete=atime,delete=ctime \
			--xattrs --xattrs-include='*' --xattrs-exclude='trusted.overlay.*'
	diff_id=$(sha256sum "$tar" | cut -d' ' -f1)
	gzip -n -4 -c "$tar" >"$blob"
	digest=$(sha256sum "$blob" | cut -d' ' -f1)
	jq -n -c --arg digest "sha256:$digest" --argjson size "$(stat -c %s "$blob")" \
		'{mediaType: "application/vnd.oci.image.layer.v1.tar+gzip", $digest, $size}' >>"$work/layers"
	echo "sha256:$diff_id" >>"$work/diff_ids"
	mv "$blob" "$work/layout/blobs/sha256/$digest"
	rm "$tar"
}

# add_blob FILE: prints "sha256:DIGEST SIZE".
add_blob() {
	local digest
	digest=$(sha256sum "$1" | cut -d' ' -f1)
	cp "$1" "$work/layout/blobs/sha256/$digest"
	echo "sha256:$digest $(stat -c %s "$1")"
}

# finish_layout COMMAND...: config, manifest and index around the layers; LABELS (a JSON object) too.
finish_layout() {
	local digest size
	printf '%s\0' "$@" >"$work/command"
	jq -n --argjson labels "${LABELS:-null}" --rawfile diff_ids "$work/diff_ids" --rawfile command "$work/command" --arg created "$(date -u -d "@$EPOCH" +%FT%TZ)" '
		($diff_ids | rtrimstr("\n") / "\n") as $ids |
		{$created, architecture: "amd64", os: "linux",
		 config: ({Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
			  Cmd: ($command / "\u0000")[:-1], WorkingDir: "/"} +
			 (if $labels then {Labels: $labels} else {} end)),
		 rootfs: {type: "layers", diff_ids: $ids},
		 history: [$ids[] | {$created, created_by: "tests/e2e/image.sh"}]}' \
		>"$work/config"
	read -r digest size < <(add_blob "$work/config")
	jq -n --slurpfile layers "$work/layers" --arg digest "$digest" --argjson size "$size" '
		{schemaVersion: 2, mediaType: "application/vnd.oci.image.manifest.v1+json",
		 config: {mediaType: "application/vnd.oci.image.config.v1+json", $digest, $size},
		 $layers}' >"$work/manifest"
	read -r digest size < <(add_blob "$work/manifest")
	jq -n --arg digest "$digest" --argjson size "$size" '
		{schemaVersion: 2, manifests: [
			{mediaType: "application/vnd.oci.image.manifest.v1+json", $digest, $size,
			 annotations: {"org.opencontainers.image.ref.name": "latest"}}]}' \
		>"$work/layout/index.json"
	echo '{"imageLayoutVersion": "1.0.0"}' >"$work/layout/oci-layout"
}

system_files() {
	local root=$1
	mkdir -p "$root"/{dev,etc,proc,root,run,srv,sys,tmp,var/tmp}
	chmod 1777 "$root/tmp" "$root/var/tmp"
	chmod 0700 "$root/root"
	printf 'root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' \
		>"$root/etc/passwd"
	printf '%s:x:%d:%d:%s:/:/bin/false\n' www-data 33 33 www-data postgres 100 101 postgres >>"$root/etc/passwd"
	printf 'root:x:0:\nwww-data:x:33:\npostgres:x:101:\nnogroup:x:65534:\n' >"$root/etc/group"
	echo firstlight-test >"$root/etc/hostname"
}

base_layer() {
	local root=$1
	# shellcheck disable=SC2086 # lists of words
	unpack $BASE_PACKAGES "$root"
	system_files "$root"
	ln -sf dash "$root/usr/bin/sh"
	same_time "$root"
	add_layer "$root"
}

# Layers above the base carry neither the root directory nor the links into /usr.
package_layer() {
	local root=${!#}
	unpack "$@"
	rm "$root"/{bin,sbin,lib,lib64}
	same_time "$root"
	add_layer "$root" -mindepth 1
}

app_files() {
	local root=$1
	mkdir -p "$root/app/data"
	cat >"$root/app/main.py" <<-'PY'
		import json, os, sqlite3, ssl, sys
		here = os.path.dirname(os.path.abspath(__file__))
		names = sorted(os.listdir(os.path.join(here, "data")))
		total = 0
		for name in names:
		    with open(os.path.join(here, "data", name)) as f:
		        total += int(f.read())
		print(json.dumps({"hello": "python", "files": len(names), "total": total}))
	PY
	local i
	for i in {1..500}; do
		echo "$i" >"$root/app/data/$(printf %04d "$i")"
	done
}

app_layer() {
	local root=$1
	mkdir -p "$root"
	app_files "$root"
	odd_files "$root"
	before_changes "$root"
	same_time "$root"
	odd_times "$root"
	add_layer "$root" -mindepth 1
}

full_image() {
	# shellcheck disable=SC2086 # lists of words
	download $BASE_PACKAGES $PYTHON_PACKAGES $REDIS_PACKAGES
	base_layer "$work/base"
	# shellcheck disable=SC2086
	package_layer $PYTHON_PACKAGES "$work/python"
	# shellcheck disable=SC2086
	package_layer $REDIS_PACKAGES "$work/redis"
	app_layer "$work/app"
	change_layer "$work/app" "$work/change"
	finish_layout python3.11 /app/main.py
}

sink_image() {
	# shellcheck disable=SC2086 # lists of words
	download $BASE_PACKAGES $SINK_PACKAGES
	base_layer "$work/base"
	# shellcheck disable=SC2086
	package_layer $SINK_PACKAGES "$work/packages"
	odd_layers
	finish_layout /bin/sh -c 'cat /app/data/0500 /odd/links/hard-a /change/opaque/new'
}

odd_layers() {
	app_layer "$work/app"
	change_layer "$work/app" "$work/change"
	again_layer "$work/again"
}

small_image() {
	download busybox-static
	unpack busybox-static "$work/base"
	system_files "$work/base"
	local applet
	for applet in sh ls cat echo mount sleep uname date grep; do
		ln -s busybox "$work/base/usr/bin/$applet"
	done
	same_time "$work/base"
	add_layer "$work/base"
	mkdir -p "$work/app/app"
	cat >"$work/app/app/hello.sh" <<-'SH'
		#!/bin/sh
		echo "Hello from inside the container: $(uname -s), PID $$."
	SH
	chmod 0755 "$work/app/app/hello.sh"
	same_time "$work/app"
	add_layer "$work/app" -mindepth 1
	finish_layout /app/hello.sh
}

(($# == 3)) || die "usage: image.sh KIND DEBS OUT"
kind=$1
here=$(dirname "$(realpath "$0")")
. "$here/image_odd.sh"
. "$here/image_apps.sh"
[[ $(type -t "${kind%-v1}_image") == function ]] || die "no such kind: $kind"
[[ $(id -u) == 0 ]] || die "must be root: the image has device nodes and other people's files"
mkdir -p "$2" "$(dirname "$3")"
debs=$(realpath "$2")
out=$(realpath "$3")

exec 9>"$debs/.lock-$(basename "$out")"
flock 9
[[ -e $out ]] && exit 0
work=$(mktemp -d "$(dirname "$out")/image.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/layout/blobs/sha256"
: >"$work/start"
touch -d "-1 second" "$work/start"
"${kind%-v1}_image"
mv "$work/layout" "$out"
