// SPDX-License-Identifier: Apache-2.0
/* Predictions of images whose program or version is not known: several programs, paths that are not
 * there or have one content, and nothing at all. */
#include "predictor_fixture.h"

/* --- several programs ------------------------------------------------------------------------- */

static const struct said server[] = {
	{"/lib/ld", 0, 1, 0}, {"/lib/c", 0, 2, 1}, {"/bin/server", 0, 4, 2}, {"/data", 0, 8, 50}};
static const struct said client[] = {
	{"/bin/client", 0, 2, 0}, {"/lib/ld", 0, 1, 1}, {"/lib/c", 0, 2, 2}, {"/help", 0, 3, 50}};

static void two_programs(uint32_t server_starts, uint32_t client_starts,
			 const struct predict_options *o)
{
	struct profile a = built(server), b = built(client);

	a.executable = STR("/bin/server");
	a.starts = server_starts;
	b.executable = STR("/bin/client");
	b.starts = client_starts;
	open_with(o);
	assert_int_equal(predictor_add(p, &b), 0);
	assert_int_equal(predictor_add(p, &a), 0);
	resolve_all(MiB(1));
}

/* What both have first, then the likelier one's. */
static void test_programs_order(void **state)
{
	struct predict_options o = defaults();

	(void)state;
	two_programs(6, 4, &o);
	assert_string_equal(asked(), "/lib/ld 0+1, /lib/c 0+2, /bin/server 0+4, /data 0+8");
}

/* Neither is likely: nothing that only one of them has. */
static void test_programs_unsure(void **state)
{
	struct predict_options o = defaults();

	(void)state;
	two_programs(3, 3, &o);
	assert_string_equal(asked(), "/lib/ld 0+1, /lib/c 0+2");
	predictor_exec(p, STR("/bin/client"), now);
	assert_string_equal(asked(), "/bin/client 0+2, /help 0+3");
}

/* The only program that is known is not the one that runs. */
static void test_programs_stranger(void **state)
{
	struct profile a = built(server);
	struct predict_options o = defaults();

	(void)state;
	o.ahead_min = o.ahead_max = 4 * UNIT;
	a.executable = STR("/bin/server");
	open_with(&o);
	assert_int_equal(predictor_add(p, &a), 0);
	resolve_all(MiB(1));
	assert_string_equal(asked(), "/lib/ld 0+1, /lib/c 0+2, /bin/server 0+1");
	arrive_all(3);
	predictor_exec(p, STR("/bin/sh"), now);
	assert_string_equal(asked(), "");
}

static void test_programs_unlikely(void **state)
{
	struct predict_options o = defaults();

	(void)state;
	two_programs(20, 1, &o);
	assert_string_equal(asked(), "/lib/ld 0+1, /lib/c 0+2, /bin/server 0+4, /data 0+8");
	arrive_all(4);
	assert_string_equal(asked(), "");
	predictor_exec(p, STR("/bin/client"), now);
	assert_string_equal(asked(), "/bin/client 0+2, /help 0+3");
}

/* Two programs of one image: only a little of the other one is fetched. */
static void test_programs_exec(void **state)
{
	static const struct said uses[] = {
		{"/bin/client", 0, 1, 0}, {"/bin/client", 1, 1, 0}, {"/lib/ld", 0, 1, 0},
		{"/lib/c", 0, 1, 0},      {"/lib/c", 1, 1, 0},      {"/help", 0, 1, 0},
		{"/help", 1, 1, 0},       {"/help", 2, 1, 0},
	};
	struct predict_options o = defaults();

	(void)state;
	o.ahead_min = o.ahead_max = 4 * UNIT;
	two_programs(6, 4, &o);
	assert_string_equal(asked(), "/lib/ld 0+1, /lib/c 0+2, /bin/server 0+1");
	now += 10 * MS;
	arrive_all(3);
	predictor_exec(p, STR("/bin/client"), now);
	predictor_exec(p, STR("/bin/server"), now); /* a child: changes nothing */
	for (size_t i = 0; i < array_size(uses); i++) {
		size_t n;

		while ((n = next()) > 0) {
			now += 10 * MS;
			arrive_all(n);
		}
		use(uses[i].path, uses[i].unit);
	}
	assert_int_equal(stats().hits.units, 8);
	assert_int_equal(stats().asked.units, 8 + 1);
	assert_int_equal(stats().places, 8);
	assert_int_equal(stats().recall, 100);
	now += 3000 * MS;
	next();
	assert_int_equal(stats().wrong.units, 1);
}

/* Nothing says what is executed, but it is what is read first. */
static void test_programs_first_read(void **state)
{
	struct predict_options o = defaults();

	(void)state;
	two_programs(6, 4, &o);
	use("/bin/client", 0);
	assert_int_equal(stats().places, 8);
	assert_string_equal(asked(), "/bin/client 1+1, /lib/ld 0+1, /lib/c 0+2, /help 0+3");
}

static void test_programs_neither(void **state)
{
	struct predict_options o = defaults();

	(void)state;
	two_programs(6, 4, &o);
	predictor_exec(p, STR("/bin/sh"), now);
	assert_string_equal(asked(), "/lib/ld 0+1, /lib/c 0+2");
}

/* A profile of which the executable was not known serves those that have none. */
static void test_programs_not_known(void **state)
{
	struct profile a = built(server), b = built(client);
	struct predict_options o = defaults();

	(void)state;
	a.executable = STR("/bin/server");
	b.executable = STR("");
	open_with(&o);
	assert_int_equal(predictor_add(p, &a), 0);
	assert_int_equal(predictor_add(p, &b), 0);
	resolve_all(MiB(1));
	predictor_exec(p, STR("/bin/sh"), now);
	assert_int_equal(stats().places, 8);
}

static void test_programs_too_many(void **state)
{
	struct profile a = built(server);
	struct predict_options o = defaults();

	(void)state;
	open_with(&o);
	for (unsigned i = 0; i < 2 * PREDICT_PROFILES_MAX; i++) {
		a.executable = str_of(arena_printf(&arena, "/bin/%u", i));
		assert_int_equal(predictor_add(p, &a), 0);
	}
	resolve_all(MiB(1));
	assert_int_equal(stats().places, 15);
	predictor_exec(p, STR("/bin/7"), now);
	assert_int_equal(stats().places, 15);
}

static void test_nothing(void **state)
{
	struct profile none = build(server, 0, true);
	struct predict_options o = defaults();

	(void)state;
	open_with(&o);
	assert_int_equal(next(), 0);
	predictor_exec(p, STR("/bin/sh"), now);
	predictor_seen(p, 1, 0, 3, now);
	predictor_arrived(p, 1, 0, UNIT, now);
	assert_int_equal(next(), 0);
	assert_int_equal(stats().unforeseen.units, 3);
	assert_int_equal(stats().precision, 100);
	predictor_free(p);
	open_with(&o);
	assert_int_equal(predictor_add(p, &none), 0);
	assert_int_equal(next(), 0);
}

/* --- other versions --------------------------------------------------------------------------- */

static void test_versions(void **state)
{
	static const struct said said[] = {{"/a", 0, 4, 0},
					   {"/gone", 0, 4, 10},
					   {"/small", 0, 4, 20},
					   {"/empty", 0, 4, 30},
					   {"/large", 0, 4, 40}};
	struct profile profile = built(said);
	struct predict_options o = defaults();

	(void)state;
	open_with(&o);
	assert_int_equal(predictor_add(p, &profile), 0);
	assert_int_equal(predictor_files(p), 5);
	assert_string_equal(asked(), ""); /* nothing is known yet */
	predictor_resolve(p, 4, OBJECTS + 4, MiB(100));
	assert_string_equal(asked(), "/large 0+4");
	predictor_absent(p, 1);
	predictor_resolve(p, 2, OBJECTS + 2, UNIT + 1);
	predictor_resolve(p, 3, OBJECTS + 3, 0);
	predictor_resolve(p, 0, OBJECTS, 4 * UNIT);
	predictor_resolve(p, 0, 7, MiB(100)); /* again: nothing */
	predictor_absent(p, 0);
	assert_string_equal(asked(), "/a 0+4, /small 0+2");
	assert_int_equal(stats().asked.bytes, 8 * UNIT + UNIT + 1);
	arrive_all(2);
	predictor_exec(p, STR("/usr/bin/redis"), now);
	use("/a", 0);
	use("/small", 1);
	use("/large", 3);
	assert_int_equal(stats().places, 10); /* without what is not there */
	assert_int_equal(stats().position, 10);
	assert_int_equal(stats().hits.units, 2);
}

/* Two paths of one content: asked for once, at the earlier place. */
static void test_same_content(void **state)
{
	static const struct said said[] = {{"/first", 0, 2, 0}, {"/x", 0, 1, 10}, {"/z", 0, 3, 20}};
	struct profile profile = built(said);
	struct predict_options o = defaults();

	(void)state;
	for (unsigned turn = 0; turn < 2; turn++) {
		open_with(&o);
		assert_int_equal(predictor_add(p, &profile), 0);
		predictor_resolve(p, turn ? 0 : 2, OBJECTS, MiB(1));
		predictor_resolve(p, 1, OBJECTS + 1, MiB(1));
		predictor_resolve(p, turn ? 2 : 0, OBJECTS, MiB(1));
		assert_string_equal(asked(), "/first 0+3, /x 0+1");
		arrive_all(2);
		predictor_exec(p, STR("/usr/bin/redis"), now);
		predictor_seen(p, OBJECTS, 0, 3, now);
		predictor_seen(p, OBJECTS + 1, 0, 1, now);
		assert_int_equal(stats().hits.units, 4);
		assert_string_equal(asked(), "");
		if (turn == 0)
			predictor_free(p);
	}
}

/* And at exec the other path's program has it too. */
static void test_same_content_exec(void **state)
{
	static const struct said x[] = {{"/x/lib", 0, 2, 0}}, y[] = {{"/y/lib", 0, 2, 0}};
	struct profile a = built(x), b = built(y);
	struct predict_options o = defaults();

	(void)state;
	a.executable = STR("/x");
	b.executable = STR("/y");
	open_with(&o);
	assert_int_equal(predictor_add(p, &a), 0);
	assert_int_equal(predictor_add(p, &b), 0);
	predictor_resolve(p, 0, OBJECTS, MiB(1));
	predictor_resolve(p, 1, OBJECTS, MiB(1));
	predictor_exec(p, STR("/y"), now);
	assert_string_equal(asked(), "/x/lib 0+2");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		one(test_programs_order),    one(test_programs_unsure),
		one(test_programs_stranger), one(test_programs_unlikely),
		one(test_programs_exec),     one(test_programs_first_read),
		one(test_programs_neither),  one(test_programs_not_known),
		one(test_programs_too_many), one(test_nothing),
		one(test_versions),          one(test_same_content),
		one(test_same_content_exec),
	};

	return cmocka_run_group_tests_name("predictor programs", tests, NULL, NULL);
}
