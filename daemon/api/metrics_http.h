/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The HTTP server of metrics: GET and HEAD of /metrics, one request a connection. Its sockets are
 * driven by the loop. When there are too many connections the oldest is cut, so that none can keep
 * others out. Loop thread.
 */
#ifndef FIRSTLIGHT_API_METRICS_HTTP_H
#define FIRSTLIGHT_API_METRICS_HTTP_H

#include "api/metrics_text.h"
#include "base/err.h"
#include "loop/task.h"

struct loop;
struct metrics_http;

/* Writes all metrics. On the loop's stack: must not suspend. */
typedef void metrics_fn(void *arg, struct metrics_text *t);

/*
 * Listens at address (metrics_address.h). One that cannot be had now is no failure: that is logged,
 * and it is tried again every METRICS_RETRY_MS. -EINVAL, -ENOMEM.
 */
int metrics_http_new(struct loop *loop, const char *address, metrics_fn *fn, void *arg,
		     struct metrics_http **ret, struct err *err) must_check;
/* Closes all; takes away a socket's file. NULL is allowed. */
may_suspend void metrics_http_free(struct metrics_http *h);

/* Does it listen? */
bool metrics_http_serves(const struct metrics_http *h);

#endif
