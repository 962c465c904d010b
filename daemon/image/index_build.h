/* SPDX-License-Identifier: Apache-2.0 */
/* Between the builder's parts: index_add.c gathers, index_tree.c settles the tree, index_write.c
 * writes. */
#ifndef FIRSTLIGHT_IMAGE_INDEX_BUILD_H
#define FIRSTLIGHT_IMAGE_INDEX_BUILD_H

#include "base/buf.h"
#include "image/index_rec.h"

#define TYPE_OPAQUE 100 /* .wh..wh..opq of the directory that is its path */

struct build_file {
	struct digest digest, key;
	bool has_digest;
	uint64_t size;
	uint32_t chunk, chunks_n;
	uint32_t object; /* number in the index; INDEX_NONE: not in it */
};

struct index_builder {
	enum codec codec;
	uint64_t blob_size, payload_end;
	uint64_t prefetch_end;
	bool no_prefetch;
	struct buf strings;
	struct buf entries; /* struct rec_entry of the host; .object = file number */
	struct buf xattrs;  /* struct rec_xattr of the host */
	struct buf files;   /* struct build_file */
	struct buf chunks;  /* struct index_chunk; .object = file number */
	struct buf starts;  /* uint64_t: where streams start in the blob */
	/* the entry added last */
	enum { LAST_NONE, LAST_FILE, LAST_LANDMARK, LAST_DROPPED } last;
	uint64_t file_at; /* of LAST_FILE: bytes covered by chunks */
	/* set by index_settle() */
	uint32_t *order; /* entries of the index */
	uint32_t order_n;
	uint64_t inodes;
};

#define build_array(b, type) ((type *)(void *)(b).data)
#define build_count(b, type) ((uint32_t)((b).len / sizeof(type)))

static inline struct str build_string(const struct index_builder *b, uint32_t off, uint32_t len)
{
	return (struct str){(const char *)b->strings.data + off, len};
}

static inline struct rec_entry *build_entry(const struct index_builder *b, uint32_t i)
{
	return &build_array(b->entries, struct rec_entry)[i];
}

static inline struct str build_path(const struct index_builder *b, const struct rec_entry *e)
{
	return build_string(b, e->path_off, e->path_len);
}

/* Checks the file added last, when nothing more of it comes. -EINVAL. */
int index_file_done(struct index_builder *b, struct err *err) must_check;
/* Duplicates, whiteouts, links: fills order. -EINVAL, -ENOMEM. */
int index_settle(struct index_builder *b, struct err *err) must_check;

/* "text: path" with what can be shown of the path. */
int build_error(struct err *err, int code, struct str path, const char *text) must_check;

#endif
