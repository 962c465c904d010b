// SPDX-License-Identifier: Apache-2.0
/*
 * Objects in use. Owns the entries: one an object, found by number and key, kept for a while when
 * nobody uses it. Loop thread; files are touched by objects_file.c on threads.
 */
#include "store/objects.h"

#include <endian.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/limits.h"
#include "base/log.h"
#include "loop/work.h"
#include "store/objects_impl.h"

#include "base/banned.h"

/* --- entries ---------------------------------------------------------------------------------- */

struct entry *entry_by_key(struct objects *o, const struct digest *key)
{
	struct map_node *n = map_get(&o->by_key, digest_str(key));

	return n ? container_of(n, struct entry, by_key) : NULL;
}

static struct entry *entry_by_number(struct objects *o, uint64_t number)
{
	struct str key = {(const char *)&number, sizeof(number)};
	struct map_node *n = map_get(&o->by_number, key);

	return n ? container_of(n, struct entry, by_number) : NULL;
}

static struct entry *entry_new(struct objects *o, uint64_t number)
{
	struct entry *e = calloc(1, sizeof(*e));

	if (!e)
		return NULL;
	e->o = o;
	e->obj.number = e->number_key = number;
	e->obj.fd = -1;
	e->refs = 1;
	e->loading = true;
	list_init(&e->idle_link);
	waitq_init(&e->obj.changed);
	waitq_init(&e->free);
	e->by_number.key = (struct str){(const char *)&e->number_key, sizeof(e->number_key)};
	map_put(&o->by_number, &e->by_number);
	o->entries_n++;
	return e;
}

/* Closing the last of a file without a name frees its blocks: that is for a thread. */
static void close_later(struct objects *o, int fd)
{
	if (buf_append(&o->closing, &fd, sizeof(fd)) < 0)
		close(fd);
	else
		chore_kick(&o->reap);
}

static void entry_free(struct objects *o, struct entry *e)
{
	if (!e->obj.gone)
		map_del(&o->by_number, &e->by_number);
	if (!e->obj.gone && e->by_key.key.len)
		map_del(&o->by_key, &e->by_key);
	if (e->obj.fd >= 0 && (e->obj.gone || !(e->obj.complete || e->named)))
		close_later(o, e->obj.fd);
	else if (e->obj.fd >= 0)
		close(e->obj.fd);
	free(e->obj.sources);
	free(e->presence);
	free(e);
	o->entries_n--;
}

void entry_drop(struct objects *o, struct entry *e)
{
	require(!e->refs && !e->busy);
	list_del(&e->idle_link);
	o->idle_n--;
	entry_free(o, e);
}

may_suspend void entry_gone(struct objects *o, struct entry *e)
{
	map_del(&o->by_number, &e->by_number);
	map_del(&o->by_key, &e->by_key);
	e->obj.gone = true;
	if (!e->refs) {
		entry_drop(o, e);
		return;
	}
	e->refs++;
	waitq_wake_all(&e->obj.changed); /* nobody can bring the rest any more */
	while (e->busy)
		waitq_wait_always(&e->free);
	e->named = false; /* the name is deleted */
	object_unref(o, &e->obj);
}

struct object *object_ref(struct object *obj)
{
	entry_of(obj)->refs++;
	return obj;
}

void object_unref(struct objects *o, struct object *obj)
{
	struct entry *e = entry_of(obj);

	require(e->refs);
	if (--e->refs)
		return;
	if (e->obj.gone || e->load_result < 0 || e->obj.no_file) {
		entry_free(o, e);
		return;
	}
	list_push(&o->idle, &e->idle_link);
	if (++o->idle_n > OBJECTS_IDLE_MAX)
		entry_drop(o, container_of(o->idle.next, struct entry, idle_link));
}

static struct entry *entry_ref(struct objects *o, struct entry *e)
{
	if (e->refs++ == 0) {
		list_del(&e->idle_link);
		o->idle_n--;
	}
	return e;
}

static void content_of(const struct entry *e, struct content *ret)
{
	*ret = (struct content){e->obj.key, e->obj.digest, e->obj.size, e->obj.chunks_n};
}

/* --- work on an entry's files, one at a time -------------------------------------------------- */

may_suspend static void busy_begin(struct entry *e)
{
	while (e->busy)
		waitq_wait_always(&e->free);
	e->busy = true;
}

static void busy_end(struct entry *e)
{
	e->busy = false;
	waitq_wake_all(&e->free);
}

/* The partial file has no name any more. */
static void entry_unnamed(struct entry *e)
{
	if (e->named)
		count_partial_add(e->o, -e->disk_bytes, -1);
	e->named = false;
}

static void entry_complete(struct entry *e)
{
	entry_unnamed(e);
	e->obj.complete = true;
	e->obj.no_file = false;
	e->obj.chunks_here = e->obj.chunks_n;
	free(take_ptr(e->presence));
	waitq_wake_all(&e->obj.changed);
}

struct finish {
	struct objects *o;
	struct entry *e;
	struct content c;
	bool adopt;
	struct err err;
};

static int finish_job(void *arg)
{
	struct finish *f = arg;

	if (f->adopt)
		return file_adopt(f->o, &f->c, f->e->obj.fd, f->e->named);
	return file_finish(f->o, &f->c, f->e->obj.fd, f->e->named, &f->err);
}

static int remove_partial_job(void *arg)
{
	struct finish *f = arg;

	file_remove_partial(f->o, &f->c.key, false);
	return 0;
}

/* The bytes stay readable by the open file; the next load completes it, or starts again when its
 * presence is gone already. */
static void finish_failed(struct entry *e, const struct finish *f, int r)
{
	if (!e->failed)
		log_warn("object=%llu error=\"%s\"", (unsigned long long)e->obj.number,
			 err_text((struct err *)(uintptr_t)&f->err, r));
	e->failed = true;
}

/* All chunks are there. */
may_suspend static void finish(struct objects *o, struct entry *e)
{
	struct finish f = {.o = o, .e = e};
	int r;

	busy_begin(e);
	content_of(e, &f.c);
	if (!e->obj.gone && !e->obj.complete && !e->obj.damaged) {
		r = work_run(o->threads, finish_job, &f);
		if (r == 0) {
			entry_complete(e);
			undurable_add(o, &f.c.key);
			evict_check(o);
		} else if (r == -EBADMSG || r == -EIO || r == -ENODATA) {
			finish_failed(e, &f, r);
			e->obj.damaged = true;
			if (e->named)
				work_run(o->threads, remove_partial_job, &f);
			entry_unnamed(e);
			waitq_wake_all(&e->obj.changed);
		} else {
			finish_failed(e, &f, r);
		}
	}
	busy_end(e);
}

may_suspend static int finish_task(void *arg)
{
	struct entry *e = arg;
	struct objects *o = e->o;

	finish(o, e);
	object_unref(o, &e->obj);
	return 0;
}

/* In the background; here if there is no task for it. */
may_suspend static void finish_start(struct objects *o, struct entry *e)
{
	entry_ref(o, e);
	if (scope_spawn(&o->scope, finish_task, e, NULL) < 0)
		finish_task(e);
}

/* Its complete file has come by another way. */
may_suspend static int adopt_task(void *arg)
{
	struct entry *e = arg;
	struct objects *o = e->o;
	struct finish f = {.o = o, .e = e, .adopt = true};

	busy_begin(e);
	content_of(e, &f.c);
	if (!e->obj.gone && !e->obj.complete && work_run(o->threads, finish_job, &f) == 0) {
		e->obj.damaged = false;
		entry_complete(e);
	}
	busy_end(e);
	object_unref(o, &e->obj);
	return 0;
}

void objects_wrote(struct objects *o, const struct digest *key)
{
	struct entry *e = entry_by_key(o, key);

	undurable_add(o, key);
	evict_check(o);
	if (!e || e->obj.complete)
		return;
	entry_ref(o, e);
	if (scope_spawn(&o->scope, adopt_task, e, NULL) < 0)
		object_unref(o, &e->obj); /* then its own chunks complete it */
}

/* --- loading ---------------------------------------------------------------------------------- */

struct load {
	struct objects *o;
	struct entry *e;
	struct content c;
	struct opened file;
	bool is_open;
	struct buf bytes;
	struct object_source *sources;
	uint32_t sources_n;
	struct err *err;
};

static int load_sources(struct load *l, const struct object_record *rec)
{
	free(l->sources);
	l->sources_n = 0;
	l->sources = reallocarray(NULL, (size_t)rec->sources_n + 1, sizeof(l->sources[0]));
	if (!l->sources)
		return err_set(l->err, -ENOMEM, "out of memory");
	for (; l->sources_n < rec->sources_n; l->sources_n++)
		l->sources[l->sources_n] = object_record_source(rec, l->sources_n);
	return 0;
}

static int load_job(struct kv *kv, void *arg)
{
	struct load *l = arg;
	uint64_t number = htobe64(l->e->number_key);
	struct str number_key = {(const char *)&number, sizeof(number)};
	struct object_record rec;
	int r = kv_get(kv, KV_NUMBERS, number_key, &l->bytes, l->err);

	if (r < 0)
		return r;
	if (l->bytes.len != DIGEST_SIZE)
		return err_set(l->err, -EBADMSG, "damaged number record");
	memcpy(l->c.key.bytes, l->bytes.data, DIGEST_SIZE);
	r = record_read(kv, &l->c.key, &l->bytes, &rec, l->err);
	if (r < 0)
		return r;
	if (rec.number != l->e->number_key)
		return err_set(l->err, -EBADMSG, "object record of another number");
	r = load_sources(l, &rec);
	if (r < 0 || l->is_open)
		return r;
	l->c.digest = rec.digest;
	l->c.size = rec.size;
	l->c.chunks_n = rec.chunks_n;
	r = file_open(l->o, &l->c, &l->file, l->err);
	l->is_open = r == 0;
	return r;
}

static void load_fini(struct load *l)
{
	buf_fini(&l->bytes);
	free(l->sources);
	if (l->is_open) {
		close(l->file.fd);
		free(l->file.presence);
	}
}

static void load_done(struct objects *o, struct entry *e, struct load *l)
{
	struct object *obj = &e->obj;

	obj->size = l->c.size;
	obj->key = l->c.key;
	obj->digest = l->c.digest;
	obj->chunks_n = l->c.chunks_n;
	obj->chunks_here = l->file.here;
	obj->complete = l->file.complete;
	obj->fd = l->file.fd;
	obj->no_file = l->file.no_file;
	obj->sources = take_ptr(l->sources);
	obj->sources_n = l->sources_n;
	e->presence = take_ptr(l->file.presence);
	e->named = l->file.named;
	e->disk_bytes = l->file.disk_bytes;
	l->is_open = false;
	e->by_key.key = digest_str(&obj->key);
	map_put(&o->by_key, &e->by_key);
}

may_suspend static int load(struct objects *o, struct entry *e, struct err *err)
{
	struct load l = {.o = o, .e = e, .err = err};
	uint64_t generation;
	int r;

	while (o->evicting)
		waitq_wait_always(&o->evicted);
	do { /* records may have changed since they were read */
		generation = o->generation;
		r = meta_read(o->meta, load_job, &l);
	} while (generation != o->generation);
	if (r == -EAGAIN)
		err_errno(err, r, "load an object");
	if (r == 0)
		load_done(o, e, &l);
	load_fini(&l);
	e->loading = false;
	e->load_result = r;
	if (r < 0) {
		map_del(&o->by_number, &e->by_number);
		e->obj.gone = true; /* nobody finds it any more */
	}
	waitq_wake_all(&e->obj.changed);
	if (r == 0 && !e->obj.complete && e->obj.chunks_here == e->obj.chunks_n)
		finish_start(o, e);
	return r;
}

static int file_again_job(void *arg)
{
	struct finish *f = arg;

	return file_again(f->o, &f->c, f->e->obj.fd);
}

/* There may be room for a file now. Its chunks of zeros are the same in the new one. */
may_suspend static void file_retry(struct objects *o, struct entry *e)
{
	struct finish f = {.o = o, .e = e};

	busy_begin(e);
	content_of(e, &f.c);
	if (e->obj.no_file && !e->obj.gone && work_run(o->threads, file_again_job, &f) == 0)
		e->obj.no_file = false;
	busy_end(e);
}

may_suspend int objects_get(struct objects *o, uint64_t number, struct object **ret,
			    struct err *err)
{
	struct entry *e = entry_by_number(o, number);
	int r = 0;

	if (!e) {
		e = entry_new(o, number);
		if (!e)
			return err_set(err, -ENOMEM, "out of memory");
		r = load(o, e, err);
	} else {
		entry_ref(o, e);
		while (e->loading && r == 0)
			r = waitq_wait(&e->obj.changed);
		if (r == 0)
			r = e->load_result;
		if (r < 0)
			err_errno(err, r, "object %llu", (unsigned long long)number);
		else if (e->obj.no_file)
			file_retry(o, e);
	}
	if (r < 0) {
		object_unref(o, &e->obj);
		return r;
	}
	*ret = &e->obj;
	return 0;
}

struct object *objects_peek(struct objects *o, uint64_t number)
{
	struct entry *e = entry_by_number(o, number);

	return e && !e->loading ? &entry_ref(o, e)->obj : NULL;
}

struct find {
	const struct digest *key;
	struct object_info info;
	struct err *err;
};

static int find_job(struct kv *kv, void *arg)
{
	auto_buf struct buf bytes = BUF_INIT;
	struct find *f = arg;
	struct object_record rec;
	int r = record_read(kv, f->key, &bytes, &rec, f->err);

	if (r == 0)
		f->info = (struct object_info){rec.number, rec.size};
	return r;
}

may_suspend int objects_find(struct objects *o, const struct digest *key, struct object_info *ret,
			     struct err *err)
{
	struct entry *e = entry_by_key(o, key);
	struct find f = {.key = key, .err = err};
	int r;

	if (e) {
		*ret = (struct object_info){e->obj.number, e->obj.size};
		return 0;
	}
	r = meta_read(o->meta, find_job, &f);
	if (r == 0)
		*ret = f.info;
	return r == -EAGAIN ? err_errno(err, r, "find an object") : r;
}

/* --- chunks ----------------------------------------------------------------------------------- */

bool object_has_chunk(const struct object *obj, uint32_t chunk)
{
	const struct entry *e = entry_of(obj);

	if (chunk >= obj->chunks_n)
		return false;
	return obj->complete || (e->presence && e->presence[chunk / 8] & 1u << chunk % 8);
}

struct flush {
	struct objects *o;
	struct content c;
	int fd;
	bool named;
	uint8_t *bytes;
	uint32_t from, to;
	int64_t disk_bytes;
};

static int flush_job(void *arg)
{
	struct flush *f = arg;
	int r = file_write_presence(f->o, &f->c, f->fd, f->named, f->bytes, f->from, f->to);

	f->disk_bytes = file_disk_bytes(f->fd);
	return r;
}

static bool dirty(const struct entry *e)
{
	return e->dirty_from < e->dirty_to && e->presence && !e->obj.gone && !e->obj.damaged &&
	       !e->obj.no_file;
}

/* Not needed for reading: a failure costs a new process a download. */
may_suspend static int flush_once(struct objects *o, struct entry *e)
{
	struct flush f = {.o = o, .fd = e->obj.fd, .named = e->named};
	int r;

	f.from = e->named ? e->dirty_from : 0;
	f.to = e->named ? e->dirty_to : (uint32_t)presence_size(e->obj.chunks_n);
	f.bytes = malloc(f.to - f.from);
	if (!f.bytes)
		return -ENOMEM;
	memcpy(f.bytes, e->presence + f.from, f.to - f.from);
	e->dirty_from = e->dirty_to = 0;
	content_of(e, &f.c);
	r = work_run(o->threads, flush_job, &f);
	free(f.bytes);
	if (r < 0)
		return r;
	count_partial_add(o, f.disk_bytes - (e->named ? e->disk_bytes : 0), e->named ? 0 : 1);
	e->disk_bytes = f.disk_bytes;
	e->named = true;
	return 0;
}

may_suspend static void flush(struct objects *o, struct entry *e)
{
	int r = 0;

	busy_begin(e);
	while (dirty(e) && r == 0)
		r = flush_once(o, e);
	if (r < 0 && !e->failed) {
		log_warn("object=%llu error=\"write presence: %s\"",
			 (unsigned long long)e->obj.number, strerror(-r));
		e->failed = true;
	}
	busy_end(e);
}

static void show(struct entry *e, uint32_t chunk)
{
	uint32_t byte = chunk / 8;

	e->presence[byte] |= (uint8_t)(1u << chunk % 8);
	e->obj.chunks_here++;
	if (e->dirty_from == e->dirty_to) {
		e->dirty_from = byte;
		e->dirty_to = byte + 1;
	} else if (byte < e->dirty_from) {
		e->dirty_from = byte;
	} else if (byte >= e->dirty_to) {
		e->dirty_to = byte + 1;
	}
	waitq_wake_all(&e->obj.changed);
}

may_suspend int objects_put_chunk(struct objects *o, struct object *obj, uint32_t chunk,
				  struct err *err)
{
	struct entry *e = entry_of(obj);

	if (chunk >= obj->chunks_n)
		return err_set(err, -EINVAL, "object %llu has no chunk %u",
			       (unsigned long long)obj->number, chunk);
	if (obj->damaged)
		return err_set(err, -EIO, "object %llu is damaged",
			       (unsigned long long)obj->number);
	if (object_has_chunk(obj, chunk))
		return 0;
	show(e, chunk);
	if (obj->chunks_here < obj->chunks_n) {
		if (!e->busy) /* else who is at it sees it */
			flush(o, e);
	} else if (obj->chunks_n == 1) {
		finish(o, e);
	} else {
		finish_start(o, e);
	}
	return 0;
}

/* --- many at once ----------------------------------------------------------------------------- */

struct state {
	struct objects *o;
	const struct object_entry *entries;
	size_t n;
	uint8_t *states;
	bool *linked;
};

static int state_job(void *arg)
{
	struct state *s = arg;
	char path[OBJECT_PATH_SIZE];

	for (size_t i = 0; i < s->n; i++) {
		const struct object_entry *e = &s->entries[i];
		struct content c = {e->key, e->digest, e->size, e->chunks_n};

		object_path(&e->key, path);
		s->states[i] = OBJECT_ABSENT;
		if (faccessat(s->o->objects_fd, path, F_OK, 0) == 0)
			s->states[i] = OBJECT_COMPLETE;
		else if (file_link_canonical(s->o, &c) == 0)
			s->linked[i] = true;
		else if (e->chunks_n > 1 && faccessat(s->o->partial_fd, path + 3, F_OK, 0) == 0)
			s->states[i] = OBJECT_PARTIAL;
		if (s->linked[i])
			s->states[i] = OBJECT_COMPLETE;
	}
	return 0;
}

may_suspend int objects_state(struct objects *o, const struct object_entry *entries, size_t n,
			      uint8_t *ret_states, struct err *err)
{
	struct state s = {o, entries, n, ret_states, NULL};
	int r;

	s.linked = calloc(n + 1, sizeof(bool));
	if (!s.linked)
		return err_set(err, -ENOMEM, "out of memory");
	r = work_run(o->threads, state_job, &s);
	for (size_t i = 0; i < n && r == 0; i++) {
		if (s.linked[i])
			objects_wrote(o, &entries[i].key);
	}
	free(s.linked);
	return r < 0 ? err_errno(err, r, "look for objects") : 0;
}

static int64_t sum(const int64_t *v)
{
	int64_t n = 0;

	for (size_t i = 0; i < 256; i++)
		n += __atomic_load_n(&v[i], __ATOMIC_RELAXED);
	return n;
}

void objects_usage(const struct objects *o, struct objects_usage *ret)
{
	int64_t partial = __atomic_load_n(&o->counts->partial, __ATOMIC_RELAXED);
	int64_t complete = sum(o->counts->complete);
	int64_t bytes = sum(o->counts->bytes) +
			__atomic_load_n(&o->counts->partial_bytes, __ATOMIC_RELAXED);

	ret->bytes = bytes > 0 ? (uint64_t)bytes : 0;
	ret->complete = complete > 0 ? (uint64_t)complete : 0;
	ret->partial = partial > 0 ? (uint64_t)partial : 0;
}
