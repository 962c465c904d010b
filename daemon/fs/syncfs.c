// SPDX-License-Identifier: Apache-2.0
/* syncfs(2) for many. Owns its thread; a task lives while somebody waits. */
#include "fs/syncfs.h"

#include <string.h>
#include <unistd.h>

#include "base/banned.h"

struct asker {
	struct list link;
	struct waitq done;
	int result;
	bool ended;
};

static int sync_job(void *arg)
{
	const struct syncfs *s = arg;

	return syncfs(s->fd) < 0 ? -errno : 0;
}

may_suspend static int sync_task(void *arg)
{
	struct syncfs *s = arg;
	struct list batch, *l;
	int r;

	task_yield(); /* those of this turn too */
	while (!list_empty(&s->waiting)) {
		uint64_t number = ++s->begun;

		list_init(&batch);
		list_splice(&batch, &s->waiting);
		r = work_run(s->thread, sync_job, s);
		if (r == 0)
			s->ended = number;
		while ((l = list_pop(&batch))) {
			struct asker *a = container_of(l, struct asker, link);

			a->result = r;
			a->ended = true;
			waitq_wake_all(&a->done);
		}
		task_yield(); /* those just woken may have more */
	}
	s->running = false;
	return 0;
}

may_suspend int syncfs_run(struct syncfs *s, struct err *err)
{
	struct asker a = {0};
	int r;

	if (!s->running) {
		r = scope_spawn(&s->scope, sync_task, s, NULL);
		if (r < 0)
			return err_errno(err, r, "start syncfs");
		s->running = true;
	}
	waitq_init(&a.done);
	list_push(&s->waiting, &a.link);
	while (!a.ended)
		waitq_wait_always(&a.done);
	return a.result < 0 ? err_errno(err, a.result, "syncfs of the snapshots") : 0;
}

int syncfs_init(struct syncfs *s, struct loop *loop, int fd, struct err *err)
{
	int r;

	memset(s, 0, sizeof(*s));
	s->fd = fd;
	r = work_new(loop, "syncfs", 1, &s->thread, err);
	if (r < 0)
		return r;
	list_init(&s->waiting);
	scope_init(&s->scope, loop);
	return 0;
}

may_suspend void syncfs_fini(struct syncfs *s)
{
	if (!s->thread)
		return;
	scope_wait(&s->scope);
	scope_fini(&s->scope);
	work_free(s->thread);
	s->thread = NULL;
}
