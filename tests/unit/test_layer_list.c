// SPDX-License-Identifier: Apache-2.0
/* The layers that a host knows: added, found, used, removed, and found again after a restart. */
#include "objects_fixture.h"

#include "image/layer.h"

static struct digest digest_of(unsigned n)
{
	struct digest d;

	sha256(&n, sizeof(n), &d);
	return d;
}

/* A layer of one file; the caller uses it. */
may_suspend static struct layer *add(struct layers *ls, unsigned n)
{
	struct digest blob = digest_of(n), trust = digest_of(1000 + n),
		      content = digest_of(2000 + n);
	struct index_entry e = {.path = STR("file"), .type = INDEX_REG, .mode = 0644};
	auto_index_builder struct index_builder *b = NULL;
	struct index_chunk c = {.blob_off = 10};
	struct err err = ERR_INIT;
	struct layer *l;
	auto_close int fd = layers_tmpfile(ls, &err);

	assert_true(fd >= 0);
	assert_int_equal(index_builder_new(CODEC_GZIP, 1000, &b), 0);
	assert_int_equal(index_builder_add(b, &e, 100, &content, NULL, 0, &err), 0);
	assert_int_equal(index_builder_chunk(b, &c, &err), 0);
	assert_int_equal(index_builder_write(b, fd, &err), 0);
	assert_null(layers_find(ls, &blob, &trust));
	if (layers_add(ls, &blob, &trust, STR("host/image:1"), fd, &l, &err) < 0)
		fail_msg("%s", err.text);
	assert_ptr_equal(layers_find(ls, &blob, &trust), l);
	assert_ptr_equal(layers_get(ls, l->id), l);
	assert_int_equal(l->info.objects_n, 1);
	return l;
}

static unsigned removed;

may_suspend static void on_remove(void *arg, uint32_t id)
{
	(void)arg, (void)id;
	removed++;
	task_yield();
}

may_suspend static struct layers *open_layers(struct objects **ret)
{
	struct layers *ls;
	struct err err = ERR_INIT;

	*ret = open_store(1, 1u << 30);
	if (layers_new(loop_self(), meta, *ret, threads, root_fd, &ls, &err) < 0)
		fail_msg("%s", err.text);
	return ls;
}

may_suspend static void start(struct layers *ls)
{
	removed = 0;
	assert_int_equal(layers_start(ls, on_remove, NULL, NULL), 0);
}

may_suspend static void close_layers(struct layers *ls, struct objects *o)
{
	layers_stop(ls);
	layers_free(ls);
	close_store(o);
}

/* Virtual time runs ahead of threads: many short sleeps give them time. */
may_suspend static void expect_gone(struct layers *ls, uint32_t id)
{
	for (unsigned i = 0; i < 1000 && layers_get(ls, id); i++)
		task_sleep_ms(100);
	assert_null(layers_get(ls, id));
}

static bool has_file(unsigned id)
{
	char name[32];

	snprintf(name, sizeof(name), "layers/%u", id);
	return faccessat(root_fd, name, F_OK, 0) == 0;
}

static int restart_main(void *arg)
{
	struct digest blob = digest_of(2), trust = digest_of(1002);
	struct objects *o;
	struct layers *ls = open_layers(&o);
	struct err err = ERR_INIT;
	struct layer *l;
	char name[32];

	(void)arg;
	start(ls);
	add(ls, 1);
	l = add(ls, 2);
	assert_int_equal(l->id, 2);
	for (unsigned i = 0; i < 2 * LAYER_REFS_MAX; i++) {
		snprintf(name, sizeof(name), "host/image:%u", i % (LAYER_REFS_MAX + 1));
		assert_int_equal(layers_note_ref(ls, l, str_of(name), &err), 0);
		assert_string_equal(l->refs[0], name);
	}
	assert_int_equal(layers_set_complete(ls, l, &err), 0);
	close_layers(ls, o);
	ls = open_layers(&o);
	l = layers_find(ls, &blob, &trust);
	assert_non_null(l);
	assert_true(l->complete && l->id == 2 && l->info.objects_n == 1);
	assert_int_equal(l->refs_n, LAYER_REFS_MAX);
	assert_string_equal(l->refs[0], name);
	layer_use(l);
	start(ls); /* nobody uses the first one */
	expect_gone(ls, 1);
	assert_true(removed == 1 && !has_file(1) && has_file(2));
	assert_true(layer_fd(ls, l, &err) >= 0);
	assert_int_equal(layers_next(ls, 0), 2);
	assert_int_equal(layers_next(ls, 2), 0);
	l = add(ls, 1);
	assert_int_equal(l->id, 3);
	close_layers(ls, o);
	return 0;
}

static void test_restart(void **state)
{
	(void)state;
	with_disk(restart_main);
}

/* A layer that cannot be removed does not keep the others. */
static int stuck_main(void *arg)
{
	struct objects *o;
	struct layers *ls = open_layers(&o);
	struct layer *l[2];

	(void)arg;
	start(ls);
	for (unsigned i = 0; i < 2; i++)
		l[i] = add(ls, i);
	assert_int_equal(unlinkat(root_fd, "layers/1", 0), 0);
	assert_int_equal(mkdirat(root_fd, "layers/1", 0700), 0); /* cannot be read */
	for (unsigned i = 0; i < 2; i++)
		layer_unuse(ls, l[i]);
	expect_gone(ls, 2);
	assert_non_null(layers_get(ls, 1));
	assert_false(has_file(2));
	assert_int_equal(unlinkat(root_fd, "layers/1", AT_REMOVEDIR), 0);
	expect_gone(ls, 1);
	close_layers(ls, o);
	return 0;
}

static void test_stuck(void **state)
{
	(void)state;
	with_disk(stuck_main);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_restart),
		cmocka_unit_test(test_stuck),
	};

	return cmocka_run_group_tests_name("layer_list", tests, NULL, NULL);
}
