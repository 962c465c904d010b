/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The index of a layer: what its table of contents says, checked and flat. One file on disk
 * (include/format.h, "layer index"), made once when the layer becomes known; the tree of the layer,
 * its contents and where in the blob their chunks are. Blocking: threads only.
 *
 * What holds for every index that was built or loaded:
 *   - paths are clean: relative, no empty part, no "." or "..", parts of 1..NAME_MAX bytes, no NUL;
 *     "" is the root. No path is there twice. Landmarks and the TOC itself are not in it.
 *   - a parent that has no entry is implied (no attributes of its own); no entry lies below
 *     something that is not a directory of the same layer.
 *   - a hard link leads to an entry that is no hard link and no directory (chains are resolved), or
 *     to a path that this layer does not have (INDEX_LINK_BELOW): a lower layer must have it.
 *   - whiteouts are entries of their own type: the path is that of what they hide. No entry is
 *     below one.
 *   - the root has an entry only if it is opaque, and only that counts: containerd does not apply a
 *     layer's attributes of the root.
 *   - entries are ordered as a walk of the tree: paths by bytes, '/' before all others. So what is
 *     in a directory follows it, and its children are ordered by name.
 *   - xattrs of an entry are ordered by name, none is there twice; only user.*, security.* and
 *     POSIX ACLs.
 *   - the chunks of an object cover it without gaps; chunk sizes are 1..CHUNK_SIZE_MAX; offsets lie
 *     in the blob.
 */
#ifndef FIRSTLIGHT_IMAGE_INDEX_H
#define FIRSTLIGHT_IMAGE_INDEX_H

#include <stdbool.h>
#include <stdint.h>

#include "base/digest.h"
#include "base/err.h"
#include "base/str.h"
#include "image/codec.h"

#define INDEX_NONE UINT32_MAX

enum index_type {
	INDEX_DIR = 1,
	INDEX_REG,
	INDEX_SYMLINK,
	INDEX_LINK,       /* target: entry number in .target */
	INDEX_LINK_BELOW, /* target: path in .link, not in this layer */
	INDEX_CHAR,
	INDEX_BLOCK,
	INDEX_FIFO,
	INDEX_WHITEOUT, /* hides the path of lower layers */
};

struct index_entry {
	struct str path;
	enum index_type type;
	bool opaque;   /* of a directory: hides its children of lower layers */
	bool implied;  /* of an opaque one: its attributes are those of the lower layers */
	uint32_t mode; /* 07777 */
	uint32_t uid, gid;
	int64_t mtime; /* seconds since 1970 */
	uint32_t mtime_nsec;
	uint32_t dev_major, dev_minor;
	struct str link;           /* of INDEX_SYMLINK (verbatim), INDEX_LINK_BELOW (clean) */
	uint32_t target;           /* of INDEX_LINK */
	uint32_t names;            /* 1 + hard links to it; directory, link, whiteout: 0 */
	uint32_t object;           /* of INDEX_REG: number of its content; INDEX_NONE = empty */
	uint32_t xattrs, xattrs_n; /* first and how many */
};

struct index_xattr {
	struct str name, value; /* full name such as "security.capability" */
};

/* A content, once however often the layer holds it. */
struct index_object {
	struct digest key;        /* what identifies it on this host: index_key() */
	struct digest digest;     /* sha256 of the content, as the index claims */
	uint64_t size;            /* > 0 */
	uint32_t chunk, chunks_n; /* first and how many, in file order */
};

/*
 * A piece of an object. Chunks are stored in the order of the blob (INDEX_CHUNK_ZEROS at the place
 * of their neighbours), and those of one object follow each other.
 */
struct index_chunk {
	uint64_t blob_off;  /* where its stream starts in the blob */
	uint64_t blob_len;  /* compressed bytes that surely hold it */
	uint64_t inner_off; /* bytes of the stream's output before it */
	uint64_t file_off;
	uint32_t size;
	uint32_t object;
	struct digest digest; /* sha256 of its bytes; all zero for a zeros chunk */
	bool zeros;           /* nothing to fetch: the bytes are 0 */
};

/* Of the whole layer. */
struct index_info {
	enum codec codec;
	uint64_t blob_size;
	uint64_t prefetch_end;  /* bytes of the blob that the landmark wants first; 0 = none */
	uint64_t content_bytes; /* sum of object sizes */
	uint64_t inodes;
	uint32_t entries_n, xattrs_n, objects_n, chunks_n;
};

/* The key of a content: one chunk: sha256(digest ‖ size); several: sha256(digest ‖ size ‖
 * (chunk digest ‖ chunk size) …). Sizes are u64 little-endian. Not the digest alone, because an
 * index may claim any digest, and not without the sizes, because presence is kept by chunk number.
 */
void index_key(const struct digest *digest, uint64_t size, const struct index_chunk *chunks,
	       uint32_t chunks_n, struct digest *ret);

struct index;

/* Loads and checks the file fd, all of it into memory. Its bytes are not trusted. -EBADMSG,
 * -ENOTSUP (newer version), -EFBIG, -ENOMEM, -EIO. */
int index_load(int fd, struct index **ret, struct err *err) must_check;
void index_free(struct index *ix);
#define auto_index cleanup(index_free_)
static inline void index_free_(struct index **ix)
{
	index_free(*ix);
}

const struct index_info *index_info(const struct index *ix);
/* Numbers are below the counts of index_info(). Strings live as long as ix. */
void index_entry(const struct index *ix, uint32_t i, struct index_entry *ret);
void index_xattr(const struct index *ix, uint32_t i, struct index_xattr *ret);
void index_object(const struct index *ix, uint32_t i, struct index_object *ret);
void index_chunk(const struct index *ix, uint32_t i, struct index_chunk *ret);

/* Without loading all: one or several records from the file. -EBADMSG, -EINVAL (no such number),
 * -EIO. Short reads of a file that was just written: also good on the loop's thread. */
int index_read_info(int fd, struct index_info *ret, struct err *err) must_check;
int index_read_object(int fd, uint32_t i, struct index_object *ret, struct err *err) must_check;
int index_read_chunks(int fd, uint32_t first, uint32_t n, struct index_chunk *ret,
		      struct err *err) must_check;

/* A path that has the content `object`, the first if there are several, into ret (INDEX_PATH_MAX +
 * 1 bytes; ends in NUL). Reads all entries: threads only. -ENOENT, -EBADMSG, -EIO. */
int index_read_path(int fd, uint32_t object, char *ret, struct err *err) must_check;

/* --- making one ------------------------------------------------------------------------------- */

/*
 * Takes the entries of a table of contents in its order, and checks the rules above at the end.
 * What it makes of them:
 *   - names and targets of hard links are cleaned; of entries with the same name the last counts.
 *   - .wh.NAME and .wh..wh..opq become whiteouts and opaque directories (image-spec layer.md);
 *     what is in the layer beside its whiteout stays, a directory then is opaque. A character
 *     device 0:0 is a whiteout too, as for overlayfs.
 *   - landmarks and the TOC itself are taken out; .prefetch.landmark says what comes first.
 *   - xattrs that containerd would not set are dropped. Times before 1970 become 0.
 */
struct index_builder;

int index_builder_new(enum codec codec, uint64_t blob_size, struct index_builder **ret) must_check;
void index_builder_free(struct index_builder *b);
#define auto_index_builder cleanup(index_builder_free_)
static inline void index_builder_free_(struct index_builder **b)
{
	index_builder_free(*b);
}

/* Chunks lie below end; the last one ends there. Without it: the blob's size. */
void index_builder_payload(struct index_builder *b, uint64_t end);

/*
 * The next entry. Of e count path (any form), type, opaque, mode, uid, gid, mtime, mtime_nsec,
 * dev_*, and link (of INDEX_SYMLINK, INDEX_LINK). size and digest (NULL: not known): of INDEX_REG.
 * All is copied. -EINVAL, -EFBIG, -ENOMEM.
 */
int index_builder_add(struct index_builder *b, const struct index_entry *e, uint64_t size,
		      const struct digest *digest, const struct index_xattr *xattrs,
		      size_t xattrs_n, struct err *err) must_check;

/*
 * The next chunk of the entry added last, in file order. Of c count blob_off, blob_len (0: up to
 * where the next stream starts), inner_off, file_off, size (0: the rest of the file), digest (all
 * zero: not known; the only chunk takes the file's), zeros. Errors as above.
 */
int index_builder_chunk(struct index_builder *b, const struct index_chunk *c,
			struct err *err) must_check;

/* The file fd gets the index, from its start; not synced. Once for each builder. -EINVAL: a rule is
 * broken, err says which entry; -EFBIG: a limit; -ENOMEM, -ENOSPC, -EIO. */
int index_builder_write(struct index_builder *b, int fd, struct err *err) must_check;

#endif
