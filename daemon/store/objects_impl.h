/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Inside the object store. objects_record.c: bytes of records and presence; objects_change.c:
 * records in the database; objects_file.c: files, on threads; objects.c: objects in use;
 * objects_sync.c: durability and the check after a power cut; objects_gc.c: what goes again.
 */
#ifndef FIRSTLIGHT_STORE_OBJECTS_IMPL_H
#define FIRSTLIGHT_STORE_OBJECTS_IMPL_H

#include "base/buf.h"
#include "base/map.h"
#include "format.h"
#include "loop/scope.h"
#include "store/objects.h"

/* What is on the disk; threads add to it. Names that share an inode share its bytes, so a directory
 * alone may be off, even negative, until it is walked again; the sum is right. */
struct objects_counts {
	int64_t bytes[256], complete[256]; /* by the first byte of the key */
	int64_t partial_bytes, partial;
};

/* Files that may go, if their key still has no record. */
struct doomed {
	struct digest key, canonical;
	bool always; /* the name goes even if the file has others */
};

/* A background task that lives while there is something for it. */
struct chore {
	struct objects *o;
	task_fn *fn;
	bool running;
};

struct objects {
	struct loop *loop;
	struct meta *meta;
	struct work *threads;
	struct objects_options options;
	int objects_fd, partial_fd, verify_fd;
	struct objects_counts *counts;
	struct map by_number, by_key; /* struct entry */
	struct list idle;             /* entry.idle_link, the longest idle first */
	size_t idle_n, entries_n;
	struct mutex changing; /* of records; who holds it is the only one that writes them */
	uint64_t generation;   /* of records: entries that are being loaded look again */
	struct buf undurable;  /* struct digest */
	struct buf doomed;     /* struct doomed */
	struct buf closing;    /* int: files without a name, whose close may take long */
	bool evicting;         /* files are being deleted: loads wait */
	struct waitq evicted;
	struct scope scope; /* of the chores */
	struct chore start, sync, reap, evict;
};

/* An object in memory. */
struct entry {
	struct object obj; /* object_has_chunk() finds the entry by it */
	struct objects *o;
	struct map_node by_number, by_key;
	uint64_t number_key;
	struct list idle_link; /* in objects.idle when nobody uses it */
	uint32_t refs;
	bool loading;
	int load_result;
	bool busy;                     /* a thread works on its files */
	struct waitq free;             /* woken when no longer busy */
	bool named;                    /* the partial file is in ROOT/partial */
	bool failed;                   /* said so in the log */
	uint8_t *presence;             /* NULL when complete */
	uint32_t dirty_from, dirty_to; /* bytes of presence that are not in the file yet */
	int64_t disk_bytes;            /* of the partial file, as counted */
};

static inline struct entry *entry_of(const struct object *obj)
{
	return container_of((struct object *)(uintptr_t)obj, struct entry, obj);
}

static inline struct str digest_str(const struct digest *d)
{
	return (struct str){(const char *)d->bytes, DIGEST_SIZE};
}

/* --- objects_record.c: pure ------------------------------------------------------------------- */

struct object_record {
	uint64_t number, size;
	struct digest digest;
	uint32_t chunks_n, sources_n;
	const char *sources; /* as stored; object_record_source() */
};

/* Appends a record with one source. -ENOMEM. */
#define OBJECT_RECORD_HEAD 56
#define OBJECT_SOURCE_SIZE 8
void object_record_encode(const struct object_record *rec, char ret[OBJECT_RECORD_HEAD]);
void object_source_encode(struct object_source s, char ret[OBJECT_SOURCE_SIZE]);
/* Sources stay in bytes. -EBADMSG, -ENOTSUP. */
int object_record_decode(struct str bytes, struct object_record *ret, struct err *err) must_check;
struct object_source object_record_source(const struct object_record *rec, uint32_t i);

#define PRESENCE_HEAD 32
static inline size_t presence_size(uint32_t chunks_n)
{
	return ((size_t)chunks_n + 7) / 8;
}
/* Where in the file of a partial object its presence is. */
static inline uint64_t presence_off(uint64_t size)
{
	return (size + 4095) & ~4095ull;
}
void presence_encode(uint64_t boot, uint64_t size, uint32_t chunks_n, char ret[PRESENCE_HEAD]);
/* Checks head and bitmap and counts the chunks. -EBADMSG; -ESTALE: of another boot. */
int presence_check(struct str head, struct str bitmap, uint64_t boot, uint64_t size,
		   uint32_t chunks_n, uint32_t *ret_here) must_check;

/* --- objects_change.c ------------------------------------------------------------------------- */

/* Thread: reads and decodes; the record points into bytes. -ENOENT. */
int record_read(struct kv *kv, const struct digest *key, struct buf *bytes,
		struct object_record *ret, struct err *err) must_check;

/* --- objects_file.c: threads ------------------------------------------------------------------ */

/* What identifies a file, for a thread. */
struct content {
	struct digest key, digest;
	uint64_t size;
	uint32_t chunks_n;
};

void count_add(const struct objects *o, const struct digest *key, int64_t bytes, int64_t files);

void count_partial_add(const struct objects *o, int64_t bytes, int64_t files);
int64_t file_disk_bytes(int fd);

/* Opens or makes the file of a content. */
struct opened {
	int fd;
	bool complete, named, no_file;
	uint8_t *presence; /* the caller's then */
	uint32_t here;
	int64_t disk_bytes;
};
int file_open(struct objects *o, const struct content *c, struct opened *ret, struct err *err);
/* A new file instead of none (no_file), as the same descriptor. */
int file_again(struct objects *o, const struct content *c, int fd);

/* The complete file, for reading; its size is right. -ENOENT. */
int file_open_complete(const struct objects *o, const struct content *c);
/* Complete by another chunking of the same content? Then it gets this name too. -ENOENT, -EMLINK.
 */
int file_link_canonical(const struct objects *o, const struct content *c);

/* Writes bytes [from, to) of the bitmap; with the first ones the file gets its name. */
int file_write_presence(struct objects *o, const struct content *c, int fd, bool named,
			const uint8_t *bytes, uint32_t from, uint32_t to);

/* Checks the whole if it has several chunks, and puts it among the complete ones. fd then is that
 * of the complete file, for reading. -EBADMSG: not the content that it should be. */
int file_finish(struct objects *o, const struct content *c, int fd, bool named, struct err *err);

int file_hash(int fd, uint64_t size, struct digest *ret);
/* fd becomes the complete file, if that is there. */
int file_adopt(struct objects *o, const struct content *c, int fd, bool named);
/* Has it gone? count: nobody else does it. */
bool file_remove_partial(struct objects *o, const struct digest *key, bool count);

/* Calls fn for each file named by a key in a directory; errors of fn end it. */
int dir_walk(int dir_fd, const char *name, int (*fn)(void *arg, int fd, const struct digest *key),
	     void *arg);

/* --- objects.c -------------------------------------------------------------------------------- */

struct entry *entry_by_key(struct objects *o, const struct digest *key);
/* Removed from the record store: nobody finds it any more; waits until no thread works on it. */
may_suspend void entry_gone(struct objects *o, struct entry *e);
/* Forgets an idle entry. */
void entry_drop(struct objects *o, struct entry *e);

/* Starts the chore unless it runs. */
void chore_kick(struct chore *c);

/* Of complete files, include/format.h. */
#define MODE_FRESH   0400
#define MODE_DURABLE 0444
#define MODE_LOST    0440

/* --- objects_sync.c --------------------------------------------------------------------------- */

may_suspend int sync_task(void *arg);
void undurable_add(struct objects *o, const struct digest *key);
/* What was not durable when the machine went down is put aside, on a thread. */
int recovery_set_aside(struct objects *o, struct err *err);
/* And comes back when its bytes are right. */
may_suspend void recovery_verify(struct objects *o);

/* --- objects_gc.c ----------------------------------------------------------------------------- */

may_suspend int reap_task(void *arg);
may_suspend int evict_task(void *arg);
/* Counts, and finds what a crash has left. */
may_suspend void walk_all(struct objects *o);
void evict_check(struct objects *o);
int count_partial(struct objects *o);

#endif
