// SPDX-License-Identifier: Apache-2.0
/* Extents: as bytes and back, records that are damaged or beyond the bounds, and what programs have
 * in common. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/limits.h"
#include "format.h"
#include "predict/extents.h"

#define HEAD_SIZE 16u /* of a record: include/format.h */
#define ITEM_SIZE 20u

static struct arena arena;

static int setup(void **state)
{
	(void)state;
	arena_init(&arena, MiB(16));
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	arena_fini(&arena);
	return 0;
}

/* One of each letter, which all its bytes are. */
static const struct digest *digests(const char *letters)
{
	size_t n = strlen(letters);
	struct digest *d = arena_alloc(&arena, (n + 1) * sizeof(*d));

	assert_non_null(d);
	for (size_t i = 0; i < n; i++)
		memset(d[i].bytes, letters[i], DIGEST_SIZE);
	return d;
}

static struct extents made(const char *blobs, const char *contents, const struct extent *list,
			   size_t n)
{
	return (struct extents){digests(blobs), digests(contents), list,
				strlen(blobs),  strlen(contents),  n};
}
#define of(blobs, contents, list) made(blobs, contents, list, array_size(list))

/* "blob offset+length content" of each. */
static const char *told(const struct extents *e)
{
	char *text = arena_alloc(&arena, 1024);
	size_t at = 0;

	assert_non_null(text);
	text[0] = 0;
	for (size_t i = 0; i < e->n && at < 900; i++) {
		const struct extent *x = &e->list[i];

		at += (size_t)snprintf(text + at, 1024 - at, "%s%c %llu+%llu %c", i ? ", " : "",
				       e->blobs[x->blob].bytes[DIGEST_SIZE - 1],
				       (unsigned long long)x->off, (unsigned long long)x->len,
				       e->contents[x->content].bytes[0]);
	}
	return text;
}

static void encode(const struct extents *e, struct buf *value)
{
	value->len = 0;
	assert_int_equal(extents_encode(e, value), 0);
	assert_int_equal(value->len,
			 HEAD_SIZE + (e->blobs_n + e->contents_n) * DIGEST_SIZE + e->n * ITEM_SIZE);
}

/* What is refused says why and leaves the answer alone. */
static int decode(const void *value, size_t n, struct extents *ret)
{
	struct err err = ERR_INIT;
	struct extents before = *ret;
	int r = extents_decode((struct str){value, n}, &arena, ret, &err);

	assert_true(r == 0 || err.text[0]);
	assert_true(r == 0 || memcmp(&before, ret, sizeof(before)) == 0);
	return r;
}

/* Encodes and decodes it again. */
static int again(const struct extents *e, struct extents *ret)
{
	auto_buf struct buf value = BUF_INIT;
	char *copy;

	memset(ret, 0, sizeof(*ret));
	encode(e, &value);
	copy = arena_strndup(&arena, (char *)value.data, value.len);
	assert_non_null(copy);
	return decode(copy, value.len, ret);
}

static int taken(const struct extents *e)
{
	struct extents ret;

	return again(e, &ret);
}

static const struct extent some[] = {{1, 0, 4096, 100},
				     {0, 1, 0, 7},
				     {1, 0, 512, 50},
				     {2, 2, INT64_MAX - 1, 1},
				     {0, 0, 512, 50}};
#define SOME "b 4096+100 x, a 0+7 y, b 512+50 x, c 9223372036854775806+1 z, a 512+50 x"

/* --- as bytes --------------------------------------------------------------------------------- */

static void test_round_trip(void **state)
{
	struct extents e = of("abc", "xyz", some), ret;

	(void)state;
	assert_int_equal(again(&e, &ret), 0);
	assert_int_equal(ret.blobs_n, 3);
	assert_int_equal(ret.contents_n, 3);
	assert_string_equal(told(&ret), SOME);
	assert_memory_equal(ret.blobs, e.blobs, 3 * DIGEST_SIZE);
	assert_memory_equal(ret.contents, e.contents, 3 * DIGEST_SIZE);
}

static void test_round_trip_empty(void **state)
{
	struct extents none = made("", "", some, 0), blobs = made("ab", "", NULL, 0), ret;

	(void)state;
	assert_int_equal(again(&none, &ret), 0);
	assert_int_equal(ret.blobs_n + ret.contents_n + ret.n, 0);
	assert_int_equal(again(&blobs, &ret), 0);
	assert_int_equal(ret.blobs_n, 2);
	assert_int_equal(ret.n, 0);
}

/* Byte for byte what include/format.h says. */
static void test_layout(void **state)
{
	static const struct extent list[] = {{1, 0, 0x0102030405060708, 0x0a0b0c}};
	static const uint8_t head[HEAD_SIZE] = {
		EXTENTS_RECORD_VERSION, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0};
	static const uint8_t item[ITEM_SIZE] = {1, 0, 0, 0, 0, 0, 0,    0,    8,    7,
						6, 5, 4, 3, 2, 1, 0x0c, 0x0b, 0x0a, 0};
	struct extents e = of("ab", "x", list);
	auto_buf struct buf value = BUF_INIT;

	(void)state;
	encode(&e, &value);
	assert_memory_equal(value.data, head, HEAD_SIZE);
	assert_memory_equal(value.data + HEAD_SIZE, e.blobs, 2 * DIGEST_SIZE);
	assert_memory_equal(value.data + HEAD_SIZE + 2 * DIGEST_SIZE, e.contents, DIGEST_SIZE);
	assert_memory_equal(value.data + HEAD_SIZE + 3 * DIGEST_SIZE, item, ITEM_SIZE);
}

static void test_anywhere(void **state)
{
	struct extents e = of("abc", "xyz", some), ret = {0};
	auto_buf struct buf value = BUF_INIT;
	char *copy;

	(void)state;
	encode(&e, &value);
	for (size_t i = 0; i < 8; i++) {
		copy = arena_alloc(&arena, i + value.len);
		assert_non_null(copy);
		memcpy(copy + i, value.data, value.len);
		assert_int_equal(decode(copy + i, value.len, &ret), 0);
		assert_string_equal(told(&ret), SOME);
	}
}

static void test_cut(void **state)
{
	struct extents e = of("abc", "xyz", some), ret = {0};
	auto_buf struct buf value = BUF_INIT;

	(void)state;
	encode(&e, &value);
	for (size_t n = 0; n < value.len; n++) {
		char *copy = malloc(n + 1); /* of its size, for the sanitizer */

		assert_non_null(copy);
		memcpy(copy + 1, value.data, n);
		assert_int_equal(decode(copy + 1, n, &ret), -EBADMSG);
		free(copy);
	}
	assert_int_equal(buf_append(&value, "", 1), 0);
	assert_int_equal(decode(value.data, value.len, &ret), -EBADMSG);
}

static void test_version(void **state)
{
	struct extents e = of("abc", "xyz", some), ret = {0};
	auto_buf struct buf value = BUF_INIT;

	(void)state;
	encode(&e, &value);
	for (unsigned v = EXTENTS_RECORD_VERSION + 1; v <= UINT8_MAX; v++) {
		value.data[0] = (uint8_t)v;
		assert_int_equal(decode(value.data, value.len, &ret), -ENOTSUP);
		assert_int_equal(decode(value.data, 1, &ret), -ENOTSUP);
	}
	value.data[0] = 0;
	assert_int_equal(decode(value.data, value.len, &ret), -EBADMSG);
	value.data[0] = EXTENTS_RECORD_VERSION;
	for (size_t i = 1; i < 4; i++) {
		value.data[i] = 1;
		assert_int_equal(decode(value.data, value.len, &ret), -EBADMSG);
		value.data[i] = 0;
	}
	assert_int_equal(decode(value.data, value.len, &ret), 0);
}

/* Any bit that is not what it was: refused, or within the bounds. */
static void test_damaged(void **state)
{
	struct extents e = of("abc", "xyz", some), ret = {0};
	auto_buf struct buf value = BUF_INIT;

	(void)state;
	encode(&e, &value);
	for (size_t i = 0; i < value.len * 8; i++) {
		int r;

		value.data[i / 8] ^= (uint8_t)(1u << i % 8);
		memset(&ret, 0, sizeof(ret));
		r = decode(value.data, value.len, &ret);
		assert_true(r == 0 || r == -EBADMSG || (i < 8 && r == -ENOTSUP));
		for (size_t k = 0; k < ret.n; k++) {
			assert_true(ret.list[k].blob < 3 && ret.list[k].content < 3);
			assert_true(ret.list[k].len > 0 && ret.list[k].off < INT64_MAX);
		}
		value.data[i / 8] ^= (uint8_t)(1u << i % 8);
	}
}

static void test_no_memory(void **state)
{
	struct extents e = of("abc", "xyz", some), ret = {0};
	auto_buf struct buf value = BUF_INIT;
	auto_arena struct arena small;

	(void)state;
	arena_init(&small, 8);
	encode(&e, &value);
	assert_int_equal(
		extents_decode((struct str){(char *)value.data, value.len}, &small, &ret, NULL),
		-ENOMEM);
	assert_int_equal(extents_common(&e, 1, &small, &ret), -ENOMEM);
	assert_int_equal(ret.n, 0);
}

/* --- bounds ----------------------------------------------------------------------------------- */

static void test_numbers(void **state)
{
	static const struct extent list[] = {{0, 0, 0, 1}, {1, 1, 5, 1}};
	struct extents e = of("ab", "xy", list);

	(void)state;
	assert_int_equal(taken(&e), 0);
	e.blobs_n = 1;
	assert_int_equal(taken(&e), -EBADMSG);
	e.blobs_n = 2;
	e.contents_n = 1;
	assert_int_equal(taken(&e), -EBADMSG);
	e.blobs_n = e.contents_n = 0;
	assert_int_equal(taken(&e), -EBADMSG);
	e = made("ab", "xyz", list, 2); /* a content that nothing is of */
	assert_int_equal(taken(&e), -EBADMSG);
}

static void test_length(void **state)
{
	struct extent list[] = {{0, 0, 0, 1}, {0, 0, 5, 0}};
	struct extents e = of("a", "x", list);

	(void)state;
	assert_int_equal(taken(&e), -EBADMSG);
	list[1].len = 1;
	assert_int_equal(taken(&e), 0);
}

static void test_offset(void **state)
{
	struct extent list[] = {{0, 0, (uint64_t)INT64_MAX + 1, 1}};
	struct extents e = of("a", "x", list);

	(void)state;
	assert_int_equal(taken(&e), -EBADMSG);
	list[0].off = UINT64_MAX;
	assert_int_equal(taken(&e), -EBADMSG);
	list[0].off = INT64_MAX;
	assert_int_equal(taken(&e), -EBADMSG);
	list[0].off = INT64_MAX - 1;
	assert_int_equal(taken(&e), 0);
}

static void test_twice(void **state)
{
	struct extent list[] = {{0, 0, 7, 1}, {1, 0, 7, 1}, {0, 0, 8, 1}, {1, 0, 9, 1}};
	struct extents e = of("ab", "xy", list);

	(void)state;
	assert_int_equal(taken(&e), 0);
	list[3] = (struct extent){0, 1, 7, 5}; /* far from the other one, else not like it */
	assert_int_equal(taken(&e), -EBADMSG);
	list[3] = list[2];
	assert_int_equal(taken(&e), -EBADMSG);
}

static void test_bytes(void **state)
{
	struct extent list[] = {{0, 0, 0, EXTENTS_BYTES_MAX - 1}, {0, 0, 7, 1}};
	struct extents e = of("a", "x", list);

	(void)state;
	assert_int_equal(taken(&e), 0);
	list[1].len = 2;
	assert_int_equal(taken(&e), -EBADMSG);
	list[0].len = list[1].len = UINT32_MAX;
	assert_int_equal(taken(&e), -EBADMSG);
}

/* As many extents as may be, or one more, each of a content of its own. */
static struct extents many(size_t n, size_t blobs_n)
{
	struct extent *list = arena_alloc(&arena, n * sizeof(*list));
	struct digest *d = arena_alloc(&arena, (n + blobs_n) * sizeof(*d));

	assert_true(list && d);
	for (uint32_t i = 0; i < n; i++)
		list[i] = (struct extent){i % (uint32_t)blobs_n, i, i, EXTENTS_BYTES_MAX / n};
	for (size_t i = 0; i < n + blobs_n; i++)
		sha256(&i, sizeof(i), &d[i]);
	return (struct extents){d, d + blobs_n, list, blobs_n, n, n};
}

static void test_count(void **state)
{
	struct extents e = many(EXTENTS_MAX, EXTENTS_BLOBS_MAX), ret;

	(void)state;
	assert_int_equal(again(&e, &ret), 0);
	assert_int_equal(ret.n, EXTENTS_MAX);
	assert_memory_equal(ret.list, e.list, e.n * sizeof(*e.list));
	assert_memory_equal(ret.blobs, e.blobs, e.blobs_n * DIGEST_SIZE);
	e = many(EXTENTS_MAX + 1, EXTENTS_BLOBS_MAX);
	assert_int_equal(taken(&e), -EBADMSG);
	e = many(EXTENTS_MAX, EXTENTS_BLOBS_MAX + 1);
	assert_int_equal(taken(&e), -EBADMSG);
}

/* A size that wraps around is not the record's. */
static void test_count_huge(void **state)
{
	struct extents e = of("abc", "xyz", some), ret = {0};
	auto_buf struct buf value = BUF_INIT;

	(void)state;
	encode(&e, &value);
	for (size_t at = 4; at < HEAD_SIZE; at += 4) {
		uint8_t kept[4];

		memcpy(kept, value.data + at, 4);
		memset(value.data + at, 0xff, 4);
		assert_int_equal(decode(value.data, value.len, &ret), -EBADMSG);
		memcpy(value.data + at, kept, 4);
	}
}

/* --- in common -------------------------------------------------------------------------------- */

static void common(const struct extents *all, size_t n, const char *expected)
{
	struct extents ret;

	assert_int_equal(extents_common(all, n, &arena, &ret), 0);
	assert_string_equal(told(&ret), expected);
}

static void test_common_one(void **state)
{
	struct extents e = of("abc", "xyz", some), none = made("a", "", NULL, 0);

	(void)state;
	common(&e, 1, SOME);
	common(&none, 1, "");
}

/* The order is that of the first; a blob is the same one whatever its number. */
static void test_common_two(void **state)
{
	static const struct extent first[] = {
		{0, 0, 10, 5}, {1, 0, 0, 9}, {1, 1, 20, 3}, {0, 1, 0, 4}, {2, 0, 10, 6}};
	static const struct extent second[] = {
		{1, 0, 0, 4}, {0, 1, 20, 3}, {1, 0, 20, 7}, {1, 0, 10, 5}};
	struct extents two[] = {of("abc", "xy", first), of("ba", "yx", second)};

	(void)state;
	common(two, 2, "a 10+5 x, b 20+3 y, a 0+4 y");
	two[1].blobs = digests("ab"); /* the same numbers, and other blobs */
	common(two, 2, "b 0+9 x, b 20+3 y");
	two[0] = of("ba", "yx", second);
	two[1] = of("abc", "xy", first);
	common(two, 2, "a 0+4 y, b 20+3 x, a 10+5 y");
}

static void test_common_three(void **state)
{
	static const struct extent list[] = {{0, 0, 0, 1}, {0, 0, 1, 1}, {0, 0, 2, 1}};
	struct extents three[] = {made("a", "x", list, 3), made("a", "x", list, 2),
				  made("a", "x", list + 1, 2)};

	(void)state;
	common(three, 3, "a 1+1 x");
	three[2].n = 0;
	common(three, 3, "");
}

static void test_common_none(void **state)
{
	static const struct extent list[] = {{0, 0, 0, 1}, {0, 0, 1, 1}};
	struct extents two[] = {of("a", "x", list), of("b", "x", list)}, ret;

	(void)state;
	assert_int_equal(extents_common(two, 2, &arena, &ret), 0);
	assert_int_equal(ret.n, 0);
	two[1] = made("a", "", NULL, 0);
	common(two, 2, "");
	two[1] = two[0];
	two[0] = made("a", "", NULL, 0);
	common(two, 2, "");
}

#define one(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		one(test_round_trip),  one(test_round_trip_empty),
		one(test_layout),      one(test_anywhere),
		one(test_cut),         one(test_version),
		one(test_damaged),     one(test_no_memory),
		one(test_numbers),     one(test_length),
		one(test_offset),      one(test_twice),
		one(test_bytes),       one(test_count),
		one(test_count_huge),  one(test_common_one),
		one(test_common_two),  one(test_common_three),
		one(test_common_none),
	};

	return cmocka_run_group_tests_name("extents", tests, NULL, NULL);
}
