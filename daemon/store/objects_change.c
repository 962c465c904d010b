// SPDX-License-Identifier: Apache-2.0
/*
 * Records of objects: adding and removing sources. A batch is read and built on a reading thread
 * and written as one change; the lock makes this the only writer, so what was read still holds.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/limits.h"
#include "store/objects_impl.h"

#include "base/banned.h"

#define CHANGES_MAX (2 * OBJECTS_BATCH_ENTRIES + 1)

struct build {
	struct objects *o;
	uint32_t layer;
	const void **items; /* struct object_entry or struct digest, by key */
	size_t items_n;
	size_t at, end; /* items of this batch */
	struct kv_change *changes;
	size_t n;
	bool *without_source; /* removing: of items[at + i] nothing is left */
	struct digest *canonical;
	bool *several;
	struct arena arena;
	struct buf bytes;
	struct err *err;
};

/* Both kinds of items start with their key. */
_Static_assert(offsetof(struct object_entry, key) == 0, "items are compared by their start");

static int item_cmp(const void *a, const void *b)
{
	return memcmp(*(const void *const *)a, *(const void *const *)b, DIGEST_SIZE);
}

static const struct digest *item_key(const struct build *b, size_t i)
{
	return b->items[i];
}

int record_read(struct kv *kv, const struct digest *key, struct buf *bytes,
		struct object_record *ret, struct err *err)
{
	int r = kv_get(kv, KV_OBJECTS, digest_str(key), bytes, err);

	if (r < 0)
		return r;
	return object_record_decode((struct str){(char *)bytes->data, bytes->len}, ret, err);
}

static void put(struct build *b, enum kv_space space, struct str key, struct str value)
{
	b->changes[b->n++] = (struct kv_change){.space = space, .key = key, .value = value};
}

static void del(struct build *b, enum kv_space space, struct str key)
{
	b->changes[b->n++] = (struct kv_change){.space = space, .key = key, .del = true};
}

/* The number as a key of KV_NUMBERS; NULL when memory is out. */
static char *number_key(struct build *b, uint64_t number)
{
	number = htobe64(number);
	return arena_strndup(&b->arena, (char *)&number, sizeof(number));
}

static int batch_begin(struct build *b)
{
	b->n = 0;
	b->end = b->at;
	arena_reset(&b->arena);
	return 0;
}

static bool batch_full(const struct build *b)
{
	return b->end == b->items_n || b->end - b->at == OBJECTS_BATCH_ENTRIES ||
	       b->arena.used >= OBJECTS_BATCH_BYTES;
}

/* The same key again. */
static bool repeated(const struct build *b, size_t i)
{
	return i > 0 && item_cmp(&b->items[i - 1], &b->items[i]) == 0;
}

/* --- adding ----------------------------------------------------------------------------------- */

/* A content that comes back has the number that kernels may still know it by. */
uint64_t object_number(const struct digest *key)
{
	uint64_t n;

	memcpy(&n, key->bytes, sizeof(n));
	return be64toh(n) >> (64 - OBJECT_NUMBER_BITS);
}

/* Another content has it: chance does not do that. -EEXIST. */
static int number_is_free(struct build *b, struct kv *kv, const struct object_entry *e,
			  struct str number)
{
	auto_buf struct buf owner = BUF_INIT;
	int r;

	if (object_number(&e->key) < OBJECT_NUMBER_FIRST)
		return -EEXIST;
	/* One of this batch is not in the store yet, and stands before this one. */
	if (b->end > b->at && object_number(item_key(b, b->end - 1)) == object_number(&e->key))
		return -EEXIST;
	r = kv_get(kv, KV_NUMBERS, number, &owner, NULL);
	return r == -ENOENT ? 0 : r < 0 ? r : -EEXIST;
}

static int add_new(struct build *b, struct kv *kv, const struct object_entry *e)
{
	struct object_record rec = {.number = object_number(&e->key),
				    .size = e->size,
				    .digest = e->digest,
				    .chunks_n = e->chunks_n};
	char *bytes = arena_alloc(&b->arena, OBJECT_RECORD_HEAD + OBJECT_SOURCE_SIZE);
	char *number = number_key(b, rec.number);
	int r;

	if (!bytes || !number)
		return -ENOMEM;
	r = number_is_free(b, kv, e, (struct str){number, sizeof(rec.number)});
	if (r < 0)
		return r;
	object_record_encode(&rec, bytes);
	object_source_encode((struct object_source){b->layer, e->index},
			     bytes + OBJECT_RECORD_HEAD);
	put(b, KV_OBJECTS, digest_str(&e->key),
	    (struct str){bytes, OBJECT_RECORD_HEAD + OBJECT_SOURCE_SIZE});
	put(b, KV_NUMBERS, (struct str){number, sizeof(rec.number)}, digest_str(&e->key));
	return 0;
}

static int add_source(struct build *b, const struct object_entry *e,
		      const struct object_record *rec)
{
	char *bytes;

	if (rec->size != e->size || rec->chunks_n != e->chunks_n ||
	    !digest_eq(&rec->digest, &e->digest))
		return -EINVAL; /* the key would stand for both */
	for (uint32_t i = 0; i < rec->sources_n; i++) {
		if (object_record_source(rec, i).layer == b->layer)
			return 0;
	}
	bytes = arena_alloc(&b->arena, b->bytes.len + OBJECT_SOURCE_SIZE);
	if (!bytes)
		return -ENOMEM;
	memcpy(bytes, b->bytes.data, b->bytes.len);
	object_source_encode((struct object_source){b->layer, e->index}, bytes + b->bytes.len);
	put(b, KV_OBJECTS, digest_str(&e->key),
	    (struct str){bytes, b->bytes.len + OBJECT_SOURCE_SIZE});
	return 0;
}

static int add_one(struct build *b, struct kv *kv, const struct object_entry *e)
{
	struct object_record rec;
	char hex[DIGEST_HEX_SIZE];
	struct err err = ERR_INIT;
	int r;

	digest_hex(&e->key, hex);
	if (!e->size || e->size > OBJECT_SIZE_MAX || !e->chunks_n || e->chunks_n > INDEX_CHUNKS_MAX)
		return err_set(b->err, -EINVAL, "object %s: size or chunks", hex);
	r = record_read(kv, &e->key, &b->bytes, &rec, &err);
	if (r == -ENOENT)
		r = add_new(b, kv, e);
	else if (r == 0)
		r = add_source(b, e, &rec);
	else
		return err_set(b->err, r, "object %s: %s", hex, err.text);
	return r < 0 ? err_errno(b->err, r, "add object %s", hex) : 0;
}

static int add_job(struct kv *kv, void *arg)
{
	struct build *b = arg;
	int r = batch_begin(b);

	if (b->at == 0)
		qsort(b->items, b->items_n, sizeof(b->items[0]), item_cmp);
	for (; r == 0 && !batch_full(b); b->end++) {
		if (!repeated(b, b->end))
			r = add_one(b, kv, b->items[b->end]);
	}
	return r;
}

static void entry_add_source(struct entry *e, struct object_source s)
{
	struct object *obj = &e->obj;
	struct object_source *grown;

	for (uint32_t i = 0; i < obj->sources_n; i++) {
		if (obj->sources[i].layer == s.layer)
			return;
	}
	grown = reallocarray(obj->sources, (size_t)obj->sources_n + 1, sizeof(*grown));
	if (!grown)
		return; /* it is asked of the others */
	grown[obj->sources_n++] = s;
	obj->sources = grown;
}

static void added(struct build *b)
{
	for (size_t i = b->at; i < b->end; i++) {
		const struct object_entry *item = b->items[i];
		struct entry *e = entry_by_key(b->o, &item->key);

		if (e)
			entry_add_source(e, (struct object_source){b->layer, item->index});
	}
}

/* --- removing --------------------------------------------------------------------------------- */

static int remove_one(struct build *b, struct kv *kv, size_t i)
{
	const struct digest *key = item_key(b, i);
	struct object_record rec;
	char *bytes, *number;
	size_t len = OBJECT_RECORD_HEAD;
	int r = record_read(kv, key, &b->bytes, &rec, b->err);

	if (r < 0)
		return r == -ENOENT ? 0 : r;
	bytes = arena_alloc(&b->arena, b->bytes.len);
	number = number_key(b, rec.number);
	if (!bytes || !number)
		return err_set(b->err, -ENOMEM, "out of memory");
	memcpy(bytes, b->bytes.data, len);
	for (uint32_t s = 0; s < rec.sources_n; s++) {
		struct object_source source = object_record_source(&rec, s);

		if (source.layer == b->layer)
			continue;
		object_source_encode(source, bytes + len);
		len += OBJECT_SOURCE_SIZE;
	}
	if (len > OBJECT_RECORD_HEAD) {
		if (len < b->bytes.len)
			put(b, KV_OBJECTS, digest_str(key), (struct str){bytes, len});
		return 0;
	}
	del(b, KV_OBJECTS, digest_str(key));
	del(b, KV_NUMBERS, (struct str){number, sizeof(rec.number)});
	b->without_source[i - b->at] = true;
	b->several[i - b->at] = rec.chunks_n > 1;
	object_canonical_key(&rec.digest, rec.size, &b->canonical[i - b->at]);
	return 0;
}

static int remove_job(struct kv *kv, void *arg)
{
	struct build *b = arg;
	int r = batch_begin(b);

	if (b->at == 0)
		qsort(b->items, b->items_n, sizeof(b->items[0]), item_cmp);
	memset(b->without_source, 0, OBJECTS_BATCH_ENTRIES * sizeof(bool));
	for (; r == 0 && !batch_full(b); b->end++) {
		if (!repeated(b, b->end))
			r = remove_one(b, kv, b->end);
	}
	return r;
}

static void entry_drop_source(struct entry *e, uint32_t layer)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < e->obj.sources_n; i++) {
		if (e->obj.sources[i].layer != layer)
			e->obj.sources[n++] = e->obj.sources[i];
	}
	e->obj.sources_n = n;
}

may_suspend static void removed(struct build *b)
{
	for (size_t i = b->at; i < b->end; i++) {
		struct entry *e = entry_by_key(b->o, item_key(b, i));

		if (e)
			entry_drop_source(e, b->layer);
	}
	/* First all are told, without a wait between; then those that go. */
	for (size_t i = b->at; i < b->end; i++) {
		struct doomed d = {.key = *item_key(b, i)};
		struct entry *e;

		if (!b->without_source[i - b->at])
			continue;
		e = entry_by_key(b->o, &d.key);
		if (e)
			entry_gone(b->o, e);
		d.canonical = b->canonical[i - b->at];
		d.always = b->several[i - b->at];
		(void)!buf_append(&b->o->doomed, &d, sizeof(d)); /* else the next start finds it */
	}
	chore_kick(&b->o->reap);
}

/* --- both ------------------------------------------------------------------------------------- */

static void build_fini(struct build *b)
{
	free(b->items);
	free(b->changes);
	free(b->without_source);
	free(b->several);
	free(b->canonical);
	arena_fini(&b->arena);
	buf_fini(&b->bytes);
}

static int build_init(struct build *b, const void *items, size_t size, size_t n)
{
	b->items = reallocarray(NULL, n, sizeof(b->items[0]));
	b->changes = reallocarray(NULL, CHANGES_MAX, sizeof(b->changes[0]));
	b->without_source = calloc(OBJECTS_BATCH_ENTRIES, sizeof(bool));
	b->several = calloc(OBJECTS_BATCH_ENTRIES, sizeof(bool));
	b->canonical = calloc(OBJECTS_BATCH_ENTRIES, sizeof(b->canonical[0]));
	if (!b->items || !b->changes || !b->without_source || !b->several || !b->canonical)
		return err_set(b->err, -ENOMEM, "out of memory");
	for (size_t i = 0; i < n; i++)
		b->items[i] = (const char *)items + i * size;
	b->items_n = n;
	/* A batch ends soon after OBJECTS_BATCH_BYTES; a single record may be larger. */
	arena_init(&b->arena, MiB(1024));
	return 0;
}

/* All batches; the lock is held. */
may_suspend static int build_run(struct build *b, bool removing)
{
	struct objects *o = b->o;
	int r = 0;

	for (; b->at < b->items_n && r == 0; b->at = b->end) {
		struct meta_change c = {0};

		r = meta_read(o->meta, removing ? remove_job : add_job, b);
		if (r < 0)
			return r == -EAGAIN ? err_errno(b->err, r, "read objects") : r;
		c.more = b->changes;
		c.more_n = b->n;
		r = b->n ? meta_commit(o->meta, &c, b->err) : 0;
		o->generation++;
		if (r < 0)
			break;
		if (removing)
			removed(b);
		else
			added(b);
	}
	return r;
}

may_suspend static int change(struct objects *o, uint32_t layer, bool removing, const void *items,
			      size_t size, size_t n, struct err *err)
{
	struct build b = {.o = o, .layer = layer, .err = err};
	int r = n ? build_init(&b, items, size, n) : 0;

	if (r == 0 && n) {
		r = mutex_lock(&o->changing);
		if (r < 0) {
			err_errno(err, r, "change objects");
		} else {
			r = build_run(&b, removing);
			mutex_unlock(&o->changing);
		}
	}
	build_fini(&b);
	return r;
}

may_suspend int objects_add(struct objects *o, uint32_t layer, const struct object_entry *entries,
			    size_t n, struct err *err)
{
	return change(o, layer, false, entries, sizeof(*entries), n, err);
}

may_suspend int objects_remove(struct objects *o, uint32_t layer, const struct digest *keys,
			       size_t n, struct err *err)
{
	return change(o, layer, true, keys, sizeof(*keys), n, err);
}
