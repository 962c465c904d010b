/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Requests that have to wait, each in a task, or in a list while there are too many tasks. One that
 * is interrupted is answered at once, wherever it is. Loop thread.
 */
#ifndef FIRSTLIGHT_FS_FILL_JOB_H
#define FIRSTLIGHT_FS_FILL_JOB_H

#include "loop/loop.h"
#include "loop/scope.h"

struct fill_jobs {
	struct scope scope; /* others may run in it too */
	struct list queue;  /* fill_job.link */
	size_t count, tasks;
	struct waitq room; /* woken when one has ended */
	struct timer retry;
	bool stopping;
};

struct fill_job {
	struct list link; /* fill_jobs.queue, or alone */
	struct fill_jobs *jobs;
	struct task *task;
	bool interrupted;
	/* may suspend */
	int (*run)(struct fill_job *j);
	/* What run() said, or -ECANCELED: not to be answered unless it was interrupted. The job
	 * goes. */
	void (*end)(struct fill_job *j, int code);
};

void fill_jobs_init(struct fill_jobs *js, struct loop *loop);
/* Cancels all. */
may_suspend void fill_jobs_fini(struct fill_jobs *js);

/* Before whatever may interrupt it; run and end are set. */
void fill_job_init(struct fill_job *j, struct fill_jobs *js);
void fill_job_start(struct fill_job *j);
void fill_job_interrupt(struct fill_job *j);

#endif
