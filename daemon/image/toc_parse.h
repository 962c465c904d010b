/* SPDX-License-Identifier: Apache-2.0 */
/* Between toc.c and the formats: JSON of a table of contents, one entry at a time. */
#ifndef FIRSTLIGHT_IMAGE_TOC_PARSE_H
#define FIRSTLIGHT_IMAGE_TOC_PARSE_H

#include "image/index.h"

enum toc_type {
	TOC_TYPE_UNKNOWN,
	TOC_TYPE_DIR,
	TOC_TYPE_REG,
	TOC_TYPE_SYMLINK,
	TOC_TYPE_HARDLINK,
	TOC_TYPE_CHAR,
	TOC_TYPE_BLOCK,
	TOC_TYPE_FIFO,
	TOC_TYPE_CHUNK
};

/* An entry as the table has it; what is absent is zero. Valid during toc_entry_fn. */
struct toc_entry {
	enum toc_type type;
	struct str name, link_name, modtime, digest, chunk_digest, chunk_type;
	uint64_t size, mode, uid, gid, dev_major, dev_minor;
	uint64_t offset, inner_offset, end_offset, chunk_offset, chunk_size;
	const struct index_xattr *xattrs;
	size_t xattrs_n;
};

/* What a format makes of the entries. */
struct toc_target {
	struct index_builder *builder;
	struct err *err;
	bool in_file; /* chunks may follow */
	/* of zstd:chunked: the chunk that waits to know whether it is the last of its file */
	struct index_chunk chunk;
	bool waiting;
	uint64_t end_offset; /* of its file */
};

typedef int toc_entry_fn(struct toc_target *t, const struct toc_entry *e);

toc_entry_fn toc_estargz_entry; /* both of stargz-snapshotter's formats */
toc_entry_fn toc_chunked_entry; /* containers/storage */
/* Behind the last entry of the latter. */
int toc_chunked_end(struct toc_target *t) must_check;

struct toc_json;

int toc_json_new(toc_entry_fn *fn, struct toc_target *t, struct toc_json **ret) must_check;
int toc_json_feed(struct toc_json *p, const void *data, size_t n) must_check;
int toc_json_end(struct toc_json *p) must_check;
void toc_json_free(struct toc_json *p);

/* The tar around eStargz's table, whose first file it must be. Feed it the member's output. */
struct toc_tar {
	uint8_t head[512];
	size_t head_n;
	uint64_t left; /* bytes of the table that have not come yet */
	bool open;     /* the header has been read */
};

/* What of data belongs to the table. -EBADMSG, -EFBIG. */
int toc_tar_feed(struct toc_tar *t, const uint8_t *data, size_t n, struct str *ret_table,
		 struct err *err) must_check;

/* What both formats share: the entry without its chunks; its digest, if it has one; the chunk that
 * it holds. -EINVAL, -EOPNOTSUPP. */
int toc_add(struct toc_target *t, const struct toc_entry *e, bool strict_time) must_check;
int toc_chunk(struct toc_target *t, const struct toc_entry *e, struct index_chunk *ret) must_check;

/* RFC 3339 with up to 9 digits of a fraction; -EINVAL. */
int toc_time(struct str text, int64_t *ret_s, uint32_t *ret_ns) must_check;

#endif
