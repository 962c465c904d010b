/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Records in the database, and the group commit: all changes of one loop turn, and all that come
 * while a write is under way, become one synced write. Loop thread; what touches the database runs
 * on the store's threads.
 */
#ifndef FIRSTLIGHT_STORE_META_H
#define FIRSTLIGHT_STORE_META_H

#include "loop/work.h"
#include "store/kv.h"
#include "store/record.h"

struct meta;

/* kv and tree_fd (a directory beside the database, to try the disk in) become meta's. */
int meta_new(struct loop *loop, struct kv *kv, int tree_fd, struct meta **ret_meta,
	     struct err *err) must_check;

/* No commit may be waiting. Closes the database. */
may_suspend void meta_free(struct meta *m);

#define META_CHANGES_MAX 3

/*
 * A task's changes: made together or not at all. Strings are the caller's. before and after (may be
 * NULL) are called on the writing thread, which saves a switch to another one: they must be short.
 * An error of before cancels the change and is what meta_commit() answers. after is called once the
 * change is durable.
 */
struct meta_change {
	struct kv_change changes[META_CHANGES_MAX];
	size_t n;
	int (*before)(void *arg);
	void (*after)(void *arg);
	void *arg;
	/* Any number of further changes; before may set them, and may read the database first: what
	 * it sees does not change until its own change is made, but for changes of the same group,
	 * which it does not see. */
	const struct kv_change *more;
	size_t more_n;
};

/* Durable when 0 is returned. Otherwise the outcome is not known before the next start, and every
 * further change fails with -ENOSPC or -EIO until then. Not cancellable. */
may_suspend int meta_commit(struct meta *m, const struct meta_change *c, struct err *err);

/* The record of name, as bytes. -ENOENT, -EIO. */
may_suspend int meta_get(struct meta *m, struct str name, struct buf *ret_value, struct err *err);

/* Runs fn(kv, arg) on a reading thread; answers its result, -EAGAIN. */
may_suspend int meta_read(struct meta *m, int (*fn)(struct kv *kv, void *arg), void *arg);

/* For before(), and for the start. Threads only. */
struct kv *meta_kv(const struct meta *m);

/* Has a write failed, and can the disk be written again? Then a restart is the way back. */
bool meta_wants_restart(const struct meta *m);

/* A walk over all snapshot records in name order, as they are durable at its start. */
struct meta_walk;
may_suspend int meta_walk_new(struct meta *m, struct meta_walk **ret_walk, struct err *err);
/* Up to LIST_BLOCK records: entries are valid until the next call. Answers how many; 0 = the end.
 */
struct meta_entry {
	struct str name, value;
};
may_suspend int meta_walk_next(struct meta_walk *w, const struct meta_entry **ret_entries,
			       struct err *err);
may_suspend void meta_walk_free(struct meta_walk *w);

#endif
