# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Images of real programs; image.sh sources this. Each has a base system (Debian's essential
# packages), a layer with a program and all it depends on, the layers of the sink image, and a
# command that prints one line when the program has really started.

ESSENTIAL_PACKAGES="base-files base-passwd bash bsdutils coreutils dash debianutils diffutils dpkg
	findutils grep gzip hostname init-system-helpers libc-bin login mount ncurses-base ncurses-bin
	perl-base sed sysvinit-utils tar util-linux apt"

# closure PACKAGE...: these and all that they depend on, one a line. To apt nothing is installed or
# downloaded.
closure() {
	mkdir -p "$work/no-archives/partial"
	: >"$work/no-status"
	apt-get -qq -o Dir::State::status="$work/no-status" -o Dir::Cache::archives="$work/no-archives" \
		-o APT::Install-Recommends=false --print-uris install "$@" | awk '{ sub(/_.*/, "", $2); print $2 }' | sort -u
}

# What packages' scripts would do at installation. Runs inside the image.
readonly CONFIGURE='
	set -e
	export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
	for lib in blas lapack; do
		for file in /usr/lib/*/$lib/lib$lib.so.3; do
			[ ! -e "$file" ] || ln -sf "$lib/lib$lib.so.3" "${file%/*/*}/"
		done
	done
	for jvm in /usr/lib/jvm/java-*-openjdk-amd64; do
		[ -x "$jvm/bin/java" ] || continue
		ln -sf "$jvm/bin/java" /usr/bin/java
		etc=$(dirname "$(readlink "$jvm/lib/jvm.cfg")")
		[ -e "$jvm/lib/jvm.cfg" ] || cp "$jvm/lib/jvm.cfg-default" "$etc/jvm-amd64.cfg"
		java -Xshare:dump >/dev/null
	done
	ldconfig
	if [ -x /usr/bin/python3 ]; then
		python3 -m compileall -q /usr/lib/python3 /usr/lib/python3.* || true
	fi
	if [ -x /usr/lib/postgresql/15/bin/initdb ]; then
		mkdir -p /var/lib/postgresql/data
		chown postgres:postgres /var/lib/postgresql /var/lib/postgresql/data
		setpriv --reuid postgres --regid postgres --clear-groups \
			/usr/lib/postgresql/15/bin/initdb -A trust -N /var/lib/postgresql/data >/dev/null
	fi
'

# program_layer PACKAGE...: their files above the base, as what is new in an overlay.
program_layer() {
	local upper=$work/packages root=$work/root
	mkdir "$upper" "$root" "$work/overlay"
	mount -t overlay overlay -o "lowerdir=$work/base,upperdir=$upper,workdir=$work/overlay" "$root"
	unpack "$@" "$root"
	mknod -m 0666 "$root/dev/null" c 1 3
	unshare --mount sh -c 'mount --bind /proc "$0/proc" && exec chroot "$0" /bin/sh -c "$1"' \
		"$root" "$CONFIGURE" >&2 || {
		umount "$root"
		die "the packages cannot be configured"
	}
	rm "$root/dev/null"
	umount "$root"
	same_time "$upper"
	add_layer "$upper" -mindepth 1
}

# app_image PACKAGES COMMAND...
app_image() {
	local base program
	mapfile -t base < <(closure $ESSENTIAL_PACKAGES)
	mapfile -t program < <(closure $1 | grep -vxF "$(printf '%s\n' "${base[@]}")")
	((${#base[@]} > 0 && ${#program[@]} > 0)) || die "apt does not know the packages of $kind"
	download "${base[@]}" "${program[@]}"
	unpack "${base[@]}" "$work/base"
	system_files "$work/base"
	same_time "$work/base"
	add_layer "$work/base"
	program_layer "${program[@]}"
	odd_layers
	finish_layout "${@:2}"
}

python_image() {
	app_image "python3 python3-numpy python3-flask" \
		python3 -c 'import numpy, flask; print("ready")'
}

redis_image() {
	app_image redis-server \
		/bin/sh -c 'redis-server --port 0 --unixsocket /tmp/redis.sock --save "" |
			grep -m 1 "eady to accept connections"'
}

nodejs_image() {
	app_image nodejs node -e 'const http = require("http"), crypto = require("crypto"); console.log("ready")'
}

nginx_image() {
	app_image nginx-light \
		nginx -g 'daemon off; error_log /dev/stdout notice;'
}

postgresql_image() {
	app_image postgresql-15 /bin/sh -c 'setpriv --reuid postgres --regid postgres --clear-groups \
		/usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/data \
			-c listen_addresses= -k /tmp 2>&1 |
		grep -m 1 "ready to accept connections"'
}

openjdk_image() {
	app_image openjdk-17-jre-headless /bin/sh -c 'java -XshowSettings:properties -version 2>&1 |
		grep -m 1 "OpenJDK Runtime"'
}
