/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Tasks: functions with a stack of their own on the loop thread. A task runs until it suspends;
 * what may suspend is marked may_suspend (checked by make tidy), and a function that is not marked
 * sees a world that does not change. Stacks are pooled; 64 KiB with a guard page (256 KiB under
 * ASan).
 */
#ifndef FIRSTLIGHT_LOOP_TASK_H
#define FIRSTLIGHT_LOOP_TASK_H

#include <setjmp.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/clean.h"
#include "base/list.h"

/* Marks functions that can switch to other tasks before they return. */
#define may_suspend

struct loop;
struct scope;
struct task;

typedef int task_fn(void *arg);

/* The running task; NULL on the loop's own stack. */
struct task *task_self(void);

/* Was this task asked to stop? Cancellable waits then answer -ECANCELED at once. */
bool task_cancelled(void);

/* Lets every other runnable task run first. */
may_suspend void task_yield(void);

/* Waits; -ECANCELED. */
may_suspend int task_sleep_ms(unsigned ms);

/* Asks one task to stop, as scope_cancel() asks all of a scope. */
void task_cancel(struct task *t);

/* Tasks of this thread's loop that run or wait. */
size_t task_count(void);

/* Deepest use of any task stack so far, bytes (whole pages). */
size_t task_stack_watermark(void);

/* --- for loop/ only --------------------------------------------------------------------------- */

struct loop_tasks {           /* part of struct loop */
	struct list runnable; /* task.run_link */
	struct list all;      /* task.all_link, for gdb */
	struct list pool;     /* task.run_link */
	size_t count, pooled;
};

struct loop_tasks *loop_tasks(struct loop *loop);
void tasks_init(struct loop_tasks *ts);
void tasks_fini(struct loop_tasks *ts);
/* Runs what is runnable now, each once. */
void tasks_run(struct loop_tasks *ts);

/* -EAGAIN at TASKS_MAX, -ENOMEM. */
int task_spawn(struct loop *loop, struct scope *scope, task_fn *fn, void *arg,
	       struct task **ret_task);

/* Gives the thread away until task_wake(). interrupt (may be NULL: not cancellable) is called when
 * the task is cancelled meanwhile; it must lead to a task_wake(). */
may_suspend void task_suspend(void (*interrupt)(void *arg), void *arg);
void task_wake(struct task *t);
struct loop *task_loop(const struct task *t);
struct list *task_scope_link(struct task *t);
struct task *task_of_scope_link(struct list *l);

#endif
