// SPDX-License-Identifier: Apache-2.0
/* The builder's end: contents become objects, once each, and all goes into the file. */
#include <unistd.h>

#include "base/file.h"
#include "base/limits.h"
#include "image/index_build.h"

#include "base/banned.h"

/* --- objects ---------------------------------------------------------------------------------- */

struct objects {
	uint32_t *order; /* file numbers; in the end one an object, as in the blob */
	uint32_t n;
	uint32_t chunks_n;
	uint64_t bytes;
};

static struct build_file *file_at(const struct index_builder *b, uint32_t i)
{
	return &build_array(b->files, struct build_file)[i];
}

static struct index_chunk *chunk_at(const struct index_builder *b, uint32_t i)
{
	return &build_array(b->chunks, struct index_chunk)[i];
}

static int cmp_place(const struct index_builder *b, uint32_t x, uint32_t y)
{
	const struct index_chunk *c = chunk_at(b, file_at(b, x)->chunk);
	const struct index_chunk *d = chunk_at(b, file_at(b, y)->chunk);

	if (c->blob_off != d->blob_off)
		return c->blob_off < d->blob_off ? -1 : 1;
	if (c->inner_off != d->inner_off)
		return c->inner_off < d->inner_off ? -1 : 1;
	return (x > y) - (x < y);
}

static int by_key(const void *a, const void *b, void *arg)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	int c = memcmp(&file_at(arg, x)->key, &file_at(arg, y)->key, sizeof(struct digest));

	return c ? c : cmp_place(arg, x, y);
}

static int by_place(const void *a, const void *b, void *arg)
{
	return cmp_place(arg, *(const uint32_t *)a, *(const uint32_t *)b);
}

static int by_offset(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

/* Files that an entry has, with their keys. */
static void collect(struct index_builder *b, struct objects *o)
{
	for (uint32_t i = 0; i < b->order_n; i++) {
		struct rec_entry *e = build_entry(b, b->order[i]);
		struct build_file *f;

		if (e->object == INDEX_NONE)
			continue;
		f = file_at(b, e->object);
		index_key(&f->digest, f->size, chunk_at(b, f->chunk), f->chunks_n, &f->key);
		o->order[o->n++] = e->object;
	}
}

/* All files of a key become the object of the first in the blob. */
static void unite(struct index_builder *b, struct objects *o, uint32_t *same)
{
	uint32_t kept = 0;

	qsort_r(o->order, o->n, sizeof(*o->order), by_key, b);
	for (uint32_t i = 0; i < o->n; i++) {
		uint32_t f = o->order[i];
		bool first = kept == 0 ||
			     !digest_eq(&file_at(b, f)->key, &file_at(b, o->order[kept - 1])->key);

		if (first)
			o->order[kept++] = f;
		same[f] = o->order[kept - 1];
	}
	o->n = kept;
	qsort_r(o->order, o->n, sizeof(*o->order), by_place, b);
}

static int make_objects(struct index_builder *b, struct objects *o, struct err *err)
{
	size_t files_n = build_count(b->files, struct build_file);
	auto_free uint32_t *same = calloc(files_n + 1, sizeof(*same));

	o->order = calloc(files_n + 1, sizeof(*o->order));
	if (!o->order || !same)
		return err_set(err, -ENOMEM, "no memory for the index");
	collect(b, o);
	unite(b, o, same);
	for (uint32_t i = 0; i < o->n; i++) {
		struct build_file *f = file_at(b, o->order[i]);

		f->object = i;
		o->chunks_n += f->chunks_n;
		if (__builtin_add_overflow(o->bytes, f->size, &o->bytes))
			return err_set(err, -EINVAL, "contents too large in sum");
	}
	for (uint32_t i = 0; i < b->order_n; i++) {
		struct rec_entry *e = build_entry(b, b->order[i]);

		if (e->object != INDEX_NONE)
			e->object = file_at(b, same[e->object])->object;
	}
	if (b->starts.len)
		qsort(b->starts.data, build_count(b->starts, uint64_t), sizeof(uint64_t),
		      by_offset);
	return 0;
}

/* How much of the blob a chunk needs: up to where the next stream starts, but no more than it can
 * take however badly it was compressed. */
static uint64_t blob_len(const struct index_builder *b, const struct index_chunk *c)
{
	const uint64_t *starts = build_array(b->starts, uint64_t);
	uint32_t low = 0, high = build_count(b->starts, uint64_t);
	uint64_t output = c->inner_off + c->size, most = output + output / 8 + KiB(64), len;

	if (c->blob_len > 0)
		return c->blob_len;
	while (low < high) {
		uint32_t mid = low + (high - low) / 2;

		if (starts[mid] <= c->blob_off)
			low = mid + 1;
		else
			high = mid;
	}
	len = low < build_count(b->starts, uint64_t) && starts[low] < b->payload_end
		      ? starts[low] - c->blob_off
		      : b->payload_end - c->blob_off;
	return len < most ? len : most;
}

/* --- output ----------------------------------------------------------------------------------- */

struct out {
	int fd;
	uint64_t off;
	struct sha256 sum;
	size_t n;
	uint8_t bytes[KiB(64)];
};

static int write_at(int fd, const void *data, size_t n, uint64_t off, struct err *err)
{
	int r = file_pwrite_all(fd, data, n, off);

	if (r == 0)
		return 0;
	return err_errno(err, r == -ENOSPC || r == -EDQUOT ? -ENOSPC : -EIO, "layer index: write");
}

static int flush(struct out *o, struct err *err)
{
	int r = write_at(o->fd, o->bytes, o->n, o->off, err);

	sha256_add(&o->sum, o->bytes, o->n);
	o->off += o->n;
	o->n = 0;
	return r;
}

static int put(struct out *o, const void *data, size_t n, struct err *err)
{
	const uint8_t *at = data;

	while (n > 0) {
		size_t k = sizeof(o->bytes) - o->n;
		int r;

		k = n < k ? n : k;
		memcpy(o->bytes + o->n, at, k);
		o->n += k;
		at += k;
		n -= k;
		r = o->n == sizeof(o->bytes) ? flush(o, err) : 0;
		if (r < 0)
			return r;
	}
	return 0;
}

/* Numbers of the index's strings and xattrs as entries and xattrs are written in order. */
struct numbers {
	uint64_t strings;
	uint32_t xattrs;
};

static uint32_t take_string(struct numbers *n, uint32_t len)
{
	uint32_t off = len ? (uint32_t)n->strings : 0;

	n->strings += len;
	return off;
}

static int put_entries(const struct index_builder *b, struct out *o, struct numbers *n,
		       struct err *err)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < b->order_n; i++) {
		struct rec_entry e = *build_entry(b, b->order[i]);

		e.path_off = take_string(n, e.path_len);
		e.link_off = take_string(n, e.link_len);
		e.xattrs = e.xattrs_n ? n->xattrs : 0;
		n->xattrs += e.xattrs_n;
		rec_entry_swap(&e);
		r = put(o, &e, sizeof(e), err);
	}
	return r;
}

static int put_xattrs(const struct index_builder *b, struct out *o, struct numbers *n,
		      struct err *err)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < b->order_n; i++) {
		const struct rec_entry *e = build_entry(b, b->order[i]);

		for (uint32_t k = 0; r == 0 && k < e->xattrs_n; k++) {
			struct rec_xattr x =
				build_array(b->xattrs, struct rec_xattr)[e->xattrs + k];

			x.name_off = take_string(n, x.name_len);
			x.value_off = take_string(n, x.value_len);
			rec_xattr_swap(&x);
			r = put(o, &x, sizeof(x), err);
		}
	}
	return r;
}

static int put_objects(const struct index_builder *b, const struct objects *os, struct out *o,
		       struct err *err)
{
	uint32_t next = 0;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < os->n; i++) {
		const struct build_file *f = file_at(b, os->order[i]);
		struct rec_object rec;

		index_pack_object(
			&(struct index_object){f->key, f->digest, f->size, next, f->chunks_n},
			&rec);
		next += f->chunks_n;
		r = put(o, &rec, sizeof(rec), err);
	}
	return r;
}

static int put_chunks(const struct index_builder *b, const struct objects *os, struct out *o,
		      struct err *err)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < os->n; i++) {
		const struct build_file *f = file_at(b, os->order[i]);

		for (uint32_t k = 0; r == 0 && k < f->chunks_n; k++) {
			struct index_chunk c = *chunk_at(b, f->chunk + k);
			struct rec_chunk rec;

			c.object = i;
			c.blob_len = c.zeros ? 0 : blob_len(b, &c);
			index_pack_chunk(&c, &rec);
			r = put(o, &rec, sizeof(rec), err);
		}
	}
	return r;
}

static int put_string(const struct index_builder *b, struct out *o, uint32_t off, uint32_t len,
		      struct err *err)
{
	return len ? put(o, b->strings.data + off, len, err) : 0;
}

/* In the order in which take_string() has numbered them. */
static int put_strings(const struct index_builder *b, struct out *o, struct err *err)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < b->order_n; i++) {
		const struct rec_entry *e = build_entry(b, b->order[i]);

		r = put_string(b, o, e->path_off, e->path_len, err);
		if (r == 0)
			r = put_string(b, o, e->link_off, e->link_len, err);
	}
	for (uint32_t i = 0; r == 0 && i < b->order_n; i++) {
		const struct rec_entry *e = build_entry(b, b->order[i]);

		for (uint32_t k = 0; r == 0 && k < e->xattrs_n; k++) {
			const struct rec_xattr *x =
				&build_array(b->xattrs, struct rec_xattr)[e->xattrs + k];

			r = put_string(b, o, x->name_off, x->name_len, err);
			if (r == 0)
				r = put_string(b, o, x->value_off, x->value_len, err);
		}
	}
	return r;
}

static int put_head(const struct index_builder *b, const struct objects *os, struct out *o,
		    const struct numbers *n, struct err *err)
{
	struct index_head h = {
		.magic = INDEX_MAGIC,
		.version = INDEX_VERSION,
		.codec = b->codec,
		.blob_size = b->blob_size,
		.prefetch_end = b->no_prefetch ? 0 : b->prefetch_end,
		.content_bytes = os->bytes,
		.inodes = b->inodes,
		.strings_len = n->strings,
		.entries_n = b->order_n,
		.xattrs_n = n->xattrs,
		.objects_n = os->n,
		.chunks_n = os->chunks_n,
	};
	struct index_head check;

	index_head_swap(&h);
	sha256_done(&o->sum, &h.body);
	index_head_digest(&h, &h.head);
	check = h;
	if (index_head_check(&check, o->off, NULL) < 0)
		return err_set(err, -EFBIG, "layer index: larger than the limits");
	if (ftruncate(o->fd, (off_t)o->off) < 0)
		return err_set(err, -EIO, "layer index: cannot set its size");
	return write_at(o->fd, &h, sizeof(h), 0, err);
}

static int put_all(const struct index_builder *b, const struct objects *os, struct out *o,
		   struct err *err)
{
	struct numbers n = {0};
	int r = put_entries(b, o, &n, err);

	if (r == 0)
		r = put_xattrs(b, o, &n, err);
	/* Links of a chain share a target in memory, and each has its own in the file. */
	if (r == 0 && n.strings > INDEX_STRINGS_MAX)
		r = err_set(err, -EFBIG, "layer index: larger than the limits");
	if (r == 0)
		r = put_objects(b, os, o, err);
	if (r == 0)
		r = put_chunks(b, os, o, err);
	if (r == 0)
		r = put_strings(b, o, err);
	if (r == 0)
		r = flush(o, err);
	return r < 0 ? r : put_head(b, os, o, &n, err);
}

int index_builder_write(struct index_builder *b, int fd, struct err *err)
{
	struct objects os = {0};
	struct out *o;
	int r = index_file_done(b, err);

	require(!b->order);
	if (r == 0)
		r = index_settle(b, err);
	if (r == 0)
		r = make_objects(b, &os, err);
	o = malloc(sizeof(*o));
	if (o)
		*o = (struct out){.fd = fd, .off = sizeof(struct index_head)};
	if (r == 0 && (!o || sha256_init(&o->sum) < 0))
		r = err_set(err, -ENOMEM, "no memory for the index");
	if (r == 0)
		r = put_all(b, &os, o, err);
	if (o)
		sha256_fini(&o->sum);
	free(o);
	free(os.order);
	return r;
}
