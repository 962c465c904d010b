// SPDX-License-Identifier: Apache-2.0
/*
 * The event loop. Owns the ring, the timer heap, deferred calls and posts. The only file that knows
 * liburing. Loop thread, but for loop_post().
 */
#include "loop/loop.h"

#include <liburing.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <time.h>

#include "base/limits.h"
#include "loop/scope.h"
#include "loop/task.h"

#include "base/banned.h"

#define COLLECT_MAX   256
#define SKIPS_MAX     4 /* turns in a row that do not enter the kernel */
#define NS_PER_S      1000000000ull
#define VIRTUAL_START NS_PER_S

struct completion {
	struct op *op;
	int res;
	uint32_t flags;
};

struct loop {
	struct io_uring ring;
	struct loop_tasks tasks;
	struct scope *main; /* the first task's, while loop_run() runs */
	uint64_t now_ns;
	unsigned virtual_quiet_us; /* 0 = real time */
	unsigned skipped;
	struct timer **heap;
	size_t heap_len, heap_cap;
	struct list deferred; /* defer.link */
	struct op cancel_op;  /* completions of cancel requests: ignored */

	pthread_mutex_t post_lock;
	struct list posts; /* post.link */
	int post_fd;
	uint64_t post_count; /* buffer of the eventfd read */
	struct op post_op;
	bool post_armed;
};

static _Thread_local struct loop *self;

struct loop *loop_self(void)
{
	return self;
}

struct loop_tasks *loop_tasks(struct loop *loop)
{
	return &loop->tasks;
}

static uint64_t clock_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * NS_PER_S + (uint64_t)ts.tv_nsec;
}

uint64_t loop_now_ns(const struct loop *loop)
{
	return loop->now_ns;
}

static void clock_advance(struct loop *loop)
{
	if (!loop->virtual_quiet_us)
		loop->now_ns = clock_ns();
}

/* --- submission ------------------------------------------------------------------------------ */

static void op_ignore(struct op *op, int res, uint32_t flags)
{
	(void)op, (void)res, (void)flags;
}

static struct io_uring_sqe *sqe_get(struct loop *loop)
{
	struct io_uring_sqe *sqe;
	int r;

	while (!(sqe = io_uring_get_sqe(&loop->ring))) {
		r = io_uring_submit(&loop->ring);
		require(r >= 0 || r == -EBUSY || r == -EAGAIN || r == -EINTR);
	}
	return sqe;
}

void loop_submit(struct loop *loop, struct op *op, const struct io_uring_sqe *from)
{
	struct io_uring_sqe *sqe = sqe_get(loop);

	*sqe = *from;
	sqe->user_data = (uintptr_t)op;
}

void loop_cancel(struct loop *loop, struct op *op)
{
	struct io_uring_sqe *sqe = sqe_get(loop);

	io_uring_prep_cancel(sqe, op, 0);
	io_uring_sqe_set_data(sqe, &loop->cancel_op);
}

/* --- timers: a binary heap by due time ------------------------------------------------------- */

static void heap_place(struct loop *loop, size_t i, struct timer *t)
{
	loop->heap[i] = t;
	t->slot = i + 1;
}

static void heap_up(struct loop *loop, size_t i, struct timer *t)
{
	while (i > 0 && loop->heap[(i - 1) / 2]->due_ns > t->due_ns) {
		heap_place(loop, i, loop->heap[(i - 1) / 2]);
		i = (i - 1) / 2;
	}
	heap_place(loop, i, t);
}

static void heap_down(struct loop *loop, size_t i, struct timer *t)
{
	size_t child;

	while ((child = 2 * i + 1) < loop->heap_len) {
		if (child + 1 < loop->heap_len &&
		    loop->heap[child + 1]->due_ns < loop->heap[child]->due_ns)
			child++;
		if (loop->heap[child]->due_ns >= t->due_ns)
			break;
		heap_place(loop, i, loop->heap[child]);
		i = child;
	}
	heap_place(loop, i, t);
}

void timer_stop(struct loop *loop, struct timer *t)
{
	size_t i = t->slot - 1;
	struct timer *last;

	if (!t->slot)
		return;
	t->slot = 0;
	last = loop->heap[--loop->heap_len];
	if (last == t)
		return;
	if (i > 0 && loop->heap[(i - 1) / 2]->due_ns > last->due_ns)
		heap_up(loop, i, last);
	else
		heap_down(loop, i, last);
}

void timer_set(struct loop *loop, struct timer *t, uint64_t due_ns)
{
	struct timer **heap;
	size_t cap;

	timer_stop(loop, t);
	t->due_ns = due_ns;
	if (loop->heap_len == loop->heap_cap) {
		cap = loop->heap_cap ? loop->heap_cap * 2 : 64;
		heap = reallocarray(loop->heap, cap, sizeof(heap[0]));
		require(heap); /* 8 bytes a waiting task: nothing can go on without them */
		loop->heap = heap;
		loop->heap_cap = cap;
	}
	heap_up(loop, loop->heap_len++, t);
}

static void timers_fire(struct loop *loop)
{
	struct timer *t;

	while (loop->heap_len && loop->heap[0]->due_ns <= loop->now_ns) {
		t = loop->heap[0];
		timer_stop(loop, t);
		t->fn(t);
	}
}

/* --- deferred calls and posts ---------------------------------------------------------------- */

void loop_defer(struct loop *loop, struct defer *d)
{
	if (list_empty(&d->link))
		list_push(&loop->deferred, &d->link);
}

void loop_defer_cancel(struct defer *d)
{
	list_del(&d->link);
}

static void deferred_run(struct loop *loop)
{
	struct list now, *l;
	struct defer *d;

	list_init(&now);
	list_splice(&now, &loop->deferred);
	while ((l = list_pop(&now))) {
		d = container_of(l, struct defer, link);
		d->fn(d);
	}
}

void loop_post(struct loop *loop, struct post *p)
{
	uint64_t one = 1;
	bool first;

	pthread_mutex_lock(&loop->post_lock);
	first = list_empty(&loop->posts);
	list_push(&loop->posts, &p->link);
	pthread_mutex_unlock(&loop->post_lock);
	if (first && write(loop->post_fd, &one, sizeof(one)) < 0)
		require(errno == EAGAIN); /* counter full: the loop is awake anyway */
}

static void posts_run(struct loop *loop)
{
	struct list now, *l;
	struct post *p;

	list_init(&now);
	pthread_mutex_lock(&loop->post_lock);
	list_splice(&now, &loop->posts);
	pthread_mutex_unlock(&loop->post_lock);
	while ((l = list_pop(&now))) {
		p = container_of(l, struct post, link);
		p->fn(p);
	}
}

static void post_arrived(struct op *op, int res, uint32_t flags)
{
	struct loop *loop = container_of(op, struct loop, post_op);

	(void)res, (void)flags;
	loop->post_armed = false;
	posts_run(loop);
}

static void post_arm(struct loop *loop)
{
	struct io_uring_sqe *sqe;

	if (loop->post_armed)
		return;
	sqe = sqe_get(loop);
	io_uring_prep_read(sqe, loop->post_fd, &loop->post_count, sizeof(loop->post_count), 0);
	io_uring_sqe_set_data(sqe, &loop->post_op);
	loop->post_armed = true;
}

/* --- the turn -------------------------------------------------------------------------------- */

/* How long to wait, as the kernel wants it; NULL = until something comes. */
static struct __kernel_timespec *wait_limit(struct loop *loop, struct __kernel_timespec *ts)
{
	uint64_t ns = 0;

	if (list_empty(&loop->tasks.runnable) && list_empty(&loop->deferred)) {
		if (loop->virtual_quiet_us)
			ns = loop->virtual_quiet_us * 1000ull;
		else if (!loop->heap_len)
			return NULL;
		else if (loop->heap[0]->due_ns > loop->now_ns)
			ns = loop->heap[0]->due_ns - loop->now_ns;
	}
	*ts = (struct __kernel_timespec){.tv_sec = (long long)(ns / NS_PER_S),
					 .tv_nsec = (long long)(ns % NS_PER_S)};
	return ts;
}

static size_t collect(struct loop *loop, struct completion *done)
{
	struct io_uring_cqe *cqes[COLLECT_MAX];
	unsigned n = io_uring_peek_batch_cqe(&loop->ring, cqes, COLLECT_MAX);

	for (unsigned i = 0; i < n; i++)
		done[i] = (struct completion){(struct op *)(uintptr_t)cqes[i]->user_data,
					      cqes[i]->res, cqes[i]->flags};
	io_uring_cq_advance(&loop->ring, n);
	return n;
}

static void turn(struct loop *loop)
{
	struct completion done[COLLECT_MAX];
	struct __kernel_timespec ts;
	struct io_uring_cqe *cqe;
	bool idle;
	size_t n;
	int r;

	tasks_run(&loop->tasks);
	deferred_run(loop);
	if (!loop->main->count)
		return;
	post_arm(loop);
	idle = list_empty(&loop->tasks.runnable) && list_empty(&loop->deferred);
	if (!idle && !io_uring_sq_ready(&loop->ring) && loop->skipped++ < SKIPS_MAX)
		return; /* nothing for the kernel, and more to do here */
	loop->skipped = 0;
	r = io_uring_submit_and_wait_timeout(&loop->ring, &cqe, 1, wait_limit(loop, &ts), NULL);
	require(r >= 0 || r == -ETIME || r == -EINTR || r == -EBUSY || r == -EAGAIN);
	clock_advance(loop);
	n = collect(loop, done);
	for (size_t i = 0; i < n; i++)
		done[i].op->done(done[i].op, done[i].res, done[i].flags);
	if (loop->virtual_quiet_us && idle && n == 0 && loop->heap_len &&
	    loop->heap[0]->due_ns > loop->now_ns)
		loop->now_ns = loop->heap[0]->due_ns;
	timers_fire(loop);
}

void loop_use_virtual_time(struct loop *loop, unsigned quiet_us)
{
	loop->virtual_quiet_us = quiet_us;
	loop->now_ns = VIRTUAL_START;
}

struct main_call {
	int (*fn)(void *arg);
	void *arg;
	int result;
};

static int main_task(void *arg)
{
	struct main_call *c = arg;

	c->result = c->fn(c->arg);
	return 0;
}

int loop_run(struct loop *loop, int (*main_fn)(void *arg), void *arg)
{
	struct main_call call = {main_fn, arg, 0};
	struct scope scope;
	int r;

	clock_advance(loop);
	scope_init(&scope, loop);
	loop->main = &scope;
	r = scope_spawn(&scope, main_task, &call, NULL);
	if (r < 0)
		return r;
	while (scope.count)
		turn(loop);
	loop->main = NULL;
	scope_fini(&scope);
	return call.result;
}

/* --- life ------------------------------------------------------------------------------------ */

static int ring_refused(int code, struct err *err)
{
	switch (code) {
	case -ENOSYS:
		return err_set(err, code,
			       "io_uring is not in this kernel (CONFIG_IO_URING, or a "
			       "seccomp profile that hides io_uring_setup)");
	case -EPERM:
	case -EACCES:
		return err_set(
			err, code,
			"io_uring is forbidden: sysctl kernel.io_uring_disabled must be 0 (or 1 "
			"with CAP_SYS_ADMIN or kernel.io_uring_group), and the seccomp profile "
			"must allow io_uring_setup, io_uring_enter and io_uring_register");
	case -ENOMEM:
		return err_set(err, code, "no memory for the io_uring (RLIMIT_MEMLOCK?)");
	default:
		return err_errno(err, code, "io_uring_setup");
	}
}

static int ring_init(struct io_uring *ring, struct err *err)
{
	/* Cooperative task work saves interrupts of the loop's thread; kernels before 6.1 refuse.
	 */
	struct io_uring_params p = {.flags = IORING_SETUP_COOP_TASKRUN |
					     IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_CLAMP};
	int r = io_uring_queue_init_params(RING_ENTRIES, ring, &p);

	if (r == -EINVAL) {
		p = (struct io_uring_params){.flags = IORING_SETUP_CLAMP};
		r = io_uring_queue_init_params(RING_ENTRIES, ring, &p);
	}
	if (r < 0)
		return ring_refused(r, err);
	if (!(p.features & IORING_FEAT_NODROP) || !(p.features & IORING_FEAT_EXT_ARG)) {
		io_uring_queue_exit(ring);
		return err_set(err, -ENOSYS, "io_uring is too old: Linux 5.11 or later is needed");
	}
	io_uring_ring_dontfork(ring);
	return 0;
}

int loop_new(struct loop **ret_loop, struct err *err)
{
	auto_free struct loop *loop = calloc(1, sizeof(*loop));
	int r;

	require(!self);
	if (!loop)
		return err_set(err, -ENOMEM, "out of memory");
	loop->post_fd = eventfd(0, EFD_CLOEXEC);
	if (loop->post_fd < 0)
		return err_errno(err, -errno, "eventfd");
	r = ring_init(&loop->ring, err);
	if (r < 0) {
		close(loop->post_fd);
		return r;
	}
	loop->post_op.done = post_arrived;
	loop->cancel_op.done = op_ignore;
	pthread_mutex_init(&loop->post_lock, NULL);
	list_init(&loop->posts);
	list_init(&loop->deferred);
	tasks_init(&loop->tasks);
	clock_advance(loop);
	self = loop;
	*ret_loop = take_ptr(loop);
	return 0;
}

void loop_free(struct loop *loop)
{
	if (!loop)
		return;
	require(self == loop);
	self = NULL;
	tasks_fini(&loop->tasks);
	io_uring_queue_exit(&loop->ring);
	close(loop->post_fd);
	pthread_mutex_destroy(&loop->post_lock);
	free(loop->heap);
	free(loop);
}
