// SPDX-License-Identifier: Apache-2.0
/*
 * Directories that nobody has used serve again, with their ids: those of a snapshot that was
 * prepared above others and removed without ever being mounted or a parent. A mount leaves
 * work/work behind, whoever made it, and a directory that a mount might still hold (leaked into
 * some other mount namespace) must never become another snapshot's. One is used only after a
 * syncfs() has made its emptiness durable: after a power cut no snapshot may show another one's
 * files.
 */
#include <dirent.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "base/log.h"
#include "snap/tree.h"

#include "base/banned.h"

/* --- the rings, on the loop thread ------------------------------------------------------------ */

static bool ring_put(struct id_ring *r, uint64_t id, uint64_t mark)
{
	size_t last = (r->first + r->n) % DIR_POOL_MAX;

	if (r->n == DIR_POOL_MAX)
		return false;
	r->ids[last].id = id;
	r->ids[last].mark = mark;
	r->n++;
	return true;
}

static uint64_t ring_take(struct id_ring *r)
{
	uint64_t id = r->ids[r->first].id;

	r->first = (r->first + 1) % DIR_POOL_MAX;
	r->n--;
	return id;
}

uint64_t pool_take(struct snaps *s)
{
	struct id_ring *r = &s->pool.ready;

	return r->n && syncfs_covers(&s->sync, r->ids[r->first].mark) ? ring_take(r) : 0;
}

bool pool_offer(struct snaps *s, uint64_t id)
{
	if (!ring_put(&s->pool.unused, id, 0))
		return false;
	trash_kick(s);
	return true;
}

void pool_drop(struct snaps *s)
{
	s->pool.drop = s->pool.unused.n || s->pool.ready.n;
	trash_kick(s);
}

uint64_t pool_next(struct snaps *s)
{
	struct pool *p = &s->pool;

	if (p->unused.n)
		return ring_take(&p->unused);
	return p->drop && p->ready.n ? ring_take(&p->ready) : 0;
}

void pool_put(struct snaps *s, uint64_t id)
{
	require(ring_put(&s->pool.ready, id, syncfs_mark(&s->sync)));
	waitq_wake_all(&s->pool.filled);
}

static bool all_durable(const struct snaps *s)
{
	const struct id_ring *r = &s->pool.ready;

	return !r->n || syncfs_covers(&s->sync, r->ids[(r->first + r->n - 1) % DIR_POOL_MAX].mark);
}

/* Makes them durable, and lets them go when no more come: an idle host keeps none. */
may_suspend static int pool_task(void *arg)
{
	struct snaps *s = arg;
	struct err err = ERR_INIT;
	int r = 0;

	while (r != -ECANCELED) {
		if (!s->pool.ready.n) {
			r = waitq_wait(&s->pool.filled);
		} else if (all_durable(s)) { /* a commit may have done it */
			r = waitq_wait_ms(&s->pool.filled, DIR_POOL_KEEP_MS);
			if (r == -ETIMEDOUT)
				pool_drop(s);
		} else {
			r = task_sleep_ms(DIR_POOL_SYNC_MS);
			if (r == 0 && !all_durable(s) && syncfs_run(&s->sync, &err) < 0)
				log_warn("pool error=\"%s\"", err.text);
		}
	}
	return 0;
}

int pool_start(struct snaps *s, struct err *err)
{
	struct fsxattr flags;
	int r = ioctl(s->dir_fd, FS_IOC_FSGETXATTR, &flags);

	s->pool.uid = geteuid();
	s->pool.gid = getegid();
	s->pool.has_flags = r == 0; /* a new directory has those of the one above */
	if (r == 0) {
		s->pool.xflags = flags.fsx_xflags;
		s->pool.projid = flags.fsx_projid;
	}
	r = scope_spawn(&s->scope, pool_task, s, NULL);

	return r < 0 ? err_errno(err, r, "start the directory pool") : 0;
}

/* --- looking, on the reaper's threads --------------------------------------------------------- */

static bool is_empty(int dir)
{
	char bytes[1024];
	ssize_t n;

	while ((n = getdents64(dir, bytes, sizeof(bytes))) > 0) {
		for (ssize_t at = 0; at < n;) {
			const struct dirent64 *e = (const void *)(bytes + at);

			at += e->d_reclen;
			if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
				return false;
		}
	}
	return n == 0;
}

/* Flags and quota project as those of a new directory? */
static bool plain_flags(const struct snaps *s, int dir)
{
	struct fsxattr now;

	if (!s->pool.has_flags) /* the file system knows none */
		return true;
	return ioctl(dir, FS_IOC_FSGETXATTR, &now) == 0 && now.fsx_xflags == s->pool.xflags &&
	       now.fsx_projid == s->pool.projid;
}

/* Is snapshots/ID/sub an empty directory of our own with that mode? */
static bool as_made(const struct snaps *s, uint64_t id, const char *sub, mode_t mode)
{
	auto_close int dir = -1;
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "%" PRIu64 "/%s", id, sub);
	dir = openat(s->dir_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return dir >= 0 && is_empty(dir) && fstat(dir, &st) == 0 &&
	       st.st_size <= DIR_POOL_DIR_BYTES && (st.st_mode & 07777) == mode &&
	       st.st_uid == s->pool.uid && st.st_gid == s->pool.gid &&
	       flistxattr(dir, NULL, 0) == 0 && plain_flags(s, dir);
}

bool pool_fit(const struct snaps *s, uint64_t id)
{
	return as_made(s, id, "fs", 0755) && as_made(s, id, "work", 0711);
}
