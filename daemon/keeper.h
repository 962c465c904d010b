/* SPDX-License-Identifier: Apache-2.0 */
/* The process that never goes away: holds the lock, the listening socket and the FUSE mount,
 * restarts the worker. */
#ifndef FIRSTLIGHT_KEEPER_H
#define FIRSTLIGHT_KEEPER_H

#include "config.h"

/* What a worker inherits. */
struct worker_fds {
	int listen_fd;
	int ready_fd; /* one byte says: serving */
	/* of the mount ROOT/fill, and FILL_STATE_SIZE bytes for those who serve it (fs/fill.h);
	 * both are -1 where there is no FUSE */
	int fuse_fd, fill_state_fd;
	int logins_fd; /* LOGINS_STATE_SIZE bytes (image/logins.h); 0 = none */
	/* And what it is told. */
	unsigned restarts;      /* workers before it, since the keeper began */
	int64_t keeper_start_s; /* CLOCK_REALTIME */
};

/* exit codes of a worker */
#define WORKER_REFUSED 78 /* (EX_CONFIG) a restart would not help */

/* Runs worker(config, fds) in child processes until SIGTERM or SIGINT; answers the exit code. One
 * thread, no loop. */
int keeper_run(const struct config *config,
	       int (*worker)(const struct config *config, const struct worker_fds *fds));

#endif
