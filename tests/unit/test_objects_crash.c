// SPDX-License-Identifier: Apache-2.0
/* What the object store makes of what a kill or a power cut has left, and its cap. */
#include "objects_fixture.h"

#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

/* All chunks were there when the process died. */
static int killed_before_completion(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct object_entry e;
	struct object *obj;
	char path[128], hex[DIGEST_HEX_SIZE], bits = 15;
	static struct blob b;
	int fd;

	(void)arg;
	blob_make(&b, 1, 3 * CHUNK + 5);
	e = entry_for(&b, 0, CHUNK);
	assert_int_equal(objects_add(o, 1, &e, 1, NULL), 0);
	obj = get(o, &e);
	for (uint32_t i = 0; i < 3; i++)
		put(o, obj, &b, i);
	object_unref(o, obj);
	close_store(o);
	digest_hex(&e.key, hex);
	snprintf(path, sizeof(path), "partial/%s", hex);
	fd = openat(root_fd, path, O_RDWR);
	assert_int_equal(pwrite(fd, b.data + 3 * CHUNK, 5, 3 * CHUNK), 5);
	assert_int_equal(pwrite(fd, &bits, 1, (off_t)presence_off(b.size) + PRESENCE_HEAD), 1);
	close(fd);
	o = open_store(1, 0);
	obj = get(o, &e);
	wait_complete(obj);
	assert_true(obj->complete);
	object_unref(o, obj);
	check_bytes(&e, &b);
	close_store(o);
	return 0;
}

static void test_killed_before_completion(void **state)
{
	(void)state;
	with_disk(killed_before_completion);
}

/* Files that somebody else has written to. */
static int damaged_files(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct object_entry e[3];
	struct objects_usage u;
	struct object *obj;
	char path[OBJECT_PATH_SIZE + 8];
	static struct blob b;
	int fd;

	(void)arg;
	for (unsigned i = 0; i < 3; i++) {
		blob_make(&b, i, i == 2 ? CHUNK : 3 * CHUNK + 5);
		e[i] = entry_for(&b, i, CHUNK);
	}
	assert_int_equal(objects_add(o, 1, e, 3, NULL), 0);
	fill(o, &e[2], &b);
	for (unsigned i = 0; i < 2; i++) {
		blob_make(&b, i, 3 * CHUNK + 5);
		obj = get(o, &e[i]);
		put(o, obj, &b, 0);
		object_unref(o, obj);
	}
	close_store(o);
	for (unsigned i = 0; i < 3; i++) {
		snprintf(path, sizeof(path), i == 2 ? "objects/" : "partial/");
		object_path(&e[i].key, path + 8);
		if (i < 2)
			digest_hex(&e[i].key, path + 8);
		else
			assert_int_equal(fchmodat(root_fd, path, 0600, 0), 0);
		fd = openat(root_fd, path, O_RDWR);
		assert_true(fd >= 0);
		if (i == 0)
			assert_int_equal(pwrite(fd, "?", 1, (off_t)presence_off(b.size)), 1);
		else
			assert_int_equal(ftruncate(fd, i == 1 ? 100 : CHUNK - 1), 0);
		close(fd);
	}
	o = open_store(1, 0);
	for (unsigned i = 0; i < 3; i++) {
		obj = get(o, &e[i]);
		assert_int_equal(obj->chunks_here, 0);
		object_unref(o, obj);
	}
	blob_make(&b, 0, 3 * CHUNK + 5);
	fill(o, &e[0], &b);
	check_bytes(&e[0], &b);
	objects_usage(o, &u);
	assert_int_equal(u.partial, 0);
	close_store(o);
	return 0;
}

static void test_damaged_files(void **state)
{
	(void)state;
	with_disk(damaged_files);
}

/* What a crash between the record and the files leaves. */
static int orphans(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct object_entry e[3];
	struct object *obj;
	struct digest keys[3];
	static struct blob b[3];

	(void)arg;
	for (unsigned i = 0; i < 3; i++) {
		blob_make(&b[i], i, i == 2 ? CHUNK : 2 * CHUNK);
		e[i] = entry_for(&b[i], i, CHUNK);
		keys[i] = e[i].key;
	}
	assert_int_equal(objects_add(o, 1, e, 3, NULL), 0);
	fill(o, &e[0], &b[0]);
	fill(o, &e[2], &b[2]);
	obj = get(o, &e[1]);
	put(o, obj, &b[1], 0);
	object_unref(o, obj);
	wait_mode(&e[2], 0444);
	o->reap.running = true; /* it does not come to it */
	assert_int_equal(objects_remove(o, 1, keys, 3, NULL), 0);
	o->reap.running = false;
	close_store(o);
	assert_true(is_complete(&e[0]) && is_complete(&e[2]) && is_partial(&e[1]));
	o = open_store(1, 0);
	for (unsigned i = 0; i < 3; i++)
		wait_gone(i == 1 ? "partial" : "objects", &e[i]);
	e[0] = entry_for(&b[0], 0, 2 * CHUNK);
	wait_gone("objects", &e[0]); /* and the other name of it */
	close_store(o);
	return 0;
}

static void test_orphans(void **state)
{
	(void)state;
	with_disk(orphans);
}

static int power_cut(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct object_entry e[4], other;
	struct object *obj;
	char path[OBJECT_PATH_SIZE + 8] = "objects/";
	static struct blob b[4];
	struct stat st;
	int fd;

	(void)arg;
	for (unsigned i = 0; i < 4; i++) {
		blob_make(&b[i], i, i == 0 || i == 3 ? 2 * CHUNK : CHUNK);
		e[i] = entry_for(&b[i], i, CHUNK);
	}
	assert_int_equal(objects_add(o, 1, e, 4, NULL), 0);
	for (unsigned i = 0; i < 3; i++)
		fill(o, &e[i], &b[i]);
	obj = get(o, &e[3]);
	put(o, obj, &b[3], 0);
	object_unref(o, obj);
	close_store(o); /* before they are durable */
	object_path(&e[1].key, path + 8);
	assert_int_equal(fchmodat(root_fd, path, 0600, 0), 0);
	fd = openat(root_fd, path, O_WRONLY);
	assert_int_equal(pwrite(fd, "torn", 4, 4000), 4);
	close(fd);
	assert_int_equal(fchmodat(root_fd, path, 0400, 0), 0);

	o = open_store(2, 0); /* nothing of it is shown before it has been checked */
	assert_false(is_partial(&e[3]));
	wait_there(&e[0]);
	wait_there(&e[2]);
	other = entry_for(&b[0], 0, 2 * CHUNK);
	wait_there(&other);
	check_bytes(&e[0], &b[0]);
	obj = get(o, &e[1]);
	assert_false(obj->complete);
	assert_int_equal(obj->chunks_here, 0);
	object_unref(o, obj);
	obj = get(o, &e[3]);
	assert_int_equal(obj->chunks_here, 0);
	object_unref(o, obj);
	wait_gone("partial/verify", &e[1]);
	assert_false(is_complete(&e[1]));
	wait_mode(&e[0], 0444);
	wait_mode(&e[2], 0444);
	close_store(o);
	o = open_store(3, 0); /* all is durable: nothing to do */
	assert_true(is_complete(&e[0]));
	assert_false(stat_of("partial/verify", &e[0], &st));
	close_store(o);
	return 0;
}

static void test_power_cut(void **state)
{
	(void)state;
	with_disk(power_cut);
}

/* In place of the C library's. */
static bool disk_fails;
int syncfs(int fd)
{
	if (!disk_fails)
		return (int)syscall(SYS_syncfs, fd);
	errno = EIO;
	return -1;
}

static void wait_quiet(const struct objects *o)
{
	for (int i = 0; o->start.running || o->sync.running; i++) {
		assert_true(i < 10000);
		assert_int_equal(task_sleep_ms(100), 0);
	}
}

/* A later success says nothing about what an earlier failure has lost. */
static int lost_write(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct object_entry e;
	struct stat st;
	static struct blob b;

	(void)arg;
	blob_make(&b, 1, CHUNK);
	e = entry_for(&b, 0, CHUNK);
	assert_int_equal(objects_add(o, 1, &e, 1, NULL), 0);
	disk_fails = true;
	fill(o, &e, &b);
	wait_quiet(o);
	disk_fails = false;
	close_store(o);
	o = open_store(1, 0); /* walks through all */
	wait_quiet(o);
	assert_true(stat_of("objects", &e, &st));
	assert_int_not_equal(st.st_mode & 07777, 0444);
	close_store(o);
	o = open_store(2, 0); /* hashed again */
	wait_mode(&e, 0444);
	close_store(o);
	return 0;
}

static void test_lost_write(void **state)
{
	(void)state;
	with_disk(lost_write);
}

static void make_old(const struct object_entry *e, int seconds)
{
	char path[OBJECT_PATH_SIZE + 8] = "objects/";
	struct timespec t[2];

	clock_gettime(CLOCK_REALTIME, &t[0]);
	t[0].tv_sec -= seconds;
	t[1] = t[0];
	object_path(&e->key, path + 8);
	assert_int_equal(utimensat(root_fd, path, t, 0), 0);
}

static int eviction(void *arg)
{
	enum { N = 10 };
	struct objects *o = open_store(1, 0);
	struct object_entry e[N];
	struct objects_usage u;
	struct object *used, *obj;
	static struct blob b[N];

	(void)arg;
	for (unsigned i = 0; i < N; i++) {
		blob_make(&b[i], i, CHUNK);
		e[i] = entry_for(&b[i], i, CHUNK);
	}
	assert_int_equal(objects_add(o, 1, e, N, NULL), 0);
	for (unsigned i = 0; i < N; i++)
		fill(o, &e[i], &b[i]);
	wait_mode(&e[N - 1], 0444);
	objects_usage(o, &u);
	close_store(o);
	o = open_store(1, u.bytes * 7 / 10);
	used = get(o, &e[0]);
	for (unsigned i = 0; i < N - 2; i++)
		make_old(&e[i], 1000 - (int)i);
	for (unsigned i = 0; i < 1000 && (is_complete(&e[1]) || o->evict.running); i++)
		assert_int_equal(task_sleep_ms(OBJECTS_EVICT_RETRY_MS), 0);
	objects_usage(o, &u);
	assert_true(u.bytes <= o->options.bytes_max);
	assert_true(u.bytes > o->options.bytes_max / 2);
	assert_true(is_complete(&e[0])); /* in use */
	assert_false(is_complete(&e[1]));
	assert_false(is_complete(&e[2]));
	assert_true(is_complete(&e[N - 3])); /* not so old */
	assert_true(is_complete(&e[N - 1])); /* fresh */
	object_unref(o, used);
	obj = get(o, &e[1]); /* is fetched again */
	assert_false(obj->complete);
	put(o, obj, &b[1], 0);
	assert_true(obj->complete);
	object_unref(o, obj);
	close_store(o);
	return 0;
}

/* Partial ones take room too, and may be all that there is. */
static int eviction_of_partial(void *arg)
{
	enum { N = 4 };
	struct objects *o = open_store(1, 0);
	struct object_entry e[N];
	struct objects_usage u;
	struct object *used, *obj;
	char name[DIGEST_HEX_SIZE], path[80];
	static struct blob b[N];
	const struct timespec old[2] = {{.tv_sec = 1000}, {.tv_sec = 1000}};

	(void)arg;
	for (unsigned i = 0; i < N; i++) {
		blob_make(&b[i], i, 3 * CHUNK);
		e[i] = entry_for(&b[i], i, CHUNK);
	}
	assert_int_equal(objects_add(o, 1, e, N, NULL), 0);
	for (unsigned i = 0; i < N; i++) {
		obj = get(o, &e[i]);
		put(o, obj, &b[i], 0);
		object_unref(o, obj);
		digest_hex(&e[i].key, name);
		snprintf(path, sizeof(path), "partial/%s", name);
		assert_int_equal(utimensat(root_fd, path, old, 0), 0);
	}
	close_store(o);
	o = open_store(1, 1);
	used = get(o, &e[0]);
	objects_usage(o, &u);
	for (unsigned i = 0; i < 1000 && u.partial > 1; i++) {
		assert_int_equal(task_sleep_ms(OBJECTS_EVICT_RETRY_MS), 0);
		objects_usage(o, &u);
	}
	assert_int_equal(u.partial, 1);
	assert_true(is_partial(&e[0])); /* in use */
	put(o, used, &b[0], 1);
	obj = get(o, &e[1]); /* is fetched again */
	assert_int_equal(obj->chunks_here, 0);
	object_unref(o, obj);
	o->options.bytes_max = 0;
	fill(o, &e[1], &b[1]);
	check_bytes(&e[1], &b[1]);
	object_unref(o, used);
	close_store(o);
	return 0;
}

static void test_eviction_of_partial(void **state)
{
	(void)state;
	with_disk(eviction_of_partial);
}

static bool unsupported;

/* What cannot be deleted (a file system that has become read-only) is tried again later. */
static int eviction_fails(void *arg)
{
	struct objects *o = open_store(1, 0);
	struct object_entry e;
	char path[OBJECT_PATH_SIZE + 8] = "objects/";
	static struct blob b;
	struct timespec begin, end;
	int flags = FS_IMMUTABLE_FL, fd;

	(void)arg;
	blob_make(&b, 1, CHUNK);
	e = entry_for(&b, 0, CHUNK);
	assert_int_equal(objects_add(o, 1, &e, 1, NULL), 0);
	fill(o, &e, &b);
	wait_mode(&e, 0444);
	close_store(o);
	make_old(&e, 1000);
	object_path(&e.key, path + 8);
	fd = openat(root_fd, path, O_RDONLY);
	unsupported = ioctl(fd, FS_IOC_SETFLAGS, &flags) < 0;
	if (!unsupported) {
		o = open_store(1, 1);
		clock_gettime(CLOCK_MONOTONIC, &begin);
		assert_int_equal(task_sleep_ms(OBJECTS_EVICT_RETRY_MS), 0);
		clock_gettime(CLOCK_MONOTONIC, &end);
		assert_true(end.tv_sec - begin.tv_sec < OBJECTS_EVICT_RETRY_MS / 2000);
		assert_true(is_complete(&e));
		flags = 0;
		assert_int_equal(ioctl(fd, FS_IOC_SETFLAGS, &flags), 0);
		wait_gone("objects", &e);
		close_store(o);
	}
	close(fd);
	return 0;
}

static void test_eviction_that_fails_waits(void **state)
{
	(void)state;
	with_disk(eviction_fails);
	if (unsupported)
		skip();
}

static void test_eviction(void **state)
{
	(void)state;
	with_disk(eviction);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_killed_before_completion),
		cmocka_unit_test(test_damaged_files),
		cmocka_unit_test(test_orphans),
		cmocka_unit_test(test_power_cut),
		cmocka_unit_test(test_lost_write),
		cmocka_unit_test(test_eviction),
		cmocka_unit_test(test_eviction_of_partial),
		cmocka_unit_test(test_eviction_that_fails_waits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
