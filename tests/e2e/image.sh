#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the test image as an OCI layout from Debian packages, without a container engine.
#
#   tests/e2e/image.sh [--small] DEBS OUT
#
# DEBS keeps the downloaded packages; OUT is the layout to make (tag "latest"), and nothing is
# done when it is there. The full image has five layers: a base system, python, redis, an
# application with every kind of file that a layer can hold, and a layer of changes: whiteouts,
# an opaque directory, replaced and chmod'ed paths. --small makes two layers: busybox and a script.
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

die() {
	echo "image.sh: $*" >&2
	exit 1
}

fetch() {
	(cd "$debs" && apt-get -qq -o APT::Sandbox::User=root download "$@" >&2)
}

# download PACKAGE...: what is not in the cache yet, in one go. A second try, should the lists be old.
download() {
	local missing=() package
	for package in "$@"; do
		compgen -G "$debs/${package}_*.deb" >/dev/null || missing+=("$package")
	done
	((${#missing[@]} == 0)) && return
	echo "image.sh: downloading ${missing[*]}" >&2
	fetch "${missing[@]}" || { apt-get -qq update >&2 && fetch "${missing[@]}"; } || die "download failed"
}

# unpack PACKAGE... DIRECTORY: onto a tree whose /bin, /sbin, /lib and /lib64 are links into /usr.
unpack() {
	local dir=${!#} package files name
	mkdir -p "$dir"/usr/{bin,sbin,lib,lib64}
	for name in bin sbin lib lib64; do
		ln -s "usr/$name" "$dir/$name"
	done
	for package in "${@:1:$#-1}"; do
		files=("$debs/${package}"_*.deb)
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
# The order is by name; hard links, xattrs, holes and nanoseconds are kept. tar writes its process
# ID into the name of a file with holes: in a PID namespace that is always 1.
add_layer() {
	local dir=$1 tar="$work/layer.tar" blob="$work/layer.tar.gz" diff_id digest
	shift
	(cd "$dir" && find . "$@" -print0) | sort -z |
		unshare --pid --fork tar -c -f "$tar" -C "$dir" --null --no-recursion -T - --numeric-owner --sparse \
			--format=pax --pax-option=delete=atime,delete=ctime \
			--xattrs --xattrs-include='*'
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

# finish_layout COMMAND...: config, manifest and index around the layers.
finish_layout() {
	local digest size
	jq -n --rawfile diff_ids "$work/diff_ids" --arg created "$(date -u -d "@$EPOCH" +%FT%TZ)" '
		($diff_ids | rtrimstr("\n") / "\n") as $ids |
		{$created, architecture: "amd64", os: "linux",
		 config: {Env: ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],
			  Cmd: $ARGS.positional, WorkingDir: "/"},
		 rootfs: {type: "layers", diff_ids: $ids},
		 history: [$ids[] | {$created, created_by: "tests/e2e/image.sh"}]}' \
		--args "$@" >"$work/config"
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
	printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
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

# Every kind of file, one by one, in /odd.
odd_files() {
	local odd=$1/odd long name
	mkdir -p "$odd"/{names,owners,modes,links/sub,nodes,xattrs,times,sizes}

	cp "$work/base/usr/bin/true" "$odd/modes/capability"
	setcap cap_net_raw+ep "$odd/modes/capability"
	for name in 4755 2755 6711 0000 0400 7777; do
		echo "mode $name" >"$odd/modes/file-$name"
		chmod "$name" "$odd/modes/file-$name"
	done
	for name in 1777 2775 0000 0700; do
		mkdir "$odd/modes/dir-$name"
		echo inside >"$odd/modes/dir-$name/file"
		chmod "$name" "$odd/modes/dir-$name"
	done

	echo "linked content" >"$odd/links/hard-a"
	setfattr -n user.on -v link "$odd/links/hard-a"
	ln "$odd/links/hard-a" "$odd/links/hard-b"
	ln "$odd/links/hard-a" "$odd/links/sub/hard-c"
	ln -s /etc/hostname "$odd/links/absolute"
	ln -s ../names "$odd/links/relative"
	ln -s nothing/here "$odd/links/dangling"
	ln -s ../../../../../../etc/passwd "$odd/links/above-the-root"
	ln -s "$(printf 'x%.0s' {1..200})/$(printf 'y%.0s' {1..200})" "$odd/links/long-target"
	ln -s loop "$odd/links/loop"
	ln -P "$odd/links/dangling" "$odd/links/dangling-hard"

	mkfifo "$odd/nodes/fifo"
	mknod "$odd/nodes/null" c 1 3
	mknod "$odd/nodes/char-large" c 511 70000
	mknod "$odd/nodes/block" b 7 200
	chown 12345:54321 "$odd/nodes/fifo"
	chmod 0622 "$odd/nodes/null"

	echo owned >"$odd/owners/file"
	mkdir "$odd/owners/dir"
	ln -s file "$odd/owners/symlink"
	echo owned >"$odd/owners/large"
	echo owned >"$odd/owners/setuid"
	chown -h 12345:54321 "$odd/owners/file" "$odd/owners/dir" "$odd/owners/symlink" "$odd/owners/setuid"
	chown 4000000000:4000000001 "$odd/owners/large"
	chmod 4755 "$odd/owners/setuid"

	echo attributes >"$odd/xattrs/file"
	setfattr -n user.text -v "plain text" "$odd/xattrs/file"
	setfattr -n user.binary -v 0x00ff0a3d00220d5c "$odd/xattrs/file"
	setfattr -n user.long -v "$(printf 'v%.0s' {1..2000})" "$odd/xattrs/file"
	setfattr -n user.dotted.name-with_signs -v 1 "$odd/xattrs/file"
	setfattr -n trusted.firstlight -v trusted "$odd/xattrs/file"
	mkdir "$odd/xattrs/dir"
	setfattr -n user.on -v directory "$odd/xattrs/dir"
	: >"$odd/xattrs/empty-file"
	setfattr -n user.on -v "an empty file" "$odd/xattrs/empty-file"

	long=$(printf 'n%.0s' {1..255})
	# shellcheck disable=SC2016 # the last one is meant as it stands
	for name in "with space" "-dash" $'new\nline' $'tab\there' 'back\slash' $'quo"te\x27s' "$long" \
		"žluťoučký-日本" $'latin-\xe9' ".whatever" "..dots" "...three" "colon:comma,equals=" '%41$HOME*?[a]'; do
		echo "$name" >"$odd/names/$name"
	done
	name=$odd/names/$(printf 'd%.0s' {1..200})
	mkdir -p "$name/${long:0:200}/${long:0:200}"
	echo deep >"$name/${long:0:200}/${long:0:200}/$long"

	: >"$odd/sizes/empty"
	mkdir "$odd/sizes/empty-dir"
	printf x >"$odd/sizes/one"
	head -c 4096 "$work/base/usr/bin/busybox" >"$odd/sizes/page"
	head -c 4097 "$work/base/usr/bin/busybox" >"$odd/sizes/page-and-one"
	cat "$work"/base/usr/bin/busybox{,,,,,} >"$odd/sizes/large"
	cp "$work/redis/usr/bin/redis-cli" "$odd/sizes/same-as-in-another-layer"
	truncate -s 8M "$odd/sizes/all-hole"
	printf begin >"$odd/sizes/sparse"
	printf middle | dd of="$odd/sizes/sparse" bs=1 seek=3000000 conv=notrunc status=none
	truncate -s 9000001 "$odd/sizes/sparse"
}

# Last, when nothing changes times any more.
odd_times() {
	local times=$1/odd/times name
	for name in 1965-03-04T05:06:07.123456789 1970-01-01T00:00:00.000000001 \
		1999-12-31T23:59:59.999999999 2038-01-19T03:14:08.5 2100-02-03T04:05:06.987654321; do
		touch -d "${name}Z" "$times/file-${name%%-*}"
		mkdir "$times/dir-${name%%-*}"
		touch -d "${name}Z" "$times/dir-${name%%-*}"
		ln -s nowhere "$times/symlink-${name%%-*}"
		touch -h -d "${name}Z" "$times/symlink-${name%%-*}"
	done
	touch -d "@$EPOCH" "$times"
}

# What the layer of changes will change.
before_changes() {
	local change=$1/change name
	mkdir -p "$change"/{dir-removed/b,opaque/old-dir,dir-to-file,dir-to-symlink,chmod-dir,chown-dir,links}
	for name in file-removed dir-removed/a dir-removed/b/c opaque/old opaque/old-dir/x opaque/both \
		dir-to-file/x file-to-dir dir-to-symlink/x file-to-symlink chmod-file chown-file xattr-file \
		touched chmod-dir/inside chown-dir/inside content truncated links/a cap-removed file-to-fifo; do
		echo "before $name" >"$change/$name"
	done
	ln "$change/links/a" "$change/links/b"
	ln -s /etc "$change/symlink-to-dir"
	ln -s before "$change/symlink"
	setfattr -n user.old -v value "$change/xattr-file"
	setcap cap_net_raw+ep "$change/cap-removed"
	mkdir -p "$1/srv/bare/deep"
	chown 12345:54321 "$1/srv/bare" "$1/srv/bare/deep"
	chmod 0750 "$1/srv/bare"
	chmod 2770 "$1/srv/bare/deep"
	setfattr -n user.on -v parent "$1/srv/bare"
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

change_layer() {
	local app=$1 root=$2 change=$2/change name
	mkdir -p "$change"/{opaque,links,file-to-dir,symlink-to-dir,new-opaque}
	for name in change/.wh.file-removed change/.wh.dir-removed change/.wh.never-there \
		change/links/.wh.b change/opaque/.wh..wh..opq change/new-opaque/.wh..wh..opq; do
		: >"$root/$name"
	done
	echo after >"$change/opaque/both"
	echo after >"$change/opaque/new"
	echo after >"$change/new-opaque/file"
	echo after >"$change/dir-to-file"
	echo after >"$change/file-to-dir/inside"
	echo after >"$change/symlink-to-dir/inside"
	ln -s after "$change/dir-to-symlink"
	ln -s after "$change/file-to-symlink"
	ln -s after "$change/symlink"
	mkfifo "$change/file-to-fifo"
	echo after >"$change/content"
	: >"$change/truncated"
	for name in chmod-file chown-file xattr-file touched; do
		cp --preserve=all "$app/change/$name" "$change/$name"
	done
	cp --preserve=mode,ownership,timestamps "$app/change/cap-removed" "$change/cap-removed"
	chmod 0600 "$change/chmod-file"
	chown 12345:54321 "$change/chown-file"
	setfattr -n user.new -v value "$change/xattr-file"
	setfattr -x user.old "$change/xattr-file"
	mkdir "$change/chmod-dir" "$change/chown-dir"
	chmod 0711 "$change/chmod-dir"
	chown 12345:54321 "$change/chown-dir"

	# Whiteouts of what the other layers hold.
	mkdir -p "$root"/{etc/redis,usr/bin,usr/share}
	: >"$root/etc/redis/.wh.redis.conf"
	: >"$root/usr/share/.wh.base-files"
	: >"$root/usr/bin/.wh.dircolors"

	# A file whose directories are not in this layer.
	mkdir -p "$root/srv/bare/deep"
	echo after >"$root/srv/bare/deep/file"

	same_time "$root"
	touch -d "2019-05-06T07:08:09.5Z" "$change/touched"
	# The root directory itself changes too.
	chmod 0751 "$root"
	setfattr -n user.on -v root "$root"
	touch -d "2019-05-06T07:08:09.25Z" "$root"
	add_layer "$root" ! -path ./srv ! -path ./srv/bare ! -path ./srv/bare/deep
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

kind=full
if [[ ${1-} == --small ]]; then
	kind=small
	shift
fi
(($# == 2)) || die "usage: image.sh [--small] DEBS OUT"
[[ $(id -u) == 0 ]] || die "must be root: the image has device nodes and other people's files"
mkdir -p "$1" "$(dirname "$2")"
debs=$(realpath "$1")
out=$(realpath "$2")

exec 9>"$debs/.lock"
flock 9
[[ -e $out ]] && exit 0
work=$(mktemp -d "$(dirname "$out")/image.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/layout/blobs/sha256"
: >"$work/start"
touch -d "-1 second" "$work/start"
"${kind}_image"
mv "$work/layout" "$out"
