/* SPDX-License-Identifier: Apache-2.0 */
/* The process that never goes away: holds the lock and the listening socket, restarts the worker.
 */
#ifndef FIRSTLIGHT_KEEPER_H
#define FIRSTLIGHT_KEEPER_H

#include "config.h"

/* What a worker inherits. */
struct worker_fds {
	int listen_fd;
	int ready_fd; /* one byte says: serving */
};

/* exit codes of a worker */
#define WORKER_REFUSED 78 /* (EX_CONFIG) a restart would not help */

/* Runs worker(config, fds) in child processes until SIGTERM or SIGINT; answers the exit code. One
 * thread, no loop. */
int keeper_run(const struct config *config,
	       int (*worker)(const struct config *config, const struct worker_fds *fds));

#endif
