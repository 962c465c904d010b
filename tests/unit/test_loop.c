// SPDX-License-Identifier: Apache-2.0
/* The loop: tasks, scopes, timers, waiting, worker threads, I/O, cancellation. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>

#include "base/limits.h"
#include "loop/io.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "loop/sync.h"
#include "loop/task.h"
#include "loop/work.h"

static int run(int (*fn)(void *), void *arg)
{
	struct loop *loop;
	struct err err = ERR_INIT;
	int r;

	if (loop_new(&loop, &err) < 0)
		fail_msg("%s", err.text);
	r = loop_run(loop, fn, arg);
	loop_free(loop);
	return r;
}

static int run_virtual(int (*fn)(void *), void *arg)
{
	struct loop *loop;
	int r;

	assert_int_equal(loop_new(&loop, NULL), 0);
	loop_use_virtual_time(loop, 200);
	r = loop_run(loop, fn, arg);
	loop_free(loop);
	return r;
}

static int returns_42(void *arg)
{
	(void)arg;
	return 42;
}

static void test_main_result(void **state)
{
	(void)state;
	assert_int_equal(run(returns_42, NULL), 42);
}

struct trace {
	char text[64];
	size_t n;
	char name;
	struct trace *to;
};

static int tracing(void *arg)
{
	struct trace *t = arg;

	for (int i = 0; i < 3; i++) {
		t->to->text[t->to->n++] = t->name;
		task_yield();
	}
	return 0;
}

static int main_yield(void *arg)
{
	struct trace a = {.name = 'a', .to = arg}, b = {.name = 'b', .to = arg};
	struct scope s;

	scope_init(&s, loop_self());
	assert_int_equal(scope_spawn(&s, tracing, &a, NULL), 0);
	assert_int_equal(scope_spawn(&s, tracing, &b, NULL), 0);
	scope_wait(&s);
	scope_fini(&s);
	return 0;
}

static void test_yield_is_fair(void **state)
{
	struct trace t = {0};

	(void)state;
	run(main_yield, &t);
	assert_string_equal(t.text, "ababab");
}

static int recurse(int depth)
{
	volatile char pad[512];

	memset((char *)pad, depth, sizeof(pad));
	if (depth == 0) {
		task_yield();
		return pad[0];
	}
	return recurse(depth - 1) + (pad[1] - depth);
}

static int deep(void *arg)
{
	(void)arg;
	return recurse(60);
}

static int count_task(void *arg)
{
	task_yield();
	++*(int *)arg;
	return 0;
}

static int main_many(void *arg)
{
	struct scope s;
	int spawned = 0;

	scope_init(&s, loop_self());
	for (;; spawned++) {
		int r = scope_spawn(&s, count_task, arg, NULL);

		if (r < 0) {
			assert_int_equal(r, -EAGAIN);
			break;
		}
	}
	assert_int_equal(spawned, TASKS_MAX - 1); /* this one is the other */
	scope_wait(&s);
	assert_int_equal(*(int *)arg, spawned);
	assert_int_equal(scope_spawn(&s, deep, NULL, NULL), 0);
	scope_wait(&s);
	assert_true(task_stack_watermark() >= 16384);
	assert_true(task_stack_watermark() <= KiB(256));
	scope_fini(&s);
	return 0;
}

__attribute__((unused)) static void test_tasks_are_limited(void **state)
{
	int n = 0;

	(void)state;
	run(main_many, &n);
}

static int sleeper(void *arg)
{
	struct trace *t = arg;

	task_sleep_ms((unsigned)(t->name - 'a' + 1) * 1000);
	t->to->text[t->to->n++] = t->name;
	return 0;
}

static int main_sleep(void *arg)
{
	struct trace t[5];
	struct scope s;
	uint64_t start = loop_now_ns(loop_self());

	scope_init(&s, loop_self());
	for (int i = 0; i < 5; i++) {
		t[i] = (struct trace){.name = (char)("cedba"[i]), .to = arg};
		assert_int_equal(scope_spawn(&s, sleeper, &t[i], NULL), 0);
	}
	scope_wait(&s);
	assert_int_equal((loop_now_ns(loop_self()) - start) / 1000000000, 5);
	return 0;
}

static void test_timers_in_order_of_virtual_time(void **state)
{
	struct trace t = {0};

	(void)state;
	run_virtual(main_sleep, &t);
	assert_string_equal(t.text, "abcde");
}

static int sleeps_long(void *arg)
{
	*(int *)arg = task_sleep_ms(3600 * 1000);
	return 0;
}

static int reads_pipe(void *arg)
{
	int fds[2];
	char c;

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	*(int *)arg = (int)io_recv(fds[0], &c, 1, 0);
	close(fds[0]);
	close(fds[1]);
	return 0;
}

static int main_cancel(void *arg)
{
	struct scope s;
	int slept = 0, read_ = 0;

	(void)arg;
	scope_init(&s, loop_self());
	assert_int_equal(scope_spawn(&s, sleeps_long, &slept, NULL), 0);
	assert_int_equal(scope_spawn(&s, reads_pipe, &read_, NULL), 0);
	task_yield();
	task_yield();
	scope_cancel(&s);
	assert_int_equal(scope_spawn(&s, sleeps_long, &slept, NULL), -ECANCELED);
	scope_wait(&s);
	assert_int_equal(slept, -ECANCELED);
	assert_int_equal(read_, -ECANCELED);
	return 0;
}

static void test_cancel(void **state)
{
	(void)state;
	run(main_cancel, NULL);
}

static int main_timeout(void *arg)
{
	int fds[2];
	char c = 'x', got = 0;

	(void)arg;
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
	assert_int_equal(io_recv(fds[0], &got, 1, 10), -ETIMEDOUT);
	assert_int_equal(io_send(fds[1], &c, 1, 10), 1);
	assert_int_equal(io_recv(fds[0], &got, 1, 10), 1);
	assert_int_equal(got, 'x');
	close(fds[1]);
	assert_int_equal(io_recv(fds[0], &got, 1, 10), 0);
	close(fds[0]);
	return 0;
}

static void test_io_timeout(void **state)
{
	(void)state;
	run(main_timeout, NULL);
}

static int job(void *arg)
{
	__atomic_add_fetch((int *)arg, 1, __ATOMIC_RELAXED);
	return 7;
}

struct jobs {
	struct work *work;
	int ran, sevens;
};

static int asks(void *arg)
{
	struct jobs *j = arg;

	for (int i = 0; i < 100; i++)
		j->sevens += work_run(j->work, job, &j->ran) == 7;
	return 0;
}

static int main_work(void *arg)
{
	struct jobs j = {0};
	struct scope s;

	(void)arg;
	assert_int_equal(work_new(loop_self(), "test", 3, &j.work, NULL), 0);
	scope_init(&s, loop_self());
	for (int i = 0; i < 50; i++)
		assert_int_equal(scope_spawn(&s, asks, &j, NULL), 0);
	scope_wait(&s);
	work_free(j.work);
	assert_int_equal(j.ran, 5000);
	assert_int_equal(j.sevens, 5000);
	return 0;
}

static void test_work(void **state)
{
	(void)state;
	run(main_work, NULL);
}

struct locked {
	struct mutex m;
	int inside, worst, rounds;
};

static int locks(void *arg)
{
	struct locked *l = arg;

	for (int i = 0; i < 10; i++) {
		assert_int_equal(mutex_lock(&l->m), 0);
		if (++l->inside > l->worst)
			l->worst = l->inside;
		task_yield();
		l->inside--;
		l->rounds++;
		mutex_unlock(&l->m);
	}
	return 0;
}

static int main_mutex(void *arg)
{
	struct locked l = {0};
	struct scope s;

	(void)arg;
	mutex_init(&l.m);
	scope_init(&s, loop_self());
	for (int i = 0; i < 8; i++)
		assert_int_equal(scope_spawn(&s, locks, &l, NULL), 0);
	scope_wait(&s);
	assert_int_equal(l.worst, 1);
	assert_int_equal(l.rounds, 80);
	assert_false(l.m.held);
	return 0;
}

static void test_mutex(void **state)
{
	(void)state;
	run(main_mutex, NULL);
}

static int never(void *arg)
{
	while (!task_cancelled())
		task_sleep_ms(100000);
	*(int *)arg = 1;
	return 0;
}

static int main_scope_timeout(void *arg)
{
	struct scope s;
	int ended = 0;

	(void)arg;
	scope_init(&s, loop_self());
	assert_int_equal(scope_spawn(&s, never, &ended, NULL), 0);
	assert_int_equal(scope_wait_ms(&s, 500), -ETIMEDOUT);
	scope_cancel(&s);
	assert_int_equal(scope_wait_ms(&s, 500), 0);
	assert_int_equal(ended, 1);
	return 0;
}

static void test_scope_wait_ms(void **state)
{
	(void)state;
	run_virtual(main_scope_timeout, NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_main_result),
		cmocka_unit_test(test_yield_is_fair),
#ifndef __SANITIZE_THREAD__ /* takes over a MiB a task */
		cmocka_unit_test(test_tasks_are_limited),
#endif
		cmocka_unit_test(test_timers_in_order_of_virtual_time),
		cmocka_unit_test(test_cancel),
		cmocka_unit_test(test_io_timeout),
		cmocka_unit_test(test_work),
		cmocka_unit_test(test_mutex),
		cmocka_unit_test(test_scope_wait_ms),
	};

	return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
