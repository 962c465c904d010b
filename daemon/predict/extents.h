/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where in the blobs of an image's layers lies what a program reads when it starts, in the order of
 * first use. A profile says it by path, for every version of the image; extents are of exactly
 * these blobs, and tell it without their tables of contents. Pure; any thread. Memory is the
 * caller's arena.
 */
#ifndef FIRSTLIGHT_PREDICT_EXTENTS_H
#define FIRSTLIGHT_PREDICT_EXTENTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/str.h"

/* Of one chunk. */
struct extent {
	uint32_t blob, content; /* in extents.blobs, extents.contents */
	uint64_t off, len;      /* in the blob, bytes; len > 0 */
};

struct extents {
	const struct digest *blobs;
	const struct digest *contents; /* keys of objects (store/objects.h) */
	const struct extent *list;     /* none twice by (blob, off) */
	size_t blobs_n, contents_n, n;
};

/* Appends it (include/format.h). Within EXTENTS_MAX, EXTENTS_BLOBS_MAX and EXTENTS_BYTES_MAX, which
 * is the caller's to see to. -ENOMEM. */
int extents_encode(const struct extents *e, struct buf *value) must_check;
/* -EBADMSG: none, or more than the bounds; -ENOTSUP: of a newer version; -ENOMEM. */
int extents_decode(struct str value, struct arena *a, struct extents *ret,
		   struct err *err) must_check;

/* What all of n > 0 have, in the order of the first, whose blobs and contents it keeps: not to be
 * encoded. -ENOMEM. */
int extents_common(const struct extents *all, size_t n, struct arena *a,
		   struct extents *ret) must_check;

#endif
