# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# Images of real programs; image.sh sources this. Each has a base system (Debian's essential
# packages), a layer with a program and all it depends on, and a layer with a small application. A
# kind with "-v1" is the image before an update: the same base, the program and what it depends on from
# an older release where Debian still has one, and an application of which a tenth is other.
#
# The image says in labels of its config:
#   bench.ready     when it is ready: "line EXPRESSION" (of its output), "tcp PORT", "http PORT PATH"
#   bench.packages  what it was made for, with the versions

ESSENTIAL_PACKAGES="base-files base-passwd bash bsdutils coreutils dash debianutils diffutils dpkg
	findutils grep gzip hostname init-system-helpers libc-bin login mount ncurses-base ncurses-bin
	perl-base sed sysvinit-utils tar usr-is-merged util-linux apt"

# Where older versions are: of most programs the stable release has one before the last security update.
# Of these it has the last one, and the security archive an older one (of rabbitmq's Erlang).
older_release() {
	case $1 in
	mosquitto | rabbitmq) echo bookworm-security ;;
	*) echo bookworm ;;
	esac
}

# closure RELEASE PACKAGE...: these and all that they depend on, NAME=VERSION, one a line; of RELEASE
# what it has, else of the newest ("" takes the newest of all). To apt nothing is installed or downloaded.
closure() {
	local release=()
	[[ -z $1 ]] || release=(-o "APT::Default-Release=$1")
	mkdir -p "$work/no-archives/partial"
	: >"$work/no-status"
	apt-get -qq -o Dir::State::status="$work/no-status" -o Dir::Cache::archives="$work/no-archives" \
		-o APT::Install-Recommends=false "${release[@]}" --print-uris install "${@:2}" |
		awk '{ split($2, part, "_"); gsub("%3a", ":", part[2]); print part[1] "=" part[2] }' | sort -u
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
	[ ! -x /usr/lib/go-1.19/bin/go ] || ln -sf ../lib/go-1.19/bin/go /usr/bin/go
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
	if [ -x /usr/bin/mariadb-install-db ]; then
		mkdir -p /run/mysqld /var/lib/mysql
		mariadb-install-db --user=root --datadir=/var/lib/mysql --skip-test-db --skip-name-resolve \
			--innodb-log-file-size=4M >/dev/null
	fi
	if [ -x /usr/sbin/php-fpm8.2 ]; then
		mkdir -p /run/php
		for file in /usr/share/php8.2-*/*/*.ini /usr/share/php8.2-*/*.ini; do
			[ ! -e "$file" ] || cp "$file" "/etc/php/8.2/fpm/conf.d/$(sed -n "s/^; priority=//p" "$file")-${file##*/}"
		done
		[ -e /etc/php/8.2/fpm/php.ini ] || cp /usr/lib/php/8.2/php.ini-production /etc/php/8.2/fpm/php.ini
	fi
'

# program_layer PACKAGE=VERSION...: their files above the base, as what is new in an overlay.
program_layer() {
	local upper=$work/packages root=$work/root
	mkdir "$upper" "$root" "$work/overlay"
	mount -t overlay overlay -o "lowerdir=$work/base,upperdir=$upper,workdir=$work/overlay" "$root"
	unpack "$@" "$root"
	mknod -m 0666 "$root/dev/null" c 1 3
	mknod -m 0666 "$root/dev/urandom" c 1 9
	unshare --mount sh -c 'mount --bind /proc "$0/proc" && exec chroot "$0" /bin/sh -c "$1"' \
		"$root" "$CONFIGURE" >&2 || {
		umount "$root"
		die "the packages cannot be configured"
	}
	rm "$root"/dev/{null,urandom}
	umount "$root"
	same_time "$upper"
	add_layer "$upper" -mindepth 1
}

# own_layer: the application, /app. Its main program is what the kind's own function has put there.
own_layer() {
	local i version=2
	[[ $kind != *-v1 ]] || version=1
	mkdir -p "$work/own/app/data"
	echo "$version" >"$work/own/app/version"
	for i in {1..300}; do
		seq "$i" $((i + 20 + i % 97 * 8)) >"$work/own/app/data/$(printf %04d "$i")"
		((i % 10)) || echo "$version" >>"$work/own/app/data/$(printf %04d "$i")"
	done
	same_time "$work/own"
	add_layer "$work/own" -mindepth 1
}

# own_file NAME: a file of the application, from standard input.
own_file() {
	mkdir -p "$work/own/app"
	cat >"$work/own/app/$1"
}

# app_base PACKAGE=VERSION...: the layer below all, and its tree. It is made once, and kept.
app_base() {
	local kept
	kept=$debs/base-$({ cat "$here"/image*.sh; printf '%s\n' "$@"; } | sha256sum | cut -c 1-12)
	exec 7>"$kept.lock"
	flock 7
	if [[ ! -d $kept ]]; then
		unpack "$@" "$work/base"
		system_files "$work/base"
		printf '127.0.0.1 localhost\n' >"$work/base/etc/hosts"
		same_time "$work/base"
		add_layer "$work/base"
		mkdir "$work/kept"
		mv "$work/base" "$work/layers" "$work/diff_ids" "$work/layout/blobs/sha256" "$work/kept/"
		mkdir "$work/layout/blobs/sha256"
		mv "$work/kept" "$kept"
	fi
	exec 7>&-
	ln -s "$kept/base" "$work/base"
	cp "$kept/layers" "$kept/diff_ids" "$work/"
	cp "$kept"/sha256/* "$work/layout/blobs/sha256/"
}

# app_image PACKAGES READY COMMAND...
app_image() {
	local base program release=""
	debs=$debs/apps # several versions of a package: apart from those that are asked for by name only
	mkdir -p "$debs"
	[[ $kind != *-v1 ]] || release=$(older_release "${kind%-v1}")
	mapfile -t base < <(closure "" $ESSENTIAL_PACKAGES)
	mapfile -t program < <(closure "$release" $1 |
		awk -F = 'NR == FNR { base[$1] = 1; next } !($1 in base)' <(printf '%s\n' "${base[@]}") -)
	((${#base[@]} > 0 && ${#program[@]} > 0)) || die "apt does not know the packages of $kind"
	download "${base[@]}" "${program[@]}"
	app_base "${base[@]}"
	program_layer "${program[@]}"
	own_layer
	LABELS=$(jq -n --arg ready "$2" --arg packages \
		"$(printf '%s\n' "${program[@]}" | grep -E "^($(tr -s ' \n\t' '|' <<<"$1" | sed 's/|$//'))=" | paste -sd ' ')" \
		'{"bench.ready": $ready, "bench.packages": $packages}')
	finish_layout "${@:3}"
}

python_image() {
	own_file main.py <<-'PY'
		import flask, numpy
		print("ready", flush=True)
		app = flask.Flask("app")
		@app.route("/")
		def index():
		    return str(numpy.arange(10).sum())
		app.run(port=8000)
	PY
	app_image "python3 python3.11 python3-numpy python3-flask" "http 8000 /" python3 /app/main.py
}

redis_image() {
	app_image "redis-server redis-tools" "tcp 6379" redis-server --save "" --dir /tmp
}

nodejs_image() {
	own_file main.js <<-'JS'
		const http = require("http"), crypto = require("crypto"), zlib = require("zlib");
		http.createServer((q, a) => a.end(crypto.createHash("sha256").update(q.url).digest("hex")))
			.listen(8000, "127.0.0.1", () => console.log("listening"));
	JS
	app_image nodejs "http 8000 /" node /app/main.js
}

nginx_image() {
	own_file nginx.conf <<-'CONF'
		daemon off;
		error_log /dev/stdout notice;
		pid /tmp/nginx.pid;
		events {}
		http {
			include /etc/nginx/mime.types;
			access_log off;
			server {
				listen 80;
				root /app;
			}
		}
	CONF
	app_image nginx-light "http 80 /version" nginx -c /app/nginx.conf
}

apache2_image() {
	own_file apache.conf <<-'CONF'
		ServerRoot /etc/apache2
		ServerName localhost
		PidFile /run/apache2.pid
		Listen 80
		ErrorLog /dev/stdout
		LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
		LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
		LoadModule dir_module /usr/lib/apache2/modules/mod_dir.so
		LoadModule mime_module /usr/lib/apache2/modules/mod_mime.so
		LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
		User www-data
		Group www-data
		TypesConfig /etc/mime.types
		DocumentRoot /app
		<Directory /app>
		Require all granted
		</Directory>
	CONF
	app_image apache2 "http 80 /version" apache2 -f /app/apache.conf -D FOREGROUND
}

postgresql_image() {
	app_image postgresql-15 "line ready to accept connections" /bin/sh -c 'exec setpriv --reuid postgres \
		--regid postgres --clear-groups /usr/lib/postgresql/15/bin/postgres -D /var/lib/postgresql/data -k /tmp 2>&1'
}

mariadb_image() {
	app_image "mariadb-server mariadb-server-core" "tcp 3306" /bin/sh -c 'exec mariadbd --user=root \
		--datadir=/var/lib/mysql --innodb-log-file-size=4M --skip-name-resolve --socket=/tmp/mysql.sock 2>&1'
}

openjdk_image() {
	app_image openjdk-17-jre-headless "line OpenJDK Runtime" \
		/bin/sh -c 'java -XshowSettings:properties -version 2>&1; exec sleep 60'
}

golang_image() {
	own_file main.go <<-'GO'
		package main

		import (
			"encoding/json"
			"fmt"
			"os"
			"time"
		)

		func main() {
			_ = json.NewEncoder(os.Stdout).Encode(map[string]string{"state": "ready"})
			time.Sleep(time.Minute)
			fmt.Println("end")
		}
	GO
	app_image "golang-1.19-go golang-1.19-src" "line ready" \
		/bin/sh -c 'echo compiling; export GO111MODULE=off GOCACHE=/tmp/go CGO_ENABLED=0; exec go run /app/main.go'
}

memcached_image() {
	app_image memcached "tcp 11211" /bin/sh -c 'exec memcached -u nobody -vv 2>&1'
}

mosquitto_image() {
	printf 'listener 1883 127.0.0.1\nallow_anonymous true\nuser root\nlog_dest stdout\n' | own_file mosquitto.conf
	app_image mosquitto "tcp 1883" mosquitto -v -c /app/mosquitto.conf
}

rabbitmq_image() {
	app_image "rabbitmq-server erlang-base" "tcp 5672" /bin/sh -c 'export HOME=/tmp HOSTNAME=localhost LANG=C.UTF-8 \
		RABBITMQ_NODENAME=rabbit@localhost RABBITMQ_MNESIA_BASE=/tmp/mnesia RABBITMQ_LOGS=- \
		RABBITMQ_ENABLED_PLUGINS_FILE=/tmp/plugins RABBITMQ_PID_FILE=/tmp/pid
		exec $(ls -d /usr/lib/rabbitmq/lib/*/sbin)/rabbitmq-server 2>&1'
}

php-fpm_image() {
	printf '[global]\nerror_log = /proc/self/fd/2\ndaemonize = no\n[www]\nlisten = 127.0.0.1:9000\nuser = www-data\n%s\n' \
		$'pm = static\npm.max_children = 2' | own_file fpm.conf
	app_image "php8.2-fpm php8.2-mysql php8.2-xml php8.2-mbstring" "tcp 9000" \
		/bin/sh -c 'exec php-fpm8.2 -F -R -y /app/fpm.conf 2>&1'
}
