/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entries of a layer's tar, with the places of their bytes: what a table of contents is made
 * of. The tar is in a file; it stays byte for byte what it is, so that a layer keeps its diff id.
 * Its bytes are not trusted. Blocking.
 */
#ifndef FIRSTLIGHT_TOOLS_CONVERT_TAR_H
#define FIRSTLIGHT_TOOLS_CONVERT_TAR_H

#include <stdint.h>

#include "base/arena.h"
#include "base/digest.h"
#include "base/err.h"

#define TAR_ENTRIES_MAX 4000000
#define TAR_MEMORY_MAX  (2ull << 30) /* of the entries of one layer */

struct tar_xattr {
	const char *name;
	const void *value;
	size_t size;
};

struct tar_entry {
	const char *name, *link, *type; /* type as in a table of contents */
	uint64_t header, data, size;    /* offsets in the tar; size of a regular file */
	uint32_t mode, uid, gid;
	int64_t mtime;
	uint32_t mtime_nsec;
	uint32_t major, minor;
	struct tar_xattr *xattrs;
	size_t xattrs_n;
	struct digest digest; /* of a regular file; filled by who reads it */
};

struct tar_list {
	struct arena arena;
	struct tar_entry *list;
	size_t n;
	uint64_t end;  /* of the entries: the first block of zeros */
	uint64_t size; /* of the tar */
	bool index;    /* it has a stargz.index.json */
};

/* -EBADMSG: damaged; -EOPNOTSUPP: sparse files, names that are no UTF-8; -EFBIG, -ENOMEM, -EIO. */
int tar_scan(int fd, struct tar_list *ret, struct err *err);
void tar_list_fini(struct tar_list *l);

#endif
