// SPDX-License-Identifier: Apache-2.0
/* Predictions in small worlds: what is asked for, in which order, how far ahead, and what is learnt
 * from what is used. */
#include "predictor_fixture.h"

/* --- order ------------------------------------------------------------------------------------ */

static void test_order(void **state)
{
	static const struct said said[] = {
		{"/bin/p", 0, 2, 0},  {"/lib/c", 0, 1, 50}, {"/lib/c", 1, 3, 90},
		{"/etc/x", 0, 1, 95}, {"/lib/c", 9, 1, 97}, {"/bin/p", 2, 1, 200},
	};
	struct profile profile = built(said);
	struct predict_options o = defaults();

	(void)state;
	start(&profile, &o);
	/* Neighbours come along; nothing twice. */
	assert_string_equal(asked(), "/bin/p 0+3, /lib/c 0+4, /etc/x 0+1, /lib/c 9+1");
	assert_string_equal(asked(), "");
	assert_int_equal(stats().requests, 4);
	assert_int_equal(stats().asked.units, 9);
	assert_false(stats().begun);
}

static void test_order_join_backwards(void **state)
{
	static const struct said said[] = {{"/a", 5, 1, 0}, {"/a", 4, 1, 50}, {"/a", 6, 1, 90}};
	struct profile profile = built(said);
	struct predict_options o = defaults();

	(void)state;
	start(&profile, &o);
	assert_string_equal(asked(), "/a 4+3");
}

/* A neighbour that is used much later does not come along. */
static void test_order_join_near(void **state)
{
	struct said said[PREDICT_JOIN_UNITS + 3];
	struct predict_options o = defaults();
	struct profile profile;
	size_t n = 0;

	(void)state;
	said[n++] = (struct said){"/a", 0, 1, 0};
	for (; n < array_size(said) - 1; n++)
		said[n] = (struct said){arena_printf(&arena, "/%zu", n), 0, 1, (uint32_t)n};
	said[n++] = (struct said){"/a", 1, 1, 1000};
	profile = build(said, n, true);
	o.rate = 100000000;
	start(&profile, &o);
	assert_int_equal(next(), 64);
	assert_int_equal(out[0].len, UNIT);
	assert_string_equal(asked(), "/64 0+1, /65 0+1, /a 1+1");
}

static void test_order_range_max(void **state)
{
	static const struct said said[] = {{"/a", 3, 100, 0}};
	struct profile profile = built(said);
	struct predict_options o = defaults();

	(void)state;
	o.rate = 100000000;
	start(&profile, &o);
	assert_string_equal(asked(), "/a 3+32, /a 35+32, /a 67+32, /a 99+4");
}

static void test_not_likely(void **state)
{
	static const struct said x[] = {{"/p", 0, 1, 0}, {"/x", 0, 1, 10}};
	static const struct said y[] = {{"/p", 0, 1, 0}, {"/y", 0, 1, 10}};
	struct profile a = built(x), b = built(y), profile = a;
	struct predict_options o = defaults();

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		profile = merge(&profile, &a);
	profile = merge(&profile, &b);
	start(&profile, &o);
	assert_string_equal(asked(), "/p 0+1, /x 0+1"); /* of /y it is 1/4 */
	use("/y", 0);
	assert_int_equal(stats().unforeseen.units, 1);
}

/* --- a start that repeats the profile --------------------------------------------------------- */

static void test_repeat(void **state)
{
	struct profile profile = many(40, 2);
	struct predict_options o = defaults();
	uint64_t last = 0;
	size_t n, total = 0;

	(void)state;
	start(&profile, &o);
	while ((n = next()) > 0) { /* before the container begins: to the end */
		for (size_t i = 0; i < n; i++) {
			assert_true(out[i].object >= last);
			last = out[i].object;
			assert_int_equal(out[i].len, 2 * UNIT);
		}
		total += n;
		assert_true(stats().flight.bytes <= stats().window);
		now += 50 * MS;
		arrive_all(n);
	}
	assert_int_equal(total, 40);
	predictor_exec(p, STR("/usr/bin/redis"), now);
	for (uint32_t i = 0; i < 40; i++) {
		now += MS;
		predictor_seen(p, object_of(nth(i)), 0, 2, now);
		assert_int_equal(next(), 0);
		assert_int_equal(stats().position, 2 * (i + 1));
	}
	assert_int_equal(stats().hits.units, 80);
	assert_int_equal(stats().right.units, 80);
	assert_int_equal(stats().precision, 100);
	assert_int_equal(stats().recall, 100);
	assert_int_equal(stats().late.units + stats().missed.units + stats().unforeseen.units, 0);
	use(nth(3), 0); /* again: is not counted */
	assert_int_equal(stats().hits.units, 80);
}

/* Once it runs, no more than the window lies ahead, and the link is kept busy. */
static void test_window(void **state)
{
	struct profile profile = many(500, 4);
	struct predict_options o = defaults();
	uint32_t arrived = 0;

	(void)state;
	o.ahead_max = MiB(4);
	start(&profile, &o);
	predictor_exec(p, STR("/usr/bin/redis"), now);
	for (uint32_t i = 0; i < 500; i++) {
		size_t n;

		while ((n = next()) > 0) {
			struct predict_stats s = stats();

			assert_true(s.flight.bytes + s.unused.bytes <= MiB(4));
			now += 20 * MS;
			arrive_all(n);
			arrived += (uint32_t)n;
		}
		assert_true(arrived >= i + 1 && arrived <= i + 9);
		assert_true(arrived == 500 || stats().unused.bytes >= MiB(3));
		predictor_seen(p, object_of(nth(i)), 0, 4, now);
	}
	assert_int_equal(stats().hits.units, 2000);
	assert_int_equal(stats().precision, 100);
}

/* A quarter of the window is free before more is asked for. */
static void test_window_not_by_drops(void **state)
{
	struct profile profile = many(20, 1);
	struct predict_options o = defaults();

	(void)state;
	o.ahead_min = o.ahead_max = 8 * UNIT;
	start(&profile, &o);
	predictor_exec(p, STR("/usr/bin/redis"), now);
	assert_int_equal(next(), 8);
	arrive_all(8);
	use(nth(0), 0);
	assert_int_equal(next(), 0);
	use(nth(1), 0);
	assert_string_equal(asked(), "/0008 0+1, /0009 0+1");
}

/* The window is what the link has shown that it delivers. */
static void test_rate(void **state)
{
	struct profile profile = many(500, 8);
	struct predict_options o = {.rtt_ns = 50 * MS};
	uint64_t busy = 0;

	(void)state;
	start(&profile, &o);
	assert_int_equal(stats().rate, PREDICT_RATE_START);
	assert_int_equal(stats().window, PREDICT_AHEAD_MAX); /* nothing has begun */
	for (unsigned round = 0; round < 12; round++) {
		size_t n = next();

		now += 50 * MS;
		for (size_t i = 0; i < n; i++) {
			now += out[i].len * 1000000000 / 40000000; /* 40 MB/s */
			busy += out[i].len;
			predictor_arrived(p, out[i].object, out[i].off, out[i].len, now);
		}
		now += 3000 * MS; /* and nothing to do */
	}
	assert_true(busy > MiB(100));
	assert_in_range(stats().rate, 39000000, 41000000);
	predictor_exec(p, STR("/usr/bin/redis"), now);
	assert_in_range(stats().window, 39000000, 41000000);
}

static void test_slow_link(void **state)
{
	struct profile profile = many(20, 1);
	struct predict_options o = defaults();
	size_t n;

	(void)state;
	o.rate = 1000000;
	start(&profile, &o);
	predictor_exec(p, STR("/usr/bin/redis"), now);
	n = next();
	assert_int_equal(n, 16); /* 2 MiB */
	predictor_arrived(p, out[0].object, out[0].off, out[0].len, now += 5 * MS);
	for (uint32_t i = 0; i < 20; i++)
		use(nth(i), 0);
	assert_int_equal(stats().hits.units, 1);
	assert_int_equal(stats().late.units, 15);
	assert_int_equal(stats().missed.units, 4);
	assert_int_equal(stats().recall, 100);
	now += 100 * MS;
	arrive_all(n);
	assert_int_equal(stats().right.units, 16);
	assert_int_equal(stats().precision, 100);
	assert_int_equal(next(), 0); /* the rest was read without us */
}

static void test_failed(void **state)
{
	struct profile profile = many(3, 1);
	struct predict_options o = defaults();

	(void)state;
	start(&profile, &o);
	assert_int_equal(next(), 3);
	predictor_failed(p, out[1].object, out[1].off, out[1].len);
	predictor_arrived(p, out[1].object, out[1].off, out[1].len, now);
	predictor_arrived(p, 77, 0, MiB(1), now);
	assert_int_equal(next(), 0);
	assert_int_equal(stats().failed.units, 1);
	assert_int_equal(stats().flight.units, 2);
	use(nth(1), 0);
	assert_int_equal(stats().missed.units, 1);
}

/* In parts, as chunks come: units are here when they are here as a whole. */
static void test_parts(void **state)
{
	static const struct said said[] = {{"/a", 0, 3, 0}};
	struct profile profile = built(said);
	struct predict_options o = defaults();

	(void)state;
	open_with(&o);
	assert_int_equal(predictor_add(p, &profile), 0);
	predictor_resolve(p, 0, OBJECTS, 2 * UNIT + 10);
	assert_int_equal(next(), 1);
	assert_int_equal(out[0].len, 2 * UNIT + 10);
	predictor_arrived(p, OBJECTS, 0, UNIT + 5, now);
	assert_int_equal(stats().unused.units, 1);
	predictor_arrived(p, OBJECTS, UNIT + 5, UNIT + 5, now); /* ends with the object */
	assert_int_equal(stats().unused.units, 2);
	predictor_arrived(p, OBJECTS, UNIT, UNIT, now);
	assert_int_equal(stats().unused.units, 3);
	assert_int_equal(stats().unused.bytes, 2 * UNIT + 10);
}

/* --- a start that does something else --------------------------------------------------------- */

/* Nothing of the profile is read: one window is wasted, then no more. */
static void test_other_program(void **state)
{
	struct profile profile = many(500, 4);
	struct predict_options o = defaults();
	struct predict_stats s;

	(void)state;
	o.ahead_max = MiB(8);
	start(&profile, &o);
	predictor_exec(p, profile.executable, now); /* it does what it has never done */
	for (uint32_t i = 0; i < 200; i++) {
		arrive_all(next());
		now += 50 * MS;
		predictor_seen(p, 5, i, 1, now);
	}
	s = stats();
	assert_true(s.asked.bytes <= MiB(8));
	assert_int_equal(s.wrong.bytes, s.asked.bytes);
	assert_true(s.stopped);
	assert_int_equal(s.precision, 0);
	assert_int_equal(s.unforeseen.units, 200);
	assert_int_equal(s.recall, 0);
}

/* Every twentieth file is read: it is stopped soon, and a use puts right what was said of it. */
static void test_mostly_wrong(void **state)
{
	struct profile profile = many(2000, 1);
	struct predict_options o = defaults();
	struct predict_stats s;
	uint32_t i, fetched = 0;

	(void)state;
	start(&profile, &o);
	predictor_exec(p, STR("/usr/bin/redis"), now);
	for (i = 0; i < 2000; i += 20) {
		size_t n = next();

		arrive_all(n);
		fetched += (uint32_t)n;
		now += 5 * MS;
		use(nth(i), 0);
		if (stats().stopped)
			break;
	}
	s = stats();
	assert_true(s.stopped);
	assert_in_range(s.precision, 4, 49);
	assert_in_range(i, 2, 300);
	assert_true(s.asked.bytes <=
		    PREDICT_JUDGE_BYTES + s.window + (PREDICT_BEHIND_UNITS + 1) * UNIT);
	assert_int_equal(next(), 0);
	for (i = 0; i < fetched; i++)
		use(nth(i), 0);
	assert_false(stats().stopped);
	assert_int_equal(stats().wrong.units, 0);
	assert_true(next() > 0);
}

/* What is here and not used is judged by time, but not before its own time has come. */
static void test_judged_in_time(void **state)
{
	static const struct said said[] = {{"/now", 0, 1, 0}, {"/later", 0, 1, 10000}};
	struct profile profile = built(said);
	struct predict_options o = defaults();

	(void)state;
	start(&profile, &o);
	arrive_all(next());
	now = 60000 * MS; /* the container does not begin yet */
	next();
	assert_int_equal(stats().unused.units, 2);
	predictor_exec(p, STR("/usr/bin/redis"), now);
	now += 2001 * MS;
	next();
	assert_int_equal(stats().wrong.units, 1);
	now += 15000 * MS;
	next();
	assert_int_equal(stats().wrong.units, 1);
	now += 7000 * MS;
	next();
	assert_int_equal(stats().wrong.units, 2);
	use("/later", 0);
	assert_int_equal(stats().wrong.units, 1);
	assert_int_equal(stats().right.units, 1);
	assert_int_equal(stats().hits.units, 1);
}

/* What the position has passed is late already. */
static void test_judged_passed(void **state)
{
	static const struct said said[] = {{"/a", 0, 1, 9000}, {"/b", 0, 1, 10000}};
	struct profile profile = built(said);
	struct predict_options o = defaults();

	(void)state;
	start(&profile, &o);
	arrive_all(next());
	predictor_exec(p, STR("/usr/bin/redis"), now);
	use("/b", 0);
	now += 1999 * MS;
	next();
	assert_int_equal(stats().wrong.units, 0);
	now += 1 * MS;
	next();
	assert_int_equal(stats().wrong.units, 1);
}

/* --- the position ----------------------------------------------------------------------------- */

static void test_position(void **state)
{
	struct profile profile = many(400, 1);
	struct predict_options o = defaults();

	(void)state;
	start(&profile, &o);
	predictor_exec(p, STR("/usr/bin/redis"), now);
	use(nth(0), 0);
	assert_int_equal(stats().position, 1);
	use(nth(300), 0); /* once is nothing */
	use(nth(1), 0);
	assert_int_equal(stats().position, 2);
	use(nth(310), 0);
	use(nth(311), 0);
	use(nth(312), 0);
	assert_int_equal(stats().position, 2);
	use(nth(313), 0);
	assert_int_equal(stats().position, 311);
	use(nth(314), 0);
	assert_int_equal(stats().position, 315);
	use(nth(7), 0);
	assert_int_equal(stats().position, 315);
}

/* What was passed comes after what is ahead. */
static void test_skipped(void **state)
{
	struct profile profile = many(20, 1);
	struct predict_options o = defaults();

	(void)state;
	o.ahead_min = o.ahead_max = 4 * UNIT;
	start(&profile, &o);
	predictor_exec(p, STR("/usr/bin/redis"), now);
	use(nth(13), 0);
	assert_int_equal(stats().position, 14);
	assert_string_equal(asked(), "/0014 0+1, /0015 0+1, /0016 0+1, /0017 0+1");
	arrive_all(4);
	for (uint32_t i = 14; i < 18; i++)
		use(nth(i), 0);
	assert_string_equal(asked(), "/0018 0+1, /0019 0+1, /0000 0+1, /0001 0+1");
	arrive_all(4);
	use(nth(0), 0);
	use(nth(19), 0); /* all are behind now, and do not count */
	assert_string_equal(asked(), "/0002 0+1, /0003 0+1, /0004 0+1, /0005 0+1");
}

/* --- what is local ---------------------------------------------------------------------------- */

/* arg: objects below that are here. */
static bool below(void *arg, uint64_t object, uint64_t off, uint64_t len)
{
	assert_true(off + len <= MiB(1024));
	return object < OBJECTS + *(uint64_t *)arg;
}

static void test_local(void **state)
{
	struct profile profile = many(40, 8);
	struct predict_options o = defaults();
	uint64_t here = 1000, bytes = 0, n;

	(void)state;
	o.here = below;
	o.arg = &here;
	o.page_ahead = MiB(4);
	start(&profile, &o);
	for (uint32_t i = 0; i < 40; i++) {
		n = next();
		for (size_t k = 0; k < n; k++) {
			assert_int_equal(out[k].level, PREDICT_PAGE);
			bytes += out[k].len;
		}
		assert_true(bytes <= i * MiB(1) + MiB(4));
		predictor_seen(p, object_of(nth(i)), 0, 8, now);
	}
	assert_int_equal(bytes, MiB(40));
	assert_int_equal(stats().paged.bytes, MiB(40));
	assert_int_equal(stats().asked.units, 0);
	assert_int_equal(stats().local.bytes, MiB(40));
	assert_int_equal(stats().recall, 100);
	assert_false(stats().stopped);
}

static void test_local_no_pages(void **state)
{
	struct profile profile = many(40, 8);
	struct predict_options o = defaults();
	uint64_t here = 1000;

	(void)state;
	o.here = below;
	o.arg = &here;
	start(&profile, &o);
	assert_int_equal(next(), 0);
	use(nth(0), 0);
	assert_int_equal(stats().local.units, 1);
}

/* What is missing is looked for beyond what is only cold. */
static void test_local_partly(void **state)
{
	struct profile profile = many(8, 8);
	struct predict_options o = defaults();
	uint64_t here = 6;

	(void)state;
	o.here = below;
	o.arg = &here;
	o.page_ahead = MiB(2);
	start(&profile, &o);
	assert_string_equal(asked(), "/0006 0+8, /0007 0+8, page /0000 0+8, page /0001 0+8");
	use(nth(0), 0);
	assert_string_equal(asked(), "page /0002 0+1");
}

/* --- bounds ----------------------------------------------------------------------------------- */

/* As much as a profile can be, several times, and a program that jumps about. */
static void test_hostile(void **state)
{
	struct said *said = arena_alloc(&arena, PROFILE_USES_MAX * sizeof(*said));
	struct predict_options o = defaults();
	struct profile profile;
	uint32_t random = 1;

	(void)state;
	open_with(&o);
	for (unsigned k = 0; k < PREDICT_PROFILES_MAX; k++) {
		for (uint32_t i = 0; i < PROFILE_USES_MAX; i++)
			said[i] = (struct said){arena_printf(&arena, "/%u/%u", k, i),
						k ? i : PROFILE_UNIT_END - 8, 8, i};
		profile = build(said, PROFILE_USES_MAX, true);
		profile.starts = k ? 1 : UINT32_MAX;
		profile.executable = str_of(arena_printf(&arena, "/bin/%u", k));
		assert_int_equal(predictor_add(p, &profile), 0);
	}
	for (size_t i = 0; i < predictor_files(p); i++)
		predictor_resolve(p, i, i % 3 ? OBJECTS + i % 1000 : UINT64_MAX,
				  i % 5 ? OBJECT_SIZE_MAX : i);
	assert_in_range(stats().places, PREDICT_UNITS_MAX / 2, PREDICT_UNITS_MAX);
	for (unsigned round = 0; round < 1500; round++) {
		size_t n = next();

		random = random * 1664525 + 1013904223;
		now += random % 100 * MS;
		arrive_all(random % 4 ? n : n / 2);
		predictor_seen(p, random % 3 ? OBJECTS + random % 1000 : UINT64_MAX,
			       random % 2 ? UINT32_MAX - 3 : PROFILE_UNIT_END - random % 4096,
			       random % 7 ? 9 : UINT32_MAX, now);
		if (round == 500)
			predictor_exec(p, STR("/bin/0"), now);
		assert_true(stats().asked.bytes <= PREDICT_BYTES_MAX);
	}
	stats();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		one(test_order),           one(test_order_join_backwards),
		one(test_order_join_near), one(test_order_range_max),
		one(test_not_likely),      one(test_repeat),
		one(test_window),          one(test_window_not_by_drops),
		one(test_judged_passed),   one(test_rate),
		one(test_slow_link),       one(test_failed),
		one(test_parts),           one(test_other_program),
		one(test_mostly_wrong),    one(test_judged_in_time),
		one(test_position),        one(test_skipped),
		one(test_local),           one(test_local_no_pages),
		one(test_local_partly),    one(test_hostile),
	};

	return cmocka_run_group_tests_name("predictor", tests, NULL, NULL);
}
