#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# The house rules: include direction, one door a library, sizes, banned calls, headers that compile alone.
set -u
bad=0
say() { echo "$*"; bad=1; }

# Include direction: a folder may include itself and what is named here.
declare -A may=(
	[base]="base" [loop]="base loop" [net]="base loop net" [store]="base loop store" [trace]="base loop trace"
	[predict]="base loop store predict"
	[image]="base loop net store predict image" [fs]="base loop net store predict image fs"
	[start]="base loop store trace predict image start"
	[snap]="base loop net store predict image fs start snap" [operator]="base loop net store predict image fs start snap operator"
	[api]="base loop net store trace predict image fs start snap operator api"
)
for f in daemon/*/*.[ch]; do
	dir=$(basename "$(dirname "$f")")
	while read -r inc; do
		to=${inc%%/*}
		[ "$to" = proto ] && { [[ $dir = api || $dir = operator ]] || say "$f: messages belong to api/ and operator/"; continue; }
		case "$inc" in */*) ;; *) continue ;; esac
		[[ " ${may[$dir]:-} " = *" $to "* ]] || say "$f: includes $inc, against the include arrow"
	done < <(sed -n 's/^#include "\([^"]*\)".*/\1/p' "$f")
done

# One door a library: one .c file includes its header.
door() {
	local found
	found=$(grep -lE "^#include <$1" daemon/*.[ch] daemon/*/*.[ch] | sort | tr '\n' ' ')
	[ "$found" = "$2 " ] || say "<$1: included by ${found:-none}, door is $2"
}
door 'liburing' daemon/loop/loop.c
door 'rocksdb/' daemon/store/kv_rocks.c
door 'nghttp2/' daemon/net/h2.c
door 'systemd/' daemon/keeper.c
door 'openssl/' daemon/base/digest.c
door 'yajl/' daemon/base/json.c
door 'curl/' daemon/net/http.c
door 'zlib' daemon/image/codec.c
door 'zstd' daemon/image/codec.c
door 'fuse3/' daemon/fs/fill.c
door 'bpf/' daemon/trace/access_bpf.c
door 'microhttpd' daemon/api/metrics_http.c

# Sizes. The exceptions are named, with what they are allowed.
declare -A allowed=()
for f in daemon/*.[ch] daemon/*/*.[ch] tools/firstlight/*.[ch] tools/replay/*.[ch]; do
	n=$(wc -l <"$f")
	[ "$n" -le "${allowed[$f]:-800}" ] || say "$f: $n lines"
	long=$(awk 'BEGIN { FS = "" } { n = 0; for (i = 1; i <= NF; i++) n += ($i == "\t") ? 8 - n % 8 : 1; if (n > 100) print FNR }' "$f" | head -n 1)
	[ -z "$long" ] || say "$f:$long: line too long"
	awk -v f="$f" '/^[a-z].*[^;]$/ { s = FNR } /^\{/ { b = FNR } /^}/ { if (b && FNR - b > 72) printf "%s:%d: function of %d lines\n", f, b, FNR - b; b = 0 }' "$f" | grep . && bad=1
	head -n 1 "$f" | grep -q SPDX || say "$f: no SPDX line"
done

# Every .c file takes the banned list, last.
for f in daemon/*.c daemon/*/*.c tools/firstlight/*.c tools/replay/*.c; do
	last=$(grep -n '^#include' "$f" | tail -n 1)
	[[ "$last" = *'"base/banned.h"'* || "$f" = *toml* ]] || grep -q '"base/banned.h"' "$f" || say "$f: no base/banned.h"
done

# An arena that is given back by itself is one before the function can be left.
for f in daemon/*.c daemon/*/*.c tools/firstlight/*.c tools/replay/*.c; do
	awk -v f="$f" '/auto_arena struct arena [a-z_]+;/ { name = $NF; sub(/;/, "", name); at = FNR; next }
		name && index($0, "arena_init(&" name ",") { name = "" }
		name && /[^a-z_](return|continue|break|goto)[^a-z_]/ {
			printf "%s:%d: left before arena_init(&%s)\n", f, FNR, name; name = "" }
		/^}/ { name = "" }' "$f" | grep . && bad=1
done

# Headers compile alone.
for h in daemon/*.h daemon/*/*.h include/*.h; do
	gcc -std=gnu11 -D_GNU_SOURCE -Idaemon -Iinclude -I"${BUILD:-build}/gen" -fsyntax-only -x c "$h" 2>/tmp/tidy.$$ ||
		{ say "$h does not compile alone:"; head -n 5 /tmp/tidy.$$; }
done
rm -f /tmp/tidy.$$

# A function that calls something that may suspend says so itself.
grep -hoE '^may_suspend [^;{]*\b([a-z_0-9]+)\(' daemon/*/*.h | sed -E 's/.*[ *]([a-z_0-9]+)\($/\1/' | sort -u >/tmp/susp.$$
for f in daemon/*/*.c; do
	awk -v f="$f" 'NR == FNR { susp[$1] = 1; next }
		/^[a-z].*\(/ && !/;$/ { head = $0 }
		/^\{/ { inside = 1 }
		inside && match($0, /[a-z_0-9]+\(/) {
			s = $0
			while (match(s, /[a-z_0-9]+\(/)) {
				name = substr(s, RSTART, RLENGTH - 1)
				if (name in susp && head !~ /may_suspend/ && head !~ ("[ *]" name "\\("))
					printf "%s:%d: %s() may suspend, its caller is not marked\n", f, FNR, name
				s = substr(s, RSTART + RLENGTH)
			}
		}
		/^}/ { inside = 0 }' /tmp/susp.$$ "$f"
done >/tmp/susp2.$$
# may_suspend may stand before the function in the line above or in its header only.
grep -vE 'daemon/(loop|net)/' /tmp/susp2.$$ && bad=1
rm -f /tmp/susp.$$ /tmp/susp2.$$
exit $bad
