/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of the predictor: one in a small world, what it asks for as text, and its clock. */
#ifndef FIRSTLIGHT_TEST_PREDICTOR_FIXTURE_H
#define FIRSTLIGHT_TEST_PREDICTOR_FIXTURE_H

#include "profile_fixture.h"

#include "predict/predictor.h"

#define MS   1000000ull /* ns */
#define UNIT ((uint64_t)PROFILE_UNIT)

/* An object of each path; its number is the place in the list of files, and OBJECTS. */
#define OBJECTS 1000

static __attribute__((unused)) struct predictor *p;
static __attribute__((unused)) uint64_t now;
static __attribute__((unused)) struct predict_range out[64];
static __attribute__((unused)) char seen[1 << 16]; /* what a test was told */

static __attribute__((unused)) struct predict_options defaults(void)
{
	return (struct predict_options){.rtt_ns = 10 * MS, .rate = 10000000};
}

static __attribute__((unused)) void open_with(const struct predict_options *o)
{
	now = 0;
	seen[0] = 0;
	assert_int_equal(predictor_new(o, &p), 0);
}

static __attribute__((unused)) int close_it(void **state)
{
	predictor_free(p);
	p = NULL;
	return teardown(state);
}

static __attribute__((unused)) uint64_t object_of(const char *path)
{
	for (size_t i = 0; i < predictor_files(p); i++) {
		if (str_eq(predictor_path(p, i), str_of(path)))
			return OBJECTS + i;
	}
	return 1; /* some other */
}

static __attribute__((unused)) void resolve_all(uint64_t size)
{
	for (size_t i = 0; i < predictor_files(p); i++)
		predictor_resolve(p, i, OBJECTS + i, size);
}

static __attribute__((unused)) void start(const struct profile *profile,
					  const struct predict_options *o)
{
	open_with(o);
	assert_int_equal(predictor_add(p, profile), 0);
	resolve_all(MiB(1024));
}

static __attribute__((unused)) struct predict_stats stats(void)
{
	struct predict_stats s;

	predictor_stats(p, &s);
	assert_int_equal(s.asked.bytes, s.flight.bytes + s.unused.bytes + s.right.bytes +
						s.wrong.bytes + s.failed.bytes);
	assert_int_equal(s.asked.units, s.flight.units + s.unused.units + s.right.units +
						s.wrong.units + s.failed.units);
	return s;
}

static __attribute__((unused)) size_t next(void)
{
	size_t n = predictor_next(p, now, out, array_size(out));

	for (size_t i = 0; i < n; i++) {
		assert_true(out[i].len > 0 && out[i].len <= PREDICT_RANGE_MAX);
		assert_int_equal(out[i].off % UNIT, 0);
	}
	return n;
}

/* "path first+units" of each range that is to be asked for now. */
static __attribute__((unused)) const char *asked(void)
{
	size_t n = next(), at = 0;

	seen[0] = 0;
	for (size_t i = 0; i < n; i++) {
		struct str path = predictor_path(p, out[i].object - OBJECTS);

		at += (size_t)snprintf(seen + at, sizeof(seen) - at, "%s%s" STR_FMT " %llu+%llu",
				       i ? ", " : "", out[i].level == PREDICT_PAGE ? "page " : "",
				       STR_ARG(path), (unsigned long long)(out[i].off / UNIT),
				       (unsigned long long)((out[i].len + UNIT - 1) / UNIT));
	}
	return seen;
}

static __attribute__((unused)) void arrive_all(size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (out[i].level == PREDICT_FETCH)
			predictor_arrived(p, out[i].object, out[i].off, out[i].len, now);
	}
}

static __attribute__((unused)) void use(const char *path, uint32_t unit)
{
	predictor_seen(p, object_of(path), unit, 1, now);
}

/* A profile of n files of so many units each, /0000, /0001, …, a ms apart. */
static __attribute__((unused)) struct profile many(uint32_t n, uint32_t units)
{
	struct said *said = arena_alloc(&arena, n * sizeof(*said));

	for (uint32_t i = 0; i < n; i++)
		said[i] = (struct said){arena_printf(&arena, "/%04u", i), 0, units, i};
	return build(said, n, true);
}

static __attribute__((unused)) const char *nth(uint32_t i)
{
	static char name[16];

	snprintf(name, sizeof(name), "/%04u", i);
	return name;
}

#define one(name) cmocka_unit_test_setup_teardown(name, setup, close_it)

#endif
