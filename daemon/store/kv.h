/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ordered bytes: what firstlight needs of a database. RocksDB (kv_rocks.c), and a twin in memory
 * for tests (kv_mem.c). Every call blocks: worker threads only; any number of them at once, but
 * kv_commit() by one thread at a time.
 */
#ifndef FIRSTLIGHT_STORE_KV_H
#define FIRSTLIGHT_STORE_KV_H

#include "base/buf.h"
#include "base/err.h"
#include "base/str.h"

enum kv_space {
	KV_DEFAULT,
	KV_SNAPSHOTS,
	KV_LAYERS,
	KV_OBJECTS,
	KV_NUMBERS,
	KV_PROFILES,
	KV_SPACES
};

struct kv;
struct kv_iter;

/* One change; key and value are the caller's until kv_commit() returns. */
struct kv_change {
	enum kv_space space;
	struct str key, value;
	bool del;
};

/* What a database implements. */
struct kv_type {
	int (*commit)(struct kv *kv, const struct kv_change *changes, size_t n, struct err *err);
	int (*get)(struct kv *kv, enum kv_space space, struct str key, struct buf *ret_value,
		   struct err *err);
	int (*iter)(struct kv *kv, enum kv_space space, struct kv_iter **ret_it, struct err *err);
	int (*next)(struct kv_iter *it, struct str *ret_key, struct str *ret_value,
		    struct err *err);
	void (*iter_free)(struct kv_iter *it);
	void (*close)(struct kv *kv);
};

struct kv {
	const struct kv_type *type;
};

struct kv_iter {
	struct kv *kv;
};

/* Opens or creates the database in dir. -EBUSY: open elsewhere; -ENOTSUP: has spaces that this
 * version does not know. */
int kv_rocks_open(const char *dir, struct kv **ret_kv, struct err *err) must_check;
int kv_mem_open(struct kv **ret_kv) must_check;

/* All changes or none, on stable storage when 0 is returned. After an error the outcome is open
 * until the database has been opened again, and every further commit fails: -ENOSPC, -EIO. */
static inline int kv_commit(struct kv *kv, const struct kv_change *changes, size_t n,
			    struct err *err)
{
	return kv->type->commit(kv, changes, n, err);
}

/* Replaces ret_value's contents. -ENOENT, -EIO. */
static inline int kv_get(struct kv *kv, enum kv_space space, struct str key, struct buf *ret_value,
			 struct err *err)
{
	return kv->type->get(kv, space, key, ret_value, err);
}

/* A walk in key order over the state of now. Free it before the database is closed. */
static inline int kv_iter_new(struct kv *kv, enum kv_space space, struct kv_iter **ret_it,
			      struct err *err)
{
	return kv->type->iter(kv, space, ret_it, err);
}

/* 1 = an entry, valid until the next call; 0 = the end; -EIO. */
static inline int kv_iter_next(struct kv_iter *it, struct str *ret_key, struct str *ret_value,
			       struct err *err)
{
	return it->kv->type->next(it, ret_key, ret_value, err);
}

static inline void kv_iter_free(struct kv_iter *it)
{
	if (it)
		it->kv->type->iter_free(it);
}

static inline void kv_close(struct kv *kv)
{
	if (kv)
		kv->type->close(kv);
}

/* Test hook of the memory twin: the n-th commit from now fails with code (n = 0: the next), and, as
 * RocksDB, all after it until code 0 is set. applied: its changes are there all the same. */
void kv_mem_fail(struct kv *kv, unsigned n, int code, bool applied);

#endif
