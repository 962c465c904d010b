/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is told to Prometheus: counters that the modules keep anyway, read when somebody asks. No
 * database, no thread, no wait: all of it is read in one turn of the loop. Loop thread.
 */
#ifndef FIRSTLIGHT_API_METRICS_H
#define FIRSTLIGHT_API_METRICS_H

#include "api/metrics_text.h"
#include "base/err.h"
#include "loop/task.h"

struct grpc_server;
struct loop;
struct metrics;
struct services;

struct metrics_options {
	const char *address;             /* metrics_address.h */
	const struct services *services; /* both stay the caller's */
	const struct grpc_server *server;
	unsigned restarts;      /* of the worker, since the keeper began */
	int64_t keeper_start_s; /* CLOCK_REALTIME */
};

/* Serves them, or tries again and again. -EINVAL, -ENOMEM. */
int metrics_new(struct loop *loop, const struct metrics_options *options, struct metrics **ret,
		struct err *err) must_check;
/* NULL is allowed. */
may_suspend void metrics_free(struct metrics *m);

#endif
