/* SPDX-License-Identifier: Apache-2.0 */
/* For the tests of profiles and predictions: starts in a line each. */
#ifndef FIRSTLIGHT_TEST_PROFILE_FIXTURE_H
#define FIRSTLIGHT_TEST_PROFILE_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <string.h>

#include "predict/profile.h"

/* What a test says of a start: the path of each use, from which unit, how many, when. */
struct said {
	const char *path;
	uint32_t unit, units, at_ms;
};

static __attribute__((unused)) struct arena arena; /* of one test */

static __attribute__((unused)) int setup(void **state)
{
	(void)state;
	arena_init(&arena, MiB(512));
	return 0;
}

static __attribute__((unused)) int teardown(void **state)
{
	(void)state;
	arena_fini(&arena);
	return 0;
}

static __attribute__((unused)) struct profile_start start_of(const struct said *said, size_t n)
{
	struct profile_event *events = arena_alloc(&arena, (n + 1) * sizeof(*events));

	assert_non_null(events);
	for (size_t i = 0; i < n; i++)
		events[i] = (struct profile_event){str_of(said[i].path), said[i].unit,
						   said[i].units, (uint64_t)said[i].at_ms * 1000};
	return (struct profile_start){.repository = STR("docker.io/library/redis"),
				      .executable = STR("/usr/bin/redis"),
				      .when_ns = 1700000000000000000,
				      .span_us = 5000000,
				      .whole = true,
				      .events = events,
				      .events_n = n};
}

static __attribute__((unused)) struct profile build(const struct said *said, size_t n, bool whole)
{
	struct profile_start s = start_of(said, n);
	struct err err = ERR_INIT;
	struct profile p;

	s.whole = whole;
	if (profile_build(&s, &arena, &p, &err) < 0 || profile_check(&p, &err) < 0)
		fail_msg("%s", err.text);
	return p;
}
#define built(said) build(said, array_size(said), true)

static __attribute__((unused)) struct profile merge(const struct profile *old,
						    const struct profile *new)
{
	struct err err = ERR_INIT;
	struct profile p;

	if (profile_merge(old, new, &arena, &p, &err) < 0 || profile_check(&p, &err) < 0)
		fail_msg("%s", err.text);
	return p;
}

#endif
