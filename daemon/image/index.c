// SPDX-License-Identifier: Apache-2.0
/*
 * Reading index files. Everything is checked once, at load; after it the numbers of a record may be
 * used without a look. Owns the bytes of each loaded file. Threads only, but for the point reads.
 */
#include "image/index.h"

#include <limits.h>
#include <sys/stat.h>

#include "base/limits.h"
#include "image/index_rec.h"

#include "base/banned.h"

struct index {
	struct index_head head; /* the host's */
	struct index_info info;
	uint8_t *body; /* of the file, behind the header */
	const struct rec_entry *entries;
	const struct rec_xattr *xattrs;
	const struct rec_object *objects;
	const struct rec_chunk *chunks;
	const char *strings;
};

static void info_of(const struct index_head *h, struct index_info *ret)
{
	*ret = (struct index_info){
		.codec = h->codec,
		.blob_size = h->blob_size,
		.prefetch_end = h->prefetch_end,
		.content_bytes = h->content_bytes,
		.inodes = h->inodes,
		.entries_n = h->entries_n,
		.xattrs_n = h->xattrs_n,
		.objects_n = h->objects_n,
		.chunks_n = h->chunks_n,
	};
}

const struct index_info *index_info(const struct index *ix)
{
	return &ix->info;
}

static struct str string_at(const struct index *ix, uint32_t off, uint32_t len)
{
	return (struct str){ix->strings + off, len};
}

void index_entry(const struct index *ix, uint32_t i, struct index_entry *ret)
{
	struct rec_entry e;

	require(i < ix->head.entries_n);
	e = ix->entries[i];
	rec_entry_swap(&e);
	*ret = (struct index_entry){
		.path = string_at(ix, e.path_off, e.path_len),
		.type = e.type,
		.opaque = e.opaque != 0,
		.implied = e.opaque == INDEX_OPAQUE_IMPLIED,
		.mode = e.mode,
		.uid = e.uid,
		.gid = e.gid,
		.mtime = e.mtime,
		.mtime_nsec = e.mtime_nsec,
		.dev_major = e.dev_major,
		.dev_minor = e.dev_minor,
		.link = string_at(ix, e.link_off, e.link_len),
		.target = e.target,
		.names = e.names,
		.object = e.object,
		.xattrs = e.xattrs,
		.xattrs_n = e.xattrs_n,
	};
}

void index_xattr(const struct index *ix, uint32_t i, struct index_xattr *ret)
{
	struct rec_xattr x;

	require(i < ix->head.xattrs_n);
	x = ix->xattrs[i];
	rec_xattr_swap(&x);
	*ret = (struct index_xattr){string_at(ix, x.name_off, x.name_len),
				    string_at(ix, x.value_off, x.value_len)};
}

void index_object(const struct index *ix, uint32_t i, struct index_object *ret)
{
	require(i < ix->head.objects_n);
	index_unpack_object(&ix->objects[i], ret);
}

void index_chunk(const struct index *ix, uint32_t i, struct index_chunk *ret)
{
	require(i < ix->head.chunks_n);
	index_unpack_chunk(&ix->chunks[i], ret);
}

/* --- checks ----------------------------------------------------------------------------------- */

static bool in_strings(const struct index *ix, uint32_t off, uint32_t len)
{
	return off <= ix->head.strings_len && len <= ix->head.strings_len - off;
}

static bool is_target(enum index_type type)
{
	return type == INDEX_REG || type == INDEX_SYMLINK || type == INDEX_CHAR ||
	       type == INDEX_BLOCK || type == INDEX_FIFO;
}

/* The number of an entry; INDEX_NONE. The entries are ordered already. */
static uint32_t find(const struct index *ix, struct str path)
{
	uint32_t low = 0, high = ix->head.entries_n;

	while (low < high) {
		uint32_t mid = low + (high - low) / 2;
		struct index_entry e;
		int c;

		index_entry(ix, mid, &e);
		c = index_path_cmp(e.path, path);
		if (c == 0)
			return mid;
		if (c < 0)
			low = mid + 1;
		else
			high = mid;
	}
	return INDEX_NONE;
}

static const char *check_xattrs(const struct index *ix, const struct rec_entry *e)
{
	struct str last = {0};
	size_t bytes = 0;

	if (e->xattrs_n > XATTRS_MAX || e->xattrs > ix->head.xattrs_n ||
	    e->xattrs_n > ix->head.xattrs_n - e->xattrs)
		return "xattr numbers";
	for (uint32_t i = 0; i < e->xattrs_n; i++) {
		struct rec_xattr x = ix->xattrs[e->xattrs + i];
		struct str name;

		rec_xattr_swap(&x);
		if (!in_strings(ix, x.name_off, x.name_len) ||
		    !in_strings(ix, x.value_off, x.value_len))
			return "xattr strings";
		name = string_at(ix, x.name_off, x.name_len);
		if (name.len == 0 || name.len > XATTR_NAME_MAX || memchr(name.p, 0, name.len))
			return "xattr name";
		if (i > 0 && str_cmp(last, name) >= 0)
			return "xattr order";
		bytes += (size_t)x.name_len + x.value_len;
		if (bytes > XATTRS_BYTES_MAX)
			return "xattr size";
		last = name;
	}
	return NULL;
}

/* What one record can show; NULL: good. */
static const char *check_entry(const struct index *ix, const struct rec_entry *e)
{
	if (!in_strings(ix, e->path_off, e->path_len) || !in_strings(ix, e->link_off, e->link_len))
		return "strings";
	if (e->type < INDEX_DIR || e->type > INDEX_WHITEOUT || e->mode > 07777 ||
	    e->opaque > INDEX_OPAQUE_IMPLIED || (e->opaque && e->type != INDEX_DIR))
		return "type or mode";
	if (e->mtime < 0 || e->mtime_nsec >= 1000000000)
		return "time";
	if (index_path_check(string_at(ix, e->path_off, e->path_len)) < 0)
		return "path";
	if (e->path_len == 0 && !e->opaque)
		return "root";
	if (e->object != INDEX_NONE && (e->type != INDEX_REG || e->object >= ix->head.objects_n))
		return "object";
	if (e->link_len > INDEX_PATH_MAX ||
	    (e->link_len > 0) != (e->type == INDEX_SYMLINK || e->type == INDEX_LINK_BELOW) ||
	    memchr(ix->strings + e->link_off, 0, e->link_len))
		return "link";
	if (e->type == INDEX_LINK ? e->target >= ix->head.entries_n : e->target != INDEX_NONE)
		return "target";
	return check_xattrs(ix, e);
}

/* What it shows beside the one before it. */
static const char *check_place(const struct index *ix, uint32_t i, const struct index_entry *e)
{
	struct index_entry before;

	if (i == 0)
		return NULL;
	index_entry(ix, i - 1, &before);
	if (index_path_cmp(before.path, e->path) >= 0)
		return "order";
	/* What is below an entry follows it at once. */
	if (before.type != INDEX_DIR && index_path_below(e->path, before.path))
		return "a parent that is no directory";
	return NULL;
}

/* Links, when all entries are known to be sound and in order. names[i] counts them. */
static const char *check_link(const struct index *ix, const struct index_entry *e, uint32_t *names)
{
	struct index_entry target;

	if (e->type == INDEX_LINK_BELOW)
		return index_path_check(e->link) < 0 || find(ix, e->link) != INDEX_NONE ? "link"
											: NULL;
	if (e->type != INDEX_LINK)
		return NULL;
	index_entry(ix, e->target, &target);
	if (!is_target(target.type))
		return "target";
	names[e->target]++;
	return NULL;
}

static int bad(struct err *err, const char *what, uint32_t i, const char *why)
{
	return err_set(err, -EBADMSG, "layer index: %s %u: wrong %s", what, i, why);
}

static int check_links(const struct index *ix, struct err *err)
{
	uint64_t inodes = 0;
	auto_free uint32_t *names = calloc((size_t)ix->head.entries_n + 1, sizeof(*names));

	if (!names)
		return err_set(err, -ENOMEM, "layer index: no memory");
	for (uint32_t i = 0; i < ix->head.entries_n; i++) {
		struct index_entry e;
		const char *why;

		index_entry(ix, i, &e);
		why = check_link(ix, &e, names);
		if (why)
			return bad(err, "entry", i, why);
		inodes += is_target(e.type) || e.type == INDEX_DIR;
	}
	for (uint32_t i = 0; i < ix->head.entries_n; i++) {
		struct index_entry e;

		index_entry(ix, i, &e);
		if (e.names != (is_target(e.type) ? 1 + names[i] : 0))
			return bad(err, "entry", i, "number of names");
	}
	return inodes == ix->head.inodes ? 0 : bad(err, "header", 0, "number of inodes");
}

static int check_entries(const struct index *ix, struct err *err)
{
	for (uint32_t i = 0; i < ix->head.entries_n; i++) {
		struct rec_entry rec = ix->entries[i];
		struct index_entry e;
		const char *why;

		rec_entry_swap(&rec);
		why = check_entry(ix, &rec);
		if (why)
			return bad(err, "entry", i, why);
		index_entry(ix, i, &e);
		why = check_place(ix, i, &e);
		if (why)
			return bad(err, "entry", i, why);
	}
	return check_links(ix, err);
}

static const char *check_chunk(const struct index *ix, const struct index_chunk *c)
{
	static const struct digest none;

	if (c->size == 0 || c->size > CHUNK_SIZE_MAX)
		return "size";
	if (c->blob_off > ix->head.blob_size || c->blob_len > ix->head.blob_size - c->blob_off)
		return "place";
	if (c->inner_off > CHUNK_INNER_MAX)
		return "place in its stream";
	if (c->zeros != digest_eq(&c->digest, &none) || (!c->zeros && c->blob_len == 0))
		return "digest";
	return NULL;
}

static const char *check_object(const struct index *ix, uint32_t i, const struct index_object *o,
				uint32_t first, struct index_chunk *chunks)
{
	uint64_t off = 0;
	struct digest key;

	if (o->chunk != first || o->chunks_n == 0 || o->chunks_n > ix->head.chunks_n - first ||
	    o->size > INT64_MAX)
		return "numbers";
	for (uint32_t k = 0; k < o->chunks_n; k++) {
		const struct rec_chunk *rec = &ix->chunks[first + k];
		const char *why;

		index_unpack_chunk(rec, &chunks[k]);
		why = index_chunk_sound(rec) ? check_chunk(ix, &chunks[k]) : "chunk";
		if (why)
			return why;
		if (chunks[k].object != i || chunks[k].file_off != off)
			return "order of chunks";
		off += chunks[k].size;
	}
	if (off != o->size)
		return "size";
	/* The digest of one chunk is that of the whole. */
	if (o->chunks_n == 1 && (chunks->zeros || !digest_eq(&chunks->digest, &o->digest)))
		return "digest";
	index_key(&o->digest, o->size, chunks, o->chunks_n, &key);
	return digest_eq(&key, &o->key) ? NULL : "key";
}

static int check_objects(const struct index *ix, struct err *err)
{
	uint32_t next = 0, most = 0;
	uint64_t bytes = 0;
	auto_free struct index_chunk *chunks = NULL;

	for (uint32_t i = 0; i < ix->head.objects_n; i++) {
		uint32_t n = le32toh(ix->objects[i].chunks_n);

		if (n <= ix->head.chunks_n && n > most)
			most = n;
	}
	chunks = calloc((size_t)most + 1, sizeof(*chunks));
	if (!chunks)
		return err_set(err, -ENOMEM, "layer index: no memory");
	for (uint32_t i = 0; i < ix->head.objects_n; i++) {
		struct index_object o;
		const char *why = "check";

		index_object(ix, i, &o);
		if (index_object_sound(&ix->objects[i]))
			why = check_object(ix, i, &o, next, chunks);
		if (why)
			return bad(err, "object", i, why);
		next += o.chunks_n;
		if (__builtin_add_overflow(bytes, o.size, &bytes))
			return bad(err, "object", i, "size");
	}
	if (next != ix->head.chunks_n || bytes != ix->head.content_bytes)
		return bad(err, "header", 0, "sums");
	return 0;
}

/* --- the file --------------------------------------------------------------------------------- */

static int read_at(int fd, void *p, size_t n, uint64_t off, struct err *err)
{
	uint8_t *at = p;

	while (n > 0) {
		ssize_t r = pread(fd, at, n < MiB(64) ? n : MiB(64), (off_t)off);
		int code = r < 0 ? errno : 0;

		if (code == EINTR)
			continue;
		if (r < 0)
			return err_errno(err, code == ENOMEM ? -ENOMEM : -EIO, "layer index: read");
		if (r == 0)
			return err_set(err, -EBADMSG, "layer index: file cut");
		at += r;
		off += (uint64_t)r;
		n -= (size_t)r;
	}
	return 0;
}

static int read_head(int fd, struct index_head *ret, struct err *err)
{
	struct stat st;
	int r;

	if (fstat(fd, &st) < 0)
		return err_set(err, -EIO, "layer index: cannot stat");
	r = read_at(fd, ret, sizeof(*ret), 0, err);
	return r < 0 ? r : index_head_check(ret, (uint64_t)st.st_size, err);
}

static int read_body(int fd, struct index *ix, struct err *err)
{
	struct index_layout l = index_layout(&ix->head);
	size_t n = (size_t)(l.end - l.entries);
	struct digest d;
	int r;

	ix->body = malloc(n + 1);
	if (!ix->body)
		return err_set(err, -ENOMEM, "layer index: no memory for %zu bytes", n);
	r = read_at(fd, ix->body, n, l.entries, err);
	if (r < 0)
		return r;
	sha256(ix->body, n, &d);
	if (!digest_eq(&d, &ix->head.body))
		return err_set(err, -EBADMSG, "layer index: damaged");
	ix->entries = (const void *)ix->body;
	ix->xattrs = (const void *)(ix->body + (l.xattrs - l.entries));
	ix->objects = (const void *)(ix->body + (l.objects - l.entries));
	ix->chunks = (const void *)(ix->body + (l.chunks - l.entries));
	ix->strings = (const char *)(ix->body + (l.strings - l.entries));
	return 0;
}

int index_load(int fd, struct index **ret, struct err *err)
{
	auto_index struct index *ix = calloc(1, sizeof(*ix));
	int r;

	if (!ix)
		return err_set(err, -ENOMEM, "layer index: no memory");
	r = read_head(fd, &ix->head, err);
	if (r == 0)
		r = read_body(fd, ix, err);
	if (r == 0)
		r = check_entries(ix, err);
	if (r == 0)
		r = check_objects(ix, err);
	if (r < 0)
		return r;
	info_of(&ix->head, &ix->info);
	*ret = take_ptr(ix);
	return 0;
}

void index_free(struct index *ix)
{
	if (!ix)
		return;
	free(ix->body);
	free(ix);
}

int index_read_info(int fd, struct index_info *ret, struct err *err)
{
	struct index_head h;
	int r = read_head(fd, &h, err);

	if (r == 0)
		info_of(&h, ret);
	return r;
}

int index_read_object(int fd, uint32_t i, struct index_object *ret, struct err *err)
{
	struct rec_object rec;
	struct index_object o;
	struct index_head h;
	int r = read_head(fd, &h, err);

	if (r < 0)
		return r;
	if (i >= h.objects_n)
		return err_set(err, -EINVAL, "layer index: no object %u", i);
	r = read_at(fd, &rec, sizeof(rec), index_layout(&h).objects + (uint64_t)i * sizeof(rec),
		    err);
	if (r < 0)
		return r;
	index_unpack_object(&rec, &o);
	if (!index_object_sound(&rec) || o.chunk >= h.chunks_n || o.chunks_n == 0 ||
	    o.chunks_n > h.chunks_n - o.chunk)
		return bad(err, "object", i, "record");
	*ret = o;
	return 0;
}

static int read_chunks(int fd, const struct index *ix, uint32_t first, uint32_t n,
		       struct index_chunk *ret, struct err *err)
{
	struct rec_chunk recs[64];

	for (uint32_t done = 0; done < n;) {
		uint32_t k = n - done < array_size(recs) ? n - done : array_size(recs);
		uint64_t off = ((uint64_t)first + done) * sizeof(recs[0]);
		int r = read_at(fd, recs, k * sizeof(recs[0]), index_layout(&ix->head).chunks + off,
				err);

		if (r < 0)
			return r;
		for (uint32_t i = 0; i < k; i++, done++) {
			index_unpack_chunk(&recs[i], &ret[done]);
			if (!index_chunk_sound(&recs[i]) || check_chunk(ix, &ret[done]) ||
			    ret[done].object >= ix->head.objects_n)
				return bad(err, "chunk", first + done, "record");
		}
	}
	return 0;
}

int index_read_chunks(int fd, uint32_t first, uint32_t n, struct index_chunk *ret, struct err *err)
{
	struct index ix = {0};
	int r = read_head(fd, &ix.head, err);

	if (r < 0)
		return r;
	if (first > ix.head.chunks_n || n > ix.head.chunks_n - first)
		return err_set(err, -EINVAL, "layer index: no chunks %u+%u", first, n);
	return read_chunks(fd, &ix, first, n, ret, err);
}

static int read_path(int fd, const struct index_head *h, const struct rec_entry *e, char *ret,
		     struct err *err)
{
	char path[INDEX_PATH_MAX];
	int r;

	if (e->path_len > sizeof(path) || e->path_off > h->strings_len ||
	    e->path_len > h->strings_len - e->path_off)
		return err_set(err, -EBADMSG, "layer index: wrong path");
	r = read_at(fd, path, e->path_len, index_layout(h).strings + e->path_off, err);
	if (r < 0)
		return r;
	if (index_path_check((struct str){path, e->path_len}) < 0)
		return err_set(err, -EBADMSG, "layer index: wrong path");
	memcpy(ret, path, e->path_len);
	ret[e->path_len] = 0;
	return 0;
}

int index_read_path(int fd, uint32_t object, char *ret, struct err *err)
{
	struct rec_entry recs[128];
	struct index_head h;
	int r = read_head(fd, &h, err);

	for (uint32_t done = 0; r == 0 && done < h.entries_n;) {
		uint32_t n = h.entries_n - done;

		n = n < array_size(recs) ? n : array_size(recs);
		r = read_at(fd, recs, n * sizeof(recs[0]),
			    index_layout(&h).entries + (uint64_t)done * sizeof(recs[0]), err);
		for (uint32_t i = 0; i < n && r == 0; i++) {
			rec_entry_swap(&recs[i]);
			if (recs[i].type == INDEX_REG && recs[i].object == object)
				return read_path(fd, &h, &recs[i], ret, err);
		}
		done += n;
	}
	return r < 0 ? r : err_set(err, -ENOENT, "layer index: no path has content %u", object);
}
