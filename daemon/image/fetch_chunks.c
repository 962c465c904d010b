// SPDX-License-Identifier: Apache-2.0
/*
 * What the layers' indexes say about chunks: the chunk at an offset of a content, with a small
 * cache of what was read last of each; where a chunk can be fetched; batches of chunks that follow
 * each other in a blob. Loop thread, but for batch_job().
 */
#include <fcntl.h>
#include <stdlib.h>

#include "base/limits.h"
#include "image/fetch_impl.h"

#include "base/banned.h"

/* Chunks that follow each other in one content. */
struct content {
	uint64_t number; /* of the object */
	uint32_t layer;
	uint32_t index;    /* number of the content's first chunk in the layer */
	uint32_t first, n; /* of chunks, within the content */
	struct index_chunk chunks[FETCH_CACHED_CHUNKS];
};

/* Layer and index record of a source that is what it says. */
static int source_open(struct fetcher *f, const struct object *obj, uint32_t source,
		       struct layer **ret_layer, struct index_object *ret, struct err *err)
{
	const struct object_source *s = &obj->sources[source];
	struct layer *l = layers_get(f->layers, s->layer);
	int fd, r;

	if (!l)
		return err_set(err, -ENOENT, "layer %u is not known any more", s->layer);
	fd = layer_fd(f->layers, l, err);
	if (fd < 0)
		return fd;
	r = index_read_object(fd, s->index, ret, err);
	if (r < 0)
		return r;
	if (!digest_eq(&ret->key, &obj->key) || ret->chunks_n != obj->chunks_n)
		return err_set(err, -EBADMSG, "the index of layer %u has another content %u",
			       s->layer, s->index);
	*ret_layer = l;
	return 0;
}

/* Searches [0, n) of the content for off, one record at a time. */
static int search_index(int fd, const struct index_object *o, uint64_t off, uint32_t *ret,
			struct err *err)
{
	uint32_t lo = 0, hi = o->chunks_n;
	struct index_chunk c;
	int r;

	while (hi - lo > 1) {
		uint32_t mid = lo + (hi - lo) / 2;

		r = index_read_chunks(fd, o->chunk + mid, 1, &c, err);
		if (r < 0)
			return r;
		if (c.file_off <= off)
			lo = mid;
		else
			hi = mid;
	}
	*ret = lo;
	return 0;
}

static int content_read(struct fetcher *f, struct object *obj, uint32_t source, uint64_t off,
			struct content *ret, struct err *err)
{
	struct index_object o;
	struct layer *l;
	uint32_t first = 0;
	int fd, r;

	r = source_open(f, obj, source, &l, &o, err);
	if (r < 0)
		return r;
	fd = layer_fd(f->layers, l, err);
	if (fd < 0)
		return fd;
	if (o.chunks_n > FETCH_CACHED_CHUNKS) {
		r = search_index(fd, &o, off, &first, err);
		if (r < 0)
			return r;
	}
	ret->number = 0;
	ret->layer = l->id;
	ret->index = o.chunk;
	ret->first = first;
	ret->n =
		o.chunks_n - first < FETCH_CACHED_CHUNKS ? o.chunks_n - first : FETCH_CACHED_CHUNKS;
	r = index_read_chunks(fd, o.chunk + first, ret->n, ret->chunks, err);
	if (r < 0)
		return r;
	ret->number = obj->number;
	return 0;
}

/* Its place in c; -ENOENT. */
static int content_search(const struct content *c, uint64_t off)
{
	uint32_t lo = 0, hi = c->n;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		const struct index_chunk *ch = &c->chunks[mid];

		if (off < ch->file_off)
			hi = mid;
		else if (off - ch->file_off >= ch->size)
			lo = mid + 1;
		else
			return (int)mid;
	}
	return -ENOENT;
}

static struct content **content_slot(struct fetcher *f, const struct object *obj)
{
	return &f->contents[obj->number % FETCH_CACHED_OBJECTS];
}

static int content_load(struct fetcher *f, struct object *obj, uint64_t off, struct err *err)
{
	struct content **slot = content_slot(f, obj);
	struct err why = ERR_INIT;

	if (!*slot)
		*slot = calloc(1, sizeof(**slot));
	if (!*slot)
		return err_set(err, -EIO, "out of memory");
	err_set(&why, -EIO, "no layer has it");
	for (uint32_t i = 0; i < obj->sources_n; i++) {
		if (content_read(f, obj, i, off, *slot, &why) == 0)
			return 0;
		(*slot)->number = 0;
	}
	return err_set(err, -EIO, "object %llu: %s", (unsigned long long)obj->number, why.text);
}

int chunk_at(struct fetcher *f, struct object *obj, uint64_t off, struct chunk_found *ret,
	     struct err *err)
{
	struct content *c = *content_slot(f, obj);
	int i = c && c->number == obj->number ? content_search(c, off) : -ENOENT;
	int r;

	if (i < 0) {
		r = content_load(f, obj, off, err);
		if (r < 0)
			return r;
		c = *content_slot(f, obj);
		i = content_search(c, off);
	}
	if (i < 0)
		return err_set(err, -EIO, "object %llu: no chunk at %llu",
			       (unsigned long long)obj->number, (unsigned long long)off);
	*ret = (struct chunk_found){c->layer, c->first + (uint32_t)i, &c->chunks[i]};
	return 0;
}

void chunks_forget(struct fetcher *f)
{
	for (size_t i = 0; i < FETCH_CACHED_OBJECTS; i++)
		free(f->contents[i]);
}

/* --- places -------------------------------------------------------------------------------------
 */

/* Can it be fetched at all? */
static int place_check(const struct layer *l, const struct index_chunk *c, struct err *err)
{
	if (c->size == 0 || c->size > CHUNK_SIZE_MAX)
		return err_set(err, -EBADMSG, "a chunk of %u bytes", c->size);
	if (c->zeros)
		return 0;
	if (c->blob_len == 0 || c->blob_off > l->info.blob_size ||
	    c->blob_len > l->info.blob_size - c->blob_off)
		return err_set(err, -EBADMSG, "a chunk outside of the blob");
	if (c->inner_off > FETCH_STREAM_MAX - c->size)
		return err_set(err, -EFBIG, "a chunk %llu bytes deep in its stream",
			       (unsigned long long)c->inner_off);
	return 0;
}

int chunk_place(struct fetcher *f, struct flight *fl, struct err *err)
{
	struct object *obj = fl->obj;

	for (; fl->source < obj->sources_n; fl->source++, fl->ref = 0, fl->skip_hosts = 0) {
		struct index_object o;
		struct layer *l;
		int r, fd;

		r = source_open(f, obj, fl->source, &l, &o, err);
		if (r < 0 || fl->ref >= l->refs_n)
			continue;
		fd = layer_fd(f->layers, l, err);
		if (fd < 0)
			continue;
		r = index_read_chunks(fd, o.chunk + fl->name.chunk, 1, &fl->c, err);
		if (r < 0 || place_check(l, &fl->c, err) < 0)
			continue;
		fl->layer = l->id;
		fl->index = o.chunk + fl->name.chunk;
		fl->digest = o.digest;
		return 0;
	}
	return -ENOENT;
}

struct plan_chunk plan_of(const struct index_chunk *c, uint32_t ref)
{
	return (struct plan_chunk){.off = c->blob_off,
				   .len = plan_stream_len(c->blob_len, c->inner_off + c->size),
				   .inner = c->inner_off,
				   .size = c->size,
				   .ref = ref};
}

/* --- batches ------------------------------------------------------------------------------------
 */

struct batch_job {
	struct batch *b;
	int fd;
	struct err *err;
};

/* Thread: chunks and their contents. */
static int batch_job(void *arg)
{
	struct batch_job *j = arg;
	struct batch *b = j->b;
	int r = index_read_chunks(j->fd, b->first, b->n, b->chunks, j->err);

	for (uint32_t i = 0; i < b->n && r == 0; i++) {
		struct batch_object *o = &b->objects[b->objects_n];

		if (b->objects_n && o[-1].number == b->chunks[i].object) {
			b->owner[i] = (uint32_t)b->objects_n - 1;
			continue;
		}
		o->number = b->chunks[i].object;
		r = index_read_object(j->fd, o->number, &o->o, j->err);
		b->owner[i] = (uint32_t)b->objects_n++;
	}
	for (uint32_t i = 0; i < b->n && r == 0; i++) {
		if (batch_chunk_number(b, i) >= b->objects[b->owner[i]].o.chunks_n)
			r = err_set(j->err, -EBADMSG, "chunk %u is not of content %u", b->first + i,
				    b->chunks[i].object);
	}
	return r;
}

/* Small contents of which nothing is here need no object: they are written whole. */
static bool needs_object(const struct batch *b, uint32_t i)
{
	const struct batch_object *o = &b->objects[b->owner[i]];

	return o->state != OBJECT_COMPLETE && (o->state == OBJECT_PARTIAL || o->o.chunks_n > 1 ||
					       o->o.size > FETCH_WHOLE_MAX || b->chunks[i].zeros);
}

may_suspend static void batch_open_objects(struct fetcher *f, struct batch *b)
{
	struct object_info info;

	for (uint32_t i = 0; i < b->n; i++) {
		struct batch_object *o = &b->objects[b->owner[i]];

		if (!needs_object(b, i) || o->obj || o->failed)
			continue;
		if (objects_find(f->objects, &o->o.key, &info, NULL) < 0 ||
		    objects_get(f->objects, info.number, &o->obj, NULL) < 0) {
			o->obj = NULL;
			o->failed = true;
		}
	}
}

may_suspend int batch_states(struct fetcher *f, struct batch *b, struct err *err)
{
	auto_free struct object_entry *entries = calloc(b->objects_n, sizeof(*entries));
	auto_free uint8_t *states = calloc(b->objects_n, 1);
	int r;

	if (!entries || !states)
		return err_set(err, -ENOMEM, "out of memory");
	b->turn = f->turn;
	for (size_t i = 0; i < b->objects_n; i++) {
		const struct index_object *o = &b->objects[i].o;

		entries[i] = (struct object_entry){.key = o->key,
						   .digest = o->digest,
						   .size = o->size,
						   .index = b->objects[i].number,
						   .chunks_n = o->chunks_n};
	}
	r = objects_state(f->objects, entries, b->objects_n, states, err);
	for (size_t i = 0; i < b->objects_n && r == 0; i++)
		b->objects[i].state = states[i];
	if (r == 0)
		batch_open_objects(f, b);
	return r;
}

may_suspend static int batch_load(struct fetcher *f, struct batch *b, struct err *err)
{
	struct layer *l = layers_get(f->layers, b->layer);
	struct batch_job job = {.b = b, .err = err};
	int r;

	if (!l)
		return err_set(err, -ENOENT, "layer %u is not known any more", b->layer);
	if (b->first >= l->info.chunks_n)
		return err_set(err, -EINVAL, "layer %u has no chunk %u", b->layer, b->first);
	if (b->n > l->info.chunks_n - b->first)
		b->n = l->info.chunks_n - b->first;
	r = layer_fd(f->layers, l, err);
	if (r < 0)
		return r;
	job.fd = fcntl(r, F_DUPFD_CLOEXEC, 0);
	if (job.fd < 0)
		return err_errno(err, -errno, "index of layer %u", b->layer);
	r = work_run(f->threads, batch_job, &job);
	close(job.fd);
	if (r < 0)
		return r;
	l = layers_get(f->layers, b->layer);
	for (uint32_t i = 0; l && i < b->n; i++) {
		if (place_check(l, &b->chunks[i], NULL) < 0)
			b->objects[b->owner[i]].failed = true;
	}
	return batch_states(f, b, err);
}

may_suspend int batch_read(struct fetcher *f, uint32_t layer, uint32_t first, uint32_t n,
			   struct batch *ret, struct err *err)
{
	struct batch b = {.layer = layer, .first = first, .n = n};
	int r;

	b.chunks = calloc(n, sizeof(*b.chunks));
	b.owner = calloc(n, sizeof(*b.owner));
	b.objects = calloc(n, sizeof(*b.objects));
	r = b.chunks && b.owner && b.objects ? batch_load(f, &b, err)
					     : err_set(err, -ENOMEM, "out of memory");
	if (r < 0) {
		batch_free(f, &b);
		return r;
	}
	*ret = b;
	return 0;
}

void batch_free(struct fetcher *f, struct batch *b)
{
	for (size_t i = 0; i < b->objects_n; i++) {
		if (b->objects[i].obj)
			object_unref(f->objects, b->objects[i].obj);
	}
	free(b->chunks);
	free(b->owner);
	free(b->objects);
	*b = (struct batch){0};
}

uint32_t batch_chunk_number(const struct batch *b, uint32_t i)
{
	return b->first + i - b->objects[b->owner[i]].o.chunk;
}

bool batch_missing(struct fetcher *f, const struct batch *b, uint32_t i)
{
	const struct batch_object *o = &b->objects[b->owner[i]];
	const struct recent *rc = recent_slot(f, &o->o.key);

	if (o->state == OBJECT_COMPLETE || o->failed)
		return false;
	if (!o->obj)
		return !(rc->turn > b->turn && digest_eq(&rc->key, &o->o.key));
	return !o->obj->complete && !o->obj->damaged &&
	       !object_has_chunk(o->obj, batch_chunk_number(b, i));
}

struct flight *batch_flight(struct fetcher *f, const struct batch *b, uint32_t i)
{
	const struct batch_object *o = &b->objects[b->owner[i]];
	struct flight_what w = {.key = o->o.key,
				.digest = o->o.digest,
				.content_size = o->o.size,
				.chunk = batch_chunk_number(b, i),
				.chunks_n = o->o.chunks_n,
				.layer = b->layer,
				.index = b->first + i,
				.c = &b->chunks[i],
				.obj = o->obj};

	struct flight *fl = flight_get(f, &w.key, w.chunk) ? NULL : flight_new(f, &w);

	if (fl)
		fl->along = true;
	return fl;
}
