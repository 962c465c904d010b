// SPDX-License-Identifier: Apache-2.0
/*
 * The fetcher in worlds drawn from seeds, in virtual time. FETCH_SEED=n runs that one only.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include "fetch_world.h"

#include <sys/prctl.h>

#ifdef __SANITIZE_ADDRESS__
#define SEEDS 60
#else
#define SEEDS 250
#endif

struct reader {
	unsigned number;
	bool cancelled;
	struct task *task;
};

/* The longest that a read may take when nothing fails: its own requests and one before it. */
static uint64_t patience_ms(uint64_t len)
{
	return 4 * (w->latency_us / 1000 + 10) +
	       4 * ((len + 2 * FETCH_REQUEST_MAX) / w->bytes_per_ms);
}

static void check_read(struct fake_content *c, uint64_t off, uint64_t len, int r, struct err *err,
		       uint64_t ms)
{
	if (r == 0) {
		check(fetch_present(w->f, &c->obj, off, len) || w->faults == FAULTS_FULL);
		for (uint32_t i = 0; i < c->chunks_n; i++)
			check(c->obj.complete || c->here[i] || c->at[i] >= off + len ||
			      c->at[i + 1] <= off || memory_get(w->f, &c->obj.key, i));
		return;
	}
	if (r == -ECANCELED)
		return;
	check(r == -EIO && err->text[0]);
	check(ms <= FETCH_READ_TIMEOUT_MS + 5000);
	if (w->faults == FAULTS_NONE || w->faults == FAULTS_LIAR || w->faults == FAULTS_FULL)
		fail_msg("seed %llu: %s", (unsigned long long)w->seed, err->text);
	if (w->faults == FAULTS_BROKEN)
		check(c->broken);
	if (w->faults == FAULTS_DOWN)
		check(w->down_to_ms - w->down_from_ms > FETCH_READ_TIMEOUT_MS / 2);
}

/* The bytes are the right ones, wherever they are. */
static void check_bytes(struct fake_content *c, uint64_t off, uint64_t len)
{
	uint8_t *got;
	int r;

	if (off >= c->size || c->broken || c->written)
		return; /* a content that was written whole has no file here */
	len = len < c->size - off ? len : c->size - off;
	got = malloc(len);
	check(got);
	r = fetch_copy(w->f, &c->obj, off, got, len);
	check(r == 0 || (r == -ECANCELED && task_cancelled()));
	check(r < 0 || memcmp(got, c->bytes + off, len) == 0);
	free(got);
}

static int reader(void *arg)
{
	struct reader *rd = arg;
	struct fake_content *c = w->contents[below(w->contents_n)];
	uint64_t pos = 0;
	struct object *obj;

	for (unsigned i = 5 + (unsigned)below(30); i > 0 && !task_cancelled(); i--) {
		uint64_t began, len;
		struct err err = ERR_INIT;
		int r;

		if (chance(100) && task_sleep_ms((unsigned)below(500)) < 0)
			break;
		if (pos >= c->size || chance(200)) {
			c = w->contents[below(w->contents_n)];
			pos = chance(500) ? 0 : below(c->size);
		}
		len = 1 + below(chance(300) ? MiB(1) : KiB(128));
		assert_int_equal(objects_get(NULL, c->obj.number, &obj, NULL), 0);
		began = now_ms();
		if (chance(700))
			fetch_follow(w->f, obj, pos);
		if (chance(100))
			r = fetch_foreseen(w->f, obj, pos, len, &err);
		else
			r = fetch_need(w->f, obj, pos, len, &err);
		check_read(c, pos, len, r, &err, now_ms() - began);
		if (w->faults == FAULTS_NONE && r == 0)
			check(now_ms() - began <= patience_ms(len));
		if (r == 0)
			check_bytes(c, pos, len);
		object_unref(NULL, obj);
		check(r != -ECANCELED || task_cancelled());
		pos += len;
	}
	rd->task = NULL;
	return 0;
}

/* Parts of blobs, anywhere. */
static void ask_early(void)
{
	for (unsigned i = (unsigned)below(30); i > 0; i--) {
		const struct fake_layer *l = w->layers[below(w->layers_n)];
		struct early_range r = {.ref = STR("host/a:1"), .blob = l->l.blob};

		if (!l->blob.len)
			continue;
		r.off = below(l->blob.len);
		r.len = 1 + below(l->blob.len - r.off);
		r.wanted = 1 + below(r.len);
		check(fetch_early(w->f, &r) == 0);
	}
}

struct filled {
	unsigned layers; /* bits */
};

static void layer_done(void *arg, uint32_t layer)
{
	struct filled *fd = arg;

	for (unsigned i = 0; i < w->layers[layer - 1]->objects_n; i++) {
		struct fake_content *c = content_by_key(&w->layers[layer - 1]->objects[i].key);

		check(c->obj.complete || c->written);
	}
	check(!(fd->layers & 1u << layer));
	fd->layers |= 1u << layer;
}

static void check_fills(struct filled *fd, unsigned asked)
{
	uint64_t limit = now_ms() + 3600ull * 1000 * 3;

	if (w->faults == FAULTS_BROKEN) {
		assert_int_equal(task_sleep_ms(100000), 0);
		return;
	}
	while (fd->layers != asked && now_ms() < limit)
		assert_int_equal(task_sleep_ms(1000), 0);
	check(fd->layers == asked);
}

static void check_once(void)
{
	for (unsigned i = 0; i < w->contents_n; i++) {
		for (uint32_t k = 0; k < w->contents[i]->chunks_n; k++)
			check(w->contents[i]->zeros[k] || w->contents[i]->puts[k] <= 1);
	}
}

static uint64_t unwritten; /* of all worlds */

static int simulate(void *arg)
{
	struct reader readers[12] = {0};
	unsigned n = 1 + (unsigned)below(array_size(readers)), asked = 0;
	bool hurry = chance(200), stop = chance(200);
	struct filled filled = {0};
	struct fetch_stats st;
	struct scope scope;
	uint64_t began;

	(void)arg;
	scope_init(&scope, w->loop);
	if (chance(500))
		ask_early();
	if (chance(500))
		task_sleep_ms((unsigned)below(1000));
	for (unsigned i = 0; i < n; i++) {
		readers[i].number = i;
		assert_int_equal(scope_spawn(&scope, reader, &readers[i], &readers[i].task), 0);
	}
	if (chance(500))
		task_sleep_ms((unsigned)below(1000));
	for (unsigned i = 1; i <= w->layers_n; i++) {
		if (chance(300))
			continue;
		asked |= 1u << i;
		assert_int_equal(fetch_fill(w->f, i, layer_done, &filled, NULL), 0);
		assert_int_equal(fetch_fill(w->f, i, layer_done, &filled, NULL), 0);
	}
	while (scope.count && (hurry || chance(900))) {
		struct reader *rd = &readers[below(n)];

		task_sleep_ms((unsigned)below(1000));
		if (rd->task && chance(200))
			task_cancel(rd->task);
		if (hurry && chance(300))
			scope_cancel(&scope);
	}
	scope_wait(&scope);
	scope_fini(&scope);
	fetch_stats(w->f, &st);
	check(st.waiting == 0);
	if (stop) {
		began = now_ms();
		for (unsigned i = 1; i <= w->layers_n; i++)
			fetch_fill_stop(w->f, i);
		check(now_ms() - began < 50);
	} else if (!hurry) {
		check_fills(&filled, asked);
	}
	began = now_ms();
	fetcher_free(w->f);
	check(now_ms() - began < 50);
	check_once();
	check(w->buffered_max <= FETCH_BUFFERED_MAX);
	unwritten += st.unwritten;
	check(st.bytes_blob > 0 || w->requests[FETCH_DEMAND] == 0 || w->faults != FAULTS_NONE);
	return 0;
}

static void run_seed(uint64_t seed, task_fn *fn)
{
	struct loop *loop;

	assert_int_equal(loop_new(&loop, NULL), 0);
	loop_use_virtual_time(loop, 1);
	world_new(seed, loop);
	assert_int_equal(loop_run(loop, fn, NULL), 0);
	world_free();
	loop_free(loop);
}

static void test_seeds(void **state)
{
	const char *one = getenv("FETCH_SEED");

	(void)state;
	if (one) {
		run_seed(strtoull(one, NULL, 10), simulate);
		return;
	}
	for (uint64_t seed = 1; seed <= SEEDS; seed++)
		run_seed(seed, simulate);
	assert_true(unwritten > 0);
}

/* --- contents that are read here and there
 * ---------------------------------------------------------- */

/* The longest content without holes. */
static struct fake_content *longest_content(void)
{
	struct fake_content *best = NULL;

	for (unsigned i = 0; i < w->contents_n; i++) {
		struct fake_content *c = w->contents[i];
		bool zeros = false;

		for (uint32_t k = 0; k < c->chunks_n; k++)
			zeros |= c->zeros[k];
		if (!zeros && (!best || c->chunks_n > best->chunks_n))
			best = c;
	}
	return best;
}

static uint32_t chunks_here(const struct fake_content *c)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->chunks_n; i++)
		n += c->here[i];
	return n;
}

/* As fs/fill_read.c: says where, reads a byte; then all that was asked for has come. */
static void read_chunk(struct fake_content *c, struct object *obj, uint32_t chunk)
{
	fetch_follow(w->f, obj, c->at[chunk]);
	assert_int_equal(fetch_foreseen(w->f, obj, c->at[chunk], 1, NULL), 0);
	assert_int_equal(task_sleep_ms(20000), 0);
}

#define FOLLOW_SEED 30 /* has such a content, and no faults */

static int follow_main(void *arg)
{
	struct fake_content *c = longest_content();
	struct object *obj;

	(void)arg;
	assert_int_equal(w->faults, FAULTS_NONE);
	assert_true(c && c->chunks_n >= 20);
	assert_int_equal(objects_get(NULL, c->obj.number, &obj, NULL), 0);
	read_chunk(c, obj, 0);
	read_chunk(c, obj, c->chunks_n - 1);
	assert_int_equal(chunks_here(c), 2); /* what every loader reads tells nothing */
	read_chunk(c, obj, 3);
	assert_true(chunks_here(c) == 4 && c->here[4]); /* as much again */
	read_chunk(c, obj, 6);
	assert_true(chunks_here(c) == 6 && c->here[7]);
	read_chunk(c, obj, 6);
	assert_int_equal(chunks_here(c), 6); /* nothing new */
	read_chunk(c, obj, 7);
	assert_true(chunks_here(c) == 8 && c->here[8] && c->here[9]); /* it was of use */
	read_chunk(c, obj, c->chunks_n - 3);
	assert_true(chunks_here(c) == 10 && c->here[c->chunks_n - 2]);
	read_chunk(c, obj, c->chunks_n - 2); /* nothing behind it: backwards */
	assert_true(chunks_here(c) == 12 && c->here[c->chunks_n - 4] && c->here[c->chunks_n - 5]);
	object_unref(NULL, obj);
	fetcher_free(w->f);
	check_once();
	return 0;
}

static void test_follow(void **state)
{
	(void)state;
	run_seed(FOLLOW_SEED, follow_main);
}

/* --- a registry that is dead
 * ------------------------------------------------------------------------ */

/* A read of content c: its result, and how long it took. */
static int timed_read(struct fake_content *c, uint64_t off, uint64_t len, uint64_t *ret_ms)
{
	uint64_t began = now_ms();
	struct err err = ERR_INIT;
	struct object *obj;
	int r;

	assert_int_equal(objects_get(NULL, c->obj.number, &obj, NULL), 0);
	r = fetch_need(w->f, obj, off, len, &err);
	object_unref(NULL, obj);
	*ret_ms = now_ms() - began;
	return r;
}

/* It waits to the end, or is answered at once. */
static void expect_read(struct fake_content *c, uint64_t off, uint64_t len, int result,
			uint64_t wanted_ms)
{
	uint64_t ms;

	assert_int_equal(timed_read(c, off, len, &ms), result);
	assert_in_range(ms, wanted_ms, wanted_ms + 10);
}

/* A content of several chunks, none of zeros, whose last chunk is here. */
static struct fake_content *content_of_chunks(void)
{
	for (unsigned i = 0; i < w->contents_n; i++) {
		struct fake_content *c = w->contents[i];
		bool zeros = false;

		for (uint32_t k = 0; k < c->chunks_n; k++)
			zeros |= c->zeros[k];
		if (c->chunks_n < 3 || zeros)
			continue;
		c->here[c->chunks_n - 1] = true;
		c->puts[c->chunks_n - 1] = 1;
		c->obj.chunks_here = 1;
		return c;
	}
	fail_msg("no such content in seed %llu", (unsigned long long)w->seed);
	return NULL;
}

static void check_line(const struct fake_content *c)
{
	char blob[DIGEST_TEXT_SIZE], start[256];

	digest_text(&w->layers[c->sources[0].layer - 1]->l.blob, blob);
	snprintf(start, sizeof(start),
		 "read failed object=%llu chunk=0 offset=0 layer=%s ref=host/a:1 "
		 "path=\"a\\\" error=\\\"%u\" error=\"not here after 60 s: ",
		 (unsigned long long)c->obj.number, blob, c->sources[0].index);
	read_failed[strlen(start)] = 0;
	assert_string_equal(read_failed, start);
}

struct patient {
	struct fake_content *c;
	int result;
	uint64_t ms;
};

static int read_patiently(void *arg)
{
	struct patient *p = arg;

	p->result = timed_read(p->c, 0, p->c->size, &p->ms);
	return 0;
}

static int dead_main(void *arg)
{
	struct fake_content *c = content_of_chunks();
	uint64_t last = c->at[c->chunks_n - 1];
	struct patient p = {.c = c}, q = {.c = c};
	struct scope s;

	(void)arg;
	assert_int_equal(w->faults, FAULTS_DOWN);
	w->down_from_ms = 0;
	w->down_to_ms = UINT64_MAX;
	scope_init(&s, w->loop);
	expect_read(c, 0, last, -EIO, FETCH_READ_TIMEOUT_MS);
	check_line(c);
	/* What the kernel asks for next, and what is here. */
	expect_read(c, 0, 1, -EIO, 0);
	expect_read(c, c->at[1], 1, -EIO, 0);
	expect_read(c, last, 1, 0, 0);
	task_sleep_ms(FETCH_FAILED_MS / 2);
	expect_read(c, 0, 1, -EIO, 0);
	/* Later it is waited for again. */
	task_sleep_ms(FETCH_FAILED_MS / 2);
	assert_int_equal(scope_spawn(&s, read_patiently, &p, NULL), 0);
	task_sleep_ms(FETCH_READ_TIMEOUT_MS / 2);
	assert_int_equal(scope_spawn(&s, read_patiently, &q, NULL), 0);
	task_sleep_ms(FETCH_READ_TIMEOUT_MS / 2 + 10);
	assert_int_equal(p.result, -EIO);
	assert_in_range(p.ms, FETCH_READ_TIMEOUT_MS, FETCH_READ_TIMEOUT_MS + 10);
	/* Who gives up does not disturb who has begun before. */
	expect_read(c, 0, 1, -EIO, 0);
	w->down_to_ms = now_ms();
	scope_wait(&s);
	assert_int_equal(q.result, 0);
	scope_fini(&s);
	fetcher_free(w->f);
	return 0;
}

static void test_dead_registry(void **state)
{
	(void)state;
	run_seed(33, dead_main);
}

/* --- answers that stand still
 * -------------------------------------------------------------------- */

#define CALM_SEED 30 /* no faults */

static uint64_t stall_at;

static int stall_main(void *arg)
{
	struct fake_content *c = longest_content();
	uint64_t ms;

	(void)arg;
	assert_int_equal(w->faults, FAULTS_NONE);
	w->stall_at = stall_at;
	assert_int_equal(timed_read(c, 0, 1, &ms), 0);
	assert_in_range(ms, FETCH_STALL_MS, FETCH_STALL_FIRST_MS + 1000);
	assert_int_equal(w->requests[FETCH_DEMAND], 2);
	/* What has come by both is here once; the first one ends by itself. */
	assert_int_equal(task_sleep_ms(2 * STALL_MS), 0);
	check_once();
	assert_int_equal(w->f->demands, 0);
	fetcher_free(w->f);
	return 0;
}

/* Reads wait for a transfer of the background that stands still. */
static int background_stall_main(void *arg)
{
	const struct fake_layer *l = w->layers[longest_content()->sources[0].layer - 1];
	struct filled filled = {0};
	uint64_t ms, most = 0;

	(void)arg;
	w->bytes_per_ms = 1000;
	assert_int_equal(fetch_fill(w->f, l->l.id, layer_done, &filled, NULL), 0);
	while (!w->requests[FETCH_BACKGROUND]) {
		w->stall_at = KiB(65);
		assert_int_equal(task_sleep_ms(1), 0);
	}
	w->stall_at = 0;
	assert_int_equal(task_sleep_ms(2000), 0);
	for (uint32_t i = 0; i < l->objects_n; i++) {
		struct fake_content *c = content_by_key(&l->objects[i].key);

		assert_int_equal(timed_read(c, 0, c->size, &ms), 0);
		most = ms > most ? ms : most;
	}
	assert_in_range(most, FETCH_STALL_MS, STALL_MS / 2);
	fetcher_free(w->f);
	check_once();
	return 0;
}

static void test_stall(void **state)
{
	(void)state;
	run_seed(CALM_SEED, background_stall_main);
	stall_at = 1; /* before the first byte */
	run_seed(CALM_SEED, stall_main);
	stall_at = KiB(65); /* in the middle */
	run_seed(CALM_SEED, stall_main);
}

/* --- what is foreseen
 * ---------------------------------------------------------------------------- */

struct foreseen {
	struct fake_content *c;
	uint32_t chunk;
	int result;
	uint64_t done_ms;
};

static int foresee(void *arg)
{
	struct foreseen *fs = arg;
	struct object *obj;

	assert_int_equal(objects_get(NULL, fs->c->obj.number, &obj, NULL), 0);
	fetch_gather(w->f, false);
	fs->result = fetch_foreseen(w->f, obj, fs->c->at[fs->chunk], 1, NULL);
	fs->done_ms = now_ms();
	object_unref(NULL, obj);
	return 0;
}

/* All chunks of a content, each for itself and in any order: few requests, of their own class; and
 * a read of the last goes first. */
static int foreseen_main(void *arg)
{
	struct fake_content *c = longest_content();
	struct foreseen all[64] = {0};
	uint32_t n = c->chunks_n < array_size(all) ? c->chunks_n : array_size(all), after = 0;
	struct scope s;
	uint64_t ms;

	(void)arg;
	assert_true(n >= 20);
	w->bytes_per_ms = 500; /* slow: what goes first is seen */
	scope_init(&s, w->loop);
	for (uint32_t i = 0; i < n; i++) {
		all[i] = (struct foreseen){.c = c, .chunk = i};
		fetch_gather(w->f, true);
		assert_int_equal(scope_spawn(&s, foresee, &all[i], NULL), 0);
	}
	assert_int_equal(task_sleep_ms(1), 0);
	assert_int_equal(timed_read(c, c->at[n - 1], 1, &ms), 0);
	for (uint32_t i = 0; i < n; i++)
		after += !all[i].done_ms;
	scope_wait(&s);
	scope_fini(&s);
	for (uint32_t i = 0; i < n; i++)
		assert_int_equal(all[i].result, 0);
	assert_in_range(w->requests[FETCH_PREDICTED], 1, n / 2);
	assert_int_equal(w->f->predictions, 0);
	assert_int_equal(w->f->awaited, 0);
	assert_true(after > 0);
	check_once();
	fetcher_free(w->f);
	return 0;
}

/* Who gathers for ever holds nobody up for long. */
static int gather_main(void *arg)
{
	struct fake_content *c = longest_content();
	struct foreseen fs = {.c = c};
	uint64_t began = now_ms();

	(void)arg;
	fetch_gather(w->f, true); /* never given back */
	fetch_gather(w->f, true);
	foresee(&fs);
	assert_int_equal(fs.result, 0);
	assert_in_range(now_ms() - began, FETCH_GATHER_MS, FETCH_GATHER_MS + 10000);
	fetch_gather(w->f, false);
	fetcher_free(w->f);
	return 0;
}

static void test_foreseen(void **state)
{
	(void)state;
	run_seed(CALM_SEED, foreseen_main);
	run_seed(CALM_SEED, gather_main);
}

/* --- the bound of compressed bytes
 * ---------------------------------------------------------------- */

struct taker {
	size_t n;
	enum fetch_class class;
	int result;
	bool got;
};

static int take_room(void *arg)
{
	struct taker *t = arg;

	t->result = room_take(w->f, t->n, t->class);
	t->got = t->result == 0;
	return 0;
}

static int room_main(void *arg)
{
	struct taker a = {.n = FETCH_BUFFERED_MAX / 2, .class = FETCH_BACKGROUND}, b = a;
	struct taker c = {.n = FETCH_BUFFERED_MAX / 2, .class = FETCH_DEMAND};
	struct taker d = {.n = 2 * FETCH_BUFFERED_MAX, .class = FETCH_DEMAND};
	struct task *last;
	struct scope s;

	(void)arg;
	scope_init(&s, w->loop);
	assert_int_equal(scope_spawn(&s, take_room, &a, NULL), 0);
	assert_int_equal(scope_spawn(&s, take_room, &b, &last), 0);
	assert_int_equal(scope_spawn(&s, take_room, &c, NULL), 0);
	task_sleep_ms(1);
	assert_true(a.got && !b.got && c.got); /* half is for demand */
	assert_int_equal(scope_spawn(&s, take_room, &d, NULL), 0);
	task_sleep_ms(1);
	room_give(w->f, a.n);
	task_sleep_ms(1);
	assert_false(b.got || d.got); /* the large one waits for all, demand first */
	task_cancel(last);
	room_give(w->f, c.n);
	task_sleep_ms(1);
	assert_true(d.got);
	assert_int_equal(b.result, -ECANCELED);
	room_give(w->f, d.n);
	scope_wait(&s);
	scope_fini(&s);
	fetcher_free(w->f);
	return 0;
}

static void test_room(void **state)
{
	struct loop *loop;

	(void)state;
	assert_int_equal(loop_new(&loop, NULL), 0);
	loop_use_virtual_time(loop, 1);
	world_new(1, loop);
	assert_int_equal(loop_run(loop, room_main, NULL), 0);
	world_free();
	loop_free(loop);
}

/* --- what the disk does not take
 * ---------------------------------------------------------------- */

static int memory_main(void *arg)
{
	const uint32_t size = FETCH_MEMORY_MAX / 4;
	struct flight_name name = {.chunk = 0};

	(void)arg;
	for (; name.chunk < 5; name.chunk++) {
		uint8_t *bytes = malloc(size);

		assert_non_null(bytes);
		bytes[0] = (uint8_t)name.chunk;
		assert_int_equal(memory_keep(w->f, &name, bytes, size), 0);
		assert_true(w->f->kept_bytes <= FETCH_MEMORY_MAX);
		if (name.chunk >= 3) /* used: not the oldest */
			assert_non_null(memory_get(w->f, &name.key, 1));
	}
	assert_null(memory_get(w->f, &name.key, 0));
	assert_int_equal(memory_get(w->f, &name.key, 4)[0], 4);
	assert_int_equal(memory_keep(w->f, &name, malloc(1), FETCH_MEMORY_MAX + 1), -ENOMEM);
	memory_drop(w->f, &name.key, 4);
	assert_null(memory_get(w->f, &name.key, 4));
	task_sleep_ms(FETCH_MEMORY_IDLE_MS / 2);
	assert_non_null(memory_get(w->f, &name.key, 1));
	task_sleep_ms(FETCH_MEMORY_IDLE_MS / 2 + 10);
	assert_int_equal(w->f->kept.count, 1);
	assert_int_equal(w->f->kept_bytes, size);
	fetcher_free(w->f);
	return 0;
}

static void test_memory(void **state)
{
	(void)state;
	run_seed(1, memory_main);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_room),          cmocka_unit_test(test_memory),
		cmocka_unit_test(test_dead_registry), cmocka_unit_test(test_follow),
		cmocka_unit_test(test_stall),         cmocka_unit_test(test_foreseen),
		cmocka_unit_test(test_seeds),
	};

	prctl(PR_SET_TIMERSLACK, 1);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
