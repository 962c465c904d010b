// SPDX-License-Identifier: Apache-2.0
/* Profiles in the database: merged, found, bounded, and what failing writes leave. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <rocksdb/c.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "fs/tree.h"
#include "loop/loop.h"
#include "loop/scope.h"
#include "predict/profiles.h"

#define REDIS STR("docker.io/library/redis")

static struct kv *disk; /* outlives the daemon */
static struct kv_type lasting;
static struct meta *meta;
static struct profiles *profiles;
static struct arena arena;

static void keep_open(struct kv *kv)
{
	(void)kv;
}

static void open_profiles(void)
{
	struct err err = ERR_INIT;

	if (meta_new(loop_self(), disk, open("/tmp", O_RDONLY | O_DIRECTORY), &meta, &err) < 0 ||
	    profiles_new(meta, &profiles, &err) < 0)
		fail_msg("%s", err.text);
}

static void close_profiles(void)
{
	profiles_free(profiles);
	meta_free(meta);
}

static void reopen(void)
{
	close_profiles();
	open_profiles();
}

static int with_profiles(void *arg)
{
	void (*fn)(void) = *(void (**)(void))arg;

	open_profiles();
	fn();
	close_profiles();
	return 0;
}

static void on_loop(void (*fn)(void))
{
	const struct kv_type *real;
	struct loop *loop;

	arena_init(&arena, MiB(512));
	assert_int_equal(kv_mem_open(&disk), 0);
	real = disk->type;
	lasting = *real;
	lasting.close = keep_open;
	disk->type = &lasting;
	assert_int_equal(loop_new(&loop, NULL), 0);
	assert_int_equal(loop_run(loop, with_profiles, &fn), 0);
	loop_free(loop);
	disk->type = real;
	kv_close(disk);
	arena_fini(&arena);
}

/* A start that reads n files of path's name. */
static struct profile start_of(struct str repository, const char *executable, const char *path,
			       size_t n)
{
	struct profile_event *events = calloc(n + 1, sizeof(*events));
	struct profile_start s = {.repository = repository,
				  .executable = str_of(executable),
				  .when_ns = 5,
				  .span_us = 1000,
				  .whole = true,
				  .events = events,
				  .events_n = n};
	struct profile p;

	assert_non_null(events);
	for (size_t i = 0; i < n; i++) {
		char *name = arena_printf(&arena, "%s%zu", path, i);

		events[i] = (struct profile_event){str_of(name), 0, 1, i};
	}
	assert_int_equal(profile_build(&s, &arena, &p, NULL), 0);
	free(events);
	return p;
}

static int put(struct str repository, const char *executable, const char *path, size_t n)
{
	struct profile p = start_of(repository, executable, path, n);

	return profiles_put(profiles, &p, NULL);
}

static int get(struct str repository, const char *executable, struct profile *ret)
{
	return profiles_get(profiles, repository, str_of(executable), &arena, ret, NULL);
}

/* --- what is there ---------------------------------------------------------------------------- */

static int count(void *arg, const struct profile_info *info)
{
	assert_true(info->starts > 0 && info->bytes > 0);
	++*(size_t *)arg;
	return 0;
}

static void put_and_get(void)
{
	struct profile p;
	size_t n = 0;

	assert_int_equal(get(REDIS, "/bin/redis", &p), -ENOENT);
	assert_int_equal(put(REDIS, "/bin/redis", "/a", 3), 0);
	assert_int_equal(put(REDIS, "/bin/sh", "/b", 1), 0);
	assert_int_equal(put(STR("other"), "/bin/sh", "/c", 1), 0);
	assert_int_equal(put(REDIS, "/bin/redis", "/a", 4), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_int_equal(get(REDIS, "/bin/redis", &p), 0);
		assert_int_equal(profile_check(&p, NULL), 0);
		assert_int_equal(p.starts, 2);
		assert_int_equal(p.uses_n, 4);
		assert_int_equal(p.uses[0].weight, PROFILE_WEIGHT_ONE);
		assert_int_equal(p.uses[3].weight, PROFILE_WEIGHT_ONE / 2);
		assert_int_equal(get(REDIS, "/bin", &p), -ENOENT);
		reopen();
	}
	assert_int_equal(profiles_each(profiles, count, &n), 0);
	assert_int_equal(n, 3);
}

static void test_put_and_get(void **state)
{
	(void)state;
	on_loop(put_and_get);
}

static void empty_start(void)
{
	struct profiles_stats s;
	struct profile bad;

	assert_int_equal(put(REDIS, "/bin/redis", "/a", 0), 0);
	profiles_stats(profiles, &s);
	assert_int_equal(s.n, 0);
	bad = start_of(REDIS, "/bin/redis", "/a", 1);
	bad.repository = STR("bad:tag");
	assert_int_equal(profiles_put(profiles, &bad, NULL), -EINVAL);
}

static void test_empty_start(void **state)
{
	(void)state;
	on_loop(empty_start);
}

static void of_repository(void)
{
	struct profile found[3];

	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(put(REDIS, "/bin/often", "/a", 1), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(put(REDIS, "/bin/some", "/a", 1), 0);
	assert_int_equal(put(REDIS, "/bin/once", "/a", 1), 0);
	assert_int_equal(put(REDIS, "/bin/last", "/a", 1), 0);
	assert_int_equal(put(STR("docker.io/library/redi"), "/bin/x", "/a", 1), 0);
	assert_int_equal(profiles_of(profiles, REDIS, &arena, found, 3, NULL), 3);
	assert_true(str_eq(found[0].executable, STR("/bin/often")));
	assert_true(str_eq(found[1].executable, STR("/bin/some")));
	assert_true(str_eq(found[2].executable, STR("/bin/last")));
	assert_int_equal(profiles_of(profiles, REDIS, &arena, found, 1, NULL), 1);
	assert_true(str_eq(found[0].executable, STR("/bin/often")));
	assert_int_equal(profiles_of(profiles, STR("none"), &arena, found, 3, NULL), 0);
}

static void test_of_repository(void **state)
{
	(void)state;
	on_loop(of_repository);
}

static void removed(void)
{
	struct str sh = STR("/bin/sh"), none = STR("/bin/none");
	struct profiles_stats s;
	struct profile p;

	assert_int_equal(put(REDIS, "/bin/redis", "/a", 3), 0);
	assert_int_equal(put(REDIS, "/bin/sh", "/b", 1), 0);
	assert_int_equal(put(REDIS, "", "/b", 1), 0);
	assert_int_equal(put(STR("other"), "/bin/sh", "/c", 1), 0);
	assert_int_equal(profiles_remove(profiles, REDIS, &none, NULL), 0);
	assert_int_equal(profiles_remove(profiles, REDIS, &sh, NULL), 1);
	assert_int_equal(get(REDIS, "/bin/sh", &p), -ENOENT);
	assert_int_equal(profiles_remove(profiles, REDIS, NULL, NULL), 2);
	reopen();
	profiles_stats(profiles, &s);
	assert_int_equal(s.n, 1);
	assert_int_equal(profiles_remove(profiles, STR("other"), NULL, NULL), 1);
	profiles_stats(profiles, &s);
	assert_int_equal(s.n, 0);
	assert_int_equal(s.bytes, 0);
}

static void test_removed(void **state)
{
	(void)state;
	on_loop(removed);
}

static void imported(void)
{
	struct profile p = start_of(REDIS, "/bin/redis", "/a", 5), q;
	auto_buf struct buf b = BUF_INIT;
	struct err err = ERR_INIT;

	p.starts = 40;
	p.whole = 39;
	assert_int_equal(profile_json(&p, &b, NULL), 0);
	assert_int_equal(put(REDIS, "/bin/redis", "/old", 5), 0);
	assert_int_equal(
		profiles_import(profiles, (struct str){(char *)b.data, b.len}, &arena, &q, NULL),
		0);
	assert_int_equal(q.starts, 40);
	assert_int_equal(get(REDIS, "/bin/redis", &p), 0);
	assert_int_equal(p.starts, 40);
	assert_int_equal(p.uses_n, 5);
	assert_int_equal(profiles_import(profiles, STR("{\"version\": 1}"), &arena, &q, &err),
			 -EINVAL);
	assert_true(err.text[0]);
	assert_int_equal(get(REDIS, "/bin/redis", &p), 0);
}

static void test_imported(void **state)
{
	(void)state;
	on_loop(imported);
}

/* --- two at once ------------------------------------------------------------------------------ */

static int put_task(void *arg)
{
	assert_int_equal(put(REDIS, "/bin/redis", arg, 1), 0);
	return 0;
}

/* Starts at the same time: none is lost. */
static void at_once(void)
{
	char paths[8][8];
	struct scope scope;
	struct profile p;

	scope_init(&scope, loop_self());
	for (unsigned i = 0; i < 8; i++) {
		snprintf(paths[i], sizeof(paths[i]), "/x%u", i);
		assert_int_equal(scope_spawn(&scope, put_task, paths[i], NULL), 0);
	}
	scope_wait(&scope);
	scope_fini(&scope);
	assert_int_equal(get(REDIS, "/bin/redis", &p), 0);
	assert_int_equal(p.starts, 8);
	assert_int_equal(p.paths_n, 3); /* 1/4, and 3/4 and 9/16 of it: what is less has gone */
}

static void test_at_once(void **state)
{
	(void)state;
	on_loop(at_once);
}

/* --- bounds ----------------------------------------------------------------------------------- */

static void bounded(void)
{
	struct profiles_stats s;
	struct profile p;
	char name[32];

	for (unsigned i = 0; i < PROFILES_MAX; i++) {
		snprintf(name, sizeof(name), "/bin/%u", i);
		assert_int_equal(put(REDIS, name, "/a", 1), 0);
	}
	profiles_stats(profiles, &s);
	assert_int_equal(s.n, PROFILES_MAX);
	assert_int_equal(s.evicted, 0);
	assert_int_equal(get(REDIS, "/bin/0", &p), 0); /* is used: stays */
	assert_int_equal(put(REDIS, "/bin/1", "/a", 1), 0);
	assert_int_equal(put(REDIS, "/bin/new", "/a", 1), 0);
	assert_int_equal(put(REDIS, "/bin/newer", "/a", 1), 0);
	assert_int_equal(get(REDIS, "/bin/0", &p), 0);
	assert_int_equal(get(REDIS, "/bin/1", &p), 0);
	assert_int_equal(get(REDIS, "/bin/2", &p), -ENOENT);
	assert_int_equal(get(REDIS, "/bin/3", &p), -ENOENT);
	assert_int_equal(get(REDIS, "/bin/4", &p), 0);
	profiles_stats(profiles, &s);
	assert_int_equal(s.n, PROFILES_MAX);
	assert_int_equal(s.evicted, 2);
	reopen();
	profiles_stats(profiles, &s);
	assert_int_equal(s.n, PROFILES_MAX);
}

static void test_bounded(void **state)
{
	(void)state;
	on_loop(bounded);
}

static void bounded_bytes(void)
{
	char *path = arena_printf(&arena, "/%0*d", 4000, 0), name[32];
	struct profiles_stats s;
	struct profile p;

	for (unsigned i = 0; i < 150; i++) {
		snprintf(name, sizeof(name), "/bin/%u", i);
		assert_int_equal(put(REDIS, name, path, 130), 0);
	}
	profiles_stats(profiles, &s);
	assert_true(s.n < 140 && s.bytes <= PROFILES_BYTES_MAX);
	assert_int_equal(s.n + s.evicted, 150);
	assert_int_equal(get(REDIS, "/bin/0", &p), -ENOENT);
	assert_int_equal(get(REDIS, "/bin/149", &p), 0);
}

static void test_bounded_bytes(void **state)
{
	(void)state;
	on_loop(bounded_bytes);
}

/* The one that was longest not used is the one that grows: others go. */
static void bounded_growing(void)
{
	char *path = arena_printf(&arena, "/%0*d", 4000, 0), name[32];
	struct profiles_stats s;
	struct profile p;

	assert_int_equal(put(REDIS, "/bin/first", "/a", 1), 0);
	for (unsigned i = 0;; i++) {
		snprintf(name, sizeof(name), "/bin/%u", i);
		assert_int_equal(put(REDIS, name, path, 120), 0);
		profiles_stats(profiles, &s);
		if (s.bytes + KiB(470) > PROFILES_BYTES_MAX)
			break;
	}
	assert_int_equal(s.evicted, 0);
	assert_int_equal(put(REDIS, "/bin/first", path, 120), 0);
	profiles_stats(profiles, &s);
	assert_int_equal(s.evicted, 1);
	assert_true(s.bytes <= PROFILES_BYTES_MAX);
	assert_int_equal(get(REDIS, "/bin/first", &p), 0);
	assert_int_equal(p.starts, 2);
	assert_int_equal(get(REDIS, "/bin/0", &p), -ENOENT);
}

static void test_bounded_growing(void **state)
{
	(void)state;
	on_loop(bounded_growing);
}

/* --- what goes wrong -------------------------------------------------------------------------- */

static void commit_fails(void)
{
	struct profiles_stats s;
	struct profile p;

	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	kv_mem_fail(disk, 0, -ENOSPC, false);
	assert_int_equal(put(REDIS, "/bin/redis", "/b", 2), -ENOSPC);
	assert_int_equal(put(REDIS, "/bin/redis", "/b", 2), -EIO);
	assert_int_equal(put(REDIS, "/bin/sh", "/b", 2), -EIO);
	assert_int_equal(profiles_remove(profiles, REDIS, NULL, NULL), -EIO);
	assert_int_equal(get(REDIS, "/bin/redis", &p), 0);
	assert_int_equal(p.starts, 1);
	assert_int_equal(get(REDIS, "/bin/sh", &p), -ENOENT);
	kv_mem_fail(disk, 0, 0, false);
	reopen();
	profiles_stats(profiles, &s);
	assert_int_equal(s.n, 1);
	assert_int_equal(put(REDIS, "/bin/redis", "/b", 2), 0);
	assert_int_equal(get(REDIS, "/bin/redis", &p), 0);
	assert_int_equal(p.starts, 2);
}

static void test_commit_fails(void **state)
{
	(void)state;
	on_loop(commit_fails);
}

/* The write got through and nobody knows: the start counts from the next opening on. */
static void commit_fails_applied(void)
{
	struct profile p;

	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	kv_mem_fail(disk, 0, -EIO, true);
	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), -EIO);
	kv_mem_fail(disk, 0, 0, false);
	reopen();
	assert_int_equal(get(REDIS, "/bin/redis", &p), 0);
	assert_int_equal(p.starts, 2);
}

static void test_commit_fails_applied(void **state)
{
	(void)state;
	on_loop(commit_fails_applied);
}

/* Records of somebody else are dropped at the start, and what becomes one later is begun anew. */
static void damaged(void)
{
	const struct kv_change changes[] = {
		{KV_PROFILES, STR("no key"), STR("no value"), false},
		{KV_PROFILES, {"a\0/b", 4}, STR("\x01"), false},
		{KV_PROFILES, {"a\0/c", 4}, STR("\xff newer"), false},
	};
	const struct kv_change late = {
		KV_PROFILES, {"docker.io/library/redis\0/bin/redis", 34}, STR("\x01"), false};
	struct profiles_stats s;
	struct kv_iter *it;
	struct str key, value;
	struct profile p;

	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	assert_int_equal(kv_commit(disk, changes, array_size(changes), NULL), 0);
	reopen();
	profiles_stats(profiles, &s);
	assert_int_equal(s.n, 1);
	assert_int_equal(kv_iter_new(disk, KV_PROFILES, &it, NULL), 0);
	assert_int_equal(kv_iter_next(it, &key, &value, NULL), 1);
	assert_int_equal(kv_iter_next(it, &key, &value, NULL), 0);
	kv_iter_free(it);
	assert_int_equal(kv_commit(disk, &late, 1, NULL), 0);
	assert_int_equal(get(REDIS, "/bin/redis", &p), -EBADMSG);
	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	assert_int_equal(get(REDIS, "/bin/redis", &p), 0);
	assert_int_equal(p.starts, 1);
}

static void test_damaged(void **state)
{
	(void)state;
	on_loop(damaged);
}

/* --- RocksDB ---------------------------------------------------------------------------------- */

/* A database of a version that had no profiles. */
static void make_older(const char *dir)
{
	static const char *const names[] = {"default", "snapshots", "layers", "objects", "numbers"};
	rocksdb_column_family_handle_t *cf[array_size(names)];
	const rocksdb_options_t *options[array_size(names)];
	rocksdb_options_t *o = rocksdb_options_create();
	char *text = NULL;
	rocksdb_t *db;

	rocksdb_options_set_create_if_missing(o, 1);
	rocksdb_options_set_create_missing_column_families(o, 1);
	for (size_t i = 0; i < array_size(names); i++)
		options[i] = o;
	db = rocksdb_open_column_families(o, dir, array_size(names), names, options, cf, &text);
	if (text)
		fail_msg("%s", text);
	for (size_t i = 0; i < array_size(names); i++)
		rocksdb_column_family_handle_destroy(cf[i]);
	rocksdb_close(db);
	rocksdb_options_destroy(o);
}

static void test_older_database(void **state)
{
	const struct kv_change change = {KV_PROFILES, STR("k"), STR("v"), false};
	char dir[] = "/tmp/firstlight-profiles-XXXXXX";
	auto_buf struct buf value = BUF_INIT;
	struct err err = ERR_INIT;
	struct kv *kv;

	(void)state;
	assert_non_null(mkdtemp(dir));
	make_older(dir);
	if (kv_rocks_open(dir, &kv, &err) < 0)
		fail_msg("%s", err.text);
	assert_int_equal(kv_get(kv, KV_PROFILES, STR("k"), &value, NULL), -ENOENT);
	assert_int_equal(kv_commit(kv, &change, 1, NULL), 0);
	kv_close(kv);
	assert_int_equal(kv_rocks_open(dir, &kv, NULL), 0);
	assert_int_equal(kv_get(kv, KV_PROFILES, STR("k"), &value, NULL), 0);
	assert_int_equal(value.len, 1);
	kv_close(kv);
	assert_int_equal(tree_remove(AT_FDCWD, dir, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_put_and_get),
		cmocka_unit_test(test_empty_start),
		cmocka_unit_test(test_of_repository),
		cmocka_unit_test(test_removed),
		cmocka_unit_test(test_imported),
		cmocka_unit_test(test_at_once),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_bounded_bytes),
		cmocka_unit_test(test_bounded_growing),
		cmocka_unit_test(test_commit_fails),
		cmocka_unit_test(test_commit_fails_applied),
		cmocka_unit_test(test_damaged),
		cmocka_unit_test(test_older_database),
	};

	return cmocka_run_group_tests_name("profiles", tests, NULL, NULL);
}
