// SPDX-License-Identifier: Apache-2.0
/* The directories of snapshots: ROOT/snapshots/ID/{fs,work} and the way to the trash. fs threads.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/tree.h"
#include "snap/tree.h"

#include "base/banned.h"

#define PATH_BYTES 64

static int make(int fd, const char *path, mode_t mode, struct err *err)
{
	if (mkdirat(fd, path, mode) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "mkdir %s", path);
	return 0;
}

/* Owner of a new fs directory: the one that was asked for, else the parent's root's. */
static int own(const struct dirs_make *m, const char *path)
{
	char parent[PATH_BYTES];
	struct stat st = {.st_uid = m->uid, .st_gid = m->gid};

	if (!m->owned && !m->parent_id)
		return 0;
	if (!m->owned) {
		snprintf(parent, sizeof(parent), "%" PRIu64 "/fs", m->parent_id);
		if (fstatat(m->s->dir_fd, parent, &st, AT_SYMLINK_NOFOLLOW) < 0)
			return err_errno(m->err, errno == ENOENT ? -EBADMSG : -errno,
					 "stat the parent's directory %s", parent);
	}
	if (!st.st_uid && !st.st_gid) /* as it is made, and as the pool has it */
		return 0;
	if (fchownat(m->s->dir_fd, path, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(m->err, -errno, "chown %s", path);
	return 0;
}

/* As new. */
static int touch(const struct dirs_make *m, const char *fs)
{
	const struct timespec now[2] = {{.tv_nsec = UTIME_NOW}, {.tv_nsec = UTIME_NOW}};

	if (utimensat(m->s->dir_fd, fs, now, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(m->err, -errno, "set times of %s", fs);
	return 0;
}

static int make_new(const struct dirs_make *m, const char *path, const char *fs)
{
	char work[PATH_BYTES];
	int r = make(m->s->dir_fd, path, 0700, m->err);

	if (r == 0 && m->active) {
		snprintf(work, sizeof(work), "%" PRIu64 "/work", m->id);
		r = make(m->s->dir_fd, work, 0711, m->err);
	}
	if (r == 0 && mkdirat(m->s->dir_fd, fs, 0755) < 0)
		r = errno == EEXIST ? 1 : err_errno(m->err, -errno, "mkdir %s", fs);
	return r;
}

int dirs_repair(const struct dirs_make *m)
{
	char path[PATH_BYTES], fs[PATH_BYTES];
	int r;

	snprintf(path, sizeof(path), "%" PRIu64, m->id);
	snprintf(fs, sizeof(fs), "%" PRIu64 "/fs", m->id);
	r = m->reused ? touch(m, fs) : -ENOENT;
	if (r == -ENOENT)
		r = make_new(m, path, fs);
	if (r == 0)
		r = own(m, fs);
	return r < 0 ? r : 0;
}

int dirs_make_job(void *arg)
{
	const struct dirs_make *m = arg;
	int r = dirs_repair(m);

	if (r < 0)
		dirs_trash_now(m->s, m->id, NULL);
	return r;
}

int dirs_trash_now(struct snaps *s, uint64_t id, struct err *err)
{
	char name[PATH_BYTES];

	snprintf(name, sizeof(name), "%" PRIu64, id);
	if (renameat(s->dir_fd, name, s->trash_fd, name) < 0 && errno != ENOENT)
		return err_errno(err, -errno, "move snapshot directory %s to the trash", name);
	return 0;
}

struct trash_job {
	struct snaps *s;
	uint64_t id;
	struct err *err;
};

static int trash_job(void *arg)
{
	struct trash_job *t = arg;

	return dirs_trash_now(t->s, t->id, t->err);
}

may_suspend int dirs_trash(struct snaps *s, uint64_t id, struct err *err)
{
	struct trash_job t = {s, id, err};
	int r = work_run(s->fs, trash_job, &t);

	trash_kick(s);
	return r;
}

static int volatile_job(void *arg)
{
	struct trash_job *t = arg;
	char path[PATH_BYTES];

	snprintf(path, sizeof(path), "%" PRIu64 "/work/work/incompat/volatile", t->id);
	return tree_remove(t->s->dir_fd, path, t->err); /* it holds a file, "dirty" */
}

may_suspend int dirs_clear_volatile(struct snaps *s, uint64_t id, struct err *err)
{
	struct trash_job t = {s, id, err};

	return work_run(s->fs, volatile_job, &t);
}
