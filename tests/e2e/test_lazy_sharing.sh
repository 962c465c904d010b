#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
#
# Equal files of two images in different formats: fetched once, one inode, once in the page cache. Files of
# up to 4 KiB are fetched once too, but lie in the metadata image of each.
#
# LAZY_SHARING: the formats (lazy.sh) of the second image, the first is eStargz. "zstd" has the same
# chunks, "cs" others.
# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib.sh"
. "$(dirname "$0")/lazy.sh"

LAZY_SHARING=${LAZY_SHARING:-zstd cs}
readonly KIND=sink

view_image() {
	"$BUILD/go/viewmount" -address "$CONTAINERD_SOCKET" -snapshotter firstlight "$@"
}

complete_layers() {
	grep 'layer complete' "$firstlightd_log" | sort -u | wc -l
}

all_complete() {
	(($(complete_layers) >= $1))
}

# mount_complete FORMAT: pulls the image, waits until the background has all of it, and mounts it.
mount_complete() {
	push_image "$(lazy_image $KIND "$1")" "test/$KIND:$1"
	registry_forget
	lazypull firstlight "$REGISTRY/test/$KIND:$1" || fail "$1: $(tail -n 2 "$T/lazypull.log")"
	(($(layers_that_are remote) == $(jq '.layers | length' "$T/report.json"))) || fail "$1 is not lazy"
	layers=$((layers + $(layers_that_are remote)))
	wait_until 60 all_complete "$layers" || fail "$1: $(complete_layers) of $layers layers are complete"
	# No container has been there, and the first one is not to wait for the image with small files.
	wait_until 20 compgen -G "$FIRSTLIGHT_ROOT/meta/*.full" >/dev/null || fail "$1: no full image"
	sent=$(blob_bytes | awk '/firstlight/ { sum += $3 } END { print sum + 0 }')
	size=$(jq '[.layers[].size] | add' "$T/report.json")
	mkdir "$T/$1"
	view_image "$REGISTRY/test/$KIND:$1" "$T/$1"
	say "$1: firstlight read $sent bytes of blobs of $size"
}

# objects_of FORMAT: path, inode and object of every file that has an object, as the metadata image says;
# but for paths with white space.
objects_of() {
	local meta
	meta=$(sed -nE "s|.* $T/$1 .*lowerdir=([^:,]*):.*|\1|p" /proc/self/mountinfo)
	[[ -n $meta ]] || fail "$1: no metadata image among the mount's directories"
	(cd "$meta" && find . -type f -size +4096c ! -name '*[[:space:]]*' -print0 |
		xargs -0 getfattr -h -e text -n trusted.overlay.redirect) |
		awk '/^# file: / { path = substr($0, 9) } /^trusted/ { split($0, f, "\""); print f[2], path }' |
		sort >"$T/redirects"
	cut -d ' ' -f 1 "$T/redirects" | sort -u | (cd "$FIRSTLIGHT_ROOT/objects" && sed 's|^/||' | xargs stat -c '/%n %i') |
		sort | join - "$T/redirects" | awk '{ print $3, $2, $1 }'
}

# compare_objects A B: files that are equal by path and content are one inode.
compare_objects() {
	local path first second equal=0 same=0
	objects_of "$1" | sort >"$T/$1.objects"
	objects_of "$2" | sort >"$T/$2.objects"
	(($(wc -l <"$T/$1.objects") > 100)) || fail "$1 has $(wc -l <"$T/$1.objects") files with objects"
	[[ $(find "$T/$2" -type f -size +4096c ! -name '*[[:space:]]*' | wc -l) == "$(wc -l <"$T/$2.objects")" ]] ||
		fail "$2: files without a complete object"
	while read -r path first second; do
		equal=$((equal + 1))
		[[ $first != "$second" ]] || same=$((same + 1))
		[[ $first == "$second" ]] || cmp -s "$T/$1/$path" "$T/$2/$path" || { equal=$((equal - 1)); continue; }
		[[ $first == "$second" ]] || fail "$path is equal in both images and has inodes $first and $second"
	done < <(join -j 1 "$T/$1.objects" "$T/$2.objects" | awk '{ print $1, $2, $4 }')
	((equal > 100)) || fail "only $equal equal files"
	say "$1 and $2: $same of $equal equal files are one inode," \
		"$(join -j 1 "$T/$1.objects" "$T/$2.objects" | awk '$3 == $5' | wc -l) by the same key"
}

# resident FILE: "PAGES OF".
resident() {
	"$BUILD/tests/resident" "$1" | cut -d ' ' -f 1,2
}

# compare_cache A B: what was read through one mount is in the cache of the other's file.
compare_cache() {
	local path before after pages n=0
	while read -r path; do
		sync
		echo 3 >/proc/sys/vm/drop_caches
		before=$(resident "$T/$2/$path")
		cat "$T/$1/$path" >/dev/null
		after=$(resident "$T/$2/$path")
		pages=${after#* }
		((${before% *} == 0)) || fail "$path: $before pages are there after the cache was dropped"
		((${after% *} == pages)) || fail "$path: read through $1, $after pages are resident through $2"
		n=$((n + pages))
	done < <(awk '$1 ~ /^(\.\/)?usr\/(bin|lib)/ { print $1 }' "$T/$1.objects" | (cd "$T/$1" && xargs stat -c '%s %n') | sort -rn |
		sed -n 's/^[0-9]* //; 1,3p')
	((n > 100)) || fail "only $n pages were looked at"
	say "$1 and $2: $n pages, read through the one, are there through the other"
}

need jq awk getfattr join cmp
for tool in go/viewmount go/lazypull tests/resident; do
	[[ -x $BUILD/$tool ]] || fail "$BUILD/$tool is not built"
done
[[ $SNAPSHOTTER == firstlight ]] || skip "only for firstlight"
layers=0 sent=0 size=0
start_registry
registry_settings "$REGISTRY"
start_firstlightd
start_containerd
mount_complete esgz
((sent >= size * 8 / 10)) || fail "only $sent bytes of $size were read"
for format in $LAZY_SHARING; do
	mount_complete "$format"
	# Its tables of contents, and for these the ends of the blobs.
	((sent < size / 2)) || fail "$format: $sent bytes were fetched again"
	compare_objects esgz "$format"
	compare_cache esgz "$format"
	view_image -u "$T/$format"
done
view_image -u "$T/esgz"
stop_firstlightd
say "ok"
