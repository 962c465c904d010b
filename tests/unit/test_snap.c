// SPDX-License-Identifier: Apache-2.0
/* The rules of snapshots over the database in memory: order of checks, failures of the store,
 * restarts. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "loop/loop.h"
#include "snap/snap.h"

static char root[64];
static int root_fd;

/* A kv whose close leaves the contents: the disk that outlives a daemon. */
static struct kv *disk;
static struct kv_type lasting;
static void keep_open(struct kv *kv)
{
	(void)kv;
}

static struct meta *meta;

static struct snaps *open_snaps(void)
{
	struct snaps_options o = {
		.root = root, .features = {.overlay = true, .index_off = true}, .sync = true};
	struct err err = ERR_INIT;
	struct snaps *s;

	if (meta_new(loop_self(), disk, dup(root_fd), &meta, &err) < 0 ||
	    snaps_new(loop_self(), &o, meta, &s, &err) < 0)
		fail_msg("%s", err.text);
	return s;
}

static void close_snaps(struct snaps *s)
{
	snaps_free(s);
	meta_free(meta);
}

static int prepare(struct snaps *s, const char *key, const char *parent)
{
	auto_arena struct arena a;
	struct mount_answer m;

	arena_init(&a, MiB(1));
	return snaps_prepare(s, SNAPSHOT_ACTIVE, str_of(key), str_of(parent), NULL, 0, &a, &m,
			     NULL);
}

static int commit(struct snaps *s, const char *name, const char *key)
{
	return snaps_commit(s, str_of(name), str_of(key), STR(""), NULL, 0, NULL);
}

static int kind_of(struct snaps *s, const char *key)
{
	auto_arena struct arena a;
	struct snap_info info;
	int r;

	arena_init(&a, MiB(1));
	r = snaps_stat(s, str_of(key), &a, &info, NULL);
	return r < 0 ? r : (int)info.record.kind;
}

static bool there(const char *path)
{
	struct stat st;

	return fstatat(root_fd, path, &st, 0) == 0;
}

static int with_disk(int (*fn)(void *))
{
	struct loop *loop;
	int r;

	snprintf(root, sizeof(root), "/tmp/firstlight-snap-XXXXXX");
	assert_non_null(mkdtemp(root));
	root_fd = open(root, O_RDONLY | O_DIRECTORY);
	assert_int_equal(kv_mem_open(&disk), 0);
	const struct kv_type *real = disk->type;

	lasting = *real;
	lasting.close = keep_open;
	assert_int_equal(loop_new(&loop, NULL), 0);
	disk->type = &lasting;
	r = loop_run(loop, fn, NULL);
	loop_free(loop);
	disk->type = real;
	kv_close(disk);
	assert_int_equal(tree_remove(AT_FDCWD, root, NULL), 0);
	close(root_fd);
	return r;
}

static int rules(void *arg)
{
	struct snaps *s = open_snaps();
	struct err err = ERR_INIT;

	(void)arg;
	assert_int_equal(prepare(s, "a", "nothing"), -ENOENT);
	assert_int_equal(prepare(s, "a", ""), 0);
	assert_int_equal(prepare(s, "a", ""), -EEXIST);
	assert_int_equal(prepare(s, "b", "a"), -EINVAL);
	assert_int_equal(commit(s, "a", "a"), -EEXIST);
	assert_int_equal(commit(s, "base", "none"), -ENOENT);
	assert_int_equal(commit(s, "base", "a"), 0);
	assert_int_equal(commit(s, "base2", "base"), -EBUSY);
	assert_int_equal(kind_of(s, "a"), -ENOENT);
	assert_int_equal(kind_of(s, "base"), SNAPSHOT_COMMITTED);
	assert_int_equal(prepare(s, "a", "base"), 0); /* the key is free again */
	assert_int_equal(snaps_remove(s, STR("base"), &err), -EBUSY);
	assert_non_null(strstr(err.text, "remove"));
	assert_int_equal(snaps_remove(s, STR("a"), NULL), 0);
	assert_int_equal(snaps_remove(s, STR("base"), NULL), 0);
	assert_int_equal(snaps_remove(s, STR("base"), NULL), -ENOENT);
	assert_int_equal(snaps_count(s), 0);
	close_snaps(s);
	return 0;
}

static void test_rules(void **state)
{
	(void)state;
	with_disk(rules);
}

static int restart(void *arg)
{
	struct snaps *s = open_snaps();

	(void)arg;
	assert_int_equal(prepare(s, "a", ""), 0);
	assert_int_equal(commit(s, "base", "a"), 0);
	assert_int_equal(prepare(s, "b", "base"), 0); /* directory 2 */
	close_snaps(s);
	assert_int_equal(unlinkat(root_fd, "snapshots/2/work", AT_REMOVEDIR), 0); /* a power cut */
	assert_int_equal(mkdirat(root_fd, "snapshots/99", 0700), 0);              /* an orphan */
	s = open_snaps();
	assert_true(there("snapshots/2/work"));
	assert_false(there("snapshots/99"));
	assert_int_equal(kind_of(s, "b"), SNAPSHOT_ACTIVE);
	assert_int_equal(snaps_remove(s, STR("base"), NULL), -EBUSY);
	assert_int_equal(prepare(s, "c", "base"), 0);
	assert_true(there("snapshots/100")); /* ids are not used twice */
	close_snaps(s);
	return 0;
}

static void test_restart(void **state)
{
	(void)state;
	with_disk(restart);
}

static int store_fails(void *arg)
{
	struct snaps *s = open_snaps();

	(void)arg;
	assert_int_equal(prepare(s, "a", ""), 0);
	assert_int_equal(commit(s, "base", "a"), 0);
	kv_mem_fail(disk, 0, -ENOSPC, false);
	assert_int_equal(prepare(s, "b", "base"), -ENOSPC);
	assert_int_equal(prepare(s, "b", "base"), -EIO);
	assert_int_equal(snaps_remove(s, STR("base"), NULL), -EIO);
	assert_int_equal(kind_of(s, "base"), SNAPSHOT_COMMITTED); /* reads go on */
	assert_true(snaps_want_restart(s));
	assert_false(there("snapshots/2"));
	close_snaps(s);
	kv_mem_fail(disk, 0, 0, false);
	s = open_snaps();
	assert_int_equal(kind_of(s, "base"), SNAPSHOT_COMMITTED);
	assert_int_equal(kind_of(s, "b"), -ENOENT);
	assert_int_equal(prepare(s, "b", "base"), 0);
	close_snaps(s);
	return 0;
}

static void test_store_fails(void **state)
{
	(void)state;
	with_disk(store_fails);
}

static int unknown_outcome(void *arg)
{
	struct snaps *s = open_snaps();

	(void)arg;
	kv_mem_fail(disk, 0, -EIO, true); /* written, but the sync failed */
	assert_int_equal(prepare(s, "a", ""), -EIO);
	close_snaps(s);
	kv_mem_fail(disk, 0, 0, false);
	s = open_snaps();
	assert_int_equal(kind_of(s, "a"), SNAPSHOT_ACTIVE); /* whole: record and directory */
	assert_true(there("snapshots/1/fs"));
	assert_true(there("snapshots/1/work"));
	close_snaps(s);
	return 0;
}

static void test_unknown_outcome_is_whole_after_restart(void **state)
{
	(void)state;
	with_disk(unknown_outcome);
}

static int updates(void *arg)
{
	struct label in[] = {{STR("x"), STR("1")}, {STR("y"), STR("")}};
	struct str path = STR("labels.y"), bad = STR("parent"), all = STR("labels");
	auto_arena struct arena a;
	struct snap_info info;
	struct snaps *s = open_snaps();

	(void)arg;
	arena_init(&a, MiB(1));
	assert_int_equal(prepare(s, "a", ""), 0);
	assert_int_equal(snaps_update(s, STR("a"), in, 2, &bad, 1, &a, &info, NULL), -EINVAL);
	assert_int_equal(snaps_update(s, STR("a"), in, 2, &all, 1, &a, &info, NULL), 0);
	assert_int_equal(info.record.labels_n, 1);
	assert_int_equal(snaps_update(s, STR("a"), in, 2, &path, 1, &a, &info, NULL), 0);
	assert_int_equal(info.record.labels_n, 1);
	assert_int_equal(snaps_update(s, STR("b"), in, 2, NULL, 0, &a, &info, NULL), -ENOENT);
	assert_true(info.record.updated_ns > info.record.created_ns);
	close_snaps(s);
	return 0;
}

static void test_update(void **state)
{
	(void)state;
	with_disk(updates);
}

/* Waits for the reaper. */
static bool becomes(bool (*cond)(const char *path), const char *path)
{
	for (int i = 0; i < 1000 && !cond(path); i++)
		task_sleep_ms(5);
	return cond(path);
}

static bool gone(const char *path)
{
	return !there(path);
}

static int view(struct snaps *s, const char *key, const char *parent)
{
	auto_arena struct arena a;
	struct mount_answer m;

	arena_init(&a, MiB(1));
	return snaps_prepare(s, SNAPSHOT_VIEW, str_of(key), str_of(parent), NULL, 0, &a, &m, NULL);
}

static struct snaps *with_base(void)
{
	struct snaps *s = open_snaps();

	assert_int_equal(prepare(s, "x", ""), 0);
	assert_int_equal(commit(s, "base", "x"), 0); /* directory 1 */
	return s;
}

/* Is a directory of a snapshot that is gone waiting in the pool? The reaper needs a moment. */
static void settle(void)
{
	for (int i = 0; i < 20; i++)
		task_sleep_ms(5);
}

static int pool(void *arg)
{
	struct snaps *s = with_base();
	struct stat st, before;

	(void)arg;
	assert_int_equal(prepare(s, "a", "base"), 0);
	assert_int_equal(fstatat(root_fd, "snapshots/2/fs", &before, 0), 0);
	assert_int_equal(snaps_remove(s, STR("a"), NULL), 0);
	settle();
	assert_true(there("snapshots/2/fs"));
	assert_int_equal(prepare(s, "b", "base"), 0); /* not durably empty yet: not used */
	assert_true(there("snapshots/3/work"));
	assert_int_equal(commit(s, "b2", "b"), 0); /* its syncfs covers the pool */
	assert_int_equal(prepare(s, "c", "base"), 0);
	assert_false(there("snapshots/4"));
	assert_int_equal(fstatat(root_fd, "snapshots/2/fs", &st, 0), 0);
	assert_int_equal(st.st_ino, before.st_ino);
	assert_true(st.st_mtim.tv_sec > before.st_mtim.tv_sec ||
		    st.st_mtim.tv_nsec > before.st_mtim.tv_nsec);
	assert_int_equal(snaps_remove(s, STR("b2"), NULL), 0); /* committed, never a parent */
	settle();
	assert_true(there("snapshots/3/fs"));
	assert_int_equal(prepare(s, "d", ""), 0); /* 4 */
	close_snaps(s);
	s = open_snaps(); /* another start knows nothing of it */
	assert_false(there("snapshots/3"));
	assert_int_equal(kind_of(s, "c"), SNAPSHOT_ACTIVE);
	close_snaps(s);
	return 0;
}

static void test_unused_directories_serve_again(void **state)
{
	(void)state;
	with_disk(pool);
}

/* What was, or may have been, used is not used again: some mount might still hold it. */
static int pool_refuses(void *arg)
{
	struct snaps *s = with_base();
	char name[8], path[32];

	(void)arg;
	for (int i = 0; i < 5; i++) { /* 2 to 6 */
		snprintf(name, sizeof(name), "k%d", i);
		assert_int_equal(prepare(s, name, i == 0 ? "" : "base"), 0); /* 2: a bind mount */
	}
	assert_int_equal(mkdirat(root_fd, "snapshots/3/fs/etc", 0700), 0);
	assert_int_equal(mkdirat(root_fd, "snapshots/4/work/work", 0), 0); /* overlay's trace */
	assert_int_equal(fchmodat(root_fd, "snapshots/5/fs", 0700, 0), 0);
	assert_int_equal(commit(s, "lower", "k4"), 0);
	assert_int_equal(prepare(s, "child", "lower"), 0);
	assert_int_equal(snaps_remove(s, STR("child"), NULL), 0); /* 7: the only one that is fit */
	assert_int_equal(snaps_remove(s, STR("lower"), NULL), 0);
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "k%d", i);
		assert_int_equal(snaps_remove(s, str_of(name), NULL), 0);
	}
	for (int i = 2; i <= 6; i++) {
		snprintf(path, sizeof(path), "snapshots/%d", i);
		assert_true(becomes(gone, path));
		snprintf(path, sizeof(path), "trash/%d", i);
		assert_true(becomes(gone, path));
	}
	settle();
	assert_true(there("snapshots/7"));
	snaps_cleanup(s);
	assert_true(becomes(gone, "snapshots/7") && becomes(gone, "trash/7"));
	close_snaps(s);
	return 0;
}

static void test_used_directories_do_not(void **state)
{
	(void)state;
	with_disk(pool_refuses);
}

static int views(void *arg)
{
	struct snaps *s = with_base();

	(void)arg;
	assert_int_equal(view(s, "v", "base"), 0); /* 2 */
	assert_int_equal(view(s, "alone", ""), 0); /* 3 */
	assert_false(there("snapshots/2"));
	assert_true(there("snapshots/3/fs"));
	close_snaps(s);
	assert_int_equal(tree_remove(root_fd, "snapshots/3", NULL), 0); /* a power cut */
	s = open_snaps();
	assert_false(there("snapshots/2"));
	assert_true(there("snapshots/3/fs"));
	assert_int_equal(snaps_remove(s, STR("base"), NULL), -EBUSY);
	assert_int_equal(snaps_remove(s, STR("v"), NULL), 0);
	assert_int_equal(snaps_remove(s, STR("alone"), NULL), 0);
	assert_true(becomes(gone, "snapshots/3"));
	close_snaps(s);
	return 0;
}

static void test_view_of_something_has_no_directory(void **state)
{
	(void)state;
	with_disk(views);
}

static int pool_xattr(void *arg)
{
	struct snaps *s = with_base();
	char path[128];

	(void)arg;
	assert_int_equal(prepare(s, "a", "base"), 0);
	snprintf(path, sizeof(path), "%s/snapshots/2/fs", root);
	if (setxattr(path, "user.x", "y", 1, 0) < 0) { /* a file system without */
		close_snaps(s);
		return 1;
	}
	assert_int_equal(snaps_remove(s, STR("a"), NULL), 0);
	assert_true(becomes(gone, "snapshots/2") && becomes(gone, "trash/2"));
	close_snaps(s);
	return 0;
}

static void test_directories_with_attributes_do_not(void **state)
{
	(void)state;
	if (with_disk(pool_xattr))
		skip();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_store_fails),
		cmocka_unit_test(test_unknown_outcome_is_whole_after_restart),
		cmocka_unit_test(test_update),
		cmocka_unit_test(test_view_of_something_has_no_directory),
		cmocka_unit_test(test_unused_directories_serve_again),
		cmocka_unit_test(test_used_directories_do_not),
		cmocka_unit_test(test_directories_with_attributes_do_not),
	};

	return cmocka_run_group_tests_name("snap", tests, NULL, NULL);
}
