/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting of tasks for each other. Loop thread only. */
#ifndef FIRSTLIGHT_LOOP_SYNC_H
#define FIRSTLIGHT_LOOP_SYNC_H

#include "base/list.h"
#include "loop/task.h"

struct waitq {
	struct list waiters; /* struct waiter, in the frame of each waiting task */
};

void waitq_init(struct waitq *q);

/* Until woken: 0, or -ECANCELED. Check the condition again afterwards. */
may_suspend int waitq_wait(struct waitq *q);

/* As waitq_wait, or -ETIMEDOUT. */
may_suspend int waitq_wait_ms(struct waitq *q, unsigned timeout_ms);

/* As waitq_wait, but cancellation does not end it: what is waited for must be bounded. */
may_suspend void waitq_wait_always(struct waitq *q);

void waitq_wake_one(struct waitq *q);
void waitq_wake_all(struct waitq *q);

/* A lock that is held across suspends; first come, first served. */
struct mutex {
	bool held;
	struct waitq free;
};

void mutex_init(struct mutex *m);
may_suspend int mutex_lock(struct mutex *m); /* -ECANCELED */
void mutex_unlock(struct mutex *m);

#endif
