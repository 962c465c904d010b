/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The event loop: one thread, one io_uring, timers, deferred calls, posts from other threads. A
 * turn: run what is runnable, run deferred calls, submit once, wait, collect all completions,
 * dispatch. Only the loop's thread calls these functions, but for loop_post().
 */
#ifndef FIRSTLIGHT_LOOP_LOOP_H
#define FIRSTLIGHT_LOOP_LOOP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/list.h"
#include "loop/op.h"

struct loop;
struct io_uring_sqe;

/* One loop a process. -ENOSYS, -EPERM: io_uring is missing or forbidden, err says by what. */
int loop_new(struct loop **ret_loop, struct err *err) must_check;
void loop_free(struct loop *loop);

/* Runs main_fn(arg) as the first task until it has returned; answers its result. No other task and
 * no operation may be left then. */
int loop_run(struct loop *loop, int (*main_fn)(void *arg), void *arg);

/* The loop that runs on this thread; NULL on others. */
struct loop *loop_self(void);

/* CLOCK_MONOTONIC at the start of this turn, ns. */
uint64_t loop_now_ns(const struct loop *loop);

/* Queues *sqe (kernel layout, io_uring_enter(2)); user_data is set here. Never fails. */
void loop_submit(struct loop *loop, struct op *op, const struct io_uring_sqe *sqe);

/* Asks the kernel to cancel op; its completion still comes (-ECANCELED, or its result). */
void loop_cancel(struct loop *loop, struct op *op);

/* A call on the loop thread; from any thread. p stays the caller's until fn runs. */
struct post {
	void (*fn)(struct post *p);
	struct list link;
};
void loop_post(struct loop *loop, struct post *p);

/* A call at the end of this turn, once however often it is asked for. */
struct defer {
	void (*fn)(struct defer *d);
	struct list link; /* empty when not queued: list_init() before first use */
};
void loop_defer(struct loop *loop, struct defer *d);
void loop_defer_cancel(struct defer *d);

/* A call at or after due_ns of the loop's clock. A zeroed struct is an idle timer. */
struct timer {
	void (*fn)(struct timer *t);
	uint64_t due_ns;
	size_t slot; /* place in the heap + 1; 0 = idle */
};
void timer_set(struct loop *loop, struct timer *t, uint64_t due_ns); /* moves a running one; aborts
									 when memory is out */
void timer_stop(struct loop *loop, struct timer *t);

/* Virtual time for tests: when nothing is runnable and nothing arrives for quiet_us of real time,
 * the clock jumps to the next timer. */
void loop_use_virtual_time(struct loop *loop, unsigned quiet_us);

#endif
