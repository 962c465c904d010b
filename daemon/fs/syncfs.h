/* SPDX-License-Identifier: Apache-2.0 */
/*
 * syncfs(2) for many: one call serves all who asked before it began. Loop thread; the call itself
 * runs on a thread of its own.
 */
#ifndef FIRSTLIGHT_FS_SYNCFS_H
#define FIRSTLIGHT_FS_SYNCFS_H

#include <stdint.h>

#include "loop/scope.h"
#include "loop/work.h"

struct syncfs {
	struct work *thread;
	struct scope scope;
	struct list waiting; /* struct asker, in its task's frame */
	int fd;
	bool running;
	uint64_t begun, ended; /* numbers of calls; ended: the last one that was successful */
};

/* fd: any file of the file system, stays the caller's. */
int syncfs_init(struct syncfs *s, struct loop *loop, int fd, struct err *err) must_check;

/* Nobody may be waiting. A zeroed struct is allowed. */
may_suspend void syncfs_fini(struct syncfs *s);

/* What was written before the call is on the disk when 0 is returned. -EIO, -ENOSPC, -EAGAIN. Not
 * cancellable. */
may_suspend int syncfs_run(struct syncfs *s, struct err *err);

/*
 * Without waiting: is what was done at syncfs_mark() on the disk by now? It is once a call that
 * began later has ended.
 */
static inline uint64_t syncfs_mark(const struct syncfs *s)
{
	return s->begun;
}
static inline bool syncfs_covers(const struct syncfs *s, uint64_t mark)
{
	return s->ended > mark;
}

#endif
