// SPDX-License-Identifier: Apache-2.0
/* Worker threads. Owns the threads and the queue of jobs; a job lives in its task's frame. */
#include "loop/work.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/limits.h"
#include "base/list.h"
#include "loop/loop.h"

#include "base/banned.h"

struct work {
	struct loop *loop;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct list jobs; /* job.link */
	size_t queued;
	bool stop;
	unsigned threads;
	pthread_t ids[];
};

struct job {
	struct list link;
	struct post post;
	struct task *task;
	int (*fn)(void *arg);
	void *arg;
	int result;
};

static void job_done(struct post *p)
{
	task_wake(container_of(p, struct job, post)->task);
}

static void *worker(void *arg)
{
	struct work *w = arg;
	struct list *l;
	struct job *j;

	for (;;) {
		pthread_mutex_lock(&w->lock);
		while (!(l = list_pop(&w->jobs)) && !w->stop)
			pthread_cond_wait(&w->wake, &w->lock);
		if (l)
			w->queued--;
		pthread_mutex_unlock(&w->lock);
		if (!l)
			return NULL;
		j = container_of(l, struct job, link);
		j->result = j->fn(j->arg);
		loop_post(w->loop, &j->post);
	}
}

int work_run(struct work *w, int (*fn)(void *arg), void *arg)
{
	struct job j = {.post = {.fn = job_done}, .task = task_self(), .fn = fn, .arg = arg};

	pthread_mutex_lock(&w->lock);
	if (w->queued >= WORK_QUEUE_MAX) {
		pthread_mutex_unlock(&w->lock);
		return -EAGAIN;
	}
	list_push(&w->jobs, &j.link);
	w->queued++;
	pthread_cond_signal(&w->wake);
	pthread_mutex_unlock(&w->lock);
	task_suspend(NULL, NULL);
	return j.result;
}

int work_new(struct loop *loop, const char *name, unsigned threads, struct work **ret_work,
	     struct err *err)
{
	struct work *w = calloc(1, sizeof(*w) + threads * sizeof(w->ids[0]));
	sigset_t all, old;
	char label[16];
	int r = 0;

	if (!w)
		return err_set(err, -ENOMEM, "out of memory");
	w->loop = loop;
	list_init(&w->jobs);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wake, NULL);
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop's */
	for (; w->threads < threads && r == 0; w->threads += r == 0) {
		r = pthread_create(&w->ids[w->threads], NULL, worker, w);
		if (r)
			break;
		snprintf(label, sizeof(label), "%s-%u", name, w->threads);
		pthread_setname_np(w->ids[w->threads], label);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (r) {
		work_free(w);
		return err_errno(err, -r, "start thread %s", name);
	}
	*ret_work = w;
	return 0;
}

void work_free(struct work *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	require(list_empty(&w->jobs));
	w->stop = true;
	pthread_cond_broadcast(&w->wake);
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->threads; i++)
		pthread_join(w->ids[i], NULL);
	pthread_cond_destroy(&w->wake);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
