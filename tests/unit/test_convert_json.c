// SPDX-License-Identifier: Apache-2.0
/* Documents that are read, changed in places, and written again. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/limits.h"

#include "../../tools/firstlight/convert_json.h"

static struct json *tree(struct arena *a, const char *text)
{
	struct err err = ERR_INIT;
	struct json *j;

	if (json_tree(str_of(text), a, &j, &err) != 0)
		fail_msg("%s: %s", text, err.text);
	return j;
}

static void is(const struct json *j, const char *text)
{
	struct buf out = BUF_INIT;

	assert_int_equal(json_put(&out, j), 0);
	assert_int_equal(buf_append(&out, "", 1), 0);
	assert_string_equal((char *)out.data, text);
	buf_fini(&out);
}

static void as_it_was(void **state)
{
	static const char *const texts[] = {
		"null",
		"true",
		"[]",
		"{}",
		"[1,-2,1.5e300,99999999999999999999,\"\",\"\\u0000\\u001f\\\"\\\\/"
		"\\u007f\xc3\xa4\"]",
		"{\"b\":{\"a\":[{}]},\"a\":false}",
	};
	auto_arena struct arena a;

	(void)state;
	arena_init(&a, JSON_TREE_MAX);
	for (size_t i = 0; i < array_size(texts); i++)
		is(tree(&a, texts[i]), texts[i]);
	is(tree(&a, " { \"a\" : [ 1 , 2 ] } "), "{\"a\":[1,2]}");
}

static void changes(void **state)
{
	auto_arena struct arena a;
	struct digest d = {{0xab}};
	struct json *j, *notes;

	(void)state;
	arena_init(&a, JSON_TREE_MAX);
	j = tree(&a, "{\"a\":[1,2],\"b\":\"x\",\"c\":{\"k\":1}}");
	assert_int_equal(json_set_text(j, &a, "a", "q\"\n"), 0); /* stays at its place */
	assert_int_equal(json_set_int(j, &a, "b", UINT64_MAX), 0);
	is(j, "{\"a\":\"q\\\"\\u000a\",\"b\":18446744073709551615,\"c\":{\"k\":1}}");
	notes = json_map_in(j, &a, "c");
	assert_int_equal(json_set_text(notes, &a, "l", ""), 0);
	notes = json_map_in(j, &a, "new");
	assert_int_equal(json_set_digest(notes, &a, "d", &d), 0);
	notes = json_map_in(j, &a, "a"); /* what is no map becomes one */
	assert_int_equal(json_set_int(notes, &a, "n", 0), 0);
	is(j, "{\"a\":{\"n\":0},\"b\":18446744073709551615,\"c\":{\"k\":1,\"l\":\"\"},\"new\":{"
	      "\"d\":\"sha256:"
	      "ab00000000000000000000000000000000000000000000000000000000000000\"}}");
	j = tree(&a, "{}");
	assert_int_equal(json_set_text(j, &a, "first", "1"), 0);
	is(j, "{\"first\":\"1\"}");
}

static void no_memory(void **state)
{
	auto_arena struct arena a, none;
	struct json *j;

	(void)state;
	arena_init(&a, JSON_TREE_MAX);
	arena_init(&none, 0);
	j = tree(&a, "{\"a\":1}");
	assert_int_equal(json_set_text(j, &none, "b", "c"), -ENOMEM);
	assert_int_equal(json_set_int(j, &none, "a", 5), -ENOMEM);
	assert_null(json_map_in(j, &none, "m"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(as_it_was),
		cmocka_unit_test(changes),
		cmocka_unit_test(no_memory),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
