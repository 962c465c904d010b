// SPDX-License-Identifier: Apache-2.0
/* Start and end of the object store, and the tasks that it has in the background. */
#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "loop/work.h"
#include "store/objects_impl.h"

#include "base/banned.h"

void chore_kick(struct chore *c)
{
	/* Without a task now, the next one who asks gets it. */
	if (!c->running && scope_spawn(&c->o->scope, c->fn, c->o, NULL) == 0)
		c->running = true;
}

/* --- directories ------------------------------------------------------------------------------ */

struct start {
	struct objects *o;
	uint64_t boot; /* of the last run; 0 = none */
	struct err *err;
};

static int open_dir(int root_fd, const char *path, int *ret_fd, struct err *err)
{
	if (mkdirat(root_fd, path, 0700) < 0 && errno != EEXIST)
		return err_errno(err, -errno, "create %s", path);
	*ret_fd = openat(root_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	return *ret_fd < 0 ? err_errno(err, -errno, "open %s", path) : 0;
}

static int dirs_job(void *arg)
{
	struct start *s = arg;
	struct objects *o = s->o;
	int root = o->options.root_fd;
	auto_close int probe = -1;
	char name[8];
	int r = open_dir(root, "objects", &o->objects_fd, s->err);

	if (r == 0)
		r = open_dir(root, "partial", &o->partial_fd, s->err);
	if (r == 0)
		r = open_dir(root, "partial/verify", &o->verify_fd, s->err);
	for (unsigned i = 0; i < 256 && r == 0; i++) {
		snprintf(name, sizeof(name), "%02x", i);
		if (mkdirat(o->objects_fd, name, 0700) < 0 && errno != EEXIST)
			r = err_errno(s->err, -errno, "create objects/%s", name);
	}
	if (r < 0)
		return r;
	if (access("/proc/self/fd", X_OK) < 0) /* files get their names through it */
		return err_errno(s->err, -errno, "/proc/self/fd");
	probe = openat(o->partial_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0400);
	return probe < 0 ? err_errno(s->err, -errno, "create a file without a name in partial/")
			 : 0;
}

/* --- what the last run has left --------------------------------------------------------------- */

static int get_u64(struct kv *kv, const char *name, uint64_t *value, struct err *err)
{
	auto_buf struct buf b = BUF_INIT;
	int r = kv_get(kv, KV_DEFAULT, str_of(name), &b, err);

	if (r == -ENOENT)
		return 0; /* value stays */
	if (r < 0)
		return r;
	if (b.len != sizeof(*value))
		return err_set(err, -EBADMSG, "damaged record %s", name);
	memcpy(value, b.data, sizeof(*value));
	*value = le64toh(*value);
	return 0;
}

static int state_job(struct kv *kv, void *arg)
{
	struct start *s = arg;

	return get_u64(kv, FORMAT_KEY_OBJECTS_BOOT, &s->boot, s->err);
}

static int aside_job(void *arg)
{
	struct start *s = arg;

	return recovery_set_aside(s->o, s->err);
}

static int count_job(void *arg)
{
	return count_partial(arg);
}

may_suspend static int note_boot(struct objects *o, struct err *err)
{
	uint64_t boot = htole64(o->options.boot);
	struct meta_change c = {
		.changes = {{.space = KV_DEFAULT,
			     .key = STR(FORMAT_KEY_OBJECTS_BOOT),
			     .value = {(const char *)&boot, sizeof(boot)}}},
		.n = 1,
	};

	return meta_commit(o->meta, &c, err);
}

may_suspend static int start(struct objects *o, struct err *err)
{
	struct start s = {.o = o, .boot = ~o->options.boot, .err = err};
	int r = work_run(o->threads, dirs_job, &s);

	if (r == 0)
		r = meta_read(o->meta, state_job, &s);
	if (r == 0 && s.boot != o->options.boot) {
		r = work_run(o->threads, aside_job, &s);
		if (r == 0)
			r = note_boot(o, err);
	}
	if (r == 0) {
		r = work_run(o->threads, count_job, o);
		if (r < 0)
			err_errno(err, r, "look into partial/");
	}
	return r;
}

/* --- life ------------------------------------------------------------------------------------- */

may_suspend static int start_task(void *arg)
{
	struct objects *o = arg;

	recovery_verify(o);
	walk_all(o);
	o->start.running = false;
	return 0;
}

static void close_dir(int fd)
{
	if (fd >= 0)
		close(fd);
}

static void objects_fini(struct objects *o)
{
	require(!o->entries_n);
	for (size_t i = 0; i < o->closing.len / sizeof(int); i++)
		close(((int *)(void *)o->closing.data)[i]);
	map_fini(&o->by_number);
	map_fini(&o->by_key);
	buf_fini(&o->undurable);
	buf_fini(&o->doomed);
	buf_fini(&o->closing);
	close_dir(o->objects_fd);
	close_dir(o->partial_fd);
	close_dir(o->verify_fd);
	free(o->counts);
	free(o);
}

static struct objects *objects_alloc(struct loop *loop)
{
	struct objects *o = calloc(1, sizeof(*o));

	if (!o)
		return NULL;
	o->loop = loop;
	o->objects_fd = o->partial_fd = o->verify_fd = -1;
	o->counts = calloc(1, sizeof(*o->counts));
	list_init(&o->idle);
	mutex_init(&o->changing);
	waitq_init(&o->evicted);
	scope_init(&o->scope, loop);
	o->start = (struct chore){o, start_task, false};
	o->sync = (struct chore){o, sync_task, false};
	o->reap = (struct chore){o, reap_task, false};
	o->evict = (struct chore){o, evict_task, false};
	if (!o->counts || map_init(&o->by_number) < 0 || map_init(&o->by_key) < 0) {
		scope_fini(&o->scope);
		objects_fini(o);
		return NULL;
	}
	return o;
}

may_suspend int objects_new(struct loop *loop, struct meta *meta, struct work *threads,
			    const struct objects_options *options, struct objects **ret,
			    struct err *err)
{
	struct objects *o = objects_alloc(loop);
	int r;

	if (!o)
		return err_set(err, -ENOMEM, "out of memory");
	o->meta = meta;
	o->threads = threads;
	o->options = *options;
	r = start(o, err);
	if (r < 0) {
		scope_fini(&o->scope);
		objects_fini(o);
		return r == -EAGAIN ? err_errno(err, r, "start the object store") : r;
	}
	chore_kick(&o->start);
	*ret = o;
	return 0;
}

may_suspend void objects_free(struct objects *o)
{
	if (!o)
		return;
	scope_cancel(&o->scope);
	scope_wait(&o->scope);
	while (!list_empty(&o->idle))
		entry_drop(o, container_of(o->idle.next, struct entry, idle_link));
	scope_fini(&o->scope);
	objects_fini(o);
}
