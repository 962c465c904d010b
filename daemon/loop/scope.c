// SPDX-License-Identifier: Apache-2.0
/* Families of tasks. Owns no memory; the tasks' links are in the tasks. Loop thread only. */
#include "loop/scope.h"

#include <errno.h>

#include "base/err.h"
#include "loop/loop.h"

#include "base/banned.h"

void scope_init(struct scope *s, struct loop *loop)
{
	*s = (struct scope){.loop = loop};
	list_init(&s->tasks);
	waitq_init(&s->empty);
}

int scope_spawn(struct scope *s, task_fn *fn, void *arg, struct task **ret_task)
{
	struct task *t;
	int r;

	if (s->cancelled)
		return -ECANCELED;
	r = task_spawn(s->loop, s, fn, arg, &t);
	if (r < 0)
		return r;
	list_push(&s->tasks, task_scope_link(t));
	s->count++;
	task_wake(t);
	if (ret_task)
		*ret_task = t;
	return 0;
}

void scope_left(struct scope *s, struct list *task_link)
{
	list_del(task_link);
	if (--s->count == 0)
		waitq_wake_all(&s->empty);
}

void scope_cancel(struct scope *s)
{
	struct list *l, *tmp;

	s->cancelled = true;
	list_for_each_safe (l, tmp, &s->tasks)
		task_cancel(task_of_scope_link(l));
}

void scope_wait(struct scope *s)
{
	while (s->count)
		waitq_wait_always(&s->empty);
}

int scope_wait_ms(struct scope *s, unsigned timeout_ms)
{
	uint64_t due = loop_now_ns(s->loop) + timeout_ms * 1000000ull;
	uint64_t now;
	int r;

	while (s->count) {
		now = loop_now_ns(s->loop);
		if (now >= due)
			return -ETIMEDOUT;
		r = waitq_wait_ms(&s->empty, (unsigned)((due - now + 999999) / 1000000));
		if (r < 0 && s->count)
			return r;
	}
	return 0;
}

void scope_fini(struct scope *s)
{
	require(s->count == 0);
}
