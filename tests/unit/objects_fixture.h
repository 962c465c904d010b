/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of the object store: a store over the database in memory, contents, and waits. */
#ifndef FIRSTLIGHT_TEST_OBJECTS_FIXTURE_H
#define FIRSTLIGHT_TEST_OBJECTS_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "fs/tree.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "store/objects_impl.h"

#define CHUNK 10000u

static __attribute__((unused)) char root[64];
static __attribute__((unused)) int root_fd;

/* A kv whose close leaves the contents: the disk that outlives a daemon. */
static __attribute__((unused)) struct kv *disk;
static __attribute__((unused)) struct kv_type lasting;
static __attribute__((unused)) void keep_open(struct kv *kv)
{
	(void)kv;
}

static __attribute__((unused)) struct meta *meta;
static __attribute__((unused)) struct work *threads;

static __attribute__((unused)) struct objects *open_store(uint64_t boot, uint64_t bytes_max)
{
	struct objects_options options = {root_fd, boot, bytes_max};
	struct err err = ERR_INIT;
	struct objects *o;

	if (meta_new(loop_self(), disk, dup(root_fd), &meta, &err) < 0 ||
	    work_new(loop_self(), "test", 2, &threads, &err) < 0 ||
	    objects_new(loop_self(), meta, threads, &options, &o, &err) < 0)
		fail_msg("%s", err.text);
	return o;
}

static __attribute__((unused)) void close_store(struct objects *o)
{
	objects_free(o);
	work_free(threads);
	meta_free(meta);
}

static __attribute__((unused)) void with_disk(int (*fn)(void *))
{
	struct loop *loop;

	snprintf(root, sizeof(root), "/tmp/firstlight-objects-XXXXXX");
	assert_non_null(mkdtemp(root));
	root_fd = open(root, O_RDONLY | O_DIRECTORY);
	assert_int_equal(kv_mem_open(&disk), 0);
	const struct kv_type *real = disk->type;

	lasting = *real;
	lasting.close = keep_open;
	assert_int_equal(loop_new(&loop, NULL), 0);
	loop_use_virtual_time(loop, 3000);
	disk->type = &lasting;
	assert_int_equal(loop_run(loop, fn, NULL), 0);
	loop_free(loop);
	disk->type = real;
	kv_close(disk);
	assert_int_equal(tree_remove(AT_FDCWD, root, NULL), 0);
	close(root_fd);
}

/* --- contents --------------------------------------------------------------------------------- */

struct blob {
	char data[4 * CHUNK];
	size_t size;
};

static __attribute__((unused)) void blob_make(struct blob *b, unsigned seed, size_t size)
{
	b->size = size;
	for (size_t i = 0; i < size; i++)
		b->data[i] = (char)(i * 31 + i / 251 + seed * 17);
}

static __attribute__((unused)) void hash_u64(struct sha256 *s, uint64_t v)
{
	v = htole64(v);
	sha256_add(s, &v, sizeof(v));
}

/* image/index.h says what keys are. */
static __attribute__((unused)) struct object_entry entry_for(const struct blob *b, uint32_t index,
							     size_t chunk)
{
	struct object_entry e = {.size = b->size, .index = index};
	struct sha256 s = {0};

	sha256(b->data, b->size, &e.digest);
	e.chunks_n = (uint32_t)((b->size + chunk - 1) / chunk);
	assert_int_equal(sha256_init(&s), 0);
	sha256_add(&s, e.digest.bytes, DIGEST_SIZE);
	hash_u64(&s, b->size);
	for (size_t off = 0; off < b->size && e.chunks_n > 1; off += chunk) {
		size_t n = b->size - off < chunk ? b->size - off : chunk;
		struct digest d;

		sha256(b->data + off, n, &d);
		sha256_add(&s, d.bytes, DIGEST_SIZE);
		hash_u64(&s, n);
	}
	sha256_done(&s, &e.key);
	sha256_fini(&s);
	return e;
}

static __attribute__((unused)) uint64_t number_of(struct objects *o, const struct object_entry *e)
{
	struct object_info info;
	int r = objects_find(o, &e->key, &info, NULL);

	return r < 0 ? 0 : info.number;
}

static __attribute__((unused)) struct object *get(struct objects *o, const struct object_entry *e)
{
	struct err err = ERR_INIT;
	struct object *obj;

	if (objects_get(o, number_of(o, e), &obj, &err) < 0)
		fail_msg("%s", err.text);
	return obj;
}

static __attribute__((unused)) void put(struct objects *o, struct object *obj, const struct blob *b,
					uint32_t chunk)
{
	size_t off = (size_t)chunk * CHUNK, n = b->size - off < CHUNK ? b->size - off : CHUNK;

	if (obj->chunks_n == 1) {
		off = 0;
		n = b->size;
	}
	assert_int_equal(pwrite(obj->fd, b->data + off, n, (off_t)off), n);
	assert_int_equal(objects_put_chunk(o, obj, chunk, NULL), 0);
	assert_true(object_has_chunk(obj, chunk));
}

static __attribute__((unused)) void wait_complete(struct object *obj)
{
	while (!obj->complete && !obj->damaged)
		assert_int_equal(waitq_wait(&obj->changed), 0);
}

static __attribute__((unused)) void fill(struct objects *o, const struct object_entry *e,
					 const struct blob *b)
{
	struct object *obj = get(o, e);

	for (uint32_t i = 0; i < obj->chunks_n; i++)
		put(o, obj, b, i);
	wait_complete(obj);
	assert_true(obj->complete);
	object_unref(o, obj);
}

static __attribute__((unused)) bool stat_of(const char *dir, const struct object_entry *e,
					    struct stat *st)
{
	char path[OBJECT_PATH_SIZE], full[128];

	object_path(&e->key, path);
	snprintf(full, sizeof(full), "%s/%s", dir, strcmp(dir, "objects") == 0 ? path : path + 3);
	return fstatat(root_fd, full, st, 0) == 0;
}

static __attribute__((unused)) bool is_complete(const struct object_entry *e)
{
	struct stat st;

	return stat_of("objects", e, &st);
}

static __attribute__((unused)) bool is_partial(const struct object_entry *e)
{
	struct stat st;

	return stat_of("partial", e, &st);
}

static __attribute__((unused)) void check_bytes(const struct object_entry *e, const struct blob *b)
{
	char path[OBJECT_PATH_SIZE + 8] = "objects/";
	static char is[sizeof(b->data)];
	int fd;

	object_path(&e->key, path + 8);
	fd = openat(root_fd, path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(read(fd, is, sizeof(is)), b->size);
	assert_memory_equal(is, b->data, b->size);
	close(fd);
}

/* Until the mode of the complete file is that. */
static __attribute__((unused)) void wait_mode(const struct object_entry *e, mode_t mode)
{
	struct stat st = {0};

	for (int i = 0; i < 1000; i++) {
		if (stat_of("objects", e, &st) && (st.st_mode & 07777) == mode)
			return;
		assert_int_equal(task_sleep_ms(100), 0);
	}
	fail_msg("mode is %o", st.st_mode);
}

static __attribute__((unused)) void wait_gone(const char *dir, const struct object_entry *e)
{
	struct stat st;

	for (int i = 0; stat_of(dir, e, &st); i++) {
		assert_true(i < 1000);
		assert_int_equal(task_sleep_ms(100), 0);
	}
}

static __attribute__((unused)) void wait_there(const struct object_entry *e)
{
	for (int i = 0; !is_complete(e); i++) {
		assert_true(i < 1000);
		assert_int_equal(task_sleep_ms(100), 0);
	}
}

#endif
