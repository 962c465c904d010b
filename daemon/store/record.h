/* SPDX-License-Identifier: Apache-2.0 */
/* The snapshot record of include/format.h, from and to bytes. Pure. */
#ifndef FIRSTLIGHT_STORE_RECORD_H
#define FIRSTLIGHT_STORE_RECORD_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/err.h"
#include "format.h"
#include "store/label.h"

struct record {
	enum snapshot_kind kind;
	uint64_t id, boot;
	uint32_t layer;                 /* the lazy layer that it is; 0 = none */
	int64_t created_ns, updated_ns; /* since 1970, UTC */
	int64_t size, inodes;
	struct str parent;
	const struct label *labels; /* ordered by key, no key twice */
	size_t labels_n;
};

/* Appends the bytes of r. -ENOMEM. */
int record_encode(const struct record *r, struct buf *b) must_check;

/* Strings point into bytes, the label array into a. -EBADMSG: not a record; -ENOTSUP: of a newer
 * version; -ENOMEM. */
int record_decode(struct str bytes, struct arena *a, struct record *ret,
		  struct err *err) must_check;

#endif
