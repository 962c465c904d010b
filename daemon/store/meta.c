// SPDX-License-Identifier: Apache-2.0
/*
 * Group commit and reads. Owns the database and its threads: one writes, two read. A change waits
 * in `pending` in its task's frame; the flusher, a task that lives while there is work, takes them
 * all.
 */
#include "store/meta.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "loop/loop.h"
#include "loop/scope.h"

#include "base/banned.h"

#define READ_THREADS 2

struct meta {
	struct loop *loop;
	struct kv *kv;
	int tree_fd;
	struct work *writer, *readers;
	struct scope scope;
	struct list pending; /* waiting.link */
	bool flushing;
	bool failed, restart;
};

struct waiting {
	struct list link;
	const struct meta_change *change;
	struct err *err;
	struct waitq done;
	int result;
	bool ended;
};

struct group {
	struct meta *meta;
	struct waiting *members[COMMIT_GROUP_MAX];
	size_t n;
	struct err err;
	bool disk_works; /* after a failure */
};

/* --- the write, on the writer's thread -------------------------------------------------------- */

/* A database that failed stays so until the next start, which is of use only when the disk works.
 */
static bool disk_works(int tree_fd)
{
	static const char probe[65536];
	auto_close int fd = openat(tree_fd, ".", O_TMPFILE | O_WRONLY | O_CLOEXEC, 0600);

	return fd >= 0 && write(fd, probe, sizeof(probe)) == (ssize_t)sizeof(probe) &&
	       fsync(fd) == 0;
}

/* Those that have not failed for themselves. */
static void fail_members(struct group *g, int code, const char *what)
{
	for (size_t i = 0; i < g->n; i++) {
		if (g->members[i]->result == 0)
			g->members[i]->result = err_errno(g->members[i]->err, code, "%s", what);
	}
}

/* Answers how many changes there are then. */
static size_t run_before(struct group *g)
{
	size_t n = 0;

	for (size_t i = 0; i < g->n; i++) {
		const struct meta_change *c = g->members[i]->change;

		g->members[i]->result = c->before ? c->before(c->arg) : 0;
		n += c->n + c->more_n;
	}
	return n;
}

static void run_after(struct group *g)
{
	for (size_t i = 0; i < g->n; i++) {
		const struct meta_change *c = g->members[i]->change;

		if (c->after && g->members[i]->result == 0)
			c->after(c->arg);
	}
}

static int write_group(void *arg)
{
	struct group *g = arg;
	struct meta *m = g->meta;
	struct kv_change *all;
	size_t n = 0, max;
	int r;

	for (size_t i = 0; i < g->n; i++)
		g->members[i]->result = 0;
	if (m->failed) {
		g->disk_works = disk_works(m->tree_fd);
		fail_members(g, -EIO, "the database failed and waits for a restart");
		return 0;
	}
	max = run_before(g);
	all = reallocarray(NULL, max + 1, sizeof(*all));
	if (!all) {
		fail_members(g, -ENOMEM, "group commit");
		return 0;
	}
	for (size_t i = 0; i < g->n; i++) {
		const struct meta_change *c = g->members[i]->change;

		for (size_t j = 0; j < c->n && g->members[i]->result == 0; j++)
			all[n++] = c->changes[j];
		for (size_t j = 0; j < c->more_n && g->members[i]->result == 0; j++)
			all[n++] = c->more[j];
	}
	r = n ? kv_commit(m->kv, all, n, &g->err) : 0;
	free(all);
	if (r < 0) {
		fail_members(g, r, g->err.text);
		g->disk_works = disk_works(m->tree_fd);
		return r;
	}
	run_after(g);
	return 0;
}

/* --- the flusher ------------------------------------------------------------------------------ */

static void group_fill(struct group *g)
{
	struct list *l;

	g->n = 0;
	while (g->n < COMMIT_GROUP_MAX && (l = list_pop(&g->meta->pending))) {
		g->members[g->n] = container_of(l, struct waiting, link);
		g->members[g->n++]->result = -EAGAIN; /* until the write has begun */
	}
}

may_suspend static void flush_once(struct meta *m, struct group *g)
{
	int r;

	g->meta = m;
	g->err = ERR_INIT;
	group_fill(g);
	r = work_run(m->writer, write_group, g);
	if (r < 0 && !m->failed) {
		m->failed = true;
		log_error("store failed error=\"%s\"", err_text(&g->err, r));
	}
	if (m->failed && g->disk_works)
		m->restart = true;
	for (size_t i = 0; i < g->n; i++) {
		struct waiting *w = g->members[i];

		w->ended = true;
		waitq_wake_all(&w->done);
	}
}

may_suspend static int flusher(void *arg)
{
	struct meta *m = arg;
	struct group *g = malloc(sizeof(*g)); /* too large for a task's stack */

	require(g);
	task_yield(); /* the rest of this turn's changes */
	while (!list_empty(&m->pending)) {
		flush_once(m, g);
		task_yield(); /* those just woken may have more */
	}
	free(g);
	m->flushing = false;
	return 0;
}

may_suspend int meta_commit(struct meta *m, const struct meta_change *c, struct err *err)
{
	struct waiting w = {.change = c, .err = err};
	int r;

	require(c->n <= META_CHANGES_MAX);
	if (!m->flushing) {
		r = scope_spawn(&m->scope, flusher, m, NULL);
		if (r < 0)
			return err_errno(err, r, "start the group commit");
		m->flushing = true;
	}
	waitq_init(&w.done);
	list_push(&m->pending, &w.link);
	while (!w.ended)
		waitq_wait_always(&w.done);
	return w.result;
}

bool meta_wants_restart(const struct meta *m)
{
	return m->restart;
}

/* --- reads ------------------------------------------------------------------------------------ */

struct get {
	struct meta *meta;
	struct str name;
	struct buf *value;
	struct err *err;
};

static int get_job(void *arg)
{
	struct get *g = arg;

	return kv_get(g->meta->kv, KV_SNAPSHOTS, g->name, g->value, g->err);
}

may_suspend int meta_get(struct meta *m, struct str name, struct buf *ret_value, struct err *err)
{
	struct get g = {m, name, ret_value, err};

	return work_run(m->readers, get_job, &g);
}

struct read {
	struct kv *kv;
	int (*fn)(struct kv *kv, void *arg);
	void *arg;
};

static int read_job(void *arg)
{
	struct read *r = arg;

	return r->fn(r->kv, r->arg);
}

may_suspend int meta_read(struct meta *m, int (*fn)(struct kv *kv, void *arg), void *arg)
{
	struct read r = {m->kv, fn, arg};

	return work_run(m->readers, read_job, &r);
}

struct kv *meta_kv(const struct meta *m)
{
	return m->kv;
}

struct meta_walk {
	struct meta *meta;
	struct kv_iter *it;
	struct buf bytes;
	struct meta_entry entries[LIST_BLOCK];
	size_t offsets[LIST_BLOCK];
	struct err *err;
};

static int walk_open_job(void *arg)
{
	struct meta_walk *w = arg;

	return kv_iter_new(w->meta->kv, KV_SNAPSHOTS, &w->it, w->err);
}

may_suspend int meta_walk_new(struct meta *m, struct meta_walk **ret_walk, struct err *err)
{
	struct meta_walk *w = calloc(1, sizeof(*w));
	int r;

	if (!w)
		return err_set(err, -ENOMEM, "out of memory");
	w->meta = m;
	w->err = err;
	r = work_run(m->readers, walk_open_job, w);
	if (r < 0) {
		free(w);
		return r;
	}
	*ret_walk = w;
	return 0;
}

static int walk_next_job(void *arg)
{
	struct meta_walk *w = arg;
	struct str key, value;
	int n = 0, r;

	w->bytes.len = 0;
	while (n < LIST_BLOCK) {
		r = kv_iter_next(w->it, &key, &value, w->err);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		w->offsets[n] = w->bytes.len;
		w->entries[n].name.len = key.len;
		w->entries[n++].value.len = value.len;
		if (buf_append(&w->bytes, key.p, key.len) < 0 ||
		    buf_append(&w->bytes, value.p, value.len) < 0)
			return err_set(w->err, -ENOMEM, "out of memory");
	}
	for (int i = 0; i < n; i++) {
		w->entries[i].name.p = (char *)w->bytes.data + w->offsets[i];
		w->entries[i].value.p = w->entries[i].name.p + w->entries[i].name.len;
	}
	return n;
}

may_suspend int meta_walk_next(struct meta_walk *w, const struct meta_entry **ret_entries,
			       struct err *err)
{
	int r;

	w->err = err;
	r = work_run(w->meta->readers, walk_next_job, w);
	if (r >= 0)
		*ret_entries = w->entries;
	return r;
}

static int walk_free_job(void *arg)
{
	struct meta_walk *w = arg;

	kv_iter_free(w->it);
	return 0;
}

may_suspend void meta_walk_free(struct meta_walk *w)
{
	if (!w)
		return;
	if (work_run(w->meta->readers, walk_free_job, w) < 0)
		walk_free_job(w); /* the queue is full: then here */
	buf_fini(&w->bytes);
	free(w);
}

/* --- life ------------------------------------------------------------------------------------- */

int meta_new(struct loop *loop, struct kv *kv, int tree_fd, struct meta **ret_meta, struct err *err)
{
	struct meta *m = calloc(1, sizeof(*m));
	int r = m ? 0 : err_set(err, -ENOMEM, "out of memory");

	if (r == 0) {
		m->loop = loop;
		m->kv = kv;
		m->tree_fd = tree_fd;
		scope_init(&m->scope, loop);
		list_init(&m->pending);
		r = work_new(loop, "store", 1, &m->writer, err);
	}
	if (r == 0)
		r = work_new(loop, "store-read", READ_THREADS, &m->readers, err);
	if (r < 0) {
		if (m)
			work_free(m->writer);
		free(m);
		kv_close(kv);
		close(tree_fd);
		return r;
	}
	*ret_meta = m;
	return 0;
}

may_suspend void meta_free(struct meta *m)
{
	if (!m)
		return;
	scope_wait(&m->scope);
	work_free(m->writer);
	work_free(m->readers);
	scope_fini(&m->scope);
	kv_close(m->kv);
	close(m->tree_fd);
	free(m);
}
