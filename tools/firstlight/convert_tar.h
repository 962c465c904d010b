/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The entries of a layer's tar, with the places of their bytes: what a table of contents is made
 * of. The tar is in a file; it stays byte for byte what it is, so that a layer keeps its diff id.
 * Its bytes are not trusted. Blocking.
 */
#ifndef FIRSTLIGHT_TOOLS_CONVERT_TAR_H
#define FIRSTLIGHT_TOOLS_CONVERT_TAR_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/digest.h"
#include "base/err.h"

#define TAR_BLOCK       512u
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
	bool sparse;          /* its bytes are not in one piece: data says nothing */
	struct digest digest; /* of a regular file; filled by who reads it */
};

struct tar_list {
	struct arena arena;
	struct tar_entry *list;
	size_t n;
	uint64_t end;  /* of the entries: the first block of zeros */
	uint64_t size; /* of the tar */
	bool sparse;   /* it has sparse files */
	bool index;    /* it has a stargz.index.json */
};

/* -EBADMSG: damaged; -EOPNOTSUPP: names that are no UTF-8; -EFBIG, -ENOMEM, -EIO. */
int tar_scan(int fd, struct tar_list *ret, struct err *err);
void tar_list_fini(struct tar_list *l);

/* Reads the tar once more and calls fn for each entry of l. */
struct tar_reader;
typedef int tar_walk_fn(void *arg, size_t i, struct tar_reader *reader);
int tar_walk(int fd, const struct tar_list *l, tar_walk_fn *fn, void *arg, struct err *err);

/* The bytes of the entry e that a walk is at, to fn in order, each part behind `hole` zeros. fn is
 * called for zeros at the end too. -EBADMSG, or what fn answers. */
typedef int tar_part_fn(void *arg, uint64_t hole, const void *data, size_t n);
int tar_read_content(struct tar_reader *reader, const struct tar_entry *e, tar_part_fn *fn,
		     void *arg, struct err *err);

#endif
