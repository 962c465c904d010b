/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A family of tasks that end together: every task belongs to one. Closing a connection or the
 * daemon is scope_cancel() + scope_wait().
 */
#ifndef FIRSTLIGHT_LOOP_SCOPE_H
#define FIRSTLIGHT_LOOP_SCOPE_H

#include "loop/sync.h"
#include "loop/task.h"

struct scope {
	struct loop *loop;
	struct list tasks; /* task's scope link */
	size_t count;
	bool cancelled; /* new tasks are refused */
	struct waitq empty;
};

void scope_init(struct scope *s, struct loop *loop);

/* Starts fn(arg) as a task at the next turn. -EAGAIN (TASKS_MAX), -ENOMEM, -ECANCELED. ret_task may
 * be NULL; it is valid until the task has returned. */
int scope_spawn(struct scope *s, task_fn *fn, void *arg, struct task **ret_task) must_check;

/* Asks all tasks to stop. The caller may be one of them. */
void scope_cancel(struct scope *s);

/* Until no task is left; not cancellable, the caller must not be one of them. */
may_suspend void scope_wait(struct scope *s);

/* As scope_wait, for so long at most: -ETIMEDOUT. */
may_suspend int scope_wait_ms(struct scope *s, unsigned timeout_ms);

/* Nothing may run in it. */
void scope_fini(struct scope *s);

/* --- for task.c --- */
void scope_left(struct scope *s, struct list *task_link);

#endif
