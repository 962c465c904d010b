// SPDX-License-Identifier: Apache-2.0
/* Wait queues and locks of tasks. Owns nothing: waiters live in the frames of the waiting tasks. */
#include "loop/sync.h"

#include <errno.h>

#include "base/err.h"
#include "loop/loop.h"

#include "base/banned.h"

#define NS_PER_MS 1000000ull

struct waiter {
	struct list link;
	struct task *task;
	struct timer timer;
	int result;
};

static void waiter_end(struct waiter *w, int result)
{
	list_del(&w->link);
	w->result = result;
	task_wake(w->task);
}

static void waiter_interrupted(void *arg)
{
	struct waiter *w = arg;

	if (!list_empty(&w->link)) /* else it is woken already */
		waiter_end(w, -ECANCELED);
}

static void waiter_timed_out(struct timer *t)
{
	struct waiter *w = container_of(t, struct waiter, timer);

	if (!list_empty(&w->link))
		waiter_end(w, -ETIMEDOUT);
}

void waitq_init(struct waitq *q)
{
	list_init(&q->waiters);
}

static int wait_in(struct list *waiters, bool cancellable, bool timed, uint64_t timeout_ns)
{
	struct waiter w = {.task = task_self(), .timer = {.fn = waiter_timed_out}};
	struct loop *loop = task_loop(w.task);

	if (cancellable && task_cancelled())
		return -ECANCELED;
	list_push(waiters, &w.link);
	if (timed)
		timer_set(loop, &w.timer, loop_now_ns(loop) + timeout_ns);
	task_suspend(cancellable ? waiter_interrupted : NULL, &w);
	timer_stop(loop, &w.timer);
	return w.result;
}

int waitq_wait(struct waitq *q)
{
	return wait_in(&q->waiters, true, false, 0);
}

int waitq_wait_ms(struct waitq *q, unsigned timeout_ms)
{
	return wait_in(&q->waiters, true, true, timeout_ms * NS_PER_MS);
}

void waitq_wait_always(struct waitq *q)
{
	wait_in(&q->waiters, false, false, 0);
}

void waitq_wake_one(struct waitq *q)
{
	if (!list_empty(&q->waiters))
		waiter_end(container_of(q->waiters.next, struct waiter, link), 0);
}

void waitq_wake_all(struct waitq *q)
{
	while (!list_empty(&q->waiters))
		waitq_wake_one(q);
}

int task_sleep_ms(unsigned ms)
{
	struct list none;
	int r;

	list_init(&none);
	r = wait_in(&none, true, true, ms * NS_PER_MS);
	return r == -ETIMEDOUT ? 0 : r;
}

void mutex_init(struct mutex *m)
{
	m->held = false;
	waitq_init(&m->free);
}

int mutex_lock(struct mutex *m)
{
	int r;

	if (!m->held) {
		m->held = true;
		return 0;
	}
	r = waitq_wait(&m->free); /* handed over by mutex_unlock() */
	return r;
}

void mutex_unlock(struct mutex *m)
{
	require(m->held);
	if (list_empty(&m->free.waiters))
		m->held = false;
	else
		waitq_wake_one(&m->free);
}
