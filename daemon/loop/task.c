// SPDX-License-Identifier: Apache-2.0
/*
 * Stackful coroutines: the one clever file. Owns stacks and switches. A stack is started once by
 * makecontext(3); from then on it is entered and left by siglongjmp, which costs some ten
 * nanoseconds where swapcontext makes two system calls. A finished task's stack waits in the pool,
 * inside task_main(), for its next function. Loop thread only.
 */
#undef _FORTIFY_SOURCE /* its longjmp check takes a switch of stacks for a mistake */
#include "loop/task.h"

#include <errno.h>
#include <setjmp.h>
#include <stdint.h>
#include <sys/mman.h>
#include <ucontext.h>

#include "base/err.h"
#include "base/limits.h"
#include "loop/loop.h"
#include "loop/scope.h"

#if defined(__SANITIZE_ADDRESS__)
#define HAVE_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define HAVE_ASAN 1
#endif
#endif
#if defined(__SANITIZE_THREAD__)
#define HAVE_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define HAVE_TSAN 1
#endif
#endif

#ifdef HAVE_ASAN
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#ifdef HAVE_TSAN
#include <sanitizer/tsan_interface.h>
#endif

#include "base/banned.h"

#define GUARD_BYTES 4096
#if defined(HAVE_ASAN) || defined(HAVE_TSAN)
#define STACK_BYTES KiB(256)
#else
#define STACK_BYTES KiB(64)
#endif

struct task {
	struct list run_link, all_link, scope_link;
	struct loop *loop;
	struct scope *scope;
	task_fn *fn;
	void *arg;
	bool started, finished, cancelled, suspended, queued;
	void (*interrupt)(void *arg); /* of the wait that it is in */
	void *interrupt_arg;
	sigjmp_buf env;
	void *frame; /* where it suspended: the frame pointer, for tools/dev/gdb.py */
	char *stack; /* above the guard page */
#ifdef HAVE_ASAN
	void *fake_stack;
#endif
#ifdef HAVE_TSAN
	void *fiber;
#endif
};

/* The loop's own context while a task runs. */
static _Thread_local struct {
	struct task *task;
	sigjmp_buf env;
#ifdef HAVE_ASAN
	void *fake_stack;
	const void *stack;
	size_t stack_bytes;
#endif
#ifdef HAVE_TSAN
	void *fiber;
#endif
} now;

static size_t watermark;

/* --- switching: keep these small and not inlined --------------------------------------------- */

static void enter_begin(struct task *t)
{
#ifdef HAVE_ASAN
	__sanitizer_start_switch_fiber(&now.fake_stack, t->stack, STACK_BYTES);
#endif
#ifdef HAVE_TSAN
	if (!now.fiber)
		now.fiber = __tsan_get_current_fiber();
	__tsan_switch_to_fiber(t->fiber, 0);
#endif
	(void)t;
}

static void enter_end(void)
{
#ifdef HAVE_ASAN
	__sanitizer_finish_switch_fiber(now.fake_stack, NULL, NULL);
#endif
}

static void leave_begin(struct task *t)
{
#ifdef HAVE_ASAN
	__sanitizer_start_switch_fiber(&t->fake_stack, now.stack, now.stack_bytes);
#endif
#ifdef HAVE_TSAN
	__tsan_switch_to_fiber(now.fiber, 0);
#endif
	(void)t;
}

static void leave_end(struct task *t)
{
#ifdef HAVE_ASAN
	__sanitizer_finish_switch_fiber(t->fake_stack, &now.stack, &now.stack_bytes);
#endif
	(void)t;
}

/* From a task to the loop; returns when the loop enters the task again. */
static __attribute__((noinline)) void task_leave(struct task *t)
{
	t->frame = __builtin_frame_address(0);
	if (sigsetjmp(t->env, 0) == 0) {
		leave_begin(t);
		siglongjmp(now.env, 1);
	}
	leave_end(t);
}

static void task_main(unsigned lo, unsigned hi)
{
	struct task *t = (struct task *)((uintptr_t)lo | (uintptr_t)hi << 32);

#ifdef HAVE_ASAN
	__sanitizer_finish_switch_fiber(NULL, &now.stack, &now.stack_bytes);
#endif
	for (;;) {
		t->fn(t->arg);
		t->finished = true;
		task_leave(t);
	}
}

/* Never returns, so ASan would leave the red zones of its frame behind on the loop's stack. */
static __attribute__((noinline, no_sanitize("address"))) void task_start(struct task *t)
{
	ucontext_t uc;
	uintptr_t p = (uintptr_t)t;

	require(getcontext(&uc) == 0);
	uc.uc_stack.ss_sp = t->stack;
	uc.uc_stack.ss_size = STACK_BYTES;
	uc.uc_link = NULL;
	makecontext(&uc, (void (*)(void))task_main, 2, (unsigned)p, (unsigned)(p >> 32));
	t->started = true;
	setcontext(&uc);
}

static __attribute__((noinline)) void task_enter(struct task *t)
{
	require(!now.task);
	now.task = t;
	if (sigsetjmp(now.env, 0) == 0) {
		enter_begin(t);
		if (t->started)
			siglongjmp(t->env, 1);
		task_start(t);
	}
	enter_end();
	now.task = NULL;
}

/* --- life ------------------------------------------------------------------------------------ */

static struct task *task_new(void)
{
	struct task *t = calloc(1, sizeof(*t));
	char *map;

	if (!t)
		return NULL;
	map = mmap(NULL, GUARD_BYTES + STACK_BYTES, PROT_READ | PROT_WRITE,
		   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_STACK, -1, 0);
	if (map == MAP_FAILED || mprotect(map, GUARD_BYTES, PROT_NONE) < 0) {
		if (map != MAP_FAILED)
			munmap(map, GUARD_BYTES + STACK_BYTES);
		free(t);
		return NULL;
	}
	t->stack = map + GUARD_BYTES;
#ifdef HAVE_TSAN
	t->fiber = __tsan_create_fiber(0);
#endif
	return t;
}

static void stack_measure(const struct task *t)
{
	unsigned char resident[STACK_BYTES / 4096];
	size_t first = 0;

	if (mincore(t->stack, STACK_BYTES, resident) < 0)
		return;
	while (first < array_size(resident) && !(resident[first] & 1))
		first++;
	if (STACK_BYTES - first * 4096 > watermark)
		watermark = STACK_BYTES - first * 4096;
}

static void task_free(struct task *t)
{
	stack_measure(t);
#ifdef HAVE_TSAN
	__tsan_destroy_fiber(t->fiber);
#endif
#ifdef HAVE_ASAN
	__asan_unpoison_memory_region(t->stack, STACK_BYTES);
#endif
	munmap(t->stack - GUARD_BYTES, GUARD_BYTES + STACK_BYTES);
	free(t);
}

size_t task_count(void)
{
	return loop_self() ? loop_tasks(loop_self())->count : 0;
}

size_t task_stack_watermark(void)
{
	struct list *l, *tmp;

	if (loop_self()) {
		list_for_each_safe (l, tmp, &loop_tasks(loop_self())->pool)
			stack_measure(container_of(l, struct task, run_link));
		list_for_each_safe (l, tmp, &loop_tasks(loop_self())->all)
			stack_measure(container_of(l, struct task, all_link));
	}
	return watermark;
}

void tasks_init(struct loop_tasks *ts)
{
	*ts = (struct loop_tasks){0};
	list_init(&ts->runnable);
	list_init(&ts->all);
	list_init(&ts->pool);
}

void tasks_fini(struct loop_tasks *ts)
{
	struct list *l;

	require(list_empty(&ts->all));
	while ((l = list_pop(&ts->pool)))
		task_free(container_of(l, struct task, run_link));
	ts->pooled = 0;
}

int task_spawn(struct loop *loop, struct scope *scope, task_fn *fn, void *arg,
	       struct task **ret_task)
{
	struct loop_tasks *ts = loop_tasks(loop);
	struct list *l;
	struct task *t;

	if (ts->count >= TASKS_MAX)
		return -EAGAIN;
	l = list_pop(&ts->pool);
	if (l)
		ts->pooled--;
	t = l ? container_of(l, struct task, run_link) : task_new();
	if (!t)
		return -ENOMEM;
	t->loop = loop;
	t->scope = scope;
	t->fn = fn;
	t->arg = arg;
	t->finished = t->cancelled = t->queued = false;
	t->suspended = true;
	t->interrupt = NULL;
	list_init(&t->run_link);
	list_init(&t->scope_link);
	list_push(&ts->all, &t->all_link);
	ts->count++;
	*ret_task = t;
	return 0;
}

static void task_finished(struct loop_tasks *ts, struct task *t)
{
	struct scope *scope = t->scope;

	list_del(&t->all_link);
	ts->count--;
	scope_left(scope, &t->scope_link);
	if (ts->pooled >= TASK_STACKS_POOLED) {
		task_free(t);
		return;
	}
	list_push(&ts->pool, &t->run_link);
	ts->pooled++;
}

void tasks_run(struct loop_tasks *ts)
{
	struct list batch, *l;
	struct task *t;

	list_init(&batch);
	list_splice(&batch, &ts->runnable);
	while ((l = list_pop(&batch))) {
		t = container_of(l, struct task, run_link);
		t->queued = t->suspended = false;
		task_enter(t);
		if (t->finished)
			task_finished(ts, t);
	}
}

/* --- what a task can do ---------------------------------------------------------------------- */

struct task *task_self(void)
{
	return now.task;
}

struct loop *task_loop(const struct task *t)
{
	return t->loop;
}

struct list *task_scope_link(struct task *t)
{
	return &t->scope_link;
}

struct task *task_of_scope_link(struct list *l)
{
	return container_of(l, struct task, scope_link);
}

bool task_cancelled(void)
{
	return now.task && now.task->cancelled;
}

void task_suspend(void (*interrupt)(void *arg), void *arg)
{
	struct task *t = now.task;

	require(t);
	t->interrupt = interrupt;
	t->interrupt_arg = arg;
	t->suspended = true;
	task_leave(t);
	t->interrupt = NULL;
}

void task_wake(struct task *t)
{
	require(t->suspended);
	if (t->queued)
		return;
	t->queued = true;
	list_push(&loop_tasks(t->loop)->runnable, &t->run_link);
}

void task_cancel(struct task *t)
{
	void (*interrupt)(void *arg) = t->interrupt;

	t->cancelled = true;
	t->interrupt = NULL; /* once a wait */
	if (interrupt)
		interrupt(t->interrupt_arg);
}

void task_yield(void)
{
	now.task->suspended = true;
	task_wake(now.task);
	task_suspend(NULL, NULL);
}
