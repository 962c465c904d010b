/* SPDX-License-Identifier: Apache-2.0 */
/* The bytes of an index file (include/format.h, "layer index"), and the rules of paths. Pure. */
#ifndef FIRSTLIGHT_IMAGE_INDEX_REC_H
#define FIRSTLIGHT_IMAGE_INDEX_REC_H

#include <endian.h>

#include "format.h"
#include "image/index.h"

#define INDEX_CHUNK_ZEROS 1u

struct index_head {
	char magic[8];
	uint32_t version;
	uint32_t codec;
	uint64_t blob_size;
	uint64_t prefetch_end;
	uint64_t content_bytes;
	uint64_t inodes;
	uint64_t strings_len;
	uint32_t entries_n, xattrs_n, objects_n, chunks_n;
	struct digest body; /* of all bytes behind the header */
	struct digest head; /* of the header before this */
} __attribute__((packed));

struct rec_entry {
	uint32_t path_off, path_len;
	uint32_t link_off, link_len;
	int64_t mtime;
	uint32_t mtime_nsec;
	uint32_t uid, gid;
	uint32_t dev_major, dev_minor;
	uint32_t target;
	uint32_t names;
	uint32_t object;
	uint32_t xattrs, xattrs_n;
	uint16_t mode;
	uint8_t type;
	uint8_t opaque; /* 1, or INDEX_OPAQUE_IMPLIED */
} __attribute__((packed));

struct rec_xattr {
	uint32_t name_off, name_len;
	uint32_t value_off, value_len;
} __attribute__((packed));

#define INDEX_OPAQUE_IMPLIED 2 /* and the layer says nothing else of the directory */

struct rec_object {
	struct digest key, digest;
	uint64_t size;
	uint32_t chunk, chunks_n;
	uint32_t check; /* index_check() of what is before it */
} __attribute__((packed));

struct rec_chunk {
	uint64_t blob_off, blob_len;
	uint64_t inner_off, file_off;
	uint32_t size, object;
	uint32_t flags;
	struct digest digest;
	uint32_t check;
} __attribute__((packed));

/* Where the parts of a file are; all counts are within their limits. */
struct index_layout {
	uint64_t entries, xattrs, objects, chunks, strings, end;
};

/* Little-endian to the host and back, which is the same. */
void index_head_swap(struct index_head *h);
void rec_entry_swap(struct rec_entry *e);
void rec_xattr_swap(struct rec_xattr *x);

void index_pack_object(const struct index_object *o, struct rec_object *ret);
void index_pack_chunk(const struct index_chunk *c, struct rec_chunk *ret);
void index_unpack_object(const struct rec_object *r, struct index_object *ret);
void index_unpack_chunk(const struct rec_chunk *r, struct index_chunk *ret);
/* Is the record as it was written? */
bool index_object_sound(const struct rec_object *r);
bool index_chunk_sound(const struct rec_chunk *r);

/* Digest of a header up to its own digest; check of an object's or chunk's record. For who makes
 * files by hand. */
void index_head_digest(const struct index_head *little_endian, struct digest *ret);
uint32_t index_check(const void *rec, size_t n);

struct index_layout index_layout(const struct index_head *host);

/* Does the file's header hold? Makes it the host's. -EBADMSG, -ENOTSUP, -EFBIG. */
int index_head_check(struct index_head *h, uint64_t file_size, struct err *err) must_check;

/* Order of a walk through the tree: by bytes, '/' before all others. */
int index_path_cmp(struct str a, struct str b);
/* Is path below dir ("" is above all)? */
bool index_path_below(struct str path, struct str dir);
/* Clean as index.h says? -EINVAL, -EFBIG. "" is clean. */
int index_path_check(struct str path) must_check;
/* Makes a name of a table clean, in out (as many bytes as name). -EINVAL, -EFBIG. */
int index_path_clean(struct str name, char *out, size_t *ret_len) must_check;

#endif
