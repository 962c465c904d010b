// SPDX-License-Identifier: Apache-2.0
/* Tasks and the list of FUSE requests. The jobs belong to who makes them. Loop thread. */
#include "fs/fill_job.h"

#include <errno.h>

#include "base/limits.h"

#include "base/banned.h"

static void queue_run(struct fill_jobs *js);

static void on_retry(struct timer *t)
{
	queue_run(container_of(t, struct fill_jobs, retry));
}

void fill_jobs_init(struct fill_jobs *js, struct loop *loop)
{
	*js = (struct fill_jobs){.retry = {.fn = on_retry}};
	scope_init(&js->scope, loop);
	list_init(&js->queue);
	waitq_init(&js->room);
}

static void job_end(struct fill_job *j, int code)
{
	struct fill_jobs *js = j->jobs;

	j->end(j, code);
	js->count--;
	waitq_wake_all(&js->room);
}

may_suspend static int job_task(void *arg)
{
	struct fill_job *j = arg;
	struct fill_jobs *js = j->jobs;

	job_end(j, j->run(j));
	js->tasks--;
	queue_run(js);
	return 0;
}

static int job_spawn(struct fill_job *j)
{
	struct fill_jobs *js = j->jobs;
	int r = js->tasks < FILL_TASKS_MAX ? scope_spawn(&js->scope, job_task, j, &j->task)
					   : -EAGAIN;

	if (r == 0)
		js->tasks++;
	return r;
}

/* Where a task ends the next begins; where others have all tasks, later. */
static void queue_run(struct fill_jobs *js)
{
	struct loop *loop = js->scope.loop;
	struct list *l;

	while (!js->stopping && (l = list_pop(&js->queue))) {
		if (job_spawn(container_of(l, struct fill_job, link)) == 0)
			continue;
		list_push_front(&js->queue, l);
		if (js->tasks < FILL_TASKS_MAX)
			timer_set(loop, &js->retry, loop_now_ns(loop) + FILL_RETRY_MS * 1000000ull);
		break;
	}
}

void fill_job_init(struct fill_job *j, struct fill_jobs *js)
{
	list_init(&j->link);
	j->jobs = js;
	js->count++;
}

void fill_job_start(struct fill_job *j)
{
	if (j->interrupted) {
		job_end(j, -ECANCELED);
		return;
	}
	list_push(&j->jobs->queue, &j->link);
	queue_run(j->jobs);
}

void fill_job_interrupt(struct fill_job *j)
{
	j->interrupted = true;
	if (j->task) {
		task_cancel(j->task);
	} else if (!list_empty(&j->link)) {
		list_del(&j->link);
		job_end(j, -ECANCELED);
	}
}

may_suspend void fill_jobs_fini(struct fill_jobs *js)
{
	struct list *l;

	js->stopping = true;
	scope_cancel(&js->scope);
	scope_wait(&js->scope);
	scope_fini(&js->scope);
	timer_stop(js->scope.loop, &js->retry);
	while ((l = list_pop(&js->queue)))
		job_end(container_of(l, struct fill_job, link), -ECANCELED);
}
