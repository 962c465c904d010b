#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Takes the containerd of other Debian releases out of their packages, installs nothing, and prints the
# directories of the programs, one a line. usage: containerds.sh DIR RELEASE...
set -eu
dir=$1
shift
mkdir -p "$dir/sources" "$dir/lists/partial" "$dir/cache/archives/partial"
dir=$(realpath "$dir")
: >"$dir/empty"

# apt ARGUMENT...: with its own sources and lists, and the host's keys.
apt() {
	apt-get -qq -o Dir::Etc::SourceList="$dir/empty" -o Dir::Etc::SourceParts="$dir/sources" \
		-o Dir::State::Lists="$dir/lists" -o Dir::Cache="$dir/cache" -o APT::Sandbox::User=root "$@" >&2
}

for release in "$@"; do
	if [ ! -x "$dir/$release/usr/bin/containerd" ]; then
		printf 'Types: deb\nURIs: %s\nSuites: %s\nComponents: main\nSigned-By: %s\n' \
			"${DEBIAN_MIRROR:-http://deb.debian.org/debian}" "$release" \
			/usr/share/keyrings/debian-archive-keyring.gpg >"$dir/sources/release.sources"
		apt update
		rm -f "$dir"/containerd_*.deb
		(cd "$dir" && apt download containerd)
		dpkg -x "$dir"/containerd_*.deb "$dir/$release"
	fi
	echo "$dir/$release/usr/bin"
done
