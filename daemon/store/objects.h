/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Contents of files on disk, each once over all images. An object is known (a record with a number
 * and the layers that have it), partial (a sparse file and which of its chunks are there) or
 * complete (ROOT/objects/ab/<key>, a plain file that overlayfs reads without us). Nothing is
 * written here that has not been verified by who calls, and a complete object has had its whole
 * content hashed. include/format.h documents the disk. Loop thread, but for what says otherwise.
 *
 * Power cut: a complete object whose data may not be on the disk has mode 0400; once it is, 0444;
 * 0440 if writing it failed. When another boot finds objects without 0444, they are out of sight
 * until they have been hashed again, and partial objects start again.
 *
 * Equal contents with other chunks are one inode: the key of the content as one chunk,
 * sha256(digest ‖ size), is a name that all of them are linked to.
 */
#ifndef FIRSTLIGHT_STORE_OBJECTS_H
#define FIRSTLIGHT_STORE_OBJECTS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/str.h"
#include "loop/sync.h"
#include "store/meta.h"

struct objects;
struct work;

struct objects_options {
	int root_fd;        /* ROOT; stays the caller's */
	uint64_t boot;      /* of this boot; partial objects of another one start again */
	uint64_t bytes_max; /* cap on what complete and partial objects take on disk; above it
			       contents go, to be fetched again on demand; 0 = none */
};

may_suspend int objects_new(struct loop *loop, struct meta *meta, struct work *threads,
			    const struct objects_options *options, struct objects **ret,
			    struct err *err);
/* No verb may be running and no object may be referenced. */
may_suspend void objects_free(struct objects *o);

#define OBJECT_PATH_SIZE (3 + DIGEST_HEX_SIZE)
/* "ab/<64 hex>": the name below objects/, in the fill mount, and (with '/' before it) in redirects.
 */
void object_path(const struct digest *key, char ret[OBJECT_PATH_SIZE]);

/* The number of a content with that key. */
uint64_t object_number(const struct digest *key);
/* The key of the content as one chunk: its name for all chunkings. */
void object_canonical_key(const struct digest *digest, uint64_t size, struct digest *ret);

/* A layer's claim on a content. */
struct object_entry {
	struct digest key, digest;
	uint64_t size;
	uint32_t index;    /* number of the content in that layer's index */
	uint32_t chunks_n; /* is part of what the key stands for */
};

/* Notes the layer as a source of all contents. Durable when 0 is returned. Doing it again changes
 * nothing. -EEXIST: two contents have one number. */
may_suspend int objects_add(struct objects *o, uint32_t layer, const struct object_entry *entries,
			    size_t n, struct err *err);

/* The layer is no source any more; contents without a source go, their files too. */
may_suspend int objects_remove(struct objects *o, uint32_t layer, const struct digest *keys,
			       size_t n, struct err *err);

struct object_info {
	uint64_t number; /* > 0; of the key, whenever it is known */
	uint64_t size;
};
/* -ENOENT. */
may_suspend int objects_find(struct objects *o, const struct digest *key, struct object_info *ret,
			     struct err *err);

struct object_source {
	uint32_t layer, index;
};

/* An object in use. Fields are for reading. */
struct object {
	uint64_t number, size;
	struct digest key, digest;
	uint32_t chunks_n, chunks_here;
	bool complete;
	bool gone; /* has no source any more; the same content may have come back as another one */
	bool no_file; /* none could be made: fd has zeros, and nothing is to be written there */
	bool damaged; /* all chunks were right but the whole was not: no read of it succeeds */
	/* The file, O_RDWR while partial; its size is that of the content or more. The number
	 * stays, but it is another file once complete: what is open by it is open for reading. */
	int fd;
	struct object_source *sources; /* until the next suspend */
	uint32_t sources_n;
	struct waitq changed; /* woken after each chunk and on completion */
};

/* By number. The caller's reference. -ENOENT. */
may_suspend int objects_get(struct objects *o, uint64_t number, struct object **ret,
			    struct err *err);
/* The same, with a reference, if it needs no wait: it is in use or was lately; NULL otherwise. */
struct object *objects_peek(struct objects *o, uint64_t number);
struct object *object_ref(struct object *obj);
void object_unref(struct objects *o, struct object *obj);

bool object_has_chunk(const struct object *obj, uint32_t chunk); /* number within the object */

/* Chunk number `chunk` has been verified and written to obj->fd at its place: it is shown from now
 * on. With the last one the whole is hashed and becomes complete, in the background (an object of
 * one chunk: before this returns). -EINVAL, -EIO (damaged). */
may_suspend int objects_put_chunk(struct objects *o, struct object *obj, uint32_t chunk,
				  struct err *err);

/* --- whole contents at once, for the background: fewer steps for small files ------------------ */

/* Thread: writes a verified content as a complete object. No error if it is there. */
int objects_write_whole(const struct objects *o, const struct digest *key, const void *data,
			size_t size, struct err *err) must_check;
/* Then, on the loop: those who wait for it are told. */
void objects_wrote(struct objects *o, const struct digest *key);

enum object_state { OBJECT_ABSENT, OBJECT_PARTIAL, OBJECT_COMPLETE };
/* What is on the disk, for many; also makes complete those whose content is here under another
 * chunking. */
may_suspend int objects_state(struct objects *o, const struct object_entry *entries, size_t n,
			      uint8_t *ret_states, struct err *err);

/* Bytes on disk, for the cap; how many files are complete and partial. Some seconds
 * after the start all are counted. */
struct objects_usage {
	uint64_t bytes, complete, partial;
};
void objects_usage(const struct objects *o, struct objects_usage *ret);

/* --- checking what is on the disk (objects_verify.c) ------------------------------------------ */

struct object_checked {
	struct digest key;
	enum {
		OBJECT_CHECK_GOOD,
		OBJECT_CHECK_BAD,
		OBJECT_CHECK_UNREADABLE,
		OBJECT_CHECK_GONE
	} state;
	int error;      /* -errno of an unreadable one */
	uint64_t bytes; /* read */
};

/* Appends the keys (struct digest) of the complete objects in objects/<dir as two hex digits>. */
may_suspend int objects_list(struct objects *o, unsigned dir, struct buf *ret_keys,
			     struct err *err);
/* Hashes those of list, on several threads. -EAGAIN, -ENOMEM. */
may_suspend int objects_check(struct objects *o, struct object_checked *list, size_t n,
			      struct err *err);
/* Takes the file of a complete object away: the next read fetches it again. Who has it open keeps
 * what is open. */
may_suspend int objects_discard(struct objects *o, const struct digest *key, struct err *err);

#endif
