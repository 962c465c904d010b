// SPDX-License-Identifier: Apache-2.0
/* Contents on disk over the database in memory: records, chunks, sharing, removal. */
#include "objects_fixture.h"

static int numbers(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct object_entry e[4];
	struct object *obj;
	static struct blob b;

	(void)arg;
	for (unsigned i = 0; i < 3; i++) {
		blob_make(&b, i, 1000);
		e[i] = entry_for(&b, i, CHUNK);
	}
	e[3] = e[1]; /* twice in one layer */
	assert_int_equal(number_of(o, &e[0]), 0);
	assert_int_equal(objects_add(o, 7, e, 4, NULL), 0);
	uint64_t n[3] = {number_of(o, &e[0]), number_of(o, &e[1]), number_of(o, &e[2])};

	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(n[i], object_number(&e[i].key));
	assert_int_equal(objects_add(o, 7, e, 3, NULL), 0); /* changes nothing */
	obj = get(o, &e[1]);
	assert_int_equal(obj->number, n[1]);
	assert_int_equal(obj->sources_n, 1);
	assert_int_equal(objects_add(o, 8, &e[1], 1, NULL), 0); /* told while in use */
	assert_int_equal(obj->sources_n, 2);
	assert_int_equal(obj->sources[1].layer, 8);
	assert_int_equal(obj->sources[1].index, 1);
	assert_ptr_equal(objects_peek(o, n[1]), obj);
	object_unref(o, obj);
	object_unref(o, obj);
	assert_null(objects_peek(o, n[0]));
	assert_int_equal(objects_get(o, 5, &obj, NULL), -ENOENT);
	e[3].size++; /* the same key for something else */
	assert_int_equal(objects_add(o, 9, &e[3], 1, NULL), -EINVAL);
	e[3].size = 0;
	assert_int_equal(objects_add(o, 9, &e[3], 1, NULL), -EINVAL);
	assert_int_equal(objects_add(o, 9, NULL, 0, NULL), 0);
	close_store(o);

	o = open_store(1, 0); /* numbers stay, and new ones go on */
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(number_of(o, &e[i]), n[i]);
	obj = get(o, &e[1]);
	assert_int_equal(obj->sources_n, 2);
	object_unref(o, obj);
	struct digest key = e[2].key;

	assert_int_equal(objects_remove(o, 7, &key, 1, NULL), 0);
	assert_int_equal(objects_get(o, n[2], &obj, NULL), -ENOENT);
	close_store(o);
	o = open_store(1, 0);
	assert_int_equal(objects_add(o, 7, &e[2], 1, NULL), 0);
	assert_int_equal(number_of(o, &e[2]), n[2]);
	close_store(o);
	return 0;
}

/* Two keys that begin alike: in one batch, and in two. */
static int twins(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct object_entry e[3];
	static struct blob b;

	(void)arg;
	for (unsigned i = 0; i < 3; i++) {
		blob_make(&b, i, 1000 + i);
		e[i] = entry_for(&b, i, CHUNK);
	}
	memcpy(e[1].key.bytes, e[0].key.bytes, 8);
	assert_int_equal(objects_add(o, 1, e, 2, NULL), -EEXIST);
	assert_int_equal(number_of(o, &e[0]), 0);
	assert_int_equal(objects_add(o, 1, &e[0], 1, NULL), 0);
	assert_int_equal(objects_add(o, 2, &e[1], 1, NULL), -EEXIST);
	assert_int_equal(number_of(o, &e[1]), 0);
	memset(e[2].key.bytes, 0, 8); /* a directory's */
	assert_int_equal(objects_add(o, 1, &e[2], 1, NULL), -EEXIST);
	close_store(o);
	return 0;
}

static void test_twins(void **state)
{
	(void)state;
	with_disk(twins);
}

static void test_numbers(void **state)
{
	(void)state;
	with_disk(numbers);
}

static int one_chunk(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct objects_usage u;
	struct object_entry e;
	struct object *obj;
	struct stat st;
	static struct blob b;
	uint8_t state;

	(void)arg;
	blob_make(&b, 1, 5000);
	e = entry_for(&b, 0, CHUNK);
	assert_int_equal(objects_add(o, 1, &e, 1, NULL), 0);
	obj = get(o, &e);
	assert_false(obj->complete);
	assert_false(object_has_chunk(obj, 0));
	assert_int_equal(objects_state(o, &e, 1, &state, NULL), 0);
	assert_int_equal(state, OBJECT_ABSENT);
	assert_int_equal(objects_put_chunk(o, obj, 1, NULL), -EINVAL);
	put(o, obj, &b, 0);
	assert_true(obj->complete); /* when it returns */
	assert_int_equal(write(obj->fd, "x", 1), -1);
	assert_int_equal(fstat(obj->fd, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0400);
	assert_int_equal(objects_state(o, &e, 1, &state, NULL), 0);
	assert_int_equal(state, OBJECT_COMPLETE);
	object_unref(o, obj);
	check_bytes(&e, &b);
	objects_usage(o, &u);
	assert_int_equal(u.complete, 1);
	assert_int_equal(u.bytes, st.st_blocks * 512);
	wait_mode(&e, 0444);
	close_store(o);
	o = open_store(1, 0);
	obj = get(o, &e);
	assert_true(obj->complete && object_has_chunk(obj, 0));
	object_unref(o, obj);
	close_store(o);
	return 0;
}

static void test_one_chunk(void **state)
{
	(void)state;
	with_disk(one_chunk);
}

static int several_chunks(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct objects_usage u;
	struct object_entry e;
	struct object *obj;
	struct stat st;
	static struct blob b;
	uint8_t state;

	(void)arg;
	blob_make(&b, 1, 3 * CHUNK + 5);
	e = entry_for(&b, 0, CHUNK);
	assert_int_equal(e.chunks_n, 4);
	assert_int_equal(objects_add(o, 1, &e, 1, NULL), 0);
	obj = get(o, &e);
	assert_false(is_partial(&e)); /* no name before there is something */
	put(o, obj, &b, 2);
	assert_true(is_partial(&e));
	assert_int_equal(objects_state(o, &e, 1, &state, NULL), 0);
	assert_int_equal(state, OBJECT_PARTIAL);
	objects_usage(o, &u);
	assert_int_equal(u.partial, 1);
	assert_true(u.bytes >= CHUNK);
	object_unref(o, obj);
	close_store(o);

	o = open_store(1, 0); /* the same boot: what is here counts */
	obj = get(o, &e);
	assert_int_equal(obj->chunks_here, 1);
	assert_true(object_has_chunk(obj, 2));
	assert_false(object_has_chunk(obj, 0));
	put(o, obj, &b, 0);
	put(o, obj, &b, 3);
	put(o, obj, &b, 3);
	assert_int_equal(obj->chunks_here, 3);
	put(o, obj, &b, 1);
	wait_complete(obj);
	assert_true(obj->complete);
	assert_int_equal(fstat(obj->fd, &st), 0);
	assert_int_equal(st.st_size, b.size);
	assert_int_equal(st.st_nlink, 2); /* and as one chunk */
	object_unref(o, obj);
	assert_false(is_partial(&e));
	check_bytes(&e, &b);
	objects_usage(o, &u);
	assert_int_equal(u.partial, 0);
	assert_int_equal(u.bytes, st.st_blocks * 512);
	close_store(o);
	return 0;
}

static void test_several_chunks(void **state)
{
	(void)state;
	with_disk(several_chunks);
}

static int damaged(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct object_entry e;
	struct object *obj;
	static struct blob b;

	(void)arg;
	blob_make(&b, 1, 2 * CHUNK);
	e = entry_for(&b, 0, CHUNK);
	e.digest.bytes[0] ^= 1; /* its chunks are right, its claim is not */
	assert_int_equal(objects_add(o, 1, &e, 1, NULL), 0);
	obj = get(o, &e);
	put(o, obj, &b, 0);
	put(o, obj, &b, 1);
	wait_complete(obj);
	assert_true(obj->damaged);
	assert_false(obj->complete);
	assert_int_equal(objects_put_chunk(o, obj, 0, NULL), -EIO);
	object_unref(o, obj);
	wait_gone("partial", &e);
	assert_false(is_complete(&e));
	close_store(o);
	return 0;
}

static void test_damaged(void **state)
{
	(void)state;
	with_disk(damaged);
}

static int sharing(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct object_entry one, two, three;
	struct objects_usage u;
	struct object *obj;
	struct stat a, b;
	static struct blob blob;
	uint8_t states[2];

	(void)arg;
	blob_make(&blob, 1, 3 * CHUNK);
	one = entry_for(&blob, 0, 3 * CHUNK);
	two = entry_for(&blob, 0, 2 * CHUNK);
	three = entry_for(&blob, 0, CHUNK);
	assert_int_equal(objects_add(o, 1, &one, 1, NULL), 0);
	assert_int_equal(objects_add(o, 2, &two, 1, NULL), 0);
	assert_int_equal(objects_add(o, 3, &three, 1, NULL), 0);
	obj = get(o, &two); /* partial, unused and in use, when another chunking completes */
	fill(o, &three, &blob);
	assert_false(obj->complete);
	states[0] = 9;
	assert_int_equal(objects_state(o, &two, 1, states, NULL), 0);
	assert_int_equal(states[0], OBJECT_COMPLETE);
	wait_complete(obj);
	object_unref(o, obj);
	obj = get(o, &one);
	assert_true(obj->complete); /* at once */
	object_unref(o, obj);
	assert_true(stat_of("objects", &one, &a) && stat_of("objects", &two, &b));
	assert_int_equal(a.st_ino, b.st_ino);
	assert_int_equal(a.st_nlink, 3);
	objects_usage(o, &u);
	assert_int_equal(u.bytes, a.st_blocks * 512);
	assert_int_equal(u.complete, 3);

	assert_int_equal(objects_remove(o, 1, &one.key, 1, NULL), 0);
	assert_int_equal(objects_remove(o, 3, &three.key, 1, NULL), 0);
	wait_gone("objects", &three);
	assert_true(is_complete(&one)); /* for the next one to come */
	assert_int_equal(objects_remove(o, 2, &two.key, 1, NULL), 0);
	wait_gone("objects", &two);
	wait_gone("objects", &one);
	objects_usage(o, &u);
	assert_int_equal(u.bytes, 0);
	assert_int_equal(u.complete, 0);
	close_store(o);
	return 0;
}

static void test_sharing(void **state)
{
	(void)state;
	with_disk(sharing);
}

/* The second chunking has all chunks too before it looks. */
static int sharing_at_completion(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct object_entry two, three;
	struct object *a, *b;
	struct stat sa, sb;
	static struct blob blob;

	(void)arg;
	blob_make(&blob, 1, 3 * CHUNK);
	two = entry_for(&blob, 0, 2 * CHUNK);
	three = entry_for(&blob, 0, CHUNK);
	assert_int_equal(objects_add(o, 2, &two, 1, NULL), 0);
	assert_int_equal(objects_add(o, 3, &three, 1, NULL), 0);
	a = get(o, &two);
	b = get(o, &three);
	assert_int_equal(pwrite(a->fd, blob.data, blob.size, 0), blob.size);
	assert_int_equal(objects_put_chunk(o, a, 0, NULL), 0);
	for (uint32_t i = 0; i < 3; i++)
		put(o, b, &blob, i);
	wait_complete(b);
	assert_int_equal(objects_put_chunk(o, a, 1, NULL), 0);
	wait_complete(a);
	assert_true(a->complete && b->complete);
	assert_int_equal(fstat(a->fd, &sa), 0);
	assert_int_equal(fstat(b->fd, &sb), 0);
	assert_int_equal(sa.st_ino, sb.st_ino);
	assert_false(is_partial(&two));
	object_unref(o, a);
	object_unref(o, b);
	close_store(o);
	return 0;
}

static void test_sharing_at_completion(void **state)
{
	(void)state;
	with_disk(sharing_at_completion);
}

struct whole {
	struct objects *o;
	struct object_entry e;
	struct blob b;
};

static int whole_job(void *arg)
{
	struct whole *w = arg;

	return objects_write_whole(w->o, &w->e.key, w->b.data, w->b.size, NULL);
}

static int whole(void *arg)
{
	static struct whole w;
	struct objects_usage u;
	struct object *obj;

	(void)arg;
	w.o = open_store(1, 0);
	blob_make(&w.b, 1, 5000);
	w.e = entry_for(&w.b, 0, CHUNK);
	assert_int_equal(objects_add(w.o, 1, &w.e, 1, NULL), 0);
	obj = get(w.o, &w.e); /* somebody waits for it */
	assert_int_equal(work_run(threads, whole_job, &w), 0);
	assert_int_equal(work_run(threads, whole_job, &w), 0);
	objects_wrote(w.o, &w.e.key);
	assert_false(obj->complete);
	wait_complete(obj);
	assert_true(obj->complete && object_has_chunk(obj, 0));
	object_unref(w.o, obj);
	check_bytes(&w.e, &w.b);
	objects_usage(w.o, &u);
	assert_int_equal(u.complete, 1);
	wait_mode(&w.e, 0444);
	close_store(w.o);
	return 0;
}

static void test_whole(void **state)
{
	(void)state;
	with_disk(whole);
}

static int removal(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct object_entry e[2];
	struct object *obj, *again;
	struct digest keys[2];
	static struct blob b[2];

	(void)arg;
	for (unsigned i = 0; i < 2; i++) {
		blob_make(&b[i], i, 2 * CHUNK);
		e[i] = entry_for(&b[i], i, CHUNK);
		keys[i] = e[i].key;
	}
	assert_int_equal(objects_add(o, 1, e, 2, NULL), 0);
	assert_int_equal(objects_add(o, 2, &e[0], 1, NULL), 0);
	fill(o, &e[0], &b[0]);
	obj = get(o, &e[1]);
	put(o, obj, &b[1], 0);
	assert_int_equal(objects_remove(o, 1, keys, 2, NULL), 0);
	assert_true(number_of(o, &e[0]) > 0); /* layer 2 has it */
	assert_int_equal(number_of(o, &e[1]), 0);
	assert_null(objects_peek(o, obj->number));
	assert_int_equal(obj->sources_n, 0);
	wait_gone("partial", &e[1]);
	assert_int_equal(objects_add(o, 3, &e[1], 1, NULL), 0); /* it comes again meanwhile */
	again = get(o, &e[1]);
	assert_ptr_not_equal(again, obj);
	put(o, again, &b[1], 1);
	put(o, obj, &b[1], 1); /* who still had it */
	object_unref(o, obj);
	assert_int_equal(again->chunks_here, 1);
	put(o, again, &b[1], 0);
	wait_complete(again);
	assert_true(again->complete);
	object_unref(o, again);
	check_bytes(&e[1], &b[1]);
	assert_int_equal(objects_remove(o, 2, keys, 1, NULL), 0);
	assert_int_equal(objects_remove(o, 2, keys, 1, NULL), 0); /* again is no error */
	wait_gone("objects", &e[0]);
	close_store(o);
	return 0;
}

static void test_removal(void **state)
{
	(void)state;
	with_disk(removal);
}

struct getter {
	struct objects *o;
	uint64_t number;
	struct object *obj;
	int r;
};

static int getter(void *arg)
{
	struct getter *g = arg;

	g->r = objects_get(g->o, g->number, &g->obj, NULL);
	return 0;
}

/* Many ask at once; many are open. */
static int many(void *arg)
{
	enum { N = OBJECTS_IDLE_MAX + 100 };
	struct objects *o = open_store(1, 0);
	struct object_entry *e = calloc(N, sizeof(*e));
	struct getter g[8];
	struct scope scope;
	static struct blob b;

	(void)arg;
	for (unsigned i = 0; i < N; i++) {
		blob_make(&b, i, 100 + i);
		e[i] = entry_for(&b, i, CHUNK);
	}
	assert_int_equal(objects_add(o, 1, e, N, NULL), 0);
	scope_init(&scope, loop_self());
	for (unsigned i = 0; i < 8; i++) {
		g[i] = (struct getter){o, i < 7 ? number_of(o, &e[0]) : 77, NULL, 1};
		assert_int_equal(scope_spawn(&scope, getter, &g[i], NULL), 0);
	}
	scope_wait(&scope);
	assert_int_equal(g[7].r, -ENOENT);
	for (unsigned i = 0; i < 7; i++) {
		assert_int_equal(g[i].r, 0);
		assert_ptr_equal(g[i].obj, g[0].obj);
	}
	for (unsigned i = 0; i < 7; i++)
		object_unref(o, g[i].obj);
	for (unsigned i = 0; i < N; i++)
		object_unref(o, get(o, &e[i]));
	assert_int_equal(o->idle_n, OBJECTS_IDLE_MAX);
	assert_int_equal(o->entries_n, OBJECTS_IDLE_MAX);
	free(e);
	scope_fini(&scope);
	close_store(o);
	return 0;
}

static void test_many(void **state)
{
	(void)state;
	with_disk(many);
}

static int batches(void *arg)
{
	enum { N = OBJECTS_BATCH_ENTRIES + 10 };
	struct objects *o = open_store(1, 0);
	struct object_entry *e = calloc(N, sizeof(*e));
	struct digest *keys = calloc(N, sizeof(*keys));

	(void)arg;
	for (unsigned i = 0; i < N; i++) {
		e[i] = (struct object_entry){.size = i + 1, .chunks_n = 1, .index = i};
		sha256(&i, sizeof(i), &e[i].key);
		keys[i] = e[i].key;
	}
	assert_int_equal(objects_add(o, 1, e, N, NULL), 0);
	assert_true(number_of(o, &e[N - 1]) > 0);
	assert_int_equal(objects_remove(o, 1, keys, N, NULL), 0);
	assert_int_equal(number_of(o, &e[0]), 0);
	assert_int_equal(number_of(o, &e[N - 1]), 0);
	free(e);
	free(keys);
	close_store(o);
	return 0;
}

static void test_batches(void **state)
{
	(void)state;
	with_disk(batches);
}

static int failing(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct object_entry e[2];
	struct err err = ERR_INIT;
	static struct blob b;
	uint64_t first;

	(void)arg;
	for (unsigned i = 0; i < 2; i++) {
		blob_make(&b, i, 1000);
		e[i] = entry_for(&b, i, CHUNK);
	}
	assert_int_equal(objects_add(o, 1, &e[0], 1, NULL), 0);
	first = number_of(o, &e[0]);
	kv_mem_fail(disk, 0, -ENOSPC, true); /* said to have failed, but done */
	assert_int_equal(objects_add(o, 1, &e[1], 1, &err), -ENOSPC);
	assert_true(err.text[0]);
	assert_int_equal(objects_remove(o, 1, &e[0].key, 1, NULL), -EIO);
	assert_int_equal(number_of(o, &e[0]), first);
	close_store(o);
	kv_mem_fail(disk, 0, 0, false);
	o = open_store(1, 0);
	assert_int_equal(objects_add(o, 1, e, 2, NULL), 0);
	assert_int_equal(number_of(o, &e[0]), first);
	assert_int_equal(number_of(o, &e[1]), object_number(&e[1].key));
	close_store(o);
	return 0;
}

static void test_failing(void **state)
{
	(void)state;
	with_disk(failing);
}

static void test_records(void **state)
{
	struct object_record rec = {.number = 2000, .size = 7, .chunks_n = 3}, out;
	char bytes[OBJECT_RECORD_HEAD + OBJECT_SOURCE_SIZE];
	struct err err = ERR_INIT;

	(void)state;
	object_record_encode(&rec, bytes);
	object_source_encode((struct object_source){5, 6}, bytes + OBJECT_RECORD_HEAD);
	assert_int_equal(object_record_decode((struct str){bytes, sizeof(bytes)}, &out, &err), 0);
	assert_int_equal(out.number, 2000);
	assert_int_equal(out.sources_n, 1);
	assert_int_equal(object_record_source(&out, 0).index, 6);
	for (size_t n = 0; n < sizeof(bytes); n++) {
		if (n != OBJECT_RECORD_HEAD)
			assert_int_equal(object_record_decode((struct str){bytes, n}, &out, &err),
					 -EBADMSG);
	}
	bytes[0] = 2;
	assert_int_equal(object_record_decode((struct str){bytes, sizeof(bytes)}, &out, &err),
			 -ENOTSUP);
}

/* Changes one byte of the file, whatever its mode. */
static void spoil(const struct object_entry *e)
{
	char path[OBJECT_PATH_SIZE], full[128], c;
	int fd;

	object_path(&e->key, path);
	snprintf(full, sizeof(full), "objects/%s", path);
	fd = openat(root_fd, full, O_RDWR);
	assert_true(fd >= 0);
	assert_int_equal(pread(fd, &c, 1, 10), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, 10), 1);
	close(fd);
}

static unsigned check_state(struct objects *o, const struct object_entry *e)
{
	struct object_checked c = {.key = e->key};

	assert_int_equal(objects_check(o, &c, 1, NULL), 0);
	return c.state;
}

static int checking(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct object_entry e[2];
	auto_buf struct buf keys = BUF_INIT;
	struct object *obj;
	static struct blob one, several;

	(void)arg;
	blob_make(&one, 1, 1000);
	blob_make(&several, 2, 2 * CHUNK + 5);
	e[0] = entry_for(&one, 0, CHUNK);
	e[1] = entry_for(&several, 1, CHUNK);
	assert_int_equal(objects_add(o, 1, e, 2, NULL), 0);
	assert_int_equal(check_state(o, &e[0]), OBJECT_CHECK_GONE);
	fill(o, &e[0], &one);
	fill(o, &e[1], &several);
	for (unsigned i = 0; i < 256; i++)
		assert_int_equal(objects_list(o, i, &keys, NULL), 0);
	assert_int_equal(keys.len, 3 * sizeof(struct digest)); /* one has two names */
	assert_int_equal(check_state(o, &e[0]), OBJECT_CHECK_GOOD);
	assert_int_equal(check_state(o, &e[1]), OBJECT_CHECK_GOOD);
	spoil(&e[0]);
	spoil(&e[1]);
	assert_int_equal(check_state(o, &e[0]), OBJECT_CHECK_BAD);
	assert_int_equal(check_state(o, &e[1]), OBJECT_CHECK_BAD);
	obj = get(o, &e[0]); /* in use: it goes all the same */
	for (size_t i = 0; i < keys.len / sizeof(struct digest); i++)
		assert_int_equal(objects_discard(o, &((struct digest *)(void *)keys.data)[i], NULL),
				 0);
	assert_true(obj->gone);
	object_unref(o, obj);
	assert_int_equal(check_state(o, &e[0]), OBJECT_CHECK_GONE);
	fill(o, &e[0], &one); /* and comes again */
	fill(o, &e[1], &several);
	check_bytes(&e[0], &one);
	check_bytes(&e[1], &several);
	assert_int_equal(check_state(o, &e[0]), OBJECT_CHECK_GOOD);
	assert_int_equal(check_state(o, &e[1]), OBJECT_CHECK_GOOD);
	close_store(o);
	return 0;
}

static void test_checking(void **state)
{
	(void)state;
	with_disk(checking);
}

static void test_presence(void **state)
{
	char head[PRESENCE_HEAD], bits[2] = {0x41, 3};
	struct str h = {head, sizeof(head)}, b = {bits, 2};
	uint32_t here = 0;

	(void)state;
	presence_encode(9, 1000, 10, head);
	assert_int_equal(presence_check(h, b, 9, 1000, 10, &here), 0);
	assert_int_equal(here, 4);
	assert_int_equal(presence_check(h, b, 8, 1000, 10, &here), -ESTALE);
	assert_int_equal(presence_check(h, b, 9, 1001, 10, &here), -EBADMSG);
	assert_int_equal(presence_check(h, b, 9, 1000, 11, &here), -EBADMSG);
	bits[1] = 7; /* chunk 10 of 10 */
	assert_int_equal(presence_check(h, b, 9, 1000, 10, &here), -EBADMSG);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_twins),
		cmocka_unit_test(test_one_chunk),
		cmocka_unit_test(test_several_chunks),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_sharing),
		cmocka_unit_test(test_sharing_at_completion),
		cmocka_unit_test(test_whole),
		cmocka_unit_test(test_removal),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_batches),
		cmocka_unit_test(test_failing),
		cmocka_unit_test(test_records),
		cmocka_unit_test(test_presence),
		cmocka_unit_test(test_checking),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
