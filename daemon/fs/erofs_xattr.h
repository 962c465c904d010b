/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The xattrs of an EROFS image: what each inode gets, equal ones found, and those that several
 * inodes have put into the shared area. First all inodes are taken (in their order), then the
 * shared area is laid out, then sizes are asked for and bytes written. Part of fs/erofs.c.
 */
#ifndef FIRSTLIGHT_FS_EROFS_XATTR_H
#define FIRSTLIGHT_FS_EROFS_XATTR_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/map.h"
#include "image/merge.h"

struct xattr_value;

struct xattr_pool {
	struct map map;     /* struct xattr_value by index, name and value */
	struct map objects; /* struct xattr_value of redirects, by object key */
	struct arena arena;
	struct buf key;             /* of the look-up that is under way */
	struct xattr_value **refs;  /* of all inodes, in their order */
	struct xattr_value *shared; /* in the order of their first use */
	size_t refs_n, refs_cap;
	uint64_t shared_bytes;
};

/* What an inode has: a run of refs. */
struct xattr_refs {
	uint32_t first, n;
};

int xattr_pool_init(struct xattr_pool *p) must_check;
void xattr_pool_fini(struct xattr_pool *p);

/* -EFBIG: more than the format holds; -ENOMEM. whiteouts: a directory with whiteouts in it. */
int xattr_take(struct xattr_pool *p, const struct merge_inode *in, bool whiteouts,
	       struct xattr_refs *ret) must_check;

/* After the last inode: where each shared value lies, in bytes from base (a multiple of 4). */
int xattr_layout(struct xattr_pool *p, uint64_t base) must_check;

/* Bytes of the inode's area, header included; 0 = none. Depends on which values are shared, not on
 * where. -EFBIG. */
int xattr_area_size(const struct xattr_pool *p, struct xattr_refs r, uint32_t *ret) must_check;

/* Appends the inode's area, and the shared area. -ENOMEM. */
int xattr_put_area(const struct xattr_pool *p, struct xattr_refs r, struct buf *out) must_check;
int xattr_put_shared(const struct xattr_pool *p, struct buf *out) must_check;

#endif
