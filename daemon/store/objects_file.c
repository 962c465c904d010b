// SPDX-License-Identifier: Apache-2.0
/*
 * Files of contents. A new one has no name until it is worth keeping, so a crash leaves nothing
 * half-made: complete ones appear by link(2) or rename(2). Threads only.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "base/log.h"
#include "store/objects_impl.h"

#include "base/banned.h"

#define HASH_BLOCK KiB(256)

void object_path(const struct digest *key, char ret[OBJECT_PATH_SIZE])
{
	digest_hex(key, ret + 3);
	ret[0] = ret[3];
	ret[1] = ret[4];
	ret[2] = '/';
}

void count_add(const struct objects *o, const struct digest *key, int64_t bytes, int64_t files)
{
	__atomic_fetch_add(&o->counts->bytes[key->bytes[0]], bytes, __ATOMIC_RELAXED);
	__atomic_fetch_add(&o->counts->complete[key->bytes[0]], files, __ATOMIC_RELAXED);
}

void count_partial_add(const struct objects *o, int64_t bytes, int64_t files)
{
	__atomic_fetch_add(&o->counts->partial_bytes, bytes, __ATOMIC_RELAXED);
	__atomic_fetch_add(&o->counts->partial, files, __ATOMIC_RELAXED);
}

int64_t file_disk_bytes(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 ? (int64_t)st.st_blocks * 512 : 0;
}

/* A name for a file that has none. */
static int link_fd(int fd, int dir_fd, const char *name)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return linkat(AT_FDCWD, path, dir_fd, name, AT_SYMLINK_FOLLOW) < 0 ? -errno : 0;
}

/* --- opening ---------------------------------------------------------------------------------- */

int file_open_complete(const struct objects *o, const struct content *c)
{
	char path[OBJECT_PATH_SIZE];
	struct stat st;
	int fd;

	object_path(&c->key, path);
	fd = openat(o->objects_fd, path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && (uint64_t)st.st_size == c->size)
		return fd;
	close(fd);
	log_warn("object=%s error=\"the file has the wrong size\" removed", path + 3);
	if (unlinkat(o->objects_fd, path, 0) == 0)
		count_add(o, &c->key, st.st_nlink > 1 ? 0 : -(int64_t)st.st_blocks * 512, -1);
	return -ENOENT;
}

int file_link_canonical(const struct objects *o, const struct content *c)
{
	char from[OBJECT_PATH_SIZE], to[OBJECT_PATH_SIZE];
	struct content canonical = *c;
	auto_close int fd = -1;

	if (c->chunks_n == 1)
		return -ENOENT;
	object_canonical_key(&c->digest, c->size, &canonical.key);
	fd = file_open_complete(o, &canonical);
	if (fd < 0)
		return fd;
	object_path(&canonical.key, from);
	object_path(&c->key, to);
	if (linkat(o->objects_fd, from, o->objects_fd, to, 0) == 0) {
		count_add(o, &c->key, 0, 1);
		return 0;
	}
	return errno == EEXIST ? 0 : -errno;
}

/* What an earlier process of this boot has left. */
static int open_partial(struct objects *o, const struct content *c, struct opened *ret)
{
	char name[DIGEST_HEX_SIZE], head[PRESENCE_HEAD];
	size_t n = presence_size(c->chunks_n);
	auto_free uint8_t *bitmap = malloc(n);
	auto_close int fd = -1;
	int r;

	if (!bitmap)
		return -ENOMEM;
	digest_hex(&c->key, name);
	fd = openat(o->partial_fd, name, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	r = file_pread_all(fd, head, sizeof(head), presence_off(c->size));
	if (r == 0)
		r = file_pread_all(fd, bitmap, n, presence_off(c->size) + sizeof(head));
	if (r == 0)
		r = presence_check((struct str){head, sizeof(head)},
				   (struct str){(char *)bitmap, n}, o->options.boot, c->size,
				   c->chunks_n, &ret->here);
	if (r < 0) { /* it starts again */
		file_remove_partial(o, &c->key, true);
		return -ENOENT;
	}
	ret->disk_bytes = file_disk_bytes(fd);
	ret->fd = take_fd(&fd);
	ret->presence = take_ptr(bitmap);
	ret->named = true;
	return 0;
}

static int open_new(struct objects *o, const struct content *c, struct opened *ret)
{
	mode_t mode = c->chunks_n == 1 ? MODE_FRESH : 0600;
	int fd = openat(o->partial_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, mode);

	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)c->size) < 0) {
		int r = -errno;

		close(fd);
		return r;
	}
	ret->presence = calloc(1 + presence_size(c->chunks_n), 1);
	if (!ret->presence) {
		close(fd);
		return -ENOMEM;
	}
	ret->fd = fd;
	return 0;
}

/* There is no room for a new file, but reads go on. */
static int open_none(const struct content *c, struct opened *ret)
{
	int fd = memfd_create("object", MFD_CLOEXEC);

	ret->presence = calloc(1 + presence_size(c->chunks_n), 1);
	if (fd < 0 || !ret->presence || ftruncate(fd, (off_t)c->size) < 0) {
		if (fd >= 0)
			close(fd);
		free(take_ptr(ret->presence));
		return -ENOMEM;
	}
	ret->fd = fd;
	ret->no_file = true;
	return 0;
}

int file_again(struct objects *o, const struct content *c, int fd)
{
	struct opened new = {.fd = -1};
	int r = open_new(o, c, &new);

	if (r < 0)
		return r;
	r = dup3(new.fd, fd, O_CLOEXEC) < 0 ? -errno : 0;
	close(new.fd);
	free(new.presence);
	return r;
}

int file_open(struct objects *o, const struct content *c, struct opened *ret, struct err *err)
{
	char name[DIGEST_HEX_SIZE];
	int r;

	*ret = (struct opened){.fd = file_open_complete(o, c)};
	if (ret->fd == -ENOENT && file_link_canonical(o, c) == 0)
		ret->fd = file_open_complete(o, c);
	if (ret->fd >= 0) {
		ret->complete = true;
		ret->here = c->chunks_n;
		return 0;
	}
	r = ret->fd;
	ret->fd = -1;
	if (r == -ENOENT && c->chunks_n > 1)
		r = open_partial(o, c, ret);
	if (r == -ENOENT)
		r = open_new(o, c, ret);
	if (r == -ENOSPC || r == -EDQUOT || r == -EROFS)
		r = open_none(c, ret);
	if (r == 0)
		return 0;
	digest_hex(&c->key, name);
	return err_errno(err, r, "open object %s", name);
}

/* --- presence --------------------------------------------------------------------------------- */

int file_write_presence(struct objects *o, const struct content *c, int fd, bool named,
			const uint8_t *bytes, uint32_t from, uint32_t to)
{
	uint64_t off = presence_off(c->size);
	char head[PRESENCE_HEAD], name[DIGEST_HEX_SIZE];
	int r;

	r = file_pwrite_all(fd, bytes, to - from, off + sizeof(head) + from);
	if (r < 0 || named)
		return r;
	presence_encode(o->options.boot, c->size, c->chunks_n, head);
	r = file_pwrite_all(fd, head, sizeof(head), off);
	if (r == 0 && ftruncate(fd, (off_t)(off + sizeof(head) + presence_size(c->chunks_n))) < 0)
		r = -errno;
	if (r < 0)
		return r;
	digest_hex(&c->key, name);
	r = link_fd(fd, o->partial_fd, name);
	if (r == -EEXIST) { /* of a content that was removed and came again */
		file_remove_partial(o, &c->key, true);
		r = link_fd(fd, o->partial_fd, name);
	}
	return r;
}

bool file_remove_partial(struct objects *o, const struct digest *key, bool count)
{
	char name[DIGEST_HEX_SIZE];
	struct stat st;

	digest_hex(key, name);
	if (fstatat(o->partial_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ||
	    unlinkat(o->partial_fd, name, 0) < 0)
		return false;
	if (count)
		count_partial_add(o, -(int64_t)st.st_blocks * 512, -1);
	return true;
}

/* --- completion ------------------------------------------------------------------------------- */

int file_hash(int fd, uint64_t size, struct digest *ret)
{
	auto_free uint8_t *buf = malloc(HASH_BLOCK);
	auto_sha256 struct sha256 s = {0};
	int r = buf ? sha256_init(&s) : -ENOMEM;

	for (uint64_t off = 0; off < size && r == 0;) {
		size_t n = size - off < HASH_BLOCK ? (size_t)(size - off) : HASH_BLOCK;

		r = file_pread_all(fd, buf, n, off);
		if (r == 0)
			sha256_add(&s, buf, n);
		off += n;
	}
	if (r == 0)
		sha256_done(&s, ret);
	return r;
}

/* Our own bytes get their place. A file that is there already has the same content. */
static int place(struct objects *o, const struct content *c, int fd, bool named)
{
	char path[OBJECT_PATH_SIZE];
	int64_t bytes = file_disk_bytes(fd);
	int r = 0;

	object_path(&c->key, path);
	if (!named)
		r = link_fd(fd, o->objects_fd, path);
	else if (renameat2(o->partial_fd, path + 3, o->objects_fd, path, RENAME_NOREPLACE) < 0)
		r = -errno;
	if (r == 0)
		count_add(o, &c->key, bytes, 1);
	return r == -EEXIST ? 0 : r;
}

/* Later ones with this content are links of ours. */
static void link_as_canonical(const struct objects *o, const struct content *c)
{
	char from[OBJECT_PATH_SIZE], to[OBJECT_PATH_SIZE];
	struct digest canonical;

	object_canonical_key(&c->digest, c->size, &canonical);
	object_path(&c->key, from);
	object_path(&canonical, to);
	if (linkat(o->objects_fd, from, o->objects_fd, to, 0) == 0)
		count_add(o, &canonical, 0, 1);
}

static int check_whole(const struct content *c, int fd, struct err *err)
{
	struct digest is;
	char hex[DIGEST_HEX_SIZE];
	int r = file_hash(fd, c->size, &is);

	digest_hex(&c->key, hex);
	if (r < 0)
		return err_errno(err, r, "read object %s", hex);
	if (!digest_eq(&is, &c->digest))
		return err_set(err, -EBADMSG,
			       "object %s: its chunks are right but the whole is not", hex);
	return 0;
}

int file_finish(struct objects *o, const struct content *c, int fd, bool named, struct err *err)
{
	char hex[DIGEST_HEX_SIZE];
	int r = 0;

	if (c->chunks_n > 1) {
		r = check_whole(c, fd, err);
		if (r < 0)
			return r;
		if (file_link_canonical(o, c) == 0 && file_adopt(o, c, fd, named) == 0)
			return 0;
		if (fchmod(fd, MODE_FRESH) < 0 || (named && ftruncate(fd, (off_t)c->size) < 0))
			r = -errno;
	}
	if (r == 0)
		r = place(o, c, fd, named);
	if (r < 0) {
		digest_hex(&c->key, hex);
		return err_errno(err, r, "complete object %s", hex);
	}
	if (c->chunks_n > 1)
		link_as_canonical(o, c);
	file_adopt(o, c, fd, named);
	return 0;
}

int file_adopt(struct objects *o, const struct content *c, int fd, bool named)
{
	auto_close int complete = file_open_complete(o, c);

	if (complete < 0)
		return complete;
	if (named)
		file_remove_partial(o, &c->key, false); /* gone if it is the complete one */
	/* In one step: readers that are under way go on with the number. */
	return dup3(complete, fd, O_CLOEXEC) < 0 ? -errno : 0;
}

/* --- whole contents --------------------------------------------------------------------------- */

int objects_write_whole(const struct objects *o, const struct digest *key, const void *data,
			size_t size, struct err *err)
{
	char path[OBJECT_PATH_SIZE];
	auto_close int fd = -1;
	int64_t bytes;
	int r;

	object_path(key, path);
	if (faccessat(o->objects_fd, path, F_OK, 0) == 0)
		return 0;
	fd = openat(o->partial_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, MODE_FRESH);
	if (fd < 0)
		return err_errno(err, -errno, "create object %s", path + 3);
	r = file_pwrite_all(fd, data, size, 0);
	bytes = r == 0 ? file_disk_bytes(fd) : 0;
	if (r == 0)
		r = link_fd(fd, o->objects_fd, path);
	if (r == 0)
		count_add(o, key, bytes, 1);
	return r == 0 || r == -EEXIST ? 0 : err_errno(err, r, "write object %s", path + 3);
}

/* --- directories ------------------------------------------------------------------------------ */

int dir_walk(int dir_fd, const char *name, int (*fn)(void *arg, int fd, const struct digest *key),
	     void *arg)
{
	auto_closedir DIR *d = NULL;
	struct digest key;
	struct dirent *e;
	int fd = openat(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC), r = 0;

	if (fd < 0)
		return -errno;
	d = fdopendir(fd);
	if (!d) {
		close(fd);
		return -ENOMEM;
	}
	while (r == 0 && (e = readdir(d))) {
		if (digest_parse_hex(str_of(e->d_name), &key) == 0)
			r = fn(arg, fd, &key);
	}
	return r;
}
