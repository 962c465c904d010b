// SPDX-License-Identifier: Apache-2.0
/* Which chunks go into one request, and the window of reading ahead. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdlib.h>

#include "base/limits.h"
#include "image/fetch_plan.h"

static void plan(struct plan_chunk *c, size_t n, size_t seed, uint64_t ahead)
{
	const struct plan_limits limits = {
		.ahead = ahead, .max = FETCH_REQUEST_MAX, .gap = FETCH_GAP_MAX};

	plan_request(c, n, seed, &limits);
}

static struct plan_chunk at(uint64_t off, uint64_t len, bool want)
{
	return (struct plan_chunk){.off = off, .len = len, .size = len, .want = want};
}

static unsigned taken(const struct plan_chunk *c, size_t n)
{
	unsigned bits = 0;

	for (size_t i = 0; i < n; i++)
		bits |= (unsigned)c[i].take << i;
	return bits;
}

static void test_gaps(void **state)
{
	struct plan_chunk c[] = {at(0, 100, true), at(100 + FETCH_GAP_MAX, 100, true),
				 at(201 + 2 * FETCH_GAP_MAX, 100, true)};

	(void)state;
	plan(c, 3, 1, 0);
	assert_int_equal(taken(c, 3), 3);
	plan(c, 3, 2, 0);
	assert_int_equal(taken(c, 3), 4);
	plan(c, 3, 0, 0);
	assert_int_equal(taken(c, 3), 3);
}

static void test_neighbours_up_to_the_window(void **state)
{
	struct plan_chunk c[] = {at(0, 100, false),  at(100, 100, true),  at(200, 100, false),
				 at(300, 100, true), at(400, 100, false), at(500, 100, false)};

	(void)state;
	plan(c, 6, 1, 0);
	assert_int_equal(taken(c, 6), 2 | 8); /* none comes along, none before */
	plan(c, 6, 1, 100);
	assert_int_equal(taken(c, 6), 2 | 4 | 8 | 16);
	plan(c, 6, 3, 1000);
	assert_int_equal(taken(c, 6), 2 | 8 | 16 | 32);
}

static void test_request_max(void **state)
{
	struct plan_chunk c[] = {at(0, FETCH_REQUEST_MAX - 10, true),
				 at(FETCH_REQUEST_MAX - 10, 10, true),
				 at(FETCH_REQUEST_MAX, 1, true),
				 at(FETCH_REQUEST_MAX + 1, 2 * FETCH_REQUEST_MAX, true)};

	(void)state;
	plan(c, 4, 0, MiB(64));
	assert_int_equal(taken(c, 4), 3);
	plan(c, 4, 3, 0);
	assert_int_equal(taken(c, 4), 8); /* alone, however large */
}

static void test_one_stream(void **state)
{
	struct plan_chunk c[] = {
		{.off = 0, .len = 1000, .inner = 0, .size = 50, .want = true},
		{.off = 0, .len = 1000, .inner = 40, .size = 50, .want = true},
		{.off = 0, .len = 1000, .inner = 50, .size = 50, .want = true},
		{.off = 0, .len = 1000, .inner = 50, .size = 50, .want = false},
	};

	(void)state;
	plan(c, 4, 0, 1000);
	assert_int_equal(taken(c, 4), 1 | 4); /* what overlaps is for another pass */
	plan(c, 4, 1, 1000);
	assert_int_equal(taken(c, 4), 2);
	plan(c, 4, 2, 1000);
	assert_int_equal(taken(c, 4), 4 | 1);
}

static void test_many_chunks(void **state)
{
	size_t n = 3 * FETCH_PARTS_MAX, count = 0;
	struct plan_chunk *c = calloc(n, sizeof(*c));

	(void)state;
	assert_non_null(c);
	for (size_t i = 0; i < n; i++)
		c[i] = at(i, 1, true);
	plan(c, n, n / 2, 0);
	for (size_t i = 0; i < n; i++)
		count += c[i].take;
	assert_int_equal(count, FETCH_PARTS_MAX);
	free(c);
}

/* Whatever the index says: the seed is taken, and the bounds hold. */
static void test_random(void **state)
{
	(void)state;
	srandom(7);
	for (int round = 0; round < 3000; round++) {
		struct plan_chunk c[40];
		size_t n = 1 + (size_t)random() % 40, seed = 0;
		uint64_t bytes = 0, lo = UINT64_MAX, hi = 0;

		for (size_t i = 0; i < n; i++)
			c[i] = (struct plan_chunk){.off = (uint64_t)random() % MiB(8),
						   .len = 1 + (uint64_t)random() % MiB(1),
						   .inner = (uint64_t)random() % 100,
						   .size = 1 + (uint64_t)random() % 100,
						   .want = random() % 2};
		plan_sort(c, n);
		seed = (size_t)random() % n;
		c[seed].want = true;
		plan(c, n, seed, (uint64_t)random() % MiB(4));
		assert_true(c[seed].take);
		for (size_t i = 0; i < n; i++) {
			if (!c[i].take)
				continue;
			bytes += c[i].len;
			lo = c[i].off < lo ? c[i].off : lo;
			hi = c[i].off + c[i].len > hi ? c[i].off + c[i].len : hi;
		}
		assert_true(hi - lo <= FETCH_REQUEST_MAX);
		assert_true(bytes <= FETCH_REQUEST_MAX);
	}
}

static void test_stream_len(void **state)
{
	(void)state;
	assert_int_equal(plan_stream_len(100, 1000), 100);
	assert_true(plan_stream_len(UINT64_MAX, 1000) < MiB(1));
	assert_true(plan_stream_len(UINT64_MAX, MiB(64)) >= MiB(65));
}

static void test_window_grows_with_use(void **state)
{
	struct readahead ra;

	(void)state;
	readahead_init(&ra, 1);
	assert_int_equal(readahead_miss(&ra, 0, KiB(100)), KiB(100));
	for (uint64_t i = 0; i < 40; i++) {
		readahead_brought(&ra, i * MiB(100), i * MiB(100) + 1000);
		readahead_touch(&ra, i * MiB(100) + 10);
	}
	assert_int_equal(readahead_miss(&ra, 0, KiB(100)), FETCH_REQUEST_MAX);
	assert_true(readahead_miss(&ra, 0, KiB(64)) <= FETCH_REQUEST_MAX);
}

static void test_window_grows_in_sequence(void **state)
{
	struct readahead ra;

	(void)state;
	readahead_init(&ra, 1);
	readahead_brought(&ra, 100, 1000);
	assert_int_equal(readahead_miss(&ra, 1000, KiB(100)), KiB(200));
	assert_int_equal(readahead_miss(&ra, 1000, KiB(100)), KiB(200)); /* once */
}

static void test_window_shrinks_without_use(void **state)
{
	struct readahead ra;

	(void)state;
	readahead_init(&ra, 1);
	for (uint64_t i = 0; i < 40; i++) {
		readahead_miss(&ra, i * MiB(100), KiB(100));
		readahead_brought(&ra, i * MiB(100), i * MiB(100) + 1000);
	}
	assert_int_equal(readahead_miss(&ra, 0, KiB(100)), KiB(50));
}

/* --- the link --- */

static void test_link_unknown(void **state)
{
	struct link_seen l = {0};

	(void)state;
	assert_int_equal(link_trip(&l), FETCH_TRIP_START);
	link_saw(&l, 50000000, 1000, 10);
	assert_int_equal(link_trip(&l), FETCH_TRIP_START); /* too little to tell a rate */
	link_saw(&l, 50000000, MiB(1), 0);
	assert_int_equal(link_trip(&l), FETCH_TRIP_START);
}

static void test_link_measured(void **state)
{
	struct link_seen l = {0};

	(void)state;
	for (int i = 0; i < 3; i++)
		link_saw(&l, 50000000, 1000000, 100000000); /* 50 ms, 10 MB/s */
	assert_int_equal(link_trip(&l), 500000);
	link_saw(&l, 90000000, 1000000, 400000000); /* shared */
	assert_in_range(link_trip(&l), 450000, 550000);
	for (int i = 0; i < 200; i++)
		link_saw(&l, 1000000, 1000000, 10000000); /* another link: 1 ms, 100 MB/s */
	assert_int_equal(link_trip(&l), 100000);
}

static void test_link_limits(void **state)
{
	struct link_seen l = {0};

	(void)state;
	link_saw(&l, UINT64_MAX, UINT64_MAX / 1000000000, 1);
	assert_int_equal(link_trip(&l), FETCH_TRIP_MAX);
	l = (struct link_seen){0};
	link_saw(&l, 1000, FETCH_RATE_BYTES_MIN, 1000000000);
	assert_int_equal(link_trip(&l), FETCH_TRIP_MIN);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_gaps),
		cmocka_unit_test(test_neighbours_up_to_the_window),
		cmocka_unit_test(test_request_max),
		cmocka_unit_test(test_one_stream),
		cmocka_unit_test(test_many_chunks),
		cmocka_unit_test(test_random),
		cmocka_unit_test(test_stream_len),
		cmocka_unit_test(test_window_grows_with_use),
		cmocka_unit_test(test_window_grows_in_sequence),
		cmocka_unit_test(test_window_shrinks_without_use),
		cmocka_unit_test(test_link_unknown),
		cmocka_unit_test(test_link_measured),
		cmocka_unit_test(test_link_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
