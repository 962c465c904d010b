// SPDX-License-Identifier: Apache-2.0
/* JSON: events however the document is cut, what is refused, trees. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/limits.h"

static struct buf seen;

static int on_value(void *arg, enum json_type type, int64_t integer, struct str text)
{
	static const char *const names[] = {"null", "bool", "int", "real", "str"};

	(void)arg;
	if (str_eq(text, STR("refuse")))
		return -EPERM;
	return buf_printf(&seen, "%s:%" PRId64 ":" STR_FMT ";", names[type], integer,
			  STR_ARG(text));
}

static int on_key(void *arg, struct str key)
{
	(void)arg;
	return buf_printf(&seen, STR_FMT "=", STR_ARG(key));
}

static int on_open(void *arg, enum json_type type)
{
	(void)arg;
	return buf_append(&seen, type == JSON_MAP ? "{" : "[", 1);
}

static int on_close(void *arg, enum json_type type)
{
	(void)arg;
	return buf_append(&seen, type == JSON_MAP ? "}" : "]", 1);
}

static const struct json_events events = {on_value, on_key, on_open, on_close};

static int run(struct str doc, size_t piece, struct err *err)
{
	struct json_parser *p;
	int r = 0;

	buf_fini(&seen);
	assert_int_equal(json_new(&events, NULL, err, &p), 0);
	for (size_t at = 0; r == 0 && at < doc.len; at += piece)
		r = json_feed(p, doc.p + at, doc.len - at < piece ? doc.len - at : piece);
	if (r == 0)
		r = json_end(p);
	json_free(p);
	return r;
}

static void takes(const char *doc, const char *expect)
{
	for (size_t piece = 1; piece <= strlen(doc); piece++) {
		struct err err = ERR_INIT;

		if (run(str_of(doc), piece, &err) != 0)
			fail_msg("%s: %s", doc, err.text);
		assert_int_equal(buf_append(&seen, "", 1), 0);
		assert_string_equal((char *)seen.data, expect);
	}
	buf_fini(&seen);
}

static void refuses_str(struct str doc)
{
	for (size_t piece = 1; piece <= doc.len + 1; piece += piece > 64 ? 100000 : 1) {
		struct err err = ERR_INIT;

		if (run(doc, piece, &err) != -EINVAL)
			fail_msg("taken: %.*s", (int)(doc.len < 100 ? doc.len : 100), doc.p);
		assert_int_equal(strncmp(err.text, "JSON: ", 6), 0);
		assert_int_equal(run(doc, piece, NULL), -EINVAL);
	}
	buf_fini(&seen);
}

#define refuses(lit) refuses_str(STR(lit))

static void test_events(void **state)
{
	(void)state;
	takes("1", "int:1:1;");
	takes("-0", "int:0:-0;");
	takes(" null ", "null:0:;");
	takes("[true,false]", "[bool:1:;bool:0:;]");
	takes("{\"a\":{\"b\":[1,-2,{}]},\"c\":\"\\u00e9\\n/\"}",
	      "{a={b=[int:1:1;int:-2:-2;{}]}c=str:0:\303\251\n/;}");
	takes("9223372036854775807", "int:9223372036854775807:9223372036854775807;");
	takes("-9223372036854775808", "int:-9223372036854775808:-9223372036854775808;");
	takes("9223372036854775808", "real:0:9223372036854775808;");
	takes("-9223372036854775809", "real:0:-9223372036854775809;");
	takes("[1.0,1e3,0.5E-7]", "[real:0:1.0;real:0:1e3;real:0:0.5E-7;]");
	takes("\"\\ud83d\\ude00\"", "str:0:\360\237\230\200;");
}

static int count_nul(void *arg, enum json_type type, int64_t integer, struct str text)
{
	(void)integer;
	assert_int_equal(type, JSON_STRING);
	assert_int_equal(text.len, 3);
	assert_memory_equal(text.p, "a\0b", 3);
	++*(int *)arg;
	return 0;
}

static void test_nul_in_string(void **state)
{
	static const struct json_events only = {.value = count_nul};
	struct json_parser *p;
	int n = 0;

	(void)state;
	assert_int_equal(json_new(&only, &n, NULL, &p), 0);
	assert_int_equal(json_feed(p, "[\"a\\u0000b\"]", 12), 0);
	assert_int_equal(json_end(p), 0);
	json_free(p);
	assert_int_equal(n, 1);
}

static void test_refused(void **state)
{
	(void)state;
	refuses("");
	refuses(" ");
	refuses("{");
	refuses("{\"a\"}");
	refuses("{\"a\":1,}");
	refuses("[1,]");
	refuses("[1 2]");
	refuses("01");
	refuses("+1");
	refuses("nul");
	refuses("\"a");
	refuses("\"\\x\"");
	refuses("\"\\u00g0\"");
	refuses("\"\t\"");
	refuses("{1:2}");
	refuses("// c\n1");
	refuses("1 2");
	refuses("{} x");
	refuses("{}{}");
	refuses("]");
	refuses("\"\xff\"");
	refuses("\"\xc0\x80\"");
	refuses("\"\\udc00\"");
	refuses("{\"\xed\xa0\x80\":1}");
}

static void test_handler_ends_it(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(run(STR("[1,\"refuse\",2]"), 3, &err), -EPERM);
	buf_fini(&seen);
}

static void test_depth(void **state)
{
	char doc[2 * JSON_DEPTH_MAX + 2];

	(void)state;
	memset(doc, '[', JSON_DEPTH_MAX + 1);
	memset(doc + JSON_DEPTH_MAX + 1, ']', JSON_DEPTH_MAX + 1);
	assert_int_equal(run((struct str){doc + 1, 2 * JSON_DEPTH_MAX}, 7, NULL), 0);
	refuses_str((struct str){doc, sizeof(doc)});
}

/* A string without an end must not be gathered for ever. */
static void test_long_tokens(void **state)
{
	size_t n = JSON_TOKEN_MAX + KiB(256);
	char *doc = malloc(n);

	(void)state;
	assert_non_null(doc);
	memset(doc, 'a', n);
	doc[0] = '"';
	assert_int_equal(run((struct str){doc, n}, 4096, NULL), -EINVAL);
	doc[n - 1] = '"';
	assert_int_equal(run((struct str){doc, n}, n, NULL), -EINVAL);
	doc[KiB(512)] = '"';
	assert_int_equal(run((struct str){doc, KiB(512) + 1}, 4096, NULL), 0);
	memset(doc, ' ', n);
	assert_int_equal(run((struct str){doc, n}, 4096, NULL), -EINVAL);
	free(doc);
	buf_fini(&seen);
}

static void test_tree(void **state)
{
	struct err err = ERR_INIT;
	auto_arena struct arena a;
	struct json *j;
	const struct json *m;

	(void)state;
	arena_init(&a, JSON_TREE_MAX);
	assert_int_equal(json_tree(STR("{\"s\":\"x\",\"n\":7,\"l\":[1,[],\"two\"],\"m\":{\"k\":"
				       "null},\"s\":\"last\",\"e\":\"\"}"),
				   &a, &j, &err),
			 0);
	assert_string_equal(json_text(j, "s").p, "last");
	assert_int_equal(json_get(j, "n")->integer, 7);
	assert_string_equal(json_get(j, "n")->text.p, "7");
	assert_int_equal(json_text(j, "n").len, 0);
	assert_int_equal(json_text(j, "none").len, 0);
	assert_int_equal(json_text(j, "e").len, 0);
	m = json_get(j, "l");
	assert_int_equal(m->type, JSON_LIST);
	assert_int_equal(m->first->integer, 1);
	assert_int_equal(m->first->next->type, JSON_LIST);
	assert_null(m->first->next->first);
	assert_string_equal(m->first->next->next->text.p, "two");
	assert_null(m->first->next->next->next);
	assert_int_equal(json_get(json_get(j, "m"), "k")->type, JSON_NULL);
	assert_null(json_get(json_get(j, "none"), "k"));
	assert_null(json_get(m, "k"));
	assert_int_equal(json_tree(STR("[1"), &a, &j, &err), -EINVAL);
	assert_int_equal(strncmp(err.text, "JSON: ", 6), 0);
}

static void test_tree_cap(void **state)
{
	struct err err = ERR_INIT;
	auto_arena struct arena a;
	struct json *j = NULL;

	(void)state;
	arena_init(&a, 1000);
	assert_int_equal(json_tree(STR("[1,2,3,4,5,6,7,8,9,10,11,12]"), &a, &j, &err), -ENOMEM);
	assert_string_equal(err.text, "JSON: no memory for it");
	assert_null(j);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_events),  cmocka_unit_test(test_nul_in_string),
		cmocka_unit_test(test_refused), cmocka_unit_test(test_handler_ends_it),
		cmocka_unit_test(test_depth),   cmocka_unit_test(test_long_tokens),
		cmocka_unit_test(test_tree),    cmocka_unit_test(test_tree_cap),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
