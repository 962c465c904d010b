// SPDX-License-Identifier: Apache-2.0
/*
 * Runs of lazy layers: each has one metadata image, ROOT/meta/ID.erofs, mounted at ROOT/m/ID while
 * somebody's mounts name it; ID is that of the run's topmost snapshot. An overlay holds what it was
 * mounted with, so that unmounting too early would cost a second mount and no data. The images are
 * made from the layers' indexes and can be made again.
 *
 * When all of a run is here it gets a full image, ROOT/meta/ID.full, which the next mount takes:
 * that holds the bytes of small files, so that none of them costs a second inode and a place on the
 * disk of its own. Loop thread; the work runs on fs threads.
 */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "fs/erofs.h"
#include "fs/mount.h"
#include "image/layer.h"
#include "image/merge.h"
#include "snap/small.h"
#include "snap/tree.h"

#include "base/banned.h"

#define NAME_BYTES 48

/* --- on a thread ------------------------------------------------------------------------------ */

struct run_job {
	struct snaps *s;
	uint64_t id;
	int *fds; /* of the layers' indexes, bottom first; NULL: the image is there */
	size_t n;
	bool below; /* something lies below the run */
	bool full;  /* the image holds small files */
	uint8_t uuid[16];
	struct err *err;
};

static int add_small(const struct run_job *job, struct merge_inode *root, struct arena *bytes)
{
	char path[4096];
	int r;

	snprintf(path, sizeof(path), "%s/objects", job->s->options.root);
	auto_close int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return err_errno(job->err, -errno, "open %s", path);
	r = small_contents(root, fd, bytes);
	return r < 0 ? err_errno(job->err, r, "small files") : 0;
}

static int write_image(const struct run_job *job, struct index *const *layers, int fd)
{
	struct merge_tree *tree = NULL;
	auto_arena struct arena bytes;
	struct erofs_stat st;
	int r = merge_layers(layers, job->n, job->below, &tree, job->err);

	arena_init(&bytes, SMALL_BYTES_MAX);
	if (r == 0 && job->full)
		r = add_small(job, merge_root(tree), &bytes);
	if (r == 0)
		r = erofs_write(tree, job->uuid, fd, &st, job->err);
	merge_free(tree);
	if (r == 0 && fsync(fd) < 0)
		r = err_errno(job->err, -errno, "sync a metadata image");
	return r;
}

static int load_and_write(const struct run_job *job, int fd)
{
	struct index **layers = calloc(job->n, sizeof(*layers));
	int r = layers ? 0 : err_set(job->err, -ENOMEM, "out of memory");

	for (size_t i = 0; r == 0 && i < job->n; i++)
		r = index_load(job->fds[i], &layers[i], job->err);
	if (r == 0)
		r = write_image(job, layers, fd);
	for (size_t i = 0; layers && i < job->n; i++)
		index_free(layers[i]);
	free(layers);
	return r;
}

static void image_name(uint64_t id, bool full, char ret[NAME_BYTES])
{
	snprintf(ret, NAME_BYTES, "%" PRIu64 ".%s", id, full ? "full" : "erofs");
}

static int make_image(const struct run_job *job)
{
	char name[NAME_BYTES], tmp[NAME_BYTES + 4];
	int r;

	image_name(job->id, job->full, name);
	snprintf(tmp, sizeof(tmp), "%s.new", name);
	auto_close int fd =
		openat(job->s->meta_fd, tmp, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return err_errno(job->err, -errno, "make %s", tmp);
	r = load_and_write(job, fd);
	if (r == 0 && renameat(job->s->meta_fd, tmp, job->s->meta_fd, name) < 0)
		r = err_errno(job->err, -errno, "rename %s", tmp);
	if (r == 0 && fsync(job->s->meta_fd) < 0)
		r = err_errno(job->err, -errno, "sync meta/");
	if (r < 0)
		unlinkat(job->s->meta_fd, tmp, 0);
	return r;
}

static void mount_dir(const struct snaps *s, uint64_t id, char ret[4096])
{
	snprintf(ret, 4096, "%s/m/%" PRIu64, s->options.root, id);
}

static int mount_job(void *arg)
{
	struct run_job *job = arg;
	char name[NAME_BYTES], image[4096], dir[4096];
	int r = 0;

	image_name(job->id, job->full, name);
	snprintf(image, sizeof(image), "%s/meta/%s", job->s->options.root, name);
	mount_dir(job->s, job->id, dir);
	if (mkdir(dir, 0700) < 0 && errno != EEXIST)
		return err_errno(job->err, -errno, "mkdir %s", dir);
	if (mount_is_mounted(dir) == 1)
		return 0;
	r = job->fds ? make_image(job) : erofs_whole(image, job->err);
	if (r == 0)
		r = mount_erofs(image, dir, job->s->options.lazy.erofs_file, job->err);
	return r;
}

static int unmount_job(void *arg)
{
	struct run_job *job = arg;
	char dir[4096];

	mount_dir(job->s, job->id, dir);
	while (mount_is_mounted(dir) == 1 && mount_detach(dir, NULL) == 0)
		;
	rmdir(dir);
	return 0;
}

static int forget_job(void *arg)
{
	struct run_job *job = arg;
	int r = 0;

	unmount_job(arg);
	for (int full = 0; full < 2; full++) {
		char name[NAME_BYTES];

		image_name(job->id, full, name);
		if (unlinkat(job->s->meta_fd, name, 0) < 0 && errno != ENOENT)
			r = -errno;
	}
	return r;
}

static int full_job(void *arg)
{
	return make_image(arg);
}

/* --- making and mounting ---------------------------------------------------------------------- */

static size_t run_length(const struct snap *top)
{
	size_t n = 0;

	for (const struct snap *p = top; p && p->layer; p = p->parent)
		n++;
	return n;
}

/* The same layers give the same image. */
static void run_uuid(struct run_job *job, const struct digest *ids)
{
	struct digest d;

	sha256(ids, 2 * job->n * sizeof(*ids), &d);
	memcpy(job->uuid, d.bytes, sizeof(job->uuid));
	job->uuid[0] ^= (uint8_t)(job->below | job->full << 1);
	job->uuid[15] |= 1; /* not all zero */
}

static void job_fini(struct run_job *job)
{
	for (size_t i = 0; job->fds && i < job->n; i++) {
		if (job->fds[i] >= 0)
			close(job->fds[i]);
	}
	free(job->fds);
}

/* What making the image of top needs. */
static int job_init(struct run_job *job, struct snaps *s, const struct snap *top, struct err *err)
{
	struct layers *layers = s->options.lazy.layers;
	const struct snap *p = top;
	struct digest *ids;

	job->n = run_length(top);
	require(job->n); /* a run has a layer */
	job->fds = calloc(job->n, sizeof(*job->fds));
	ids = calloc(job->n, 2 * sizeof(*ids));
	for (size_t i = 0; job->fds && i < job->n; i++)
		job->fds[i] = -1;
	if (!job->fds || !ids) {
		free(ids);
		return err_set(err, -ENOMEM, "out of memory");
	}
	for (size_t i = job->n; i-- > 0; p = p->parent) {
		struct layer *l = layers_get(layers, p->layer);
		int fd = l ? layer_fd(layers, l, err)
			   : err_set(err, -EBADMSG, "layer %" PRIu32 " is gone", p->layer);

		if (fd >= 0)
			fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
		if (fd < 0) {
			free(ids);
			return fd == -1 ? err_errno(err, -errno, "dup") : fd;
		}
		job->fds[i] = fd;
		ids[2 * i] = l->blob;
		ids[2 * i + 1] = l->trust;
	}
	job->below = p != NULL;
	run_uuid(job, ids);
	free(ids);
	return 0;
}

bool run_complete(const struct snaps *s, const struct snap *top, uint32_t layer)
{
	bool has = !layer;

	for (const struct snap *p = top; p && p->layer; p = p->parent) {
		const struct layer *l = layers_get(s->options.lazy.layers, p->layer);

		if (!l || !l->complete)
			return false;
		has = has || p->layer == layer;
	}
	return has;
}

/* The image that is there. One that cannot be mounted is made again. -ENOENT */
may_suspend static int mount_present(struct run_job *job, bool full)
{
	char name[NAME_BYTES];
	int r;

	image_name(job->id, full, name);
	if (faccessat(job->s->meta_fd, name, F_OK, 0) < 0)
		return -ENOENT;
	job->full = full;
	r = work_run(job->s->fs, mount_job, job);
	job->full = false;
	if (r == 0 || r == -ECANCELED)
		return r;
	log_warn("metadata image %s is made again error=\"%s\"", name, err_text(job->err, r));
	unlinkat(job->s->meta_fd, name, 0);
	return r;
}

may_suspend static int run_mount(struct snaps *s, struct snap *top, struct err *err)
{
	struct run_job job = {.s = s, .id = top->id, .err = err};
	struct run *run = top->run;
	int r = -ENOENT;

	while (run->state == RUN_WORKING) {
		if (waitq_wait(&s->runs_changed) < 0)
			return err_set(err, -ECANCELED, "cancelled");
	}
	if (run->state == RUN_MOUNTED)
		return 0;
	run->state = RUN_WORKING;
	for (int full = 1; full >= 0 && r < 0; full--)
		r = mount_present(&job, full);
	if (r < 0) {
		job.full = !run->filling && run_complete(s, top, 0);
		run->filling = run->filling || job.full;
		r = job_init(&job, s, top, err);
		if (r == 0)
			r = work_run(s->fs, mount_job, &job);
		job_fini(&job);
		if (job.full)
			run->filling = false;
	}
	run->state = r < 0 ? RUN_UNKNOWN : RUN_MOUNTED;
	s->runs_n += r == 0;
	waitq_wake_all(&s->runs_changed);
	if (r == 0 && run_complete(s, top, 0))
		run_fill(s, top);
	return r < 0 ? err_wrap(err, r, "metadata image") : 0;
}

/* --- counting --------------------------------------------------------------------------------- */

/* What a task of its own does with a run. */
struct later {
	struct snaps *s;
	struct str name; /* of the run's top: it may go meanwhile */
};

/* Did it start? */
static bool later_run(struct snaps *s, const struct snap *top, task_fn *fn)
{
	struct later *l = malloc(sizeof(*l) + snap_name(top).len);

	if (!l)
		return false;
	*l = (struct later){s, {(char *)(l + 1), snap_name(top).len}};
	memcpy(l + 1, snap_name(top).p, l->name.len);
	if (scope_spawn(&s->scope, fn, l, NULL) == 0)
		return true;
	free(l);
	return false;
}

/* After a while without users. */
may_suspend static int unmount_task(void *arg)
{
	struct later *u = arg;
	struct run_job job = {.s = u->s};
	struct snap *top = NULL;
	int r = task_sleep_ms(RUN_IDLE_MS);

	if (r == 0) /* it may just be going */
		r = snap_settled(u->s, u->name, &top, NULL);
	if (r == 0 && top && top->run) {
		top->run->idle = false;
		if (!top->run->users && top->run->state != RUN_WORKING) {
			u->s->runs_n -= top->run->state == RUN_MOUNTED;
			top->run->state = RUN_WORKING;
			job.id = top->id;
			top->state = SNAP_CHANGING; /* stays until we are done */
			work_run(u->s->fs, unmount_job, &job);
			top->run->state = RUN_UNKNOWN;
			snap_settle(u->s, top);
			waitq_wake_all(&u->s->runs_changed);
		}
	}
	free(u);
	return 0;
}

static void unmount_later(struct snaps *s, struct snap *top)
{
	if (!top->run->idle)
		top->run->idle = later_run(s, top, unmount_task);
}

static int hold(struct snap *sn)
{
	for (struct snap *p = sn->parent, *above = sn; p; above = p, p = p->parent) {
		if (run_top(above, p) && !p->run) {
			p->run = calloc(1, sizeof(*p->run));
			if (!p->run)
				return -ENOMEM;
		}
	}
	for (struct snap *p = sn->parent, *above = sn; p; above = p, p = p->parent) {
		if (run_top(above, p))
			p->run->users++;
	}
	sn->holds_runs = true;
	return 0;
}

may_suspend int runs_acquire(struct snaps *s, struct snap *sn, struct err *err)
{
	int r = 0;

	if (s->meta_fd < 0 || sn->broken) /* its parents may be a circle */
		return 0;
	if (!sn->holds_runs)
		r = hold(sn);
	if (r < 0)
		return err_set(err, r, "out of memory");
	for (struct snap *p = sn->parent, *above = sn; r == 0 && p; above = p, p = p->parent) {
		if (run_top(above, p) && !p->broken)
			r = run_mount(s, p, err);
	}
	return r;
}

void runs_release(struct snaps *s, struct snap *sn)
{
	if (!sn->holds_runs)
		return;
	sn->holds_runs = false;
	for (struct snap *p = sn->parent, *above = sn; p; above = p, p = p->parent) {
		if (run_top(above, p) && --p->run->users == 0)
			unmount_later(s, p);
	}
}

void runs_recount(struct snaps *s, struct snap *sn)
{
	if (s->meta_fd >= 0 && hold(sn) < 0)
		log_warn("out of memory: a mount may go too early");
}

/* --- full images ------------------------------------------------------------------------------ */

may_suspend static void make_full(struct snaps *s, struct str name, struct snap *top)
{
	struct err err = ERR_INIT;
	struct run_job job = {.s = s, .id = top->id, .full = true, .err = &err};
	char file[NAME_BYTES];
	int r = job_init(&job, s, top, &err);

	if (r == 0)
		r = work_run(s->fs, full_job, &job);
	job_fini(&job);
	if (r < 0)
		log_warn("full image id=%" PRIu64 " error=\"%s\"", job.id, err_text(&err, r));
	else
		log_info("full image id=%" PRIu64, job.id);
	top = snap_find(s, name);
	if (!top || top->id != job.id) { /* it has gone, and its images before this one */
		work_run(s->fs, forget_job, &job);
	} else if (r == 0 && top->run && top->run->state != RUN_WORKING) {
		image_name(job.id, false, file); /* nobody is about to mount it */
		unlinkat(s->meta_fd, file, 0);
	}
}

may_suspend static int filling_task(void *arg)
{
	struct later *fi = arg;
	struct snaps *s = fi->s;
	struct snap *top = NULL;
	int r = mutex_lock(&s->full);

	if (r == 0) {
		r = snap_settled(s, fi->name, &top, NULL);
		if (r == 0 && top && top->run && run_complete(s, top, 0))
			make_full(s, fi->name, top);
		mutex_unlock(&s->full);
	}
	top = snap_find(s, fi->name);
	if (top && top->run)
		top->run->filling = false;
	free(fi);
	return 0;
}

void run_fill(struct snaps *s, struct snap *top)
{
	char name[NAME_BYTES];

	image_name(top->id, true, name);
	if (top->run && !top->run->filling && faccessat(s->meta_fd, name, F_OK, 0) < 0)
		top->run->filling = later_run(s, top, filling_task);
}

void runs_complete(struct snaps *s, uint32_t layer)
{
	for (size_t i = 0; s->meta_fd >= 0 && i < s->map.size; i++) {
		for (struct map_node *n = s->map.slots[i]; n; n = n->next) {
			struct snap *sn = container_of(n, struct snap, node);

			if (!sn->layer || (!sn->run && sn->children) || !run_complete(s, sn, layer))
				continue;
			if (!sn->run) /* a container may come: it does not wait for it then */
				sn->run = calloc(1, sizeof(*sn->run));
			if (sn->run)
				run_fill(s, sn);
		}
	}
}

/* --- the end of a run ------------------------------------------------------------------------- */

may_suspend static int forget_task(void *arg)
{
	struct run_job *job = arg;

	work_run(job->s->fs, forget_job, job);
	free(job);
	return 0;
}

void runs_forget(struct snaps *s, struct snap *sn)
{
	struct run_job *job = s->meta_fd >= 0 ? calloc(1, sizeof(*job)) : NULL;

	if (!job)
		return; /* the next start finds it */
	*job = (struct run_job){.s = s, .id = sn->id};
	if (scope_spawn(&s->scope, forget_task, job, NULL) < 0)
		free(job);
}

/* --- the start -------------------------------------------------------------------------------- */

/* The lazy snapshot of that id; there are few directories to ask for. */
static struct snap *by_id(struct snaps *s, uint64_t id)
{
	for (size_t i = 0; i < s->map.size; i++) {
		for (struct map_node *n = s->map.slots[i]; n; n = n->next) {
			struct snap *sn = container_of(n, struct snap, node);

			if (sn->id == id && sn->layer)
				return sn;
		}
	}
	return NULL;
}

static void clean_one(struct snaps *s, const char *name)
{
	struct run_job job = {.s = s};
	struct snap *sn;
	size_t digits = strspn(name, "0123456789");

	if (str_u64((struct str){name, digits}, &job.id) < 0)
		return;
	sn = by_id(s, job.id);
	if (strcmp(name + digits, ".erofs.new") == 0 || strcmp(name + digits, ".full.new") == 0)
		unlinkat(s->meta_fd, name, 0);
	else if (!sn)
		forget_job(&job);
	else if (!sn->run || !sn->run->users)
		unmount_job(&job);
}

static void clean_dir(struct snaps *s, int dir_fd)
{
	auto_closedir DIR *d = NULL;
	struct dirent *e;
	int fd = openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	d = fd < 0 ? NULL : fdopendir(fd);
	while (d && (e = readdir(d))) {
		if (e->d_name[0] != '.')
			clean_one(s, e->d_name);
	}
}

void runs_clean(struct snaps *s)
{
	if (s->meta_fd < 0)
		return;
	clean_dir(s, s->m_fd);
	clean_dir(s, s->meta_fd);
}

static int open_dir(struct snaps *s, const char *name, int *ret_fd, struct err *err)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", s->options.root, name);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "mkdir %s", path);
	*ret_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return *ret_fd < 0 ? err_errno(err, -errno, "open %s", path) : 0;
}

int runs_init(struct snaps *s, struct err *err)
{
	int r = open_dir(s, "meta", &s->meta_fd, err);

	mutex_init(&s->full);
	return r < 0 ? r : open_dir(s, "m", &s->m_fd, err);
}
