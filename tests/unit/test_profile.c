// SPDX-License-Identifier: Apache-2.0
/* Profiles: from one start, merged over many, as bytes and as JSON, within their bounds. */
#include "profile_fixture.h"

#include "format.h"

#define MS 1000u /* us */

/* "path unit+units@ms weight%" of each use. */
static const char *told(const struct profile *p)
{
	static char text[8192];
	size_t n = 0;

	text[0] = 0;
	for (size_t i = 0; i < p->uses_n && n < sizeof(text) - 200; i++) {
		const struct profile_use *u = &p->uses[i];

		n += (size_t)snprintf(text + n, sizeof(text) - n, "%s" STR_FMT " %u+%u@%u %u%%",
				      i ? ", " : "", STR_ARG(p->paths[u->path]), u->unit, u->units,
				      u->at_us / MS, u->weight * 100 / PROFILE_WEIGHT_ONE);
	}
	return text;
}

static bool same_uses(const struct profile *a, const struct profile *b)
{
	if (a->uses_n != b->uses_n || a->paths_n != b->paths_n)
		return false;
	for (size_t i = 0; i < a->paths_n; i++) {
		if (!str_eq(a->paths[i], b->paths[i]))
			return false;
	}
	return memcmp(a->uses, b->uses, a->uses_n * sizeof(*a->uses)) == 0;
}

/* Weight of the first unit of that path, in percent; 0 = it is not there. */
static unsigned weight(const struct profile *p, const char *path)
{
	for (size_t i = 0; i < p->uses_n; i++) {
		if (str_eq(p->paths[p->uses[i].path], str_of(path)))
			return p->uses[i].weight * 100 / PROFILE_WEIGHT_ONE;
	}
	return 0;
}

/* --- names ------------------------------------------------------------------------------------ */

static void test_paths(void **state)
{
	static const char *const good[] = {"/a", "/a/b", "/a.b/..c", "/a/...", "/ a"};
	static const char *const bad[] = {"",    "/",    "a",    "a/b",   "//a",   "/a//b",
					  "/a/", "/./a", "/a/.", "/../a", "/a/..", "/a/../b"};
	char text[PROFILE_PATH_MAX + 2];

	(void)state;
	for (size_t i = 0; i < array_size(good); i++)
		assert_true(profile_path_ok(str_of(good[i])));
	for (size_t i = 0; i < array_size(bad); i++)
		assert_false(profile_path_ok(str_of(bad[i])));
	assert_false(profile_path_ok((struct str){"/a\0b", 4}));
	assert_false(profile_path_ok((struct str){NULL, 0}));
	memset(text, 'a', sizeof(text));
	text[0] = '/';
	assert_true(profile_path_ok((struct str){text, PROFILE_PATH_MAX}));
	assert_false(profile_path_ok((struct str){text, PROFILE_PATH_MAX + 1}));
}

static void test_repositories(void **state)
{
	static const char *const refs[][2] = {
		{"docker.io/library/redis:7", "docker.io/library/redis"},
		{"host:5000/a/b", "host:5000/a/b"},
		{"host:5000/a/b:v1@sha256:00", "host:5000/a/b"},
		{"a@sha256:00", "a"},
		{"a", "a"},
	};

	(void)state;
	for (size_t i = 0; i < array_size(refs); i++) {
		struct str s = profile_repository_of(str_of(refs[i][0]));

		assert_true(str_eq(s, str_of(refs[i][1])));
		assert_true(profile_repository_ok(s));
		assert_int_equal(profile_repository_ok(str_of(refs[i][0])),
				 s.len == strlen(refs[i][0]));
	}
	assert_false(profile_repository_ok(STR("")));
	assert_false(profile_repository_ok(STR("a b")));
	assert_false(profile_repository_ok(STR("a\n")));
	assert_false(profile_repository_ok(STR("\xc3\xa4")));
	assert_int_equal(profile_repository_of((struct str){NULL, 0}).len, 0);
}

/* --- one start -------------------------------------------------------------------------------- */

static void test_build(void **state)
{
	static const struct said said[] = {
		{"/bin/a", 0, 1, 10}, {"/lib/b", 4, 2, 12}, {"/bin/a", 1, 1, 15},
		{"/bin/a", 2, 1, 40}, {"/lib/b", 4, 1, 50}, {"/lib/b", 2, 3, 60},
	};
	struct profile p = built(said);

	(void)state;
	assert_string_equal(told(&p), "/bin/a 0+2@10 100%, /lib/b 4+2@12 100%, /bin/a 2+1@40 100%, "
				      "/lib/b 2+2@60 100%");
	assert_int_equal(p.starts, 1);
	assert_int_equal(p.whole, 1);
	assert_int_equal(p.span_us, 5000 * MS);
	assert_int_equal(p.paths_n, 2);
}

static void test_build_backwards(void **state)
{
	static const struct said said[] = {{"/a", 2, 1, 1}, {"/a", 1, 1, 2}, {"/a", 0, 1, 3}};
	struct profile p = built(said);

	(void)state;
	assert_string_equal(told(&p), "/a 0+3@1 100%");
}

static void test_build_left_out(void **state)
{
	static const struct said said[] = {
		{"relative", 0, 1, 1},
		{"/a/../b", 0, 1, 1},
		{"/a", 0, 0, 1},
		{"/a", PROFILE_UNIT_END, 1, 1},
		{"/a", 1, PROFILE_UNIT_END, 1},
		{"/good", PROFILE_UNIT_END - 1, 1, 2},
	};
	struct profile p = built(said);
	struct profile_start s = start_of(said, 0);

	(void)state;
	assert_int_equal(p.uses_n, 1);
	assert_int_equal(p.paths_n, 1);
	assert_int_equal(profile_build(&s, &arena, &p, NULL), 0);
	assert_int_equal(p.uses_n, 0);
	assert_int_equal(profile_check(&p, NULL), 0);
	s.repository = STR("redis:7");
	assert_int_equal(profile_build(&s, &arena, &p, NULL), -EINVAL);
	s.repository = STR("redis");
	s.executable = STR("redis");
	assert_int_equal(profile_build(&s, &arena, &p, NULL), -EINVAL);
	s.executable = STR("");
	assert_int_equal(profile_build(&s, &arena, &p, NULL), 0);
}

static void test_build_bounds(void **state)
{
	size_t n = PROFILE_USES_MAX + 100;
	struct said *many = calloc(n, sizeof(*many));
	struct profile p;

	(void)state;
	/* Too many uses: the latest go. */
	for (size_t i = 0; i < n; i++)
		many[i] = (struct said){"/a", 2 * (uint32_t)i, 1, (uint32_t)i};
	p = build(many, n, true);
	assert_int_equal(p.uses_n, PROFILE_USES_MAX);
	assert_int_equal(p.uses[PROFILE_USES_MAX - 1].at_us, (PROFILE_USES_MAX - 1) * MS);
	/* Too many units, in one use and with repeats. */
	for (size_t i = 0; i < 100; i++)
		many[i] = (struct said){i < 50 ? "/b" : "/c", 0, 1u << 27, i < 50 ? 7 : 8};
	p = build(many, 100, true);
	assert_int_equal(p.uses_n, 1);
	assert_int_equal(p.uses[0].units, PROFILE_UNITS_MAX);
	/* Time. */
	many[0] = (struct said){"/b", 0, 1, UINT32_MAX};
	p = build(many, 1, true);
	assert_int_equal(p.uses[0].at_us, PROFILE_SPAN_MAX_US);
	free(many);
}

static void test_build_bytes(void **state)
{
	size_t n = 300;
	struct said *many = calloc(n, sizeof(*many));
	struct profile p;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		char *path = arena_printf(&arena, "/%04zu%0*d", i, 4000, 0);

		many[i] = (struct said){path, 0, 1, (uint32_t)i};
	}
	p = build(many, n, true);
	assert_true(p.uses_n > 100 && p.uses_n < 140);
	assert_true(profile_size(&p) <= PROFILE_BYTES_MAX);
	assert_true(profile_size(&p) > PROFILE_BYTES_MAX - 8192);
	free(many);
}

/* --- merging ---------------------------------------------------------------------------------- */

static const struct said start_a[] = {
	{"/bin/p", 0, 4, 0},     {"/lib/c", 0, 2, 5},    {"/lib/m", 3, 1, 30},
	{"/etc/conf", 0, 1, 80}, {"/data/x", 7, 9, 200}, {"/data/x", 20, 1, 201},
};

static void test_merge_same(void **state)
{
	struct profile a = built(start_a), p = a;

	(void)state;
	for (unsigned i = 2; i < 20; i++) {
		p = merge(&p, &a);
		assert_true(same_uses(&p, &a));
		assert_int_equal(p.starts, i);
		assert_int_equal(p.whole, i);
		assert_int_equal(p.span_us, a.span_us);
	}
}

/* Whatever it was before, it becomes like the starts that follow. */
static void test_merge_converges(void **state)
{
	static const struct said other[] = {{"/bin/p", 0, 4, 100},
					    {"/lib/m", 3, 1, 900},
					    {"/lib/c", 0, 2, 2000},
					    {"/old", 0, 5, 50}};
	struct profile a = built(start_a), p = built(other);

	(void)state;
	p.starts = p.whole = 100;
	for (unsigned i = 0; i < 60; i++)
		p = merge(&p, &a);
	assert_int_equal(p.uses_n, a.uses_n);
	for (size_t i = 0; i < a.uses_n; i++) {
		assert_true(str_eq(p.paths[p.uses[i].path], a.paths[a.uses[i].path]));
		assert_int_equal(p.uses[i].unit, a.uses[i].unit);
		assert_int_equal(p.uses[i].units, a.uses[i].units);
		assert_int_equal(p.uses[i].weight, PROFILE_WEIGHT_ONE);
		assert_in_range(p.uses[i].at_us + 50, a.uses[i].at_us, a.uses[i].at_us + 100);
	}
}

/* A new version of the program: the old paths fade, and never come before what is read. */
static void test_merge_version(void **state)
{
	static const struct said v1[] = {{"/bin/p", 0, 1, 0}, {"/lib/c.so.1", 0, 3, 10}};
	static const struct said v2[] = {{"/bin/p", 0, 1, 0}, {"/lib/c.so.2", 0, 3, 10}};
	struct profile old = built(v1), new = built(v2), p = old;
	unsigned n = 0;

	(void)state;
	for (unsigned i = 0; i < 10; i++)
		p = merge(&p, &old);
	p = merge(&p, &new);
	assert_int_equal(weight(&p, "/lib/c.so.1"), 75);
	assert_int_equal(weight(&p, "/lib/c.so.2"), 25);
	for (n = 1; weight(&p, "/lib/c.so.1"); n++)
		p = merge(&p, &new);
	assert_int_equal(n, 8);
	assert_true(weight(&p, "/lib/c.so.2") >= 85);
	assert_int_equal(weight(&p, "/bin/p"), 100);
}

static void test_merge_first_starts(void **state)
{
	static const struct said x[] = {{"/p", 0, 1, 0}, {"/x", 0, 1, 10}};
	static const struct said y[] = {{"/p", 0, 1, 0}, {"/y", 0, 1, 10}};
	struct profile a = built(x), b = built(y), p;

	(void)state;
	p = merge(&a, &b);
	assert_int_equal(weight(&p, "/x"), 50);
	assert_int_equal(weight(&p, "/y"), 50);
	p = merge(&p, &b);
	assert_int_equal(weight(&p, "/x"), 33);
	assert_int_equal(weight(&p, "/y"), 66);
	p = merge(&p, &b);
	assert_int_equal(weight(&p, "/x"), 24);
}

static void test_merge_alternating(void **state)
{
	static const struct said x[] = {{"/p", 0, 1, 0}, {"/x", 0, 1, 10}, {"/z", 0, 1, 20}};
	static const struct said y[] = {{"/p", 0, 1, 0}, {"/y", 0, 1, 10}, {"/z", 0, 1, 20}};
	struct profile a = built(x), b = built(y), p = a;

	(void)state;
	for (unsigned i = 0; i < 100; i++) {
		p = merge(&p, i % 2 ? &a : &b);
		if (i < 10)
			continue;
		assert_in_range(weight(&p, "/x"), 42, 58);
		assert_in_range(weight(&p, "/y"), 42, 58);
		assert_int_equal(weight(&p, "/p"), 100);
		assert_int_equal(p.uses_n, 4);
		assert_true(p.uses[0].at_us < p.uses[1].at_us);
		assert_true(p.uses[2].at_us < p.uses[3].at_us);
	}
}

static void test_merge_once(void **state)
{
	static const struct said noise[] = {{"/bin/p", 0, 4, 0}, {"/noise", 0, 1, 1}};
	struct profile a = built(start_a), b = built(noise), p = a;

	(void)state;
	for (unsigned i = 0; i < 5; i++)
		p = merge(&p, &a);
	p = merge(&p, &b);
	assert_int_equal(weight(&p, "/noise"), 25);
	p = merge(&p, &a);
	p = merge(&p, &a);
	assert_int_equal(weight(&p, "/noise"), 14);
	p = merge(&p, &a);
	assert_int_equal(weight(&p, "/noise"), 0);
}

static void test_merge_not_whole(void **state)
{
	static const struct said some[] = {{"/lib/c", 0, 1, 5}, {"/new", 0, 1, 6}};
	struct profile a = built(start_a), part = build(some, 2, false), p = a;

	(void)state;
	part.span_us = 1;
	for (unsigned i = 0; i < 50; i++)
		p = merge(&p, &part);
	for (size_t i = 0; i < a.paths_n; i++) {
		char path[64];

		snprintf(path, sizeof(path), STR_FMT, STR_ARG(a.paths[i]));
		assert_int_equal(weight(&p, path), 100);
	}
	assert_int_equal(weight(&p, "/new"), 100);
	assert_int_equal(p.starts, 51);
	assert_int_equal(p.whole, 1);
	assert_int_equal(p.span_us, a.span_us);
}

/* What the first poor recordings have not seen counts as if they had not been. */
static void test_merge_after_not_whole(void **state)
{
	static const struct said some[] = {{"/lib/c", 0, 2, 5}};
	struct profile a = built(start_a), part = build(some, 1, false), p;

	(void)state;
	p = merge(&part, &a);
	assert_int_equal(weight(&p, "/bin/p"), 100);
	assert_int_equal(weight(&p, "/lib/c"), 100);
	assert_int_equal(p.whole, 1);
}

static void test_merge_nothing(void **state)
{
	struct profile a = built(start_a), none = build(start_a, 0, true), p;

	(void)state;
	p = merge(&a, &none);
	assert_true(same_uses(&p, &a));
	assert_int_equal(p.starts, 1);
	p = merge(&none, &a);
	assert_int_equal(p.uses_n, a.uses_n);
}

/* A start that is ten times slower does not mix up the order. */
static void test_merge_slow(void **state)
{
	static const struct said fast[] = {
		{"/1", 0, 1, 10}, {"/2", 0, 1, 20}, {"/3", 0, 1, 30}, {"/5", 0, 1, 50}};
	static const struct said slow[] = {{"/1", 0, 1, 100}, {"/2", 0, 1, 200}, {"/3", 0, 1, 300},
					   {"/4", 0, 1, 400}, {"/5", 0, 1, 500}, {"/6", 0, 1, 600}};
	struct profile a = built(fast), b = built(slow), p = merge(&a, &b);

	(void)state;
	assert_int_equal(p.uses_n, 6);
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(p.paths[p.uses[i].path].p[1], '1' + i);
	assert_int_equal(p.uses[0].at_us, 55 * MS); /* half way */
	assert_int_equal(p.uses[5].at_us, 330 * MS);
}

static void test_merge_overlap(void **state)
{
	static const struct said x[] = {{"/a", 0, 8, 10}}, y[] = {{"/a", 4, 8, 10}};
	struct profile a = built(x), b = built(y), p = merge(&a, &b);

	(void)state;
	assert_string_equal(told(&p), "/a 0+4@10 50%, /a 4+4@10 100%, /a 8+4@10 50%");
	p = merge(&p, &p);
	assert_int_equal(p.uses_n, 3);
}

/* Full profiles of different programs: the weight decides. */
static void test_merge_bounds(void **state)
{
	size_t n = PROFILE_USES_MAX;
	struct said *x = calloc(n, sizeof(*x)), *y = calloc(n, sizeof(*y));
	struct profile a, b, p;

	(void)state;
	for (size_t i = 0; i < n; i++) {
		x[i] = (struct said){"/x", 2 * (uint32_t)i, 1, (uint32_t)i};
		y[i] = (struct said){"/y", 2 * (uint32_t)i, 1, (uint32_t)i};
	}
	a = build(x, n, true);
	b = build(y, n, true);
	p = merge(&a, &b);
	assert_int_equal(p.uses_n, n);
	p = merge(&p, &b);
	p = merge(&p, &b);
	assert_int_equal(weight(&p, "/x"), 0);
	assert_int_equal(p.uses_n, n);
	assert_int_equal(p.paths_n, 1);
	free(x);
	free(y);
}

/* --- bytes ------------------------------------------------------------------------------------ */

static void encode(const struct profile *p, struct buf *key, struct buf *value)
{
	key->len = value->len = 0;
	assert_int_equal(profile_key_encode(p, key), 0);
	assert_int_equal(profile_encode(p, value), 0);
	assert_int_equal(value->len, profile_size(p));
}

static int decode(const struct buf *key, const void *value, size_t n, struct profile *ret)
{
	return profile_decode((struct str){(char *)key->data, key->len}, (struct str){value, n},
			      &arena, ret, NULL);
}

static void test_bytes(void **state)
{
	struct profile a = built(start_a), p = a, q;
	auto_buf struct buf key = BUF_INIT, value = BUF_INIT;

	(void)state;
	p = merge(&a, &a);
	encode(&p, &key, &value);
	assert_int_equal(key.len, strlen("docker.io/library/redis") + 1 + strlen("/usr/bin/redis"));
	assert_int_equal(decode(&key, value.data, value.len, &q), 0);
	assert_true(same_uses(&p, &q));
	assert_true(str_eq(p.repository, q.repository) && str_eq(p.executable, q.executable));
	assert_int_equal(q.starts, 2);
	assert_int_equal(q.whole, 2);
	assert_int_equal(q.last_ns, 1700000000000000000);
	assert_int_equal(q.span_us, p.span_us);
}

static void test_bytes_damaged(void **state)
{
	struct profile a = built(start_a), q;
	auto_buf struct buf key = BUF_INIT, value = BUF_INIT;

	(void)state;
	encode(&a, &key, &value);
	for (size_t n = 0; n < value.len; n++)
		assert_int_equal(decode(&key, value.data, n, &q), -EBADMSG);
	for (size_t i = 0; i < value.len; i++) {
		for (unsigned bit = 0; bit < 8; bit++) {
			int r;

			value.data[i] ^= (uint8_t)(1u << bit);
			r = decode(&key, value.data, value.len, &q);
			assert_true(r == 0 || r == -EBADMSG || (i == 0 && r == -ENOTSUP));
			if (r == 0)
				assert_int_equal(profile_check(&q, NULL), 0);
			value.data[i] ^= (uint8_t)(1u << bit);
		}
	}
	value.data[0] = PROFILE_RECORD_VERSION + 1;
	assert_int_equal(decode(&key, value.data, value.len, &q), -ENOTSUP);
	value.data[0] = PROFILE_RECORD_VERSION;
	assert_int_equal(buf_append(&value, "", 1), 0);
	assert_int_equal(decode(&key, value.data, value.len, &q), -EBADMSG);
	key.len = 5; /* no NUL in it */
	assert_int_equal(decode(&key, value.data, value.len - 1, &q), -EBADMSG);
}

static void test_check(void **state)
{
	const struct profile good = built(start_a);
	struct profile_use uses[8];
	struct str paths[8];
	struct profile p = good;

	(void)state;
#define refused(change)                                                                            \
	do {                                                                                       \
		p = good;                                                                          \
		memcpy(uses, good.uses, good.uses_n * sizeof(*uses));                              \
		memcpy(paths, good.paths, good.paths_n * sizeof(*paths));                          \
		p.uses = uses;                                                                     \
		p.paths = paths;                                                                   \
		assert_int_equal(profile_check(&p, NULL), 0);                                      \
		change;                                                                            \
		assert_int_equal(profile_check(&p, NULL), -EINVAL);                                \
	} while (0)
	refused(p.starts = 0);
	refused(p.whole = 2);
	refused(p.last_ns = -1);
	refused(p.span_us = PROFILE_SPAN_MAX_US + 1);
	refused(p.executable = STR("x"));
	refused(p.repository = STR("a:b"));
	refused(p.uses_n -= 2);
	refused(p.paths_n--);
	refused(uses[0].path = (uint32_t)p.paths_n);
	refused(uses[0].units = 0);
	refused(uses[0].units = PROFILE_UNITS_MAX + 1);
	refused(uses[5].unit = PROFILE_UNIT_END);
	refused(uses[0].weight = 0);
	refused(uses[0].weight = PROFILE_WEIGHT_ONE + 1);
	refused(uses[5].at_us = PROFILE_SPAN_MAX_US + 1);
	refused(uses[1].at_us = uses[0].at_us - 1);
	refused(uses[5].unit = 15); /* 7 + 9 = 16 */
	refused(paths[0] = paths[1]);
	refused(paths[0] = STR("/a/./b"));
#undef refused
}

/* --- JSON ------------------------------------------------------------------------------------- */

static int from_json(const char *text, struct profile *ret, struct err *err)
{
	return profile_from_json(str_of(text), &arena, ret, err);
}

static void test_json(void **state)
{
	static const struct said said[] = {{"/q\"\\\n\x01/\xc3\xa4", 0, 1, 1}, {"/b", 3, 4, 2}};
	struct profile p = built(said), q;
	auto_buf struct buf b = BUF_INIT, again = BUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(profile_json(&p, &b, NULL), 0);
	if (profile_from_json((struct str){(char *)b.data, b.len}, &arena, &q, &err) < 0)
		fail_msg("%s", err.text);
	assert_true(same_uses(&p, &q));
	assert_true(str_eq(p.repository, q.repository) && str_eq(p.executable, q.executable));
	assert_int_equal(q.starts, 1);
	assert_int_equal(q.last_ns, p.last_ns);
	assert_int_equal(profile_json(&q, &again, NULL), 0);
	assert_int_equal(b.len, again.len);
	assert_memory_equal(b.data, again.data, b.len);
}

static void test_json_not_utf8(void **state)
{
	static const struct said said[] = {{"/\xff", 0, 1, 1}, {"/b", 3, 4, 2}};
	struct profile p = built(said), q;
	auto_buf struct buf b = BUF_INIT;

	(void)state;
	assert_int_equal(profile_json(&p, &b, NULL), 0);
	assert_int_equal(profile_from_json((struct str){(char *)b.data, b.len}, &arena, &q, NULL),
			 0);
	assert_string_equal(told(&q), "/b 3+4@2 100%");
	p.executable = STR("/\xff");
	assert_int_equal(profile_json(&p, &b, NULL), -EINVAL);
}

#define HEAD                                                                                       \
	"{\"version\": 1, \"repository\": \"r\", \"executable\": \"/e\", \"starts\": 1, "          \
	"\"whole\": 1, \"last_ns\": 5, \"span_us\": 7, \"uses\": ["
#define USE(path, unit, units)                                                                     \
	"{\"path\": \"" path "\", \"unit\": " unit ", \"units\": " units                           \
	", \"at_us\": 9, \"weight\": 9}"

static void test_json_hostile(void **state)
{
	static const char *const bad[] = {
		"",
		"[]",
		"{}",
		"{\"version\": 1}",
		HEAD "]",
		HEAD USE("/a", "0", "1") "]} {}",
		HEAD "7]}",
		HEAD USE("/a", "0", "1") ", " USE("/a", "0", "1") "]}",
		HEAD USE("/a", "0", "2") ", " USE("/a", "1", "1") "]}",
		HEAD USE("a", "0", "1") "]}",
		HEAD USE("/../a", "0", "1") "]}",
		HEAD USE("/a\\u0000b", "0", "1") "]}",
		HEAD USE("/a", "-1", "1") "]}",
		HEAD USE("/a", "0", "0") "]}",
		HEAD USE("/a", "0", "32769") "]}",
		HEAD USE("/a", "0", "1e3") "]}",
		HEAD USE("/a", "0", "99999999999999999999") "]}",
		HEAD USE("/a", "\"0\"", "1") "]}",
		HEAD "{\"path\": \"/a\", \"unit\": 0, \"units\": 1, \"at_us\": 9}]}",
	};
	struct err err;
	struct profile p;

	(void)state;
	for (size_t i = 0; i < array_size(bad); i++) {
		err = ERR_INIT;
		if (from_json(bad[i], &p, &err) != -EINVAL)
			fail_msg("%s", bad[i]);
		assert_true(err.text[0]);
	}
	assert_int_equal(from_json("{\"version\": 2}", &p, NULL), -ENOTSUP);
	assert_int_equal(from_json(HEAD USE("/a", "0", "1") "], \"more\": [1, {}]}", &p, NULL), 0);
	assert_int_equal(from_json(HEAD "]}", &p, NULL), 0);
	assert_int_equal(p.uses_n, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_paths, setup, teardown),
		cmocka_unit_test_setup_teardown(test_repositories, setup, teardown),
		cmocka_unit_test_setup_teardown(test_build, setup, teardown),
		cmocka_unit_test_setup_teardown(test_build_backwards, setup, teardown),
		cmocka_unit_test_setup_teardown(test_build_left_out, setup, teardown),
		cmocka_unit_test_setup_teardown(test_build_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_build_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_same, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_converges, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_version, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_first_starts, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_alternating, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_not_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_after_not_whole, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_nothing, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_slow, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_overlap, setup, teardown),
		cmocka_unit_test_setup_teardown(test_merge_bounds, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bytes, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bytes_damaged, setup, teardown),
		cmocka_unit_test_setup_teardown(test_check, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json_not_utf8, setup, teardown),
		cmocka_unit_test_setup_teardown(test_json_hostile, setup, teardown),
	};

	return cmocka_run_group_tests_name("profile", tests, NULL, NULL);
}
