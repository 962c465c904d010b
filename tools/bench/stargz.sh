#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# Builds the stargz snapshotter from Debian's golang-github-containerd-stargz-snapshotter-dev:
#
#   tools/bench/stargz.sh PROGRAM
#
# The parts that speak to Kubernetes need a package that Debian does not have, so they are left out
# of the copy that is built. Nothing is done when PROGRAM is there.
set -euo pipefail
readonly SOURCE=/usr/share/gocode PACKAGE=src/github.com/containerd/stargz-snapshotter

(($# == 1)) || { echo "usage: stargz.sh PROGRAM" >&2; exit 2; }
[[ ! -x $1 ]] || exit 0
[[ -d $SOURCE/$PACKAGE ]] || {
	echo "golang-github-containerd-stargz-snapshotter-dev is not installed" >&2
	exit 1
}
here=$(dirname "$(realpath "$0")")
mkdir -p "$(dirname "$1")"
program=$(realpath "$(dirname "$1")")/$(basename "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/$(dirname "$PACKAGE")" "$work/src/main"
cp -r "$SOURCE/$PACKAGE" "$work/$PACKAGE"
cp "$here/stargz/main.go" "$work/src/main/"
cd "$work/$PACKAGE/service"
rm -rf resolver/cri.go keychain/cri keychain/kubeconfig plugin
cd "$work/src/main"
GO111MODULE=off GOPATH=$work:$SOURCE GOFLAGS='' go build -o "$program" .
