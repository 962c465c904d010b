// SPDX-License-Identifier: Apache-2.0
/* Runs of lazy layers in the snapshot tree, without a mount: when they end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <endian.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/limits.h"
#include "image/layer.h"
#include "loop/loop.h"
#include "snap/tree.h"

static char root[64];
static int root_fd;
static struct kv *disk;
static struct kv_type slow;
static unsigned commit_ms;
static struct meta *meta;
static struct work *threads;
static struct layers *layers;

static void keep_open(struct kv *kv)
{
	(void)kv;
}

static int sleep_job(void *arg)
{
	const unsigned *ms = arg;
	struct timespec t = {.tv_nsec = *ms * 1000000l};

	nanosleep(&t, NULL);
	return 0;
}

static int (*commit_really)(struct kv *kv, const struct kv_change *changes, size_t n,
			    struct err *err);

static int commit_slowly(struct kv *kv, const struct kv_change *changes, size_t n, struct err *err)
{
	sleep_job(&commit_ms);
	return commit_really(kv, changes, n, err);
}

static void with_disk(int (*fn)(void *))
{
	struct loop *loop;

	snprintf(root, sizeof(root), "/tmp/firstlight-runs-XXXXXX");
	assert_non_null(mkdtemp(root));
	root_fd = open(root, O_RDONLY | O_DIRECTORY);
	assert_int_equal(kv_mem_open(&disk), 0);
	const struct kv_type *real = disk->type;

	slow = *real;
	slow.close = keep_open;
	slow.commit = commit_slowly;
	commit_really = real->commit;
	commit_ms = 0;
	assert_int_equal(loop_new(&loop, NULL), 0);
	loop_use_virtual_time(loop, 3000);
	disk->type = &slow;
	assert_int_equal(loop_run(loop, fn, NULL), 0);
	loop_free(loop);
	disk->type = real;
	kv_close(disk);
	assert_int_equal(tree_remove(AT_FDCWD, root, NULL), 0);
	close(root_fd);
}

/* --- records ---------------------------------------------------------------------------------- */

static void put(enum kv_space space, struct str key, const void *data, size_t n)
{
	const struct kv_change c = {.space = space, .key = key, .value = {data, n}};

	assert_int_equal(disk->type->commit(disk, &c, 1, NULL), 0);
}

static void put_snap(const char *name, const char *parent, enum snapshot_kind kind, uint64_t id,
		     uint32_t layer)
{
	auto_buf struct buf b = BUF_INIT;
	const struct record rec = {
		.kind = kind, .id = id, .layer = layer, .parent = str_of(parent)};

	assert_int_equal(record_encode(&rec, &b), 0);
	put(KV_SNAPSHOTS, str_of(name), b.data, b.len);
}

static void put_layer(uint32_t id)
{
	const uint32_t key = htobe32(id);
	uint8_t rec[8 + 2 * DIGEST_SIZE] = {LAYER_RECORD_VERSION}; /* include/format.h */

	rec[8] = (uint8_t)id;
	put(KV_LAYERS, (struct str){(const char *)&key, sizeof(key)}, rec, sizeof(rec));
}

static struct snaps *open_snaps(void)
{
	struct snaps_options o = {.root = root, .features = {.overlay = true}};
	struct err err = ERR_INIT;
	struct snaps *s;

	if (meta_new(loop_self(), disk, dup(root_fd), &meta, &err) < 0 ||
	    work_new(loop_self(), "test", 2, &threads, &err) < 0 ||
	    layers_new(loop_self(), meta, NULL, threads, root_fd, &layers, &err) < 0)
		fail_msg("%s", err.text);
	o.lazy.layers = layers;
	if (snaps_new(loop_self(), &o, meta, &s, &err) < 0)
		fail_msg("%s", err.text);
	return s;
}

static void close_snaps(struct snaps *s)
{
	layers_stop(layers);
	snaps_free(s);
	layers_free(layers);
	work_free(threads);
	meta_free(meta);
}

static bool there(const char *path)
{
	struct stat st;

	return fstatat(root_fd, path, &st, 0) == 0;
}

/* A lazy layer with an active snapshot above it, from before this start. */
static struct snaps *with_lazy(void)
{
	put_layer(1);
	put_snap("lazy", "", SNAPSHOT_COMMITTED, 1, 1);
	put_snap("box", "lazy", SNAPSHOT_ACTIVE, 2, 0);
	return open_snaps();
}

/* --- tests ------------------------------------------------------------------------------------ */

/* What a worker before has mounted goes too when the last user has gone. */
static int idle(void *arg)
{
	struct snaps *s = with_lazy();

	(void)arg;
	assert_int_equal(mkdirat(root_fd, "m/1", 0700), 0); /* as if it were mounted */
	assert_int_equal(snaps_remove(s, STR("box"), NULL), 0);
	assert_int_equal(task_sleep_ms(RUN_IDLE_MS / 2), 0);
	assert_true(there("m/1"));
	for (int i = 0; i < 100 && there("m/1"); i++)
		assert_int_equal(task_sleep_ms(RUN_IDLE_MS), 0);
	assert_false(there("m/1"));
	close_snaps(s);
	return 0;
}

static void test_run_of_an_earlier_worker_ends(void **state)
{
	(void)state;
	with_disk(idle);
}

static int occupy(void *arg)
{
	static unsigned ms = 150;

	return work_run(arg, sleep_job, &ms);
}

/* The time of the run is over while its snapshot is being removed. */
static int removal(void *arg)
{
	struct snaps *s = with_lazy();
	struct scope scope;

	(void)arg;
	assert_int_equal(snaps_remove(s, STR("box"), NULL), 0);
	scope_init(&scope, s->loop);
	for (unsigned i = 0; i < WORK_THREADS_FS; i++) /* the unmount takes longer than the write */
		assert_int_equal(scope_spawn(&scope, occupy, s->fs, NULL), 0);
	task_yield();
	commit_ms = 50;
	assert_int_equal(snaps_remove(s, STR("lazy"), NULL), 0);
	commit_ms = 0;
	assert_int_equal(snaps_count(s), 0);
	scope_wait(&scope);
	scope_fini(&scope);
	assert_int_equal(task_sleep_ms(2 * RUN_IDLE_MS), 0);
	close_snaps(s);
	return 0;
}

static void test_run_ends_while_its_snapshot_goes(void **state)
{
	(void)state;
	with_disk(removal);
}

/* Its removal waits for the unmount, and is not refused. */
static int beside(void *arg)
{
	struct snaps *s = with_lazy();
	struct scope scope;

	(void)arg;
	assert_int_equal(snaps_remove(s, STR("box"), NULL), 0);
	scope_init(&scope, s->loop);
	for (unsigned i = 0; i < WORK_THREADS_FS; i++)
		assert_int_equal(scope_spawn(&scope, occupy, s->fs, NULL), 0);
	assert_int_equal(task_sleep_ms(RUN_IDLE_MS + 1), 0);
	assert_int_equal(snaps_remove(s, STR("lazy"), NULL), 0);
	scope_wait(&scope);
	scope_fini(&scope);
	close_snaps(s);
	return 0;
}

static void test_removal_waits_for_an_unmount(void **state)
{
	(void)state;
	with_disk(beside);
}

/* Damaged records must not hold up the loop. */
static int circle(void *arg)
{
	auto_arena struct arena a;
	struct mount_answer m;
	struct snaps *s;

	(void)arg;
	put_layer(1);
	put_snap("a", "b", SNAPSHOT_COMMITTED, 1, 1);
	put_snap("b", "a", SNAPSHOT_COMMITTED, 2, 1);
	put_snap("box", "a", SNAPSHOT_ACTIVE, 3, 0);
	s = open_snaps();
	arena_init(&a, MiB(1));
	assert_int_equal(snaps_mounts(s, STR("box"), &a, &m, NULL), -EBADMSG);
	assert_int_equal(
		snaps_prepare(s, SNAPSHOT_ACTIVE, STR("c"), STR("a"), NULL, 0, &a, &m, NULL),
		-EINVAL);
	assert_int_equal(snaps_remove(s, STR("box"), NULL), 0);
	close_snaps(s);
	return 0;
}

static void test_circle_of_parents(void **state)
{
	(void)state;
	with_disk(circle);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_run_of_an_earlier_worker_ends),
		cmocka_unit_test(test_run_ends_while_its_snapshot_goes),
		cmocka_unit_test(test_removal_waits_for_an_unmount),
		cmocka_unit_test(test_circle_of_parents),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
