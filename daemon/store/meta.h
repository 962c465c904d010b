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

/* A task's changes: made together or not at all. Strings are the caller's. */
struct meta_change {
	struct kv_change changes[META_CHANGES_MAX];
	size_t n;
};

/* Durable when 0 is returned. Otherwise the outcome is not known before the next start, and every
 * further change fails with -ENOSPC or -EIO until then. Not cancellable. */
may_suspend int meta_commit(struct meta *m, const struct meta_change *c, struct err *err);

/* The record of name, as bytes. -ENOENT, -EIO. */
may_suspend int meta_get(struct meta *m, struct str name, struct buf *ret_value, struct err *err);

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
