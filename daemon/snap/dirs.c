// SPDX-License-Identifier: Apache-2.0
/* The directories of snapshots: ROOT/snapshots/ID/{fs,work} and the way to the trash. fs threads.
 */
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
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
	if (fchownat(m->s->dir_fd, path, st.st_uid, st.st_gid, AT_SYMLINK_NOFOLLOW) < 0)
		return err_errno(m->err, -errno, "chown %s", path);
	return 0;
}

int dirs_make_job(void *arg)
{
	struct dirs_make *m = arg;
	char path[PATH_BYTES];
	int r;

	snprintf(path, sizeof(path), "%" PRIu64, m->id);
	r = make(m->s->dir_fd, path, 0700, m->err);
	if (r == 0 && m->active) {
		snprintf(path, sizeof(path), "%" PRIu64 "/work", m->id);
		r = make(m->s->dir_fd, path, 0711, m->err);
	}
	snprintf(path, sizeof(path), "%" PRIu64 "/fs", m->id);
	if (r == 0 && mkdirat(m->s->dir_fd, path, 0755) == 0)
		r = own(m, path);
	else if (r == 0 && errno != EEXIST)
		r = err_errno(m->err, -errno, "mkdir %s", path);
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
	if (unlinkat(t->s->dir_fd, path, AT_REMOVEDIR) < 0 && errno != ENOENT)
		return err_errno(t->err, -errno, "remove %s", path);
	return 0;
}

may_suspend int dirs_clear_volatile(struct snaps *s, uint64_t id, struct err *err)
{
	struct trash_job t = {s, id, err};

	return work_run(s->fs, volatile_job, &t);
}
