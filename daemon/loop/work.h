/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Threads for what blocks: RocksDB, trees of files, syncfs. A job sees only what its argument
 * points to; the task that asked sleeps meanwhile and may not be cancelled out of it.
 */
#ifndef FIRSTLIGHT_LOOP_WORK_H
#define FIRSTLIGHT_LOOP_WORK_H

#include "base/err.h"
#include "loop/task.h"

struct loop;
struct work;

/* name: at most 15 bytes, shown by ps -L. -EAGAIN, -ENOMEM. */
int work_new(struct loop *loop, const char *name, unsigned threads, struct work **ret_work,
	     struct err *err) must_check;

/* Ends the threads; no job may be queued. */
void work_free(struct work *w);

/* Runs fn(arg) on a thread; answers its result, or -EAGAIN (WORK_QUEUE_MAX jobs are there). */
may_suspend int work_run(struct work *w, int (*fn)(void *arg), void *arg);

#endif
