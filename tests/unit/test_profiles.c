// SPDX-License-Identifier: Apache-2.0
/* Profiles in the database, and the extents that go with them: merged, found, bounded, and what
 * failing writes leave. */
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
	void (*fn)(void) = (void (*)(void))arg;

	open_profiles();
	fn();
	close_profiles();
	return 0;
}

/* A test is a function that runs on a loop, with an empty database: *state. */
static void on_loop(void **state)
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
	assert_int_equal(loop_run(loop, with_profiles, *state), 0);
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

/* So many extents of one blob, all of it of that number. */
static struct extents extents_of(uint8_t number, size_t n)
{
	struct digest *d = arena_alloc(&arena, 2 * sizeof(*d));
	struct extent *list = arena_alloc(&arena, (n + 1) * sizeof(*list));

	assert_true(d && list);
	memset(d, number, 2 * sizeof(*d));
	for (size_t i = 0; i < n; i++)
		list[i] = (struct extent){0, 0, 1000 * i, number};
	return (struct extents){d, d + 1, list, 1, n > 0, n};
}

static int put_extents(struct str repository, const char *executable, uint8_t number, size_t n)
{
	struct extents e = extents_of(number, n);

	return profiles_put_extents(profiles, repository, str_of(executable), &e, NULL);
}

/* The number of each that is known of the repository, "1, 2": what there is of it is right. */
static const char *numbers(struct str repository, size_t max)
{
	struct extents found[8];
	int n = profiles_extents(profiles, repository, &arena, found, max);
	char *text = arena_alloc(&arena, 64);
	size_t at = 0;

	assert_non_null(text);
	assert_in_range(n, 0, max);
	text[0] = 0;
	for (int i = 0; i < n; i++) {
		uint8_t number = found[i].blobs[0].bytes[0];
		struct extents e = extents_of(number, found[i].n);
		auto_buf struct buf a = BUF_INIT, b = BUF_INIT;

		assert_int_equal(extents_encode(&e, &a), 0);
		assert_int_equal(extents_encode(&found[i], &b), 0);
		assert_int_equal(a.len, b.len);
		assert_memory_equal(a.data, b.data, a.len);
		at += (size_t)snprintf(text + at, 64 - at, "%s%u", i ? ", " : "", number);
	}
	return text;
}

/* A NUL, then the key of the profile. */
static struct str extents_key(struct str repository, const char *executable)
{
	char *key =
		arena_printf(&arena, "%c" STR_FMT "%c%s", 0, STR_ARG(repository), 0, executable);

	assert_non_null(key);
	return (struct str){key, 1 + repository.len + 1 + strlen(executable)};
}

/* Bytes of key and value of a program's extents in the database; 0: there is no record. */
static size_t record(struct str repository, const char *executable)
{
	struct str key = extents_key(repository, executable);
	auto_buf struct buf value = BUF_INIT;
	int r = kv_get(disk, KV_PROFILES, key, &value, NULL);

	assert_true(r == 0 || r == -ENOENT);
	return r == 0 ? key.len + value.len : 0;
}

static size_t records(void)
{
	struct kv_iter *it;
	struct str key, value;
	size_t n = 0;

	assert_int_equal(kv_iter_new(disk, KV_PROFILES, &it, NULL), 0);
	while (kv_iter_next(it, &key, &value, NULL) == 1)
		n++;
	kv_iter_free(it);
	return n;
}

static void record_write(struct str key, struct str value)
{
	const struct kv_change c = {KV_PROFILES, key, value, false};

	assert_int_equal(kv_commit(disk, &c, 1, NULL), 0);
}

static struct profiles_stats stats(void)
{
	struct profiles_stats s;

	profiles_stats(profiles, &s);
	return s;
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

static void empty_start(void)
{
	struct profile bad;

	assert_int_equal(put(REDIS, "/bin/redis", "/a", 0), 0);
	assert_int_equal(stats().n, 0);
	bad = start_of(REDIS, "/bin/redis", "/a", 1);
	bad.repository = STR("bad:tag");
	assert_int_equal(profiles_put(profiles, &bad, NULL), -EINVAL);
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

static void removed(void)
{
	struct str sh = STR("/bin/sh"), none = STR("/bin/none");
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
	assert_int_equal(stats().n, 1);
	assert_int_equal(profiles_remove(profiles, STR("other"), NULL, NULL), 1);
	assert_int_equal(stats().n, 0);
	assert_int_equal(stats().bytes, 0);
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

/* --- extents ---------------------------------------------------------------------------------- */

static void extents_put(void)
{
	size_t before;

	assert_int_equal(put_extents(REDIS, "/bin/redis", 1, 5), -ENOENT);
	assert_int_equal(record(REDIS, "/bin/redis"), 0);
	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	assert_int_equal(put_extents(REDIS, "/bin/sh", 1, 5), -ENOENT);
	assert_int_equal(put_extents(STR("other"), "/bin/redis", 1, 5), -ENOENT);
	assert_string_equal(numbers(REDIS, 8), "");
	before = stats().bytes;
	assert_int_equal(put_extents(REDIS, "/bin/redis", 1, 5), 0);
	assert_string_equal(numbers(REDIS, 8), "1");
	assert_true(record(REDIS, "/bin/redis") > 5 * 20);
	assert_int_equal(stats().bytes, before + record(REDIS, "/bin/redis"));
	/* The next ones take their place. */
	assert_int_equal(put_extents(REDIS, "/bin/redis", 2, 3), 0);
	assert_string_equal(numbers(REDIS, 8), "2");
	assert_int_equal(stats().bytes, before + record(REDIS, "/bin/redis"));
	assert_string_equal(numbers(REDIS, 0), "");
	assert_string_equal(numbers(STR("other"), 8), "");
	/* That nothing is read is known, too. */
	assert_int_equal(put_extents(REDIS, "/bin/redis", 3, 0), 0);
	assert_string_equal(numbers(REDIS, 8), "3");
}

/* They are there after a restart, and after further starts. */
static void extents_stay(void)
{
	size_t before;

	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	assert_int_equal(put_extents(REDIS, "/bin/redis", 1, 5), 0);
	before = stats().bytes;
	reopen();
	assert_string_equal(numbers(REDIS, 8), "1");
	assert_int_equal(stats().bytes, before);
	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	assert_string_equal(numbers(REDIS, 8), "1");
	assert_int_equal(stats().bytes, before);
	assert_int_equal(put(REDIS, "/bin/redis", "/a", 3), 0);
	assert_true(stats().bytes > before);
	before = stats().bytes;
	reopen();
	assert_string_equal(numbers(REDIS, 8), "1");
	assert_int_equal(stats().bytes, before);
}

/* An imported profile is not of what was watched here. */
static void extents_imported(void)
{
	struct profile p = start_of(REDIS, "/bin/redis", "/a", 2);
	auto_buf struct buf b = BUF_INIT;
	size_t before;

	p.starts = 40;
	assert_int_equal(profile_json(&p, &b, NULL), 0);
	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	assert_int_equal(put(REDIS, "/bin/sh", "/a", 2), 0);
	before = stats().bytes;
	assert_int_equal(put_extents(REDIS, "/bin/redis", 1, 5), 0);
	assert_int_equal(put_extents(REDIS, "/bin/sh", 2, 5), 0);
	assert_int_equal(
		profiles_import(profiles, (struct str){(char *)b.data, b.len}, &arena, NULL, NULL),
		0);
	assert_int_equal(record(REDIS, "/bin/redis"), 0);
	assert_int_equal(stats().bytes, before + record(REDIS, "/bin/sh"));
	assert_string_equal(numbers(REDIS, 8), ""); /* of one nothing is known */
	reopen();
	assert_int_equal(stats().bytes, before + record(REDIS, "/bin/sh"));
	assert_int_equal(put_extents(REDIS, "/bin/redis", 3, 5), 0);
	assert_string_equal(numbers(REDIS, 8), "3, 2");
}

static void extents_removed(void)
{
	struct str sh = STR("/bin/sh");

	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	assert_int_equal(put(REDIS, "/bin/sh", "/a", 2), 0);
	assert_int_equal(put(REDIS, "/bin/none", "/a", 2), 0);
	assert_int_equal(put(STR("other"), "/bin/sh", "/a", 2), 0);
	assert_int_equal(put_extents(REDIS, "/bin/redis", 1, 5), 0);
	assert_int_equal(put_extents(REDIS, "/bin/sh", 2, 5), 0);
	assert_int_equal(put_extents(STR("other"), "/bin/sh", 3, 5), 0);
	assert_int_equal(profiles_remove(profiles, REDIS, &sh, NULL), 1);
	assert_int_equal(record(REDIS, "/bin/sh"), 0);
	assert_true(record(REDIS, "/bin/redis") > 0);
	assert_int_equal(profiles_remove(profiles, REDIS, NULL, NULL), 2);
	assert_int_equal(record(REDIS, "/bin/redis"), 0);
	assert_string_equal(numbers(STR("other"), 8), "3");
	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	assert_string_equal(numbers(REDIS, 8), "");
	assert_int_equal(profiles_remove(profiles, REDIS, NULL, NULL), 1);
	assert_int_equal(profiles_remove(profiles, STR("other"), NULL, NULL), 1);
	assert_int_equal(stats().bytes, 0);
	assert_int_equal(records(), 0);
}

static void extents_of_repository(void)
{
	assert_int_equal(put(REDIS, "/bin/once", "/a", 1), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(put(REDIS, "/bin/often", "/a", 1), 0);
	assert_int_equal(put(STR("docker.io/library/redi"), "/bin/x", "/a", 1), 0);
	assert_int_equal(put_extents(REDIS, "/bin/once", 1, 5), 0);
	assert_string_equal(numbers(REDIS, 8), ""); /* the other may be what runs next */
	assert_int_equal(put_extents(REDIS, "/bin/often", 2, 7), 0);
	assert_string_equal(numbers(REDIS, 8), "2, 1");
	assert_string_equal(numbers(REDIS, 1), "2");
	assert_string_equal(numbers(STR("docker.io/library/redi"), 8), "");
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(put(REDIS, "/bin/once", "/a", 1), 0);
	assert_string_equal(numbers(REDIS, 8), "1, 2");
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

/* --- bounds ----------------------------------------------------------------------------------- */

/* As many as there may be: /bin/0000, /bin/0001, … */
static void fill(void)
{
	char name[32];

	for (unsigned i = 0; i < PROFILES_MAX; i++) {
		snprintf(name, sizeof(name), "/bin/%04u", i);
		assert_int_equal(put(REDIS, name, "/a", 1), 0);
	}
}

static void bounded(void)
{
	struct profile p;

	fill();
	assert_int_equal(stats().n, PROFILES_MAX);
	assert_int_equal(stats().evicted, 0);
	assert_int_equal(get(REDIS, "/bin/0000", &p), 0); /* is used: stays */
	assert_int_equal(put(REDIS, "/bin/0001", "/a", 1), 0);
	assert_int_equal(put(REDIS, "/bin/new", "/a", 1), 0);
	assert_int_equal(put(REDIS, "/bin/newer", "/a", 1), 0);
	assert_int_equal(get(REDIS, "/bin/0000", &p), 0);
	assert_int_equal(get(REDIS, "/bin/0001", &p), 0);
	assert_int_equal(get(REDIS, "/bin/0002", &p), -ENOENT);
	assert_int_equal(get(REDIS, "/bin/0003", &p), -ENOENT);
	assert_int_equal(get(REDIS, "/bin/0004", &p), 0);
	assert_int_equal(stats().n, PROFILES_MAX);
	assert_int_equal(stats().evicted, 2);
	reopen();
	assert_int_equal(stats().n, PROFILES_MAX);
}

static void bounded_bytes(void)
{
	char *path = arena_printf(&arena, "/%0*d", 4000, 0), name[32];
	struct profile p;

	for (unsigned i = 0; i < 150; i++) {
		snprintf(name, sizeof(name), "/bin/%u", i);
		assert_int_equal(put(REDIS, name, path, 130), 0);
	}
	assert_true(stats().n < 140 && stats().bytes <= PROFILES_BYTES_MAX);
	assert_int_equal(stats().n + stats().evicted, 150);
	assert_int_equal(get(REDIS, "/bin/0", &p), -ENOENT);
	assert_int_equal(get(REDIS, "/bin/149", &p), 0);
}

/* The one that was longest not used is the one that grows: others go. */
static void bounded_growing(void)
{
	char *path = arena_printf(&arena, "/%0*d", 4000, 0), name[32];
	struct profile p;

	assert_int_equal(put(REDIS, "/bin/first", "/a", 1), 0);
	for (unsigned i = 0;; i++) {
		snprintf(name, sizeof(name), "/bin/%u", i);
		assert_int_equal(put(REDIS, name, path, 120), 0);
		if (stats().bytes + KiB(470) > PROFILES_BYTES_MAX)
			break;
	}
	assert_int_equal(stats().evicted, 0);
	assert_int_equal(put(REDIS, "/bin/first", path, 120), 0);
	assert_int_equal(stats().evicted, 1);
	assert_true(stats().bytes <= PROFILES_BYTES_MAX);
	assert_int_equal(get(REDIS, "/bin/first", &p), 0);
	assert_int_equal(p.starts, 2);
	assert_int_equal(get(REDIS, "/bin/0", &p), -ENOENT);
}

/* With the profile that was longest not used its extents go. */
static void bounded_with_extents(void)
{
	struct profile p;
	size_t before;

	fill();
	before = stats().bytes;
	assert_int_equal(put_extents(REDIS, "/bin/0000", 1, 5), 0);
	assert_int_equal(put_extents(REDIS, "/bin/0002", 2, 5), 0);
	assert_int_equal(records(), PROFILES_MAX + 2);
	assert_int_equal(put(REDIS, "/bin/new0", "/a", 1), 0);
	assert_int_equal(get(REDIS, "/bin/0000", &p), -ENOENT);
	assert_int_equal(record(REDIS, "/bin/0000"), 0);
	assert_int_equal(records(), PROFILES_MAX + 1);
	assert_int_equal(stats().bytes, before + record(REDIS, "/bin/0002"));
	assert_int_equal(put(REDIS, "/bin/new1", "/a", 1), 0);
	assert_int_equal(put(REDIS, "/bin/new2", "/a", 1), 0);
	assert_int_equal(records(), PROFILES_MAX);
	assert_int_equal(stats().bytes, before);
	reopen();
	assert_int_equal(stats().bytes, before);
}

/* Extents make room for themselves, but their own profile stays. */
static void bounded_by_extents(void)
{
	char *path = arena_printf(&arena, "/%0*d", 4000, 0), name[32];
	struct profile p;

	assert_int_equal(put(REDIS, "/bin/first", "/a", 1), 0);
	for (unsigned i = 0; stats().bytes + KiB(70) < PROFILES_BYTES_MAX; i++) {
		snprintf(name, sizeof(name), "/bin/%u", i);
		assert_int_equal(put(REDIS, name, path,
				     stats().bytes + KiB(530) < PROFILES_BYTES_MAX ? 120 : 10),
				 0);
	}
	assert_int_equal(stats().evicted, 0);
	assert_int_equal(put_extents(REDIS, "/bin/first", 1, EXTENTS_MAX), 0);
	assert_int_equal(stats().evicted, 1);
	assert_true(stats().bytes <= PROFILES_BYTES_MAX);
	assert_int_equal(records(), stats().n + 1);
	assert_true(record(REDIS, "/bin/first") > KiB(70));
	assert_int_equal(get(REDIS, "/bin/first", &p), 0);
	assert_int_equal(get(REDIS, "/bin/0", &p), -ENOENT);
}

/* --- what goes wrong -------------------------------------------------------------------------- */

static void commit_fails(void)
{
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
	assert_int_equal(stats().n, 1);
	assert_int_equal(put(REDIS, "/bin/redis", "/b", 2), 0);
	assert_int_equal(get(REDIS, "/bin/redis", &p), 0);
	assert_int_equal(p.starts, 2);
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
	struct profile p;

	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	assert_int_equal(kv_commit(disk, changes, array_size(changes), NULL), 0);
	reopen();
	assert_int_equal(stats().n, 1);
	assert_int_equal(records(), 1);
	assert_int_equal(kv_commit(disk, &late, 1, NULL), 0);
	assert_int_equal(get(REDIS, "/bin/redis", &p), -EBADMSG);
	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	assert_int_equal(get(REDIS, "/bin/redis", &p), 0);
	assert_int_equal(p.starts, 1);
}

static void extents_commit_fails(void)
{
	size_t before;

	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	before = stats().bytes;
	kv_mem_fail(disk, 0, -ENOSPC, false);
	assert_int_equal(put_extents(REDIS, "/bin/redis", 1, 5), -ENOSPC);
	assert_int_equal(stats().bytes, before);
	assert_string_equal(numbers(REDIS, 8), "");
	kv_mem_fail(disk, 0, 0, false);
	reopen();
	assert_int_equal(put_extents(REDIS, "/bin/redis", 1, 5), 0);
	before = stats().bytes;
	kv_mem_fail(disk, 0, -EIO, true);
	assert_int_equal(put_extents(REDIS, "/bin/redis", 2, 7), -EIO);
	assert_int_equal(stats().bytes, before);
	kv_mem_fail(disk, 0, 0, false);
	reopen();
	assert_string_equal(numbers(REDIS, 8), "2");
	assert_int_equal(stats().bytes, before + 2 * 20);
}

/* Those without a profile are deleted at the start. */
static void extents_orphaned(void)
{
	size_t before;

	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	assert_int_equal(put_extents(REDIS, "/bin/redis", 1, 5), 0);
	before = stats().bytes;
	record_write(extents_key(REDIS, "/bin/gone"), STR("\x01"));
	record_write(extents_key(STR("other"), "/bin/redis"), STR("\x01"));
	record_write(extents_key(STR(""), ""), STR(""));
	record_write((struct str){"", 1}, STR("v"));
	assert_int_equal(records(), 6);
	reopen();
	assert_int_equal(records(), 2);
	assert_int_equal(stats().bytes, before);
	assert_string_equal(numbers(REDIS, 8), "1");
}

/* Damaged extents are as good as none, also for the other program, and the profile is what it was.
 */
static void extents_damaged(void)
{
	const struct str values[] = {STR("\x01"), STR("\xff newer"), STR("")};
	struct profile p;
	size_t before;

	assert_int_equal(put(REDIS, "/bin/redis", "/a", 2), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(put(REDIS, "/bin/sh", "/a", 2), 0);
	before = stats().bytes;
	assert_int_equal(put_extents(REDIS, "/bin/sh", 2, 5), 0);
	for (size_t i = 0; i < array_size(values); i++) {
		assert_int_equal(put_extents(REDIS, "/bin/redis", 1, 5), 0);
		assert_string_equal(numbers(REDIS, 8), "2, 1");
		record_write(extents_key(REDIS, "/bin/redis"), values[i]);
		for (unsigned k = 0; k < 2; k++) {
			assert_string_equal(numbers(REDIS, 8), "");
			assert_int_equal(get(REDIS, "/bin/redis", &p), 0);
			assert_int_equal(p.starts, 1);
			reopen();
		}
		assert_int_equal(record(REDIS, "/bin/redis"), 0);
		assert_int_equal(stats().bytes, before + record(REDIS, "/bin/sh"));
	}
	assert_int_equal(profiles_remove(profiles, REDIS, NULL, NULL), 2);
	assert_int_equal(stats().bytes, 0);
	assert_int_equal(records(), 0);
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

#define one(name) ((struct CMUnitTest){"test_" #name, on_loop, NULL, NULL, (void *)(name)})

int main(void)
{
	const struct CMUnitTest tests[] = {
		one(put_and_get),
		one(empty_start),
		one(of_repository),
		one(removed),
		one(imported),
		one(extents_put),
		one(extents_stay),
		one(extents_imported),
		one(extents_removed),
		one(extents_of_repository),
		one(at_once),
		one(bounded),
		one(bounded_bytes),
		one(bounded_growing),
		one(bounded_with_extents),
		one(bounded_by_extents),
		one(commit_fails),
		one(commit_fails_applied),
		one(damaged),
		one(extents_commit_fails),
		one(extents_orphaned),
		one(extents_damaged),
		cmocka_unit_test(test_older_database),
	};

	return cmocka_run_group_tests_name("profiles", tests, NULL, NULL);
}
