/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one FUSE mount: objects that are not complete yet, by /<2 hex>/<key>. A read waits for its
 * chunks and nothing else, and a signal ends it. Node ids are object numbers, so a new process
 * answers for the nodes of the one before. Requests come by the ring, go through libfuse's
 * low-level session, and are answered at once or by a task. Loop thread.
 */
#ifndef FIRSTLIGHT_FS_FILL_H
#define FIRSTLIGHT_FS_FILL_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/err.h"
#include "base/histogram.h"
#include "image/fetch.h"
#include "loop/task.h"
#include "store/objects.h"

struct fill;

struct fill_options {
	int fuse_fd;      /* mounted by the keeper; stays the caller's */
	int state_fd;     /* the keeper's memfd of FILL_STATE_SIZE bytes, zeroed at first */
	int root_fd;      /* ROOT, for statfs; stays the caller's */
	bool passthrough; /* if the kernel can */
};

/* What outlives a worker: the INIT request, and of each open node how it is open. */
#define FILL_STATE_SIZE (4u << 20)

/* Takes up the session (a new one, or that of the worker before, and asks for its requests again)
 * and serves until fill_free(). */
may_suspend int fill_new(struct loop *loop, struct objects *objects, struct fetcher *fetcher,
			 const struct fill_options *options, struct fill **ret, struct err *err);
/* Stops; requests that wait are left to the next worker. */
may_suspend void fill_free(struct fill *f);

/* Is the session up with passthrough? For the log and doctor. */
bool fill_passthrough(const struct fill *f);

/* fn is called for each read, before it is answered; it must not suspend. NULL = nobody. */
void fill_watch(struct fill *f,
		void (*fn)(void *arg, uint64_t object, uint64_t off, uint64_t len, pid_t pid),
		void *arg);

struct fill_stats {
	uint64_t requests;      /* of all kinds */
	uint64_t reads, missed; /* requests; those that waited for the network */
	uint64_t failed;        /* reads that got an error */
	uint64_t opens, opens_passthrough;
	struct histogram waits; /* of those that missed, until their answer */
};
void fill_stats(const struct fill *f, struct fill_stats *ret);

#endif
