/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bytes of objects for FUSE reads: at once if they are here and in the page cache, else by waiting.
 * Owns the buffers, which are few: a read has one only when its bytes are on the disk. Loop thread.
 */
#ifndef FIRSTLIGHT_FS_FILL_READ_H
#define FIRSTLIGHT_FS_FILL_READ_H

#include "base/list.h"
#include "image/fetch.h"
#include "loop/sync.h"
#include "store/objects.h"

struct fill_reader {
	struct objects *objects;
	struct fetcher *fetcher;
	struct list idle; /* buffers; the link is in their first bytes */
	unsigned buffers, idle_n;
	struct waitq room;
};

void fill_reader_init(struct fill_reader *r, struct objects *objects, struct fetcher *fetcher);
void fill_reader_fini(struct fill_reader *r); /* all buffers must be back */

/* By number; waits where something else is full. The caller's reference. -ENOENT, -ECANCELED. */
may_suspend int fill_object_get(struct fill_reader *r, uint64_t number, struct object **ret);

/* [off, off + len) of obj, inside of it, len <= FILL_READ_MAX. The buffer goes back by
 * fill_buffer_put(). */
int fill_read_now(struct fill_reader *r, struct object *obj, uint64_t off, size_t len,
		  void **ret_buf) must_check; /* -EAGAIN: fill_read() must wait for it */
may_suspend int fill_read(struct fill_reader *r, struct object *obj, uint64_t off, size_t len,
			  void **ret_buf);
void fill_buffer_put(struct fill_reader *r, void *buf);

#endif
