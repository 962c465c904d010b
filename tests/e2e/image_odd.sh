# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
#
# The kinds of files and of changes that the test images hold. image.sh sources this.

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
		"žluťoučký-日本" ".whatever" "..dots" "...three" "colon:comma,equals=" '%41$HOME*?[a]'; do
		echo "$name" >"$odd/names/$name"
	done
	# The indexes of lazy formats are JSON, which has no such names.
	[[ $kind != full ]] || echo latin >"$odd/names/"$'latin-\xe9'
	name=$odd/names/$(printf 'd%.0s' {1..200})
	mkdir -p "$name/${long:0:200}/${long:0:200}"
	echo deep >"$name/${long:0:200}/${long:0:200}/$long"

	: >"$odd/sizes/empty"
	mkdir "$odd/sizes/empty-dir"
	printf x >"$odd/sizes/one"
	head -c 4096 "$work/base/usr/bin/dash" >"$odd/sizes/page"
	head -c 4097 "$work/base/usr/bin/dash" >"$odd/sizes/page-and-one"
	seq 1 1500000 >"$odd/sizes/large" # several chunks in every format
	cp "$work/base/usr/bin/dash" "$odd/sizes/same-as-in-another-layer"
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
	mkdir -p "$root"/{usr/bin,usr/share}
	if [[ $kind == full ]]; then
		mkdir -p "$root/etc/redis"
		: >"$root/etc/redis/.wh.redis.conf"
	fi
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

# What was removed comes back, in another shape; and one more change of what was changed.
again_layer() {
	local root=$1 change=$1/change
	mkdir -p "$change"/{dir-removed/b,opaque,dir-to-file,links}
	echo again >"$change/file-removed"
	echo again >"$change/dir-removed/b/new"
	echo again >"$change/opaque/old"
	echo again >"$change/dir-to-file/y"
	echo again >"$change/file-to-dir"
	echo again >"$change/links/b"
	ln "$change/links/b" "$change/links/c"
	ln "$change/links/b" "$change/links-d"
	: >"$change/.wh.content"
	same_time "$root"
	add_layer "$root" -mindepth 1
}
