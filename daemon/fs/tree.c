// SPDX-License-Identifier: Apache-2.0
/*
 * Walks over trees of files. Owns one frame a level while it runs: the names of the directories
 * that are still to be visited there, so that no descriptor stays open above the current one.
 */
#include "fs/tree.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/buf.h"

#include "base/banned.h"

struct level {
	struct level *up;
	dev_t dev;
	ino_t ino;
	struct buf names; /* sub-directories, each with its NUL */
	size_t next;      /* offset of the one to visit */
	char *name;       /* of this directory in the one above */
};

struct inode {
	dev_t dev;
	ino_t ino;
};

#define ENTRIES_BYTES 32768 /* read at once */

struct walk {
	int fd;      /* of the level that is being worked on */
	int root_fd; /* what the walk started from; the caller's */
	struct level *level;
	bool remove;
	const bool *stop;
	struct tree_usage usage;
	struct inode *linked; /* open addressing; ino 0 = free. Inodes of several names only */
	size_t linked_n, linked_size;
	char *entries; /* ENTRIES_BYTES */
	struct err *err;
};

/* --- inodes with several names ---------------------------------------------------------------- */

static size_t linked_slot(const struct inode *set, size_t size, const struct inode *i)
{
	size_t s = (size_t)((i->ino * 0x9E3779B97F4A7C15ull) ^ i->dev) & (size - 1);

	while (set[s].ino && (set[s].ino != i->ino || set[s].dev != i->dev))
		s = (s + 1) & (size - 1);
	return s;
}

static int linked_grow(struct walk *w)
{
	size_t size = w->linked_size ? w->linked_size * 2 : 256;
	struct inode *set = calloc(size, sizeof(*set));

	if (!set)
		return -ENOMEM;
	for (size_t i = 0; i < w->linked_size; i++) {
		if (w->linked[i].ino)
			set[linked_slot(set, size, &w->linked[i])] = w->linked[i];
	}
	free(w->linked);
	w->linked = set;
	w->linked_size = size;
	return 0;
}

/* 1 = seen for the first time, 0 = before, -ENOMEM. */
static int linked_add(struct walk *w, const struct stat *st)
{
	struct inode i = {st->st_dev, st->st_ino};
	size_t s;

	if (w->linked_n * 2 >= w->linked_size && linked_grow(w) < 0)
		return -ENOMEM;
	s = linked_slot(w->linked, w->linked_size, &i);
	if (w->linked[s].ino)
		return 0;
	w->linked[s] = i;
	w->linked_n++;
	return 1;
}

static int count(struct walk *w, const struct stat *st)
{
	int first = 1;

	if (!S_ISDIR(st->st_mode) && st->st_nlink > 1)
		first = linked_add(w, st);
	if (first < 0)
		return err_set(w->err, -ENOMEM, "out of memory");
	if (first) {
		w->usage.inodes++;
		w->usage.size += (int64_t)st->st_blocks * 512;
	}
	return 0;
}

/* --- levels ----------------------------------------------------------------------------------- */

static int entry(struct walk *w, const struct dirent64 *e)
{
	struct stat st;

	if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0)
		return 0;
	if (w->remove && e->d_type != DT_DIR) {
		if (unlinkat(w->fd, e->d_name, 0) == 0 || errno == ENOENT)
			return 0;
		if (errno != EISDIR && errno != EPERM)
			return err_errno(w->err, -errno, "unlink %s", e->d_name);
	}
	if (fstatat(w->fd, e->d_name, &st, AT_SYMLINK_NOFOLLOW) < 0)
		return errno == ENOENT ? 0 : err_errno(w->err, -errno, "stat %s", e->d_name);
	if (S_ISDIR(st.st_mode)) { /* counted when it is entered */
		if (buf_append(&w->level->names, e->d_name, strlen(e->d_name) + 1) < 0)
			return err_set(w->err, -ENOMEM, "out of memory");
		return 0;
	}
	if (w->remove)
		return err_set(w->err, -EPERM, "unlink %s: not permitted", e->d_name);
	return count(w, &st);
}

static int read_entries(struct walk *w)
{
	ssize_t n;
	int r;

	while ((n = getdents64(w->fd, w->entries, ENTRIES_BYTES)) > 0) {
		if (w->stop && __atomic_load_n(w->stop, __ATOMIC_RELAXED))
			return err_set(w->err, -ECANCELED, "cancelled");
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *e = (const void *)(w->entries + at);

			r = entry(w, e);
			if (r < 0)
				return r;
			at += e->d_reclen;
		}
	}
	return n < 0 && errno != ENOENT ? err_errno(w->err, -errno, "read directory") : 0;
}

/*
 * A removal stays on the mount that it began on: what somebody has mounted below a snapshot (a
 * shared mount propagates there by itself) is not ours to delete.
 */
static int open_sub(const struct walk *w, const char *name)
{
	struct open_how how = {.flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
			       .resolve = RESOLVE_NO_XDEV};
	int fd;

	if (w->remove && name[0] != '/') {
		fd = (int)syscall(SYS_openat2, w->fd, name, &how, sizeof(how));
		if (fd >= 0 || errno != ENOSYS) /* Linux 5.6 */
			return fd;
	}
	return openat(w->fd, name, (int)how.flags);
}

/* Enters name below the current directory. 0 also when it is gone. */
static int enter(struct walk *w, const char *name)
{
	int fd = open_sub(w, name), r;
	struct level *l;
	struct stat st;

	if (fd < 0)
		return errno == ENOENT || errno == ENOTDIR
			       ? 0
			       : err_errno(w->err, -errno, "open %s", name);
	l = calloc(1, sizeof(*l));
	r = !l || !(l->name = strdup(name)) ? -ENOMEM : fstat(fd, &st) < 0 ? -errno : 0;
	if (r < 0) {
		if (l)
			free(l->name);
		free(l);
		close(fd);
		return err_errno(w->err, r, "stat %s", name);
	}
	l->up = w->level;
	l->dev = st.st_dev;
	l->ino = st.st_ino;
	w->level = l;
	if (l->up)
		close(w->fd);
	w->fd = fd;
	if (!w->remove)
		count(w, &st);
	return read_entries(w);
}

static void level_pop(struct walk *w)
{
	struct level *l = w->level;

	w->level = l->up;
	buf_fini(&l->names);
	free(l->name);
	free(l);
}

static int leave(struct walk *w)
{
	struct level *up = w->level->up;
	struct stat st;
	int fd = up ? openat(w->fd, "..", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : w->root_fd;

	if (up && fd < 0)
		return err_errno(w->err, -errno, "open ..");
	close(w->fd);
	w->fd = fd;
	if (up && (fstat(fd, &st) < 0 || st.st_dev != up->dev || st.st_ino != up->ino))
		return err_set(w->err, -EAGAIN, "a directory was moved meanwhile");
	if (w->remove && unlinkat(fd, w->level->name, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_errno(w->err, -errno, "rmdir %s", w->level->name);
	level_pop(w);
	return 0;
}

static int walk_run(struct walk *w, int dirfd, const char *name)
{
	const char *sub;
	int r;

	w->entries = malloc(ENTRIES_BYTES);
	if (!w->entries)
		return err_set(w->err, -ENOMEM, "out of memory");
	w->fd = w->root_fd = dirfd;
	r = enter(w, name);
	while (r == 0 && w->level) {
		if (w->level->next < w->level->names.len) {
			sub = (char *)w->level->names.data + w->level->next;
			w->level->next += strlen(sub) + 1;
			r = enter(w, sub);
		} else {
			r = leave(w);
		}
	}
	while (w->level)
		level_pop(w);
	if (w->fd != dirfd)
		close(w->fd);
	free(w->entries);
	free(w->linked);
	return r;
}

int tree_usage(int dirfd, const char *name, const bool *stop, struct tree_usage *ret,
	       struct err *err)
{
	struct walk w = {.stop = stop, .err = err};
	int r = walk_run(&w, dirfd, name);

	if (r == 0 && w.usage.inodes == 0)
		return err_set(err, -ENOENT, "no directory %s", name);
	if (r == 0)
		*ret = w.usage;
	return r;
}

int tree_remove(int dirfd, const char *name, struct err *err)
{
	struct walk w = {.remove = true, .err = err};

	if (unlinkat(dirfd, name, 0) == 0 || errno == ENOENT)
		return 0;
	return walk_run(&w, dirfd, name);
}
