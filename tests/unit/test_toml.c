// SPDX-License-Identifier: Apache-2.0
/* The TOML reader: what is taken and how it is handed out, what is refused and with which text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/limits.h"
#include "base/toml.h"

/* What was handed out, as text: "table|key=value;", "[table];". */
static struct buf seen;

static int put_items(const struct toml_value *v)
{
	int r = buf_printf(&seen, "[");

	for (size_t i = 0; r == 0 && i < v->items_n; i++) {
		const struct toml_value *item = &v->items[i];

		if (item->type == TOML_ARRAY)
			r = put_items(item);
		else if (item->type == TOML_STRING)
			r = buf_printf(&seen, "<" STR_FMT ">", STR_ARG(item->string));
		else
			r = buf_printf(&seen, "(%" PRId64 ")", item->integer);
	}
	return r < 0 ? r : buf_printf(&seen, "]");
}

static int on_array(struct str table, struct str key, const struct toml_value *v)
{
	int r = buf_printf(&seen, STR_FMT "|" STR_FMT "=", STR_ARG(table), STR_ARG(key));

	if (r == 0)
		r = put_items(v);
	return r < 0 ? r : buf_printf(&seen, ";");
}

static int on_key(void *arg, struct str table, struct str key, const struct toml_value *v,
		  struct err *err)
{
	int r;

	(void)arg;
	if (str_eq(key, STR("refuse")))
		return err_set(err, -EPERM, "not this one");
	if (!v)
		r = buf_printf(&seen, "[" STR_FMT "]" STR_FMT ";", STR_ARG(table), STR_ARG(key));
	else if (v->type == TOML_INTEGER)
		r = buf_printf(&seen, STR_FMT "|" STR_FMT "=%" PRId64 ";", STR_ARG(table),
			       STR_ARG(key), v->integer);
	else if (v->type == TOML_ARRAY)
		r = on_array(table, key, v);
	else if (v->type == TOML_STRING)
		r = buf_printf(&seen, STR_FMT "|" STR_FMT "=<" STR_FMT ">%zu;", STR_ARG(table),
			       STR_ARG(key), STR_ARG(v->string), v->string.len);
	else
		r = buf_printf(&seen, STR_FMT "|" STR_FMT "=%s;", STR_ARG(table), STR_ARG(key),
			       v->type == TOML_BOOLEAN ? v->boolean ? "true" : "false"
						       : toml_type_name(v->type));
	assert_int_equal(r, 0);
	return 0;
}

static int parse(struct str text, struct err *err)
{
	buf_fini(&seen);
	return toml_parse("f.toml", text, on_key, NULL, err);
}

static void takes_str(struct str text, const char *events)
{
	struct err err = ERR_INIT;

	if (parse(text, &err) != 0)
		fail_msg("<%.*s>: %s", (int)text.len, text.p, err.text);
	assert_int_equal(buf_append(&seen, "", 1), 0);
	assert_string_equal((char *)seen.data, events);
	buf_fini(&seen);
}

static void refuses_str(struct str text, const char *message)
{
	struct err err = ERR_INIT;

	if (parse(text, &err) != -EINVAL)
		fail_msg("taken: <%.*s>", (int)text.len, text.p);
	assert_int_equal(err.code, -EINVAL);
	assert_string_equal(err.text, message);
	assert_int_equal(parse(text, NULL), -EINVAL);
	buf_fini(&seen);
}

#define takes(text, events)     takes_str(STR(text), events)
#define refuses(text, message)  refuses_str(STR(text), "f.toml:" message)
#define value(word, is)         takes("k = " word "\n", "|k=" is ";")
#define no_value(word, message) refuses("\nk = " word "\n", "2: " message)

static void test_layout(void **state)
{
	(void)state;
	takes("", "");
	takes_str((struct str){NULL, 0}, "");
	takes("\n\r\n \t\n# comment\n\t# é = [\r\n#", "");
	takes("a=1", "|a=1;");
	takes("\t a \t=\t 1 \t# one\r\nb = 2#", "|a=1;|b=2;");
	takes("[t]\na = 1\n[ u ] # \nb = 2\n[t.\tv]\n", "[t];t|a=1;[u];u|b=2;[t.v];");
	takes("A-z_09 = 1\n1 = 2\n- = 3\ntrue = 4", "|A-z_09=1;|1=2;|-=3;|true=4;");
}

static void test_names(void **state)
{
	(void)state;
	takes("a . b.c = 1\n[t]\nx.y = 2", "a.b|c=1;[t];t.x|y=2;");
	takes("'a' = 1\n\"b\" = 2\n[\"t\".'u']\n", "|a=1;|b=2;[t.u];");
	takes("\"\" = 1\n\"a.b\" = 2\na.b = 3", "|\"\"=1;|\"a.b\"=2;a|b=3;");
	takes("'\"\\' = 1\n\"\\u00e9\" = 2", "|\"\\\"\\\\\"=1;|\"é\"=2;");
	takes("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p = 1", "a.b.c.d.e.f.g.h.i.j.k.l.m.n.o|p=1;");
	refuses("a.b.c.d.e.f.g.h.i.j.k.l.m.n.o.p.q = 1", "1: a key of more than 16 parts");
	refuses("= 1", "1: expected a key");
	refuses("é = 1", "1: expected a key");
	refuses("a. = 1", "1: expected a key");
	refuses(".a = 1", "1: expected a key");
	refuses("a..b = 1", "1: expected a key");
	refuses("a b = 1", "1: expected = behind a key");
	refuses("a", "1: expected = behind a key");
	refuses("a\n= 1", "1: expected = behind a key");
	refuses("\n\"a = 1", "2: string without an end");
	refuses("\"\"\"a\"\"\" = 1", "1: multi-line strings are not used here");
}

static void test_tables(void **state)
{
	(void)state;
	refuses("[t", "1: expected ] behind the name of a table");
	refuses("[t\n]", "1: expected ] behind the name of a table");
	refuses("[]", "1: expected a key");
	refuses("[a.]", "1: expected a key");
	refuses("[[t]]", "1: arrays of tables are not used here");
	refuses("[t] a = 1", "1: unexpected text at the end of the line");
	refuses("[t]]", "1: unexpected text at the end of the line");
}

/* toml.io/en/v1.0.0: a key or table is defined once, dotted keys and headers do not mix. */
static void test_twice(void **state)
{
	(void)state;
	refuses("a = 1\n\na = 2", "3: a is already defined");
	refuses("a = 1\n'a' = 2", "2: a is already defined");
	refuses("[t]\n[u]\n[t]", "3: t is already defined");
	refuses("[t]\na = 1\n[\"t\"]", "3: t is already defined");
	refuses("t = 1\n[t]", "2: t is already defined");
	refuses("t = 1\n[t.u]", "2: t is already defined");
	refuses("a = 1\na.b = 2", "2: a is already defined");
	refuses("a.b = 1\na = 2", "2: a is already defined");
	refuses("a.b = 1\na.b.c = 2", "2: a.b is already defined");
	refuses("a.b = 1\n[a]", "2: a is already defined");
	refuses("[t]\nu.v = 1\n[t.u]", "3: t.u is already defined");
	refuses("[t.u]\n[t]\nu.v = 1", "3: t.u is already defined");
	refuses("[t.u]\n[t]\nu = 1", "3: t.u is already defined");
	refuses("'a.b' = 1\n\"a.b\" = 1", "2: \"a.b\" is already defined");
	takes("[t.u.v]\n[t]\n[t.u]", "[t.u.v];[t];[t.u];");
	takes("[t]\nu.v = 1\n[t.u.w]", "[t];t.u|v=1;[t.u.w];");
	takes("a.b = 1\na.c = 2\n\"a.b\" = 3", "a|b=1;a|c=2;|\"a.b\"=3;");
	takes("[t]\na = 1\n[u]\na = 1", "[t];t|a=1;[u];u|a=1;");
}

static void test_strings(void **state)
{
	(void)state;
	value("\"\"", "<>0");
	value("''", "<>0");
	value("\"a # b\" # c", "<a # b>5");
	value("'a\\n\"b'", "<a\\n\"b>5");
	value("\"'\\b\\t\\n\\f\\r\\\"\\\\\"", "<'\b\t\n\f\r\"\\>8");
	value("\"\\u0041\\u00E9\\u20ac\\U0001f600\"", "<Aé€😀>10");
	value("\"\t日本\"", "<\t日本>7");
	takes("k = \"a\\u0000b\"", "|k=<a>3;"); /* the callee has to look for NUL */
	no_value("\"a", "string without an end");
	no_value("\"a\\\"", "string without an end");
	no_value("'a", "string without an end");
	no_value("'a\"", "string without an end");
	no_value("\"a\r\n\"", "string without an end");
	refuses("k = \"a", "1: string without an end");
	refuses("k = \"a\\", "1: unknown escape in a string");
	no_value("\"\"\"a\"\"\"", "multi-line strings are not used here");
	no_value("'''a'''", "multi-line strings are not used here");
	no_value("\"\\e\"", "unknown escape in a string");
	no_value("\"\\x41\"", "unknown escape in a string");
	no_value("\"\\/\"", "unknown escape in a string");
	no_value("\"\\\n\"", "unknown escape in a string");
	no_value("\"\\u12g4\"", "\\u needs 4 hexadecimal digits");
	no_value("\"\\U0001f60\"", "\\U needs 8 hexadecimal digits");
	no_value("\"\\ud800\"", "escape of something that is no character");
	no_value("\"\\U00110000\"", "escape of something that is no character");
	no_value("\"\\Uffffffff\"", "escape of something that is no character");
	no_value("\"a\x01\"", "control character in a string");
	no_value("'a\x7f'", "control character in a string");
	no_value("\"a\"b", "unexpected text at the end of the line");
}

static void test_numbers(void **state)
{
	(void)state;
	value("true", "true");
	value("false", "false");
	value("0", "0");
	value("+0", "0");
	value("-0", "0");
	value("-17", "-17");
	value("1_000_000", "1000000");
	value("0xdead_BEEF", "3735928559");
	value("0o755", "493");
	value("0b101", "5");
	value("0x00", "0");
	value("9223372036854775807", "9223372036854775807");
	value("-9223372036854775808", "-9223372036854775808");
	value("0x7fffffffffffffff", "9223372036854775807");
	no_value("9223372036854775808", "integer out of range");
	no_value("-9223372036854775809", "integer out of range");
	no_value("0xffffffffffffffff", "integer out of range");
	no_value("99999999999999999999999999", "integer out of range");
	no_value("01", "number with a leading zero");
	no_value("-00", "number with a leading zero");
	no_value("0_1", "number with a leading zero");
	no_value("1_", "bad number");
	no_value("1__0", "bad number");
	no_value("12k", "bad number");
	no_value("-0x1", "bad number");
	no_value("0X1", "bad number");
	no_value("0x", "bad integer");
	no_value("0x_1", "bad integer");
	no_value("0xg", "bad integer");
	no_value("0b2", "bad integer");
	no_value("0o8", "bad integer");
}

static void test_other_words(void **state)
{
	static const char *const floats[] = {"1.5",     "-0.0", "1e5",  "1E-5", "6.02e+23",
					     "1_0.0_1", "inf",  "+inf", "-nan", "1e05"};
	static const char *const dates[] = {"1979-05-27", "1979-05-27T07:32:00Z",
					    "1979-05-27 07:32:00.999-07:00", "07:32:00"};
	static const char *const bad[] = {"1.", "1.e5", "1e", "1e+", "1.5.5", "1._5", "1e5.0"};
	static const char *const none[] = {"",      "True", "yes", "_1",   "+",   ".5",
					   "-true", "e5",   "Inf", "info", "nil", "#"};
	char text[80], message[80];

	(void)state;
	for (size_t i = 0; i < array_size(floats); i++) {
		snprintf(text, sizeof(text), "k = %s # ", floats[i]);
		takes_str(str_of(text), "|k=a float;");
	}
	for (size_t i = 0; i < array_size(dates); i++) {
		snprintf(text, sizeof(text), "k = %s # ", dates[i]);
		takes_str(str_of(text), "|k=a date;");
	}
	for (size_t i = 0; i < array_size(bad) + array_size(none); i++) {
		bool number = i < array_size(bad);

		snprintf(text, sizeof(text), "k = %s\n",
			 number ? bad[i] : none[i - array_size(bad)]);
		snprintf(message, sizeof(message), "f.toml:1: %s",
			 number ? "bad number" : "expected a value");
		refuses_str(str_of(text), message);
	}
	refuses("k = 1 2", "1: unexpected text at the end of the line");
	refuses("k = 1979-05-27 7", "1: unexpected text at the end of the line");
	refuses("k = é", "1: expected a value");
	refuses("k = [{}]", "1: inline tables in arrays are not used here");
	assert_string_equal(toml_type_name(TOML_STRING), "a string");
	assert_string_equal(toml_type_name(TOML_DATE), "a date");
}

static void test_bytes(void **state)
{
	(void)state;
	refuses("a = 1\n# \xff\n", "2: not valid UTF-8");
	refuses("a = \"\xc3\"", "1: not valid UTF-8");
	refuses("a = \"\xed\xa0\x80\"", "1: not valid UTF-8");
	refuses("\xef\xbb\xbf"
		"a = 1",
		"1: expected a key"); /* no byte order mark in TOML 1.0 */
	refuses("a = 1\0", "1: control character");
	refuses("\0", "1: expected a key");
	refuses("# \x01\n", "1: control character");
	refuses("a = 1\r", "1: control character");
	refuses("a = 1 # \r \n", "1: control character");
	refuses("\r", "1: control character");
	refuses("a = 1\n\x0c\n", "2: expected a key");
}

/* fn ends the reading; its text gets the place. */
static void test_callee_refuses(void **state)
{
	struct err err = ERR_INIT;

	(void)state;
	assert_int_equal(parse(STR("a = 1\n\n[t]\nrefuse = 1\nb = 2"), &err), -EPERM);
	assert_int_equal(err.code, -EPERM);
	assert_string_equal(err.text, "f.toml:4: not this one");
	assert_int_equal(seen.len, strlen("|a=1;[t];"));
	assert_int_equal(parse(STR("refuse = 1"), NULL), -EPERM);
	buf_fini(&seen);
}

static void test_large(void **state)
{
	auto_buf struct buf b = BUF_INIT;
	struct err err = ERR_INIT;

	(void)state;
	for (int i = 0; i < 20000; i++)
		assert_int_equal(buf_printf(&b, "k%d = %d\n", i, i), 0);
	assert_int_equal(parse((struct str){(char *)b.data, b.len}, &err), 0);
	assert_int_equal(buf_printf(&b, "k19999 = 0\n"), 0);
	assert_int_equal(parse((struct str){(char *)b.data, b.len}, &err), -EINVAL);
	assert_string_equal(err.text, "f.toml:20001: k19999 is already defined");
	b.len = 0;
	for (int i = 0; i < 200; i++)
		assert_int_equal(buf_printf(&b, "%d%040000d = %d\n", i + 1, 0, i), 0);
	assert_int_equal(parse((struct str){(char *)b.data, b.len}, &err), 0);
	for (int i = 200; i < 400; i++)
		assert_int_equal(buf_printf(&b, "%d%040000d = %d\n", i + 1, 0, i), 0);
	assert_int_equal(parse((struct str){(char *)b.data, b.len}, &err), -EINVAL);
	assert_non_null(strstr(err.text, ": too many keys"));
	buf_fini(&seen);
}

/* A name from the document is cut in messages, and no text is longer than a struct err. */
static void test_long_messages(void **state)
{
	char text[4096];
	struct err err = ERR_INIT;

	(void)state;
	snprintf(text, sizeof(text), "%01500d = 1\n%01500d = 1\n", 0, 0);
	assert_int_equal(parse(str_of(text), &err), -EINVAL);
	assert_int_equal(strlen(err.text), strlen("f.toml:2:  is already defined") + 100);
	memset(text, 'n', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	assert_int_equal(toml_parse(text, STR("x"), on_key, NULL, &err), -EINVAL);
	assert_int_equal(strlen(err.text), ERR_TEXT_MAX - 1);
	buf_fini(&seen);
}

static void test_arrays(void **state)
{
	(void)state;
	takes("k = []", "|k=[];");
	takes("k = [ ]\nl = 1", "|k=[];|l=1;");
	takes("k = [1, 2,]", "|k=[(1)(2)];");
	takes("k = [\"a\", 'b']", "|k=[<a><b>];");
	takes("k = [[\"a\", \"b\"], [\"c\"], []]", "|k=[[<a><b>][<c>][]];");
	takes("k = [ # one\n\n 1 # two\r\n , 2\n]\nl = 3", "|k=[(1)(2)];|l=3;");
	refuses("k = [1", "1: expected , or ] in an array");
	refuses("k = [1 2]", "1: expected , or ] in an array");
	refuses("k = [\n,]", "2: expected a value");
	refuses("k = [1]]", "1: unexpected text at the end of the line");
	refuses("k = [\n\xff]", "2: not valid UTF-8");
	refuses("k = [[[[[[[[[1]]]]]]]]]", "1: arrays in more than 7 arrays");
}

static void test_inline_tables(void **state)
{
	(void)state;
	takes("k = {}", "[k];");
	takes("[t]\nk = { a = 1, \"b c\" = [2] } # x\nl = 3",
	      "[t];[t.k];t.k|a=1;t.k|\"b c\"=[(2)];t|l=3;");
	takes("k = { a.b = 1, c = { d = 2 } }", "[k];k.a|b=1;[k.c];k.c|d=2;");
	refuses("k = { a = 1, a = 2 }", "1: k.a is already defined");
	refuses("k = { a = 1 }\n[k]", "2: k is already defined");
	refuses("k = { a = 1 }\nk.b = 2", "2: k is already defined");
	refuses("k = { a = 1, }", "1: expected a key");
	refuses("k = { a = 1\n}", "1: expected , or } in an inline table");
	refuses("k={a={a={a={a={a={a={a={a={}}}}}}}}}", "1: inline tables in more than 7 tables");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_arrays),         cmocka_unit_test(test_inline_tables),
		cmocka_unit_test(test_layout),         cmocka_unit_test(test_names),
		cmocka_unit_test(test_tables),         cmocka_unit_test(test_twice),
		cmocka_unit_test(test_strings),        cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_other_words),    cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_callee_refuses), cmocka_unit_test(test_large),
		cmocka_unit_test(test_long_messages),
	};

	return cmocka_run_group_tests_name("toml", tests, NULL, NULL);
}
