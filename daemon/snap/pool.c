// SPDX-License-Identifier: Apache-2.0
/*
 * Directories are used again. A removed snapshot's ROOT/trash/ID, emptied, becomes ROOT/pool/ID and
 * later, by one rename, the directory of a new snapshot. It is used only after a syncfs() has made
 * its emptiness durable: after a power cut no snapshot may show another one's files. What is not
 * just as mkdir would make it is not used again.
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
#include "fs/tree.h"
#include "snap/tree.h"

#include "base/banned.h"

/* --- the ring, on the loop thread ------------------------------------------------------------- */

uint64_t pool_take(struct snaps *s)
{
	struct pool *p = &s->pool;
	uint64_t id;

	if (!p->n || !syncfs_covers(&s->sync, p->dirs[p->first].mark))
		return 0;
	id = p->dirs[p->first].id;
	p->first = (p->first + 1) % DIR_POOL_MAX;
	p->n--;
	return id;
}

void pool_put(struct snaps *s, uint64_t id)
{
	struct pool *p = &s->pool;
	size_t last = (p->first + p->n) % DIR_POOL_MAX;

	require(p->n < DIR_POOL_MAX);
	p->dirs[last].id = id;
	p->dirs[last].mark = syncfs_mark(&s->sync);
	p->n++;
	waitq_wake_all(&s->pool_filled);
}

static bool all_durable(const struct snaps *s)
{
	const struct pool *p = &s->pool;

	return !p->n || syncfs_covers(&s->sync, p->dirs[(p->first + p->n - 1) % DIR_POOL_MAX].mark);
}

may_suspend static int pool_task(void *arg)
{
	struct snaps *s = arg;
	struct err err = ERR_INIT;
	int r = 0;

	while (r != -ECANCELED) {
		if (all_durable(s)) {
			r = waitq_wait(&s->pool_filled);
			continue; /* a commit may do it meanwhile */
		}
		r = task_sleep_ms(DIR_POOL_SYNC_MS);
		if (r == 0 && !all_durable(s) && syncfs_run(&s->sync, &err) < 0)
			log_warn("pool error=\"%s\"", err.text);
	}
	return 0;
}

int pool_start(struct snaps *s, struct err *err)
{
	struct fsxattr flags;
	int r = ioctl(s->pool.fd, FS_IOC_FSGETXATTR, &flags);

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

/* --- cleaning, on the reaper's threads -------------------------------------------------------- */

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

/* name/sub in dirfd: an empty directory of our own with that mode. */
static bool clean(const struct snaps *s, int dirfd, const char *name, const char *sub, mode_t mode)
{
	auto_close int dir = -1;
	struct stat st;
	char path[64];

	snprintf(path, sizeof(path), "%s/%s", name, sub);
	dir = openat(dirfd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (dir < 0 || (!is_empty(dir) && tree_empty(dirfd, path, NULL) < 0))
		return false;
	if (fstat(dir, &st) < 0 || st.st_size > DIR_POOL_DIR_BYTES ||
	    flistxattr(dir, NULL, 0) != 0 || !plain_flags(s, dir))
		return false;
	if ((st.st_uid != s->pool.uid || st.st_gid != s->pool.gid) &&
	    fchown(dir, s->pool.uid, s->pool.gid) < 0)
		return false;
	return (st.st_mode & 07777) == mode || fchmod(dir, mode) == 0;
}

bool pool_clean(struct snaps *s, int dirfd, const char *name)
{
	return clean(s, dirfd, name, "fs", 0755) && clean(s, dirfd, name, "work", 0711) &&
	       (dirfd == s->pool.fd || renameat(dirfd, name, s->pool.fd, name) == 0);
}
