// SPDX-License-Identifier: Apache-2.0
/*
 * What is asked for before anybody reads: parts of blobs of which nobody can know yet what is in
 * them, and what lies before landmarks; in the fetcher's world and in virtual time.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "fetch_world.h"

#include <sys/prctl.h>

#define CALM_SEED 30 /* no faults, and a content of many chunks */

static struct fake_content *content; /* that one */
static struct fake_layer *layer;     /* its first source */

static void find_content(void)
{
	for (unsigned i = 0; i < w->contents_n; i++) {
		struct fake_content *c = w->contents[i];

		if (!content || c->chunks_n > content->chunks_n)
			content = c;
	}
	assert_true(content->chunks_n >= 20);
	layer = w->layers[content->sources[0].layer - 1];
}

/* Where all of the content lies. */
static struct early_range range_of_content(void)
{
	const struct index_object *o = &layer->objects[content->sources[0].index];
	struct early_range r = {.ref = STR("host/a:1"), .blob = layer->l.blob, .off = UINT64_MAX};
	uint64_t end = 0, stream = UINT64_MAX, had = 0;

	for (uint32_t i = 0; i < o->chunks_n; i++) {
		const struct index_chunk *c = &layer->chunks[o->chunk + i];
		uint64_t len = plan_of(c, 0).len;

		if (c->zeros)
			continue;
		r.off = c->blob_off < r.off ? c->blob_off : r.off;
		end = c->blob_off + len > end ? c->blob_off + len : end;
		if (c->blob_off != stream) /* else they share it */
			had = 0;
		stream = c->blob_off;
		r.wanted += len > had ? len - had : 0;
		had = len > had ? len : had;
	}
	r.len = end - r.off;
	return r;
}

static int read_content(uint64_t off, uint64_t len)
{
	struct err err = ERR_INIT;
	struct object *obj;
	int r;

	assert_int_equal(objects_get(NULL, content->obj.number, &obj, NULL), 0);
	r = fetch_need(w->f, obj, off, len, &err);
	object_unref(NULL, obj);
	return r;
}

static void expect_nothing_held(void)
{
	assert_int_equal(w->f->early_n, 0);
	assert_true(list_empty(&w->f->early));
	assert_int_equal(w->f->early_held, 0);
	assert_int_equal(w->f->early_bytes, 0);
	assert_int_equal(w->f->early_running, 0);
	assert_int_equal(w->f->awaited, 0);
}

static void run(task_fn *fn)
{
	struct loop *loop;

	assert_int_equal(loop_new(&loop, NULL), 0);
	loop_use_virtual_time(loop, 1);
	world_new(CALM_SEED, loop);
	assert_int_equal(w->faults, FAULTS_NONE);
	content = NULL;
	find_content();
	assert_int_equal(loop_run(loop, fn, NULL), 0);
	world_free();
	loop_free(loop);
}

/* --- it is used -------------------------------------------------------------------------------
 */

static bool at_once;

/* What has come, or is on its way, is not asked for again; then nothing is held any more. */
static int used_main(void *arg)
{
	struct early_range r = range_of_content();
	struct fetch_stats st;
	uint64_t asked = (r.len + FETCH_EARLY_PART - 1) / FETCH_EARLY_PART;

	(void)arg;
	assert_int_equal(fetch_early(w->f, &r), 0);
	if (!at_once)
		assert_int_equal(task_sleep_ms(5000), 0);
	assert_int_equal(read_content(0, content->size), 0);
	assert_int_equal(w->requests[FETCH_DEMAND], 0);
	assert_int_equal(w->requests[FETCH_PREDICTED], asked);
	assert_int_equal(task_sleep_ms(2 * FETCH_EARLY_LOOK_MS), 0);
	fetch_stats(w->f, &st);
	assert_int_equal(st.early_bytes, r.len);
	assert_int_equal(st.early_taken, r.len);
	expect_nothing_held();
	fetcher_free(w->f);
	return 0;
}

static void test_used(void **state)
{
	(void)state;
	at_once = false;
	run(used_main);
	at_once = true;
	run(used_main);
}

/* What lies beside it comes the ordinary way. */
static int beside_main(void *arg)
{
	struct early_range r = range_of_content();
	struct fetch_stats st;

	(void)arg;
	r.len = r.len / 2;
	r.wanted = r.len;
	assert_int_equal(fetch_early(w->f, &r), 0);
	assert_int_equal(read_content(0, content->size), 0);
	assert_true(w->requests[FETCH_DEMAND] > 0);
	assert_int_equal(task_sleep_ms(5000), 0);
	fetch_stats(w->f, &st);
	assert_in_range(st.early_taken, 1, r.len);
	fetcher_free(w->f);
	return 0;
}

static void test_beside(void **state)
{
	(void)state;
	run(beside_main);
}

/* --- it is of no use --------------------------------------------------------------------------
 */

static int idle_main(void *arg)
{
	struct early_range r = range_of_content();

	(void)arg;
	assert_int_equal(fetch_early(w->f, &r), 0);
	assert_int_equal(task_sleep_ms(FETCH_EARLY_IDLE_MS / 2), 0);
	assert_int_equal(w->f->early_held, r.len);
	assert_int_equal(task_sleep_ms(FETCH_EARLY_IDLE_MS + FETCH_EARLY_LOOK_MS), 0);
	expect_nothing_held();
	assert_int_equal(read_content(0, 1), 0);
	fetcher_free(w->f);
	return 0;
}

static void test_idle(void **state)
{
	(void)state;
	run(idle_main);
}

/* It was asked for while the registry was down. */
static void fail_early(void)
{
	struct early_range r = range_of_content();

	w->faults = FAULTS_DOWN;
	w->down_from_ms = 0;
	w->down_to_ms = now_ms() + 2000;
	assert_int_equal(fetch_early(w->f, &r), 0);
	assert_int_equal(task_sleep_ms(2000), 0);
}

static int down_main(void *arg)
{
	(void)arg;
	fail_early();
	assert_int_equal(read_content(0, content->size), 0);
	assert_true(w->requests[FETCH_DEMAND] > 0);
	fetcher_free(w->f);
	return 0;
}

/* Its first half comes from it, the other half from the registry. */
static int cut_main(void *arg)
{
	struct early_range r = range_of_content();

	(void)arg;
	w->stall_at = 1;
	assert_int_equal(fetch_early(w->f, &r), 0);
	assert_int_equal(read_content(0, content->size), 0);
	assert_true(now_ms() < STALL_MS);
	fetcher_free(w->f);
	return 0;
}

/* It has failed, and the answer that comes instead stands still. */
static int twice_main(void *arg)
{
	uint64_t began;

	(void)arg;
	fail_early();
	w->stall_at = 1;
	began = now_ms();
	assert_int_equal(read_content(0, content->size), 0);
	assert_true(now_ms() - began < STALL_MS);
	assert_int_equal(w->stall_at, 0);
	fetcher_free(w->f);
	return 0;
}

static void test_fails(void **state)
{
	(void)state;
	run(down_main);
	run(cut_main);
	run(twice_main);
}

/* Wrong bytes are seen when they are decoded, and asked for again. */
static int wrong_main(void *arg)
{
	struct early_range r = range_of_content();
	struct fetch_stats st;

	(void)arg;
	w->faults = FAULTS_LIAR;
	w->liar = 0;
	assert_int_equal(fetch_early(w->f, &r), 0);
	assert_int_equal(task_sleep_ms(5000), 0);
	w->faults = FAULTS_NONE;
	assert_int_equal(read_content(0, content->size), 0);
	fetch_stats(w->f, &st);
	assert_true(st.bad_chunks > 0);
	assert_int_equal(st.failed_reads, 0);
	fetcher_free(w->f);
	return 0;
}

static void test_wrong(void **state)
{
	(void)state;
	run(wrong_main);
}

/* --- what lies before a landmark --------------------------------------------------------------
 */

static bool is_here(const struct index_chunk *ch, const struct fake_layer *l)
{
	struct fake_content *c = content_by_key(&l->objects[ch->object].key);

	return c->obj.complete || c->written || ch->zeros ||
	       c->here[ch - l->chunks - l->objects[ch->object].chunk];
}

static int first_main(void *arg)
{
	uint32_t behind = 0;

	(void)arg;
	layer->l.info.prefetch_end = layer->blob.len / 2;
	fetch_first(w->f, layer->l.id);
	assert_int_equal(task_sleep_ms(60000), 0);
	assert_int_equal(w->requests[FETCH_DEMAND] + w->requests[FETCH_BACKGROUND], 0);
	for (uint32_t i = 0; i < layer->chunks_n; i++) {
		const struct index_chunk *c = &layer->chunks[i];

		if (c->blob_off < layer->l.info.prefetch_end)
			check(is_here(c, layer));
		else
			behind += !is_here(c, layer);
	}
	assert_true(behind > 0);
	assert_int_equal(w->f->firsts, 0);
	fetcher_free(w->f);
	return 0;
}

static int first_ends_main(void *arg)
{
	(void)arg;
	w->bytes_per_ms = 10;
	layer->l.info.prefetch_end = layer->blob.len;
	fetch_first(w->f, layer->l.id);
	assert_int_equal(task_sleep_ms(200), 0);
	assert_true(w->requests[FETCH_PREDICTED] > 0);
	fetcher_free(w->f);
	return 0;
}

static void test_landmark(void **state)
{
	(void)state;
	run(first_main);
	run(first_ends_main);
}

/* --- bounds -----------------------------------------------------------------------------------
 */

static int bounds_main(void *arg)
{
	struct early_range r = {.ref = STR("host/a:1"),
				.blob = layer->l.blob,
				.len = layer->blob.len,
				.wanted = layer->blob.len};
	size_t asked = 0, most = 0;

	(void)arg;
	while (fetch_early(w->f, &r) == 0)
		asked += r.len;
	assert_in_range(asked, FETCH_EARLY_QUEUE_MAX - r.len, FETCH_EARLY_QUEUE_MAX);
	for (unsigned i = 0; i < 2 * FETCH_EARLY_IDLE_MS / 10; i++) {
		assert_int_equal(task_sleep_ms(10), 0);
		most = w->f->early_held > most ? w->f->early_held : most;
	}
	assert_in_range(most, FETCH_EARLY_MAX - r.len, FETCH_EARLY_MAX);
	assert_in_range(w->bytes[FETCH_PREDICTED], 1, FETCH_EARLY_MAX);
	expect_nothing_held();
	assert_int_equal(fetch_early(w->f, &(struct early_range){.ref = r.ref}), -EAGAIN);
	fetcher_free(w->f);
	return 0;
}

static void test_bounds(void **state)
{
	(void)state;
	run(bounds_main);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_used),     cmocka_unit_test(test_beside),
		cmocka_unit_test(test_idle),     cmocka_unit_test(test_fails),
		cmocka_unit_test(test_wrong),    cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_landmark),
	};

	prctl(PR_SET_TIMERSLACK, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
