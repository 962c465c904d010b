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

struct thread {
	struct work *work;
	struct list link; /* in work.idle while it sleeps */
	pthread_cond_t wake;
	pthread_t id;
};

struct work {
	struct loop *loop;
	size_t running;    /* jobs of any state; loop thread, as the next three */
	struct list fresh; /* job.link: asked for in this turn */
	size_t fresh_n;
	struct defer hand_over;
	pthread_mutex_t lock; /* of the rest */
	struct list jobs;     /* job.link */
	size_t queued;
	struct list idle; /* thread.link; the last one that fell asleep is woken first */
	bool stop;
	unsigned threads_n;
	struct thread threads[];
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

/* One sleeper out of the list, to be signalled; NULL = all are awake. The lock is held. */
static struct thread *take_idle(struct work *w)
{
	struct list *l = list_pop(&w->idle);

	return l ? container_of(l, struct thread, link) : NULL;
}

/* The next job; NULL = the end. Threads wake each other as long as there are jobs, so that a burst
 * of short ones costs the loop one signal, and no more threads than it needs. */
static struct job *next_job(struct thread *t)
{
	struct work *w = t->work;
	struct thread *helper = NULL;
	struct list *l;

	pthread_mutex_lock(&w->lock);
	while (list_empty(&w->jobs) && !w->stop) {
		list_push_front(&w->idle, &t->link);
		while (!list_empty(&t->link))
			pthread_cond_wait(&t->wake, &w->lock);
	}
	l = list_pop(&w->jobs);
	if (l && --w->queued)
		helper = take_idle(w);
	pthread_mutex_unlock(&w->lock);
	if (helper)
		pthread_cond_signal(&helper->wake);
	return l ? container_of(l, struct job, link) : NULL;
}

static void *worker(void *arg)
{
	struct thread *t = arg;
	struct job *j;

	while ((j = next_job(t))) {
		j->result = j->fn(j->arg);
		loop_post(t->work->loop, &j->post);
	}
	return NULL;
}

/* The end of a turn: what was asked for goes to the threads. */
static void hand_over(struct defer *d)
{
	struct work *w = container_of(d, struct work, hand_over);
	struct thread *t;

	pthread_mutex_lock(&w->lock);
	list_splice(&w->jobs, &w->fresh);
	w->queued += w->fresh_n;
	w->fresh_n = 0;
	t = take_idle(w);
	pthread_mutex_unlock(&w->lock);
	if (t)
		pthread_cond_signal(&t->wake);
}

int work_run(struct work *w, int (*fn)(void *arg), void *arg)
{
	struct job j = {.post = {.fn = job_done}, .task = task_self(), .fn = fn, .arg = arg};

	if (w->running == WORK_QUEUE_MAX)
		return -EAGAIN;
	w->running++;
	list_push(&w->fresh, &j.link);
	w->fresh_n++;
	loop_defer(w->loop, &w->hand_over);
	task_suspend(NULL, NULL);
	w->running--;
	return j.result;
}

static int threads_start(struct work *w, const char *name, unsigned n)
{
	sigset_t all, old;
	char label[16];
	int r = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old); /* signals are the loop's */
	for (unsigned i = 0; i < n && r == 0; i++) {
		struct thread *t = &w->threads[i];

		t->work = w;
		list_init(&t->link);
		pthread_cond_init(&t->wake, NULL);
		r = pthread_create(&t->id, NULL, worker, t);
		if (r)
			break;
		w->threads_n++;
		snprintf(label, sizeof(label), "%s-%u", name, i);
		pthread_setname_np(t->id, label);
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return -r;
}

int work_new(struct loop *loop, const char *name, unsigned threads, struct work **ret_work,
	     struct err *err)
{
	struct work *w = calloc(1, sizeof(*w) + threads * sizeof(w->threads[0]));
	int r;

	if (!w)
		return err_set(err, -ENOMEM, "out of memory");
	w->loop = loop;
	list_init(&w->fresh);
	list_init(&w->jobs);
	list_init(&w->idle);
	w->hand_over.fn = hand_over;
	list_init(&w->hand_over.link);
	pthread_mutex_init(&w->lock, NULL);
	r = threads_start(w, name, threads);
	if (r < 0) {
		work_free(w);
		return err_errno(err, r, "start thread %s", name);
	}
	*ret_work = w;
	return 0;
}

void work_free(struct work *w)
{
	struct thread *t;

	if (!w)
		return;
	require(!w->running);
	pthread_mutex_lock(&w->lock);
	w->stop = true;
	while ((t = take_idle(w)))
		pthread_cond_signal(&t->wake);
	pthread_mutex_unlock(&w->lock);
	for (unsigned i = 0; i < w->threads_n; i++) {
		pthread_join(w->threads[i].id, NULL);
		pthread_cond_destroy(&w->threads[i].wake);
	}
	pthread_mutex_destroy(&w->lock);
	free(w);
}
